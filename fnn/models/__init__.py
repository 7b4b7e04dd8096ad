"""Models: functions that return a Layer, readable as the paper."""

from fnn.models.alexnet import alexnet, alexnet_2012
from fnn.models.blocks import separable_conv
from fnn.models.densenet import densenet121
from fnn.models.lenet import lenet, lenet5
from fnn.models.mobilenet import mobilenet_v2
from fnn.models.perceptron import linear, mlp
from fnn.models.squeezenet import squeezenet1_0, squeezenet1_1
from fnn.models.stack import cnn
from fnn.models.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "alexnet",
    "alexnet_2012",
    "cnn",
    "densenet121",
    "lenet",
    "lenet5",
    "linear",
    "mlp",
    "mobilenet_v2",
    "separable_conv",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]
