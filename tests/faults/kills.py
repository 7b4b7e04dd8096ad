"""Kills a run at random moments, until it ends, and compares it with one that was let alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fnn.training import Checkpoint
from fnn.training.checkpoint import examine
from tests.faults.child import Forks, spawned

CONFIG = """\
data:
  source: {synthetic: {shape: [6, 6, 1], classes: 3, size: 68}}
  augment: [{shift: 1}]
model:
  - conv: {features: 4, kernel: 3}
  - batch_norm: {}
  - relu
  - flatten
  - dropout: 0.2
  - dense: 3
optimizer: {adam: 1e-2}
train:
  epochs: 12
  batch_size: 8
  log_every: 5
  checkpoint: {every: 3, spacing: 0}
  execution: {deterministic: true}
"""
TIMES = {"seconds", "examples_per_second"}
PHASES = ("import", "compile", "before the first checkpoint", "training", "save", "end")
LONGEST = 600.0
FRESH = 8
"""One child in so many begins with Python's own start, and compiles; the others are forked after the imports,
and find what one of them has compiled."""


@dataclass
class Found:
    """What was counted: kills by phase, runs that ended, seconds."""

    kills: Counter[str] = field(default_factory=Counter)
    fresh: int = 0
    runs: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rows = [f"{phase:<30}{self.kills[phase]:>5}" for phase in PHASES]
        total = (
            f"{self.kills.total()} kills, {self.fresh} of them of processes that had to import and compile"
        )
        same = f"{self.runs} runs ended, each with the parameters and the log of one that was let alone"
        return "\n".join([f"{total}; {self.seconds:.0f} s", *rows, same])


class Killer:
    """A run in a folder, which is killed.

    Args:
        home: For the config, the runs and what they say.
        seed: Of the moments.
    """

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.random, self.forks = home, random.Random(seed), Forks(home / "compiled")
        self.out, self.said = home / "run", home / "said.txt"
        (home / "config.yaml").write_text(CONFIG)
        self.arguments = [str(home / "config.yaml"), "--out", str(self.out), "--resume"]
        self.life = {fresh: self._alone(fresh) for fresh in (True, False)}
        self.saving = 0.1

    def until(self, kills: int) -> Found:
        """Whole runs, until so many kills are reached."""
        found, begin = Found(), time.monotonic()
        while found.kills.total() < kills:
            shutil.rmtree(self.out, ignore_errors=True)
            while not self._attempt(found):
                pass
            self._compare()
            found.runs += 1
            found.seconds = time.monotonic() - begin
            print(f"{found.kills.total()} kills, {found.runs} runs, {found.seconds:.0f} s", flush=True)
        return found

    def _alone(self, fresh: bool) -> float:
        """How long a run lives that is let alone; its result is what all others are compared with."""
        shutil.rmtree(self.out, ignore_errors=True)
        begin = time.monotonic()
        assert self._ended(self._start(fresh), LONGEST) == 0, self.said.read_text()
        self.wanted = self._result()
        return time.monotonic() - begin

    def _attempt(self, found: Found) -> bool:
        """Start the run, and kill it at a random moment; whether it had ended by then."""
        fresh = self.random.randrange(FRESH) == 0
        before, begin = _state(self.out), time.monotonic()
        child = self._start(fresh)
        if self.random.random() < 0.5:
            code = self._ended(child, self.random.uniform(0, self.life[fresh]))
        else:
            code = self._at_a_save(child)
        if code is None:
            child.kill()
            code = self._ended(child, LONGEST)
            assert code is not None
        if code == 0:  # how long one lives depends on what else the machine does
            self.life[fresh] = (self.life[fresh] + time.monotonic() - begin) / 2
            return True
        assert code == -9, f"exit code {code}: {self.said.read_text()}"
        found.kills[self._phase(before)] += 1
        found.fresh += fresh
        print(f"kill {found.kills.total()}: {_state(self.out)['last']} steps", flush=True)
        self._inspect()
        return False

    def _at_a_save(self, child: object) -> int | None:
        """Wait for one of the next saves, and for a part of it."""
        skipped, seen, end = self.random.randrange(4), set(), time.monotonic() + LONGEST
        while time.monotonic() < end:
            code = self._ended(child, 0.001)
            if code is not None:
                return code
            begun = {path.name.split(".")[1] for path in (self.out / "checkpoints").glob(".*.saving*")}
            seen |= begun
            if begun and len(seen) > skipped:
                return self._ended(child, self.random.uniform(0, self.saving))
        raise AssertionError(f"no save in {LONGEST} s: {self._where(child)}")

    def _where(self, child: object) -> str:
        """What a child that does not end has said, and what each of its threads does."""
        os.kill(child.pid, signal.SIGUSR1)
        time.sleep(2)
        state = Path(f"/proc/{child.pid}/status").read_text().splitlines()[2]
        child.kill()
        return f"{state}\n{self.said.read_text()}"

    def _start(self, fresh: bool) -> object:
        return spawned(self.arguments, self.said) if fresh else self.forks.forked(self.arguments, self.said)

    def _ended(self, child: object, seconds: float) -> int | None:
        """The exit code, if it has one within so many seconds."""
        if not isinstance(child, subprocess.Popen):
            child.join(seconds)
            return child.exitcode
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _phase(self, before: dict[str, object]) -> str:
        now = _state(self.out)
        if now["unfinished"] and now["unfinished"] != before["unfinished"]:
            return "save"
        if now["config"] == before["config"]:
            return "import"
        if now["last"] == self.wanted[0][-1]["step"]:
            return "end"
        if now["last"] == before["last"] and now["checkpoints"] == before["checkpoints"]:
            return "compile"
        return "training" if now["checkpoints"] else "before the first checkpoint"

    def _inspect(self) -> None:
        """Whatever has a checkpoint's name is one, whole."""
        for path in (self.out / "checkpoints").glob("[0-9]*"):
            found = examine(path)
            assert isinstance(found, Checkpoint), f"{path}: {found}"

    def _compare(self) -> None:
        records, digest = self._result()
        assert digest == self.wanted[1], "other parameters"
        assert records == self.wanted[0], f"another log: {[record['step'] for record in records]}"
        left = [path.name for path in self.out.rglob(".*")]
        assert not left, f"left behind: {left}"

    def _result(self) -> tuple[list[dict[str, object]], str]:
        lines = (self.out / "metrics.jsonl").read_text().splitlines()
        records = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]
        return records, json.loads((self.out / "summary.json").read_text())["params_sha256"]


def _state(out: Path) -> dict[str, object]:
    """What the files of a run tell of how far it is."""
    log = out / "metrics.jsonl"
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    checkpoints = out / "checkpoints"
    return {
        "config": (out / "config.yaml").stat().st_ino if (out / "config.yaml").exists() else None,
        "last": json.loads(lines[-1])["step"] if lines else 0,
        "checkpoints": sorted(path.name for path in checkpoints.glob("[0-9]*")),
        "unfinished": sorted((path.name, path.stat().st_ino) for path in checkpoints.glob(".*")),
    }
