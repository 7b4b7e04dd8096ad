"""MLflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fnn.registry import register
from fnn.training.loggers.interface import Logger, Record, RunInfo, outcome, require, scalars

LONGEST = 500
"""Characters of a parameter: what every store of MLflow's takes."""

AT_ONCE = 100
"""Parameters in one call, at most."""

STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}
"""MLflow's words for how a run ended; any other end is FAILED."""


@register(group="logger")
def mlflow(experiment: str | None = None, *, uri: str | None = None, name: str | None = None) -> Logger:
    """A run in an experiment of MLflow's.

    Args:
        experiment: Its name; it is made if it is not there. By default ``$MLFLOW_EXPERIMENT_NAME``, else
            ``Default``.
        uri: The tracking server or database, such as ``sqlite:///mlflow.db``; by default
            ``$MLFLOW_TRACKING_URI``, else what MLflow takes.
        name: The run's name there; by default that of its folder.

    Raises:
        ValueError: MLflow is not installed.
    """
    require("mlflow", "mlflow")
    return MLflow(experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default", uri, name)


@dataclass
class MLflow:
    """A run of MLflow's whose id the run's folder keeps. MLflow's own active run is left alone."""

    experiment: str
    uri: str | None
    name: str | None

    def begin(self, run: RunInfo) -> None:
        """Begin a run with the config as its parameters, or go on with it: parameters are fixed there."""
        library: Any = import_module("mlflow")
        self.entities: Any = library.entities
        self.client: Any = library.MlflowClient(tracking_uri=self.uri)
        self.known: dict[str, int] | None = {} if run.step else None
        identity = run.recall("mlflow")
        if identity is None:
            identity = self._create(run)
            run.remember("mlflow", identity)
        else:
            self.client.update_run(identity, status="RUNNING")
        self.id = identity

    def record(self, record: Record) -> None:
        """Log all numbers of a record, together."""
        self._log(record["step"], scalars(record))

    def end(self, summary: Record) -> None:
        """Log the figures of the test part, the summary as tags, and how the run ended."""
        figures, rest = outcome(summary)
        self._log(summary["step"], figures)
        for name, value in rest.items():
            self.client.set_tag(self.id, f"fnn.{name}", str(value))
        self.client.set_terminated(self.id, STATUS.get(summary["status"], "FAILED"))

    def _create(self, run: RunInfo) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        place = self.client.create_experiment(self.experiment) if found is None else found.experiment_id
        tags = {} if run.folder is None else {"fnn.folder": str(run.folder.absolute())}
        identity: str = self.client.create_run(place, run_name=self.name or run.name, tags=tags).info.run_id
        params = [self.entities.Param(name, text) for name, text in parameters(run.config).items()]
        for first in range(0, len(params), AT_ONCE):
            self.client.log_batch(identity, params=params[first : first + AT_ONCE])
        return identity

    def _log(self, step: int, figures: dict[str, float]) -> None:
        now = round(1000 * time.time())
        metrics = [
            self.entities.Metric(name, value, now, step)
            for name, value in figures.items()
            if step > self._logged(name)
        ]
        if metrics:
            self.client.log_batch(self.id, metrics=metrics)

    def _logged(self, name: str) -> int:
        """Up to which step a run that goes on has a metric already: MLflow would keep it twice."""
        if self.known is None:
            return -1
        if name not in self.known:
            history = self.client.get_metric_history(self.id, name)
            self.known[name] = max((metric.step for metric in history), default=-1)
        return self.known[name]


def parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A config as MLflow's parameters: texts by dotted name.

    A list stays one text, and so does a mapping with keys that MLflow refuses in a name, such as patterns.

    Example:
        >>> parameters({"seed": 0, "train": {"clip": None, "l2": {"*/kernel": 0.1}}, "model": ["relu"]})
        {'seed': '0', 'train.clip': 'null', 'train.l2': '{"*/kernel": 0.1}', 'model': '["relu"]'}
    """
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value and all(str(key).isidentifier() for key in value):
            found |= parameters(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found[f"{prefix}{name}"] = text[:LONGEST]
    return found
