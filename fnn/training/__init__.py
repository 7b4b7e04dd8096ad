"""Training: a pure step, the loop around it, and what is written on the way."""

from fnn.training.advance import compile_steps
from fnn.training.evaluation import evaluate, predict
from fnn.training.folder import RunFolder
from fnn.training.loggers import Logger, Loggers, LoggerWarning, RunInfo
from fnn.training.loop import Fit, fit
from fnn.training.meter import DivergedError, Progress
from fnn.training.step import Recipe, TrainState, initial_state, make_step
from fnn.training.weights import load_weights, save_weights

__all__ = [
    "DivergedError",
    "Fit",
    "Logger",
    "LoggerWarning",
    "Loggers",
    "Progress",
    "Recipe",
    "RunFolder",
    "RunInfo",
    "TrainState",
    "compile_steps",
    "evaluate",
    "fit",
    "initial_state",
    "load_weights",
    "make_step",
    "predict",
    "save_weights",
]
