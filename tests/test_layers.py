"""The floors of the house, held against the import graph.

Floors, from the ground: errors, files, data, models | compress, export, bench |
recipe, pipeline, stages, steps, verbs | cli.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "compress", "export", "bench", "stages", "steps", "verbs", "cli")
GROUND = {
    "version",
    "errors",
    "files",
    "data",
    "imagefolder",
    "imagefiles",
    "arrayfiles",
    "arraychecks",
    "userfunction",
    "imagesequence",
    "models",
}
MIDDLE = {"compress", "export", "bench"}
FACE = {"__init__", "__main__", "cli"}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {path.stem: path for path in ROOT.glob("*.py")}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Modules of this package that a module imports, anywhere in its text, and foreign top-level packages."""
    path = MODULES[name]
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    if name == "__init__":
        package = []
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(f"/{alias.name.split('.')[0]}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(f"/{(node.module or '').split('.')[0]}")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".") * bool(node.module)
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                found.add(inner if inner in MODULES else ".".join(base) or "__init__")
    return found


GRAPH = {name: imports(name) for name in MODULES}


def floor(name: str) -> int:
    head = name.split(".")[0]
    if head in FACE:
        return 3
    if head in GROUND:
        return 0
    return 1 if head in MIDDLE else 2


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_imports_a_floor_above(name: str) -> None:
    above = {other for other in GRAPH[name] if other in MODULES and other != "__init__" and floor(other) > floor(name)}
    assert not above, f"{name} imports {above}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] in MIDDLE))
def test_compress_export_and_bench_do_not_know_each_other(name: str) -> None:
    head = name.split(".")[0]
    others = {other for other in GRAPH[name] if other.split(".")[0] in MIDDLE - {head}}
    assert not others, f"{name} imports {others}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.split(".")[0] not in ("cli", "__main__")))
def test_nothing_imports_the_command_line(name: str) -> None:
    assert "cli" not in {other.split(".")[0] for other in GRAPH[name]}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("bench.")))
def test_bench_never_imports_torch(name: str) -> None:
    assert not {"/torch", "/torchvision"} & GRAPH[name]


def test_imports_within_the_package_are_relative() -> None:
    assert not {name for name, found in GRAPH.items() if "/edgelathe" in found}


WITHOUT_TORCH = {
    "inspect": "edgelathe.bench.graph, edgelathe.printing",
    "quantize": "edgelathe.compress.quantize.quantize, edgelathe.imagesequence, edgelathe.export.metadata",
    "bench": "edgelathe.candidates, edgelathe.export.metadata",
    "tune": "edgelathe.tuning, edgelathe.export.metadata",
    "pack": "edgelathe.compress.pack.pack, edgelathe.compress.pack.share_weights",
    "explain": "edgelathe.explanation, edgelathe.printing",
    "gate": "edgelathe.bench.gate, edgelathe.bench.budgets, edgelathe.bench.report",
    "worker": "edgelathe.bench.worker, edgelathe.bench.runtimes.onnxruntime",
    "run of an ONNX file": "edgelathe.pipeline, edgelathe.recipe",
}


@pytest.mark.parametrize("verb", WITHOUT_TORCH)
def test_verbs_that_need_no_torch_never_load_it(verb: str) -> None:
    script = f"import sys, {WITHOUT_TORCH[verb]}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
