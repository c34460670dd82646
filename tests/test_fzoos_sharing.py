"""Arrays shared by processes, through their deaths."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from zoo.fzoos import sharing
from zoo.fzoos.sharing import shared

SIZE = (1 << 18, 4)  # of float32: 4 MB

CODE = f"""
import sys, numpy as np
from zoo.fzoos.sharing import shared

def fill(array):
    print("filled", flush=True)
    array[:] = np.arange(4)

array = shared(sys.argv[1], {SIZE}, np.float32, fill)
print(array.sum(), flush=True)
sys.stdin.read(1)
"""

pytestmark = pytest.mark.skipif(
    not os.access(sharing.FOLDER, os.W_OK), reason="there are no files in memory here"
)


def started(name):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def path_of(name):
    return sharing.FOLDER / f"zoo-{os.getuid()}-{name}"


def ended(process):
    process.communicate("x", timeout=60)


@pytest.fixture
def name():
    made = f"test-{os.getpid()}"
    yield made
    path_of(made).unlink(missing_ok=True)


def test_the_second_maps_what_the_first_has_filled(name):
    first = started(name)
    assert first.stdout.readline() == "filled\n"
    total = first.stdout.readline()
    second = started(name)
    assert second.stdout.readline() == total
    for process in (first, second):
        with open(f"/proc/{process.pid}/maps") as maps:
            assert str(path_of(name)) in maps.read()
    ended(first)
    assert path_of(name).exists()
    ended(second)
    assert not path_of(name).exists()


def test_what_a_killed_process_leaves_is_swept(name):
    first = started(name)
    first.stdout.readline(), first.stdout.readline()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert path_of(name).exists()
    other = started(f"{name}-other")
    other.stdout.readline(), other.stdout.readline()
    assert not path_of(name).exists()
    ended(other)


def test_without_room_everybody_has_their_own(name, monkeypatch, tmp_path):
    monkeypatch.setattr(sharing, "FOLDER", tmp_path / "none")
    array = shared(name, SIZE, np.float32, lambda a: a.fill(3.0))
    assert array[0, 0] == array[-1, -1] == 3.0
    assert not array.flags.writeable


def test_small_ones_are_not_worth_it(name):
    shared(name, (10, 4), np.float32, lambda a: a.fill(3.0))
    assert not path_of(name).exists()
