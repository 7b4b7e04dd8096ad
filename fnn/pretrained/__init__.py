"""Models that come with fnn."""

from __future__ import annotations

from pathlib import Path

from fnn.choices import ConfigError

FOLDER = Path(__file__).parent


def shipped(scale: int) -> Path:
    """The weights file of the super-resolution model that comes with fnn.

    Args:
        scale: How many times larger it makes a picture.

    Raises:
        ConfigError: There is none of this scale.
    """
    known = {int(file.stem.rpartition("_x")[2]): file for file in FOLDER.glob("*_x*.safetensors")}
    if scale not in known:
        there = ", ".join(map(str, sorted(known))) or "none"
        own = f"--run takes a model of your own (fnn train configs/espcn_x{scale}.yaml)"
        raise ConfigError((), f"expected a scale that fnn has a model of ({there}), got {scale}; {own}")
    return known[scale]
