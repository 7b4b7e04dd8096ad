"""The commands that use a model, look at it, and exchange it with other libraries."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fnn.choices import ConfigError
from fnn.cli.common import Import, Overrides, Overwrite, clear_errors, import_modules
from fnn.table import one_line

if TYPE_CHECKING:
    from fnn.commands.predict import Prediction


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="a weights file (.safetensors), or a run's folder", show_default=False
        ),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURE...", help="picture files, and folders of them", show_default=False),
    ],
    top: Annotated[int, typer.Option(min=1, metavar="K", help="how many classes")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="pictures at a time, at most")] = 32,
    json: Annotated[bool, typer.Option("--json", help="print a JSON list instead of a table")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV, each row as soon as it is there")] = False,
    modules: Import = None,
) -> None:
    """Say what is on pictures: the most probable classes of each.

    A folder is searched with all folders in it, for files that end as pictures do; hidden ones are left out.
    A picture that cannot be read is told on standard error, and the others go on. Probabilities are the
    softmax of the model's outputs.

    Exit code: 0; 1 if a picture could not be read; 2 if nothing could be done.
    """
    from fnn.commands.console import PictureBar
    from fnn.commands.predict import find_pictures
    from fnn.commands.predict import predict as classify
    from fnn.commands.predictions import as_json, as_table, write_csv

    failed = []
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # the name of a file need not be text
    with clear_errors():
        if json and csv:
            raise ConfigError((), "expected --json or --csv, got both")
        warnings.filterwarnings("ignore", module="PIL")  # damaged EXIF: it says not even of which picture
        import_modules(modules)
        files = find_pictures(pictures)
        with PictureBar(len(files), shown=len(files) > 1 and not (csv and sys.stdout.isatty())) as bar:

            def told() -> Iterator[Prediction]:
                for prediction in classify(model, files, top=top, batch_size=batch_size, on_progress=bar):
                    if prediction.error is not None:
                        failed.append(prediction)
                        bar.say(f"error: {one_line(prediction.error)}")
                    yield prediction

            if csv:
                write_csv(told(), sys.stdout)
            else:
                found = list(told())
        if json:
            print(as_json(found))
        elif not csv and len(found) > len(failed):
            print(as_table(found))
    raise SystemExit(1 if failed else 0)


def upscale(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="a picture, or a folder of them", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="is written: a picture or a folder", show_default=False)
    ],
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="a run's folder, or a weights file  [default: the model that comes with fnn]",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="how many times larger  [default: 2, or RUN's]", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    modules: Import = None,
) -> None:
    """Enlarge pictures by a super-resolution model.

    A folder is searched with all folders in it, and the pictures get the same names in OUT; hidden ones are
    left out. The ending says the format: PNG, JPEG, WebP, TIFF, BMP or PPM. A picture that cannot be read is
    told on standard error, and the others go on.

    Exit code: 0; 1 if a picture could not be enlarged; 2 if nothing could be done.
    """
    from fnn.commands.console import PictureBar
    from fnn.commands.upscale import jobs_of, model_of
    from fnn.commands.upscale import upscale as enlarge

    failed = 0
    with clear_errors():
        warnings.filterwarnings("ignore", module="PIL")  # damaged EXIF: it says not even of which picture
        import_modules(modules)
        jobs = jobs_of(source, target, overwrite)
        with PictureBar(len(jobs), shown=len(jobs) > 1) as bar:
            for result in enlarge(model_of(run, scale), jobs, scale=scale, on_progress=bar):
                failed += result.error is not None
                if result.error is not None:
                    bar.say(f"error: {one_line(result.error)}")
                elif result.lost and source.is_dir():
                    bar.say(one_line(str(result)))
                elif not source.is_dir():
                    print(one_line(str(result)))
        if source.is_dir():
            done = len(jobs) - failed
            print(f"{done} {'picture' if done == 1 else 'pictures'} enlarged")
    raise SystemExit(1 if failed else 0)


def summary(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a config (.yaml), a weights file (.safetensors), a run's folder, or a network: resnet50",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="HxWxC", help="of one example  [default: the model's own]", show_default=False
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="examples at a time")] = 1,
    modules: Import = None,
) -> None:
    """Print a model as a table: path, output, parameters, FLOPs, activations.

    FLOPs are those of a forward pass over the batch as XLA counts them, a multiplication and an addition
    being two. Activations are the bytes of every output, which is about what training keeps.
    """
    from fnn.commands.summary import read_shape, summarise

    with clear_errors():
        import_modules(modules)
        print(summarise(source, overrides or [], None if shape is None else read_shape(shape), batch))


def import_weights(
    architecture: Annotated[
        str, typer.Argument(help="a published network, such as squeezenet1_0", show_default=False)
    ],
    weights: Annotated[Path, typer.Argument(help="safetensors, or .npz of plain arrays", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="is written", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="arguments of the network, in YAML", show_default=False
        ),
    ] = None,
    naming: Annotated[
        str | None,
        typer.Option(metavar="LIBRARY", help="torchvision, timm or caffe  [default: whose names fit]"),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="names of the outputs, one a line  [default: ImageNet's, of 1,000]"
        ),
    ] = None,
    overwrite: Overwrite = False,
    modules: Import = None,
) -> None:
    """Make a model of the weights that another library keeps: torchvision's, timm's, Caffe's.

    The number of classes is read from the weights. Nothing is unpickled.
    """
    from fnn.commands.import_weights import import_weights as convert

    with clear_errors():
        import_modules(modules)
        print(
            convert(
                architecture,
                weights,
                out,
                overrides or [],
                naming=naming,
                classes=classes,
                overwrite=overwrite,
            )
        )


def export(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_MODEL", help="a run's folder or a weights file", show_default=False),
    ],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="safetensors, stablehlo or onnx")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="is written  [default: beside the weights]")
    ] = None,
    naming: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="whose names the tensors of safetensors get: torchvision, timm, caffe or fnn  "
            "[default: the first that is known for the network]",
        ),
    ] = None,
    overwrite: Overwrite = False,
    modules: Import = None,
) -> None:
    """Write a model so that it can be used without fnn.

    safetensors: the weights in the names of another library. stablehlo: the whole program, for JAX on CPUs,
    GPUs and TPUs. onnx: the whole program, for onnxruntime and others. A program takes a batch of any size,
    of pictures as bytes, and normalises them itself.
    """
    from fnn.commands.export import export as convert

    with clear_errors():
        import_modules(modules)
        print(convert(model, form, out, naming=naming, overwrite=overwrite))
