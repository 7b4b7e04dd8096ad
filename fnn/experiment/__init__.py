"""An experiment: the config's schema, and the parts built from it."""

from fnn.experiment.build import Parts, build, build_loggers
from fnn.experiment.model import build_model
from fnn.experiment.reading import read
from fnn.experiment.schema import Experiment, check, fields

__all__ = ["Experiment", "Parts", "build", "build_loggers", "build_model", "check", "fields", "read"]
