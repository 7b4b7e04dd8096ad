"""fnn.experiment.size: what cannot fit the memory is refused before it is asked for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from fnn.choices import ConfigError
from fnn.experiment import build, check
from fnn.experiment.size import check_size, size

DATA = {"source": {"synthetic": {"shape": [4, 4, 1], "classes": 3, "size": 24}}}
MIB = 2**20


def checked(model, memory, monkeypatch, **config):
    experiment = check({"data": DATA, "model": model, "train": {"batch_size": 8}, **config})
    monkeypatch.setattr("fnn.experiment.size.device_memory", lambda: memory)
    check_size(experiment, build(experiment))


def refused(model, memory, monkeypatch, **config):
    with pytest.raises(ConfigError) as caught:
        checked(model, memory, monkeypatch, **config)
    return str(caught.value)


def test_size_is_in_bytes():
    assert (
        size({"a": jnp.ones((3, 4)), "b": jax.ShapeDtypeStruct((2**31, 2**31), jnp.bfloat16)}) == 48 + 2**63
    )


def test_parameters_and_their_gradient(monkeypatch):
    model = ["flatten", {"dense": 2**15}, {"dense": 3}]  # 16 * 2**15 + 2**15 + 3 * 2**15 + 3 numbers
    exact = 2 * 4 * (20 * 2**15 + 3)
    assert refused(model, exact - 1, monkeypatch, optimizer={"sgd": 0.1}) == (
        "model: parameters with their gradient take 5 MiB, more than the 5 MiB of memory that there are; "
        "the largest is dense1/kernel, (16, 32768)"
    )
    checked(model, exact, monkeypatch, optimizer={"sgd": 0.1})


def test_the_state_of_the_optimizer(monkeypatch):
    model = ["flatten", {"dense": 3}]  # 51 numbers
    text = refused(model, 2000, monkeypatch, optimizer={"lbfgs": {"memory_size": 1000}})
    assert text.startswith("optimizer: its state takes ")
    assert text.endswith(" KiB, more than the 1.95 KiB of memory that there are")


def test_the_output_of_a_layer(monkeypatch):
    model = [{"serial": [{"pad": 500}, "global_avg_pool"]}, {"dense": 3}]
    exact = 8 * 1004 * 1004 * 4
    assert refused(model, exact - 1, monkeypatch) == (
        "model: serial1/pad1: the output (8, 1004, 1004, 1) of a batch takes 30.8 MiB, "
        "more than the 30.8 MiB of memory that there are"
    )
    checked(model, exact, monkeypatch)


def test_the_table_of_a_metric(monkeypatch):
    text = refused(["flatten", {"dense": 3}], MIB, monkeypatch, metrics=["accuracy", {"confusion": 1000}])
    assert text == "metrics.1: confusion counts in 3.81 MiB, more than the 1 MiB of memory that there are"


def test_a_run_is_refused_before_anything_is_written(tmp_path):
    from fnn.commands.train import train
    from fnn.training import RunFolder

    experiment = check({"data": DATA, "model": ["flatten", {"dense": 2**31 - 1}, {"dense": 3}]})
    with pytest.raises(ConfigError, match="model: parameters with their gradient take 320 GiB, more than"):
        train(experiment, folder=lambda: RunFolder.create(tmp_path / "out", "x"))
    assert not (tmp_path / "out").exists()
