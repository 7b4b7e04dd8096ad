"""Figures that the README and the docs show, each reproduced by a command."""
