"""The documentation says what the code does."""

import doctest
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import called

import zoo.asktell
import zoo.optimize
from evolve.gsd.example import example_codes, example_schema
from evolve.gsd.table import write_table

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def test_parameters_page_is_current():
    spec = importlib.util.spec_from_file_location("parameters", ROOT / "docs" / "parameters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "parameters.md").read_text() == module.text()


@pytest.mark.parametrize("module", [zoo, zoo.optimize, zoo.asktell])
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 0


README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^zoo (?:run|list|show|resume|evaluate) .*$", README, re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("model", None)


def run_example(block, folder):
    (folder / "example.py").write_text(block)
    runpy.run_path("example.py", run_name="__main__")


def test_python_examples_of_the_readme(here):
    few = [block for block in BLOCKS if "zoo.workers(" not in block]
    assert few
    for block in few:
        run_example(block, here)


def test_python_examples_with_workers(here, cluster):
    several = [block for block in BLOCKS if "zoo.workers(" in block]
    assert several
    for block in several:
        run_example(block, here)


def run_command(capsys, command, *more):
    code, _, err = called(capsys, *shlex.split(command)[1:], *more)
    assert code == 0, (command, err)


def test_commands_of_the_readme(here, capsys):
    (here / "sim.py").write_text(
        "#!/usr/bin/env python3\nimport sys\nprint(sum(float(v)**2 for v in sys.argv[1:]))\n"
    )
    (here / "sim.py").chmod(0o755)
    (here / "model.py").write_text("def loss(x):\n    return float((x**2).sum())\n")
    (here / "people.json").write_text(json.dumps(example_schema().describe()))
    write_table(str(here / "people.csv"), example_schema(), example_codes(500), 0)
    few = [command for command in COMMANDS if "--workers 2" not in command]
    assert len(few) >= 8
    for command in few:
        run_command(capsys, command)


def test_commands_with_workers(here, capsys, cluster):
    (here / "model.py").write_text("def loss(x):\n    return float((x**2).sum())\n")
    several = [command for command in COMMANDS if "--workers 2" in command]
    assert several
    for command in several:
        there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
        run_command(capsys, command, *there)


def test_a_benchmark_runs():
    script = ROOT / "benchmarks" / "gradient_is_all_you_need.py"
    done = subprocess.run(
        [sys.executable, script, "--quick"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    assert "consensus hopping" in done.stdout


def test_installing_over_an_installation_that_has_run(tmp_path):
    # Compiled code is kept outside the package: files beside it would outlive an uninstall.
    code = "import zoo; print(zoo.minimize(lambda x: x @ x, [(-1, 1)], steps=2).nfev)"
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT, cwd=tmp_path)
    assert not list((ROOT / "zoo").rglob("*.nbi"))
