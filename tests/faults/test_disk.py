"""Full disks, read-only folders and limits: one line, and the run goes on when there is room again."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fnn
from fnn.training import CheckpointError, Checkpoints, RunFolder
from fnn.training.checkpoint import examine
from fnn.training.folder import FolderError

ROOT = Path(fnn.__file__).parents[1]
PROGRAM = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'train.py'))}"

CONFIG = """\
data:
  source: {synthetic: {shape: [8], classes: 3, size: 16}}
model: [{dense: 3000}, relu, {dropout: 0.1}, {dense: 3}]
optimizer: {adam: 1e-2}
train:
  epochs: 12
  batch_size: 4
  log_every: 2
  checkpoint: {every: 4, spacing: 0}
  execution: {deterministic: true}
"""
TIMES = {"seconds", "examples_per_second"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of a run that nothing befell: its log and its parameters."""
    home = tmp_path_factory.mktemp("whole")
    (home / "small.yaml").write_text(CONFIG)
    subprocess.run(f"{PROGRAM} small.yaml --out run", shell=True, cwd=home, check=True, capture_output=True)
    return result(home / "run")


def result(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
    return records, json.loads((run / "summary.json").read_text())["params_sha256"]


def shell(script):
    return subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=240)


def mounting(script):
    """Run a script where it may mount, if this system lets it."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user and mount namespaces here")
    return subprocess.run(
        [unshare, "-rm", "bash", "-ec", script], capture_output=True, text=True, timeout=240
    )


# ---------------------------------------------------------------- in this process


def experiment():
    return fnn.experiment.read("small.yaml")


def test_a_log_on_a_full_disk_is_one_line():
    def folder():
        made = RunFolder.resume("run")
        (made.path / "metrics.jsonl").symlink_to("/dev/full")
        return made

    message = r"^run/metrics\.jsonl: cannot be written: No space left on device$"
    with pytest.raises(FolderError, match=message):
        fnn.train(experiment(), folder=folder)


def test_two_runs_in_one_folder_are_one_too_many():
    first = RunFolder.resume("run")
    with pytest.raises(FolderError, match=r"^run: another run is going on there$"):
        fnn.train(experiment(), folder=lambda: RunFolder.resume("run"), resume=True)
    first.close()
    assert list(Path("run").iterdir()) == []
    fnn.train(experiment(), folder=lambda: RunFolder.resume("run"), resume=True)


def test_a_log_that_cannot_be_brought_to_the_disk_is_one_line(monkeypatch):
    def broken(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fnn.training.folder.sync", broken)
    with pytest.raises(
        FolderError, match=r"^run/metrics\.jsonl: cannot be written: No space left on device$"
    ):
        fnn.train(experiment(), folder=lambda: RunFolder.resume("run"))


def test_a_checkpoint_that_fails_ends_the_run_with_those_before_intact(whole, monkeypatch):
    save = fnn.training.checkpoint._save

    def full_at_12(place, arrays):
        if place.name == ".12.saving":
            place.mkdir()
            (place / "half").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(place, arrays)

    with monkeypatch.context() as patch:
        patch.setattr("fnn.training.checkpoint._save", full_at_12)
        with pytest.raises(
            CheckpointError, match=r"the checkpoint of step 12 could not be saved: .*No space left"
        ):
            fnn.train(experiment(), folder=lambda: RunFolder.resume("run"), resume=True)
    checkpoints = Checkpoints(Path("run/checkpoints"))
    assert checkpoints.steps() == [4, 8]
    assert not list(Path("run/checkpoints").glob(".*"))
    assert not isinstance(examine(Path("run/checkpoints/8")), str)
    said = []
    fnn.train(experiment(), folder=lambda: RunFolder.resume("run"), resume=True, on_message=said.append)
    assert said == ["run: going on from step 8"]
    assert result(Path("run")) == whole


# ---------------------------------------------------------------- real ones

FULL = """
mkdir disk; mount -t tmpfs -o size=900k tmpfs disk
set +e; {program} small.yaml --out disk/run --resume 1>&2; echo code $?; set -e
ls disk/run/checkpoints disk/run
mount -o remount,size=20m disk
{program} small.yaml --out disk/run --resume
mkdir saved; cp disk/run/metrics.jsonl disk/run/summary.json saved
"""


def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_it_goes_on_with_room(whole):
    """A checkpoint is 400 kB: the disk takes two of them, and not the third beside them."""
    done = mounting(FULL.format(program=PROGRAM))
    assert done.returncode == 0, done.stderr
    code, *_ = done.stdout.splitlines()
    assert code == "code 2"
    errors = re.findall(r"^error: .*$", done.stderr, re.MULTILINE)
    assert len(errors) == 1
    assert re.fullmatch(
        r"error: disk/run/.*(could not be saved|cannot be written): No space left on device", errors[0]
    )
    assert "Traceback" not in done.stderr
    assert re.search(r"disk/run: going on from step \d+", done.stderr)
    assert result(Path("saved")) == whole


READ_ONLY = """
{program} small.yaml train.epochs=2 --out run --resume
mount --bind run run; mount -o remount,ro,bind run
set +e; {program} small.yaml --out run --resume; echo code $?; set -e
mkdir -p parent; mount --bind parent parent; mount -o remount,ro,bind parent
set +e; {program} small.yaml --out parent/run; echo code $?; set -e
"""


@pytest.mark.slow
def test_a_read_only_folder_is_one_line():
    done = mounting(READ_ONLY.format(program=PROGRAM))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 2", "code 2"]
    errors = re.findall(r"^error: .*$", done.stderr, re.MULTILINE)
    assert len(errors) == 2
    assert re.fullmatch(r"error: run/\S+: cannot be \w+: Read-only file system", errors[0])
    assert errors[1] == "error: parent/run: cannot be made: Read-only file system"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_one_line_and_the_run_goes_on_without(whole):
    """The limit is in 1024 bytes: the config and the log are below it, the arrays of a checkpoint are not."""
    done = shell(f"set +e; (ulimit -f 60; {PROGRAM} small.yaml --out run --resume); echo code $?")
    assert done.stdout == "code 2\n", done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: run/checkpoints: the checkpoint of step 4 could not be saved: File too large"
    )
    assert "Traceback" not in done.stderr
    assert list(Path("run/checkpoints").iterdir()) == []
    done = shell(f"{PROGRAM} small.yaml --out run --resume")
    assert "run: there is no checkpoint yet: beginning at step 0" in done.stderr
    assert result(Path("run")) == whole


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_and_the_command_that_it_prints_goes_on(here, number, code):
    command = [sys.executable, str(ROOT / "train.py"), "small.yaml", "--out", "a run", "--resume"]
    long = [*command, "train.epochs=1000000", "train.log_every=1 epoch"]
    with subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        log, deadline = here / "a run" / "metrics.jsonl", time.monotonic() + 120
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, timeout=120)
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == "error: a run: another run is going on there\n"
    assert (process.returncode, out) == (code, ""), err
    said = re.fullmatch(r"stopped after step (\d+); to go on: (python train\.py .*)", err.splitlines()[-1])
    step = int(said[1])
    assert said[2] == "python train.py 'a run/config.yaml' --out 'a run' --resume"
    assert json.loads((here / "a run" / "summary.json").read_text())["step"] == step
    assert Checkpoints(here / "a run" / "checkpoints").newest().step == step
    epochs = step // 4 + 2
    again = shell(f"{PROGRAM} {said[2].removeprefix('python train.py ')} train.epochs={epochs}")
    assert again.returncode == 0, again.stderr
    assert f"a run: going on from step {step}" in again.stderr
    made = fnn.experiment.read("small.yaml", [f"train.epochs={epochs}", "train.log_every=1 epoch"])
    assert result(here / "a run")[1] == fnn.train(made).summary["params_sha256"]
    assert [record["step"] for record in result(here / "a run")[0]] == list(range(4, 4 * epochs + 1, 4))
