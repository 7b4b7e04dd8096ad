"""fnn doctor: every line is there whatever is missing, and advice only where it helps."""

from __future__ import annotations

import json
import platform
import sys

import jax
import pytest

import fnn
from fnn import cli, kernels
from fnn.commands import doctor
from fnn.commands.doctor import examine
from fnn.kernels import Status

LABELS = [
    "system", "processor", "instructions", "threads", "versions", "devices", "JAX_PLATFORMS", "kernels",
    "native part", "freed memory", "compiler", "data",
]  # fmt: skip
SLOW = Status("xla", "there is no native part", None, None, 1)
FAST = Status("onednn", "native part loaded", "/lib/native.so", "3.2.0", 2)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A Linux machine with a compiler, without GPU, without native part; what is found by name."""
    programs = {"c++": "/usr/bin/c++"}
    monkeypatch.setattr(doctor.shutil, "which", programs.get)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(kernels, "status", lambda: SLOW)
    for name in ("JAX_PLATFORMS", "FNN_KERNELS", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return programs


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run ``fnn doctor``: its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fnn", "doctor", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


class BuildError(ValueError):
    """As the kernels raise it."""


@pytest.fixture
def builds(monkeypatch):
    """Have ``kernels.build`` do something."""

    def install(build):
        monkeypatch.setattr(kernels, "build", build, raising=False)
        monkeypatch.setattr(kernels, "BuildError", BuildError, raising=False)

    return install


def fails(*arguments, **keywords):
    raise RuntimeError("it is\nbroken")


# ---------------------------------------------------------------- the findings


def test_every_finding_has_a_row(typed):
    code, out, err = typed()
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines() if line[0] != " "] == [*LABELS, "advice"]
    assert max(map(len, out.splitlines())) <= 80


def test_versions_are_those_that_are_installed():
    found = examine().findings["versions"]
    assert (found["fnn"], found["jax"], found["oneDNN"]) == (fnn.__version__, jax.__version__, "none")
    assert found["python"] == platform.python_version()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("avx2 avx512f avx512_bf16 amx_tile sse2", "AVX2, AVX-512, AVX512_BF16, AMX"),
        ("avx2 fma", "AVX2; no AVX-512, AVX512_BF16, AMX"),
        ("asimd", "none of AVX2, AVX-512, AVX512_BF16, AMX"),
        ("", "unknown: the system does not list them"),
    ],
)
def test_instructions_are_those_of_the_processors_flags(monkeypatch, flags, text):
    monkeypatch.setattr(doctor, "processor", lambda: ("A Processor", frozenset(flags.split())))
    findings = examine().findings
    assert (findings["processor"], findings["instructions"]) == ("A Processor", text)


def test_threads_are_the_cpus_that_may_be_used(monkeypatch):
    monkeypatch.setattr(kernels, "processors", lambda: 3)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    assert examine().findings["threads"] == "3 of 64 CPUs may be used"
    monkeypatch.setattr(kernels, "status", lambda: FAST)
    assert examine().findings["threads"].endswith(", native work is cut into 2 pieces")


def test_each_folder_of_data_says_what_lies_in_it(monkeypatch, tmp_path):
    for name in ("mnist", "sr"):
        (tmp_path / "all" / name).mkdir(parents=True)
    (tmp_path / "all" / "a_file").write_text("")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "all"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert examine().findings["data"] == [
        f"{tmp_path}/all: mnist, sr",
        f"{tmp_path}/data: no sets",
        f"{tmp_path}/cache/fnn: no such folder",
    ]


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        ((kernels, "status"), {"kernels", "native part", "versions", "threads"}),
        ((jax, "devices"), {"devices"}),
        ((doctor, "processor"), {"processor", "instructions"}),
        ((kernels, "processors"), {"threads"}),
        ((doctor, "data_roots"), {"data"}),
        ((doctor.shutil, "which"), {"compiler"}),
        ((platform, "system"), {"system"}),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_is_broken_costs_its_own_line_only(monkeypatch, typed, target, labels):
    monkeypatch.setattr(*target, fails)
    findings = examine().findings
    assert list(findings) == LABELS
    assert {
        label for label, text in findings.items() if str(text).startswith("unknown: RuntimeError")
    } == labels
    assert typed()[0] == 0


def test_a_failure_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(jax, "devices", fails)
    assert examine().findings["devices"] == "unknown: RuntimeError it is broken"


# ---------------------------------------------------------------- advice


def test_without_native_part_it_is_to_be_built():
    assert examine().advice == ["run fnn doctor --build for the fast kernels"]


def test_without_compiler_that_comes_first(machine):
    machine.clear()
    found = examine()
    assert found.findings["compiler"] == "none"
    (advice,) = found.advice
    assert advice.startswith(
        "install a C++ compiler (g++ 11 or newer), or set CXX; then run fnn doctor --build"
    )


def test_the_compiler_is_the_one_that_was_named(machine, monkeypatch):
    machine["my-c++"] = "/opt/my-c++"
    monkeypatch.setenv("CXX", "my-c++")
    assert examine().findings["compiler"] == "/opt/my-c++"


def test_kernels_that_were_chosen_are_no_fault_of_the_machine(monkeypatch):
    monkeypatch.setenv("FNN_KERNELS", "xla")
    (advice,) = examine().advice
    assert advice.startswith("FNN_KERNELS=xla decides; unset it")


def test_with_native_part_there_is_no_advice(monkeypatch, typed):
    monkeypatch.setattr(kernels, "status", lambda: FAST)
    found = examine()
    assert found.advice == []
    assert (found.findings["kernels"], found.findings["native part"]) == (
        "onednn: native part loaded",
        "/lib/native.so",
    )
    assert found.findings["versions"]["oneDNN"] == "3.2.0"
    assert "advice" not in typed()[1]


@pytest.mark.parametrize(
    ("system", "arch"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")]
)
def test_where_there_is_no_native_part_none_is_advised(monkeypatch, system, arch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: arch)
    assert examine().advice == []


def test_a_gpu_that_is_not_used_is_pointed_out(machine, monkeypatch):
    machine["nvidia-smi"] = "/usr/bin/nvidia-smi"
    monkeypatch.setattr(kernels, "status", lambda: FAST)
    (advice,) = examine().advice
    assert "jax[cuda13]" in advice
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert examine().advice == []
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert examine().advice == []


def test_a_platform_that_jax_has_not_is_pointed_out(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "default_backend", fails)
    (advice,) = examine().advice
    assert advice.startswith("JAX cannot use JAX_PLATFORMS=cuda")


# ---------------------------------------------------------------- building, JSON


def test_build_comes_first_and_its_file_is_shown(builds, monkeypatch, typed, tmp_path):
    def build():
        monkeypatch.setattr(kernels, "status", lambda: FAST)
        return tmp_path / "native.so"

    builds(build)
    code, out, err = typed("--build")
    assert (code, err) == (0, "")
    assert f"built          {tmp_path / 'native.so'}\n" in out
    assert "kernels        onednn: native part loaded\n" in out


def test_a_build_that_fails_is_one_line_and_exit_code_1(builds, typed):
    def build():
        raise BuildError("g++ is\nnot found")

    builds(build)
    code, out, err = typed("--build")
    assert (code, err) == (1, "error: g++ is not found\n")
    assert out.startswith("system  "), "the rest is told all the same"
    code, out, _ = typed("--build", "--json")
    found = json.loads(out)
    assert (code, found["built"], found["error"]) == (1, None, "g++ is\nnot found")


def test_nothing_is_built_unless_it_is_asked_for(builds, typed):
    builds(fails)
    assert typed()[0] == 0


def test_json_is_one_object(typed):
    code, out, err = typed("--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"findings", "advice", "built", "error"}
    assert list(found["findings"]) == LABELS
    assert found["findings"]["versions"]["jax"] == jax.__version__
