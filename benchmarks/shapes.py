"""Pictures to try fine-tuning on: shapes of any colour, size and place before pieces of two photographs.

python -m benchmarks.shapes data/shapes [--train 60] [--test 25]

writes ``train/<class>/<number>.png`` and ``test/<class>/<number>.png``, which `fnn.data.image_folder` reads.
The photographs are scikit-learn's. The same arguments make the same pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

SIDE = 128
"""Of a picture, in pixels."""
CORNERS = {"disc": 64, "square": 4, "star": 10, "triangle": 3}
"""The classes, and the corners of the polygon that each is; every second one of a star lies inside."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=60, metavar="N", help="of each class (default: 60)")
    parser.add_argument("--test", type=int, default=25, metavar="N", help="of each class (default: 25)")
    options = parser.parse_args()
    make(options.folder, train=options.train, test=options.test)


def make(folder: Path, **parts: int) -> None:
    """Write so many pictures of each class, by the name of the part."""
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    for number, (part, many) in enumerate(parts.items()):
        for kind, name in enumerate(CORNERS):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([number, kind])
            for i in range(many):
                picture(photographs, name, rng).save(place / f"{i:03}.png")


def picture(photographs: list[Image.Image], name: str, rng: np.random.Generator) -> Image.Image:
    """A shape before a piece of a photograph."""
    photograph = photographs[rng.integers(len(photographs))]
    side = rng.integers(SIDE, min(photograph.size))
    left, top = (rng.integers(0, length - side + 1) for length in photograph.size)
    piece = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
    corners = CORNERS[name]
    radius = SIDE * rng.uniform(0.2, 0.35)
    centre = rng.uniform(radius, SIDE - radius, 2)
    radii = np.full(corners, radius)
    if name == "star":
        radii[1::2] *= 0.45
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    colour = tuple(rng.integers(0, 256, 3).tolist())
    ImageDraw.Draw(piece).polygon([tuple(point) for point in points.tolist()], fill=colour)
    return piece


if __name__ == "__main__":
    main()
