"""The commands about this machine and the data sets on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fnn.cli.common import Json, clear_errors, stop

Set = Annotated[str, typer.Argument(metavar="SET", help="mnist, fashion_mnist or kmnist", show_default=False)]


def doctor(
    build: Annotated[bool, typer.Option("--build", help="build the native part again, first")] = False,
    json: Json = False,
) -> None:
    """Say what this machine offers: devices, kernels, versions, data; and what would make it faster."""
    from dataclasses import asdict

    from fnn.commands.doctor import examine
    from fnn.training.folder import to_json

    report = examine(build)
    print(to_json(asdict(report), indent=2) if json else report)
    if report.error is not None:
        stop(report.error, 1)


def get(
    name: Set,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="the folder of data sets  [default: fnn in the user's cache folder]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download a data set and check it; files that are there and right are kept."""
    from fnn.commands.data import get as download

    with clear_errors():
        print(download(name, to))


def check(name: Set) -> None:
    """Compare a data set on disk with the checksums of the published one."""
    from fnn.commands.data import check as verify

    with clear_errors():
        print(verify(name))
