"""fnn.pretrained: the models that come with fnn are found by their scale."""

from __future__ import annotations

import pytest

from fnn import pretrained
from fnn.choices import ConfigError
from fnn.pretrained import shipped


def test_a_model_is_found_by_its_scale_and_the_others_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    (tmp_path / "espcn_x4.safetensors").touch()
    (tmp_path / "espcn_x2.safetensors").touch()
    assert shipped(2) == tmp_path / "espcn_x2.safetensors"
    assert shipped(4) == tmp_path / "espcn_x4.safetensors"
    message = r"expected a scale that fnn has a model of \(2, 4\), got 3; --run takes .*configs/espcn_x3.yaml"
    with pytest.raises(ConfigError, match=message):
        shipped(3)
