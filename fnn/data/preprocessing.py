"""How a picture becomes what a model sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fnn.data.batches import Normalizer


@dataclass(frozen=True)
class Preprocessing:
    """The way of a picture into a model: scaled, cropped, its channels in order, normalised.

    It is stored with the model, so that nobody has to know it.

    Attributes:
        size: Height and width of what the model sees.
        channels: 1 for grey, 3 for red, green and blue.
        short_side: What the picture's short side is scaled to, before the centre is cut out; None: the whole
            picture is scaled to ``size``, whatever its shape.
        bgr: Whether the channels come as blue, green, red, as in Caffe.
        white: What a byte of 255 is to the model, before it is normalised.
        mean, std: Of each channel, in the model's order and in units of ``white``; one number is for all.

    Raises:
        ValueError: The numbers do not fit each other.

    Example:
        >>> import numpy as np
        >>> from fnn.data import Preprocessing
        >>> imagenet = Preprocessing((224, 224), short_side=256)
        >>> imagenet.prepare(np.zeros((480, 640, 3), np.uint8)).shape
        (224, 224, 3)
    """

    size: tuple[int, int]
    channels: int = 3
    short_side: int | None = None
    bgr: bool = False
    white: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"preprocessing: expected 1 or 3 channels, got {self.channels}")
        if min(self.size) < 1 or (self.short_side is not None and self.short_side < max(self.size)):
            raise ValueError(
                "preprocessing: expected a size of 1 or more and a short side that it can be cut from, got "
                f"{self.size} and {self.short_side}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(
                    f"preprocessing: expected {name} for 1 or {self.channels} channels, got {len(values)}"
                )
        if not (self.white > 0 and min(self.std) > 0):
            raise ValueError(
                f"preprocessing: expected white and std above 0, got {self.white} and {self.std}"
            )

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """The part that is done on the host: bytes ``(h, w, channels)`` of the model's size and order.

        Scaled by Pillow's bilinear filter, which looks at all pixels when it makes a picture smaller.

        Args:
            picture: Bytes ``(h, w, channels)``; see `fnn.data.pictures.read_picture`.
        """
        from PIL import Image

        image = Image.fromarray(picture[..., 0] if self.channels == 1 else picture)
        height, width = self.size
        if self.short_side is None:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        else:
            share = self.short_side / min(image.size)
            wide, high = (max(self.short_side, int(share * side)) for side in image.size)
            image = image.resize((wide, high), Image.Resampling.BILINEAR)
            left, top = round((wide - width) / 2), round((high - height) / 2)
            image = image.crop((left, top, left + width, top + height))
        prepared = np.asarray(image).reshape(height, width, self.channels)
        return np.ascontiguousarray(prepared[..., ::-1]) if self.bgr else prepared

    def normalizer(self) -> Normalizer:
        """The part that is done on the device, for bytes as ``prepare`` gives them."""
        unit = 255.0 / self.white
        mean, std = (
            np.broadcast_to(np.asarray(v, np.float64) * unit, self.channels) for v in (self.mean, self.std)
        )
        return Normalizer(mean.astype(np.float32), std.astype(np.float32))
