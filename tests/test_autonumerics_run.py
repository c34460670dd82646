"""Searches for programs, as users meet them: bits, the command, code that runs, bad input."""

import ctypes
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import called, ran, refused, start, until
from test_ray import at_step, kill

from evolve.autonumerics import study
from evolve.autonumerics.discover import discover, resume
from evolve.autonumerics.emit import Listing, emitted
from evolve.autonumerics.interpreter import evaluate
from evolve.autonumerics.programs import parse
from zoo.config import options_of
from zoo.errors import InputError
from zoo.runtime import loop
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import launch, taken_up

#: Five supersteps of three islands.
FEW = ["--max-ops", "6", "--islands", "3", "--batch", "60", "--candidates", "900", "--seed", "4"]

USERS = """
import mpmath

def cube(x):
    return x**3 + 1

def hole(x):
    return 1/x

def infinite(x):
    return mpmath.inf

def word(x):
    return "low"

def raises(x):
    raise KeyError("no more")

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(USERS)
    return tmp_path


def search(capsys, *arguments):
    return ran(capsys, "run", "autonumerics", *arguments)


def told(result):
    """A result without what may differ."""
    return {k: v for k, v in result.items() if k not in ("seconds", "workers")}


def outcome(folder):
    return told(RunFolder(folder).result()), RunFolder(folder).history()


def again(folder, to):
    """Folder of the same run, of which nothing has been done yet."""
    to.mkdir()
    shutil.copy(folder / "config.json", to)
    (to / "history.jsonl").write_text("")
    return to


def on(folder, **options):
    """Result of going on with a run."""
    kept = RunFolder(folder)
    snapshot = taken_up(kept)
    prepared = study.reopen(kept.config(), kept, None)
    return launch(prepared, folder=kept, snapshot=snapshot, **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("found") / "run"
    arguments = ["--target", "exp2", *FEW, "--out", str(folder), "--json", "--quiet"]
    command = [sys.executable, "-m", "cli.main", "run", "autonumerics", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    return folder


def test_the_same_bits_on_threads(found, here):
    for threads in (1, 3):
        on(again(found, here / str(threads)), threads=threads)
        assert outcome(here / str(threads)) == outcome(found)


def test_the_same_bits_on_workers(found, here, crews):
    for count in (1, 3):
        crew = crews[count]
        on(again(found, here / str(count)), crew=crew, placement=crew.placement)
        assert outcome(here / str(count)) == outcome(found)


def test_a_worker_killed_in_the_middle(found, here, crews, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    callback = at_step(3, lambda: kill(crews[2], 1))
    crew = crews[2]
    again(found, here / "killed")
    result = on(here / "killed", crew=crew, placement=crew.placement, callback=callback)
    assert callback.done == [3]
    assert result.workers["lost"] == 1
    assert result.workers["replayed"] >= 1  # islands remember what they have tried
    assert outcome(here / "killed") == outcome(found)


@pytest.mark.parametrize(
    ("end", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGKILL, -9)],
)
def test_killed_and_resumed(end, code, here, capsys):
    small = ["--target", "exp2", "--max-ops", "6", "--islands", "3", "--batch", "40", "--seed", "4"]
    small += ["--candidates", "1200", "--threads", "1"]
    process = start("run", "autonumerics", *small, "--snapshot-every", "1e-6", "--out", "cut")
    until(lambda: steps("cut") >= 2)
    process.send_signal(end)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert 2 <= steps("cut") < 10
    assert RunFolder("cut").result() is None
    if end == signal.SIGINT:
        assert re.search(r"zoo: interrupted at step \d+; 'zoo resume cut' continues it", err)
        out = called(capsys, "show", "cut")[1]
        assert re.search(r"so far +1: \d\.\d+  2: 1\.5", out)
        assert "--ops is for finished runs" in refused(capsys, "show", "cut", "--plot", "a.png",
                                                       "--ops", "2")  # fmt: skip
    assert ran(capsys, "resume", "cut", "--threads", "2")["fits"] == 1200
    search(capsys, *small, "--out", "whole")
    assert outcome("cut") == outcome("whole")


def steps(folder):
    """Supersteps of the last snapshot."""
    snapshot = RunFolder(folder).snapshot() if (Path(folder) / "snapshot.npz").exists() else None
    return 0 if snapshot is None else json.loads(snapshot.method["book"].item())["step"]


def test_candidates_are_dealt_out(capsys):
    few = ["--target", "exp2", "--max-ops", "4", "--islands", "3", "--batch", "40"]
    assert search(capsys, *few, "--candidates", "100")["fits"] == 100
    assert search(capsys, *few, "--candidates", "250")["fits"] == 250
    assert search(capsys, *few, "--candidates", "2")["fits"] == 2


def test_a_front(found, capsys):
    result = RunFolder(found).result()
    front = result["front"]
    ops = [row["ops"] for row in front]
    assert ops == sorted(set(ops))
    assert set(ops) >= {1, 2, 3}
    errors = [row["error"] for row in front]
    assert errors == sorted(errors, reverse=True)
    by_ops = {row["ops"]: row for row in front}
    assert by_ops[2]["digits"] == pytest.approx(1.525, abs=0.002)
    assert by_ops[3]["digits"] == pytest.approx(3.062, abs=0.002)
    x = np.linspace(0, 1, 4001)
    for row in front:
        program = parse(row["program"], row["constants"])
        assert program.cost == row["ops"]
        worst = np.abs(evaluate(program, x) / np.exp2(x) - 1).max()
        assert worst == pytest.approx(row["error"], rel=1e-3)
        assert row["error"] <= row["certified_error"] <= row["error"] * 1.02
        assert row["float64_error"] == pytest.approx(row["error"], rel=1e-6)
    assert result["target"] == "exp2"
    assert result["fits"] == 900
    assert result["candidates"] > 900


def test_for_people(found, capsys):
    code, out, err = called(capsys, "show", str(found))
    assert (code, err) == (0, "")
    assert "exp2 on [0, 1], relative error: autonumerics, seed 4" in out
    assert re.search(r"\n  3 operations +3\.06 digits, proven 8\.68\de-04: .*x", out)
    told = json.loads(called(capsys, "show", str(found), "--json")[1])
    assert told["result"]["front"][0]["ops"] == 1


def test_python_code_runs(found, capsys):
    front = RunFolder(found).result()["front"]
    x = np.linspace(0, 1, 101)
    for row in front:
        expected = evaluate(parse(row["program"], row["constants"]), x)
        for language in ("python", "numba"):
            arguments = ["show", str(found), "--emit", language, "--ops", str(row["ops"])]
            code, out, err = called(capsys, *arguments)
            assert (code, err) == (0, "")
            names = {}
            exec(compile(out, language, "exec"), names)
            function = names[f"exp2_{row['ops']}"]
            assert function.__doc__.startswith(f"exp2 on [0, 1]: {row['ops']} operation")
            assert f"{row['certified_error']:.3e}, proven" in function.__doc__
            np.testing.assert_array_equal(function(x), expected)


EMITTED = [
    ("fma x c1 c2; sqrt t1; sub c3 t2; fma t3 t3 x; div t4 t1", [1.5, -0.25, 2.0], False),
    ("mul x x; mul t1 t1; add t2 c1; div c2 t2; sub t3 t1", [-1.5e-7, 3.25e8], False),
    ("fma x c1 c2; div c3 t1; sub t2 x; sqrt t3; mul t4 t2", [0.1, 1.7, 9.3], True),
    ("sub c1 x; sub t1 c2; div t2 t1; sub x t3; mul t4 t3", [0.1, 0.7], True),
    ("add x c1; div x t1", [-0.5], False),  # infinite at 0.5
]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize(("text", "constants", "single"), EMITTED)
def test_code_of_every_operation_runs(text, constants, single, here):
    dtype = np.float32 if single else np.float64
    given = parse(text, constants)
    x = np.linspace(0.25, 0.9, 131).astype(dtype)
    with np.errstate(all="ignore"):
        expected = evaluate(given, x, dtype)
    listing = Listing(given, "f", ("f(x).", "More."), single)
    (here / "code.c").write_text(emitted(listing, "c"))
    command = ["cc", "-std=c99", "-Wall", "-Werror", "-O2", "-ffp-contract=off"]
    subprocess.run([*command, "-shared", "-fPIC", "-o", "code.so", "code.c", "-lm"], check=True)
    function = ctypes.CDLL(str(here / "code.so")).f
    number = ctypes.c_float if single else ctypes.c_double
    function.restype, function.argtypes = number, [number]
    np.testing.assert_array_equal(np.array([function(v) for v in x], dtype), expected)
    if "fma" in text:
        return
    for language in ("python", "numba"):
        names = {}
        exec(compile(emitted(listing, language), language, "exec"), names)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(names["f"](x), expected)


def test_c_code_runs(found, here, capsys):
    row = RunFolder(found).result()["front"][-1]
    _, out, _ = called(capsys, "show", str(found), "--emit", "c")
    assert f"double exp2_{row['ops']}(double x)" in out
    assert "-ffp-contract=off" in out
    x = np.linspace(0, 1, 11)
    given = parse(row["program"], row["constants"])
    names = {}
    body = emitted(Listing(given, "f", ("f.",)), "python")
    exec(body, names)
    np.testing.assert_array_equal(names["f"](x), evaluate(given, x))


def test_fused_products_are_for_c(here, capsys):
    few = ["--target", "exp2", "--operations", "fma", "--max-ops", "2", "--islands", "1"]
    search(capsys, *few, "--batch", "20", "--candidates", "20", "--out", "run")
    assert "fma(" in called(capsys, "show", "run", "--emit", "c")[1]
    assert "python has no fma of arrays" in refused(capsys, "show", "run", "--emit", "python")


@pytest.mark.parametrize(
    ("text", "constants", "formulas"),
    [
        ("add x c1; div c2 t1; sub t2 c3", [1.5, -2e-7, 0.25],
         [r"\frac{-2 \cdot 10^{-7}}{x + 1.5} - 0.25"]),
        ("div c1 x; add x t1; div c2 t2; add t3 t2; mul t4 t4; mul t5 t5", [3.0, 2.5],
         [r"t_{1} = \frac{3.0}{x} + x, \quad", r"\left(\frac{2.5}{t_{1}} + t_{1}\right)^{4}"]),
        ("mul x x; fma t1 c1 x; sqrt t2; mul t3 c2", [-1.25, 4.0],
         [r"\sqrt{x^{2} \, \left(-1.25\right) + x} \, 4.0"]),
        ("sub c1 x; sub c2 t1; div t2 t1", [1.0, 2.0],
         [r"t_{1} = 1.0 - x, \quad", r"\frac{2.0 - t_{1}}{t_{1}}"]),
    ],
)  # fmt: skip
def test_latex_of_programs(text, constants, formulas):
    out = emitted(Listing(parse(text, constants), "f", ("f.",)), "latex")
    assert out.splitlines() == ["% f.", *formulas]


def test_latex(found, capsys):
    row = RunFolder(found).result()["front"][2]
    _, out, _ = called(capsys, "show", str(found), "--emit", "latex", "--ops", str(row["ops"]))
    assert "\\frac{" in out
    for constant in row["constants"]:
        assert str(abs(constant)) in out
    assert out.count("{") == out.count("}")


def test_targets_of_ones_own(here, capsys):
    few = ["--islands", "1", "--batch", "50", "--candidates", "100", "--max-ops", "4"]
    result = search(capsys, "--target", "mine.py:cube", "--domain", "0,2", *few, "--out", "run")
    assert result["target"] == "mine.py:cube"
    assert result["domain"] == [0.0, 2.0]
    assert all(row["certified_error"] is None for row in result["front"])
    code, out, err = called(capsys, "run", "autonumerics", "--target", "mine.py:cube", *few,
                            "--domain", "0,2")  # fmt: skip
    assert code == 0
    assert "mine.py:cube is known by values alone: no certificates" in err
    assert "not proven" in out
    assert "def cube_" in called(capsys, "show", "run", "--emit", "python")[1]
    (here / "mine.py").write_text(USERS.replace("+ 1", "+ 2"))
    (here / "run" / "result.json").unlink()
    process = start("resume", "run")  # which imports the file anew
    assert "is not the function that" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


def test_other_targets(here, capsys):
    few = ["--islands", "1", "--batch", "50", "--candidates", "100", "--max-ops", "3"]
    for given in (
        "--target log2",
        "--target log2 --error relative --domain 1.5,2",
        "--target bessel_i_half --operations add,sub,mul,div,sqrt",
        "--target erf --operations fma,div",
    ):
        result = search(capsys, *given.split(), *few)
        assert result["front"][-1]["digits"] > 0.5
        for row in result["front"]:
            assert row["certified_error"] is not None or "sqrt" in row["expression"]


def test_single_precision(here, capsys):
    few = ["--dtype", "float32", "--domain", "0.99,1", "--max-ops", "4", "--islands", "1"]
    few += ["--batch", "100", "--candidates", "300", "--out", "run"]
    result = search(capsys, *few)
    row = result["front"][-1]
    assert row["error"] < 20.0
    assert row["numbers"] == round(0.01 * 2**24) + 1
    out = called(capsys, "show", "run")[1]
    assert "exp2 on [0.99, 1], float32: autonumerics" in out
    assert f"{row['error']:.4g} ULP, all {row['numbers']:,} tried" in out
    x = np.linspace(0.99, 1, 1001).astype(np.float32)
    names = {}
    exec(called(capsys, "show", "run", "--emit", "python", "--ops", str(row["ops"]))[1], names)
    expected = evaluate(parse(row["program"], row["constants"]), x, np.float32)
    np.testing.assert_array_equal(names[f"exp2_{row['ops']}"](x), expected)


def test_units_in_the_last_place(here, capsys):
    few = ["--target", "exp", "--domain", "0,2", "--error", "ulp", "--max-ops", "4"]
    few += ["--islands", "1", "--batch", "200", "--candidates", "600", "--out", "run"]
    row = search(capsys, *few)["front"][-1]
    x = np.linspace(0, 2, 4001)
    values = evaluate(parse(row["program"], row["constants"]), x)
    worst = (np.abs(values - np.exp(x)) / np.spacing(np.exp(x))).max()
    assert worst == pytest.approx(row["error"], rel=2e-3)
    assert row["digits"] == pytest.approx(-np.log10(row["error"] * 2.0**-52))
    assert row["error"] <= row["certified_error"] <= row["error"] * 1.02
    out = called(capsys, "show", "run")[1]
    assert "exp on [0, 2], float64: autonumerics" in out
    assert f"proven {row['certified_error']:.3e} ULP" in out
    assert "ULP, proven" in called(capsys, "show", "run", "--emit", "c")[1]


def test_programs_without_errors(here, capsys):
    (here / "line.py").write_text("def line(x):\n    return 2*x + 1\n")
    few = ["--target", "line.py:line", "--domain", "0.5,1", "--islands", "1", "--batch", "50"]
    few += ["--candidates", "400", "--max-ops", "3", "--slack", "400"]
    for dtype in ("float64", "float32"):
        result = search(capsys, *few, "--dtype", dtype, "--out", dtype)
        row = result["front"][-1]
        assert row["error"] < 1e-20 if dtype == "float64" else row["error"] < 0.51  # rounded once
        assert row["digits"] > 20 or dtype == "float32"
        assert "digits" in called(capsys, "show", dtype)[1] or dtype == "float32"
        assert called(capsys, "show", dtype, "--plot", f"{dtype}.png")[0] == 0
    (here / "line.py").write_text("def line(x):\n    return 3*x + 1\n")
    sys.modules.pop("line", None)
    process = start("show", "float64", "--plot", "other.png")
    assert "is not the function that the run was started with" in process.communicate(timeout=60)[1]


def test_a_picture(found, here, capsys):
    code, out, err = called(capsys, "show", str(found), "--plot", "front.png", "--ops", "3")
    assert (code, err) == (0, "")
    assert "3 operations" in out  # of the table
    assert (here / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "no program of 77" in refused(
        capsys, "show", str(found), "--plot", "a.png", "--ops", "77"
    )
    folder = again(found, here / "unfinished")
    assert "no history to draw" in refused(capsys, "show", str(folder), "--plot", "a.png")
    assert not (here / "a.png").exists()


def cube(x):
    return x**3 + 1


def test_from_python(here, capsys):
    few = {"islands": 1, "batch": 50, "candidates": 100, "max_ops": 4}
    told = []
    result = discover(cube, domain=(0, 2), **few, seed=3, folder="run", callback=told.append)
    assert result.success
    assert told[-1].done == 100
    assert result.target == "cube"
    assert "def cube_3(x)" in study.code(result, "python", 3)
    assert resume("run").front == result.front
    for name in ("result.json", "snapshot.npz"):
        (here / "run" / name).unlink(missing_ok=True)
    assert "discover.resume continues it" in refused(capsys, "resume", "run")
    with pytest.raises(InputError, match="is not the function that"):
        resume("run", lambda x: x**3 + 2)
    with pytest.raises(InputError, match="keeps its target, cube: give none"):
        resume("run", 3)
    assert resume("run", cube, threads=1).front == result.front
    for given, options, words in (
        (cube, {}, "cube needs a domain: domain = "),
        (3, {}, "target must be a name or a function, got int"),
        ("exp2", {"max_op": 3}, "unknown parameter 'max_op'; known are target, domain"),
        ("exp2", {"domain": (1, 0)}, "A < B"),
        ("exp2", {"domain": 5}, r"domain must be two numbers \(A, B\), got 5"),
        ("exp2", {"domain": "0,1"}, "domain must be two numbers"),
    ):
        with pytest.raises(InputError, match=words):
            discover(given, **options)
    named = discover("exp2", **few, seed=3)
    arguments = [f"--{k.replace('_', '-')}={v}" for k, v in few.items()]
    assert search(capsys, *arguments, "--seed", "3")["front"] == named.front


def test_time_is_kept(here, capsys):
    few = ["--max-ops", "4", "--islands", "1", "--batch", "20"]
    result = search(capsys, "--minutes", "0.01", *few)
    assert result["status"] == "seconds"
    assert result["seconds"] < 30


def test_every_option_is_in_the_help(capsys):
    code, out, _ = called(capsys, "run", "autonumerics", "--help")
    assert code == 0
    for name in options_of(study.TargetConfig) | options_of(study.SearchConfig):
        assert f"--{name.replace('_', '-')}" in out


BAD = [
    ("--target exp3", "unknown target 'exp3': known are exp2, "),
    ("--target none.py:f --domain 0,1", "none.py"),
    ("--target mine.py:none --domain 0,1", "has no function 'none'"),
    ("--target mine.py:cube", "mine.py:cube needs a domain: --domain A,B"),
    ("--target mine.py:number --domain 0,1", "is not a function of a number"),
    ("--target mine.py:hole --domain 0,1", "has no value in its domain: ZeroDivisionError"),
    ("--target mine.py:infinite --domain 0,1", "is not finite in all of its domain"),
    ("--target mine.py:word --domain 0,1", "has no value in its domain"),
    ("--target mine.py:raises --domain 0,1", "KeyError: 'no more'"),
    ("--target log2 --domain=-1,1", "domain"),
    ("--domain 1,0", "domain must be two finite numbers A,B with A < B, got '1,0'"),
    ("--domain 1", "domain must be two finite numbers"),
    ("--domain 0,inf", "domain must be two finite numbers"),
    ("--domain a,b", "domain must be two finite numbers"),
    ("--error ulps", "error must be relative | absolute | ulp, got 'ulps'"),
    ("--domain 90,100 --target exp --dtype float32", "exp is not finite in float32 in all of"),
    ("--domain 0,1e39 --dtype float32", "not finite in float32"),
    ("--domain=0.1,0.1000000001 --dtype float32", "there is no float32 in the domain"),
    ("--error relative --dtype float32", "float32 goes with --error ulp, got relative"),
    ("--device cuda", "device cuda goes with dtype float32, got float64"),
    ("--device gpu --dtype float32", "device must be cpu | cuda, got 'gpu'"),
    ("--max-ops 0", "max_ops must be >= 1 and <= 24, got 0"),
    ("--max-ops 25", "max_ops must be >= 1 and <= 24, got 25"),
    ("--operations add,pow", "operations must be some of add, sub, mul, div, fma, sqrt"),
    ("--operations add,add", "operations must be some of"),
    ("--minutes 0", "minutes must be > 0"),
    ("--islands 0", "islands must be >= 1"),
    ("--batch x", "--batch"),
    ("--max-op 3", "did you mean"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[given for given, _ in BAD])
def test_bad_input(given, words, here, capsys):
    assert words in refused(capsys, "run", "autonumerics", *given.split(), "--out", "made")
    assert not (here / "made").exists()


def test_bad_questions(found, here, capsys):
    for given, words in (
        ("--emit java", "--emit must be c | python | numba | latex, got 'java'"),
        ("--emit c --ops 99", "no program of 99 operations is on the front; there are 1, 2"),
        ("--ops 3", "--ops goes with --emit or --plot"),
        ("--emit c --json", "--emit goes without --plot and --json"),
        ("--emit c --plot a.png", "--emit goes without --plot and --json"),
    ):
        assert words in refused(capsys, "show", str(found), *given.split())
    ran(capsys, "run", "cbo", "--objective", "sphere", "--steps", "2", "--out", "other")
    assert "are for runs of autonumerics" in refused(capsys, "show", "other", "--emit", "c")
    assert "evolves programs" in refused(capsys, "resume", str(again(found, here / "run")),
                                         "--objective", "ackley")  # fmt: skip
