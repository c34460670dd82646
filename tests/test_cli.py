"""The command line, as its users meet it."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.main import main, zoo
from cli.options import Output
from cli.progress import ProgressLine, clock_time, short
from cli.run import run as run_command
from zoo.cbo.config import CBOConfig
from zoo.config import build, options_of
from zoo.errors import InputError
from zoo.objectives.load import ProblemConfig
from zoo.runtime.budget import Budget
from zoo.runtime.events import PROGRESS, Event
from zoo.runtime.protocol import Progress

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
FIELDS = {"method", "objective", "dim", "seed", "fun", "x", "nfev", "nit", "success"}
FIELDS |= {"status", "message", "seconds"}

OBJECTIVES = """
import os, shutil, sys, time
from numba import njit

DELAY = float(os.environ.get("DELAY", "0"))

def bowl(x):
    time.sleep(DELAY)
    return float(((x - 0.3) ** 2).sum())

def raises(x):
    raise ValueError("no\\nway")

def text(x):
    return "abc"

def nan(x):
    return float("nan")

def prints(x):
    print("chatter")
    return float((x**2).sum())

def exits(x):
    sys.exit(3)

def removes_its_folder(x):
    shutil.rmtree("gone", ignore_errors=True)
    return 1.0

@njit
def jit_raises(x):
    if x[0] > 0:
        raise ValueError("positive")
    return x[0]
"""

SMALL = ["--dim", "3", "--bounds", "-2,2", "--particles", "10", "--steps", "40"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with objectives, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(OBJECTIVES)
    yield tmp_path
    sys.modules.pop("mine", None)


def start(*arguments, **environment):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(*arguments, **environment):
    """Exit code, stdout and stderr of a process."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def failed(capsys, *arguments):
    """Exit code and the one line of a command that fails in this process."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("zoo: ")
    assert "Traceback" not in captured.err
    return code, captured.err


# What is light


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "objectives", "--json"], ["--version"], ["run"]]
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        f"import sys; from cli.main import main; main({arguments!r});"
        "print([m for m in ('numba', 'ray', 'scipy', 'matplotlib', 'numpy', 'rich') "
        "if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "cbo", "--help"]])
def test_light_commands_are_fast(arguments):
    def cpu():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert call(*arguments)[0] == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu() for _ in range(3)) < 0.3


def test_the_default_run_finds_the_minimum_and_a_second_compiles_nothing():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "run", "cbo", "--objective", "rastrigin", "--json"],
            capture_output=True,
            env=ENVIRONMENT,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(done.stdout)
    assert result["dim"] == 20
    assert result["fun"] < 1e-6
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3.5


def test_help_has_sections_defaults_and_ranges():
    shown = CliRunner().invoke(zoo, ["run", "cbo", "--help"]).output
    sections = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    titles = [s.split()[0].strip(":") for s in sections]
    assert titles == ["Problem", "Budget", "Method", "Workers", "Output", "Other"]
    flat = " ".join(shown.split())
    assert "--lam NUMBER" in flat
    assert "--memory / --no-memory" in flat
    assert "[none|clip|reflect]" in flat
    assert ">= 0; default 10000" in flat  # the method's own budget
    for config in (ProblemConfig, Budget, CBOConfig, Output):
        for name in options_of(config):
            assert f"--{name.replace('_', '-')}" in flat


def test_list(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "cbo" in shown
    assert "rastrigin" in shown
    assert main(["list", "objectives", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == ["objectives"]
    by_name = {o["name"]: o for o in listed["objectives"]}
    assert by_name["rastrigin"]["bounds"] == [[-5.12, 5.12]]
    assert by_name["branin"]["bounds"] == [[-5.0, 10.0], [0.0, 15.0]]
    assert by_name["sphere"]["tags"] == ["separable", "unimodal"]
    assert main(["list", "--json"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert list(everything) == ["methods", "objectives", "targets"]
    exp2 = {"name": "exp2", "domain": [0.0, 1.0], "error": "relative"}
    assert exp2 in everything["targets"]


# Runs


def test_json_is_one_object_and_the_only_output():
    arguments = ["run", "cbo", "--objective", "sphere", "--dim", "3", "--steps", "300", "--json"]
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert out.count("\n") == 1
    assert set(result) >= FIELDS
    assert (result["method"], result["objective"], result["dim"]) == ("cbo", "sphere", 3)
    assert (result["seed"], result["minimum"], len(result["x"])) == (0, 0.0, 3)
    assert result["fun"] < 1e-3


def test_summary(here, capsys):
    assert main(["run", "cbo", "--objective", "sphere", "--dim", "2", "--steps", "50"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith("sphere, dimension 2: cbo, seed 0\n")
    for word in ("fun", "minimum", "x ", "consensus", "evaluations", "steps", "evaluations/s"):
        assert word in shown.out
    arguments = ["--dim", "2", "--steps", "300", "--runs", "4", "--seed", "7"]
    assert main(["run", "cbo", "--objective", "sphere", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "seed 7" in shown
    assert "of 4 within 1e-06 of the minimum" in shown


def test_large_arrays_stay_out_of_the_object(capsys):
    arguments = ["--objective", "sphere", "--dim", "11", "--steps", "2", "--json"]
    assert main(["run", "cbo", *arguments]) == 0
    assert "particles" not in json.loads(capsys.readouterr().out)
    assert main(["run", "cbo", *arguments, "--particles", "5"]) == 0
    assert "particles" in json.loads(capsys.readouterr().out)


def test_what_objectives_print_goes_to_stderr(here):
    code, out, err = call("run", "cbo", "--objective", "mine.py:prints", *SMALL, "--json")
    assert code == 0
    assert json.loads(out)["objective"] == "mine.py:prints"
    assert "chatter" in err


def test_warning(here, capsys):
    arguments = ["run", "cbo", "--objective", "sphere", "--steps", "2", "--sigma", "50"]
    assert main(arguments) == 0
    assert capsys.readouterr().err.startswith("zoo: warning: sigma*sqrt(dt) = 5")
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_command(here, capsys):
    sim = here / "sim"
    sim.write_text("#!/bin/sh\necho \"$1 $2\" | awk '{ print $1 * $1 + $2 * $2 }'\n")
    sim.chmod(0o755)
    arguments = ["--command", "./sim {x}", "--dim", "2", "--bounds", "-1,1", "--out", "r"]
    assert main(["run", "cbo", *arguments, "--particles", "4", "--steps", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fun"] < 1
    stored = json.loads((here / "r/config.json").read_text())["problem"]
    assert stored["command"] == f"{here}/sim '{{x}}'"


def test_toml(here, capsys):
    (here / "run.toml").write_text(
        'objective = "sphere"\ndim = 2\nseed = 5\n[budget]\nsteps = 20\n'
        '[cbo]\nparticles = 7\nalpha-schedule = "ess"\nmemory = true\nsigma = 8\n'
        "[output]\njson = true\n"
    )
    assert main(["run", "cbo", "--config", "run.toml", "--dim", "3", "--no-memory"]) == 0
    from_file = json.loads(capsys.readouterr().out)
    flags = "--objective sphere --dim 3 --seed 5 --steps 20 --particles 7 --alpha-schedule ess"
    assert main(["run", "cbo", *flags.split(), "--sigma", "8", "--json"]) == 0
    from_flags = json.loads(capsys.readouterr().out)
    assert from_file | {"seconds": 0} == from_flags | {"seconds": 0}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("particles = ", "is no TOML file"),
        ("particels = 3", "unknown parameter 'particels': did you mean 'particles'?"),
        ("[bugdet]\nsteps = 1", "unknown table [bugdet]: did you mean 'budget'?"),
        ("steps = 1\n[budget]\nsteps = 2", "steps is given twice"),
        ("particles = [1, 2]", "particles must be a number"),
        ("particles = 2.5", "particles must be a whole number, got 2.5"),
        ("particles = true", "particles must be a whole number, got True"),
        ('memory = "yes"', "memory must be true or false, got 'yes'"),
        ("objective = 3", "objective must be a word, got 3"),
        (f"seed = 1{'0' * 400}", "seed is too large"),
    ],
)
def test_bad_toml(here, capsys, content, why):
    (here / "bad.toml").write_text(content)
    code, line = failed(capsys, "run", "cbo", "--config", "bad.toml")
    assert code == 2
    assert why in line


# What cannot be used

BAD = {
    "no objective": ("run cbo", "an objective is needed"),
    "no method": ("run", "Missing command"),
    "method": ("run cbbo", "did you mean cbo?"),
    "command": ("rnu", "did you mean run?"),
    "nothing like it": ("xyzzy", "there are run, resume, show, evaluate, list"),
    "option": ("run cbo --partciles 3", "no option --partciles: did you mean --particles?"),
    "option without value": ("run cbo --dim", "--dim"),
    "stray argument": ("run cbo rastrigin", "unexpected extra argument"),
    "objective": ("run cbo --objective rastrign", "did you mean 'rastrigin'"),
    "two objectives": ("run cbo --objective sphere --command true", "both given"),
    "dimension": ("run cbo --objective sphere --dim 0", "dim must be >= 1, got 0"),
    "fixed dimension": ("run cbo --objective beale --dim 3", "has dimension 2, not 3"),
    "bounds": ("run cbo --objective sphere --bounds 5,-5", "below the upper, got 5, -5"),
    "bounds text": ("run cbo --objective sphere --bounds 5", "bounds must be LOW,HIGH"),
    "particles": ("run cbo --objective sphere --particles -5", "particles must be >= 1, got -5"),
    "word": ("run cbo --objective sphere --particles ten", "--particles must be a whole number"),
    "part": ("run cbo --objective sphere --particles 2.5", "--particles must be a whole number"),
    "nan": ("run cbo --objective sphere --sigma nan", "sigma must be a number"),
    "choice": ("run cbo --objective sphere --noise isotrpic", "did you mean 'isotropic'"),
    "seed": ("run cbo --objective sphere --seed -1", "seed must be >= 0"),
    "threads": ("run cbo --objective sphere --threads 0", "threads must be >= 1"),
    "large": ("run cbo --objective sphere --steps 99999999999999999999", "--steps must be"),
    "rather large": ("run cbo --objective sphere --steps 9999999999999999999", ""),
    "evaluations": ("run cbo --objective sphere --evaluations 5", "at least particles + 1"),
    "snapshots": ("run cbo --objective sphere --snapshot-every 0", "snapshot_every must be > 0"),
    "file": ("run cbo --objective no.py:f --dim 2 --bounds 0,1", "no.py does not exist"),
    "function": ("run cbo --objective mine.py:bowel --dim 2 --bounds 0,1", "did you mean 'bowl'"),
    "no bounds": ("run cbo --objective mine.py:bowl --dim 2", "bounds are needed"),
    "module": ("run cbo --objective no_such.mod:f --dim 2 --bounds 0,1", "cannot import no_such"),
    "program": ("run cbo --command no-such-x --dim 2 --bounds 0,1", "no program 'no-such-x'"),
    "config file": ("run cbo --config no.toml", "cannot read no.toml"),
    "out under a file": ("run cbo --objective sphere --out mine.py/r", "cannot write mine.py/r"),
    "out is a file": ("run cbo --objective sphere --out mine.py", "cannot write mine.py"),
    "out unwritable": ("run cbo --objective sphere --out /proc/r", "cannot write /proc/r"),
    "resume nothing": ("resume", "RUN is missing"),
    "resume no run": ("resume nowhere", "nowhere holds no run"),
    "show no run": ("show nowhere", "nowhere holds no run"),
    "show a file": ("show mine.py", "mine.py"),
    "list": ("list functions", "'methods', 'objectives'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage(here, capsys, case):
    arguments, why = BAD[case]
    code, line = failed(capsys, *arguments.split())
    assert code == 2
    assert why in line


def test_bad_usage_in_a_process():
    code, out, err = call("run", "cbo", "--objective", "rastrign")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("zoo: unknown objective 'rastrign'")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "the objective raised ValueError: no way ("),
        ("text", "the objective returned str, not a number, at x = ["),
        ("nan", "the objective was never finite"),
        ("exits", "the objective exits (SystemExit: 3)"),
        ("jit_raises", "the objective raised ValueError: positive, at x = ["),
    ],
)
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_objectives_that_fail(here, capsys, name, why):
    code, line = failed(capsys, "run", "cbo", "--objective", f"mine.py:{name}", *SMALL)
    assert code == 1
    assert why in line


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_commands_that_fail(here, capsys):
    arguments = ["--dim", "2", "--bounds", "0,1", "--particles", "3", "--steps", "1"]
    command = "sh -c 'echo oh no >&2; echo rubbish' {x}"
    code, line = failed(capsys, "run", "cbo", "--command", command, *arguments)
    assert code == 1
    assert "never finite" in line
    assert "3 output; 3 retried output" in line
    assert "printed 'rubbish', not a number: oh no" in line


def test_penalized_exceptions(here, capsys):
    arguments = ["--objective", "mine.py:jit_raises", *SMALL, "--on-error", "penalize", "--json"]
    assert main(["run", "cbo", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["fun"] <= 0
    assert result["failures"]["ValueError"] > 0


def test_a_fault_is_one_line(capsys, monkeypatch):
    def faulty(*_):
        raise KeyError("inside")

    monkeypatch.setattr("cli.listing.methods", faulty)
    code, line = failed(capsys, "list", "methods")
    assert code == 1
    assert "KeyError: 'inside'" in line
    assert "ZOO_TRACEBACK=1" in line
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["list", "methods"])


def test_closed_pipe_is_silent():
    process = start("list")
    process.stdout.close()
    process.wait()
    assert process.stderr.read() == ""
    process.stderr.close()


# Run folders


def test_a_second_run_in_the_folder_is_refused(here, capsys):
    arguments = ["run", "cbo", "--objective", "sphere", "--steps", "5", "--out", "r"]
    assert main(arguments) == 0
    before = {p.name: p.read_bytes() for p in (here / "r").iterdir()}
    capsys.readouterr()
    code, line = failed(capsys, *arguments)
    assert code == 2
    assert "r already holds a run: 'zoo resume r' continues it" in line
    assert {p.name: p.read_bytes() for p in (here / "r").iterdir()} == before


def test_refused_before_a_folder_is_made(here, capsys):
    code, _ = failed(
        capsys, *["run", "cbo", "--objective", "sphere", "--evaluations", "5", "--out", "r"]
    )
    assert code == 2
    assert not (here / "r").exists()


def test_a_folder_lost_in_a_run(here, capsys):
    arguments = ["--objective", "mine.py:removes_its_folder", *SMALL, "--out", "gone"]
    code, line = failed(capsys, "run", "cbo", *arguments)
    assert code == 1
    assert "cannot write gone/" in line


def test_read_only_folder(here, capsys):
    (here / "locked").mkdir(mode=0o555)
    if os.access(here / "locked", os.W_OK):
        pytest.skip("nothing is denied to root")
    code, line = failed(capsys, *["run", "cbo", "--objective", "sphere", "--out", "locked"])
    assert code == 2
    assert "cannot write locked" in line


def interrupted(folder, *arguments, signals=(signal.SIGINT,)):
    """Start a slow run, signal it once it has gone some way; its exit code and stderr."""
    delays = {"DELAY": "0.004"}
    process = start("run", "cbo", "--objective", "mine.py:bowl", *arguments, **delays)
    history = folder / "history.jsonl"
    end = time.monotonic() + 60
    while not history.exists() or history.read_text().count("\n") < 12:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def reference(capsys):
    """The same run, undisturbed."""
    assert main(["run", "cbo", "--objective", "mine.py:bowl", *SMALL, "--out", "whole"]) == 0
    capsys.readouterr()


def same_as_reference(capsys, folder):
    assert main(["resume", str(folder), "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    whole = json.loads(Path("whole/result.json").read_text())
    for name in ("x", "fun", "nfev", "nit", "consensus", "consensus_fun", "particles"):
        assert resumed[name] == whole[name]
    assert (folder / "history.jsonl").read_bytes() == Path("whole/history.jsonl").read_bytes()
    # A run that has ended is only reported.
    assert main(["resume", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == resumed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_and_resume(here, capsys, monkeypatch, number):
    reference(capsys)
    code, err = interrupted(here / "r", *SMALL, "--out", "r", signals=(number,))
    assert code == 130
    assert err.startswith("zoo: interrupted at step ")
    assert err.endswith("; 'zoo resume r' continues it\n")
    assert (here / "r/snapshot.npz").exists()
    assert main(["show", "r"]) == 0
    assert "not finished" in capsys.readouterr().out
    monkeypatch.chdir("/")
    main(["show", str(here / "r")])
    capsys.readouterr()
    monkeypatch.chdir(here)
    same_as_reference(capsys, here / "r")


def test_resume_says_that_the_objective_has_changed(here, capsys):
    interrupted(here / "r", *SMALL, "--out", "r")
    source = here / "mine.py"
    source.write_text(source.read_text() + "\n# another version\n")
    assert main(["resume", "r"]) == 0
    assert "has changed since" in capsys.readouterr().err


def test_an_interrupted_run_prints_what_it_had_found(here):
    process = start("run", "cbo", "--objective", "mine.py:bowl", *SMALL, "--json", DELAY="0.01")
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted at step" in err
    found = json.loads(out)
    assert found["status"] == "running"
    assert not found["success"]
    assert len(found["x"]) == 3


def test_kill_and_resume(here, capsys):
    reference(capsys)
    arguments = [*SMALL, "--out", "r", "--snapshot-every", "0.05"]
    code, _ = interrupted(here / "r", *arguments, signals=(signal.SIGKILL,))
    assert code == -signal.SIGKILL
    assert (here / "r/snapshot.npz").exists()
    same_as_reference(capsys, here / "r")


def test_resume_from_another_folder(here, capsys, monkeypatch):
    reference(capsys)
    code, _ = interrupted(here / "r", *SMALL, "--out", "r")
    assert code == 130
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["resume", "../r", "--json", "--threads", "1"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed["x"] == json.loads((here / "whole/result.json").read_text())["x"]


def test_interrupt_without_a_folder(here):
    process = start("run", "cbo", "--objective", "mine.py:bowl", *SMALL, DELAY="0.05")
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("zoo: interrupted")
    assert err.count("\n") == 1


def test_second_interrupt_ends_at_once_and_leaves_no_command(here):
    sim = here / "sim"
    sim.write_text("#!/bin/sh\necho $$ > pid\nsleep 60 & wait\n")
    sim.chmod(0o755)
    arguments = ["--command", "./sim {x}", "--dim", "2", "--bounds", "0,1"]
    process = start("run", "cbo", *arguments)
    pid = here / "pid"
    end = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    time.sleep(0.1)
    state = Path(f"/proc/{int(pid.read_text())}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.fixture
def stopped(here, capsys):
    """The folder of a run that stopped half way, made without waiting."""
    from dataclasses import asdict

    from zoo.errors import Interrupted
    from zoo.objectives.load import load
    from zoo.optimize import describe, launch, split_options
    from zoo.runtime.folder import RunFolder

    problem = ProblemConfig(f"{here}/mine.py:bowl", dim=3, bounds="-2,2")
    config, budget = split_options("cbo", {"particles": 10, "steps": 40})
    folder = RunFolder("r", 0.0)
    folder.create(describe("cbo", asdict(problem), config, budget, 0))
    calls = iter(range(10**9))
    with pytest.raises(Interrupted):
        launch(
            load(problem), "cbo", config, budget, 0,
            folder=folder, cancelled=lambda: next(calls) > 250,
        )  # fmt: skip
    reference(capsys)
    return here / "r"


def test_damaged_snapshot(stopped, capsys):
    last = stopped / "snapshot.npz"
    last.write_bytes(last.read_bytes()[:500])
    same_as_reference(capsys, stopped)  # from the one before


def test_damaged_snapshots(stopped, capsys):
    history = (stopped / "history.jsonl").read_bytes()
    for name in ("snapshot.npz", "snapshot.previous.npz"):
        (stopped / name).write_bytes(b"rubbish")
    code, line = failed(capsys, "resume", "r")
    assert code == 2
    assert "the snapshots in r are damaged" in line
    assert (stopped / "history.jsonl").read_bytes() == history
    for name in ("snapshot.npz", "snapshot.previous.npz"):
        (stopped / name).unlink()
    same_as_reference(capsys, stopped)  # from the start


@pytest.mark.parametrize("command", ["show", "resume"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "config.json is damaged"),
        ("[]", "config.json is damaged"),
        ('{"format": 99}', "has format 99"),
        ('{"format": 1}', "it has no 'method'"),
        ('{"format": 1, "method": "cbo", "problem": {"objective": "x", "odd": 1}, '
         '"config": {}, "budget": {}, "seed": 0}', "damaged: unknown parameter 'odd'"),
    ],
)  # fmt: skip
def test_damaged_config(stopped, capsys, command, content, why):
    (stopped / "config.json").write_text(content)
    code, line = failed(capsys, command, "r")
    assert code == 2
    assert why in line


def test_resume_of_a_run_with_a_damaged_method_config(stopped, capsys):
    path = stopped / "config.json"
    path.write_text(path.read_text().replace('"particles": 10', '"particles": -1'))
    code, line = failed(capsys, "resume", "r")
    assert code == 2
    assert "particles must be >= 1" in line


@pytest.mark.parametrize("command", ["show", "resume"])
@pytest.mark.parametrize(
    ("content", "why"), [("[", "is damaged"), ('{"fun": 1}', "damaged: it has no 'method'")]
)
def test_damaged_result(stopped, capsys, command, content, why):
    (stopped / "result.json").write_text(content)
    code, line = failed(capsys, command, "r")
    assert code == 2
    assert why in line


def test_resume_after_the_objective_is_gone(stopped, capsys):
    (stopped.parent / "mine.py").unlink()
    sys.modules.pop("mine", None)
    code, line = failed(capsys, "resume", "r")
    assert code == 2
    assert "mine.py does not exist" in line


def test_resume_of_a_run_from_python(here, capsys):
    from zoo import minimize

    minimize(lambda x: float((x**2).sum()), [(-1, 1)] * 2, steps=3, out="r")
    assert main(["show", "r"]) == 0
    assert "r: finished" in capsys.readouterr().out
    (here / "r/result.json").unlink()
    code, line = failed(capsys, "resume", "r")
    assert code == 2
    assert "was started from Python: zoo.resume('r', function, bounds)" in line


# Show


def test_show(here, capsys):
    arguments = [
        "--objective",
        "branin",
        "--steps",
        "30",
        "--particles",
        "20",
        "--runs",
        "3",
        "--out",
        "r",
    ]
    assert main(["run", "cbo", *arguments, "--out", "r"]) == 0
    summary = capsys.readouterr().out
    assert main(["show", "r"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("r: finished\n")
    assert "objective branin" in shown
    assert "particles 20, runs 3; the others have their defaults" in shown
    assert summary.splitlines()[1] in shown
    heads = ["step", "evaluations", "best", "spread", "alpha", "median", "worst"]
    assert any(line.split() == heads for line in shown.splitlines())
    assert main(["show", "r", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["finished"] is True
    assert content["parameters"]["config"]["runs"] == 3
    assert content["result"]["minimum"] == pytest.approx(0.397887, abs=1e-6)
    assert content["history"][-1]["step"] == 30


PNG = b"\x89PNG\r\n"


def test_plot(here, capsys):
    pytest.importorskip("matplotlib")
    steps = ["--steps", "20"]
    assert main(["run", "cbo", "--objective", "branin", *steps, "--runs", "3", "--out", "two"]) == 0
    assert main(["run", "cbo", "--objective", "sphere", *steps, "--out", "many"]) == 0
    small = ["--dim", "2", "--bounds", "-1,1", "--steps", "3", "--out", "own"]
    assert main(["run", "cbo", "--objective", "mine.py:bowl", *small]) == 0
    for run in ("two", "many", "own"):
        assert main(["show", run, "--plot", f"{run}.png"]) == 0
        assert (here / f"{run}.png").read_bytes().startswith(PNG)
    captured = capsys.readouterr()
    assert captured.err == ""
    (here / "mine.py").unlink()  # then there are no contours
    sys.modules.pop("mine", None)
    assert main(["show", "own", "--plot", "again.png"]) == 0
    assert "zoo: warning: no contours: objective file" in capsys.readouterr().err
    assert (here / "again.png").read_bytes().startswith(PNG)
    code, line = failed(capsys, "show", "many", "--plot", "no/such/folder.png")
    assert (code, "cannot write no/such/folder.png" in line) == (2, True)
    code, line = failed(capsys, "show", "many", "--plot", "file.xyz")
    assert (code, "'xyz' is not supported" in line) == (2, True)


def test_plot_of_a_stopped_run(stopped, capsys):
    pytest.importorskip("matplotlib")
    assert main(["show", "r", "--plot", "r.png"]) == 0
    assert Path("r.png").read_bytes().startswith(PNG)


def test_plot_without_matplotlib(here, capsys, monkeypatch):
    assert main(["run", "cbo", "--objective", "sphere", "--steps", "2", "--out", "r"]) == 0
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, line = failed(capsys, "show", "r", "--plot", "r.png")
    assert code == 2
    assert "pip install 'zoo-engine[plot]'" in line


# Progress


def test_progress_line():
    stop = False
    line = ProgressLine(lambda: stop, seconds=100.0)
    assert str(line) == "starting: compiling (once)"
    line.listen(Event(PROGRESS, {"progress": Progress(1, 100, 5.0, math.nan, 1, 10), "seconds": 1}))
    assert str(line) == "step 1/10  best 5"
    time.sleep(0.12)
    now = Progress(2000, 4000, 0.25, 1e-3, 20, 100)
    line.listen(Event(PROGRESS, {"progress": now, "seconds": 2}))
    parts = str(line).split("  ")
    assert parts[:3] == ["step 2,000 (20%)", "best 0.25", "spread 1.00e-03"]
    assert parts[3].endswith("k evaluations/s")
    assert parts[4].endswith(" s left")
    stop = True
    assert "stopping" in str(line)


def test_progress_shows_on_a_terminal(here):
    import pty

    parent, child = pty.openpty()
    arguments = ["run", "cbo", "--objective", "mine.py:bowl", *SMALL, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        env=ENVIRONMENT | {"DELAY": "0.002", "NO_COLOR": "1", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=child,
    )
    os.close(child)
    seen = b""
    try:
        while piece := os.read(parent, 65536):
            seen += piece
    except OSError:  # the end of a terminal
        pass
    out, _ = process.communicate(timeout=60)
    os.close(parent)
    assert json.loads(out)["nit"] == 40
    assert b"compiling (once)" in seen
    assert b"evaluations/s" in seen
    assert b"\x1b[3" not in seen  # no colours


def test_numbers_for_people():
    assert [short(n) for n in (950, 12345, 4.56e6, 2e9)] == ["950", "12.3k", "4.56M", "2G"]
    assert [clock_time(s) for s in (0.4, 59, 61, 3723)] == ["0 s", "59 s", "1:01", "1:02:03"]


# Every parameter of every config, in its range and out of it

CONFIGS = (ProblemConfig, Budget, CBOConfig, Output)
#: Bound to others: in their own range they may still not go with the defaults of those.
BOUND = {"batch", "init_lower", "init_upper"}


def plain(hint):
    """Type of a hint without its None."""
    return next(k for k in getattr(hint, "__args__", (hint,)) if k is not type(None))


PARAMETERS = [
    (
        config,
        name,
        option,
        next(k for k in getattr(hint, "__args__", (hint,)) if k is not type(None)),
    )
    for config in CONFIGS
    for name, (_, option, hint) in options_of(config).items()
]
IDS = [f"{config.__name__}.{name}" for config, name, _, _ in PARAMETERS]


def inside(option, kind):
    """Strategy of values that a parameter takes."""
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.sampled_from(option.choices) if option.choices else st.text(max_size=9)
    low = option.least if option.least is not None else option.above
    if kind is int:
        low = -(2**60) if low is None else int(low) + (option.least is None)
        return st.integers(low, 2**60 if option.most is None else int(option.most))
    return st.floats(
        low, option.most, allow_nan=False, allow_infinity=not option.finite and option.most is None,
        exclude_min=low is not None and option.least is None,
    )  # fmt: skip


def outside(option, kind):
    """Strategy of values that a parameter does not take."""
    if kind is bool:
        wrong = [st.integers(), st.text(), st.none()]
    elif kind is str:
        wrong = [st.integers(), st.booleans()]
        if option.choices:
            wrong.append(st.text().filter(lambda t: t not in option.choices))
    else:
        number = st.integers if kind is int else st.floats
        wrong = [st.booleans(), st.text(), st.just(math.nan)]
        if kind is int:
            wrong.append(st.floats().filter(lambda v: not v.is_integer()))
        elif option.finite:
            wrong.append(st.just(math.inf))
        if option.least is not None:
            bound = int(option.least) - 1 if kind is int else option.least
            below = {} if kind is int else {"exclude_max": True, "allow_nan": False}
            wrong.append(number(max_value=bound, **below))
        if option.above is not None:
            wrong.append(number(max_value=int(option.above) if kind is int else option.above))
        if option.most is not None:
            above = {} if kind is int else {"exclude_min": True, "allow_nan": False}
            wrong.append(number(min_value=option.most + (kind is int), **above))
    return st.one_of(wrong)


@pytest.mark.parametrize(("config", "name", "option", "kind"), PARAMETERS, ids=IDS)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_values_in_range_build(config, name, option, kind, data):
    value = data.draw(inside(option, kind))
    if name in BOUND:
        return
    assert getattr(build(config, {name: value}), name) == value


@pytest.mark.parametrize(("config", "name", "option", "kind"), PARAMETERS, ids=IDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_values_out_of_range_are_refused_by_name(config, name, option, kind, data):
    value = data.draw(outside(option, kind))
    with pytest.raises(InputError, match=f"^{name} must be "):
        build(config, {name: value})


@pytest.mark.parametrize(("config", "name", "option", "kind"), PARAMETERS, ids=IDS)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_command_line_gives_the_very_value(config, name, option, kind, data):
    value = data.draw(inside(option, kind).filter(lambda v: not isinstance(v, str) or v))
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        arguments = [flag if value else f"--no-{flag[2:]}"]
    else:
        arguments = [f"{flag}={value!r}" if kind is float else f"{flag}={value}"]
    command = run_command.get_command(click.Context(run_command), "cbo")
    parsed = command.make_context("cbo", arguments).params
    assert {k: v for k, v in parsed.items() if v is not None} == {name: value}


def test_whole_numbers_may_be_written_with_an_exponent(capsys):
    arguments = "run cbo --objective sphere --dim 1e0 --evaluations 1e3 --steps 2e9 --json"
    assert main(arguments.split()) == 0
    assert json.loads(capsys.readouterr().out)["nfev"] <= 1000


def test_option_defaults_are_those_of_the_config():
    assert build(CBOConfig, {}) == CBOConfig()
    assert build(Output, {}) == Output()
    assert replace(Output(), seed=3).seed == 3
