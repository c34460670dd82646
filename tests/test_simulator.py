"""Tests marked ``gpu`` pass in Numba's simulator of one, on any machine."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numba
import pytest

import zoo

HERE = Path(__file__).parent
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
pytestmark = pytest.mark.skipif(SIMULATED, reason="we are in it")


FILES = sorted(path.name for path in HERE.glob("test_gpu_*.py") if path.name != "test_gpu_ray.py")


@pytest.mark.parametrize("file", FILES)
def test_in_the_simulator(file):
    env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-x",
        "-m",
        "gpu and not slow",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, HERE / file], env=env, cwd=HERE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_without_a_gpu_it_is_said():
    from zoo.cuda import require
    from zoo.errors import InputError

    @numba.njit
    def bowl(x):
        return x[0] * x[0]

    with suppress(InputError):
        require()
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="there is no CUDA GPU here"):
        zoo.minimize(bowl, [(-1, 1)], device="cuda", steps=2)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "Failed in cuda mode pipeline (step: nopython frontend)\n"
            "\x20Untyped global name 'open': Cannot determine Numba type\n\n"
            'File "mine.py", line 3:\n\nDuring: Pass nopython_type_inference',
            "Untyped global name 'open': Cannot determine Numba type",
        ),
        ("During: Pass nopython_type_inference", "no reason given"),
    ],
)
def test_why_an_objective_does_not_compile(said, reason):
    from zoo.jit import why_not

    assert why_not(Exception(said)) == reason
