"""The comparison: interleaved rounds, limits, names."""

from __future__ import annotations

import json

import pytest

from benchmarks import compare as module
from benchmarks.compare import NotMeasuredError, compare, main

SETTING = ("digits_mlp", "float32", "dispatched")


@pytest.fixture
def options():
    return module._parser().parse_args(["--rounds", "2"])


def test_rounds_are_interleaved(monkeypatch, options, tmp_path):
    asked = []

    def run(arguments, limit=None):
        asked.append(arguments[-1])
        return {"ms_per_step": {"fnn": 1.0, "linen": 2.0}[arguments[-1]] * len(asked)}

    monkeypatch.setattr(module, "_run", run)
    rows = compare(SETTING, ["fnn", "linen"], tmp_path, options)
    assert asked == ["fnn", "linen", "fnn", "linen"]
    assert [row["ratio_to_fnn"] for row in rows] == [1.0, pytest.approx((4 / 1 + 8 / 3) / 2)]


def test_a_peer_without_a_figure_is_not_tried_again(monkeypatch, options, tmp_path):
    asked = []

    def run(arguments, limit=None):
        asked.append(arguments[-1])
        if arguments[-1] == "linen":
            raise NotMeasuredError("> 1 s")
        return {"ms_per_step": 1.0}

    monkeypatch.setattr(module, "_run", run)
    rows = compare(SETTING, ["fnn", "linen"], tmp_path, options)
    assert asked == ["fnn", "linen", "fnn"]
    assert [row["note"] for row in rows] == ["", "> 1 s"]


def test_torch_is_not_asked_to_scan(monkeypatch, options, tmp_path):
    monkeypatch.setattr(module, "_run", lambda arguments, limit=None: {"ms_per_step": 1.0})
    rows = compare(("digits_mlp", "float32", "scanned"), ["fnn", "torch"], tmp_path, options)
    assert [row["peer"] for row in rows] == ["fnn"]


def test_a_worker_is_stopped_at_its_limit():
    with pytest.raises(NotMeasuredError, match=r"> 0\.1 s"):
        module._run(["digits_mlp", "fnn"], 0.1)


def test_a_failing_worker_says_why(tmp_path):
    with pytest.raises(NotMeasuredError, match=r"failed: FileNotFoundError.*absent\.npy"):
        module._run(["--expect", "absent.npy", "digits_mlp", "fnn"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--jobs", "lenett"], "unknown job 'lenett'; nearest: lenet"),
        (["--peers", "fnn,haikoo"], "unknown peer 'haikoo'; nearest: haiku"),
        (["--dtypes", "bfloat"], "unknown dtype 'bfloat'; nearest: bfloat16"),
        (["--modes", "scan"], "unknown mode 'scan'; nearest: scanned"),
    ],
)
def test_unknown_names_are_answered_by_the_nearest(capsys, arguments, line):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_the_list_names_jobs_and_peers(capsys):
    main(["--list"])
    jobs, peers = capsys.readouterr().out.splitlines()
    assert jobs.startswith("jobs: digits_mlp, mlp, lenet") and "torch_compiled" in peers


@pytest.mark.slow
def test_rows_are_written(tmp_path, capsys):
    file = tmp_path / "rows.json"
    arguments = ["--jobs", "digits_mlp", "--peers", "fnn_xla", "--dtypes", "float32", "--modes", "dispatched"]
    main([*arguments, "--rounds", "1", "--seconds", "0.01", "--json", str(file)])
    fnn, xla = json.loads(file.read_text())
    assert fnn["ratio_to_fnn"] == 1.0 and xla["peer"] == "fnn_xla" and xla["ratio_to_fnn"] > 0
    assert "digits_mlp  float32  dispatched" in capsys.readouterr().out
