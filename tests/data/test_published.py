"""Published sets from a server on loopback: what comes, what is kept, and everything that goes wrong."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import socket
import threading
import time

import pytest

from fnn.data import DataError, data_roots, download, mnist, published, verify
from fnn.data.files import locate
from fnn.data.idx_files import FILES

CONTENTS = {
    f"{name}.gz": bytes([31 * i % 256 for i in range(100_000 + number)]) for number, name in enumerate(FILES)
}
FIRST = f"{FILES[0]}.gz"


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files`; `behave` answers in place of that where it is set."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.behave = dict(CONTENTS), [], None
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self):
        name = self.path[1:]
        self.server.asked.append(name)
        if self.server.behave is not None:
            self.server.behave(self)
        else:
            self.answer(200, self.server.files[name])

    def answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", len(body) if length is None else length)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A server on loopback that has the set ``mnist``; all folders are in the test's own."""
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    files = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in CONTENTS.items()}
    monkeypatch.setitem(published.PUBLISHED, "mnist", published.Published("MNIST", server.address, files))
    monkeypatch.setattr(published, "TIMEOUT", 2.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("FNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def cache(mirror):
    return data_roots()[-1] / "mnist"


def lying(folder):
    """The files in a folder, by name: the set's and whatever else was left."""
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def test_a_set_comes_whole_and_is_not_asked_for_again(mirror, cache):
    done = download("mnist")
    assert (done.folder, done.fetched, done.kept) == (cache, list(CONTENTS), [])
    assert lying(cache) == CONTENTS
    assert {file.stat().st_mode & 0o777 for file in cache.iterdir()} == {0o644}
    assert mirror.asked == list(CONTENTS)
    again = download("mnist")
    assert (again.fetched, again.kept) == ([], list(CONTENTS))
    assert mirror.asked == list(CONTENTS), "nothing was asked for"
    assert verify("mnist") == cache
    wanted = [cache / name for name in CONTENTS]
    assert locate("mnist", FILES, [cache], "", ("", ".gz")) == wanted, "where the source looks"


def test_only_what_is_missing_or_wrong_comes(mirror, cache):
    download("mnist")
    (cache / f"{FILES[1]}.gz").unlink()
    (cache / f"{FILES[2]}.gz").write_bytes(b"wrong")
    mirror.asked.clear()
    assert download("mnist").fetched == mirror.asked == [f"{FILES[1]}.gz", f"{FILES[2]}.gz"]
    assert lying(cache) == CONTENTS


def test_it_goes_to_a_folder_of_ones_own(mirror, tmp_path):
    assert download("mnist", tmp_path / "mine").folder == tmp_path / "mine" / "mnist"
    assert lying(tmp_path / "mine" / "mnist") == CONTENTS
    assert not (tmp_path / "cache").exists()


def test_progress_is_told_to_the_last_byte(mirror):
    told = []
    download("mnist", on_progress=lambda *progress: told.append(progress))
    for name, data in CONTENTS.items():
        counts = [count for file, count, size in told if file == name]
        assert counts == sorted(counts) and counts[-1] == len(data)
    assert {size for file, _, size in told if file == FIRST} == {len(CONTENTS[FIRST])}


def test_a_server_may_lead_to_another_address(mirror, cache):
    def lead(handler):
        if handler.path.startswith("/there/"):
            handler.answer(200, CONTENTS[handler.path[7:]])
        else:
            handler.answer(302, Location=f"/there{handler.path}")

    mirror.behave = lead
    download("mnist")
    assert lying(cache) == CONTENTS


def cut(handler):
    handler.answer(200, CONTENTS[FIRST][:5000], length=len(CONTENTS[FIRST]))


def short(handler):
    handler.answer(200, CONTENTS[FIRST][:5000])


def changed(handler):
    handler.answer(200, b"\0" * len(CONTENTS[FIRST]))


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.server.closing.is_set():
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        pass  # the client has had enough


def silent(handler):
    handler.server.closing.wait(5)


def stuck(handler):
    cut(handler)
    handler.server.closing.wait(5)


def to_a_file(handler):
    handler.answer(302, Location="file:///etc/hostname")


def round_and_round(handler):
    handler.answer(302, Location=handler.path)


def babble(handler):
    handler.wfile.write(b"\x1b[2J no HTTP at all\r\n\r\n")


MISHAPS = {
    cut: "cannot be downloaded: .*5000 bytes read, 95000 more expected",
    short: "expected 100000 bytes, found 5000",
    changed: "expected the SHA-256 [0-9a-f]{64}, found a file with another",
    endless: "expected 100000 bytes, found more",
    silent: r"no answer within 0\.3 seconds",
    stuck: r"no answer within 0\.3 seconds",
    to_a_file: "leads to another place than http or https, refused: .*file:///etc/hostname",
    round_and_round: "Exceeded 30 redirects",
    babble: "cannot be downloaded: ",
    (lambda handler: handler.answer(404)): "the server answers 404 Not Found",
    (lambda handler: handler.answer(500)): "the server answers 500 Internal Server Error",
    (lambda handler: handler.answer(200, length="many")): "cannot be downloaded: invalid literal",
}


@pytest.mark.parametrize("behave", MISHAPS, ids=lambda each: each.__name__)
def test_a_mishap_is_one_line_and_leaves_nothing(mirror, cache, monkeypatch, behave):
    monkeypatch.setattr(published, "TIMEOUT", 0.3 if behave in (silent, stuck) else 2.0)
    mirror.behave = behave
    begin = time.monotonic()
    with pytest.raises(DataError, match=MISHAPS[behave]) as caught:
        download("mnist")
    assert time.monotonic() - begin < 4
    assert str(caught.value).startswith(f"{mirror.address}{FIRST}: ")
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_a_mishap_keeps_what_came_before_and_what_was_there(mirror, cache):
    cache.mkdir(parents=True)
    (cache / f"{FILES[1]}.gz").write_bytes(b"the user's own")
    mirror.behave = lambda handler: handler.answer(200, CONTENTS[FIRST])
    with pytest.raises(DataError, match=f"{FILES[1]}.gz: expected 100001 bytes, found 100000"):
        download("mnist")
    assert lying(cache) == {FIRST: CONTENTS[FIRST], f"{FILES[1]}.gz": b"the user's own"}
    mirror.behave = None
    assert download("mnist").kept == [FIRST]


def test_an_interruption_leaves_nothing(mirror, cache):
    def interrupt(*progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("mnist", on_progress=interrupt)
    assert not cache.exists()


def test_a_refused_connection_is_named(mirror, monkeypatch):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        changed = published.Published("MNIST", address, published.PUBLISHED["mnist"].files)
        monkeypatch.setitem(published.PUBLISHED, "mnist", changed)
        with pytest.raises(DataError, match=f"^{address}{FIRST}: cannot be downloaded: Connection refused$"):
            download("mnist")


def test_a_full_disk_and_a_folder_that_cannot_be_are_named(mirror, cache, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(published._Bounded, "write", full)
        with pytest.raises(DataError, match=f"^{cache}: cannot be written: No space left on device$"):
            download("mnist")
    assert not cache.exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/mnist: cannot be written: Not a directory"):
        download("mnist", tmp_path / "file")


def test_an_unknown_set_shows_the_nearest():
    for ask in (download, verify):
        with pytest.raises(DataError, match="published set, found 'fashion'; nearest: fashion_mnist"):
            ask("fashion")


def test_every_file_that_differs_is_named(mirror, cache):
    with pytest.raises(DataError, match=r"expected the files .*; get MNIST: fnn data get mnist; or set"):
        verify("mnist")
    download("mnist")
    (cache / FIRST).write_bytes(b"wrong")
    (cache / FILES[3]).write_bytes(b"unpacked")  # which the source takes before the gzipped one
    with pytest.raises(DataError) as caught:
        verify("mnist")
    wanted, found = (hashlib.sha256(data).hexdigest() for data in (CONTENTS[FIRST], b"wrong"))
    assert str(caught.value) == (
        f"{cache}: {FIRST}: expected the SHA-256 {wanted}, found {found}; {FILES[3]}: only {FILES[3]}.gz has "
        "a known checksum, expected it in its place; fnn data get mnist gets them anew"
    )


def test_a_source_without_its_files_names_the_command(mirror):
    with pytest.raises(DataError, match="MNIST database of handwritten digits: fnn data get mnist; or"):
        mnist()


@pytest.mark.data
@pytest.mark.skipif("FNN_DATA" not in os.environ, reason="needs MNIST under $FNN_DATA")
def test_mnist_itself_has_the_published_checksums():
    folder = verify("mnist")
    md5 = {  # as torchvision lists them
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    assert {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in md5} == md5
    sizes = {name: size for name, (_, size) in published.PUBLISHED["mnist"].files.items()}
    assert {name: (folder / name).stat().st_size for name in md5} == sizes
