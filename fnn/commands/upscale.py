"""Enlarge pictures by a super-resolution model, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fnn.choices import ConfigError
from fnn.commands.enlarging import Enlarger, enlarger
from fnn.commands.execution import prepare
from fnn.commands.output import OutputError, check_output
from fnn.commands.picture_output import FORMATS, check_size, format_of, write_picture
from fnn.commands.predict import find_pictures
from fnn.commands.tiles import in_tiles
from fnn.data import DataError
from fnn.data.pictures import load_picture, on_white
from fnn.experiment.saved import read_saved
from fnn.experiment.schema import ExecutionSection
from fnn.pretrained import shipped

SCALE = 2
"""How many times larger pictures become if nothing is said."""


class Job(NamedTuple):
    """A picture to read and one to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Upscaled:
    """What became of a picture.

    Attributes:
        job: Its files.
        before, after: Width and height.
        lost: What of the source is not in the target.
        error: Why there is none; None: there is.
    """

    job: Job
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    lost: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        sizes = (f"({width} × {height})" for width, height in (self.before, self.after))
        source, target = (f"{file} {size}" for file, size in zip(self.job, sizes, strict=True))
        return "; ".join([f"{source} -> {target}", *self.lost])


def jobs_of(source: Path, target: Path, overwrite: bool = False) -> list[Job]:
    """Which pictures are read and written: a file, or those in a folder under the same names in another.

    A name with an ending that is not written gets ``.png``. Pictures in ``target`` are not read.

    Args:
        source: A file, or a folder, which is searched with all folders in it; hidden ones are left out.
        target: A file, or a folder, which need not be there if a folder is read.
        overwrite: Whether what is written may be there.

    Raises:
        DataError: There is no picture to read.
        OutputError: One cannot be written, is there, or would be written over one that is read.
    """
    if not source.exists():
        raise DataError(f"{source}: expected a picture or a folder of them, found none")
    if target.is_dir() and not source.is_dir():
        target /= _written(Path(source.name))
    if target.exists() and os.path.samefile(source, target):
        raise OutputError(f"{target}: expected another place than where the pictures are read from")
    if not source.is_dir():
        format_of(target)
        check_output(target, overwrite)
        return [Job(source, target)]
    _check_folder(target)
    files = find_pictures([source])
    if target.resolve().is_relative_to(source.resolve()):
        files = [file for file in files if not file.resolve().is_relative_to(target.resolve())]
    if not files:
        raise DataError(f"{source}: expected pictures, found none but those in {target}")
    jobs = [Job(file, target / _written(file.relative_to(source))) for file in files]
    _check_targets(jobs, overwrite)
    return jobs


def _written(name: Path) -> Path:
    return name if name.suffix.lower() in FORMATS else name.with_suffix(".png")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written into."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(
            f"{folder}: expected a folder to write into, as a folder is read; {there} is a file"
        )
    if not os.access(there, os.W_OK):
        raise OutputError(f"{folder}: cannot be written: {there} may not be written to")


def _check_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    """Refuse to write over what is read, over what is there, or twice."""
    read = {job.source.resolve() for job in jobs}
    sources: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in read:
            raise OutputError(f"{target}: expected another folder: {source} would be written over it")
        if target in sources:
            raise OutputError(f"{target}: both {sources[target]} and {source} would be written to it")
        sources[target] = source
    there = [target for target in sources if target.exists()]
    if there and not overwrite:
        found = f"{there[0]} and {len(there) - 1} more exist" if there[1:] else f"{there[0]} exists"
        raise OutputError(f"{found}: choose another folder or --overwrite")


def model_of(run: Path | None, scale: int | None) -> Path:
    """The file of a run, or that of the model that comes with fnn.

    Raises:
        ConfigError: None of this scale does.
    """
    return run or shipped(SCALE if scale is None else scale)


def upscale(
    model: Path,
    jobs: Sequence[Job],
    *,
    scale: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Upscaled]:
    """Enlarge pictures, one after the other and in their order.

    A picture that cannot be read or written has an error, and the others go on.

    Args:
        model: A weights file of a super-resolution model, or the folder of a run that has ended.
        jobs: What is read and written.
        scale: What the model's must be, if anything.
        on_progress: Gets how many pictures are done.

    Raises:
        WeightsError: The model cannot be read, or does not enlarge pictures.
        ConfigError: A layer of it is not known, or it is of another scale.
    """
    prepare(ExecutionSection())
    saved = read_saved(model)
    way = enlarger(saved, model)
    if scale not in (None, way.scale):
        raise ConfigError((), f"--scale {scale}: {model} is a model of scale {way.scale}")
    for done, job in enumerate(jobs, start=1):
        try:
            result = _upscaled(way, job)
        except (DataError, OutputError) as error:
            result = Upscaled(job, error=str(error))
        on_progress(done)
        yield result


def _upscaled(way: Enlarger, job: Job) -> Upscaled:
    picture = load_picture(job.source)
    frames = picture.info.pop("frames", 1)
    lost = [f"the first of its {frames} pictures"] if frames > 1 else []
    facts: dict[str, bytes] = {str(name): value for name, value in picture.info.items()}
    before = picture.size
    width, height = after = (way.scale * picture.width, way.scale * picture.height)
    check_size(job.target, width, height)
    kind = format_of(job.target)
    if picture.mode.endswith("A") and not kind.alpha:
        if picture.getextrema()[-1] != (255, 255):
            lost.append(f"on white, as {kind.name} has no transparency")
        picture = on_white(picture)
    large = in_tiles(picture, way.scale, way.enlarge, way.reach)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{job.target.parent}: cannot be made: {error.strerror or error}") from None
    write_picture(job.target, large, **facts)
    return Upscaled(job, before, after, tuple(lost))
