"""Targets that are pictures: from 0 to 1, changed alike, and of several sizes, each of which must fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.choices import ConfigError
from fnn.data import Dataset, Paired, Split
from fnn.experiment import build, check
from fnn.losses import charbonnier
from fnn.metrics import mae

RNG = np.random.default_rng(0)
SKIP = [
    {"upsample": {"scale": 2, "method": "bicubic"}},
    {"conv": {"features": 1, "kernel": 3, "name": "last"}},
]
DENSE = ["flatten", {"dense": 144}, {"reshape": [12, 12, 1]}]
"""A model for pictures of one size."""


def pictures(n, height, width, scale=2):
    sizes = ((height, width), (scale * height, scale * width))
    return Split(*(RNG.integers(0, 256, (n, *size, 1)).astype(np.uint8) for size in sizes))


DATA = Dataset(
    pictures(8, 6, 6),
    test=(pictures(1, 9, 7), pictures(1, 7, 8)),
    validation=(pictures(1, 6, 6),),
    scale=2,
)
DENOISING = Dataset(Split(*RNG.integers(0, 256, (2, 8, 6, 6, 1)).astype(np.uint8)))
"""Pictures of their own size as targets."""


def parts(own=DATA, augment=(), **config):
    config = {"model": SKIP, "loss": "charbonnier", **config}
    return build(check({"data": {"augment": list(augment)}, **config}), data=own)


def refused(*arguments, **config):
    with pytest.raises(ConfigError) as caught:
        parts(*arguments, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def batch(made, own=DATA):
    outputs = RNG.uniform(size=(8, *own.train.targets.shape[1:])).astype(np.float32)
    return outputs, own.train.targets, np.ones(8, bool)


def test_targets_go_from_0_to_1_for_the_loss_and_every_metric():
    made = parts(metrics=["psnr", "mae", {"ssim": {"border": 0}}])
    outputs, targets, mask = batch(made)
    one = targets.astype(np.float32) / 255
    np.testing.assert_allclose(made.loss(outputs, targets), charbonnier(outputs, one), rtol=1e-6)
    found, wanted = made.metrics["mae"].measure(outputs, targets, mask), mae().measure(outputs, one, mask)
    assert float(found["total"]) == pytest.approx(float(wanted["total"]), rel=1e-6)
    np.testing.assert_allclose(made.normalizer(np.uint8([[0], [51], [255]])), [[0], [0.2], [1]], rtol=1e-6)


@pytest.mark.parametrize("config", [{}, {"metrics": ["psnr"]}, {"metrics": [{"psnr": {"border": 2}}]}])
def test_the_usual_metric_is_psnr_without_a_border_of_the_scale(config):
    made = parts(**config)
    assert list(made.metrics) == ["psnr"]
    outputs, targets, mask = batch(made)
    inner = np.s_[:, 2:-2, 2:-2]
    error = np.square(np.rint(outputs[inner] * 255) - targets[inner]).mean((1, 2, 3))
    found = made.metrics["psnr"].value(made.metrics["psnr"].measure(outputs, targets, mask))
    assert found == pytest.approx(np.mean(10 * np.log10(255**2 / error)), rel=1e-5)


def test_targets_of_no_scale_stay_in_their_units():
    made = parts(DENOISING, augment=["flip"], model=[{"conv": {"features": 1, "kernel": 3}}])
    assert list(made.metrics) == ["mae", "rmse", "r2"]
    outputs, targets, _ = batch(made, DENOISING)
    wanted = charbonnier(outputs, targets.astype(np.float32))
    np.testing.assert_allclose(made.loss(outputs, targets), wanted, rtol=1e-6)
    np.testing.assert_allclose(made.normalizer.mean, [DENOISING.train.inputs.mean()], rtol=1e-6)


def test_an_augmentation_gets_and_gives_both():
    made = parts(augment=["flip", {"patch": 5}])
    inputs, targets = (jnp.asarray(x, jnp.float32) for x in (DATA.train.inputs, DATA.train.targets))
    found = jax.eval_shape(made.augment, jax.random.key(0), Paired(inputs, targets))
    assert (found.inputs.shape, found.targets.shape) == ((8, 5, 5, 1), (8, 10, 10, 1))


PAIRS = (
    "expected pictures whose targets are none, got pairs of pictures; "
    "for these there are patch, rescale, flip and rot90"
)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "shift", "color_jitter", {"one_of": ["mixup", "flip"]}])
def test_what_cannot_change_both_is_refused(name):
    own = name if isinstance(name, str) else "mixup"
    for data in (DATA, DENOISING):
        model = SKIP if data is DATA else [{"conv": {"features": 1, "kernel": 3}}]
        assert refused(data, augment=[name], model=model) == f"data.augment: {own}: {PAIRS}"


def test_pairs_are_needed_where_both_are_cut():
    images = {"source": {"synthetic": {"shape": [6, 6, 1], "classes": 3, "size": 8}}}
    for augment in ("rescale", {"patch": 3}):
        with pytest.raises(ConfigError) as caught:
            build(check({"data": {**images, "augment": [augment]}, "model": ["flatten", {"dense": 3}]}))
        name = augment if isinstance(augment, str) else "patch"
        wanted = "expected pictures whose targets are pictures, as super_resolution's are"
        assert str(caught.value) == f"data.augment: {name}: {wanted}"


SMALL_DENSE = "dense1: expected 36 channels on the last axis, as in its parameters, got "
WANTED = "expected 11 x 11 pixels or more to compare, got "


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"augment": [{"patch": 2}]},
            "metrics.0: does not fit pictures of 2 x 2 as data.augment gives them: psnr: "
            "expected more than 4 pixels a side, got (8, 4, 4, 1)",
        ),
        (
            {"augment": [{"patch": 5}], "model": DENSE},
            f"model.1: {SMALL_DENSE}(8, 25); of pictures of 5 x 5 as data.augment gives them",
        ),
        ({"model": DENSE}, f"model.1: {SMALL_DENSE}(1, 63); of pictures of 9 x 7 of the test part"),
        (
            {"augment": [{"patch": 5}], "metrics": ["psnr", {"ssim": 0}]},
            f"metrics.1: does not fit pictures of 5 x 5 as data.augment gives them: ssim: {WANTED}(10, 10)",
        ),
        (
            {"metrics": ["psnr", "ssim"]},
            f"metrics.1: does not fit the model's output and the targets: ssim: {WANTED}(8, 8)",
        ),
        (
            {"augment": [{"one_of": ["flip", {"patch": 4}]}]},
            "data.augment: one_of: expected augmentations that give images of one size, "
            "got [(8, 6, 6, 1), (8, 4, 4, 1)]",
        ),
        (
            {"augment": [{"patch": 7}]},
            "data.augment: patch: expected a size of at most the 6 x 6 of the pictures, got 7",
        ),
        (
            {"augment": ["rescale"]},
            "data.augment: rescale: expected square pictures of at least 5 pixels when shrunk, "
            "got (8, 6, 6, 1) by 0.6",
        ),
        (
            {"model": [{"upsample": 3}]},
            "loss: does not fit the model's output and the targets: charbonnier: "
            "expected outputs (batch, ...) and targets of the same shape, "
            "got outputs (8, 18, 18, 1) and targets (8, 12, 12, 1)",
        ),
    ],
    ids=lambda given: None if isinstance(given, str) else str(given)[:40],
)
def test_each_size_of_pictures_is_checked_before_the_run(config, message):
    assert refused(**config) == message


def test_each_part_of_several_sizes_is_checked():
    for name in ("test", "validation"):
        own = Dataset(DATA.train, scale=2, **{name: (pictures(1, 9, 9), pictures(1, 5, 40))})
        message = f"metrics.0: does not fit pictures of 5 x 40 of the {name} part: ssim: {WANTED}(10, 80)"
        assert refused(own, metrics=[{"ssim": 0}]) == message
