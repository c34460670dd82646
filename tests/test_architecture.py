"""Imports point one way, and cheap commands import nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("zoo", "evolve", "cli")  # each may import those before it
METHODS = ("zoo.cbo", "zoo.cma", "zoo.deepzero", "zoo.fzoos", "evolve.gsd", "evolve.autonumerics")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module, package):
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_one_way(path):
    module = module_of(path)
    rank = PACKAGES.index(module.split(".")[0])
    for imported in imports_of(path):
        top = imported.split(".")[0]
        if top in PACKAGES:
            assert PACKAGES.index(top) <= rank, f"{module} imports {imported}"
        for method in METHODS:
            if within(imported, method):
                below = any(within(module, part) for part in ("zoo.runtime", "zoo.objectives"))
                assert not below, f"{module} imports the method {imported}"
                others = [other for other in METHODS if other != method]
                assert not any(within(module, other) for other in others)
        primitives = {"zoo.jit", "zoo.vmath", "zoo.lanes", "zoo.streams", "zoo.errors"}
        if module in primitives and top in PACKAGES:
            assert any(within(imported, primitive) for primitive in primitives)
        if within(module, "zoo.runtime"):
            allowed = ("runtime", "problem", "errors", "config", "streams", "jit")
            assert (
                top not in PACKAGES
                or imported == "zoo"
                or any(within(imported, f"zoo.{a}") for a in allowed)
            )


@pytest.mark.parametrize(
    "module",
    [
        "zoo",
        "cli.main",
        "zoo.methods",
        "zoo.cbo.config",
        "zoo.cma.config",
        "zoo.deepzero.config",
        "zoo.fzoos.config",
        "evolve.gsd.config",
    ],
)
def test_light_modules_import_nothing_heavy(module):
    code = (
        f"import sys, {module}; print([m for m in ('ray', 'numba', 'scipy') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.strip() == "[]"
