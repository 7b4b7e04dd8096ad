"""Weights & Biases."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fnn.registry import register
from fnn.training.loggers.interface import Logger, Record, RunInfo, outcome, require, scalars


@register(group="logger")
def wandb(
    project: str | None = None,
    *,
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: list[str] | None = None,
    notes: str | None = None,
    mode: Literal["online", "offline", "disabled"] | None = None,
) -> Logger:
    """A run at Weights & Biases; its local files are in the run's folder, in ``wandb/``.

    Args:
        project, entity, group, tags, notes, mode: As ``wandb.init`` takes them. What is left out is as the
            settings and environment variables of wandb say (``WANDB_PROJECT``, ``WANDB_MODE=offline``).
        name: The run's name there; by default that of its folder.

    Raises:
        ValueError: wandb is not installed.
    """
    require("wandb", "wandb")
    given = {"project": project, "entity": entity, "group": group, "tags": tags, "notes": notes, "mode": mode}
    return Wandb(name, {key: value for key, value in given.items() if value is not None})


@dataclass
class Wandb:
    """A run of wandb's under an id that the run's folder keeps, so that it is the same one if it goes on."""

    name: str | None
    given: dict[str, Any]

    def begin(self, run: RunInfo) -> None:
        """Begin a run of wandb's, or go on with it. One that the user has open is left alone."""
        library: Any = import_module("wandb")
        identity = run.recall("wandb") or uuid.uuid4().hex
        self.run: Any = library.init(
            id=identity,
            resume="allow",
            name=self.name or run.name,
            dir=None if run.folder is None else str(run.folder),
            config=run.config,
            allow_val_change=True,
            reinit="create_new",
            settings=library.Settings(console="off"),  # the terminal is the run's own
            **self.given,
        )
        run.remember("wandb", identity)

    def record(self, record: Record) -> None:
        """Log all numbers of a record."""
        self._log(record["step"], scalars(record))

    def end(self, summary: Record) -> None:
        """Log the figures of the test part and the summary, and finish."""
        figures, rest = outcome(summary)
        self._log(summary["step"], figures)
        self.run.summary.update(rest)
        self.run.finish(exit_code=0 if summary["status"] == "completed" else 1)

    def _log(self, step: int, figures: dict[str, float]) -> None:
        if figures and step >= self.run.step:  # of a run that goes on, wandb keeps what it has
            self.run.log(figures, step=step)
