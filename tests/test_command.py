"""Objectives that are external programs."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError, Interrupted, ObjectiveError
from zoo.objectives.command import CommandObjective, last_number

POINT = np.array([[0.1, -2.5e-7, 3.0]])


def script(folder: Path, body: str, name: str = "sim") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ("{x}", ["0.1", "-2.5e-07", "3.0"]),
        ("-p {x} -v", ["-p", "0.1", "-2.5e-07", "3.0", "-v"]),
        ("--at={x}", ["--at=0.1,-2.5e-07,3.0"]),
        ("'a b' {2} x={0};{1}", ["a b", "3.0", "x=0.1;-2.5e-07"]),
        ("{print} {0}", ["{print}", "0.1"]),
    ],
)
def test_arguments(tmp_path, arguments, seen):
    log = tmp_path / "log"
    sim = script(tmp_path, f'printf "%s\\n" "$@" > {log}\necho 7')
    assert CommandObjective(f"{sim} {arguments}").evaluate(POINT).tolist() == [7.0]
    assert log.read_text().splitlines() == seen


def test_coordinates_keep_all_their_bits(tmp_path):
    sim = script(tmp_path, 'echo "$1"')
    x = np.random.default_rng(0).standard_normal((20, 1)) * 10.0 ** np.arange(-10, 10)[:, None]
    assert CommandObjective(f"{sim} {{x}}").evaluate(x).tolist() == x[:, 0].tolist()


def test_without_placeholder_the_point_is_on_stdin(tmp_path):
    sim = script(tmp_path, 'read a b c rest\necho "$c$rest"')
    assert CommandObjective(sim).evaluate(POINT).tolist() == [3.0]


def test_a_long_point_on_stdin_read_late(tmp_path):
    sim = script(tmp_path, "sleep 0.2; wc -w")
    assert CommandObjective(sim).evaluate(np.full((1, 20_000), 1 / 3)).tolist() == [20_000.0]


def test_with_placeholder_stdin_is_empty(tmp_path):
    sim = script(tmp_path, "wc -c")
    assert CommandObjective(f"{sim} {{x}}").evaluate(POINT).tolist() == [0.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3.5\n", 3.5),
        ("loading\nvalue below\n-1e3\n\n  \n", -1000.0),
        ("  inf ", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_last_number(text, value):
    assert last_number(text) == value


def test_last_number_nan():
    assert math.isnan(last_number("nan"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "printed nothing"),
        ("\n \n", "printed nothing"),
        ("1 2", "printed '1 2', not a number"),
        ("3\ndone", "printed 'done', not a number"),
        ("x" * 500, "not a number"),
    ],
)
def test_no_last_number(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        last_number(text)
    assert len(str(caught.value)) < 100


def test_crash_is_retried_then_counted(tmp_path):
    sim = script(tmp_path, f"echo run >> {tmp_path}/log; echo first >&2; echo boom >&2; exit 3")
    objective = CommandObjective(f"{sim} {{x}}", retries=2)
    assert math.isnan(objective.evaluate(POINT)[0])
    assert objective.failures == {"crash": 1, "retried crash": 2}
    assert (tmp_path / "log").read_text() == "run\n" * 3
    assert objective.last_error == "exit status 3: boom"


def test_crash_once(tmp_path):
    sim = script(tmp_path, f"if mkdir {tmp_path}/seen; then exit 1; fi 2>/dev/null; echo 5")
    objective = CommandObjective(f"{sim} {{x}}")
    assert objective.evaluate(POINT).tolist() == [5.0]
    assert objective.failures == {"retried crash": 1}


def test_no_retries(tmp_path):
    objective = CommandObjective(f"{script(tmp_path, 'kill -SEGV $$')} {{x}}", retries=0)
    assert np.isnan(objective.evaluate(np.repeat(POINT, 2, axis=0))).all()
    assert objective.failures == {"crash": 2}
    assert objective.last_error == "killed by SIGSEGV"


def test_output_that_is_no_number(tmp_path):
    objective = CommandObjective(f"{script(tmp_path, 'echo bad luck')} {{x}}")
    assert math.isnan(objective.evaluate(POINT)[0])
    assert objective.failures == {"output": 1, "retried output": 1}
    assert objective.last_error == "printed 'bad luck', not a number"


def test_timeout_kills_the_whole_group(tmp_path):
    sim = script(
        tmp_path, f"echo $$ >> {tmp_path}/pids; sleep 60 & echo $! >> {tmp_path}/pids; wait"
    )
    objective = CommandObjective(f"{sim} {{x}}", timeout=0.3, retries=0)
    started = time.monotonic()
    assert math.isnan(objective.evaluate(POINT)[0])
    assert time.monotonic() - started < 3
    assert objective.failures == {"timeout": 1}
    assert objective.last_error == "no answer within 0.3 s"
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert gone(pids)


def test_cancelled_kills_and_raises(tmp_path):
    sim = script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 60")
    pid = tmp_path / "pid"
    with pytest.raises(Interrupted):
        CommandObjective(f"{sim} {{x}}").evaluate(
            POINT, lambda: pid.exists() and pid.read_text().endswith("\n")
        )
    assert gone([int(pid.read_text())])


def test_background_process_does_not_hold_up_the_value(tmp_path):
    sim = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; echo 4")
    started = time.monotonic()
    assert CommandObjective(f"{sim} {{x}}").evaluate(POINT).tolist() == [4.0]
    assert time.monotonic() - started < 3
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_much_output(tmp_path):
    sim = script(tmp_path, "seq 200000; seq 200000 >&2; echo 1.5")
    assert CommandObjective(f"{sim} {{x}}").evaluate(POINT).tolist() == [1.5]


def test_child_has_a_session_of_its_own(tmp_path):
    code = "import os; print(os.getsid(0))"
    value = CommandObjective(f'{sys.executable} -c "{code}"').evaluate(POINT)[0]
    assert value != os.getsid(0)


def test_threads(tmp_path):
    objective = CommandObjective(f"{script(tmp_path, 'exit 1')} {{x}}", retries=1)
    assert objective.concurrent
    threads = [threading.Thread(target=objective.evaluate, args=(POINT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert objective.failures == {"crash": 8, "retried crash": 8}


def test_relative_and_path_programs(tmp_path, monkeypatch):
    script(tmp_path, "echo 2", "here")
    monkeypatch.chdir(tmp_path)
    objective = CommandObjective("./here {x}")
    monkeypatch.chdir("/")
    assert objective.evaluate(POINT).tolist() == [2.0]
    assert CommandObjective("echo 3 #{0}").evaluate(POINT).size == 1
    assert CommandObjective("printf %s {2}").evaluate(POINT).tolist() == [3.0]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "command is empty"),
        ("no-such-program-here {x}", "no program 'no-such-program-here' on the PATH"),
        ("./missing {x}", "there is no ./missing"),
        ("./plain {x}", "./plain is not executable"),
        ("./folder/", "not executable"),
        ("sh -c 'echo", "No closing quotation"),
    ],
)
def test_unusable_commands(tmp_path, monkeypatch, command, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("echo 1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=why):
        CommandObjective(command)


def test_program_that_does_not_start(tmp_path):
    path = tmp_path / "noformat"
    path.write_bytes(b"\x00\x01nonsense")
    path.chmod(0o755)
    with pytest.raises(ObjectiveError, match=r"Exec format error.*at x = \[0.1"):
        CommandObjective(str(path)).evaluate(POINT)


def test_coordinate_that_there_is_not():
    objective = CommandObjective("echo {0} {3}")
    objective.check_dimension(4)
    with pytest.raises(InputError, match=r"coordinate \{3\}.*\{0\} to \{2\}"):
        objective.check_dimension(3)


def test_no_points():
    assert CommandObjective("echo 1").evaluate(np.empty((0, 3))).shape == (0,)
