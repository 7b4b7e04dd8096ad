"""The one registry: what is known by which name, and what is refused."""

from __future__ import annotations

from typing import Any, get_args

import jax.numpy as jnp
import pytest

import fnn
from fnn import models
from fnn.layer import Layer
from fnn.registry import Group, register, registry


def test_a_function_is_known_by_its_own_name_and_comes_back_as_it_is() -> None:
    def bottleneck(features: int) -> Layer:
        return fnn.dense(features)

    assert register(bottleneck) is bottleneck
    assert registry["layer"]["bottleneck"] is bottleneck


def test_a_layer_value_is_known_by_its_kind() -> None:
    halve = fnn.stateless("halve", lambda params, x: x / 2)
    assert register(halve) is halve
    assert registry["layer"]["halve"] is halve


@pytest.mark.parametrize("group", get_args(Group))
def test_every_group_takes_its_own(group: Any) -> None:
    @register(group=group)
    def mine() -> None: ...

    assert registry[group]["mine"] is mine
    assert [g for g in registry if "mine" in registry[g]] == [group]


def test_the_groups_are_those_of_the_type() -> None:
    assert list(registry) == list(get_args(Group))


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(
        ValueError, match="group must be one of layer, source, augment, loss, metric, logger, got 'layers'"
    ):
        register(group="layers")(lambda: None)  # type: ignore[call-overload]


def test_a_name_of_something_else_is_taken() -> None:
    def dense() -> Layer:
        return fnn.relu

    with pytest.raises(ValueError, match=r"register: layer 'dense' is taken by fnn\.layers\.dense\.dense"):
        register(dense)
    assert registry["layer"]["dense"] is fnn.dense
    register(group="loss")(dense)  # free in another group


def test_the_name_of_another_layer_value_is_taken_too() -> None:
    mine = fnn.stateless("relu", lambda params, x: jnp.maximum(x, 0.1))
    with pytest.raises(ValueError, match="register: layer 'relu' is taken"):
        register(mine)
    assert registry["layer"]["relu"] is fnn.relu


def test_registering_again_is_harmless_and_a_redefinition_replaces() -> None:
    register(fnn.dense)
    assert registry["layer"]["dense"] is fnn.dense

    def define() -> Any:  # as a notebook's cell does it when it runs twice
        @register
        def own(features: int) -> Layer:
            return fnn.dense(features)

        return own

    first, second = define(), define()
    assert first is not second
    assert registry["layer"]["own"] is second


def test_every_public_layer_and_model_is_registered_under_its_public_name() -> None:
    from fnn import layers

    no_layers = {"INITIALIZERS", "initializer"}
    for name in {
        *layers.__all__,
        *models.__all__,
        "serial",
        "residual",
        "add",
        "concat",
        "repeat",
        "remat",
    } - no_layers:
        assert registry["layer"][name] is getattr(fnn, name), name


@pytest.mark.parametrize("name", sorted(registry["layer"]))
def test_a_registered_value_has_the_kind_that_it_is_known_by(name: str) -> None:
    item = registry["layer"][name]
    assert (item.kind if isinstance(item, Layer) else item.__name__) == name
    assert isinstance(item, Layer) or item.__doc__
