"""Many examples, in batches: a failure is shrunk and noted, and the search goes on."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tests.fuzz.checker import Outcome, UnclearError, check, without_data_sets
from tests.fuzz.strategies import Example, examples

BATCH = 250
"""Examples that hypothesis makes at a time; after each what JAX has traced is forgotten."""

SHRINKING = 60.0
"""Seconds for making a failure smaller."""


@dataclass
class Report:
    """What came of a campaign.

    Attributes:
        counts: Examples by how they ended.
        failures: By signature the smallest example that was found, with what it said.
        messages: A refused example's message by the words in it: a sample of the clear errors.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def examples(self) -> int:
        """How many were checked, those not counted that hypothesis tried to shrink a failure."""
        return self.counts.total()

    @property
    def valid(self) -> int:
        """How many of them were right."""
        return self.counts["traced"] + self.counts["ran"] + self.counts["diverged"]


def campaign(
    many: int,
    first_seed: int = 0,
    train_every: int = 0,
    strategy: st.SearchStrategy[Example] | None = None,
    judge: Callable[[Outcome, Example, Path], None] = lambda outcome, example, folder: None,
    on_batch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Check many examples; the same ones for the same seed.

    Args:
        many: How many.
        first_seed: Of the first batch; each has the next.
        train_every: One in so many that are right is trained for real, if it is small; 0: none.
        strategy: Makes the examples.
        judge: Looks at an outcome, too, and may raise UnclearError.
        on_batch: Gets the report now and then.
    """
    report, begin = Report(), time.monotonic()
    strategy = examples() if strategy is None else strategy
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        with without_data_sets(folder):
            batch = first_seed
            while report.examples < many:
                _batch(
                    min(BATCH, many - report.examples), batch, train_every, strategy, judge, report, folder
                )
                batch += 1
                report.seconds = time.monotonic() - begin
                jax.clear_caches()
                on_batch(report)
    finally:
        shutil.rmtree(folder)
    return report


def _batch(
    many: int,
    number: int,
    train_every: int,
    strategy: st.SearchStrategy[Example],
    judge: Callable[[Outcome, Example, Path], None],
    report: Report,
    folder: Path,
) -> None:
    found: UnclearError | None = None
    smallest, until, train = 0, 0.0, False

    @seed(number)
    @settings(
        max_examples=many,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(strategy)
    def hold(example: Example) -> None:
        nonlocal found, smallest, until, train
        if found is not None and time.monotonic() > until:
            return
        if found is None:
            train = train_every > 0 and report.valid % train_every == 0
        try:
            outcome = check(example, folder, train)
            judge(outcome, example, folder)
        except UnclearError as failure:
            new = failure.signature not in report.failures
            if found is None:
                report.counts["failed"] += 1
            if not new or (found is not None and failure.signature != found.signature):
                return
            if found is None:
                until = time.monotonic() + SHRINKING
            if found is None or len(repr(example)) <= smallest:
                found, smallest = failure, len(repr(example))
            raise
        if found is None:
            report.counts[outcome.kind] += 1
            report.messages.setdefault(_form(outcome.message), outcome.message)

    with contextlib.suppress(UnclearError, Flaky):  # flaky: the time for shrinking was over
        hold()
    if found is not None:
        report.failures[found.signature] = str(found)


def _form(message: str) -> str:
    """A message without what differs from case to case."""
    text = re.sub(r"^.*?: ", "", message)
    return " ".join(word for word in re.findall(r"[a-z]{3,}", text.split("got")[0]))[:120]
