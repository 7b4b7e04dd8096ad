"""The commands that make a run and look at it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fnn.choices import ConfigError
from fnn.cli.common import Config, Import, Json, Overrides, clear_errors, import_modules, read_config


def train(
    config: Config,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="the run's folder  [default: runs/<config>-<n>]", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="use an --out that holds a run")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run in --out, to the bit as if never interrupted")
    ] = False,
    fork: Annotated[
        bool, typer.Option("--fork", help="with --resume: go on although the config was changed")
    ] = False,
    modules: Import = None,
) -> None:
    """Train from a config."""
    from fnn.commands.console import TrainingBar, figures
    from fnn.commands.train import train as run_experiment
    from fnn.training import DivergedError, RunFolder, Stopped
    from fnn.training.signals import Stop

    used = []

    def folder() -> RunFolder:
        made = RunFolder.resume(out) if resume and out else RunFolder.create(out, config.stem, overwrite)
        used.append(made.path)
        return made

    with clear_errors(), Stop() as stop:
        _check_options(out, overwrite, resume, fork)
        experiment = read_config(config, overrides, modules)
        try:
            with TrainingBar() as bar:
                run = run_experiment(
                    experiment,
                    folder=folder,
                    on_progress=bar,
                    on_message=bar.say,
                    resume=resume,
                    fork=fork,
                    stopped=stop,
                )
        except Stopped as error:
            print(f"{error}; to go on: {_resume_command(used[0], modules)}", file=sys.stderr)
            raise SystemExit(128 + stop.number) from None
        except DivergedError as error:
            where = shlex.join(["fnn", "debug", str(used[0]), *_import_words(modules)])
            raise DivergedError(f"{error}; {where} says where", error.step) from None
    if "test" in run.summary:
        print(f"test {figures(run.summary['test'])}")
    for value in run.summary.get("predictions", []):
        print(f"prediction {value:.4f}" if isinstance(value, float) else f"prediction {value}")
    print(f"run {run.folder}  ({run.summary['seconds']['total']:.1f} s)")


def _resume_command(folder: Path, modules: list[str] | None) -> str:
    program = ["python", "train.py"] if Path(sys.argv[0]).name == "train.py" else ["fnn", "train"]
    command = [*program, str(folder / "config.yaml"), "--out", str(folder), "--resume"]
    return shlex.join([*command, *_import_words(modules)])


def _import_words(modules: list[str] | None) -> list[str]:
    return [word for module in modules or [] for word in ("--import", module)]


def _check_options(out: Path | None, overwrite: bool, resume: bool, fork: bool) -> None:
    if fork and not resume:
        raise ConfigError((), "--fork goes with --resume")
    if resume and (out is None or overwrite):
        raise ConfigError((), "--resume goes with --out DIR, and not with --overwrite")


def evaluate(
    run: Annotated[Path, typer.Argument(help="a run's folder", show_default=False)],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(metavar="PART", help="train, validation or test")] = "test",
    json: Json = False,
    modules: Import = None,
) -> None:
    """Evaluate a run's model on a part of its data, or of others.

    data.source.super_resolution.test=FOLDER measures other pictures, metrics=[psnr, ssim] other figures.
    """
    from fnn.commands.console import figures
    from fnn.commands.evaluate import evaluate_run
    from fnn.training.folder import to_json

    with clear_errors():
        import_modules(modules)
        found = evaluate_run(run, split, overrides or [])
    print(to_json(found, indent=2) if json else f"{split} {figures(found)}")


def bench(
    config: Config,
    overrides: Overrides = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="timed in each form  [default: as many as 3 seconds take]"),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write a trace for Perfetto and TensorBoard")
    ] = None,
    json: Json = False,
    modules: Import = None,
) -> None:
    """Measure a config's training step: time, rate, memory, share of the machine's peak."""
    from dataclasses import asdict

    from fnn.commands.bench import bench as measure
    from fnn.training.folder import to_json

    with clear_errors():
        found = measure(
            read_config(config, overrides, modules), steps=steps, profile=profile, whole_process=True
        )
    print(to_json(asdict(found), indent=2) if json else found)


def debug(
    run: Annotated[
        Path, typer.Argument(help="a run's folder, such as runs/digits_cnn-1", show_default=False)
    ],
    step: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="which step  [default: the one at which the run diverged]"),
    ] = None,
    json: Json = False,
    modules: Import = None,
) -> None:
    """Say where a run diverged: its step again, taken apart layer by layer."""
    from dataclasses import asdict

    from fnn.commands.console import TrainingBar
    from fnn.commands.debug import debug as take_apart
    from fnn.training.folder import to_json

    with clear_errors():
        import_modules(modules)
        with TrainingBar() as bar:
            found = take_apart(run, step=step, on_progress=bar, on_message=bar.say)
    print(to_json(asdict(found), indent=2) if json else found)
