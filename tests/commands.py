"""Commands as tests give them: in this process, and in one of their own."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.main import main

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def called(capsys, *arguments):
    """Exit code, stdout and stderr of a command in this process."""
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def ran(capsys, *arguments):
    """Result of a command that succeeds."""
    code, out, err = called(capsys, *arguments, "--json", "--quiet")
    assert (code, err) == (0, "")
    return json.loads(out)


def refused(capsys, *arguments):
    """The one line of a command that is refused."""
    code, out, err = called(capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert re.fullmatch("zoo: [^\n]+\n", err)
    assert "Traceback" not in err
    assert "fault in zoo" not in err
    return err


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def some_of(kinds, apart=3):
    """Parameters of a test: the first, and those so far apart; the others are slow."""
    return [
        pytest.param(kind, marks=[pytest.mark.slow] if at % apart else [])
        for at, kind in enumerate(kinds)
    ]


def left_behind(folder, before):
    """Files in a folder that were not there before."""
    return sorted(
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if p not in before and "__pycache__" not in p.parts
    )
