"""The command line: arguments only; the commands are in ``fnn.commands``."""

from __future__ import annotations

import typer

from fnn.cli.machine import check, doctor, get
from fnn.cli.models import export, import_weights, predict, summary, upscale
from fnn.cli.runs import bench, debug, evaluate, train
from fnn.experiment.schema import fields

__all__ = ["main", "train_script"]


def main() -> None:
    """The console script ``fnn``."""
    app, data = _app(), _app("Data sets with a public address.")
    app.command(help=_train_help())(train)
    app.command()(evaluate)
    app.command()(predict)
    app.command()(upscale)
    app.command(name="import")(import_weights)
    for command in (export, summary, bench, debug, doctor):
        app.command()(command)
    data.command()(get)
    data.command()(check)
    app.add_typer(data, name="data")
    app.callback()(lambda: None)
    app()


def train_script() -> None:
    """``train.py``: the command ``fnn train``."""
    app = _app()
    app.command(help=_train_help())(train)
    app()


def _app(meaning: str = "Functional neural networks on JAX.") -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=meaning,
    )


def _train_help() -> str:
    rows = fields()
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=True)) + "  " + row[3]
        for row in rows
    )
    return f"Train from a config.\n\nThe fields of a config, with type, default and meaning:\n\n\b\n{table}"
