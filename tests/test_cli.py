"""fnn.cli: what is typed, what comes back, and that a mistake is one clear line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import cli
from fnn.experiment import fields

ROOT = Path(fnn.__file__).parents[1]

TINY = """\
data:
  source: {synthetic: {shape: [4, 4, 1], classes: 3, size: 20}}
model:
  - flatten
  - dense: 4
  - relu
  - dense: 3
optimizer: {sgd: 0.1}
train:
  epochs: 1
  batch_size: 8
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a config, in which every command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run a command in this process: its exit code, standard output and standard error."""

    def run(*arguments, entry=cli.train_script):
        monkeypatch.setattr(sys, "argv", ["train.py" if entry is cli.train_script else "fnn", *arguments])
        with pytest.raises(SystemExit) as caught:
            entry()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def spawned(*command, **options):
    """Run a command in a process of its own."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, **options)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "__pycache__")


# ---------------------------------------------------------------- training


def test_train_py_trains_and_says_the_result_and_the_folder(here):
    done = spawned(ROOT / "train.py", "tiny.yaml", "train.epochs=2", "--out", "out")
    assert done.returncode == 0, done.stderr
    summary = json.loads((here / "out" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("completed", 4)
    result, place = done.stdout.splitlines()
    figures = summary["test"]
    assert result == f"test loss {figures['loss']:.4f}  accuracy {100 * figures['accuracy']:.2f} %"
    assert re.fullmatch(r"run out  \(\d+\.\d s\)", place)
    assert re.search(r"epoch 2/2  step 4/4  loss \d.*accuracy \d.*examples/s", done.stderr)
    assert "Warning" not in done.stderr
    assert "# train.epochs=2" in (here / "out" / "config.yaml").read_text().splitlines()


@pytest.mark.slow
def test_fnn_train_is_the_same_command(typed, here):
    main = "from fnn.cli import main; main()"
    done = spawned("-c", main, "train", "tiny.yaml", "seed=1", "--out", "one")
    assert done.returncode == 0, done.stderr
    assert typed("tiny.yaml", "seed=1", "--out", "two")[0] == 0
    one, two = (json.loads((here / name / "summary.json").read_text()) for name in ("one", "two"))
    assert one["params_sha256"] == two["params_sha256"]


@pytest.mark.slow
def test_without_out_a_run_gets_the_lowest_free_number(typed, here):
    code, out, _ = typed("tiny.yaml")
    assert code == 0
    assert "run runs/tiny-1  (" in out
    typed("tiny.yaml", "seed=1")
    assert sorted(os.listdir(here / "runs")) == ["tiny-1", "tiny-2"]


def test_a_run_is_overwritten_only_on_demand(typed, here):
    assert typed("tiny.yaml", "--out", "out")[0] == 0
    before = {file.name: file.read_bytes() for file in (here / "out").iterdir() if file.is_file()}
    code, out, err = typed("tiny.yaml", "seed=1", "--out", "out")
    assert (code, out) == (2, "")
    assert err == "error: out exists and is not empty: choose another --out, --resume or --overwrite\n"
    assert {file.name: file.read_bytes() for file in (here / "out").iterdir() if file.is_file()} == before
    assert typed("tiny.yaml", "seed=1", "--out", "out", "--overwrite")[0] == 0
    assert set(os.listdir(here / "out")) >= set(before)
    assert "seed: 1\n" in (here / "out" / "config.yaml").read_text()


def test_predictions_are_printed(typed):
    code, out, _ = typed(str(ROOT / "configs" / "goals_regression.yaml"), "--out", "out")
    assert code == 0
    assert out.splitlines()[0] == "prediction 54.5000"


def test_a_run_that_diverges_is_one_line_and_exit_code_1(typed):
    code, out, err = typed("tiny.yaml", "optimizer.sgd.learning_rate=1e30", "train.epochs=4", "--out", "out")
    assert (code, out) == (1, "")
    norm = r"error: the (loss|(gradient|update|parameter) norm) is (nan|inf) at step \d: .*"
    assert re.fullmatch(norm, err.splitlines()[-1])
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_users_own_layer_comes_in_by_import(here):
    (here / "my_layers.py").write_text(
        "import fnn\n\n\n@fnn.register\ndef bottleneck(features: int, narrow: int = 2) -> fnn.Layer:\n"
        "    return fnn.serial(fnn.dense(narrow), fnn.relu, fnn.dense(features))\n"
    )
    command = [ROOT / "train.py", "tiny.yaml", "model=[flatten, {bottleneck: 3}]"]
    done = spawned(*command, "model.bottleneck1.narrow=5", "--import", "my_layers", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((here / "out" / "summary.json").read_text())["params"] == 16 * 5 + 5 + 5 * 3 + 3
    done = spawned(*command, "--out", "other")
    assert done.returncode == 2
    assert "unknown layer 'bottleneck'" in done.stderr


def test_a_users_own_logger_that_fails_is_a_line_and_the_run_goes_on(here):
    (here / "my_logger.py").write_text(
        "import fnn\n\n\n@fnn.register(group='logger')\nclass webhook:\n"
        "    def __init__(self, url: str): self.url = url\n"
        "    def begin(self, run): print(run.name, self.url)\n"
        "    def record(self, record): raise OSError('unreachable')\n"
        "    def end(self, summary): print('never')\n"
    )
    command = [ROOT / "train.py", "tiny.yaml", "log=[{webhook: there}]", "--import", "my_logger"]
    done = spawned(*command, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "out there"
    assert "never" not in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
        "warning: the logger webhook failed and is not called again, the run goes on; "
        "record: OSError: unreachable"
    ]
    assert json.loads((here / "out" / "summary.json").read_text())["status"] == "completed"


@pytest.mark.slow
def test_an_interrupted_run_is_one_line_and_exit_code_130(here):
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from fnn.cli import train_script; train_script()"
    )
    command = [sys.executable, "-c", script, "tiny.yaml", "train.epochs=10000000", "--out", "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        log = here / "out" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert out == ""
    line = r"stopped after step \d+; to go on: fnn train out/config.yaml --out out --resume"
    assert re.fullmatch(line, err.splitlines()[-1])
    assert "Traceback" not in err
    assert json.loads((here / "out" / "summary.json").read_text())["status"] == "interrupted"


# ---------------------------------------------------------------- mistakes

MISTAKES = {
    "a missing file": (None, ["none.yaml"], "none.yaml: cannot be read: No such file or directory"),
    "an unknown key": (
        TINY.replace("epochs: 1", "epoch: 1"),
        [],
        "tiny.yaml:10: train.epoch: unknown key; nearest: epochs",
    ),
    "an unknown section": (
        TINY.replace("train:", "trian:"),
        [],
        "tiny.yaml:9: trian: unknown key; nearest: train",
    ),
    "a bad value": (
        TINY.replace("epochs: 1", "epochs: '1'"),
        [],
        "tiny.yaml:10: train.epochs: expected a valid integer, got '1'",
    ),
    "bad YAML": (TINY.replace("- relu", "- relu: ["), [], "tiny.yaml:7: "),
    "a key twice": (TINY + "seed: 0\nseed: 1\n", [], "tiny.yaml:13: found duplicate key"),
    "a tag": (TINY + "seed: !!int '0'\n", [], "tiny.yaml:12: tags are refused"),
    "an unknown layer": (
        TINY.replace("- relu", "- rleu"),
        [],
        "tiny.yaml:6: model.2: unknown layer 'rleu'; nearest: relu",
    ),
    "an unknown argument": (
        TINY.replace("dense: 4", "dense: {feature: 4}"),
        [],
        "tiny.yaml:5: model.1.dense.feature: unknown argument of dense; nearest: features",
    ),
    "a shape": (
        TINY.replace("- relu", "- max_pool: 2"),
        [],
        "tiny.yaml:6: model.2: max_pool1: expected an input of rank 4 (batch, height, width, channels), got",
    ),
    "too few outputs": (
        TINY.replace("dense: 3", "dense: 2"),
        [],
        "tiny.yaml:3: model: expected an output for each of 3 classes, got (8, 2)",
    ),
    "an unknown optimiser": (
        TINY.replace("sgd", "sdg"),
        [],
        "tiny.yaml:8: optimizer.sdg: unknown optimizer 'sdg'; nearest: sgd",
    ),
    "an unknown logger": (
        TINY + "log: [tensorbord]\n",
        [],
        "tiny.yaml:12: log.0: unknown logger 'tensorbord'; nearest: tensorboard",
    ),
    "an override's key": (
        TINY,
        ["train.epoch=3"],
        "override train.epoch=3: train.epoch: unknown key; nearest: epochs",
    ),
    "an override's value": (
        TINY,
        ["train.epochs=many"],
        "override train.epochs=many: train.epochs: expected a valid integer, got 'many'",
    ),
    "an override's layer": (TINY, ["model.dens1.features=3"], "no 'dens1' in model; nearest: dense1"),
    "an override without =": (TINY, ["seed"], "expected an override dotted.key=value, got 'seed'"),
    "an override's YAML": (TINY, ["seed=[1"], "override seed=[1"),
    "an override of two lines": (TINY, ["train.epochs=[1,\n 2]"], "train.epochs: expected a valid integer"),
    "a module": (TINY, ["--import", "no_such_module"], "--import no_such_module: No module named"),
    "an out that is a file": (TINY, ["--out", "tiny.yaml"], "tiny.yaml: cannot be made: File exists"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_is_written(typed, here, name):
    text, arguments, message = MISTAKES[name]
    if text is not None:
        Path("tiny.yaml").write_text(text)
        arguments = ["tiny.yaml", *arguments]
    before = contents(here)
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert contents(here) == before


def test_a_mistake_has_no_traceback_in_a_process_of_its_own_either(here):
    done = spawned(ROOT / "train.py", "tiny.yaml", "train.epoch=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: override train.epoch=3: train.epoch: unknown key; nearest: epochs")
    assert done.stderr.count("\n") == 1
    assert contents(here) == ["tiny.yaml"]


def test_a_missing_data_set_says_what_was_looked_for_and_where(typed, here, monkeypatch):
    (here / "empty").mkdir()
    monkeypatch.setenv("FNN_DATA", str(here / "empty"))
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    before = contents(here)
    code, out, err = typed(str(ROOT / "configs" / "mnist_mlp.yaml"))
    assert (code, out) == (2, "")
    assert re.match(
        r"error: \S*mnist_mlp\.yaml:\d+: data\.source: mnist: expected the files train-images-idx3", err
    )
    for folder in ("empty/mnist", "data/mnist", "home/.cache/fnn/mnist"):
        assert str(here / folder) in err
    assert "FNN_DATA" in err
    assert err.count("\n") == 1
    assert contents(here) == before


@pytest.mark.slow
def test_an_override_of_several_lines_is_one_run_that_can_be_repeated(typed, here):
    code, _, err = typed("tiny.yaml", "model=[flatten,\n  {dense: 3}]", "--out", "out")
    assert code == 0, err
    code, _, err = typed("out/config.yaml", "--out", "again")
    assert code == 0, err
    one, two = (json.loads((here / name / "summary.json").read_text()) for name in ("out", "again"))
    assert one["params_sha256"] == two["params_sha256"]


def test_a_fault_of_our_own_keeps_its_traceback(typed, monkeypatch):
    def fault(*arguments, **keywords):
        raise ValueError("a bug")

    monkeypatch.setattr("fnn.commands.train.build", fault)
    with pytest.raises(ValueError, match="a bug"):
        typed("tiny.yaml")


@pytest.mark.parametrize(
    "fault",
    [MemoryError("Unable to allocate 9 GiB"), RuntimeError("RESOURCE_EXHAUSTED: Unable to allocate 9 GiB")],
)
def test_too_little_memory_is_one_line(typed, monkeypatch, fault):
    def allocate(*arguments, **keywords):
        raise fault

    monkeypatch.setattr("fnn.commands.train.build", allocate)
    code, out, err = typed("tiny.yaml")
    assert (code, out) == (2, "")
    assert (
        err == f"error: out of memory: {fault}; a smaller batch (train.batch_size, --batch-size) takes less\n"
    )


def test_another_fault_of_a_library_keeps_its_traceback(typed, monkeypatch):
    def fault(*arguments, **keywords):
        raise RuntimeError("INTERNAL: a bug")

    monkeypatch.setattr("fnn.commands.train.build", fault)
    with pytest.raises(RuntimeError, match="a bug"):
        typed("tiny.yaml")


# ---------------------------------------------------------------- help, summary


def test_help_lists_every_field_with_type_default_and_meaning(typed):
    code, out, _ = typed("--help")
    assert code == 0
    lines = [re.sub(r"\s+", " ", line).strip() for line in out.splitlines()]
    assert len(fields()) >= 19
    for row in fields():
        assert " ".join(row) in lines
    for option in ("--out", "--overwrite", "--import", "KEY=VALUE"):
        assert option in out
    code, out, _ = typed("train", "--help", entry=cli.main)
    assert code == 0
    assert "train.batch_size" in out


def test_without_arguments_the_commands_are_shown(typed):
    code, out, err = typed(entry=cli.main)
    assert code in (0, 2)
    for text in ("train", "Train from a config.", "summary", "Print a model as a table"):
        assert text in out + err


def test_summary_prints_the_table_of_the_model(typed, here):
    before = contents(here)
    code, out, err = typed("summary", "tiny.yaml", "model.dense1.features=5", entry=cli.main)
    assert (code, err) == (0, "")
    model = fnn.serial(fnn.flatten, fnn.dense(5), fnn.relu, fnn.dense(3))
    table = fnn.summary(model, jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))
    assert out == f"{table}\n"
    assert f"{16 * 5 + 5 + 5 * 3 + 3}" in out.splitlines()[-1]
    assert contents(here) == before


def test_summary_takes_an_input_and_a_batch(typed, here):
    code, out, err = typed("summary", "lenet", "--input", "28x28x1", "--batch", "7", entry=cli.main)
    assert (code, err) == (0, "")
    assert out == f"{fnn.summary(fnn.lenet(), jax.ShapeDtypeStruct((7, 28, 28, 1), jnp.float32))}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["tiny.yaml", "model.2=rleu"],
            "override model.2=rleu: model.2: unknown layer 'rleu'; nearest: relu",
        ),
        (
            ["lennet"],
            "lennet: expected a config (.yaml), a weights file (.safetensors), a run's folder or a network; "
            "nearest: lenet",
        ),
        (["lenet"], "lenet: expected the shape of an example, such as --input 28x28x1"),
        (["lenet", "--input", "28,28,1"], "--input: expected sizes such as 224x224x3, got '28,28,1'"),
        (["lenet", "--input", "28x28x0"], "--input: expected sizes such as 224x224x3, got '28x28x0'"),
        (["lenet", "--input", "28"], "conv1: expected an input of rank "),
        (["lenet", "--input", "99999x999999x3", "--batch", "99"], "expected inputs of at most "),
        (["lenet", "classes=3"], "lenet is no config (.yaml): expected no override, got 'classes=3'"),
        (["none.yaml"], "none.yaml: cannot be read: No such file or directory"),
        (["none.safetensors"], "none.safetensors: expected a safetensors file, found none"),
        (["."], ".: expected a run that has ended, with model.safetensors in it, found none"),
    ],
)
def test_a_mistake_in_summary_is_one_line_too(typed, arguments, message):
    code, out, err = typed("summary", *arguments, entry=cli.main)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_both_entry_points_are_declared():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"fnn": "fnn.cli:main"}
    assert "train_script()" in (ROOT / "train.py").read_text()


# ---------------------------------------------------------------- predict


@pytest.fixture
def classifier(here):
    """A file of a model that finds a picture's brightness, and three pictures, one of them broken."""
    import numpy as np
    from PIL import Image

    from fnn.training.weights import save_weights

    metadata = {
        "config": "model: [global_avg_pool, {dense: 2}]",
        "input": "[2, 2, 1]",
        "classes": '["dark", "light"]',
        "preprocess": '{"size": [2, 2], "channels": 1}',
    }
    params = {"dense1": {"kernel": np.float32([[0, 1 / 255]]), "bias": np.float32([0, -0.5])}}
    Path("model.safetensors").write_bytes(save_weights(params, {}, metadata))
    Path("pictures").mkdir()
    Image.new("L", (3, 3), 255).save("pictures/a.png")
    Path("pictures/b.png").write_text("no picture")
    Image.new("L", (3, 3), 0).save("pictures/c.png")


BROKEN = "pictures/b.png: expected a picture (JPEG, PNG, BMP, GIF, PPM, TIFF, WEBP, AVIF, JPEG2000, TGA), "
BROKEN += "found bytes 6e 6f 20 70 69 63 74 75"


def test_predict_prints_a_table_and_a_line_for_what_is_broken(typed, classifier):
    code, out, err = typed("predict", "model.safetensors", "pictures", entry=cli.main)
    assert code == 1, "one of them is broken"
    assert err == f"error: {BROKEN}\n"
    assert out.splitlines() == [
        "picture         name   class  probability",
        "─────────────────────────────────────────",
        "pictures/a.png  light      1      62.25 %",
        "                dark       0      37.75 %",
        "pictures/c.png  dark       0      62.25 %",
        "                light      1      37.75 %",
    ]


def test_predict_prints_json_and_csv(typed, classifier):
    command = ["predict", "model.safetensors", "pictures", "--top", "1"]
    code, out, _ = typed(*command, "--json", entry=cli.main)
    assert code == 1
    first, second, third = json.loads(out)
    (guess,) = first["top"]
    assert guess == {"class": 1, "name": "light", "probability": pytest.approx(0.62246, abs=1e-5)}
    assert second == {"path": "pictures/b.png", "error": BROKEN}
    assert third["top"][0]["name"] == "dark"
    code, out, _ = typed(*command, "--csv", "--batch-size", "1", entry=cli.main)
    assert code == 1
    assert out.splitlines()[0] == "path,rank,class,name,probability,error"
    assert [line.split(",")[:4] for line in out.splitlines()[1::2]] == [
        ["pictures/a.png", "1", "1", "light"],
        ["pictures/c.png", "1", "0", "dark"],
    ]


def test_predict_ends_with_0_where_every_picture_is_whole_and_prints_no_empty_table(typed, classifier):
    command = ["predict", "model.safetensors"]
    code, out, err = typed(*command, "pictures/a.png", "--top", "1", entry=cli.main)
    assert (code, err) == (0, "")
    assert out.splitlines()[2:] == ["pictures/a.png  light      1      62.25 %"]
    code, out, err = typed(*command, "pictures/b.png", entry=cli.main)
    assert (code, out, err) == (1, "", f"error: {BROKEN}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.safetensor", "pictures"], "model.safetensor: expected a safetensors file, found none"),
        (["pictures/a.png", "pictures"], "pictures/a.png: cannot be read as safetensors"),
        (["pictures", "pictures"], "pictures: expected a run that has ended, with model.safetensors in it"),
        (["model.safetensors", "empty"], "empty: expected pictures (.apng, .avif, "),
        (["model.safetensors", "pictures", "--json", "--csv"], "expected --json or --csv, got both"),
    ],
)
def test_a_mistake_in_predict_is_one_line_too(typed, classifier, arguments, message):
    Path("empty").mkdir()
    code, out, err = typed("predict", *arguments, entry=cli.main)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_who_reads_a_prediction_may_stop_reading(classifier, here):
    main = "from fnn.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        main,
        "predict",
        "model.safetensors",
        *["pictures/a.png"] * 5000,
        "--csv",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"path,")
        process.stdout.close()
        err = process.stderr.read()
    assert (process.wait(), err) == (1, b"")


@pytest.mark.slow
def test_a_bar_on_the_terminal_keeps_out_of_what_is_printed_elsewhere(classifier, here):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    main = "from fnn.cli import main; main()"
    with open("out.csv", "wb") as out:
        command = [sys.executable, "-c", main, "predict", "model.safetensors", "pictures", "--csv"]
        done = subprocess.run(command, stdout=out, stderr=theirs, timeout=120)
    os.close(theirs)
    told = b""
    try:
        while part := os.read(ours, 1 << 16):
            told += part
    except OSError:  # the end of what is no file
        pass
    os.close(ours)
    assert done.returncode == 1
    assert b"2/3 pictures" in told or b"3/3 pictures" in told
    assert b"error: pictures/b.png" in told
    assert len(Path("out.csv").read_text().splitlines()) == 1 + 2 + 1 + 2


# ---------------------------------------------------------------- upscale


@pytest.fixture
def enlarger(here):
    """A file of a model that doubles pictures, and three of them, one of them broken."""
    from PIL import Image

    from tests.commands.tiny_enlarger import save

    save(Path("model.safetensors"), [{"upsample": 2}])
    Path("pictures").mkdir()
    Image.new("L", (3, 2), 255).save("pictures/a.png")
    Path("pictures/b.png").write_text("no picture")
    Image.new("RGB", (5, 4)).save("pictures/c.png")


def test_upscale_says_what_it_wrote(typed, enlarger):
    command = ["upscale", "--run", "model.safetensors"]
    code, out, err = typed(*command, "pictures/a.png", "a.jpg", entry=cli.main)
    assert (code, out, err) == (0, "pictures/a.png (3 × 2) -> a.jpg (6 × 4)\n", "")
    code, out, err = typed(*command, "pictures", "large", "--scale", "2", entry=cli.main)
    assert (code, out, err) == (1, "2 pictures enlarged\n", f"error: {BROKEN}\n")
    assert sorted(file.name for file in Path("large").iterdir()) == ["a.png", "c.png"]
    code, out, err = typed(*command, "pictures/b.png", "b.png", entry=cli.main)
    assert (code, out, err) == (1, "", f"error: {BROKEN}\n")
    Path("pictures/b.png").unlink()
    Path("pictures/c.png").unlink()
    code, out, err = typed(*command, "pictures", "large", "--overwrite", entry=cli.main)
    assert (code, out, err) == (0, "1 picture enlarged\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pictures", "out"], "model.safetensor: expected a safetensors file, found none"),
        (
            ["pictures", "out", "--run", "model.safetensors", "--scale", "3"],
            "--scale 3: model.safetensors is a",
        ),
        (["pictures", "pictures"], "pictures: expected another place than where the pictures are read from"),
        (["pictures/a.png", "a.gif"], "a.gif: expected a name that ends in .png, "),
        (["none", "out"], "none: expected a picture or a folder of them, found none"),
        (["pictures", "out", "--scale", "7"], "expected a scale that fnn has a model of ("),
    ],
)
def test_a_mistake_in_upscale_is_one_line_too(typed, enlarger, arguments, message):
    run = [] if "--scale" in arguments else ["--run", "model.safetensor"]
    code, out, err = typed("upscale", *arguments, *run, entry=cli.main)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_an_interrupted_upscale_ends_in_one_line(typed, enlarger, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    code, out, err = typed("upscale", "pictures", "out", "--run", "model.safetensors", entry=cli.main)
    assert (code, out, err) == (130, "", "error: interrupted\n")
    assert not list(Path("out").iterdir())


# ---------------------------------------------------------------- data


@pytest.fixture
def mirrored(here, monkeypatch):
    """A set of two files on a server on loopback, and what was asked of it."""
    import hashlib
    import http.server
    import threading

    from fnn.data import published

    files, asked = {"a.gz": b"a" * 1000, "b.gz": b"b" * 10}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path[1:]])))
            self.end_headers()
            self.wfile.write(files[self.path[1:]])

        def log_message(self, *arguments):
            pass

    known = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        for name in ("mnist", "kmnist"):
            monkeypatch.setitem(published.PUBLISHED, name, published.Published(name, address, known))
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        monkeypatch.delenv("FNN_DATA", raising=False)
        yield files, asked
        server.shutdown()
        thread.join(5)


def test_data_get_says_what_it_did_and_how_to_use_it(typed, here, mirrored):
    _, asked = mirrored
    folder = here / "cache" / "fnn" / "mnist"
    code, out, err = typed("data", "get", "mnist", entry=cli.main)
    assert (code, err) == (0, "")
    assert out == f"mnist: 2 downloaded, 0 already there, in {folder}\nuse it by data.source=mnist\n"
    _, out, _ = typed("data", "get", "mnist", entry=cli.main)
    assert out.startswith("mnist: 0 downloaded, 2 already there")
    assert asked == ["/a.gz", "/b.gz"]
    _, out, _ = typed("data", "get", "mnist", "--to", "mine", entry=cli.main)
    assert (here / "mine" / "mnist" / "a.gz").exists()
    assert f"use it by FNN_DATA={here / 'mine'}, or" in out
    _, out, _ = typed("data", "get", "kmnist", "--to", "data", entry=cli.main)
    assert out.endswith(f"use it by data.source=idx data.path={here / 'data' / 'kmnist'}\n")


def test_a_mistake_in_data_is_one_line_too(typed, here, mirrored):
    files, _ = mirrored
    before = contents(here)
    files["a.gz"] = b"x" * 1000
    for arguments, message in {
        ("get", "mnist"): "a.gz: expected the SHA-256 ",
        ("get", "mnits"): "expected a published set, found 'mnits'; nearest: mnist",
        ("check", "mnits"): "expected a published set, found 'mnits'; nearest: mnist",
        ("check", "mnist"): "get mnist: fnn data get mnist; or set FNN_DATA",
    }.items():
        code, out, err = typed("data", *arguments, entry=cli.main)
        assert (code, out) == (2, "")
        assert err.startswith("error: ") and message in err
        assert err.count("\n") == 1
    assert [name for name in contents(here) if not name.startswith("cache")] == before


def test_a_bar_is_drawn_on_a_terminal_alone(monkeypatch, capsys):
    from fnn.commands.data import DownloadBar

    for forced in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", forced)
        with DownloadBar() as bar:
            bar("a.gz", 10, 20)
            bar("a.gz", 20, 20)
        assert ("a.gz" in capsys.readouterr().err) == bool(forced)


@pytest.mark.data
@pytest.mark.skipif("FNN_DATA" not in os.environ, reason="needs MNIST under $FNN_DATA")
def test_data_check_says_where_a_right_set_is(typed):
    code, out, err = typed("data", "check", "mnist", entry=cli.main)
    assert (code, err) == (0, "")
    assert out == f"mnist: every file is as published, in {Path(os.environ['FNN_DATA'], 'mnist')}\n"


def test_what_a_damaged_file_says_cannot_drive_the_terminal(typed, here):
    import numpy as np

    np.savez(here / "a.npz", **{"\x1b[2Jx": np.ones(3)})
    code, _, err = typed("tiny.yaml", "data.source.arrays.path=a.npz")
    assert code == 2
    assert "expected the array 'x', found none; nearest: \N{REPLACEMENT CHARACTER}[2Jx" in err
    assert "\x1b" not in err
