"""Whether a config ends as it must: in a run, or in one clear line and exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import mock

import jax
from PIL import Image

from fnn import cli
from fnn.choices import ConfigError
from fnn.experiment import read
from fnn.experiment.model import build_model
from fnn.layer import Layer, map_layers
from fnn.training import initial_state, make_step
from fnn.trees import count
from tests.fuzz.strategies import Example
from tests.fuzz.trees import CONFIGS, PICTURES, TABLE

LIMIT = 30.0
"""Seconds of a processor for one example, and ten times as many by the clock; longer is a hang."""

SMALL = 200_000
"""Parameters of a model that is trained for real, at most."""

STEPS = 40
"""Steps of such a run, at most."""

RAW = re.compile(
    r"Traceback|<class|<function|object at 0x|pydantic|Tracer|Traced<|ShapeDtypeStruct|NoneType|unhashable"
    r"|has no attribute|unsupported operand|not subscriptable|not iterable|not callable|positional argument"
    r"|unexpected keyword|lambda|C long|DynamicJaxpr|jax\._src|jaxlib|train_test_split|\bnumpy\b"
)
"""What only a library says, which knows nothing of configs."""

Kind = Literal["traced", "ran", "diverged", "refused"]


class UnclearError(AssertionError):
    """A config ended as none may; ``signature`` is the same for the same fault."""

    def __init__(self, signature: str, details: str) -> None:
        super().__init__(f"{signature}\n{details}")
        self.signature = signature


@dataclass(frozen=True)
class Outcome:
    """How an example ended, and what was said."""

    kind: Kind
    message: str = ""


class _Traced(BaseException):
    """The training step was traced; nothing is compiled."""

    def __init__(self, small: bool) -> None:
        self.small = small


class _Hang(BaseException):
    pass


def check(example: Example, folder: Path, train: bool = False) -> Outcome:
    """Run ``train.py`` on an example up to the traced training step; with ``train`` go on and train.

    Args:
        example: What is typed.
        folder: An empty folder to work in.
        train: Whether to train, if it takes a few steps of a small model.

    Raises:
        UnclearError: A traceback, a hang, an unclear message, or something left behind.
    """
    config = folder / "config.yaml"
    config.write_bytes(example.text)
    if not (folder / TABLE).exists():
        shutil.copy(CONFIGS / TABLE, folder)
        _draw(folder / PICTURES)
    try:
        with traced_only():
            return _typed(example, config)
    except _Traced as end:
        shutil.rmtree(folder / "out", ignore_errors=True)
        return _typed(example, config) if train and end.small else Outcome("traced")


def _draw(folder: Path) -> None:
    """Two pictures to learn from."""
    folder.mkdir()
    for i in range(2):
        picture = Image.radial_gradient("L").resize((48, 48)).rotate(90 * i, translate=(9, 5))
        picture.convert("RGB").save(folder / f"{i}.png")


def _typed(example: Example, config: Path) -> Outcome:
    """What the command line says to an example."""
    out = config.parent / "out"
    stderr, code = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr), limited(LIMIT):
            cli.train(config, list(example.overrides), out=out)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except _Hang:
        raise UnclearError(f"hang {_place()}", f"over {LIMIT} s\n{example!r}") from None
    except Exception as error:
        raise UnclearError(_signature(error), f"{traceback.format_exc(limit=-12)}\n{example!r}") from error
    there = out.exists()
    shutil.rmtree(out, ignore_errors=True)
    if code == 0:
        return Outcome("ran")
    return Outcome(
        "refused" if code == 2 else "diverged", _clear(code, stderr.getvalue(), config, there, example)
    )


def _clear(code: int, stderr: str, config: Path, left_behind: bool, example: Example) -> str:
    """The one line of a clear error.

    Raises:
        UnclearError: It is none.
    """
    lines = [line for line in stderr.split("\n") if line and not line.startswith("warning: ")]
    if (
        code == 1
        and lines
        and re.match(r"error: the (loss|gradient|update|parameter)\b.* at step \d", lines[-1])
    ):
        return lines[-1]
    if code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        raise UnclearError(f"exit code {code}, {len(lines)} lines", f"{stderr}\n{example!r}")
    message = lines[0].removeprefix("error: ")
    if not message.startswith((f"{config}:", "override ", "expected an override ")):
        raise UnclearError("a message without its place", f"{message}\n{example!r}")
    own = message.removeprefix(f"{config}:")
    if not message.startswith("override ") and (raw := RAW.search(own)):
        raise UnclearError(f"a raw message: {raw[0]}", f"{message}\n{example!r}")
    said = r"[\w/-]+: |expected |is |unknown |takes |does not |\w+ (has|needs) |.*; the largest is [\w/-]+, "
    if ": model: " in own and not re.search(rf": model: ({said})", own):
        raise UnclearError("a message of the model without a layer", f"{message}\n{example!r}")
    if left_behind:
        raise UnclearError("something is left behind", f"{message}\n{example!r}")
    return message


@contextlib.contextmanager
def traced_only() -> Iterator[None]:
    """Within it a run ends with its training step traced, before anything is compiled."""

    def shapes(recipe: Any, key: Any, inputs: Any, given: Any) -> Any:
        return jax.eval_shape(lambda k: initial_state(recipe, k, inputs, given), key)

    def traced(recipe: Any, train_state: Any, dataset: Any, key: Any, **given: Any) -> NoReturn:
        rows = min(given["batch_size"], len(dataset.train))
        inputs, targets = dataset.train.inputs[:rows], dataset.train.targets[:rows]
        jax.eval_shape(make_step(recipe), train_state, inputs, targets, key)
        steps = len(dataset.train) // rows * given["epochs"]
        raise _Traced(steps <= STEPS and count(train_state.params) <= SMALL)

    with (
        mock.patch("fnn.commands.fitting.initial_state", shapes),
        mock.patch("fnn.commands.fitting.fit", traced),
    ):
        yield


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """An alarm after so many seconds of a processor, so that a busy machine does not ring it."""

    def ring(*_: Any) -> NoReturn:
        raise _Hang

    clocks = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds),
    }
    old = {number: signal.signal(number, ring) for number, _ in clocks.values()}
    for clock, (_, after) in clocks.items():
        signal.setitimer(clock, after)
    try:
        yield
    finally:
        for clock in clocks:
            signal.setitimer(clock, 0)
        for number, before in old.items():
            signal.signal(number, before)


@contextlib.contextmanager
def without_data_sets(folder: Path) -> Iterator[None]:
    """No data set is found, and nothing of the user's; JAX has started, so that nothing is set for it."""
    jax.devices()
    nowhere = str(folder / "none")
    away = {"FNN_DATA": nowhere, "HOME": str(folder), "XDG_CACHE_HOME": nowhere, "WANDB_MODE": "disabled"}
    with mock.patch.dict(os.environ, away), contextlib.chdir(folder):
        yield


def names_a_layer(message: str, example: Example, folder: Path) -> bool:
    """Whether a message names the path of a layer of the example's model, or the key that is wrong."""
    experiment = read(folder / "config.yaml", example.overrides)
    try:
        model = build_model(experiment.model)
    except ConfigError as error:
        return (error.path[:1] == ("model",) and len(error.path) > 1) or "two children" in error.message
    paths: list[str] = []

    def note(path: str, layer: Layer) -> Layer:
        paths.append(path)
        return layer

    map_layers(note, model)
    if re.search(r": (loss|metrics\.\d+|model): (does not fit|expected an output for each)", message):
        return True
    found = re.search(r": model(?:\.\d+)?: ([\w/-]+): ", message)
    return found is not None and found[1] in paths


def _signature(error: BaseException) -> str:
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if "/fnn/" in f.filename and "/tests/" not in f.filename
    ]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    return f"{type(error).__name__} at {place}"


def _place() -> str:
    import sys

    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [f for f in frames if "/fnn/" in f.filename and "/tests/" not in f.filename]
    return f"at {Path(own[-1].filename).name}:{own[-1].name}" if own else ""
