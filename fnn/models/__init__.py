"""Models: functions that return a Layer, readable as the paper."""

from fnn.models.alexnet import alexnet, alexnet_2012
from fnn.models.blocks import separable_conv
from fnn.models.convnext import convnext, convnext_base, convnext_small, convnext_tiny
from fnn.models.densenet import densenet121
from fnn.models.edsr import edsr
from fnn.models.espcn import espcn
from fnn.models.fsrcnn import fsrcnn, fsrcnn_s
from fnn.models.lenet import lenet, lenet5
from fnn.models.mlp_mixer import mixer_b16, mixer_l16, mixer_s16, mlp_mixer
from fnn.models.mobilenet import mobilenet_v2
from fnn.models.perceptron import linear, mlp
from fnn.models.preact_resnet import preact_resnet, wide_resnet
from fnn.models.resnet import (
    resnet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    wide_resnet50_2,
    wide_resnet101_2,
)
from fnn.models.resnet9 import resnet9
from fnn.models.resnet_cifar import cifar_resnet, resnet20, resnet32, resnet44, resnet56, resnet110
from fnn.models.squeezenet import squeezenet1_0, squeezenet1_1
from fnn.models.srcnn import srcnn
from fnn.models.stack import cnn
from fnn.models.vdsr import vdsr
from fnn.models.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "alexnet",
    "alexnet_2012",
    "cifar_resnet",
    "cnn",
    "convnext",
    "convnext_base",
    "convnext_small",
    "convnext_tiny",
    "densenet121",
    "edsr",
    "espcn",
    "fsrcnn",
    "fsrcnn_s",
    "lenet",
    "lenet5",
    "linear",
    "mixer_b16",
    "mixer_l16",
    "mixer_s16",
    "mlp",
    "mlp_mixer",
    "mobilenet_v2",
    "preact_resnet",
    "resnet",
    "resnet9",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "separable_conv",
    "squeezenet1_0",
    "squeezenet1_1",
    "srcnn",
    "vdsr",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "wide_resnet",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
