"""The pair of functions, its names, keys and errors, and the way into a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer, LayerError, check_name, inside, join, leaf, name_key, need_key, static_train

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((4, 6, 6, 2), np.float32)


def nested() -> Layer:
    block = fnn.serial(fnn.conv(3, 3), fnn.named("norm", fnn.batch_norm()), fnn.relu)
    return fnn.serial(fnn.conv(2, 1), block=block, skip=fnn.residual(fnn.conv(3, 1)), head=fnn.flatten)


def test_a_layer_unpacks_as_a_pair_of_functions() -> None:
    layer = fnn.dense(3)
    init, apply = layer
    assert init is layer.init and apply is layer.apply
    params, state = init(KEY, X[:, 0, 0])
    y, _ = apply(params, state, X[:, 0, 0])
    np.testing.assert_allclose(y, X[:, 0, 0] @ np.asarray(params["kernel"]), rtol=1e-5)


def test_a_layer_that_is_called_says_how_to_apply_it() -> None:
    with pytest.raises(TypeError, match=r"relu is a layer.*layer\.apply\(params, state, x\)"):
        fnn.relu(X)


def test_layers_are_values_that_compare_by_identity() -> None:
    assert fnn.relu == fnn.relu
    assert fnn.dense(3) != fnn.dense(3)
    assert len({fnn.relu, fnn.relu, fnn.tanh}) == 2


def test_stateless_lifts_a_function_and_passes_the_state_on() -> None:
    layer = fnn.stateless(
        "triple", lambda params, x: params["scale"] * x, lambda key, x: {"scale": jnp.asarray(3.0)}
    )
    params, state = layer.init(KEY, X)
    assert (params, state) == ({"scale": 3.0}, {})
    passed = {"mean": 1}
    y, after = layer.apply(params, passed, X, key=KEY, train=True)
    np.testing.assert_array_equal(y, 3 * X)
    assert after is passed
    assert layer.kind == "triple"


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a b", "a*", "@output", "a\n"])
def test_names_that_cannot_stand_in_a_path_are_refused(name: str) -> None:
    with pytest.raises(LayerError, match="cannot name a layer: use letters, digits, '_' and '-'") as error:
        fnn.named(name, fnn.relu)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["stem", "Conv_1", "3x3", "a-b"])
def test_other_names_are_taken(name: str) -> None:
    assert check_name(name) == name
    layer = fnn.named(name, fnn.relu)
    assert (layer.name, layer.kind, fnn.relu.name) == (name, "relu", None)
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], np.maximum(X, 0))


def test_an_error_has_its_path_in_front() -> None:
    assert str(LayerError("wrong")) == "wrong"
    assert str(LayerError("wrong", "features/conv2")) == "features/conv2: wrong"
    assert isinstance(LayerError("wrong"), ValueError)


def test_inside_puts_a_name_before_the_path_of_a_layer_error_alone() -> None:
    with pytest.raises(LayerError) as error, inside("features"), inside("conv2"):
        raise LayerError("wrong")
    assert str(error.value) == "features/conv2: wrong"
    with pytest.raises(KeyError, match=r"^'wrong'$"), inside("features"):
        raise KeyError("wrong")


@pytest.mark.parametrize(
    ("path", "name", "joined"), [("a", "b", "a/b"), ("", "b", "b"), ("a", "", "a"), ("", "", "")]
)
def test_join(path: str, name: str, joined: str) -> None:
    assert join(path, name) == joined


def test_map_layers_visits_children_before_containers_and_all_by_path() -> None:
    seen: list[tuple[str, str]] = []

    def note(path: str, layer: Layer) -> Layer:
        seen.append((path, layer.kind))
        return layer

    fnn.map_layers(note, nested())
    assert seen == [
        ("conv1", "conv"),
        ("block/conv1", "conv"),
        ("block/norm", "batch_norm"),
        ("block/relu1", "relu"),
        ("block", "serial"),
        ("skip/body", "conv"),
        ("skip", "residual"),
        ("head", "flatten"),
        ("", "serial"),
    ]


def test_map_layers_with_the_identity_rebuilds_the_same_model() -> None:
    model = nested()
    again = fnn.map_layers(lambda path, layer: layer, model)
    made, remade = model.init(KEY, X), again.init(KEY, X)
    assert fnn.digest(*made) == fnn.digest(*remade)
    (y, state), (other, after) = (m.apply(*made, X, train=True) for m in (model, again))
    np.testing.assert_array_equal(y, other)
    assert fnn.digest({}, state) == fnn.digest({}, after)


def test_map_layers_keeps_names_and_kinds() -> None:
    inner = fnn.named("inner", fnn.serial(fnn.relu))
    assert fnn.map_layers(lambda path, layer: layer, inner).name == "inner"
    kind = fnn.map_layers(lambda path, layer: layer, fnn.separable_conv(3, 3)).kind
    assert kind == "separable_conv"


def test_map_layers_gives_containers_their_new_children() -> None:
    def doubled(path: str, layer: Layer) -> Layer:
        return fnn.serial(layer, fnn.fn(lambda x: 2 * x)) if path == "block/relu1" else layer

    model = fnn.serial(block=fnn.serial(fnn.relu), skip=fnn.residual(fnn.relu))
    changed = fnn.map_layers(doubled, model)
    y, _ = changed.apply({}, {}, X)
    np.testing.assert_allclose(y, 4 * np.maximum(X, 0), rtol=1e-6)
    np.testing.assert_allclose(model.apply({}, {}, X)[0], 2 * np.maximum(X, 0), rtol=1e-6)


def test_the_key_of_a_child_is_made_of_its_name_alone() -> None:
    # blake2b of the name, 4 bytes, big-endian: the same in every process and on every machine
    expected = jax.random.fold_in(KEY, 0x5DB0F3D6)
    assert jnp.array_equal(jax.random.key_data(name_key(KEY, "conv1")), jax.random.key_data(expected))
    names = ["conv1", "conv2", "dense1", "head", "layer", "body", "skip"]
    drawn = {jax.random.key_data(name_key(KEY, name)).tobytes() for name in names}
    assert len(drawn) == len(names)


def test_spec_keeps_structure_shapes_and_dtypes() -> None:
    tree = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": [jnp.arange(4)]}
    assert fnn.spec(tree) == {
        "a": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16),
        "b": [jax.ShapeDtypeStruct((4,), jnp.int32)],
    }


def test_leaf_says_what_is_there_instead() -> None:
    assert leaf({"kernel": 1}, "kernel") == 1
    with pytest.raises(
        LayerError, match=r"^expected 'kernel' among its parameters and state, got weight, bias$"
    ):
        leaf({"weight": 1, "bias": 2}, "kernel")
    with pytest.raises(LayerError, match=r"got nothing$"):
        leaf({}, "kernel")


def test_need_key_shows_the_correct_call() -> None:
    assert need_key(KEY, "dropout") is KEY
    with pytest.raises(LayerError) as error:
        need_key(None, "dropout")
    assert str(error.value) == (
        "dropout draws at random in training and needs a key: "
        "apply(params, state, x, key=jax.random.key(0), train=True)"
    )


def test_static_train_shows_how_to_keep_it_static() -> None:
    assert static_train(True) is True
    assert static_train(False) is False
    with pytest.raises(LayerError, match=r'jax\.jit\(apply, static_argnames="train"\)'):
        jax.jit(static_train)(True)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda layer, p, s: jax.jit(layer.apply)(p, s, X, train=True), id="jit"),
        pytest.param(
            lambda layer, p, s: jax.vmap(lambda t: layer.apply(p, s, X, train=t))(jnp.ones(2, bool)),
            id="vmap",
        ),
    ],
)
@pytest.mark.parametrize(
    "layer",
    [
        fnn.serial(fnn.relu),
        fnn.residual(fnn.relu),
        fnn.concat(fnn.relu),
        fnn.add(fnn.relu),
        fnn.repeat(fnn.relu, 2),
        fnn.remat(fnn.relu),
        fnn.dropout(0.5),
        fnn.spatial_dropout(0.5),
        fnn.batch_norm(),
        fnn.capture(fnn.serial(fnn.relu)),
    ],
    ids=lambda layer: layer.kind,
)
def test_a_traced_train_is_refused(layer: Layer, run: Callable[..., Any]) -> None:
    params, state = layer.init(KEY, X)
    with pytest.raises(
        LayerError, match=r"train is a Python bool, but was traced: jax\.jit\(apply, static_argnames"
    ):
        run(layer, params, state)


def test_operations_carry_the_path_of_their_layer() -> None:
    model = fnn.serial(block=fnn.serial(fnn.conv(3, 3), fnn.relu), skip=fnn.residual(fnn.dense(3)))
    params, state = model.init(KEY, X)
    text = jax.jit(model.apply).lower(params, state, X).as_text(debug_info=True)
    for scope in ("block/conv1/conv_", "block/relu1/", "skip/body/dot_general"):
        assert scope in text


def test_scanned_operations_carry_the_path_of_their_layer() -> None:
    model = fnn.serial(fnn.repeat(fnn.serial(fnn.dense(2)), 3))
    params, state = model.init(KEY, X)
    text = jax.jit(model.apply).lower(params, state, X).as_text(debug_info=True)
    assert "repeat1/layer/" in text
    assert "dense1/dot_general" in text


def test_numpy_input_is_what_jax_makes_of_it() -> None:
    y, _ = fnn.relu.apply({}, {}, X.astype(np.float64))
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, np.maximum(X, 0))
