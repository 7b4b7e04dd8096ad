"""fnn.training.loggers.tensorboard: every number of the log, read back from the bytes of the files."""

from __future__ import annotations

import json
import math
import struct
import sys

import numpy as np
import pytest

import fnn
from fnn.choices import ConfigError
from fnn.experiment import build_loggers
from fnn.training import Loggers, LoggerWarning, RunFolder
from fnn.training.loggers import tensorboard

library = pytest.importorskip("tensorboardX", reason="needs tensorboardX")
event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs tensorboardX")

RECORD = {"step": 1, "split": "train", "loss": 0.5}
START = event_pb2.SessionLog.START


def crc32c(data):
    """The Castagnoli checksum bit by bit, from its polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder):
    """The events of a folder's files in TensorBoard's order, lengths and checksums held to the format."""
    found = []
    for file in sorted(folder.glob("*tfevents*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            header = data[at : at + 8]
            (length,), (check,) = struct.unpack("<Q", header), struct.unpack("<I", data[at + 8 : at + 12])
            body, end = data[at + 12 : at + 12 + length], at + 12 + length
            assert (check, *struct.unpack("<I", data[end : end + 4])) == (masked(header), masked(body))
            found.append(event_pb2.Event.FromString(body))
            at = end + 4
    return found


def points(folder):
    """Every scalar of the events: ``(name, step, value)``."""
    return [(v.tag, event.step, v.simple_value) for event in events(folder) for v in event.summary.value]


def shown(folder):
    """What TensorBoard itself makes of the files, where it is installed."""
    name = "tensorboard.backend.event_processing.event_accumulator"
    module = pytest.importorskip(name, reason="needs tensorboard")
    accumulator = module.EventAccumulator(str(folder))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def wanted(lines, summary):
    """The points that a run's own files say."""
    found = [
        (f"{line['split']}/{name}", line["step"], np.float32(value))
        for line in lines
        for name, value in line.items()
        if name not in ("step", "split", "confusion")
    ]
    test = summary["test"]
    return found + [
        (f"test/{name}", summary["step"], np.float32(test[name])) for name in ("loss", "accuracy")
    ]


def test_the_checksum_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value


@pytest.fixture(scope="module")
def trained(experiment, tmp_path_factory):
    """A run in a folder of its own."""
    folder = tmp_path_factory.mktemp("home") / "run"
    return fnn.train(experiment("tensorboard"), folder=lambda: RunFolder.create(folder, "a"))


def test_every_number_of_metrics_jsonl_is_there_step_by_step(trained):
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((trained.folder / "summary.json").read_text())
    assert len(lines) == 6 + 2
    assert all("confusion" in line for line in lines)
    assert points(trained.folder / "tensorboard") == wanted(lines, summary)


def test_tensorboard_reads_it(trained):
    by_name = {}
    for name, step, value in wanted(trained.log, trained.summary):
        by_name.setdefault(name, []).append((step, value))
    assert shown(trained.folder / "tensorboard") == by_name


def test_the_file_says_its_version_first_and_its_times(about, told, here):
    told(tensorboard(), about())
    first, *rest = events(here / "run/tensorboard")
    assert first.file_version == "brain.Event:2"
    assert not any(event.HasField("session_log") for event in rest)
    times = [event.wall_time for event in (first, *rest)]
    assert times == sorted(times)
    assert times[0] > 1e9


def test_numbers_that_are_not_finite_stay(about, here):
    logger = tensorboard()
    logger.begin(about())
    logger.record({"step": 1, "split": "train", "a": math.inf, "b": math.nan, "c": -math.inf})
    logger.end({"status": "failed", "step": 1})
    values = {name: value for name, _, value in points(here / "run/tensorboard")}
    assert (values["train/a"], values["train/c"]) == (math.inf, -math.inf)
    assert math.isnan(values["train/b"])


def test_what_was_logged_is_on_disk_after_seconds(about, here, monkeypatch):
    logger = tensorboard()
    logger.begin(about())
    logger.record({"step": 1, "split": "train", "loss": 0.5})
    assert points(here / "run/tensorboard") == []
    monkeypatch.setattr(sys.modules["fnn.training.loggers.tensorboard"], "FLUSH", 0.0)
    logger.record({"step": 2, "split": "train", "loss": 0.25})
    assert points(here / "run/tensorboard") == [("train/loss", 1, 0.5), ("train/loss", 2, 0.25)]
    logger.end({"status": "completed", "step": 2})


def resumed(about):
    """A run that was lost after step 5, and went on from step 3 with other figures."""
    for first, last, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        logger = tensorboard()
        logger.begin(about(step=first))
        for step in range(first + 1, last + 1):
            logger.record({"step": step, "split": "train", "loss": loss})
        logger.end({"status": "interrupted", "step": last})


def test_a_run_that_goes_on_hides_what_comes_again(about, here):
    resumed(about)
    marks = [event.step for event in events(here / "run/tensorboard") if event.session_log.status == START]
    assert marks == [4]
    assert len(list((here / "run/tensorboard").iterdir())) == 2


def test_tensorboard_shows_a_run_that_went_on_as_one(about, here):
    resumed(about)
    loss = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert shown(here / "run/tensorboard") == {"train/loss": loss}


def test_a_run_that_begins_anew_takes_the_old_files_away_and_no_other(about, told, here):
    told(tensorboard(), about())
    (here / "run/tensorboard/mine.txt").write_text("kept")
    told(tensorboard(), about(), records=[{"step": 1, "split": "train", "loss": 0.5}], summary={"step": 1})
    assert points(here / "run/tensorboard") == [("train/loss", 1, 0.5)]
    assert (here / "run/tensorboard/mine.txt").read_text() == "kept"


def test_without_a_folder_there_is_a_warning_and_no_file(about, here):
    with pytest.warns(LoggerWarning, match="tensorboard failed .* expected a run with a folder"):
        Loggers({"tensorboard": tensorboard()}, about(folder=None)).__enter__()
    assert list(here.iterdir()) == []


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the logger was left as it failed
def test_a_disk_that_is_full_is_a_warning(about, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with Loggers({"tensorboard": tensorboard()}, about()) as loggers:
        monkeypatch.setattr(library.RecordWriter, "write", full)
        with pytest.warns(LoggerWarning, match="tensorboard failed .* record: OSError: .*No space left"):
            loggers.record(RECORD)
        loggers.record(RECORD)
        loggers.end({"status": "completed", "step": 1})


def test_it_takes_no_arguments(experiment):
    with pytest.raises(ConfigError, match=r"^log\.0\.tensorboard\.folder: unknown argument of tensorboard"):
        build_loggers(experiment({"tensorboard": {"folder": "x"}}))
