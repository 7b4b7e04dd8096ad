"""The published networks, by the names of the functions that make them."""

from __future__ import annotations

from fnn.models.architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {}
