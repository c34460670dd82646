"""Runs of Private-GSD, as users meet them: bits, the ledger, seeds, leaks, bad input, memory."""

import contextlib
import functools
import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from commands import ENVIRONMENT, called, left_behind, ran, refused, some_of, start, until
from scipy import stats

from cli.main import main
from evolve.gsd import curator, method, noise, selection, study
from evolve.gsd.curator import Curator
from evolve.gsd.example import example_schema
from evolve.gsd.ledger import Ledger
from evolve.gsd.marginals import plain
from evolve.gsd.privacy import rho_of
from evolve.gsd.queries import Queries
from evolve.gsd.table import read_table
from zoo.runtime.folder import RunFolder
from zoo.runtime.hosts import InlineHost, ThreadsHost
from zoo.runtime.loop import run as run_loop
from zoo.runtime.parcel import pack

pytest.importorskip("opendp")

RHO = rho_of(1.0, 1e-9)
SCHEMA = {
    "colour": {"dtype": "object", "values": ["red", "green", "blue", "white"]},
    "size": {"dtype": "object", "values": ["S", "M", "L"]},
    "age": {"dtype": "int64", "min": 18, "max": 60},
    "score": {
        "dtype": "float64",
        "min": 0,
        "max": 10,
        "decimals": 1,
        "has_null": True,
        "null_value": "",
    },
}
FUNCTIONS = """
from numba import njit

@njit
def older(x):
    return 1.0 if x[2] > 40 else 0.0

@njit
def mixed(x):
    return x[2] // 4 * 12 + x[0] * 3 + x[1] if x[3] < 8 else -1.0

@njit
def two(x, y):
    return 0.0

@njit
def raises(x):
    if x[2] > 20:
        raise ValueError("no way")
    return 0.0

def slow(x):
    return 0.0

good = [(older, 2), (mixed, 192)]
none = []
bare = [older]
zero = [(older, 0)]
true = [(older, True)]
python = [(slow, 2)]
arguments = [(two, 2)]
failing = [(raises, 2)]
"""
DATA = ["--data", "people.csv", "--schema", "people.json", "--epsilon", "1", "--rows", "300"]
#: Small batches make many generations of a small table.
FEW = ["--batch", "200"]
FIELDS = {"epsilon", "delta", "rho", "rho_spent", "queries_measured", "generations", "candidates"}
FIELDS |= {"error", "rows", "out", "seconds"}


def people(rows=397, seed=1):
    """A table as text."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 4, rows)
    size = (colour + rng.integers(0, 2, rows)) % 3
    lines = ["colour,size,age,score"]
    for i in range(rows):
        words = SCHEMA["colour"]["values"][colour[i]], SCHEMA["size"]["values"][size[i]]
        score = "" if rng.random() < 0.1 else f"{rng.random() * 10:.1f}"
        lines.append(f"{words[0]},{words[1]},{rng.integers(18, 61)},{score}")
    return "\n".join(lines) + "\n"


def furnish(folder):
    (folder / "people.csv").write_text(people())
    (folder / "people.json").write_text(json.dumps({"schema": SCHEMA}))
    (folder / "mine.py").write_text(FUNCTIONS)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    furnish(tmp_path)
    return tmp_path


def gsd(capsys, *arguments, data=DATA):
    return ran(capsys, "run", "gsd", *data, *arguments)


def measurements(folder):
    """Counts of all measurements of a run folder."""
    found = []
    for path in sorted(Path(folder).glob("measurement*.npz")):
        with np.load(path) as file:
            found.append(file["counts"])
    return found


def charges(path):
    return [entry.rho for entry in Ledger.read(path).entries()]


def again(folder, to):
    """Copy of a run that has its measurements, and nothing else yet; it writes to ``to``.csv."""
    shutil.copytree(folder, to)
    for name in ("result.json", "partial.json", "snapshot.npz", "snapshot.previous.npz"):
        (to / name).unlink(missing_ok=True)
    (to / "history.jsonl").write_text("")
    config = json.loads((to / "config.json").read_text())
    config["problem"]["out"] = str(to.with_suffix(".csv"))
    (to / "config.json").write_text(json.dumps(config))
    return to


# The whole way


def test_without_data(here):
    process = start("run", "gsd", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.fullmatch(r"zoo: memory: up to [\d,]+ MB, in 5 copies\n", err)
    assert out.count("\n") == 1
    result = json.loads(out)
    assert result.keys() >= FIELDS
    assert result["rho"] == pytest.approx(0.01497306, rel=1e-6)
    assert result["rho_spent"] == pytest.approx(result["rho"], abs=1e-9)
    assert result["rho_spent"] == Ledger.read("synthetic.csv.ledger").spent
    assert (result["epsilon"], result["delta"], result["rows"]) == (1.0, 1e-9, 2000)
    assert (result["private"], result["not_private"]) == (True, [])
    assert result["out"] == str(here / "synthetic.csv")
    assert result["queries_measured"] == sum(map(len, measurements("synthetic.run")))
    assert result["error"].keys() == {"single columns", "marginals"}
    for name, error in result["error"].items():
        assert error.keys() == {"sets", "mean", "max", "noise_floor"}
        assert 0 < error["mean"] <= error["max"]
        assert 0.5 < error["mean"] / error["noise_floor"] < 3, name
    assert read_table("synthetic.csv", example_schema()).shape == (2000, 8)
    assert RunFolder("synthetic.run").result()["fun"] == result["fun"]
    assert RunFolder("synthetic.run").history()[-1]["candidates"] == result["candidates"]


def test_for_people(here, capsys):
    code, out, err = called(capsys, "run", "gsd", *DATA, "--out", "made.csv")
    assert code == 0
    assert re.fullmatch(r"zoo: memory: up to \d MB, in 5 copies\n", err)
    title, *rows = out.splitlines()
    assert title == "people.csv: gsd, seed 0"
    said = dict(re.fullmatch(r"  (\w+(?: \w+)?) {2,}(.*)", row).groups() for row in rows)
    assert said.keys() == {
        "budget",
        "single columns",
        "marginals",
        "work",
        "table",
        "release",
        "ended",
    }
    assert said["budget"] == f"epsilon 1, delta 1e-09, add-remove; spent rho {RHO:.6g} of {RHO:.6g}"
    assert "noise" in said["marginals"]
    assert said["table"] == f"300 rows in {here / 'made.csv'}"
    code, out, _ = called(capsys, "run", "gsd", *DATA, "--epsilon", "inf", "--out", "exact.csv")
    assert code == 0
    assert "NOT PRIVATE" in out
    assert "no noise" in out
    assert not (here / "exact.csv.ledger").exists()
    assert len(charges("people.csv.ledger")) == 2


KINDS = {
    "one shot": [],
    "adaptive": ["--adaptive", "--rounds", "4"],
    "pairs of halfspaces": "--queries halfspaces --count 40 --adaptive --rounds 3 --per-round 2",
    "ranges": ["--queries", "ranges", "--depth", "3", "--rows", "same"],
    "functions": ["--queries", "functions", "--functions", "mine.py:good", "--shards", "3"],
    "triples": ["--marginals", "3", "--neighbours", "replace-one"],
    "single columns": ["--marginals", "1", "--below-noise", "0"],
}
KINDS = {name: text.split() if isinstance(text, str) else text for name, text in KINDS.items()}


# Bits


def on(host, folder):
    """Table and result of a run folder's run, on a host."""
    stored = RunFolder(folder)
    prepared = study.reopen(stored.config(), stored, None)
    run_loop(prepared.method, host)
    result = prepared.method.result()
    return prepared.method.codes.tobytes(), {k: v for k, v in result.items() if k != "memory"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_measurements_give_the_same_table(kind, here, capsys):
    first = gsd(capsys, *KINDS[kind], *FEW, "--seed", "5", "--out", "first.csv")
    assert first["generations"] >= 1
    spent = (here / "people.csv.ledger").read_bytes()
    table, result = on(InlineHost(), again(here / "first.run", here / "inline"))
    for name in ("fun", "rows", "generations", "candidates", "rounds", "error", "status"):
        assert result[name] == first[name], name
    for threads in (1, 2, 3):
        assert on(ThreadsHost(threads), here / "inline") == (table, result)
    if "--adaptive" not in KINDS[kind]:  # nothing is left to be measured
        (here / "people.csv").unlink()
    for threads in ("1", "3"):
        to = again(here / "first.run", here / f"again{threads}")
        assert ran(capsys, "resume", str(to), "--threads", threads)["fun"] == first["fun"]
        assert to.with_suffix(".csv").read_bytes() == (here / "first.csv").read_bytes()
    assert (here / "people.csv.ledger").read_bytes() == spent


def test_another_seed_gives_another_table(here, capsys):
    gsd(capsys, "--out", "first.csv")
    to = again(here / "first.run", here / "other")
    config = json.loads((to / "config.json").read_text()) | {"seed": 6}
    (to / "config.json").write_text(json.dumps(config))
    ran(capsys, "resume", str(to))
    assert (here / "other.csv").read_bytes() != (here / "first.csv").read_bytes()


#: Ends itself at a point of a run, in forks of one process: what a power cut would leave.
DRIVER = """
import json, os, signal, sys
from cli.main import main
from evolve.gsd import curator, method, noise, study

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def counted(function, number, before):
    calls = [0]
    def other(*arguments, **options):
        calls[0] += 1
        if before and calls[0] == number:
            die()
        found = function(*arguments, **options)
        if not before and calls[0] == number:
            die()
        return found
    return other

def plant(point, number):
    place, name, before = {
        "searching": (method.GSD, "merge", False),
        "chosen": (curator, "measure", True),  # the choice is paid, the measurement is not
        "charged": (noise, "gaussian", True),
        "drawn": (noise, "gaussian", False),
        "kept": (curator.Curator, "_keep", False),
        "written": (study, "write_table", False),
    }[point]
    setattr(place, name, counted(getattr(place, name), number, before))

assert main([*json.loads(sys.argv[1]), "--quiet", "--out", "warm.csv", "--ledger", "warm"]) == 0
for point, number, arguments in json.loads(sys.argv[2]):
    sys.stdout.flush()
    child = os.fork()
    if child:
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, (point, number)
        continue
    plant(point, number)
    main(arguments)
    os._exit(0)
"""
SEEDED = [*DATA, *FEW, "--seed", "3", "--insecure-noise-seed", "8"]
ONE, MORE = KINDS["one shot"], KINDS["adaptive"]
DEATHS = {
    # of runs whose noise has a known seed: they come to the same bits
    "search": ("searching", 3, [*SEEDED, "--snapshot-every", "1e-6"]),
    "late search": ("searching", 9, [*SEEDED, "--snapshot-every", "1e-6"]),
    "search without a snapshot": ("searching", 8, SEEDED),
    "table": ("written", 1, SEEDED),
    "release": ("kept", 2, SEEDED),
    "search in a round": ("searching", 31, [*SEEDED, *MORE, "--snapshot-every", "1e-6"]),
    "release in a round": ("kept", 4, [*SEEDED, *MORE, "--snapshot-every", "1e-6"]),
    "release in a round without a snapshot": ("kept", 4, [*SEEDED, *MORE]),
    # of runs as they should be, between a charge and its release
    "first charge": ("charged", 1, DATA),
    "charge": ("charged", 2, DATA),
    "draw": ("drawn", 2, DATA),
    "choice in a round": ("chosen", 3, [*DATA, *FEW, *MORE]),
    "charge in a round": ("charged", 3, [*DATA, *FEW, *MORE]),
    "draw in a round": ("drawn", 4, [*DATA, *FEW, *MORE]),
    "draw in the last round": ("drawn", 5, [*DATA, *FEW, *MORE]),
}


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """Folder of runs that were killed, each in its own with its own ledger."""
    folder = tmp_path_factory.mktemp("deaths")
    furnish(folder)
    runs = [
        (point, number, ["run", "gsd", *arguments, "--out", f"{name}.csv", "--ledger", name])
        for name, (point, number, arguments) in DEATHS.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(["run", "gsd", *DATA]), json.dumps(runs)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


def dead(name, deaths, monkeypatch):
    monkeypatch.chdir(deaths)
    assert RunFolder(f"{name}.run").result() is None
    return f"{name}.run"


@pytest.mark.parametrize("name", [name for name in DEATHS if "8" in DEATHS[name][2]])
def test_a_killed_run_comes_to_the_same_bits(name, deaths, monkeypatch, capsys, tmp_path):
    folder = dead(name, deaths, monkeypatch)
    kept = RunFolder(folder).snapshot()
    if "--snapshot-every" in DEATHS[name][2]:
        book = json.loads(kept.method["book"].item())
        assert book["generation"] > 0
        assert (book["round"] > 0) == ("round" in name)
    else:
        assert kept is None
    whole = gsd(
        capsys,
        "--out",
        str(tmp_path / "whole.csv"),
        "--ledger",
        str(tmp_path / "whole"),
        data=DEATHS[name][2],
    )
    result = ran(capsys, "resume", folder)
    for field in ("fun", "generations", "candidates", "rounds", "error", "rho_spent", "status"):
        assert result[field] == whole[field], field
    assert Path(f"{name}.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    rows = [RunFolder(path).history() for path in (folder, tmp_path / "whole.run")]
    assert rows[0] == rows[1]


def test_signals_from_outside(here, capsys):
    long = [*DATA, "--batch", "64", "--candidates", "400000", "--sweeps", "1e9"]
    long += ["--below-noise", "0", "--snapshot-every", "0.05", "--out", "made.csv"]
    process = start("run", "gsd", *long)
    until(lambda: (here / "made.run" / "snapshot.npz").exists())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"\nzoo: interrupted at step \d+; 'zoo resume made.run' continues it\n$", err)
    assert "table" not in out
    assert not (here / "made.csv").exists()
    spent = (here / "people.csv.ledger").read_bytes()
    before = len(RunFolder("made.run").history())
    process = start("resume", "made.run", "--threads", "2")
    until(lambda: len(RunFolder("made.run").history()) > before)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert RunFolder("made.run").result() is None
    (here / "people.csv").unlink()
    result = ran(capsys, "resume", "made.run")
    assert result["candidates"] >= 400_000
    assert (here / "people.csv.ledger").read_bytes() == spent
    _, whole = on(InlineHost(), again(here / "made.run", here / "again"))
    assert (whole["fun"], whole["candidates"]) == (result["fun"], result["candidates"])
    ran(capsys, "resume", "again")
    assert (here / "again.csv").read_bytes() == (here / "made.csv").read_bytes()
    assert ran(capsys, "resume", "made.run") == result  # only told again


def interrupted(capsys, monkeypatch, generation, *arguments):
    """Run that hears a Ctrl-C at a generation."""
    merge = method.GSD.merge

    def merged(self, reports):
        merge(self, reports)
        if self._generation == generation:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(method.GSD, "merge", merged)
        code, _, err = called(capsys, "run", "gsd", *arguments, "--quiet")
    assert code == 130
    assert err.startswith(f"zoo: interrupted at step {generation}; ")


def test_an_interrupted_run_comes_to_the_same_bits(here, monkeypatch, capsys):
    for kind in (ONE, MORE):
        for path in (*here.glob("*.run"), *here.glob("*ledger")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in here.glob("cut*.csv"):
            path.unlink()
        whole = gsd(capsys, *kind, "--out", f"whole{len(kind)}.csv", data=SEEDED)
        ledger = (here / "people.csv.ledger").rename(here / "whole.ledger")
        assert whole["rho_spent"] == Ledger.read(ledger).spent
        interrupted(capsys, monkeypatch, 12, *SEEDED, *kind, "--out", "cut.csv")
        assert ran(capsys, "resume", "cut.run", "--threads", "2")["fun"] == whole["fun"]
        assert (here / "cut.csv").read_bytes() == (here / f"whole{len(kind)}.csv").read_bytes()


def test_what_a_resume_needs_of_the_data(here, monkeypatch, capsys):
    for name, kind in (("one", ONE), ("more", MORE)):
        for neighbours in ("add-remove", "replace-one"):
            to = f"{name}-{neighbours}"
            given = [*DATA, *FEW, *kind, "--neighbours", neighbours, "--ledger", to]
            interrupted(capsys, monkeypatch, 2, *given, "--out", f"{to}.csv")
    shutil.move("people.csv", "away.csv")
    for neighbours in ("add-remove", "replace-one"):
        assert ran(capsys, "resume", f"one-{neighbours}.run")["rows"] == 300
        before = charges(f"more-{neighbours}")
        err = refused(capsys, "resume", f"more-{neighbours}.run")
        assert err == f"zoo: cannot read {here / 'people.csv'}: No such file or directory\n"
        assert charges(f"more-{neighbours}") == before
    shutil.move("away.csv", "people.csv")
    result = ran(capsys, "resume", "more-replace-one.run")
    assert result["rho_spent"] == pytest.approx(RHO, abs=1e-9)


# The ledger over runs


@pytest.mark.parametrize("kind", [ONE, MORE, KINDS["pairs of halfspaces"]])
def test_two_halves_are_the_whole_budget(kind, here, capsys):
    half = [*kind, "--share", "0.5"]
    first, second = (gsd(capsys, *half, "--out", f"{i}.csv") for i in range(2))
    for result in (first, second):
        assert result["rho_spent"] == pytest.approx(RHO / 2, abs=1e-9)
    ledger = Ledger.read("people.csv.ledger")
    assert first["rho_spent"] + second["rho_spent"] == pytest.approx(ledger.spent, rel=1e-12)
    assert ledger.spent == pytest.approx(RHO, abs=1e-9)
    assert ledger.spent <= RHO * (1 + 2**-40)
    mechanisms = {entry.details["mechanism"] for entry in ledger.entries()}
    assert mechanisms == {"discrete gaussian"} | ({"exponential"} if kind else set())
    content = ledger.path.read_bytes()
    for share in ("0.5", "1", "1e-6"):
        err = refused(capsys, "run", "gsd", *DATA, "--share", share, "--out", "third.csv")
        assert "the budget is spent" in err
        assert "nothing may be measured" in err
        assert not list(here.glob("third*"))
    assert ledger.path.read_bytes() == content


def test_a_share_that_would_use_the_rest_is_named(here, capsys):
    gsd(capsys, "--share", "0.75", "--out", "first.csv")
    err = refused(capsys, "run", "gsd", *DATA, "--out", "second.csv")
    share = re.search(r"\(share=(\S+) would use it\)\n", err)[1]
    assert float(share) == pytest.approx(0.25, abs=1e-5)
    gsd(capsys, "--share", share, "--out", "second.csv")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (["--epsilon", "2"], "epsilon 1.0, not 2.0"),
        (["--delta", "1e-8"], "delta 1e-09, not 1e-08"),
        (["--neighbours", "replace-one"], "neighbours 'add-remove', not 'replace-one'"),
        (["--insecure-noise-seed", "1"], "private True, not False"),
    ],
)
def test_another_budget_on_the_ledger(changed, what, here, capsys):
    gsd(capsys, "--share", "0.5", "--out", "first.csv")
    content = (here / "people.csv.ledger").read_bytes()
    err = refused(capsys, "run", "gsd", *DATA, *changed, "--share", "0.1", "--out", "second.csv")
    assert what in err
    assert (here / "people.csv.ledger").read_bytes() == content
    assert not list(here.glob("second*"))


@pytest.mark.parametrize("name", ["charge", "draw"])
def test_a_budget_charged_and_lost_is_spent(name, deaths, monkeypatch, capsys):
    folder = dead(name, deaths, monkeypatch)
    content = Path(name).read_bytes()
    assert sum(charges(name)) == pytest.approx(RHO, abs=1e-9)
    assert len(measurements(folder)) == 1
    assert "budget is spent" in refused(capsys, "resume", folder)
    another = refused(capsys, "run", "gsd", *DATA, "--ledger", name, "--out", "another.csv")
    assert "nothing may be measured" in another
    assert Path(name).read_bytes() == content
    assert not Path(f"{name}.csv").exists()


def test_the_rest_of_a_budget_is_not_lost(deaths, monkeypatch, capsys):
    folder = dead("first charge", deaths, monkeypatch)
    (lost,) = charges("first charge")
    assert not measurements(folder)
    ledger = ["--ledger", "first charge", "--out", "rest.csv"]
    share = re.search(r"share=(\S+) ", refused(capsys, "run", "gsd", *DATA, *ledger))[1]
    assert float(share) == pytest.approx(1 - lost / RHO, rel=1e-5)
    result = ran(capsys, "resume", folder)  # with the rest
    assert result["rho_spent"] == pytest.approx(RHO, abs=1e-9)
    assert sum(charges("first charge")) <= RHO * (1 + 2**-40)


@pytest.mark.parametrize("name", ["choice in a round", "charge in a round", "draw in a round"])
def test_a_round_charged_and_lost_is_spent(name, deaths, monkeypatch, capsys):
    folder = dead(name, deaths, monkeypatch)
    before, kept = charges(name), len(measurements(folder))
    assert len(before) > 2 * kept - 1  # single columns, then a choice and a measurement each
    result = ran(capsys, "resume", folder)
    assert charges(name)[: len(before)] == before
    assert sum(charges(name)) == pytest.approx(RHO, abs=1e-9)
    assert result["rho_spent"] == pytest.approx(RHO, abs=1e-9)
    assert result["rounds"] == 5
    paid = [json.loads(str(np.load(p)["head"]))["rho"] for p in Path(folder).glob("measure*")]
    chosen = [e.rho for e in Ledger.read(name).entries() if e.details["mechanism"] != "exponential"]
    assert len(chosen) == len(paid) + (name != "choice in a round")


def test_a_last_round_charged_and_lost_is_done_without(deaths, monkeypatch, capsys):
    folder = dead("draw in the last round", deaths, monkeypatch)
    content = Path("draw in the last round").read_bytes()
    assert sum(charges("draw in the last round")) == pytest.approx(RHO, abs=1e-9)
    result = ran(capsys, "resume", folder)
    assert (result["rounds"], result["rows"]) == (4, 300)
    assert result["rho_spent"] == pytest.approx(RHO, abs=1e-9)
    assert Path("draw in the last round").read_bytes() == content


def test_a_budget_that_another_run_takes_between_two_rounds(here, monkeypatch, capsys):
    monkeypatch.setattr(Curator, "exhausted", property(drained))
    err = refused(capsys, "run", "gsd", *DATA, *MORE, "--out", "late.csv", "--quiet")
    assert "the budget is spent: nothing is left for choice" in err
    assert Ledger.read("people.csv.ledger").spent == pytest.approx(RHO, abs=1e-9)
    assert not (here / "late.csv").exists()


def drained(self):
    """Just looked, and something was left; now it is gone."""
    self.ledger.charge("another run", self.ledger.remaining)
    return False


#: Two runs at once, both past every check before either has measured.
RACE = """
import os, sys, time
from cli.main import main
from evolve.gsd.curator import Curator

measure, out = Curator.measure, sys.argv[1]

def measured(self, *arguments):
    open(f"{out}.there", "w").close()
    while not all(os.path.exists(f"{name}.there") for name in ("a", "b")):
        time.sleep(0.001)
    return measure(self, *arguments)

Curator.measure = measured
sys.exit(main(["run", "gsd", *sys.argv[2:], "--json", "--quiet", "--out", f"{out}.csv"]))
"""


@pytest.mark.parametrize("share", some_of(["0.5", "0.8"]))
def test_two_processes_at_once(share, here):
    given = [*DATA, "--share", share, "--adaptive", "--rounds", "6"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, name, *given],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    told = [process.communicate(timeout=60) for process in runs]
    spent = Ledger.read("people.csv.ledger").spent
    assert spent <= RHO * (1 + 2**-40)
    codes = [process.returncode for process in runs]
    if share == "0.5":
        assert codes == [0, 0]
        both = [json.loads(out)["rho_spent"] for out, _ in told]
        assert both == pytest.approx([RHO / 2] * 2, abs=1e-9)
        return
    assert set(codes) <= {0, 2}, told  # the later one makes do with what is left
    for name, code, (out, err) in zip("ab", codes, told, strict=True):
        assert (here / f"{name}.csv").exists() == (code == 0)
        assert code == 0 or (out == "" and re.fullmatch("zoo: the budget is spent: .*\n", err))


def test_a_ledger_that_is_gone_or_another_one(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 2, *DATA, *FEW, *MORE, "--out", "cut.csv")
    ledger = here / "people.csv.ledger"
    content = ledger.read_bytes()
    ledger.unlink()
    assert "people.csv.ledger is not there" in refused(capsys, "resume", "cut.run")
    assert not ledger.exists()
    ledger.write_bytes(content.splitlines(keepends=True)[0])  # of before the run
    assert "not the ledger that paid" in refused(capsys, "resume", "cut.run")
    assert charges(ledger) == []
    ledger.write_bytes(content)
    ran(capsys, "resume", "cut.run")


# Seeds


def test_the_seed_does_not_repeat_the_noise(here, capsys):
    for name in "ab":
        gsd(capsys, "--seed", "7", "--out", f"{name}.csv", "--ledger", name)
    one, other = measurements("a.run"), measurements("b.run")
    assert len(one) == len(other) == 2
    assert not np.array_equal(one[0], other[0])
    apart = (one[0] - other[0]) / (math.sqrt(2) * Ledger.read("a").entries()[0].details["sigma"])
    assert len(apart) > 100
    assert 0.6 < apart.std() < 1.5  # as apart as independent noise is


@pytest.mark.parametrize("kind", [ONE, MORE])
def test_noise_of_a_known_seed_is_marked(kind, here, capsys):
    results = {}
    for name, seed in (("a", "8"), ("b", "8"), ("c", "9")):
        given = ["--insecure-noise-seed", seed, "--out", f"{name}.csv", "--ledger", name]
        results[name] = gsd(capsys, *kind, *given)
        assert Ledger.read(name).private is False
    assert results["a"]["private"] is False
    assert results["a"]["not_private"] == ["the noise comes from a known seed"]
    for one, other in zip(measurements("a.run"), measurements("b.run"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (here / "a.csv").read_bytes() == (here / "b.csv").read_bytes()
    assert not np.array_equal(measurements("a.run")[0], measurements("c.run")[0])
    counts = measurements("a.run")
    assert not any(np.array_equal(c, counts[0][: len(c)]) for c in counts[1:])
    out = ["--insecure-noise-seed", "8", "--ledger", "d", "--out", "d.csv"]
    code, out, err = called(capsys, "run", "gsd", *DATA, *out)
    assert code == 0
    assert err.startswith("zoo: warning: not private: the noise comes from a known seed\n")
    assert "NOT PRIVATE" in out


# Leaks


@pytest.fixture
def deaf(monkeypatch):
    """Mechanisms whose answers do not depend on what they are asked about.

    Everything that a run shows must then be the same, whatever the data are.
    """

    def gaussian(counts, sigma, *, insecure_seed=None):
        fixed = np.random.default_rng(len(counts))
        return 9 + np.rint(fixed.gamma(0.5, 40.0, len(counts))).astype(np.int64)

    def mechanism(sensitivity, epsilon, many, insecure_seed):
        return lambda values: np.arange(many) * 2 % len(values)

    monkeypatch.setattr(noise, "gaussian", gaussian)
    monkeypatch.setattr(selection, "_mechanism", mechanism)
    monkeypatch.setattr(study.uuid, "uuid4", lambda: study.uuid.UUID(int=7))
    monkeypatch.setattr("evolve.gsd.ledger._now", lambda: "now")


def shown(folder):
    """All that a run has left, by name, but for how long things took."""
    left = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name.startswith("snapshot"):
            with np.load(path) as file:
                for part in set(file.files) - {"seconds", "digest"}:
                    left[f"{name}/{part}"] = file[part].tobytes()
        elif path.suffix not in (".pyc", ".py", ".nbi", ".nbc"):
            left[name] = re.sub(rb'"seconds": [0-9.e+-]+', b"", path.read_bytes())
    return left


def compared(capsys, tmp_path, monkeypatch, given, inputs=("people.csv", "people.json")):
    """What is shown of runs on two tables that have nothing in common but their schema."""
    seen = []
    sent = []

    class Recording(InlineHost):
        def start(self, method, *arguments):
            sent.append(bytes(pack(method)))
            super().start(method, *arguments)

        def step(self, message):
            sent.append(pickle.dumps(message))
            return super().step(message)

    monkeypatch.setattr("zoo.runtime.choice.InlineHost", Recording)
    private = []
    for rows, seed in ((397, 1), (611, 2)):
        folder = tmp_path / "run"
        folder.mkdir()
        monkeypatch.chdir(folder)
        furnish(folder)
        (folder / "people.csv").write_text(people(rows, seed))
        private.append(read_table("people.csv", study.read_schema("people.json")))
        sent.clear()
        arguments = [*FEW, *given, "--threads", "1", "--snapshot-every", "1e-6"]
        arguments += ["--candidates", "150000"]
        code, out, err = called(capsys, "run", "gsd", *DATA, *arguments, "--json")
        assert code == 0
        for name in (*inputs, "mine.py"):
            (folder / name).unlink()
        left = shown(folder)
        assert {"synthetic.csv", "people.csv.ledger", "synthetic.run/measurement000.npz"} < {*left}
        assert "synthetic.run/snapshot.npz/method/codes" in left
        out = re.sub(r'"seconds": [0-9.e+-]+', "", out)
        seen.append(left | {"stdout": out, "stderr": err})
        seen[-1] |= {f"sent {k}": content for k, content in enumerate(sent)}
        shutil.rmtree(folder)
    return seen, private


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize(
    "given",
    [
        [],
        MORE,
        ["--rows", "same"],
        ["--rows", "same", *KINDS["single columns"]],
        KINDS["pairs of halfspaces"],
        [*KINDS["functions"], "--rows", "same"],
        KINDS["ranges"],
        ["--marginals", "3", "--target", "age", "--clip"],
    ],
    ids=" ".join,
)
def test_nothing_but_noisy_answers_is_shown(given, tmp_path, monkeypatch, capsys):
    seen, private = compared(capsys, tmp_path, monkeypatch, given)
    assert seen[0].keys() == seen[1].keys()
    assert len([name for name in seen[0] if name.startswith("sent")]) > 3
    for name, content in seen[0].items():
        assert content == seen[1][name], name
    for what in private:  # nor the table itself, in a form that is not to be seen above
        for kind in (np.int16, np.int32, np.int64):
            for order in "CF":
                part = what.astype(kind).tobytes(order)[:200]
                assert not any(part in c for c in seen[0].values() if isinstance(c, bytes))


@pytest.mark.usefixtures("deaf")
def test_the_number_of_rows_is_shown_where_it_is_public(tmp_path, monkeypatch, capsys):
    given = ["--neighbours", "replace-one", "--rows", "same"]
    seen, _ = compared(capsys, tmp_path, monkeypatch, given)
    rows = [json.loads(re.sub(r", , ", ", ", s["stdout"]))["rows"] for s in seen]
    assert rows == [397, 611]


def test_what_travels_has_no_curator(here, capsys, monkeypatch):
    interrupted(capsys, monkeypatch, 2, *DATA, *FEW, "--out", "cut.csv")
    folder = RunFolder("cut.run")
    run = study.reopen(folder.config(), folder, None).method
    run.message(1)
    state = run.__getstate__()
    hidden = ("curator", "design", "_rounds", "_round")
    assert [state[name] for name in hidden] == [None] * 4
    assert all(getattr(run, name) is not None for name in hidden)


# Bad input


WORKLOADS = {
    "{": "is no JSON",
    "[]": "must be a list of lists of columns",
    '{"a": ["age"]}': "must be a list of lists of columns",
    '["age"]': "must be a list of lists of columns",
    '[["age", 3]]': "must be a list of lists of columns",
    '[["age", "zip"]]': "no column 'zip'; there are colour, size, age, score",
    '[["age", "age"]]': "has a column twice",
    '[["age", "size"], ["size", "age"]]': "is there twice",
}
BAD = [
    ("--data none.csv --schema people.json", "none.csv: No such file"),
    ("--data people.csv --schema none.json", "cannot read none.json: No such file"),
    ("--data people.csv --schema people.csv", "people.csv is no JSON"),
    ("--schema people.json", "schema goes with data"),
    ("--data people.csv", "a schema is needed"),
    ("--data people.csv --schema people.json --infer-schema", "two ways"),
    ("--data narrow.csv --schema people.json", "no column 'score' of the schema; it has 'colour'"),
    ("--data empty.csv --schema people.json", "must begin with a header"),
    ("--data header.csv --schema people.json", "header.csv has no rows"),
    ("--data outside.csv --schema people.json", "row 2, column 'age': 99 is not within 18 to 60"),
    ("--epsilon 0", "epsilon must be > 0, got 0"),
    ("--epsilon -1", "epsilon must be > 0, got -1"),
    ("--epsilon nan", "epsilon must be a number, got nan"),
    ("--epsilon x", "--epsilon must be a number, got 'x'"),
    ("--delta 0", "delta must be > 0, got 0"),
    ("--delta 1", "delta must be > 0 and < 1, got 1"),
    ("--delta 0.5", "delta must be at most 1 / rows, got 0.5"),
    ("--delta 0.5 --neighbours replace-one", "delta must be at most 1/N = 0.00252"),
    ("--rows 0", "rows must be a whole number from 1"),
    ("--rows x", "rows must be a whole number from 1"),
    ("--rows 2000000000", "fewer shards, rows or marginals take less"),
    ("--marginals 9", "marginals must be >= 1 and <= 4, got 9"),
    ("--data two.csv --schema two.json --marginals 3", "marginals must be <= 2, the columns"),
    ("--target zip", "no column 'zip'; there are colour, size, age, score"),
    ("--target age --queries halfspaces", "target chooses among marginals or ranges"),
    ("--target age --workload people.json", "two ways"),
    ("--workload none.json", "none.json: No such file"),
    ("--data two.csv --schema two.json --queries ranges", "ranges are for numbers"),
    ("--queries functions", "goes with --functions FILE.py:NAME"),
    ("--functions mine.py:good", "goes with --functions FILE.py:NAME"),
    ("--queries functions --functions none.py:x", "none.py does not exist"),
    ("--queries functions --functions mine.py", "add :NAME"),
    ("--queries functions --functions mine.py:other", "no function 'other'"),
    *[
        (f"--queries functions --functions mine.py:{name}", "must be a list of (function, cells)")
        for name in ("none", "bare", "zero", "true", "python", "older")
    ],
    ("--queries functions --functions mine.py:arguments", "does not compile to float(x)"),
    ("--queries functions --functions mine.py:good --adaptive", "functions are measured once"),
    ("--out nowhere/made.csv", "there is no folder nowhere"),
    ("--out there.csv", "there.csv is there already"),
    ("--out folder", "it is a folder"),
    ("--folder old", "old already holds a run"),
    ("--folder measured", "measured is there already"),
    ("--folder there.csv", "there.csv is there already"),
    ("--ledger there.csv", "there.csv is not a ledger"),
    ("--ledger nowhere/ledger", "cannot open ledger"),
    ("--ledger /proc/ledger", "cannot open ledger"),
    ("--ledger folder", "cannot open ledger"),
    ("--insecure-noise-seed 4 --ledger private", "must state private True, not False"),
    ("--epsilo 1", "did you mean --epsilon?"),
    ("--adaptve", "did you mean --adaptive?"),
    ("--queries margnals", "did you mean 'marginals'?"),
    ("--share 0", "share must be > 0 and <= 1"),
    ("--batch 3", "batch must be even"),
    ("--seed -1", "seed must be >= 0"),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder with much that is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    furnish(folder)
    for name, text in {
        "narrow.csv": "colour,size,age\nred,S,20\n",
        "empty.csv": "",
        "header.csv": "colour,size,age,score\n",
        "outside.csv": "colour,size,age,score\nred,S,20,1\nred,S,99,1\n",
        "two.csv": "a,b\n0,1\n",
        "two.json": '{"a": 2, "b": 2}',
        "there.csv": "here\n",
        "old/config.json": "{}",
        "measured/measurement000.npz": "",
        "folder/file": "",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    Ledger.open(folder / "private", 1.0, 1e-9, "add-remove", "people.csv")
    return folder


def check_refused(bad, capsys, arguments, words):
    given = arguments.split()
    given = given if "--data" in given or "--schema" in given else [*DATA[:4], *given]
    before = {path: path.stat().st_mtime_ns for path in bad.rglob("*")}
    ledgers = {path: path.read_bytes() for path in (bad / "private", bad / "there.csv")}
    assert words in refused(capsys, "run", "gsd", *given)
    assert left_behind(bad, before) == []
    assert all(path.read_bytes() == content for path, content in ledgers.items())


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[given for given, _ in BAD])
def test_bad_input(arguments, words, bad, monkeypatch, capsys):
    monkeypatch.chdir(bad)
    monkeypatch.setattr(sys, "path", list(sys.path))
    check_refused(bad, capsys, arguments, words)


@pytest.mark.parametrize(("text", "words"), WORKLOADS.items(), ids=list(WORKLOADS))
def test_bad_workloads(text, words, bad, monkeypatch, capsys):
    monkeypatch.chdir(bad)
    (bad / "workload.json").write_text(text)
    check_refused(bad, capsys, "--workload workload.json", words)


def test_a_ledger_in_a_folder_that_cannot_be_written(here, capsys):
    (here / "locked").mkdir(mode=0o500)
    if not os.geteuid():
        pytest.skip("root may write anywhere")
    err = refused(capsys, "run", "gsd", *DATA, "--ledger", "locked/ledger")
    assert "Permission denied" in err


def test_values_outside_are_clipped_if_asked_for(bad, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(bad)
    data = ["--data", "outside.csv", "--schema", "people.json", "--epsilon", "inf", "--clip"]
    gsd(capsys, "--out", str(tmp_path / "made.csv"), "--rows", "2", data=data)
    ages = {line.split(",")[2] for line in (tmp_path / "made.csv").read_text().splitlines()[1:]}
    assert ages == {"20", "60"}


def test_from_another_folder(here, monkeypatch, capsys):
    (here / "workload.json").write_text('[["age", "size"], ["score"]]')
    given = {"w": ["--workload", "workload.json"], "f": [*KINDS["functions"], "--epsilon", "inf"]}
    for name, options in given.items():
        interrupted(
            capsys, monkeypatch, 1, *DATA, *FEW, *options, "--ledger", name, "--out", f"{name}.csv"
        )
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for name in given:
        assert ran(capsys, "resume", f"../{name}.run")["out"] == str(here / f"{name}.csv")


DAMAGES = [
    ({"run": None}, "'run'"),
    ({"schema": None}, "'schema'"),
    ({"schema": {}}, "at least one column"),
    ({"seed": -5}, "seed must be"),
    ({"problem": {"ledger": None}}, "no ledger"),
    ({"problem": {"nothing": 4}}, "unknown parameter 'nothing'"),
    ({"config": {"rows": "x"}}, "rows must be"),
    ({"config": {"epsilon": "q"}}, "epsilon must be a number"),
    ({"config": {"nothing": 4}}, "unknown parameter 'nothing'"),
]


def test_damaged_runs(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 2, *DATA, *FEW, "--out", "cut.csv")
    ledger = (here / "people.csv.ledger").read_bytes()
    whole = json.loads((here / "cut.run" / "config.json").read_text())
    err = refused(capsys, "resume", "cut.run", "--objective", "ackley")
    assert "--objective is for runs that minimize" in err
    for change, words in DAMAGES:
        config = json.loads(json.dumps(whole))
        for name, value in change.items():
            if isinstance(value, dict) and value:
                config[name] |= value
            elif value is None:
                config.pop(name)
            else:
                config[name] = value
        if change.get("problem") == {"ledger": None}:
            config["problem"].pop("ledger")
        (here / "cut.run" / "config.json").write_text(json.dumps(config))
        err = refused(capsys, "resume", "cut.run")
        assert "cut.run/config.json is damaged" in err, change
        assert words in err, change
    (here / "cut.run" / "config.json").write_text("{")
    assert "cut.run/config.json is damaged" in refused(capsys, "resume", "cut.run")
    (here / "cut.run" / "config.json").write_text(json.dumps(whole))
    for number in (0, 1):
        path = here / "cut.run" / f"measurement00{number}.npz"
        content = path.read_bytes()
        middle = len(content) // 2
        turned = bytes(byte ^ 255 for byte in content[middle : middle + 99])
        flipped = content[:middle] + turned + content[middle + 99 :]
        for damaged in (content[:200], b"", b"hello", flipped):
            path.write_bytes(damaged)
            assert f"{path.name} is damaged" in refused(capsys, "resume", "cut.run")
        path.unlink()
        assert re.search("is damaged|(is|are) missing", refused(capsys, "resume", "cut.run"))
        path.write_bytes(content)
    assert (here / "people.csv.ledger").read_bytes() == ledger
    assert not (here / "cut.csv").exists()
    ran(capsys, "resume", "cut.run")


def test_a_lost_measurement_of_a_round_costs_nothing_to_find_out(here, monkeypatch, capsys):
    interrupted(capsys, monkeypatch, 70, *DATA, *FEW, *MORE, "--out", "cut.csv")
    folder = here / "cut.run"
    last = sorted(folder.glob("measurement*"))[-1]
    assert last.name > "measurement001.npz"
    ledger = (here / "people.csv.ledger").read_bytes()
    last.rename(here / "kept")
    assert "are missing" in refused(capsys, "resume", "cut.run")
    assert (here / "people.csv.ledger").read_bytes() == ledger
    (here / "kept").rename(last)
    ran(capsys, "resume", "cut.run")


def test_more_than_a_thousand_measurements(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    made = Curator(lambda: np.zeros((3, 1), np.int32), math.inf, "add-remove", folder=tmp_path)
    queries = Queries((2,), (plain([0], (2,)),))
    for number in range(1003):
        made.measure(str(number), queries, 1.0)
    read = curator.read_releases(tmp_path, Queries((2,)), "")
    assert [release.name for release in read] == [str(number) for number in range(1003)]


# The audit


def bound(runs, epsilon, delta, neighbours, planted=1.0, sigmas=2.4):
    """Lower bound, of 95 % confidence, for the epsilon of measuring all pairs of four columns.

    Nine equal rows, and the worst neighbour: an outlier more, or in place of one. Who knows both,
    and that the noise is ``planted`` times as large as claimed, says "outlier" when the noisy
    counts lie ``sigmas`` beyond, on the line from one to the other.
    """
    sizes = (2, 2, 2, 2)
    pairs = tuple(plain([i, j], sizes) for i in range(4) for j in range(i + 1, 4))
    queries = Queries(sizes, pairs)
    equal, other = np.zeros((9, 4), np.int32), np.ones((1, 4), np.int32)
    worlds = [equal, np.concatenate([equal[neighbours == "replace-one" :], other])]
    before, after = (queries.counts(world) for world in worlds)
    change = after - before
    # The claimed sigma is the distance, over sqrt(2 rho).
    threshold = sigmas * planted * (change @ change) / math.sqrt(2 * rho_of_(epsilon, delta))
    said = np.zeros(2, int)
    for world, table in enumerate(worlds):
        for number in range(runs):
            ledger = Ledger.open(f"{neighbours}{world}-{number}", epsilon, delta, neighbours)
            holder = Curator(lambda table=table: table, ledger.rho, neighbours, ledger, "audit")
            release = holder.measure("pairs", queries, ledger.rho)
            ledger.path.unlink()
            said[world] += (release.counts - before) @ change > threshold
    false = stats.beta.ppf(0.975, said[0] + 1, runs - said[0])
    true = stats.beta.ppf(0.025, said[1], runs - said[1] + 1) if said[1] else 0.0
    return max(0.0, math.log((true - delta) / false)) if true > delta else 0.0


rho_of_ = functools.cache(rho_of)


@pytest.mark.parametrize("neighbours", some_of(["add-remove", "replace-one"]))
def test_audit_of_the_curator(neighbours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evolve.gsd.ledger.rho_of", rho_of_)  # the same ones, found once
    monkeypatch.setattr(curator, "sigma_for", functools.cache(noise.sigma_for))
    monkeypatch.setattr(os, "fsync", lambda file: None)
    epsilon, delta = 2.0, 0.1
    assert 0.3 < bound(1000, epsilon, delta, neighbours, sigmas=1.6) <= epsilon
    drawn = noise.gaussian
    with monkeypatch.context() as halved:
        halved.setattr(noise, "gaussian", lambda counts, sigma, **k: drawn(counts, sigma / 2, **k))
        assert bound(1000, epsilon, delta, neighbours, 0.5) > epsilon
    with monkeypatch.context() as one:  # the sets are taken for one
        alone = functools.partial(lambda stacked, name, sets: stacked(name, 1), noise.stacked)
        one.setattr(noise, "stacked", alone)
        one.setattr(curator, "stacked", alone)
        assert bound(600, epsilon, delta, neighbours, 1 / math.sqrt(6)) > epsilon


# Memory


def coded(rows, columns, codes):
    x = np.random.default_rng(3).integers(0, codes, (rows, columns))
    names = [f"c{j}" for j in range(columns)]
    lines = [",".join(names), *(",".join(map(str, row)) for row in x.tolist())]
    Path("coded.csv").write_text("\n".join(lines) + "\n")
    Path("coded.json").write_text(json.dumps(dict.fromkeys(names, codes)))


@pytest.mark.parametrize(
    ("codes", "given", "sparse"),
    [
        (100, {"rows": "20000"}, False),
        (30, {"marginals": 3, "epsilon": math.inf, "rows": "300"}, False),
        (80, {"marginals": 3, "epsilon": math.inf, "rows": "300"}, True),
        (30, {"queries": "prefixes", "rows": "4000"}, False),
    ],
    ids=["noisy", "exact", "sparse", "prefixes"],
)
def test_memory_stays_below_what_is_stated(codes, given, sparse, here):
    coded(400, 5, codes)
    if given.get("queries"):
        schema = {f"c{j}": {"dtype": "int64", "min": 0, "max": codes} for j in range(5)}
        (here / "coded.json").write_text(json.dumps({"schema": schema}))
    values = {"data": "coded.csv", "schema": "coded.json", "candidates": 100_000} | given
    peaks = []
    for name in ("warm", "measured"):  # what the compiler takes is not the search's
        values |= {"out": f"{name}.csv", "ledger": name}
        prepared = study.prepare("gsd", dict(values), 0)
        (here / f"{name}.run").mkdir()
        (note,) = prepared.notes
        stated = float(re.match(r"memory: up to ([\d,]+) MB", note)[1].replace(",", "")) * 1e6
        tracemalloc.start()
        run_loop(prepared.method, InlineHost())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert prepared.method._round.table.sparse == sparse
        assert prepared.method.result()["memory"] <= stated
    assert 1e6 < peaks[1] < stated


def test_memory_is_told_first(here, capsys, monkeypatch):
    told = []
    monkeypatch.setattr(
        Curator, "measure", lambda *a: told.append(capsys.readouterr().err) or exit(3)
    )
    with contextlib.suppress(SystemExit):
        main(["run", "gsd", *DATA])
    assert len(told) == 1
    assert re.fullmatch(r"zoo: memory: up to \d MB, in 5 copies\n", told[0])


# zoo show


@pytest.mark.parametrize("epsilon", ["1", "inf"])
def test_show(epsilon, here, monkeypatch, capsys):
    given = [*DATA, *FEW, "--epsilon", epsilon]
    interrupted(capsys, monkeypatch, 6, *given, "--out", "cut.csv")
    code, out, err = called(capsys, "show", "cut.run", "--plot", "cut.png")
    assert (code, err) == (0, "")
    assert re.match(r"cut.run: not finished, last written \d s ago; 'zoo resume cut.run' ", out)
    assert re.search(r"problem +data \S+/people.csv, schema ", out)
    assert f"epsilon {epsilon}" in out
    assert "interrupted" in out
    assert re.search(r"step +candidates +best +round +accepted\n", out)
    shown = json.loads(called(capsys, "show", "cut.run", "--json")[1])
    assert (shown["finished"], shown["result"]) == (False, None)
    assert shown["history"][-1]["step"] == 6
    result = ran(capsys, "resume", "cut.run")
    code, out, err = called(capsys, "show", "cut.run", "--plot", "made.png")
    assert (code, err) == (0, "")
    assert out.startswith("cut.run: finished\n")
    assert f"300 rows in {here / 'cut.csv'}" in out
    shown = json.loads(called(capsys, "show", "cut.run", "--json")[1])
    assert shown["finished"] is True
    assert shown["result"] == result
    assert [row["step"] for row in shown["history"]][:4] == [1, 2, 3, 4]
    for name in ("cut.png", "made.png"):
        assert (here / name).read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_of_the_loss_over_candidates(here, capsys, monkeypatch):
    from matplotlib.axes import Axes

    gsd(capsys, "--out", "made.csv")
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, *a, **k: drawn.append((self, a)) or plot(self, *a, **k)
    )
    assert called(capsys, "show", "made.run", "--plot", "made.png")[0] == 0
    ((axes, (x, y)),) = drawn
    rows = RunFolder("made.run").history()
    np.testing.assert_array_equal(x, [row["candidates"] for row in rows])
    np.testing.assert_array_equal(y, [row["best"] for row in rows])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("candidates", "loss")
