"""fnn bench: its figures hang together, its text is a table, its JSON is JSON, and nothing else happens."""

from __future__ import annotations

import gzip
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import jax
import pytest

import fnn
from fnn import cli, kernels
from fnn.commands import bench as module
from fnn.commands import timing
from fnn.commands.bench import bench
from fnn.experiment import check, read

CONFIG = Path(fnn.__file__).parents[1] / "configs" / "digits_mlp.yaml"
BATCH, LAYERS = 64, ((64, 256), (256, 128), (128, 10))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Small matrices and a short warm-up: what is tested is not how fast this machine is."""
    monkeypatch.setattr(timing, "_SIZES", (128,))
    monkeypatch.setattr(timing, "_WARM_UP", 0.02)


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Run ``fnn bench`` in an empty folder: its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fnn", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_SIZES", (128,))
        patch.setattr(timing, "_WARM_UP", 0.02)
        return bench(read(CONFIG), steps=12)


# ---------------------------------------------------------------- the figures


def test_it_says_what_was_measured_on_what(found):
    assert (found.config, found.precision, found.batch_size) == ("digits_mlp", "float32", BATCH)
    assert found.parameters == sum(n * m + m for n, m in LAYERS)
    assert found.kernels == asdict(kernels.status())
    assert found.versions["jax"] == jax.__version__
    assert found.device["platform"] == jax.devices()[0].platform
    assert found.device["processor"]
    assert found.trace is None


@pytest.mark.parametrize("form", ["dispatched", "compiled_loop"])
def test_the_figures_of_a_form_follow_from_its_time(found, form):
    form = getattr(found, form)
    least, most = form.spread_ms
    assert 0 < least <= form.ms_per_step <= most
    assert (form.steps, 5 <= form.samples <= 12) == (12, True)
    assert form.examples_per_second == pytest.approx(1000 * BATCH / form.ms_per_step)
    assert form.gflop_per_second == pytest.approx(found.mflop_per_step / form.ms_per_step)
    peak = found.peaks[-1].gflop_per_second
    assert form.percent_of_peak == pytest.approx(100 * form.gflop_per_second / peak)
    assert 0 < form.compile_seconds < found.first_step_seconds + 60


def test_the_work_is_that_of_three_products_a_layer_and_little_more(found):
    """Forward, and the gradients of weights and inputs; of the pictures there is none."""
    products = sum(3 * 2 * BATCH * n * m for n, m in LAYERS) - 2 * BATCH * 64 * 256
    assert products < 1e6 * found.mflop_per_step < 1.5 * products


def test_the_first_step_comes_after_its_compilation(found):
    assert found.first_step_from == "call"
    assert found.first_step_seconds > found.dispatched.compile_seconds


@pytest.mark.slow
def test_a_smaller_precision_has_its_own_peak():
    experiment = check({"model": ["flatten", {"dense": 10}], "precision": "bfloat16"})
    found = bench(experiment, steps=5)
    assert [peak.dtype for peak in found.peaks] == ["float32", "bfloat16"]
    assert (found.config, found.precision) == ("experiment", "bfloat16")
    form = found.dispatched
    peak = found.peaks[1].gflop_per_second
    assert form.percent_of_peak == pytest.approx(100 * form.gflop_per_second / peak)


@pytest.mark.slow
def test_every_part_of_a_recipe_goes_through_both_forms():
    """An average, an accumulated gradient, a statistic that changes without one, a metric that is a table."""
    experiment = check(
        {
            "data": {"source": {"synthetic": {"shape": [4, 4, 1], "classes": 3, "size": 20}}},
            "model": ["flatten", {"dense": 4}, "batch_norm", {"dropout": 0.5}, {"dense": 3}],
            "metrics": ["accuracy", "confusion"],
            "train": {"batch_size": 8, "ema": 0.9, "accumulate": 2, "clip": 1.0, "l2": 1e-3},
        }
    )
    found = bench(experiment, steps=5)
    assert found.batch_size == 8
    assert found.compiled_loop.ms_per_step > 0


@pytest.mark.slow
def test_the_test_part_is_not_looked_at(monkeypatch):
    def evaluate(*arguments, **keywords):
        raise AssertionError("evaluated")

    monkeypatch.setattr("fnn.training.evaluation.evaluate", evaluate)
    monkeypatch.setattr("fnn.training.loop.evaluate", evaluate)
    monkeypatch.setattr("fnn.commands.train.evaluate", evaluate)
    assert bench(check({"model": ["flatten", {"dense": 10}]}), steps=5).trace is None


# ---------------------------------------------------------------- the table


def test_the_table_shows_both_forms_side_by_side_in_80_columns(found):
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "digits_mlp: 50,826 parameters, 64 examples a step, float32"
    labels = [re.split(r"  +", line)[0] for line in lines]
    for label in ("compilation", "a step, median", "least to most", "examples/s", "GFLOP/s", "of the peak"):
        assert len(re.split(r"  +", lines[labels.index(label)])) == 3
    for label in ("first step", "work", "peak", "memory", "kernels", "device", "versions"):
        assert label in labels
    assert f"jax {jax.__version__}" in str(found)
    assert " ms" in lines[labels.index("a step, median")]


# ---------------------------------------------------------------- the command


def test_json_is_one_object_with_units_in_its_names(typed, tmp_path):
    code, out, err = typed(CONFIG, "train.batch_size=32", "--steps", 6, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["batch_size"] == 32
    assert found["first_step_from"] in ("process start", "call")
    assert set(found["dispatched"]) == set(found["compiled_loop"]) == {
        "compile_seconds", "ms_per_step", "spread_ms", "steps", "samples", "examples_per_second",
        "gflop_per_second", "percent_of_peak",
    }  # fmt: skip
    assert {"first_step_seconds", "mflop_per_step", "peaks", "peak_memory_mib", "kernels"} <= set(found)
    assert found["dispatched"]["steps"] == 6
    assert list(tmp_path.iterdir()) == [], "something was written"


@pytest.mark.slow
def test_a_profile_reads_like_the_model_and_nothing_else_is_written(typed, tmp_path):
    code, out, err = typed(CONFIG, "--steps", 5, "--profile", "deep/profile")
    assert code == 0, err
    (file,) = tmp_path.rglob("perfetto_trace.json.gz")
    assert str(file.relative_to(tmp_path)) in out, "the table says where it is, in one piece"
    names = {event.get("name", "") for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]}
    for layer in ("dense1", "dense2", "dense3"):
        for direction in ("forward", "backward"):
            assert any(name.startswith(f"{direction}/{layer}/") for name in names), f"{direction}/{layer}"
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml: cannot be read"),
        ([CONFIG, "train.epoch=3"], "train.epoch: unknown key; nearest: epochs"),
        ([CONFIG, "model.2=rleu"], "unknown layer 'rleu'; nearest: relu"),
        ([CONFIG, "--profile", "file/below"], "file/below: cannot be made: Not a directory"),
        ([CONFIG, "--import", "no_such_module"], "--import no_such_module: No module named"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_compiled(typed, monkeypatch, arguments, message):
    Path("file").write_text("")
    monkeypatch.setattr(module, "time_steps", None)
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_number_of_steps_below_one_is_refused(typed):
    code, out, err = typed(CONFIG, "--steps", 0)
    assert (code, out) == (2, "")
    assert "--steps" in err
