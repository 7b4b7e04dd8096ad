"""Models: functions that return a Layer, readable as the paper."""

from fnn.models.blocks import separable_conv
from fnn.models.lenet import lenet, lenet5
from fnn.models.perceptron import linear, mlp
from fnn.models.stack import cnn

__all__ = ["cnn", "lenet", "lenet5", "linear", "mlp", "separable_conv"]
