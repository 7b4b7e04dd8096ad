"""What holds for every augmentation: form, keys, a draw for each image, compiled as not compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.data import (
    Mixed,
    Paired,
    color_jitter,
    compose,
    crop,
    cutmix,
    cutout,
    flip,
    mixup,
    one_of,
    patch,
    randaugment,
    random_erasing,
    random_resized_crop,
    rescale,
    rot90,
    rotate,
    shift,
)
from fnn.kernels import quick_key
from fnn.registry import registry

KEY = quick_key(jax.random.key(0))  # as training gives it
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 7, 9, 3)).astype(np.float32)
SQUARE = IMAGES[:, :, :7]
PAIR = Paired(SQUARE, np.random.default_rng(1).integers(0, 256, (6, 14, 14, 3)).astype(np.float32))
ALL = {
    "shift": shift(2),
    "flip": flip(),
    "flip vertical": flip(0.5, "vertical"),
    "crop": crop(3),
    "random_resized_crop": random_resized_crop(),
    "rotate": rotate(30),
    "rot90": rot90(),
    "color_jitter": color_jitter(0.4, 0.4, 0.4, 0.1),
    "randaugment": randaugment(),
    "cutout": cutout(4),
    "random_erasing": random_erasing(0.9),
    "random_erasing noise": random_erasing(0.9, value="noise"),
    "patch": patch(4),
    "rescale": rescale(0.8),
    "mixup": mixup(),
    "cutmix": cutmix(),
    "one_of": one_of([mixup(), cutmix()]),
    "compose": compose([shift(1), flip(), rotate(5.0), cutout(3)]),
}
GIVEN = dict.fromkeys(ALL, IMAGES) | {"rot90": SQUARE, "patch": PAIR, "rescale": PAIR}
SMALLER = {"patch": 4, "rescale": 1}
"""Height and width of what they give."""
QUICK = ["mixup"]
NARROW = ["random_resized_crop", "rotate", "color_jitter", "mixup", "rescale", "compose"]
"""Held to it in bfloat16, which they compute in float32."""
EACH = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
)


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def inputs_of(given):
    return given.inputs if isinstance(given, Mixed | Paired) else given


def test_every_registered_augmentation_is_here():
    ours = {name for name, item in registry["augment"].items() if item.__module__.startswith("fnn.")}
    assert ours <= set(ALL)


@EACH
def test_shape_and_dtype_are_kept_and_jit_changes_nothing(name):
    dtype = jnp.bfloat16 if name in NARROW else jnp.float32
    given = jax.tree.map(lambda images: jnp.asarray(images, dtype), GIVEN[name])
    eager, compiled = ALL[name](KEY, given), jax.jit(ALL[name])(KEY, given)
    assert type(eager) is type(compiled)
    n, *size, channels = inputs_of(given).shape
    if name in SMALLER:
        size = [SMALLER[name]] * 2
        assert eager.targets.shape == (n, *(2 * side for side in size), channels)
        assert eager.targets.dtype == dtype
    assert inputs_of(eager).shape == (n, *size, channels)
    assert inputs_of(eager).dtype == dtype
    for one, other in zip(jax.tree.leaves(eager), jax.tree.leaves(compiled), strict=True):
        as_numbers = [np.asarray(y, np.float32) for y in (one, other)]
        np.testing.assert_allclose(*as_numbers, atol=1e-3 if dtype == jnp.float32 else 2)  # of 255


@EACH
def test_a_key_fixes_the_draw_and_each_image_has_its_own(name):
    augment = jax.jit(ALL[name])
    same = jax.tree.map(lambda images: jnp.tile(images[:1], (64, 1, 1, 1)), GIVEN[name])
    mixes = isinstance(ALL[name](KEY, GIVEN[name]), Mixed)
    if mixes:  # of equal images nothing could be seen
        same = same.at[::2].set(0)
    first, again, other = (
        np.asarray(inputs_of(augment(key, same))) for key in (KEY, KEY, quick_key(jax.random.key(1)))
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    distinct = {image.tobytes() for image in first}
    views = 2 if name.startswith("flip") else 4 if name == "rot90" else None
    assert len(distinct) == views if views else len(distinct) > 10


@pytest.mark.slow
@EACH
def test_in_vmap_in_scan_it_is_what_it_is_for_each_key(name):
    augment = jax.jit(ALL[name])
    keys = jax.random.split(KEY, (2, 2))

    def step(carry, keys):
        return carry, jax.vmap(lambda key: ALL[name](key, GIVEN[name]))(keys)

    _, stacked = jax.lax.scan(step, None, keys)
    for place in np.ndindex(2, 2):
        leaves = zip(
            jax.tree.leaves(stacked), jax.tree.leaves(augment(keys[place], GIVEN[name])), strict=True
        )
        for one, other in leaves:
            np.testing.assert_allclose(one[place], other, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "augment", [shift(2), crop(2), flip(), rot90(), cutout(3), random_erasing(1.0), cutmix()]
)
def test_bytes_stay_bytes(augment):
    images = np.random.default_rng(0).integers(1, 256, (5, 6, 6, 1), np.uint8)
    as_bytes, as_floats = (inputs_of(augment(KEY, x)) for x in (images, images.astype(np.float32)))
    assert as_bytes.dtype == jnp.uint8
    np.testing.assert_array_equal(np.asarray(as_bytes, np.float32), as_floats)


@pytest.mark.parametrize(
    "name", ["random_resized_crop", "rotate", "color_jitter", "randaugment", "mixup", "rescale"]
)
def test_what_computes_with_values_refuses_bytes(name):
    with pytest.raises(ValueError, match=f"^{name}: expected images of a floating dtype, got uint8"):
        ALL[name](KEY, jax.tree.map(lambda images: images.astype(np.uint8), GIVEN[name]))


@pytest.mark.parametrize("name", ["color_jitter", "randaugment"])
def test_colour_needs_to_know_the_channels(name):
    with pytest.raises(
        ValueError, match=rf"^{name}: expected images of 1 or 3 channels, got .*\(6, 7, 9, 2\)"
    ):
        ALL[name](KEY, IMAGES[..., :2])


@pytest.mark.parametrize("name", sorted(set(registry["augment"]) - {"mixup", "one_of", *SMALLER}))
@pytest.mark.parametrize("jitted", [False, True])
def test_images_of_another_rank_are_refused_by_name(name, jitted):
    augment = jax.jit(ALL[name]) if jitted else ALL[name]
    with pytest.raises(
        ValueError, match=rf"^{name}: expected images \(batch, .*, got the shape \(8, 28, 28\)"
    ):
        augment(KEY, jnp.zeros((8, 28, 28)))


@pytest.mark.parametrize("name", SMALLER)
def test_what_takes_pairs_refuses_images(name):
    message = f"^{name}: expected pictures whose targets are pictures, as super_resolution's are$"
    with pytest.raises(ValueError, match=message):
        ALL[name](KEY, IMAGES)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"flip", "flip vertical", "rot90", *SMALLER}))
def test_what_would_leave_the_targets_as_they_are_refuses_pairs(name):
    wanted = "expected pictures whose targets are none, got pairs of pictures; for these there are patch, "
    with pytest.raises(ValueError, match=rf"^\w+: {wanted}rescale, flip and rot90"):
        ALL[name](KEY, PAIR)


def test_one_of_gives_images_of_one_size():
    whole = one_of([patch(4), compose([flip(), patch(4), rot90()])])(KEY, PAIR)
    assert (whole.inputs.shape, whole.targets.shape) == ((6, 4, 4, 3), (6, 8, 8, 3))
    message = r"^one_of: expected .* images of one size, got \[\(6, 7, 7, 3\), \(6, 4, 4, 3\)\]$"
    with pytest.raises(ValueError, match=message):
        one_of([flip(), patch(4)])(KEY, PAIR)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: random_resized_crop((0, 1)),
            r"expected scale to be \(low, high\) with 0 < low <= high <= 1, got",
        ),
        (lambda: random_resized_crop((0.5, 1.1)), r"random_resized_crop: expected scale .* <= 1, got"),
        (lambda: random_resized_crop(ratio=(2, 1)), r"random_resized_crop: expected ratio .*, got \(2, 1\)"),
        (lambda: random_resized_crop(ratio=(1, np.inf)), "random_resized_crop: expected ratio"),
        (lambda: color_jitter(-0.1), "color_jitter: expected brightness from 0 to 1e.06, got -0.1"),
        (lambda: color_jitter(hue=0.6), "color_jitter: expected hue from 0 to 0.5, got 0.6"),
        (lambda: color_jitter(white=0), "color_jitter: expected white above 0 and finite, got 0"),
        (lambda: randaugment(15), "randaugment: expected n from 0 to 14, got 15"),
        (lambda: randaugment(1.5), "randaugment: expected n to be a whole number of at least 0, got 1.5"),
        (lambda: randaugment(magnitude=31), "randaugment: expected magnitude from 0 to 30, got 31"),
        (lambda: randaugment(white=np.nan), "randaugment: expected white above 0 and finite, got nan"),
        (lambda: random_erasing(2), "random_erasing: expected probability from 0 to 1, got 2"),
        (lambda: random_erasing(scale=(0.1, 2)), "random_erasing: expected scale"),
        (lambda: random_erasing(ratio=(0, 2)), "random_erasing: expected ratio"),
        (lambda: random_erasing(value="nois"), "random_erasing: expected the value .* or noise, got 'nois'"),
        (lambda: random_erasing(value=np.inf), "random_erasing: expected value from .*, got inf"),
        (lambda: patch(0), "patch: expected a size of 1 or more, got 0"),
        (lambda: patch(1.5), "patch: expected size to be a whole number of at least 0, got 1.5"),
        (lambda: rescale(0), "rescale: expected least from 0.001 to 1, got 0"),
        (lambda: rescale(share=2), "rescale: expected share from 0 to 1, got 2"),
        (lambda: mixup(0), "mixup: expected alpha above 0 and finite, got 0"),
        (lambda: mixup(probability=-1), "mixup: expected probability from 0 to 1, got -1"),
        (lambda: cutmix(np.inf), "cutmix: expected alpha above 0 and finite, got inf"),
        (lambda: one_of([]), "one_of: expected one augmentation or more, got none"),
        (lambda: one_of([flip()], [1, 2]), r"one_of: expected 1 weights of at least 0, .*, got \[1.0, 2.0\]"),
        (lambda: one_of([flip()], [0]), r"one_of: expected 1 weights of at least 0, not all 0, got \[0.0\]"),
        (lambda: one_of([flip()], [np.nan]), "one_of: expected 1 weights"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
