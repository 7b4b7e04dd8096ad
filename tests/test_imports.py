"""The house: a module imports from lower floors or its own package, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fnn

ROOT = Path(fnn.__file__).parent

FLOORS = [
    {"layer", "luma", "trees", "registry", "choices", "document", "table", "version", "machine", "kernels"},
    {"layers", "losses", "metrics", "optim", "data"},
    {"combine", "repeat", "capture", "probe"},
    {"models"},
    {"training", "analysis", "testing"},
    {"experiment", "pretrained"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
HEAVY = (
    "PIL",
    "grain",
    "matplotlib",
    "mlflow",
    "orbax",
    "pandas",
    "pooch",
    "pydantic",
    "requests",
    "rich",
    "ruamel",
    "sklearn",
    "tensorboardX",
    "torch",
    "typer",
    "wandb",
)

MODULES = {
    ".".join(("fnn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(module: str) -> Iterator[str]:
    """The modules of fnn that a module imports, at the top or inside of a function."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "fnn")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: line {node.lineno}"
            if node.module and node.module.split(".")[0] == "fnn":
                inner = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name if name in MODULES else node.module for name in inner)


def room(module: str) -> str:
    """What stands on a floor: a package of fnn, or one of its own modules."""
    return module.split(".")[1]


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def package(module: str) -> str:
    """The package that a module lies in: two of ``fnn``'s own modules share ``fnn``."""
    return f"fnn.{room(module)}" if (ROOT / room(module)).is_dir() else "fnn"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "fnn"])
def test_a_module_imports_from_lower_floors_or_its_own_package(module: str) -> None:
    for other in imports(module):
        assert other != "fnn", f"{module} imports from fnn itself, which is above all"
        below = floor(other) < floor(module)
        beside = floor(other) == floor(module) and package(other) == package(module)
        assert below or beside, f"{module} on floor {floor(module)} imports {other} on floor {floor(other)}"


def test_no_modules_import_each_other_in_a_cycle() -> None:
    graph = {module: set(imports(module)) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


def test_every_module_has_one_floor() -> None:
    rooms = {room(module) for module in MODULES if module != "fnn"}
    homeless = rooms - set().union(*FLOORS)
    assert not homeless, f"on no floor: {homeless}"
    assert sum(len(rooms) for rooms in FLOORS) == len(set().union(*FLOORS))


def test_the_parser_sees_what_it_should() -> None:
    assert set(imports("fnn.capture")) == {"fnn.layer", "fnn.trees"}
    assert "fnn.losses" in set(imports("fnn"))
    assert "fnn.layers.conv" in set(imports("fnn.layers.pool"))


def test_import_fnn_loads_nothing_heavy() -> None:
    code = (
        "import sys, jax, optax; before = set(sys.modules); import fnn; fnn.serial(fnn.dense(8), fnn.relu); "
        f"print(sorted({{name.split('.')[0] for name in set(sys.modules) - before}} & set({HEAVY})))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
