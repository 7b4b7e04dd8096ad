"""fnn.commands.execution: what is chosen at a run's start, and what happens where it cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

import fnn
from fnn import kernels
from fnn.choices import ConfigError
from fnn.commands.execution import DETERMINISTIC, ExecutionWarning, prepare, resolve
from fnn.experiment import check, read
from fnn.experiment.schema import ExecutionSection
from fnn.training import RunFolder

ROOT = Path(fnn.__file__).parents[1]
DENSE = fnn.serial(fnn.flatten, fnn.dense(3))
CONV = fnn.serial(fnn.repeat(fnn.conv(1, 3), 2), fnn.flatten, fnn.dense(3))
FILE = """\
data: {source: {synthetic: {shape: [4, 4, 1], classes: 3, size: 20}}}
model: [flatten, {dense: 3}]
train: {epochs: 1, batch_size: 8}
"""


def on(monkeypatch, platform, active, reason=""):
    """Look as a machine would, on which these kernels are active."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(kernels, "status", lambda: kernels.Status(active, reason, None, None, 1))


# ---------------------------------------------------------------- what is chosen


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("platform", "active", "convolution"),
    [("cpu", "xla", "step"), ("cpu", "jax", "step"), ("cpu", "onednn", "scan"), ("gpu", "xla", "scan")],
)
def test_what_is_left_open_is_chosen_by_machine_and_model(monkeypatch, platform, active, convolution):
    on(monkeypatch, platform, active)
    for model, mode in ((DENSE, "scan"), (CONV, convolution)):
        chosen = resolve(ExecutionSection(), model)
        assert chosen == ExecutionSection(mode=mode, kernels=active, threads=kernels.processors())
        assert resolve(chosen, model) == chosen, "a run from a run's config does the same"


def test_a_set_that_stays_on_disk_is_not_read_in_a_compiled_loop():
    assert resolve(ExecutionSection(), DENSE, on_disk=True).mode == "step"
    with pytest.raises(ConfigError, match=r"mode: expected step, as the training part .* scan"):
        resolve(ExecutionSection(mode="scan"), DENSE, on_disk=True)


@pytest.mark.cpu
def test_what_is_given_is_kept():
    for mode in ("scan", "step"):
        given = ExecutionSection(mode=mode, kernels="xla", threads=kernels.processors(), deterministic=True)
        assert resolve(given, CONV) == given


def test_the_choice_is_in_the_runs_config_and_obeyed_from_there(tmp_path):
    seen = {}

    def apply(params, state, x, *, key=None, train=False):
        seen["training" if train else "evaluation"] = kernels.requested().kernels
        return DENSE.apply(params, state, x, key=key, train=train)

    (tmp_path / "run.yaml").write_text(FILE)
    run = fnn.train(
        read(tmp_path / "run.yaml", ["train.execution.mode=step"]),
        model=fnn.Layer(DENSE.init, apply),
        folder=lambda: RunFolder.create(tmp_path / "run", "run"),
    )
    chosen = read(run.folder / "config.yaml").train.execution
    active = kernels.status().active
    assert chosen == ExecutionSection(mode="step", kernels=active, threads=kernels.processors())
    assert seen == {"training": active, "evaluation": active}


# ---------------------------------------------------------------- what cannot be had


@pytest.mark.cpu
def test_kernels_that_are_not_there_are_an_error_at_their_line(monkeypatch, tmp_path):
    on(monkeypatch, "cpu", "xla", "it was not built")
    (tmp_path / "run.yaml").write_text(FILE.replace("batch_size: 8", "execution: {kernels: onednn}"))
    with pytest.raises(ConfigError) as caught:
        fnn.train(read(tmp_path / "run.yaml"))
    assert str(caught.value) == (
        f"{tmp_path}/run.yaml:3: train.execution.kernels: onednn cannot be used: it was not built"
    )


def test_kernels_that_are_refused_are_an_error_too(monkeypatch):
    def use(name):
        raise ValueError(f"no {name} here")

    monkeypatch.setattr(kernels, "use", use)
    with pytest.raises(ConfigError, match=r"^train\.execution\.kernels: no jax here$"):
        resolve(ExecutionSection(kernels="jax"), DENSE)


@pytest.mark.cpu
def test_other_threads_are_a_warning_and_the_config_says_the_truth():
    experiment = check(
        {
            "data": {"source": {"synthetic": {"shape": [4], "classes": 3, "size": 16}}},
            "model": [{"dense": 3}],
            "train": {"epochs": 1, "execution": {"threads": 1000}},
        }
    )
    with pytest.warns(ExecutionWarning) as warned:
        fnn.train(experiment)
    assert [str(warning.message) for warning in warned] == [
        f"train.execution.threads is 1000, and JAX runs on {kernels.processors()}: the last bits may differ"
    ]
    assert warned[0].filename == __file__
    with pytest.warns(ExecutionWarning):
        assert resolve(experiment.train.execution, DENSE).threads == 1000


def test_threads_of_the_cpu_do_not_matter_on_a_gpu(monkeypatch):
    on(monkeypatch, "gpu", "xla")
    assert resolve(ExecutionSection(threads=1000), DENSE).threads == 1000


def test_a_gpu_that_was_started_without_the_flag_is_a_warning(monkeypatch):
    on(monkeypatch, "gpu", "xla")
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.warns(
        ExecutionWarning, match=rf"execution\.deterministic is true, .* {DETERMINISTIC} in XLA"
    ):
        resolve(ExecutionSection(deterministic=True), DENSE)
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to= {DETERMINISTIC}")
    assert resolve(ExecutionSection(deterministic=True), DENSE).deterministic


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_without_units_for_it_is_a_warning(monkeypatch, fast):
    monkeypatch.setattr(kernels, "fast_bfloat16", lambda: fast)
    experiment = check({"model": ["flatten", {"dense": 10}], "precision": "bfloat16", "train": {"epochs": 1}})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fnn.train(experiment)
    found = [w for w in warned if issubclass(w.category, ExecutionWarning)]
    assert [w.filename for w in found] == ([] if fast else [__file__])
    assert all("float32 is faster" in str(w.message) for w in found)


# ---------------------------------------------------------------- before JAX starts


def test_once_jax_has_started_nothing_is_prepared(monkeypatch):
    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", "")
    before = kernels.processors()
    prepare(ExecutionSection(threads=1, deterministic=True))
    assert (kernels.processors(), os.environ["XLA_FLAGS"]) == (before, "")


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to CPUs"
)
def test_a_run_takes_no_more_cpus_than_asked_for_and_xla_its_flag(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text(FILE)
    code = (
        "import os; from fnn.cli import train_script\n"
        "try: train_script()\n"
        "finally: print(os.environ['XLA_FLAGS'])"
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    overrides = ["train.execution.threads=1", "train.execution.deterministic=true"]
    command = [sys.executable, "-c", code, "run.yaml", *overrides, "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    assert done.stdout.splitlines()[-1] == f"--xla_dump_to= {DETERMINISTIC}"
    assert json.loads((tmp_path / "run/summary.json").read_text())["device"]["cpus"] == 1
    assert read(tmp_path / "run/config.yaml").train.execution.threads == 1


@pytest.mark.cpu
def test_a_warning_of_the_command_line_is_one_line(tmp_path):
    (tmp_path / "run.yaml").write_text(FILE)
    command = [sys.executable, ROOT / "train.py", "run.yaml", "train.execution.threads=1000", "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "warning" in line.lower()]
    present = kernels.processors()
    assert warned == [
        f"warning: train.execution.threads is 1000, and JAX runs on {present}: the last bits may differ"
    ]


# ---------------------------------------------------------------- programs that are kept

START = """
import jax, logging, sys
hits = []
class Heard(logging.Handler):
    def emit(self, record):
        hits.append(record.getMessage())
logging.getLogger("jax").addHandler(Heard())
logging.getLogger("jax").setLevel(logging.DEBUG)
logging.getLogger("jax").propagate = False
from fnn.commands.execution import prepare
from fnn.experiment.schema import ExecutionSection
prepare(ExecutionSection())
jax.jit(lambda x: 2 * x + 1)(jax.numpy.ones(3)).block_until_ready()
print(sum("Persistent compilation cache hit for 'jit__lambda'" in hit for hit in hits))
"""


def started(home, **environment):
    """How many programs a new process took from the cache below a home folder."""
    made = {**os.environ, "HOME": str(home), "JAX_PLATFORMS": "cpu", **environment}
    made.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, capture_output=True, text=True, env=made, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return int(done.stdout)


def test_the_second_start_takes_its_programs_from_the_users_cache_folder(tmp_path):
    assert [started(tmp_path), started(tmp_path)] == [0, 1]
    assert list((tmp_path / ".cache" / "fnn" / "programs").iterdir())


def test_no_program_is_kept_where_the_user_does_not_want_it_or_nothing_can_be_written(tmp_path):
    assert [started(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0") for _ in range(2)] == [0, 0]
    assert not (tmp_path / ".cache").exists()
    elsewhere = str(tmp_path / "elsewhere")
    started(tmp_path, JAX_COMPILATION_CACHE_DIR=elsewhere, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert os.listdir(elsewhere)
    assert not (tmp_path / ".cache").exists()
    (tmp_path / "file").write_text("")
    assert started(tmp_path / "file") == 0
