"""What all networks for super-resolution keep: sizes, where training starts, what is refused."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.models.reference import KEY, shapes

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {
    "srcnn": {"kernels": (5, 1, 3), "features": (4, 2)},
    "fsrcnn": {"d": 4, "s": 2, "m": 1},
    "fsrcnn_s": {},
    "espcn": {"features": (4, 2)},
    "vdsr": {"depth": 3, "features": 4},
    "edsr": {"blocks": 1, "features": 4},
}
WITH_SKIP = {"srcnn": {"skip": True}, "fsrcnn": {"skip": True}, "espcn": {"skip": True}, "vdsr": {}}


def pictures(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def make(name, scale, **arguments):
    return getattr(fnn, name)(scale, **{**SMALL[name], **arguments})


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_sizes(name, scale, channels):
    model = make(name, scale, channels=channels)
    assert model.kind == name
    params, state = shapes(model, pictures(1, 5, 5, channels))
    x = jnp.asarray(pictures(2, 4, 7, channels))  # of another size than the parameters were made for
    y, _ = jax.eval_shape(model.apply, params, state, x)
    assert y.shape == (2, 4 * scale, 7 * scale, channels)


@pytest.mark.parametrize("name", WITH_SKIP)
def test_training_starts_at_the_bicubic_picture(name):
    """The last kernel's zeros hold back the gradients of the others for one step alone."""
    model = make(name, 2, **WITH_SKIP[name])
    x, target = pictures(2, 4, 5, 1), pictures(2, 8, 10, 1)

    @jax.jit
    def train(x):
        def loss(params):
            y, _ = model.apply(params, {}, x)
            return jnp.mean((y - target) ** 2), y

        def step(params):
            gradient, y = jax.grad(loss, has_aux=True)(params)
            return jax.tree.map(lambda p, slope: p - 0.1 * slope, params, gradient), gradient, y

        params, first, y = step(model.init(KEY, x)[0])
        return y, first, step(params)[1]

    y, *gradients = train(x)
    np.testing.assert_allclose(y, fnn.upsample(2, "bicubic").apply({}, {}, x)[0], rtol=1e-6)
    first, second = ({p for p, v in fnn.paths(tree).items() if np.abs(v).max() > 0} for tree in gradients)
    assert len(first) == 2
    assert second == set(fnn.paths(gradients[0]))


def seen(layer, shape, at):
    """How many rows and columns of the input one number of the output depends on.

    All parameters are positive, so that every ReLU is open and nothing cancels out.
    """
    x = jnp.full(shape, 0.1)
    params = jax.tree.map(lambda p: jnp.full(p.shape, 1 / np.prod(p.shape[:-1])), shapes(layer, x)[0])
    slope = jax.jit(jax.grad(lambda x: layer.apply(params, {}, x)[0][0, at, at, 0]))(x)
    rows, columns = np.nonzero(np.asarray(slope).max((0, 3)))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(
    "model, width",
    [
        (fnn.srcnn(skip=True, features=(2, 2)), 13),
        (fnn.srcnn(skip=True, features=(2, 2), kernels=(9, 5, 5)), 17),
        (fnn.vdsr(features=2), 41),
    ],
)
def test_what_a_pixel_depends_on_in_the_enlarged_picture(model, width):
    """SRCNN's 13 × 13 and VDSR's 41 × 41 are the papers' own numbers."""
    assert seen(dict(model.children)["residual"].children[0][1], (1, 45, 45, 1), 22) == (width, width)


@pytest.mark.parametrize(
    "model, width",
    [
        (fnn.fsrcnn(3, d=2, s=2), 5 + 4 * 2 + 2),  # 3 pixels reach each of the large picture's
        (fnn.espcn(3, features=(2, 2)), 5 + 2 + 2),
        (fnn.edsr(3, channels=1, blocks=2, features=2), 3 + 2 * 4 + 2 + 2),
    ],
)
def test_what_a_pixel_depends_on_in_the_small_picture(model, width):
    """The middle one of the 3 × 3 that are made of a pixel."""
    assert seen(model, (1, 17, 17, 1), 3 * 8 + 1) == (width, width)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": 1}, "scale must be a whole number of 2 or more, got 1"),
        ({"scale": 2.5}, "scale must be a positive whole number, got 2.5"),
        ({"scale": 2, "channels": 0}, "channels must be a positive whole number, got 0"),
    ],
)
def test_refused_scales_and_channels(name, arguments, message):
    with pytest.raises(ValueError, match=f"^{name}: {re.escape(message)}$"):
        make(name, **arguments)


@pytest.mark.parametrize("name", SMALL)
def test_refused_inputs(name):
    model = make(name, 2, channels=1)
    params, _ = shapes(model, pictures(1, 5, 5, 1))
    message = (
        f"expected pictures with 1 channels, got (1, 5, 5, 3); {name} makes a model for others by channels=3"
    )
    for use in (lambda x: model.init(KEY, x), lambda x: model.apply(params, {}, x)):
        with pytest.raises(fnn.LayerError) as error:
            use(jnp.ones((1, 5, 5, 3)))
        assert str(error.value) == message
        with pytest.raises(fnn.LayerError, match=r"^expected an input of rank 4 \(batch, height, width, cha"):
            use(jnp.ones((5, 5, 1)))


def test_a_model_is_still_one_when_it_is_rebuilt():
    model = fnn.map_layers(lambda path, layer: layer, make("espcn", 2))
    assert model.kind == "espcn"
    with pytest.raises(fnn.LayerError, match=r"^expected pictures with 1 channels"):
        model.init(KEY, jnp.ones((1, 5, 5, 3)))
