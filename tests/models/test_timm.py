"""The names that timm has for what our networks hold."""

from __future__ import annotations

import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from tests.models.reference import same_structure, torchvision_models

THEIRS = {"mixer_b16": "mixer_b16_224", "mobilenet_v2": "mobilenetv2_100"}
ONE_OF_EACH = ("convnext_tiny", "densenet121", "mixer_b16", "mobilenet_v2", "resnet50", "vgg11", "vgg16_bn")


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_names_and_shapes_are_timms(name):
    torchvision_models()  # which timm imports
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    with torch.device("meta"):
        net = timm.create_model(THEIRS.get(name, name))
    x = np.zeros((1, 224, 224, 3), np.float32)
    same_structure(ARCHITECTURES[name].namings["timm"], net, getattr(fnn, name)(), x)
