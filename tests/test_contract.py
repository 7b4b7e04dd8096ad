"""Every law over every registered layer; and for every law a layer that breaks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer, need_key
from fnn.models.densenet import densenet
from fnn.models.mobilenet import mobilenet
from fnn.registry import registry
from fnn.testing import LAWS, check_layer

BUILT_IN = frozenset(registry["layer"])  # read before any test or doctest registers its own


class Case(NamedTuple):
    """A layer and the shape and dtype of an input to it."""

    layer: Layer
    shape: tuple[int, ...]
    dtype: Any = np.float32


ROWS, PICTURES = (3, 4), (2, 5, 4, 2)
BLOCK = fnn.serial(fnn.conv(2, 3), fnn.batch_norm(), fnn.relu, fnn.dropout(0.25))

CASES: dict[str, dict[str, Case]] = {
    # combinators
    "serial": {
        "mixed": Case(fnn.serial(BLOCK, fnn.flatten, head=fnn.dense(3)), (2, 3, 3, 1)),
        "empty": Case(fnn.serial(), ROWS),
    },
    "residual": {
        "body": Case(fnn.residual(fnn.serial(fnn.dense(4), fnn.tanh)), ROWS),
        "skip": Case(fnn.residual(fnn.serial(fnn.dense(3), fnn.batch_norm()), fnn.dense(3)), ROWS),
        "activation": Case(fnn.residual(fnn.serial(fnn.dense(4), fnn.batch_norm()), None, fnn.relu), ROWS),
    },
    "add": {"add": Case(fnn.add(fnn.dense(3), fnn.serial(fnn.dropout(0.5), fnn.dense(3))), ROWS)},
    "concat": {"concat": Case(fnn.concat(fnn.dense(3), fnn.batch_norm(), raw=fnn.relu), ROWS)},
    "repeat": {
        "scanned": Case(
            fnn.repeat(fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.dropout(0.25), fnn.tanh), 2), ROWS
        ),
        "unrolled": Case(fnn.repeat(fnn.serial(fnn.conv(2, 3), fnn.batch_norm()), 2), (2, 3, 3, 2)),
    },
    "remat": {"remat": Case(fnn.remat(fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.dropout(0.25))), ROWS)},
    # activations
    **{
        name: {"value": Case(getattr(fnn, name), ROWS)}
        for name in (
            "relu", "relu6", "sigmoid", "tanh", "silu", "softplus", "softsign", "selu", "log_sigmoid",
            "mish", "hard_tanh", "hard_sigmoid", "hard_silu",
        )
    },
    "leaky_relu": {"default": Case(fnn.leaky_relu(), ROWS)},
    "prelu": {"default": Case(fnn.prelu(), PICTURES)},
    "elu": {"default": Case(fnn.elu(), ROWS)},
    "celu": {"alpha": Case(fnn.celu(2.0), ROWS)},
    "gelu": {"tanh": Case(fnn.gelu(), ROWS), "exact": Case(fnn.gelu(approximate=False), ROWS)},
    "softmax": {"default": Case(fnn.softmax(), ROWS), "axis": Case(fnn.softmax(1), (2, 3, 4))},
    "log_softmax": {"default": Case(fnn.log_softmax(), ROWS)},
    # products with weights
    "dense": {
        "rows": Case(fnn.dense(3), ROWS),
        "space": Case(fnn.dense(3), PICTURES),
        "no bias": Case(fnn.dense(3, bias=False), ROWS),
    },
    "conv": {
        "1-D": Case(fnn.conv(3, 3), (2, 6, 2)),
        "2-D": Case(fnn.conv(3, 3), PICTURES),
        "3-D": Case(fnn.conv(2, (2, 3, 1), stride=(1, 2, 1)), (2, 3, 4, 2, 1)),
        "groups": Case(fnn.conv(4, 3, groups=2, bias=False, padding="VALID"), PICTURES),
        "dilated": Case(fnn.conv(3, 2, dilation=2, stride=2, padding=((2, 1), (0, 1))), PICTURES),
    },
    "depthwise_conv": {
        "default": Case(fnn.depthwise_conv(3), PICTURES),
        "multiplier": Case(fnn.depthwise_conv(2, multiplier=2, stride=2, bias=False), PICTURES),
    },
    "conv_transpose": {
        "default": Case(fnn.conv_transpose(3, 3, stride=2), (2, 3, 2, 2)),
        "1-D": Case(fnn.conv_transpose(2, 4, stride=2, padding=1, bias=False), (2, 4, 2)),
    },
    "separable_conv": {"default": Case(fnn.separable_conv(3, 3), PICTURES)},
    "local_conv": {
        "default": Case(fnn.local_conv(3, 2, stride=2), PICTURES),
        "no bias": Case(fnn.local_conv(2, 3, padding="VALID", bias=False), PICTURES),
        "shared": Case(fnn.local_conv(3, 2, share=(2, 2)), PICTURES),
    },
    # noise and norms
    "dropout": {"default": Case(fnn.dropout(0.3), ROWS), "none": Case(fnn.dropout(0.0), ROWS)},
    "spatial_dropout": {"default": Case(fnn.spatial_dropout(0.4), PICTURES)},
    "stochastic_depth": {"default": Case(fnn.stochastic_depth(0.4), PICTURES)},
    "batch_norm": {
        "rows": Case(fnn.batch_norm(), ROWS),
        "space": Case(fnn.batch_norm(0.5, 1e-3), PICTURES),
        "bare": Case(fnn.batch_norm(scale=False, bias=False), ROWS),
    },
    "layer_norm": {"default": Case(fnn.layer_norm(), PICTURES)},
    "layer_scale": {"default": Case(fnn.layer_scale(0.5), PICTURES)},
    "group_norm": {"default": Case(fnn.group_norm(2), (2, 3, 2, 4)), "rows": Case(fnn.group_norm(2), ROWS)},
    "local_response_norm": {"default": Case(fnn.local_response_norm(3, alpha=0.5), PICTURES)},
    # pooling and shapes
    "max_pool": {
        "default": Case(fnn.max_pool(2), PICTURES),
        "overlap": Case(fnn.max_pool(3, 2, "SAME"), PICTURES),
        "integers": Case(fnn.max_pool(2), PICTURES, np.int32),
    },
    "avg_pool": {
        "default": Case(fnn.avg_pool(2), PICTURES),
        "overlap": Case(fnn.avg_pool((3, 2), 1, "SAME"), PICTURES),
    },
    "adaptive_avg_pool": {
        "default": Case(fnn.adaptive_avg_pool((2, 3)), PICTURES),
        "repeated": Case(fnn.adaptive_avg_pool(6), (2, 4, 2)),
    },
    "global_avg_pool": {"value": Case(fnn.global_avg_pool, PICTURES)},
    "global_max_pool": {"value": Case(fnn.global_max_pool, PICTURES)},
    "upsample": {
        "nearest": Case(fnn.upsample(2), PICTURES),
        "bilinear": Case(fnn.upsample((2, 3), "bilinear"), PICTURES),
        "bicubic": Case(fnn.upsample(2, "bicubic"), (2, 3, 1)),
    },
    "flatten": {"value": Case(fnn.flatten, PICTURES), "integers": Case(fnn.flatten, PICTURES, np.int32)},
    "reshape": {"default": Case(fnn.reshape(-1, 4), PICTURES)},
    "transpose": {"default": Case(fnn.transpose(3, 1, 2), PICTURES)},
    "pad": {"default": Case(fnn.pad(1), PICTURES), "value": Case(fnn.pad(1, -1.0), PICTURES)},
    "pixel_shuffle": {"default": Case(fnn.pixel_shuffle(2), (2, 2, 3, 4))},
    "fn": {"square": Case(fnn.fn(jnp.square), ROWS)},
    # models
    "linear": {"default": Case(fnn.linear(3), PICTURES), "no bias": Case(fnn.linear(bias=False), ROWS)},
    "mlp": {"default": Case(fnn.mlp([5, 3], activation=fnn.tanh, dropout_rate=0.25), ROWS)},
    "cnn": {"default": Case(fnn.cnn([2, 3], classes=3, norm=True, dropout_rate=0.25), (2, 4, 4, 1))},
    "lenet": {"default": Case(fnn.lenet(3, features=[2], hidden=4, dropout_rate=0.25), (2, 4, 4, 1))},
    "lenet5": {"default": Case(fnn.lenet5(), (2, 32, 32, 1))},
    "resnet": {"default": Case(fnn.resnet([1], classes=2, width=2), (2, 8, 8, 1))},
    "convnext": {"default": Case(fnn.convnext([2], [4], classes=2, drop_rate=0.5), (2, 8, 8, 1))},
    "mlp_mixer": {"default": Case(fnn.mlp_mixer(1, 4, patch=2, size=4, classes=2), (2, 4, 4, 1))},
}  # fmt: skip

NETWORKS: dict[str, Case] = {
    "alexnet_2012": Case(fnn.alexnet_2012(3, width=1 / 64, dropout_rate=0.25), (2, 67, 67, 1)),
    "vgg11_bn": Case(fnn.vgg11_bn(3, width=1 / 64, dropout_rate=0.25), (2, 32, 32, 1)),
    "squeezenet1_0": Case(fnn.squeezenet1_0(3, width=1 / 16, final_padding=1), (2, 21, 21, 1)),
    "densenet121": Case(densenet((2, 1), 3, 2, 0.25), (2, 9, 9, 1)),
    "mobilenet_v2": Case(mobilenet(((1, 16, 1, 1), (6, 24, 2, 2)), 3, 0.25, 0.25), (2, 9, 9, 1)),
    "srcnn": Case(fnn.srcnn(2, kernels=(3, 1, 3), features=(3, 2)), (2, 4, 3, 1)),
    "fsrcnn": Case(fnn.fsrcnn(2, d=3, s=2, m=1, skip=True), (2, 4, 3, 1)),
    "espcn": Case(fnn.espcn(2, features=(2,), channels=3, skip=True), (2, 4, 3, 3)),
    "vdsr": Case(fnn.vdsr(2, depth=3, features=2), (2, 4, 3, 1)),
    "edsr": Case(fnn.edsr(2, blocks=2, features=2, residual_scaling=0.5), (2, 4, 3, 3)),
}
"""Published networks with few channels: made of the layers above, which keep the laws of values for them."""

SIBLINGS = {
    "alexnet_2012": {"alexnet"},
    "vgg11_bn": {"vgg11", "vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn"},
    "squeezenet1_0": {"squeezenet1_1"},
    "fsrcnn": {"fsrcnn_s"},
    "resnet": {
        *(
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "wide_resnet50_2",
            "wide_resnet101_2",
        ),
        *("cifar_resnet", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        *("preact_resnet", "wide_resnet", "resnet9"),
    },
    "convnext": {"convnext_tiny", "convnext_small", "convnext_base"},
    "mlp_mixer": {"mixer_s16", "mixer_b16", "mixer_l16"},
}
"""Models of the same layers as one above, most in other numbers alone: it keeps the laws for them."""

FORM = ("plain_names", "state_keeps_form", "strict_promotion", "train_keeps_form")
"""The laws that a network can break though none of its layers does, by its names and shapes."""

LARGE = {"serial", "repeat", "cnn", "lenet5", "resnet", "convnext", "mlp_mixer"}
"""Their laws take long; like those of every layer's further cases they are left to the slow tests."""

ALIKE = {
    "relu6",
    "softplus",
    "softsign",
    "selu",
    "log_sigmoid",
    "mish",
    "hard_tanh",
    "hard_sigmoid",
    "hard_silu",
}
"""Functions of JAX, lifted as sigmoid and tanh are: left to the slow tests, too."""


pytestmark = pytest.mark.usefixtures("quick_compiler")


def data(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return values if dtype == np.float32 else np.round(5 * values).astype(dtype)


def test_every_built_in_layer_has_a_case() -> None:
    assert set(CASES).union(NETWORKS, *SIBLINGS.values()) == BUILT_IN
    assert set(SIBLINGS) <= set(CASES) | set(NETWORKS)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(
            name, case, id=f"{name}-{case}", marks=[pytest.mark.slow] if i or name in LARGE | ALIKE else []
        )
        for name, cases in CASES.items()
        for i, case in enumerate(cases)
    ],
)
def test_law(name: str, case: str, law: str) -> None:
    layer, shape, dtype = CASES[name][case]
    LAWS[law](layer, data(shape, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("law", FORM)
@pytest.mark.parametrize("name", NETWORKS)
def test_law_of_networks(name: str, law: str) -> None:
    layer, shape, dtype = NETWORKS[name]
    LAWS[law](layer, data(shape, dtype))


def _stateful(update: Callable[[Any, bool], Any], start: Any = 0.0) -> Layer:
    """The identity, with a number in its state that ``update(number, train)`` moves."""

    def init(key: Any, x: Any) -> Any:
        return {}, {"mean": jnp.asarray(start, jnp.float32)}

    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        return x, {"mean": update(state["mean"], train)}

    return Layer(init, apply)


def _per_channel(forward: Callable[[Any, Any], Any], init: Callable[..., Any] | None = None) -> Layer:
    """``forward(bias, x)`` with a parameter of one number a channel."""
    make = init or (lambda key, x: jnp.zeros(x.shape[-1], jnp.float32))
    return fnn.stateless("broken", lambda p, x: forward(p["bias"], x), lambda key, x: {"bias": make(key, x)})


def _moded(forward: Callable[[Any, Any, bool], Any]) -> Layer:
    """``forward(x, key, train)``."""
    return Layer(
        lambda key, x: ({}, {}),
        lambda p, s, x, *, key=None, train=False: (forward(x, key, train), s),
    )


def _mutating() -> Layer:
    def apply(params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        state["mean"] = state["mean"] + 1.0
        return x, {"mean": state["mean"]}

    return replace(_stateful(lambda mean, train: mean), apply=apply)


def _traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


@jax.custom_jvp
def _wrongly_differentiated(x: Any) -> Any:
    return jnp.sin(x)


@_wrongly_differentiated.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return jnp.sin(primals[0]), tangents[0]


@jax.custom_vjp
def _without_forward_mode(x: Any) -> Any:
    return x


_without_forward_mode.defvjp(lambda x: (x, None), lambda kept, g: (g,))


@jax.custom_batching.custom_vmap
def _wrongly_mapped(x: Any) -> Any:
    return x


@_wrongly_mapped.def_vmap
def _(size: int, mapped: Any, x: Any) -> Any:
    return x + 1.0, mapped[0]


_calls = itertools.count()
_reversing = replace(fnn.serial(fnn.relu, fnn.tanh), rebuild=lambda new: fnn.serial(**dict(reversed(new))))

BROKEN: list[tuple[str, Layer]] = [
    ("jit_equals_eager", _mutating()),
    ("jit_equals_eager", _moded(lambda x, key, train: x + 1.0 if _traced(x) else x)),
    (
        "init_under_jit",
        _per_channel(lambda b, x: x, lambda key, x: jnp.full(4, 1.0 if _traced(key) else 2.0)),
    ),
    ("init_repeats", _per_channel(lambda b, x: x, lambda key, x: jnp.full(4, float(next(_calls))))),
    ("init_reads_shapes", _per_channel(lambda b, x: x, lambda key, x: jnp.mean(x, 0))),
    ("same_key_same_values", _moded(lambda x, key, train: (need_key(key, "x"), x)[1])),
    ("same_key_same_values", _moded(lambda x, key, train: x if key is None else x + jax.random.normal(key))),
    (
        "evaluation_ignores_key",
        _moded(lambda x, key, train: x if key is None else x + jax.random.normal(key)),
    ),
    ("evaluation_keeps_state", _stateful(lambda mean, train: mean + 1.0)),
    ("rows_are_independent", fnn.fn(lambda x: x - jnp.mean(x, 0, keepdims=True))),
    ("rows_are_independent", fnn.fn(lambda x: x + jnp.arange(x.shape[0], dtype=x.dtype)[:, None])),
    ("dtype_follows_input", fnn.fn(lambda x: x.astype(jnp.float32))),
    ("parameters_are_float32", _per_channel(lambda b, x: x, lambda key, x: jnp.zeros(4, x.dtype))),
    ("parameters_are_float32", _per_channel(lambda b, x: x, lambda key, x: jnp.zeros(4, float))),
    ("train_keeps_form", _moded(lambda x, key, train: x[:, :1] if train else x)),
    ("state_keeps_form", _stateful(lambda mean, train: mean.astype(jnp.bfloat16))),
    ("state_keeps_form", _stateful(lambda mean, train: jnp.asarray(1.0))),
    ("plain_names", fnn.stateless("broken", lambda p, x: x, lambda key, x: {"a/b": jnp.zeros(4)})),
    ("plain_names", fnn.stateless("broken", lambda p, x: x, lambda key, x: {"kernel": {}})),
    ("plain_names", fnn.stateless("broken", lambda p, x: x, lambda key, x: {"kernel": [jnp.zeros(4)]})),
    ("strict_promotion", _per_channel(lambda b, x: x + b.astype(x.dtype))),
    ("strict_promotion", _per_channel(lambda b, x: (x + b.reshape(1, -1)).astype(x.dtype))),
    ("rebuilds_as_itself", _reversing),
    ("rebuilds_as_itself", replace(fnn.serial(fnn.relu), rebuild=lambda new: fnn.residual(fnn.relu))),
    ("vmap_over_inputs", fnn.fn(_wrongly_mapped)),
    (
        "vmap_over_params",
        _per_channel(
            lambda b, x: x,
            lambda key, x: jnp.asarray(np.asarray(jax.random.key_data(key)).repeat(2), jnp.float32),
        ),
    ),
    ("scan_carries_state", _stateful(lambda mean, train: jnp.stack([mean, mean]))),
    ("float64_gradients", fnn.fn(_wrongly_differentiated)),
    ("float64_gradients", fnn.fn(_without_forward_mode)),
    ("float64_gradients", fnn.fn(lambda x: jnp.sin(x.astype(jnp.float32)).astype(x.dtype))),
    ("bfloat16_gradients", _per_channel(lambda b, x: x + b.astype(x.dtype).reshape(1, -1))),
]


@pytest.mark.parametrize(
    ("law", "layer"), [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(BROKEN)]
)
def test_law_can_be_broken(law: str, layer: Layer) -> None:
    with pytest.raises(AssertionError, match=f"^{law}: "):
        LAWS[law](layer, data(ROWS))


def test_every_law_can_be_broken() -> None:
    assert {law for law, _ in BROKEN} == set(LAWS)


def test_check_layer_lists_every_broken_law() -> None:
    with pytest.raises(AssertionError) as error:
        check_layer(_moded(lambda x, key, train: x[:1, :1] if train else x * 0.0 + jnp.mean(x)), data(ROWS))
    broken = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert broken == ["train_keeps_form", "rows_are_independent"]


def test_an_own_registered_layer_is_held_to_the_laws() -> None:
    @fnn.register
    def scaled(by: float) -> Layer:
        return fnn.serial(fnn.dense(3), fnn.fn(lambda x: by * x))

    check_layer(registry["layer"]["scaled"](0.5), data(ROWS))
