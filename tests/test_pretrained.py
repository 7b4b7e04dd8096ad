"""fnn.pretrained: the models that come with fnn are found by their scale."""

from __future__ import annotations

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn import pretrained
from fnn.choices import ConfigError
from fnn.commands.upscale import jobs_of, upscale
from fnn.experiment.saved import read_saved
from fnn.metrics import psnr
from fnn.pretrained import shipped
from fnn.trees import digest


def test_a_model_is_found_by_its_scale_and_the_others_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    (tmp_path / "espcn_x4.safetensors").touch()
    (tmp_path / "espcn_x2.safetensors").touch()
    assert shipped(2) == tmp_path / "espcn_x2.safetensors"
    assert shipped(4) == tmp_path / "espcn_x4.safetensors"
    message = r"expected a scale that fnn has a model of \(2, 4\), got 3; --run takes .*configs/espcn_x3.yaml"
    with pytest.raises(ConfigError, match=message):
        shipped(3)


def test_the_shipped_model_is_that_of_its_card():
    file = shipped(2)
    saved = read_saved(file)
    assert file.stat().st_size < 200_000
    assert saved.scale == 2
    assert digest(saved.params, saved.state) in file.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.data
def test_the_shipped_model_enlarges_files_of_set5(tmp_path):
    """As a user would: RGB files of 8 bits in, RGB files of 8 bits out."""
    originals = {}
    for file in sorted((Path(os.environ["FNN_DATA"]) / "sr" / "set5").iterdir()):
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        width, height = (side // 2 for side in picture.size)
        original = picture.crop((0, 0, 2 * width, 2 * height))
        original.resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / file.name)
        originals[file.name] = np.asarray(original)
    ratios = []
    for result in upscale(shipped(2), jobs_of(tmp_path, tmp_path / "large")):
        assert result.error is None
        with Image.open(result.job.target) as made:
            pair = (np.asarray(made), originals[result.job.source.name])
        metric = psnr(border=2)
        outputs, targets = (jnp.asarray(x[None], jnp.float32) / 255 for x in pair)
        ratios.append(metric.value(metric.measure(outputs, targets, jnp.array([True]))))
    assert len(ratios) == 5
    assert np.mean(ratios) >= 36.8
