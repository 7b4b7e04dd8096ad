"""fnn.commands.summary: the same table from a config, a published network, a weights file and a run."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.commands.summary import summarise
from fnn.training.weights import save_weights

LAYERS = ["flatten", {"dense": 3}]
TABLE = fnn.summary(fnn.serial(fnn.flatten, fnn.dense(3)), jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.yaml"
    data = {"source": {"synthetic": {"shape": [4, 4, 1], "classes": 3, "size": 20}}}
    file.write_text(json.dumps({"data": data, "model": LAYERS}))
    return str(file)


@pytest.fixture
def run(tmp_path):
    model = fnn.serial(fnn.flatten, fnn.dense(3))
    params, state = model.init(jax.random.key(0), jnp.ones((1, 4, 4, 1)))
    metadata = {"config": json.dumps({"model": LAYERS}), "input": "[4, 4, 1]"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(save_weights(params, state, metadata))
    return tmp_path / "run"


def test_a_config_a_weights_file_and_a_run_give_the_same_table(config, run):
    assert summarise(config) == TABLE
    assert summarise(str(run)) == TABLE
    assert summarise(str(run / "model.safetensors")) == TABLE


def test_an_override_changes_the_config(config):
    assert summarise(config, ["model.dense1.features=5"]).parameters == 5 * 17
    assert summarise(config, ["precision=bfloat16"]).activations == TABLE.activations // 2


def test_the_input_and_the_batch_may_be_others(config, run):
    for source in (config, str(run)):
        table = summarise(source, shape=(2, 4), batch=6)
        assert [row.output for row in table.rows] == [(6, 8), (6, 3)]


def test_a_published_network_is_shown_at_its_own_size():
    table = summarise("squeezenet1_1", batch=2)
    assert (table.rows[0].output, table.rows[-1].output) == ((2, 111, 111, 64), (2, 1000))
    assert table.parameters == 1_235_496


def test_a_name_is_a_network_and_a_path_a_file(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    run.rename("relu")
    assert summarise("relu", shape=(4,)).rows[0].kind == "relu"
    assert summarise("./relu") == TABLE
    with pytest.raises(ConfigError, match=r"rellu: expected a config .*; nearest: relu"):
        summarise("rellu")
