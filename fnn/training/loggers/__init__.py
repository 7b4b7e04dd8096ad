"""Where else a run's log goes: one small interface, and the trackers behind it."""

from fnn.training.loggers.guard import Loggers, LoggerWarning
from fnn.training.loggers.interface import Logger, RunInfo, scalars
from fnn.training.loggers.mlflow import mlflow
from fnn.training.loggers.tensorboard import tensorboard
from fnn.training.loggers.wandb import wandb

__all__ = ["Logger", "LoggerWarning", "Loggers", "RunInfo", "mlflow", "scalars", "tensorboard", "wandb"]
