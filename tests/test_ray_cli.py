"""Workers on the command line, and as jobs of a cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from zoo.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
MINE = """
import os, time
from helper import middle

def slow(x):
    time.sleep(float(os.environ.get("DELAY", "0.01")))
    return float(((x - middle) ** 2).sum())

def deaf(x):
    while os.path.exists("armed"):
        time.sleep(0.05)
    return slow(x)

def dies(x):
    os._exit(7) if x[0] > 0 else None
    return float((x**2).sum())
"""
SLOW = ["--objective", "mine.py:slow", "--dim", "3", "--bounds=-2,2", "--particles", "10"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("middle = 0.3\n")
    return tmp_path


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def call(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def events(folder, kind):
    return [event for event in RunFolder(folder).workers() if event["event"] == kind]


def processes(text):
    lines = [(p.pid, " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cmdline"])]
    return [pid for pid, line in lines if text in line]


def leaves_nothing(pid):
    """Nothing of the Ray of its own of a process that has ended."""
    until(lambda: not processes(f"zoo-ray-{pid}-"), 30)
    until(lambda: not list(Path("/tmp").glob(f"zoo-ray-{pid}-*")), 20)


def same_run(path, *arguments):
    """The same run, in its own process."""
    code, out, _ = call("run", "cbo", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_a_ray_of_its_own_leaves_nothing(here):
    arguments = ["--objective", "rastrigin", "--dim", "4", "--shards", "2", "--steps", "50"]
    process = start("run", "cbo", *arguments, "--workers", "2", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.fullmatch("zoo: compiled work runs as fast .* they are for clusters\n", err)
    result = json.loads(out)  # and nothing else
    assert result["workers"] == {"workers": 2}
    for name, value in same_run(here, *arguments).items():
        if name not in ("seconds", "workers"):
            assert result[name] == value, name
    leaves_nothing(process.pid)


@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sigterm_with_a_ray_of_its_own(here, whole_group):
    arguments = [*SLOW, "--steps", "40"]
    process = start("run", "cbo", *arguments, "--workers", "2", "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.fullmatch(r"zoo: interrupted at step \d+; 'zoo resume run' continues it\n", err)
    assert re.search("ended +interrupted", out)
    leaves_nothing(process.pid)
    if whole_group:
        code, out, _ = call("resume", "run", "--json")
        assert code == 0
        assert json.loads(out)["x"] == same_run(here, *arguments)["x"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["raylet/raylet", "gcs/gcs_server"])
def test_a_ray_that_is_gone_ends_the_run_which_resumes(here, part):
    arguments = [*SLOW, "--steps", "300"]
    process = start("run", "cbo", *arguments, "--workers", "2", "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    mine = {*processes(part)} & {*processes(f"zoo-ray-{process.pid}-")}
    started = time.monotonic()
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert mine
    assert time.monotonic() - started < 30
    assert process.returncode == 1
    assert "zoo: Ray is gone" in err.splitlines()[-1]
    assert "'zoo resume run' continues it" in err.splitlines()[-1]
    assert (here / "run" / "snapshot.npz").exists()
    leaves_nothing(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["driver", "worker", "interrupt"])
def test_no_program_outlives_the_run(here, end):
    program = here / "program.sh"
    program.write_text("#!/bin/sh\nsleep 61.25\necho 1\n")  # a child of its own
    program.chmod(0o755)
    command = ["--command", "./program.sh {x}", "--dim", "2", "--bounds=-1,1", "--particles", "4"]
    workers = ["--workers", "2", "--respawns", "0", "--out", "run"]
    process = start("run", "cbo", *command, *workers)
    until(lambda: len(processes("sleep 61.25")) >= 2)
    if end == "worker":
        for event in events("run", "joined"):
            os.kill(event["pid"], signal.SIGKILL)
    elif end == "driver":
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    until(lambda: not processes("sleep 61.25"), 20)
    leaves_nothing(process.pid)


def test_an_objective_that_has_moved_and_one_that_has_changed(here):
    arguments = [*SLOW, "--steps", "20"]
    whole = same_run(here, *arguments)
    process = start("run", "cbo", *arguments, "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    shutil.copytree("run", "again")
    (here / "there").mkdir()
    for name in ("mine.py", "helper.py"):
        (here / name).rename(here / "there" / name)
    code, _, err = call("resume", "run", "--json")
    assert (code, err) == (2, f"zoo: objective file {here}/mine.py does not exist\n")
    code, out, err = call("resume", "run", "--objective", "there/mine.py:slow", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["x"] == whole["x"]
    code, _, err = call("resume", "again", "--objective", "ackley")
    assert code == 2
    assert err == "zoo: --objective is for FILE.py:NAME that has been moved, to FILE.py:NAME\n"
    (here / "there" / "helper.py").write_text("middle = 0.4\n")
    code, out, err = call("resume", "again", "--objective", "there/mine.py:slow", "--json")
    assert code == 0
    assert re.fullmatch(r"zoo: warning: .* or one that it imports, has changed since .*\n", err)


def test_a_working_dir_is_worked_in(here, cluster):
    (here / "there").mkdir()
    (here / "there" / "data.txt").write_text("0.5\n")
    (here / "mine.py").write_text("f = lambda x: abs(x[0] - float(open('data.txt').read()))\n")
    given = ["--objective", "mine.py:f", "--dim", "1", "--bounds=0,1", "--steps", "3"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    code, _, err = call("run", "cbo", *given, "--workers", "1", "--working-dir", "there", *there)
    assert (code, err) == (0, "")


def test_gpus_that_are_not_there(here):
    sphere = ["--objective", "sphere"]  # for which workers without GPUs would add nothing
    code, _, err = call("run", "cbo", *sphere, "--workers", "auto", "--gpus-per-worker", "32")
    assert code == 2
    assert re.fullmatch(r"zoo: gpus_per_worker 32 for a worker is 32 GPUs, .* has \d+\n", err)


@pytest.mark.slow
def test_a_deaf_worker_does_not_hold_up_an_interrupt(here, cluster):
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2", "--workers", "2"]
    deaf = ["--objective", "mine.py:deaf", *SLOW[2:], "--shards", "2", "--steps", "30"]
    process = start("run", "cbo", *deaf, *there, "--distribute", "shards", "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    (here / "armed").touch()
    time.sleep(1.0)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 6
    assert process.returncode == 130
    assert "'zoo resume run' continues it" in err
    (here / "armed").unlink()
    code, out, _ = call("resume", "run", *there, "--distribute", "shards", "--json")
    assert code == 0
    assert json.loads(out)["x"] == same_run(here, *deaf)["x"]


def test_an_interrupt_keeps_the_last_superstep(here, cluster):
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    large = ["--objective", "rastrigin", "--dim", "100", "--particles", "4000", "--shards", "2"]
    given = [*large, "--steps", "100000", "--snapshot-every", "1000", "--workers", "2", *there]
    process = start("run", "cbo", *given, "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    told = int(re.search(r"interrupted at step (\d+)", err)[1])
    assert RunFolder("run").snapshot().method["runs"]["step"].max() == told


def test_resumed_near_the_end_of_its_seconds(here, cluster):
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    given = [*SLOW, "--steps", "100000", "--seconds", "6", "--snapshot-every", "0.2"]
    process = start("run", "cbo", *given, "--workers", "2", *there, "--out", "run")
    until((here / "run" / "snapshot.npz").exists)
    until(lambda: RunFolder("run").snapshot().seconds > 3)  # and less than 6: a busy machine waits
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    code, out, err = call("resume", "run", "--workers", "2", *there, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["status"] == "seconds"
    assert 5.5 < result["seconds"] < 9  # it has no six seconds of its own


@pytest.mark.slow
def test_interrupted_and_resumed_on_other_workers(here, cluster):
    arguments = [*SLOW, "--steps", "40"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    process = start("run", "cbo", *arguments, "--workers", "2", *there, "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.fullmatch(r"zoo: interrupted at step \d+; 'zoo resume run' continues it\n", err)
    assert "workers" in out
    code, out, err = call("resume", "run", "--workers", "1", *there, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    whole = same_run(here, *arguments)
    for name in ("x", "fun", "consensus", "nfev", "nit", "spread"):
        assert result[name] == whole[name]


def test_a_driver_killed_on_a_cluster_resumes(here, cluster):
    arguments = [*SLOW, "--steps", "30", "--snapshot-every", "0.2"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    process = start("run", "cbo", *arguments, "--workers", "2", *there, "--out", "run")
    until(lambda: (Path("run") / "snapshot.previous.npz").exists())
    pids = [event["pid"] for event in events("run", "joined")]
    process.kill()
    process.communicate()
    code, out, _ = call("resume", "run", "--workers", "3", *there, "--json")
    assert code == 0
    assert json.loads(out)["x"] == same_run(here, *arguments)["x"]
    until(lambda: not any(map(psutil.pid_exists, pids)))  # the dead driver's


def test_a_lost_worker_is_one_line_and_shown(here, cluster):
    arguments = [*SLOW, "--steps", "30"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    process = start("run", "cbo", *arguments, "--workers", "2", *there, "--out", "run")
    until(lambda: len(RunFolder("run").history()) > 5)
    pid = events("run", "joined")[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.fullmatch(rf"zoo: lost worker {pid}@\S+ \(its process died\); another is .*\n", err)
    assert re.search(r"workers +2 in the end, 1 lost", out)
    code, out, _ = call("show", "run")
    assert code == 0
    assert re.search(rf"worker +{pid}@\S+ +lost +its process died", out)
    assert len(re.findall(r"joined", out)) == 3
    code, out, _ = call("show", "run", "--json")
    assert [e["event"] for e in json.loads(out)["workers"]].count("lost") == 1


def test_an_objective_that_kills_its_process(here, cluster):
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2"]
    arguments = ["--objective", "mine.py:dies", *SLOW[2:], "--steps", "4", "--workers", "2"]
    code, out, err = call("run", "cbo", *arguments, *there, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["failures"]["crash"] == result["nonfinite"] > 0
    # a chunk that is sent to a second worker, too, has attempts of its own
    assert result["failures"]["retried crash"] >= result["nonfinite"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--workers", "x"], "workers must be auto or a whole number >= 1, got 'x'"),
        (["--workers", "2", "--threads", "2"], "threads are for a run in its own process"),
        (["--workers", "2", "--ray-address", "127.0.0.1:9"], "no Ray cluster answers at"),
        (
            ["--workers", "2", "--ray-address", "nowhere"],
            "ray_address must be auto, local or HOST:PORT, got 'nowhere'",
        ),
        (
            ["--workers", "2", "--ray-address", "ray://h:1"],
            "HOST:PORT, not that of a Ray Client, got",
        ),
        (["--workers", "2", "--working-dir", "nowhere"], "working_dir"),
        (["--respawns", "2"], "respawns needs workers too"),
        (["--workers", "2", "--gpus-per-worker", "-1"], "gpus_per_worker must be >= 0"),
    ],
)
def test_bad_input_is_one_line(here, given, said):
    code, out, err = call("run", "cbo", *SLOW, *given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_a_job_of_the_cluster(here, cluster):
    import ray

    url = "http://" + ray.worker.global_worker.node.address_info["webui_url"]
    # Ray's own address for jobs is that of the last head started on the machine, by any test.
    own = ("env", f"PYTHONPATH={ROOT}", f"RAY_ADDRESS={cluster.address}", sys.executable)
    command = [
        *(Path(sys.executable).parent / "ray", "job", "submit", "--address", url),
        *("--working-dir", ".", "--", *own, "-m", "cli.main", "run", "cbo"),
        *(*SLOW, "--steps", "5", "--workers", "2", "--cpus-per-worker", "0.2"),
        *("--json", "--out"),
    ]
    given = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 120}
    ran = subprocess.run([*command, here / "job"], check=False, **given)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = RunFolder("job").result()  # of what a job prints, Ray loses the end at times
    assert result["fun"] == same_run(here, *SLOW, "--steps", "5")["fun"]
    assert result["workers"]["workers"] == 2
