"""Measure a config's training step: how fast, how near to what the machine can do, how much memory."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from fnn import kernels
from fnn.analysis.flops import flops
from fnn.analysis.trace import make_folder, trace
from fnn.commands.console import rounded, rows
from fnn.commands.fitting import make_recipe
from fnn.commands.surroundings import peak_memory, process_age, processor, surroundings
from fnn.commands.timing import Peak, Run, Timing, matrix_peak, time_steps
from fnn.data import OnDisk, Split, epoch_order
from fnn.experiment import Experiment, Parts, build
from fnn.experiment.size import check_size
from fnn.layer import Key, name_key, spec
from fnn.training import Recipe, TrainState, compile_steps, initial_state, make_step
from fnn.trees import count

_TRACED = 5  # steps in a profile
_FEW = 4  # batches that the steps take in turn, of examples that stay on disk


@dataclass(frozen=True)
class Form:
    """What a step costs in one form of execution.

    Attributes:
        compile_seconds: Lowering and compiling.
        ms_per_step: The median of the samples.
        spread_ms: The least and the most of the samples.
        steps, samples: How many steps were timed, and in how many pieces.
        examples_per_second, gflop_per_second: At the median.
        percent_of_peak: Of the matrix product's rate in the same precision.
    """

    compile_seconds: float
    ms_per_step: float
    spread_ms: tuple[float, float]
    steps: int
    samples: int
    examples_per_second: float
    gflop_per_second: float
    percent_of_peak: float


@dataclass(frozen=True)
class Bench:
    """What `bench` measured; its text is a table.

    Attributes:
        config, precision, parameters, batch_size: What was trained.
        dispatched: One call of the compiled step for each batch.
        compiled_loop: Many steps in one compiled program.
        first_step_seconds: Until the first dispatched step was done, reading and compiling included.
        first_step_from: Where that begins.
        mflop_per_step: Millions of floating-point operations, as XLA counts them.
        peaks: In float32, and in the precision where it is another one.
        peak_memory_mib: The most that was in use up to the last timed step; None: not known.
        peak_memory_of: Whose memory that is.
        kernels: What `fnn.kernels.status` says.
        versions, device: As in a run's summary; the device with its processor's model.
        trace: The file of the profile, or None.
    """

    config: str
    precision: str
    parameters: int
    batch_size: int
    dispatched: Form
    compiled_loop: Form
    first_step_seconds: float
    first_step_from: Literal["process start", "call"]
    mflop_per_step: float
    peaks: tuple[Peak, ...]
    peak_memory_mib: float | None
    peak_memory_of: Literal["process", "device"]
    kernels: dict[str, Any]
    versions: dict[str, Any]
    device: dict[str, Any]
    trace: str | None

    def __str__(self) -> str:
        batch = f"{self.batch_size} examples a step"
        head = f"{self.config}: {self.parameters:,} parameters, {batch}, {self.precision}"
        forms = self.dispatched, self.compiled_loop
        lines = [
            ("", "dispatched", "compiled loop"),
            ("compilation", *(f"{rounded(form.compile_seconds)} s" for form in forms)),
            ("a step, median", *(f"{rounded(form.ms_per_step)} ms" for form in forms)),
            ("least to most", *(f"{' – '.join(map(rounded, form.spread_ms))} ms" for form in forms)),
            ("examples/s", *(rounded(form.examples_per_second) for form in forms)),
            ("GFLOP/s", *(rounded(form.gflop_per_second) for form in forms)),
            ("of the peak", *(f"{rounded(form.percent_of_peak)} %" for form in forms)),
            ("steps timed", *(f"{form.steps:,} in {form.samples} samples" for form in forms)),
        ]
        table = [f"{label:<16}{one:>22}{two:>22}" for label, one, two in lines]
        rule = "─" * len(table[0])
        return "\n".join([head, "", table[0], rule, *table[1:], rule, rows(self._notes())])

    def _notes(self) -> list[tuple[str, str]]:
        first, device = rounded(self.first_step_seconds), self.device
        peaks = [
            f"{rounded(p.gflop_per_second)} GFLOP/s, {p.dtype} {p.size:,} × {p.size:,}" for p in self.peaks
        ]
        memory = "unknown" if self.peak_memory_mib is None else f"{rounded(self.peak_memory_mib)} MiB at most"
        versions = [f"{name} {text}" for name, text in self.versions.items() if isinstance(text, str)]
        return [
            ("first step", f"{first} s after the {self.first_step_from}, reading and compiling included"),
            ("work", f"{rounded(self.mflop_per_step)} MFLOP a step, as XLA counts them"),
            ("peak", f"{'; '.join(peaks)}: the best matrix product of this run"),
            ("memory", f"{memory}, of the {self.peak_memory_of}"),
            ("kernels", f"{self.kernels['active']}: {self.kernels['reason']}"),
            ("device", f"{device['count']} × {device['kind']}, {device['processor']}, {device['cpus']} CPUs"),
            ("versions", ", ".join(versions)),
            *([] if self.trace is None else [("trace", f"{self.trace}, for https://ui.perfetto.dev")]),
        ]


@dataclass(frozen=True)
class _Job:
    """A step's arguments, but for the training state."""

    recipe: Recipe
    inputs: Array
    targets: Array
    order: Array
    key: Key


def bench(
    experiment: Experiment,
    *,
    steps: int | None = None,
    profile: Path | None = None,
    whole_process: bool = False,
) -> Bench:
    """Measure an experiment's training step; nothing is trained to an end, evaluated or written.

    Both forms of execution are timed one after the other, then the matrix product to compare them with.

    Args:
        experiment: What the config says.
        steps: How many are timed in each form; by default as many as about 3 seconds take.
        profile: A folder, in which a trace of 5 dispatched steps is written.
        whole_process: Count the first step from the start of the process, where the system tells that,
            instead of from this call.

    Raises:
        ConfigError: As in `fnn.train`.
        TraceError: The folder of the profile cannot be made.

    Example:
        >>> import fnn
        >>> from fnn.commands.bench import bench
        >>> experiment = fnn.Experiment(model=["flatten", {"dense": 10}])
        >>> bench(experiment, steps=20).dispatched.ms_per_step > 0
        True
    """
    age = process_age() if whole_process else None
    begin = time.perf_counter() - (age or 0.0)
    parts = build(experiment)
    check_size(experiment, parts)
    if profile is not None:
        make_folder(profile)
    job, carry = _job(experiment, parts)
    step, one_by_one, compile_step = _dispatched(job, carry)
    carry = one_by_one(carry, 1)
    first = time.perf_counter() - begin
    dispatched, carry = time_steps(one_by_one, carry, steps)
    at_once, compile_loop = _compiled_loop(job, carry)
    looped, carry = time_steps(at_once, carry, steps)
    memory, memory_of = peak_memory()
    file = None if profile is None else trace(lambda: one_by_one(carry, _TRACED), profile, step)
    batch = job.order[0]
    work = flops(make_step(job.recipe), spec(carry), job.inputs[batch], job.targets[batch], job.key)
    peaks = tuple(matrix_peak(dtype) for dtype in dict.fromkeys(("float32", experiment.precision)))
    around = surroundings()
    return Bench(
        config=Path(experiment.document.source).stem or "experiment",
        precision=experiment.precision,
        parameters=count(parts.params),
        batch_size=len(batch),
        dispatched=_form(compile_step, dispatched, len(batch), work, peaks[-1]),
        compiled_loop=_form(compile_loop, looped, len(batch), work, peaks[-1]),
        first_step_seconds=first,
        first_step_from="call" if age is None else "process start",
        mflop_per_step=work / 1e6,
        peaks=peaks,
        peak_memory_mib=memory,
        peak_memory_of=memory_of,
        kernels=asdict(kernels.status()),
        versions=around["versions"],
        device={**around["device"], "processor": processor()[0]},
        trace=None if file is None else str(file),
    )


def _job(experiment: Experiment, parts: Parts) -> tuple[_Job, TrainState]:
    """What `fnn.train` would begin with."""
    recipe, train, key = make_recipe(experiment, parts), parts.dataset.train, jax.random.key(experiment.seed)
    if isinstance(train.inputs, OnDisk):  # it is the step that is measured
        few = np.arange(min(len(train), _FEW * experiment.train.batch_size))
        train = Split(train.inputs.rows(few).load(), train.rows(few).targets)
    inputs, targets = jax.device_put((train.inputs, train.targets))
    order = epoch_order(experiment.seed, 0, len(train), experiment.train.batch_size)
    carry = initial_state(recipe, name_key(key, "init"), inputs[: order.shape[1]])
    return _Job(recipe, inputs, targets, order, name_key(key, "steps")), carry


def _on_rows(recipe: Recipe) -> Any:
    pure = make_step(recipe)

    def step(old: TrainState, inputs: Array, targets: Array, rows: Array, key: Key) -> Any:
        return pure(old, inputs[rows], targets[rows], key)

    return step


def _dispatched(job: _Job, carry: TrainState) -> tuple[Any, Run, float]:
    """The compiled step, how it is run, one call a batch, and the seconds of its compilation."""
    batches = list(np.asarray(job.order))
    begin = time.perf_counter()
    step = jax.jit(_on_rows(job.recipe), donate_argnums=0)
    compiled = step.lower(carry, job.inputs, job.targets, batches[0], job.key).compile()
    seconds = time.perf_counter() - begin

    def run(carry: TrainState, n: int) -> TrainState:
        for batch in itertools.islice(itertools.cycle(batches), n):
            carry, _ = compiled(carry, job.inputs, job.targets, batch, job.key)
        jax.block_until_ready(carry)
        return carry

    return compiled, run, seconds


def _compiled_loop(job: _Job, carry: TrainState) -> tuple[Run, float]:
    """How steps are run in one program, and the seconds of its compilation; the logs are read, too."""
    begin = time.perf_counter()
    advance = compile_steps("scan", job.recipe, carry, job.order, (job.inputs, job.targets), job.key)
    seconds = time.perf_counter() - begin

    def run(carry: TrainState, n: int) -> TrainState:
        for first in range(0, n, len(job.order)):
            carry, _ = advance(carry, job.order, 0, min(len(job.order), n - first))
        jax.block_until_ready(carry)
        return carry

    return run, seconds


def _form(compile_seconds: float, timing: Timing, batch: int, work: float, peak: Peak) -> Form:
    median = statistics.median(timing.samples_ms)
    rate = 1e-6 * work / median
    return Form(
        compile_seconds=compile_seconds,
        ms_per_step=median,
        spread_ms=(min(timing.samples_ms), max(timing.samples_ms)),
        steps=timing.steps,
        samples=len(timing.samples_ms),
        examples_per_second=1000 * batch / median,
        gflop_per_second=rate,
        percent_of_peak=100 * rate / peak.gflop_per_second,
    )
