"""fnn.commands.tiles: parts that cover a picture once, and make of it to the byte what the whole makes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from fnn.commands.tiles import LARGEST, SIDES, in_tiles, windows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("reach", [0, 1, 2, 4, 13, 16, 17, 33, 64, 65, 100])
def test_every_piece_is_made_once_and_far_from_the_ends_of_its_part(reach, scale):
    for length in [*range(1, 140), 255, 256, 257, 400, 511, 512, 513, 1000, 4001]:
        parts = windows(length, scale, reach)
        assert parts[0].start == parts[0].first == 0
        assert parts[-1].stop == parts[-1].last == length
        for before, after in pairwise(parts):
            assert before.last == after.first
            assert before.last <= before.stop - reach
            assert after.first >= after.start + reach
        sizes = {part.stop - part.start for part in parts}
        assert len(sizes) == 1
        assert all(part.first < part.last for part in parts)
        assert sizes <= {length, *SIDES, 4 * reach}
        assert max(sizes) <= max(SIDES[-1], 4 * reach)
        if reach <= 16:
            assert scale * max(sizes) <= LARGEST


def test_a_function_of_the_whole_gets_the_whole():
    assert windows(5000, 2, None) == [(0, 5000, 0, 5000)]


def enlarge(part, reach=5, scale=3):
    """Sums over a window, 0 where there is no picture, in whole numbers, and every pixel made nine."""
    side = 2 * reach + 1
    window = (side, side, 1)
    sums = np.rint(uniform_filter(part.astype(np.float64), window, mode="constant") * side**2)
    return sums.astype(np.int64).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (63, 7), (64, 65), (300, 90), (131, 257)])
def test_in_parts_as_in_one(mode, size):
    width, height = size
    pixels = RNG.integers(0, 256, (height, width, len(mode)), np.uint8)
    picture = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
    assert picture.mode == mode
    seen = []

    def part(pixels):
        seen.append(pixels.shape)
        return enlarge(pixels)

    large = in_tiles(picture, 3, part, reach=5)
    assert large.mode == mode
    np.testing.assert_array_equal(np.asarray(large).reshape(3 * height, 3 * width, -1), enlarge(pixels))
    assert len(set(seen)) == 1, "one program"
    assert max(seen[0][:2]) <= SIDES[-1]
    whole = in_tiles(picture, 3, part, reach=None)
    assert seen[-1] == (height, width, len(mode))
    assert whole.tobytes() == large.tobytes()


def test_a_reach_that_is_too_small_is_seen():
    picture = Image.fromarray(RNG.integers(0, 256, (100, 100), np.uint8))
    assert in_tiles(picture, 3, enlarge, 4).tobytes() != in_tiles(picture, 3, enlarge, None).tobytes()
