"""Sets with a public address: downloaded, and held to the checksums that are known of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import responses
from pathlib import Path
from typing import IO, Any

from fnn.data.dataset import DataError, brief
from fnn.data.files import FilePath, candidates, data_roots, expand, how_to_get, locate
from fnn.data.idx_files import FILES
from fnn.trees import near

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""
OnProgress = Callable[[str, int, int], None]
"""``(file, bytes so far, bytes in all)``"""


@dataclass(frozen=True)
class Published:
    """A set as it is published.

    Attributes:
        title: Under which name the public knows it.
        address: What stands before each file's name.
        files: For each file its SHA-256 and its size in bytes.
    """

    title: str
    address: str
    files: dict[str, tuple[str, int]]


def _idx(title: str, address: str, *known: tuple[str, int]) -> Published:
    return Published(title, address, {f"{name}.gz": each for name, each in zip(FILES, known, strict=True)})


# As TensorFlow Datasets lists them (`url_checksums`); MNIST's have the MD5 that torchvision lists, too.
# Two addresses have no https: it is the checksum that tells what came.
PUBLISHED = {
    "mnist": _idx(
        "the MNIST database of handwritten digits",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
    ),
    "fashion_mnist": _idx(
        "Fashion-MNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
    ),
    "kmnist": _idx(
        "Kuzushiji-MNIST",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18165135),
        ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29497),
        ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3041136),
        ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5120),
    ),
}


@dataclass
class Download:
    """What `download` did.

    Attributes:
        folder: Where the set lies now.
        fetched: The files that came over the network.
        kept: The files that were there already and right.
    """

    folder: Path
    fetched: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def download(name: str, to: FilePath | None = None, on_progress: OnProgress | None = None) -> Download:
    """Download a published set, file by file; what is there and right is kept.

    A file stands under its name only after its checksum has been found right, at once and whole.

    Args:
        name: ``mnist``, ``fashion_mnist`` or ``kmnist``.
        to: The folder of data sets, in which the set gets a folder of its own name; by default
            ``fnn`` in the user's cache folder.
        on_progress: Gets the file's name, its bytes so far and in all.

    Raises:
        DataError: The set is unknown, the server cannot be reached or does not deliver what it
            should, or the folder cannot be written.

    Example:
        >>> from fnn.data import download
        >>> download("mnits")
        Traceback (most recent call last):
        fnn.data.dataset.DataError: expected a published set, found 'mnits'; nearest:
        mnist, kmnist, fashion_mnist
    """
    published = _find(name)
    done = Download((expand(to) if to is not None else data_roots()[-1]) / name)
    try:
        done.folder.mkdir(parents=True, exist_ok=True)
        for file in published.files:
            fetched = _fetch(published, file, done.folder, on_progress or (lambda *progress: None))
            (done.fetched if fetched else done.kept).append(file)
    except OSError as error:
        raise DataError(f"{done.folder}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            done.folder.rmdir()  # where nothing came
    return done


def verify(name: str) -> Path:
    """Compare a published set's files, where the source finds them, with their checksums.

    Returns:
        The folder of the set.

    Raises:
        DataError: The set is unknown or nowhere, or a file differs from the published one; every
            such file is named.
    """
    published = _find(name)
    get = how_to_get(published.title, name, f"fnn data get {name}")
    files = locate(name, FILES, candidates(None, [name]), get, ("", ".gz"))
    try:
        problems = [problem for file in files if (problem := _problem(published, file))]
    except OSError as error:
        raise DataError(f"{files[0].parent}: cannot be read: {error.strerror or error}") from error
    if problems:
        raise DataError(f"{files[0].parent}: {'; '.join(problems)}; fnn data get {name} gets them anew")
    return files[0].parent


def _find(name: str) -> Published:
    if name not in PUBLISHED:
        raise DataError(f"expected a published set, found {name!r}; nearest: {near(name, PUBLISHED)}")
    return PUBLISHED[name]


def _problem(published: Published, file: Path) -> str | None:
    import pooch

    if file.name not in published.files:
        return f"{file.name}: only {file.name}.gz has a known checksum, expected it in its place"
    wanted, found = published.files[file.name][0], pooch.file_hash(str(file))
    return None if found == wanted else f"{file.name}: expected the SHA-256 {wanted}, found {found}"


def _fetch(published: Published, file: str, folder: Path, on_progress: OnProgress) -> bool:
    """Whether the file had to come over the network."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # what happens is told by the caller
    url, (sha256, size) = published.address + file, published.files[file]

    def get(url: str, output: str, _: Any) -> None:
        with open(output, "wb") as out:
            stream = _Bounded(out, url, size, lambda count: on_progress(file, count, size))
            _receive(url, stream)
        if stream.count < size:
            raise DataError(f"{url}: expected {size} bytes, found {stream.count}")

    try:
        action = pooch.retrieve(
            url, f"sha256:{sha256}", file, folder, processor=lambda path, action, _: action, downloader=get
        )
    except DataError:
        raise
    except ValueError as error:  # from pooch: the checksum
        raise DataError(f"{url}: expected the SHA-256 {sha256}, found a file with another") from error
    if action == "fetch":  # pooch's word for: it was there
        return False
    os.chmod(folder / file, 0o644)
    return True


def _receive(url: str, out: _Bounded) -> None:
    import pooch
    from requests import RequestException

    with contextlib.ExitStack() as opened:

        def remember(response: Any, **_: Any) -> None:
            opened.callback(response.close)

        get = pooch.HTTPDownloader(
            chunk_size=1 << 16,
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"},  # the bytes as they are published
            hooks={"response": remember},
        )
        try:
            get(url, out, None)
        except DataError:
            raise
        except (RequestException, ValueError) as error:  # ValueError: a header that is no number
            raise DataError(f"{url}: {_reason(error)}") from error


class _Bounded:
    """A file that takes no more bytes than it should have, and tells how many it has."""

    def __init__(self, file: IO[bytes], url: str, size: int, on_count: Callable[[int], None]) -> None:
        self.file, self.url, self.size, self.on_count = file, url, size, on_count
        self.count = 0

    def write(self, data: bytes) -> None:
        self.count += len(data)
        if self.count > self.size:
            raise DataError(f"{self.url}: expected {self.size} bytes, found more")
        self.file.write(data)
        self.on_count(self.count)

    def flush(self) -> None:
        self.file.flush()


def _reason(error: BaseException) -> str:
    """What went wrong on the network, in the words of what failed first."""
    from requests import HTTPError
    from requests.exceptions import InvalidSchema

    if isinstance(error, HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"the server answers {status} {responses.get(status, '')}".rstrip()
    if isinstance(error, InvalidSchema):
        return f"the server leads to another place than http or https, refused: {brief(error)}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} seconds"
    return f"cannot be downloaded: {brief(getattr(error, 'strerror', None) or error)}"
