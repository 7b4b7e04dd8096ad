"""Pairs of pictures go through every command: trained on, resumed, measured again, taken apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fnn
from fnn.commands import timing
from fnn.commands.bench import bench
from fnn.commands.debug import debug
from fnn.commands.evaluate import evaluate_run
from fnn.commands.summary import summarise
from fnn.data import super_resolution
from fnn.experiment import check, read
from fnn.experiment.saved import read_saved
from fnn.training import RunFolder, Stopped
from fnn.training.weights import read_metadata

pytestmark = pytest.mark.slow
SIZES = {"train": [(16, 16)] * 4, "test": [(16, 16), (15, 19)]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Waves, of which a picture of half of their size still shows something."""
    root = tmp_path_factory.mktemp("pictures")
    for part, sizes in SIZES.items():
        (root / part).mkdir()
        for i, (height, width) in enumerate(sizes):
            y, x = np.mgrid[:height, :width]
            waves = [np.sin(x / (1.5 + i) + c) * np.cos(y / (2 + c)) for c in range(3)]
            pixels = np.uint8(128 + 100 * np.stack(waves, -1))
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    return root


def experiment(pictures, **changes):
    source = {"path": str(pictures / "train"), "test": str(pictures / "test"), "scale": 2, "tile": 12}
    config = {
        "data": {
            "source": {"super_resolution": {**source, "stride": 4, "validation": 0.25}},
            "augment": ["flip", "rot90", {"patch": 5}],
        },
        "model": {"espcn": {"scale": 2, "features": [3], "skip": True}},
        "loss": "charbonnier",
        "optimizer": {"adam": 1e-2},
        "train": {"epochs": 3, "batch_size": 4, "ema": 0.5, "checkpoint": {"every": 1, "spacing": 0.0}},
    }
    config["train"] |= changes.pop("train", {})
    return check({**config, **changes})


def trained(pictures, folder, **changes):
    return fnn.train(experiment(pictures, **changes), folder=lambda: RunFolder.create(folder, "run"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    return trained(pictures, tmp_path_factory.mktemp("super_resolution") / "run")


def test_a_run_ends_with_the_figures_of_whole_pictures(pictures, run):
    assert run.summary["status"] == "completed"
    assert run.summary["step"] == 9  # 3 pictures of 4 tiles
    assert set(run.summary["test"]) == {"loss", "psnr"}
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(r["split"], r["epoch"]) for r in records] == [
        (s, e) for e in (1, 2, 3) for s in ("train", "validation")
    ]
    assert all(20 < record["psnr"] < 60 for record in records)

    saved = read_saved(run.folder)
    data = super_resolution(pictures / "train", pictures / "test", scale=2, tile=12)
    ratios = []
    for split in data.test:
        outputs, _ = saved.model.apply(saved.params, saved.state, split.inputs.astype(np.float32) / 255)
        made = np.rint(np.clip(255 * np.float64(outputs), 0, 255))
        error = np.square(made - split.targets)[:, 2:-2, 2:-2].mean()
        ratios.append(10 * np.log10(255**2 / error))
    assert run.summary["test"]["psnr"] == pytest.approx(
        np.mean(ratios), abs=0.05
    )  # a byte may be rounded otherwise
    figures = run.summary["pictures"]
    assert [figures[f"{i}.png"]["psnr"] for i in range(2)] == pytest.approx(ratios, abs=0.05)
    assert sorted(file.name for file in (run.folder / "panels").iterdir()) == ["0.png", "1.png"]


def test_its_weights_say_what_goes_in_and_by_how_much_it_enlarges(run):
    saved = read_saved(run.folder)
    assert (saved.inputs.shape, saved.preprocessing.channels, saved.classes) == ((1, 6, 6, 1), 1, None)
    np.testing.assert_array_equal(saved.normalizer.mean, [0])
    np.testing.assert_array_equal(saved.normalizer.std, [255])
    assert read_metadata(run.folder / "model.safetensors")["scale"] == "2"


def test_its_parts_are_evaluated_as_the_run_itself_did(run):
    assert evaluate_run(run.folder) == run.summary["test"]
    last = [record for record in run.log if record["split"] == "validation"][-1]
    assert evaluate_run(run.folder, "validation") == {name: last[name] for name in ("loss", "psnr")}
    assert set(evaluate_run(run.folder, "train")) == {"loss", "psnr"}


def test_a_step_of_it_is_taken_apart(run):
    report = debug(run.folder, step=6)
    assert (report.step, len(report.batch), report.findings.fault) == (6, 4, None)
    assert "conv2" in str(report)


def test_its_model_is_a_table(run):
    table = summarise(str(run.folder / "config.yaml"))
    assert table == summarise(str(run.folder))
    assert (table.rows[0].output, table.parameters) == ((1, 6, 6, 3), run.summary["params"])


def test_a_run_that_is_stopped_within_an_epoch_is_resumed_to_the_same_bits(pictures, run, tmp_path):
    asked = iter([False, False])
    with pytest.raises(Stopped):
        fnn.train(
            experiment(pictures),
            folder=lambda: RunFolder.create(tmp_path / "cut", "run"),
            stopped=lambda: next(asked, True),
        )
    assert 0 < json.loads((tmp_path / "cut" / "summary.json").read_text())["step"] < 9
    resumed = fnn.train(experiment(pictures), folder=lambda: RunFolder.resume(tmp_path / "cut"), resume=True)
    for name in ("params_sha256", "test", "pictures"):
        assert resumed.summary[name] == run.summary[name]


def test_a_compiled_loop_does_what_single_steps_do(pictures, tmp_path):
    one, other = (
        trained(pictures, tmp_path / mode, train={"execution": {"mode": mode}}) for mode in ("scan", "step")
    )
    assert one.summary["test"] == pytest.approx(other.summary["test"], rel=1e-4)
    for a, b in zip(one.log, other.log, strict=True):
        assert (a["split"], a["step"]) == (b["split"], b["step"])
        assert (a["loss"], a["psnr"]) == pytest.approx((b["loss"], b["psnr"]), rel=1e-4)


def test_in_colour_and_in_bfloat16(pictures, tmp_path):
    """With so small a rate it is the bicubic picture, which bfloat16 knows to a byte: at 43 dB that shows."""
    source = {"path": str(pictures / "train"), "test": str(pictures / "test"), "scale": 2, "tile": 12}
    changes = {
        "data": {"source": {"super_resolution": {**source, "channels": 3}}, "augment": ["flip"]},
        "model": {"espcn": {"scale": 2, "features": [3], "skip": True, "channels": 3}},
        "optimizer": {"sgd": 1e-3},
        "metrics": [{"psnr": 2}],
        "train": {"epochs": 1},
    }
    wide = trained(pictures, tmp_path / "wide", **changes).summary
    narrow = trained(pictures, tmp_path / "narrow", **changes, precision="bfloat16").summary
    assert narrow["params_sha256"] != wide["params_sha256"]
    assert narrow["test"] == pytest.approx(wide["test"], rel=0.02)
    bicubic = [figures["bicubic_psnr"] for figures in wide["pictures"].values()]
    assert wide["test"]["psnr"] == pytest.approx(np.mean(bicubic), abs=0.05)
    assert narrow["test"]["psnr"] == pytest.approx(np.mean(bicubic), abs=0.5)


def test_a_run_begins_with_the_weights_of_another(pictures, run, tmp_path):
    changes = {"optimizer": {"sgd": 0.0}, "train": {"epochs": 1}}
    begun = trained(pictures, tmp_path / "run", init_from=str(run.folder), **changes)
    assert begun.summary["test"]["psnr"] == pytest.approx(run.summary["test"]["psnr"], abs=1e-3)
    written = read(tmp_path / "run" / "config.yaml").data.normalize
    assert (written.mean, written.std) == ([0.0], [255.0])


def test_its_step_is_measured(pictures, monkeypatch):
    monkeypatch.setattr(timing, "_SIZES", (128,))
    monkeypatch.setattr(timing, "_WARM_UP", 0.02)
    assert bench(experiment(pictures), steps=5).batch_size == 4


def test_an_infinite_ratio_is_null_in_the_files(pictures, tmp_path):
    """Of pictures of one colour nothing is lost."""
    (tmp_path / "flat").mkdir()
    for i in range(2):
        Image.new("RGB", (12, 12), "teal").save(tmp_path / "flat" / f"{i}.png")
    source = {"path": str(tmp_path / "flat"), "test": str(tmp_path / "flat"), "scale": 2, "tile": 12}
    data = {"source": {"super_resolution": {**source, "validation": 0.5}}}
    best = {"epochs": 1, "batch_size": 1, "best": {"max": "psnr"}}
    run = trained(pictures, tmp_path / "run", data=data, optimizer={"sgd": 0.0}, train=best)
    assert run.summary["test"]["psnr"] == np.inf
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test"]["psnr"] is None
    assert summary["pictures"]["0.png"]["psnr"] is None
    assert summary["pictures"]["0.png"]["ssim"] is None  # 8 pixels are left of a side, and a window has 11
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["psnr"] for line in lines] == [None, None]
