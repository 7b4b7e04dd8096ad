"""Training: a pure step, the loop around it, and what is written on the way."""

from fnn.training.advance import compile_steps
from fnn.training.checkpoint import Checkpoint, CheckpointError, Checkpoints, CheckpointWarning
from fnn.training.evaluation import evaluate, predict
from fnn.training.findings import Extent, Fault, Findings, Row
from fnn.training.folder import RunFolder
from fnn.training.freeze import still
from fnn.training.keeper import Keeper, Period, Stopped
from fnn.training.loggers import Logger, Loggers, LoggerWarning, RunInfo
from fnn.training.loop import Fit, fit
from fnn.training.meter import DivergedError, Progress
from fnn.training.numerics import inspect
from fnn.training.replay import Replay
from fnn.training.selection import Selection
from fnn.training.step import Recipe, TrainState, initial_state, make_step
from fnn.training.weights import load_weights, save_weights

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "Checkpoints",
    "DivergedError",
    "Extent",
    "Fault",
    "Findings",
    "Fit",
    "Keeper",
    "Logger",
    "LoggerWarning",
    "Loggers",
    "Period",
    "Progress",
    "Recipe",
    "Replay",
    "Row",
    "RunFolder",
    "RunInfo",
    "Selection",
    "Stopped",
    "TrainState",
    "compile_steps",
    "evaluate",
    "fit",
    "initial_state",
    "inspect",
    "load_weights",
    "make_step",
    "predict",
    "save_weights",
    "still",
]
