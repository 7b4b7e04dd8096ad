"""Weights in the names and layouts of others: beside PyTorch, and what is refused."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import fnn
from fnn.models.catalog import ARCHITECTURES
from fnn.models.exchange import ExchangeError, Naming, from_foreign, nearest_naming, to_foreign, unwrapped

MODEL = fnn.serial(
    stem=fnn.conv(4, (3, 2), padding="VALID"),
    depthwise=fnn.depthwise_conv(2, multiplier=2, padding="VALID"),
    norm=fnn.batch_norm(),
    flatten=fnn.flatten,
    head=fnn.dense(5),
)
X = np.random.default_rng(0).standard_normal((2, 6, 6, 3), np.float32)
NAMING = Naming(
    rules=((r"^stem", "features.0"), (r"^depthwise", "features.1"), (r"^norm", "features.2")),
    flattened={"head": (3, 4, 8)},
)


def theirs() -> dict[str, np.ndarray]:
    shapes = {
        "features.0.weight": (4, 3, 3, 2), "features.0.bias": (4,),
        "features.1.weight": (8, 1, 2, 2), "features.1.bias": (8,),
        "features.2.weight": (8,), "features.2.bias": (8,),
        "features.2.running_mean": (8,), "features.2.running_var": (8,),
        "head.weight": (5, 96), "head.bias": (5,),
    }  # fmt: skip
    rng = np.random.default_rng(1)
    return {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def model_shapes():
    return jax.eval_shape(MODEL.init, jax.random.key(0), X)


@pytest.mark.oracle
def test_layouts_are_pytorchs():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    features = nn.Sequential(nn.Conv2d(3, 4, (3, 2)), nn.Conv2d(4, 8, 2, groups=4), nn.BatchNorm2d(8))
    reference = nn.Sequential()
    reference.features, reference.flatten, reference.head = features, nn.Flatten(), nn.Linear(96, 5)
    tensors = theirs()
    reference.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    params, state = from_foreign(NAMING, tensors, *model_shapes())
    y, _ = MODEL.apply(params, state, X)
    with torch.no_grad():
        wanted = reference.eval()(torch.from_numpy(X.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_there_and_back_nothing_changes():
    tensors = theirs()
    back = to_foreign(NAMING, *from_foreign(NAMING, tensors, *model_shapes()))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_all_that_does_not_fit_is_named():
    tensors = theirs()
    del tensors["head.bias"]
    tensors["features.0.bias"] = np.ones(3, np.float32)
    tensors["features.1.bias"] = np.ones(8, np.int64)
    tensors["features.3.weight"] = np.ones(1, np.float32)
    tensors["features.2.num_batches_tracked"] = np.ones((), np.int64)  # which counts for nothing
    with pytest.raises(ExchangeError) as error:
        from_foreign(NAMING, tensors, *model_shapes())
    assert str(error.value) == (
        "the tensors do not fit the model: missing head.bias; "
        "features.1.bias: expected floating-point numbers, got int64; "
        "features.0.bias: expected the shape [4], got [3]; "
        "unknown features.3.weight; nearest: features.2.weight"
    )


def test_of_very_many_strangers_some_are_named():
    tensors = theirs() | {f"other{i}": np.ones(1, np.float32) for i in range(30)}
    with pytest.raises(ExchangeError, match=r"unknown other19; nearest: .*; and 10 more unknown$"):
        from_foreign(NAMING, tensors, *model_shapes())


def test_a_naming_may_have_shapes_of_its_own():
    naming = Naming(rules=((r"\.weight$", ""),), shapes=((r"norm", lambda shape: (*shape, 1, 1)),))
    params = {"norm": {"scale": np.arange(3, dtype=np.float32)}}
    tensors = to_foreign(naming, params, {})
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"norm": (3, 1, 1)}
    back, _ = from_foreign(naming, tensors, params, {})
    np.testing.assert_array_equal(back["norm"]["scale"], params["norm"]["scale"])


def test_half_precision_becomes_float32():
    tensors = {"kernel": np.ones((2, 3), np.float16)}
    params, _ = from_foreign(Naming(rules=(("weight", "kernel"),)), tensors, {"kernel": np.ones((3, 2))}, {})
    assert params["kernel"].dtype == np.float32


SCANNED = {
    "resnet50": lambda **how: fnn.resnet([3, 2, 1], classes=3, width=4, bottleneck=True, **how),
    "convnext_tiny": lambda **how: fnn.convnext([2, 3], [4, 8], classes=3, **how),
    "mixer_s16": lambda **how: fnn.mlp_mixer(3, 8, patch=4, size=16, classes=3, **how),
}


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("name", SCANNED)
def test_scanned_blocks_answer_as_one_by_one(name):
    """Each takes a place of its own in the stack, in the order of the blocks."""
    x = np.random.default_rng(2).standard_normal((2, 16, 16, 3), np.float32)
    rng = np.random.default_rng(3)
    plain, scanned = SCANNED[name](), SCANNED[name](scan=True)
    shapes = jax.eval_shape(plain.init, jax.random.key(0), x)
    drawn = jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32), shapes)
    stacks = jax.eval_shape(scanned.init, jax.random.key(0), x)
    wanted = jax.jit(plain.apply)(*drawn, x)[0]
    assert np.any(wanted)
    for library, naming in ARCHITECTURES[name].namings.items():
        tensors = to_foreign(naming, *drawn)
        assert nearest_naming({library: naming, "ours": Naming()}, tensors, *stacks) == library
        params, state = from_foreign(naming, tensors, *stacks)
        assert jax.tree.map(np.shape, (params, state)) == jax.tree.map(np.shape, stacks)
        got = jax.jit(scanned.apply)(params, state, x)[0]
        np.testing.assert_allclose(got, wanted, rtol=1e-6, err_msg=library)
        back = to_foreign(naming, params, state)
        assert list(back) == list(tensors)
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(back[key], tensor, err_msg=key)


def test_of_scanned_blocks_the_one_that_does_not_fit_is_named():
    model = SCANNED["resnet50"](scan=True)
    naming = ARCHITECTURES["resnet50"].namings["torchvision"]
    stacks = jax.eval_shape(model.init, jax.random.key(0), X)
    tensors = to_foreign(naming, *jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), stacks))
    tensors["layer1.2.bn1.weight"] = np.ones(5, np.float32)
    with pytest.raises(
        ExchangeError, match=r"model: layer1.2.bn1.weight: expected the shape \[4\], got \[5\]$"
    ):
        from_foreign(naming, tensors, *stacks)


@pytest.mark.parametrize(
    "names, bare",
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["_orig_mod.module.a"], ["a"]),
        (["module.model.a", "module.b"], ["model.a", "b"]),  # no wrapper of both
        (["model.a", "head"], ["model.a", "head"]),
        (["modules.a"], ["modules.a"]),
        ([], []),
    ],
)
def test_what_a_network_was_wrapped_in_is_taken_off(names, bare):
    tensors = {name: np.full(1, i) for i, name in enumerate(names)}
    assert list(unwrapped(tensors).items()) == list(zip(bare, tensors.values(), strict=True))
