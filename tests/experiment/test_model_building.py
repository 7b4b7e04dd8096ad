"""fnn.experiment.model: lists and names of a config become layers."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.experiment import build_model
from fnn.registry import registry

IMAGE, VECTOR = (2, 8, 8, 3), (2, 5)


def made(config, shape=VECTOR):
    """The layer, the params and the state of what a config describes."""
    layer = build_model(config)
    params, state = layer.init(jax.random.key(0), jnp.zeros(shape))
    return layer, params, state


def programs(layer, shape):
    """What the layer's two functions compute, as text: equal text, equal values to the bit."""
    x, key = jax.ShapeDtypeStruct(shape, jnp.float32), jax.random.key(0)
    params, state = jax.eval_shape(layer.init, key, x)
    init = jax.make_jaxpr(lambda k: layer.init(k, x))(key)
    apply = jax.make_jaxpr(lambda p, s, v, k: layer.apply(p, s, v, key=k, train=True))(params, state, x, key)
    return fnn.paths({"params": params, "state": state}), *(
        re.sub(r" at 0x\w+", "", str(p)) for p in (init, apply)
    )


def equal(config, layer, shape=VECTOR):
    """The config's layer is the one written in Python: same paths, same shapes, same computation."""
    for mine, wanted in zip(programs(build_model(config), shape), programs(layer, shape), strict=True):
        assert mine == wanted


def refused(config):
    with pytest.raises(ConfigError) as caught:
        build_model(config)
    return caught.value


CONV = {"conv": {"features": 3, "kernel": 3}}


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (["relu"], fnn.serial(fnn.relu)),
        ("relu", fnn.relu),
        ([], fnn.serial()),
        ({"dense": 4}, fnn.dense(4)),
        ({"dense": {"features": 4, "bias": False}}, fnn.dense(4, bias=False)),
        ([{"dense": 4}, "tanh", {"dense": 2}], fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))),
        ([["relu", {"dense": 4}], "tanh"], fnn.serial(fnn.serial(fnn.relu, fnn.dense(4)), fnn.tanh)),
        ([{"leaky_relu": 0.2}], fnn.serial(fnn.leaky_relu(0.2))),
        ({"gelu": False}, fnn.gelu(approximate=False)),
        ({"leaky_relu": 0.0}, fnn.leaky_relu(0.0)),
        ({"dropout": 0}, fnn.dropout(0.0)),
        (["gelu", {"elu": None}, {"relu": {}}], fnn.serial(fnn.gelu(), fnn.elu(), fnn.relu)),
        ({"linear": 4}, fnn.linear(4)),
        ("linear", fnn.linear()),
        ({"mlp": [4, 2]}, fnn.mlp([4, 2])),
        ({"mlp": {"features": [4, 2], "activation": "tanh"}}, fnn.mlp([4, 2], activation=fnn.tanh)),
        (
            {"mlp": {"features": [4, 2], "activation": {"leaky_relu": 0.5}}},
            fnn.mlp([4, 2], activation=fnn.leaky_relu(0.5)),
        ),
        (
            {"mlp": {"features": [4, 2], "activation": ["tanh", "relu"]}},
            fnn.mlp([4, 2], activation=fnn.serial(fnn.tanh, fnn.relu)),
        ),
        ({"residual": [{"dense": 5}, "relu"]}, fnn.residual(fnn.serial(fnn.dense(5), fnn.relu))),
        ({"residual": {"body": {"dense": 5}}}, fnn.residual(fnn.dense(5))),
        ({"residual": {"body": {"dense": 5}, "skip": None}}, fnn.residual(fnn.dense(5))),
        ({"residual": {"body": {"dense": 4}, "skip": {"dense": 4}}},
         fnn.residual(fnn.dense(4), fnn.dense(4))),
        (
            {"residual": {"body": [{"dense": 4}], "skip": [{"dense": 4}]}},
            fnn.residual(fnn.serial(fnn.dense(4)), fnn.serial(fnn.dense(4))),
        ),
        ({"concat": ["relu", {"dense": 4}]}, fnn.concat(fnn.relu, fnn.dense(4))),
        ({"concat": {"left": "relu", "right": {"dense": 4}}}, fnn.concat(left=fnn.relu, right=fnn.dense(4))),
        ({"concat": {"branches": ["relu"], "right": "tanh"}}, fnn.concat(fnn.relu, right=fnn.tanh)),
        ({"add": [{"dense": 4}, [{"dense": 4}, "relu"]]},
         fnn.add(fnn.dense(4), fnn.serial(fnn.dense(4), fnn.relu))),
        ({"serial": {"stem": {"dense": 4}, "act": "relu"}}, fnn.serial(stem=fnn.dense(4), act=fnn.relu)),
        ({"repeat": {"layer": {"dense": 5}, "n": 3}}, fnn.repeat(fnn.dense(5), 3)),
        (
            {"repeat": {"layer": [{"dense": 5}, "relu"], "n": 2}},
            fnn.repeat(fnn.serial(fnn.dense(5), fnn.relu), 2),
        ),
        ({"remat": [{"dense": 4}, "relu"]}, fnn.remat(fnn.serial(fnn.dense(4), fnn.relu))),
        ([{"dense": {"features": 4, "name": "stem"}}, "relu"],
         fnn.serial(fnn.named("stem", fnn.dense(4)), fnn.relu)),
        ([{"relu": {"name": "act"}}, {"dense": 2}], fnn.serial(fnn.named("act", fnn.relu), fnn.dense(2))),
        ([{"mlp": {"features": [4], "name": "net"}}], fnn.serial(fnn.named("net", fnn.mlp([4])))),
        ([{"dropout": 0.5}, {"dropout": {"rate": 0.5}}], fnn.serial(fnn.dropout(0.5), fnn.dropout(0.5))),
    ],
)  # fmt: skip
def test_a_config_is_the_layer_written_in_python(config, layer):
    equal(config, layer)


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (CONV, fnn.conv(3, 3)),
        ({"conv": {"features": 4, "kernel": [3, 5], "stride": [1, 2], "padding": "VALID", "groups": 1}},
         fnn.conv(4, (3, 5), stride=(1, 2), padding="VALID")),
        ({"conv": {"features": 4, "kernel": 3, "padding": [[1, 1], [0, 2]], "dilation": 2}},
         fnn.conv(4, 3, padding=((1, 1), (0, 2)), dilation=2)),
        ([{"max_pool": 2}, "batch_norm", "global_avg_pool"],
         fnn.serial(fnn.max_pool(2), fnn.batch_norm(), fnn.global_avg_pool)),
        ([{"local_conv": {"features": 2, "kernel": 3, "share": [2, 2]}}],
         fnn.serial(fnn.local_conv(2, 3, share=(2, 2)))),
        ([{"reshape": [4, 48]}, {"reshape": {"shape": [-1]}}],
         fnn.serial(fnn.reshape(4, 48), fnn.reshape(-1))),
        ({"cnn": {"features": [4, 6], "norm": True, "activation": "tanh"}},
         fnn.cnn([4, 6], norm=True, activation=fnn.tanh)),
        ({"residual": [CONV, "batch_norm", "relu"]},
         fnn.residual(fnn.serial(fnn.conv(3, 3), fnn.batch_norm(), fnn.relu))),
        ({"repeat": {"layer": {"residual": [CONV]}, "n": 2}},
         fnn.repeat(fnn.residual(fnn.serial(fnn.conv(3, 3))), 2)),
    ],
)  # fmt: skip
def test_layers_of_pictures(config, layer):
    equal(config, layer, IMAGE)


def test_unnamed_layers_get_their_numbers_and_named_ones_their_names():
    model, params, _ = made(
        [CONV, {"conv": {"features": 3, "kernel": 1, "name": "point"}}, "relu", CONV], IMAGE
    )
    assert [name for name, _ in model.children] == ["conv1", "point", "relu1", "conv2"]
    assert set(params) == {"conv1", "point", "conv2"}


def test_every_registered_layer_that_needs_no_argument_is_known_by_its_bare_name():
    import inspect

    for name, entry in registry["layer"].items():
        if not isinstance(entry, fnn.Layer):
            parameters = inspect.signature(entry).parameters.values()
            if any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters):
                continue
        assert isinstance(build_model(name), fnn.Layer), name


# ---------------------------------------------------------------- initialisers


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("ones", np.ones((300, 200))),
        ("zeros", np.zeros((300, 200))),
        ({"constant": 0.5}, np.full((300, 200), 0.5)),
        ({"constant": {"value": -2.0}}, np.full((300, 200), -2.0)),
    ],
)
def test_initialisers_with_known_values(choice, values):
    _, params, _ = made({"dense": {"features": 200, "kernel_init": choice, "bias_init": "ones"}}, (1, 300))
    np.testing.assert_array_equal(params["kernel"], values)
    np.testing.assert_array_equal(params["bias"], np.ones(200))


@pytest.mark.parametrize(
    ("choice", "std"),
    [
        ({"normal": {"stddev": 0.01}}, 0.01),
        ({"normal": 0.03}, 0.03),
        ("he_normal", (2 / 300) ** 0.5),
        ("lecun_normal", (1 / 300) ** 0.5),
        ("glorot_uniform", (2 / 500) ** 0.5),
        ({"uniform": {"scale": 0.6}}, 0.6 / 12**0.5),
        ({"variance_scaling": {"scale": 3.0, "mode": "fan_out", "distribution": "normal"}}, (3 / 200) ** 0.5),
    ],
)
def test_initialisers_with_known_spread(choice, std):
    _, params, _ = made({"dense": {"features": 200, "kernel_init": choice}}, (1, 300))
    np.testing.assert_allclose(np.std(params["kernel"]), std, rtol=0.02)  # 60,000 draws


@pytest.mark.parametrize(
    ("choice", "path", "message"),
    [
        ("he_norml", (), "unknown initializer 'he_norml'; nearest: he_normal"),
        ({"norml": 0.1}, (), "unknown initializer 'norml'; nearest: normal"),
        ({"normal": {"std": 0.1}}, ("normal", "std"), "unknown argument of normal; nearest: stddev"),
        ({"normal": {"stddev": "wide"}}, ("normal",), "'wide'"),
        ({"variance_scaling": {"scale": 1.0, "mode": "fan", "distribution": "normal"}}, (), "fan"),
        ({"constant": {}}, ("constant",), "constant needs 'value'"),
        (3, (), "got 3"),
        (None, (), "got null"),
    ],
)
def test_a_wrong_initialiser_is_refused_at_its_place(choice, path, message):
    error = refused([{"dense": {"features": 4, "kernel_init": choice}}])
    place = ("model", 0, "dense", "kernel_init", *path)
    assert error.path[: len(place)] == place
    assert message in str(error)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (["rleu"], ("model", 0), "unknown layer 'rleu'; nearest: relu"),
        ([{"covn": {"features": 3}}], ("model", 0, "covn"), "unknown layer 'covn'; nearest: conv"),
        ("linaer", ("model",), "unknown layer 'linaer'; nearest: linear"),
        ([{"conv": {"features": 3, "kernal": 3}}], ("model", 0, "conv", "kernal"),
         "unknown argument of conv; nearest: kernel"),
        ([{"dense": {"feature": 3}}], ("model", 0, "dense", "feature"),
         "unknown argument of dense; nearest: features"),
        ([{"conv": 8}], ("model", 0, "conv"), "conv needs 'kernel'"),
        (["dense"], ("model", 0), "dense needs 'features'"),
        (["relu", {"residual": {}}], ("model", 1, "residual"), "residual needs 'body'"),
        ([{"repeat": "relu"}], ("model", 0, "repeat"), "repeat needs 'n'"),
        ([{"residual": {"boddy": "relu"}}], ("model", 0, "residual", "boddy"), "nearest: body"),
        ([{"dense": "10"}], ("model", 0, "dense"), "expected a valid integer, got '10'"),
        ([{"dense": True}], ("model", 0, "dense"), "expected a valid integer, got true"),
        ([{"dense": 10.0}], ("model", 0, "dense"), "expected a valid integer, got 10.0"),
        ([{"dense": {"features": "10"}}], ("model", 0, "dense", "features"), "a valid integer, got '10'"),
        ([{"dense": {"features": 3, "bias": 1}}], ("model", 0, "dense", "bias"), "a valid boolean, got 1"),
        ([{"dense": -1}], ("model", 0, "dense"), "features must be a positive whole number, got -1"),
        ([{"conv": {"features": 3, "kernel": [3, "3"]}}], ("model", 0, "conv", "kernel"), 'got [3, "3"]'),
        ([{"dropout": "half"}], ("model", 0, "dropout"), "expected a valid number, got 'half'"),
        ([{"dropout": 1.5}], ("model", 0, "dropout"), "got 1.5"),
        ([{"relu": 3}], ("model", 0, "relu"), "relu takes no arguments"),
        ([{"relu": {"alpha": 3}}], ("model", 0, "relu"), "relu takes no arguments"),
        ([3], ("model", 0), "expected a name or one {name: arguments}, got 3"),
        ([None], ("model", 0), "expected a name or one {name: arguments}, got null"),
        ([{}], ("model", 0), "expected a name or one {name: arguments}, got {}"),
        ([{"dense": 3, "name": "a"}], ("model", 0), "expected one name with its arguments, got 2: dense,"),
        (["relu", {"mlp": 4}], ("model", 1, "mlp"), "got 4"),
        ({"mlp": {"features": []}}, ("model", "mlp"), "mlp: features must hold a width or more"),
        ({"mlp": {"features": [4], "activation": "rleu"}}, ("model", "mlp", "activation"),
         "unknown layer 'rleu'; nearest: relu"),
        ([{"relu": {"name": "a/b"}}], ("model", 0, "relu", "name"), "'a/b' cannot name a layer"),
        ([{"relu": {"name": 3}}], ("model", 0, "relu", "name"), "expected a valid string, got 3"),
        ([{"relu": {"name": "a"}}, {"tanh": {"name": "a"}}], ("model",), "two children named 'a'"),
        ([{"repeat": {"layer": "relu", "n": 0}}], ("model", 0, "repeat"),
         "n must be a positive whole number, got 0"),
        ([{"concat": []}], ("model", 0, "concat"), "concat needs a layer or more"),
    ],
)  # fmt: skip
def test_a_wrong_layer_is_refused_at_its_place(config, path, message):
    error = refused(config)
    assert error.path == path
    assert message in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ([{"residual": {"body": [{"residual": {"body": ["covn"]}}]}}],
         ("model", 0, "residual", "body", 0, "residual", "body", 0)),
        ([{"residual": ["relu", "covn"]}], ("model", 0, "residual", 1)),
        ([{"concat": ["relu", "covn"]}], ("model", 0, "concat", 1)),
        ([{"concat": {"branches": ["relu", "covn"]}}], ("model", 0, "concat", "branches", 1)),
        ([{"concat": {"left": "covn"}}], ("model", 0, "concat", "left")),
        ([["relu", ["covn"]]], ("model", 0, 1, 0)),
        ([{"repeat": {"layer": ["covn"], "n": 2}}], ("model", 0, "repeat", "layer", 0)),
        ([{"mlp": {"features": [3], "activation": ["covn"]}}], ("model", 0, "mlp", "activation", 0)),
    ],
)  # fmt: skip
def test_a_wrong_layer_deep_inside_is_refused_at_its_place(config, path):
    error = refused(config)
    assert error.path == path
    assert "unknown layer 'covn'; nearest: conv" in str(error)
