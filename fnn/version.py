"""The version of fnn."""

__version__ = "0.1.0"
