"""The documentation says what the code does."""

import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_python_examples_of_the_readme(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        script = tmp_path / "example.py"
        script.write_text(block)
        subprocess.run(
            [sys.executable, script],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            env=ENVIRONMENT,
        )


def test_commands_of_the_readme(tmp_path):
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^zoo (?:run|list|show|resume|evaluate) .*$", text, re.MULTILINE)
    assert len(commands) >= 8
    (tmp_path / "sim.py").write_text(
        "#!/usr/bin/env python3\nimport sys\nprint(sum(float(v)**2 for v in sys.argv[1:]))\n"
    )
    (tmp_path / "sim.py").chmod(0o755)
    (tmp_path / "model.py").write_text("def loss(x):\n    return float((x**2).sum())\n")
    (tmp_path / "people.json").write_text(json.dumps(example_schema().describe()))
    write_table(str(tmp_path / "people.csv"), example_schema(), example_codes(500), 0)
    for command in commands:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )
        assert done.returncode == 0, (command, done.stderr)


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
