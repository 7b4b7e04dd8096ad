"""The command line: arguments only; the commands are in ``fnn.commands``."""

from __future__ import annotations

import importlib
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnn.choices import ConfigError
from fnn.experiment.schema import fields
from fnn.table import one_line

if TYPE_CHECKING:
    from fnn.commands.predict import Prediction
    from fnn.experiment import Experiment

Config = Annotated[Path, typer.Argument(help="a config, such as configs/digits_cnn.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="dotted.key=value, the value in YAML", show_default=False),
]
Import = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="a Python module of your own, with @fnn.register in it"),
]
Set = Annotated[str, typer.Argument(metavar="SET", help="mnist, fashion_mnist or kmnist", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="write over files that are there")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")]


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

    with _clear_errors(), Stop() as stop:
        _check_options(out, overwrite, resume, fork)
        experiment = _read(config, overrides, modules)
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
            where = shlex.join(["fnn", "debug", str(used[0]), *_imports(modules)])
            raise DivergedError(f"{error}; {where} says where", error.step) from None
    if "test" in run.summary:
        print(f"test {figures(run.summary['test'])}")
    for value in run.summary.get("predictions", []):
        print(f"prediction {value:.4f}" if isinstance(value, float) else f"prediction {value}")
    print(f"run {run.folder}  ({run.summary['seconds']['total']:.1f} s)")


def _resume_command(folder: Path, modules: list[str] | None) -> str:
    program = ["python", "train.py"] if Path(sys.argv[0]).name == "train.py" else ["fnn", "train"]
    command = [*program, str(folder / "config.yaml"), "--out", str(folder), "--resume"]
    return shlex.join([*command, *_imports(modules)])


def _imports(modules: list[str] | None) -> list[str]:
    return [word for module in modules or [] for word in ("--import", module)]


def _check_options(out: Path | None, overwrite: bool, resume: bool, fork: bool) -> None:
    if fork and not resume:
        raise ConfigError((), "--fork goes with --resume")
    if resume and (out is None or overwrite):
        raise ConfigError((), "--resume goes with --out DIR, and not with --overwrite")


def evaluate(
    run: Annotated[Path, typer.Argument(help="a run's folder", show_default=False)],
    split: Annotated[str, typer.Option(metavar="PART", help="train, validation or test")] = "test",
    json: Json = False,
    modules: Import = None,
) -> None:
    """Evaluate a run's model on a part of its data."""
    from fnn.commands.console import figures
    from fnn.commands.evaluate import evaluate_run
    from fnn.training.folder import to_json

    with _clear_errors():
        _import(modules)
        found = evaluate_run(run, split)
    print(to_json(found, indent=2) if json else f"{split} {figures(found)}")


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="a weights file (.safetensors), or a run's folder", show_default=False
        ),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURE...", help="picture files, and folders of them", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, metavar="K", help="how many classes")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="pictures at a time, at most")] = 32,
    json: Annotated[bool, typer.Option("--json", help="print a JSON list instead of a table")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV, each row as soon as it is there")] = False,
    modules: Import = None,
) -> None:
    """Say what is on pictures: the most probable classes of each.

    A folder is searched with all folders in it, for files that end as pictures do; hidden ones are left out.
    A picture that cannot be read is told on standard error, and the others go on. Probabilities are the
    softmax of the model's outputs.

    Exit code: 0; 1 if a picture could not be read; 2 if nothing could be done.
    """
    from fnn.commands.console import PictureBar
    from fnn.commands.predict import find_pictures
    from fnn.commands.predict import predict as classify
    from fnn.commands.predictions import as_json, as_table, write_csv

    failed = []
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # the name of a file need not be text
    with _clear_errors():
        if json and csv:
            raise ConfigError((), "expected --json or --csv, got both")
        warnings.filterwarnings("ignore", module="PIL")  # damaged EXIF: it says not even of which picture
        _import(modules)
        files = find_pictures(pictures)
        with PictureBar(len(files), shown=len(files) > 1 and not (csv and sys.stdout.isatty())) as bar:

            def told() -> Iterator[Prediction]:
                for prediction in classify(model, files, top=top, batch_size=batch_size, on_progress=bar):
                    if prediction.error is not None:
                        failed.append(prediction)
                        bar.say(f"error: {one_line(prediction.error)}")
                    yield prediction

            if csv:
                write_csv(told(), sys.stdout)
            else:
                found = list(told())
        if json:
            print(as_json(found))
        elif not csv and len(found) > len(failed):
            print(as_table(found))
    raise SystemExit(1 if failed else 0)


def summary(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a config (.yaml), a weights file (.safetensors), a run's folder, or a network: resnet50",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="HxWxC", help="of one example  [default: the model's own]", show_default=False
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="examples at a time")] = 1,
    modules: Import = None,
) -> None:
    """Print a model as a table: path, output, parameters, FLOPs, activations.

    FLOPs are those of a forward pass over the batch as XLA counts them, a multiplication and an addition
    being two. Activations are the bytes of every output, which is about what training keeps.
    """
    from fnn.commands.summary import read_shape, summarise

    with _clear_errors():
        _import(modules)
        print(summarise(source, overrides or [], None if shape is None else read_shape(shape), batch))


def import_weights(
    architecture: Annotated[
        str, typer.Argument(help="a published network, such as squeezenet1_0", show_default=False)
    ],
    weights: Annotated[Path, typer.Argument(help="safetensors, or .npz of plain arrays", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="is written", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="arguments of the network, in YAML", show_default=False
        ),
    ] = None,
    naming: Annotated[
        str | None,
        typer.Option(metavar="LIBRARY", help="torchvision, timm or caffe  [default: whose names fit]"),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="names of the outputs, one a line  [default: ImageNet's, of 1,000]"
        ),
    ] = None,
    overwrite: Overwrite = False,
    modules: Import = None,
) -> None:
    """Make a model of the weights that another library keeps: torchvision's, timm's, Caffe's.

    The number of classes is read from the weights. Nothing is unpickled.
    """
    from fnn.commands.import_weights import import_weights as convert

    with _clear_errors():
        _import(modules)
        print(
            convert(
                architecture,
                weights,
                out,
                overrides or [],
                naming=naming,
                classes=classes,
                overwrite=overwrite,
            )
        )


def export(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_MODEL", help="a run's folder or a weights file", show_default=False),
    ],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="safetensors, stablehlo or onnx")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="is written  [default: beside the weights]")
    ] = None,
    naming: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="whose names the tensors of safetensors get: torchvision, timm, caffe or fnn  "
            "[default: the first that is known for the network]",
        ),
    ] = None,
    overwrite: Overwrite = False,
    modules: Import = None,
) -> None:
    """Write a model so that it can be used without fnn.

    safetensors: the weights in the names of another library. stablehlo: the whole program, for JAX on CPUs,
    GPUs and TPUs. onnx: the whole program, for onnxruntime and others. A program takes a batch of any size,
    of pictures as bytes, and normalises them itself.
    """
    from fnn.commands.export import export as convert

    with _clear_errors():
        _import(modules)
        print(convert(model, form, out, naming=naming, overwrite=overwrite))


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

    with _clear_errors():
        found = measure(_read(config, overrides, modules), steps=steps, profile=profile, whole_process=True)
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

    with _clear_errors():
        _import(modules)
        with TrainingBar() as bar:
            found = take_apart(run, step=step, on_progress=bar, on_message=bar.say)
    print(to_json(asdict(found), indent=2) if json else found)


def doctor(
    build: Annotated[bool, typer.Option("--build", help="build the native part again, first")] = False,
    json: Json = False,
) -> None:
    """Say what this machine offers: devices, kernels, versions, data; and what would make it faster."""
    from dataclasses import asdict

    from fnn.commands.doctor import examine
    from fnn.training.folder import to_json

    report = examine(build)
    print(to_json(asdict(report), indent=2) if json else report)
    if report.error is not None:
        _stop(report.error, 1)


def get(
    name: Set,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="the folder of data sets  [default: fnn in the user's cache folder]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download a data set and check it; files that are there and right are kept."""
    from fnn.commands.data import get as download

    with _clear_errors():
        print(download(name, to))


def check(name: Set) -> None:
    """Compare a data set on disk with the checksums of the published one."""
    from fnn.commands.data import check as verify

    with _clear_errors():
        print(verify(name))


def main() -> None:
    """The console script ``fnn``."""
    app, data = _app(), _app("Data sets with a public address.")
    app.command(help=_train_help())(train)
    app.command()(evaluate)
    app.command()(predict)
    app.command(name="import")(import_weights)
    for command in (export, summary, bench, debug, doctor):
        app.command()(command)
    data.command()(get)
    data.command()(check)
    app.add_typer(data, name="data")
    app.callback()(lambda: None)
    app()


def train_script() -> None:
    """``train.py``: the command ``fnn train``."""
    app = _app()
    app.command(help=_train_help())(train)
    app()


def _app(meaning: str = "Functional neural networks on JAX.") -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=meaning,
    )


def _train_help() -> str:
    rows = fields()
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=True)) + "  " + row[3]
        for row in rows
    )
    return f"Train from a config.\n\nThe fields of a config, with type, default and meaning:\n\n\b\n{table}"


def _read(config: Path, overrides: list[str] | None, modules: list[str] | None) -> Experiment:
    from fnn.experiment import read

    _import(modules)
    return read(config, overrides or [])


def _import(modules: list[str] | None) -> None:
    """The user's own modules, from where the user is."""
    sys.path.insert(0, str(Path.cwd()))
    for module in modules or []:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError((), f"--import {module}: {error}") from None


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can mend is one line and exit code 2; an interrupted run 130. A warning is a line too."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            yield
    except KeyboardInterrupt:
        _stop("interrupted", 130)
    except ArithmeticError as error:
        _stop(str(error), 1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("RESOURCE_EXHAUSTED"):  # XLA's
            raise
        _stop(f"out of memory: {error}; a smaller batch (train.batch_size, --batch-size) takes less", 2)
    except ValueError as error:
        if not type(error).__module__.startswith("fnn."):
            raise
        _stop(str(error), 2)


def _show(message: Warning | str, *place: Any, **more: Any) -> None:
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


def _stop(message: str, code: int) -> None:
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(code)
