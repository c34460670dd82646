"""CMA-ES: the same bits however it is run, pycma's trajectory, the schedules of restarts."""

import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import cma
import numpy as np
import pytest

import zoo
from cli.main import main
from zoo import streams
from zoo.cma.config import CMAConfig
from zoo.cma.descent import Descent
from zoo.cma.method import CMA, NORMALS, UNIFORMS
from zoo.cma.restarts import Restart, next_restart
from zoo.config import build
from zoo.errors import Interrupted
from zoo.objectives.registry import get
from zoo.optimize import describe, launch, split_options
from zoo.problem import Problem, as_objective
from zoo.runtime.budget import Budget
from zoo.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.filterwarnings("error")

BOUNDS = np.array([(-5.12, 5.12)] * 5)
FUNCTION = get("rastrigin").function()
VARIANTS = {
    "none": {"restarts": "none"},
    "ipop": {"restarts": "ipop", "tolfun": 1e-2},
    "bipop": {"restarts": "bipop", "tolfun": 1e-2},
    "diagonal": {"diagonal": True, "tolfun": 1e-2},
    "penalty": {"boundary": "penalty", "tolfun": 1e-2},
    "plain": {"active": False, "elitist": True, "popsize": 5, "tolfun": 1e-2},
}
COMPARED = ("x", "fun", "nfev", "nit", "mean", "sigma", "stds", "popsize", "stop", "restarts")


def in_python(x):
    return float(FUNCTION(x))


def sphere(x):
    return float(((x - 0.3) ** 2).sum())


def rastrigin(x):
    return (x**2 - 10.0 * np.cos(2.0 * np.pi * x) + 10.0).sum(axis=-1)


def assert_same(a, b):
    for name in COMPARED:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def generator(seed, restart, purpose):
    key = np.array([seed, restart], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))


# The same bits


@pytest.mark.parametrize("variant", VARIANTS)
def test_hosts_and_ways_of_evaluating(variant, tmp_path):
    options = {"method": "cma", "steps": 250, "seed": 7, **VARIANTS[variant]}
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    assert len(inline.restarts) > 1 or variant == "none"
    assert_same(inline, zoo.minimize(FUNCTION, BOUNDS, threads=2, **options))
    assert_same(inline, zoo.minimize(in_python, BOUNDS, **options))
    optimizer = zoo.Optimizer(BOUNDS, **options)
    while not optimizer.finished:
        x = optimizer.ask()
        optimizer.tell(x, [FUNCTION(point) for point in x])
    assert_same(inline, optimizer.result())
    assert_same(inline, interrupted_and_resumed(options, tmp_path))


def interrupted_and_resumed(options, path):
    """Stop within and between generations, and go on from the run folder."""
    options = {name: value for name, value in options.items() if name not in ("method", "seed")}
    config, budget = split_options("cma", options)
    folder = RunFolder(path / "run")
    folder.create(describe("cma", {}, config, budget, 7))
    calls, times, snapshot = itertools.count(1), 0, None
    while True:
        problem = Problem(as_objective(in_python), *BOUNDS.T)
        try:
            result = launch(
                problem,
                "cma",
                config,
                budget,
                7,
                folder=folder,
                snapshot=snapshot,
                cancelled=lambda: next(calls) in (10, 200, 1420),
            )
            assert times == 3
            return result
        except Interrupted:
            times += 1
            snapshot = folder.snapshot()
            folder.rewind(snapshot.rows if snapshot else 0)


def test_an_interrupted_run_has_the_whole_history(tmp_path):
    options = {"method": "cma", "steps": 250, "seed": 7, **VARIANTS["bipop"]}
    zoo.minimize(in_python, BOUNDS, out=tmp_path / "whole", **options)
    interrupted_and_resumed(options, tmp_path)
    whole = RunFolder(tmp_path / "whole").history()
    assert len(whole) > 50
    assert whole == RunFolder(tmp_path / "run").history()


@pytest.mark.parametrize(("d", "options"), [(3, {}), (3, {"boundary": "penalty"}), (310, {})])
def test_a_state_is_taken_up_to_the_bit(d, options):
    """Also where pycma changes how it adapts the step size (d >= 300)."""
    problem = Problem(as_objective(sphere), np.full(d, -1.0), np.full(d, 2.0))

    def method():
        return CMA(problem, build(CMAConfig, options), Budget(steps=12), 3)

    def advance(run, generations):
        for _ in range(generations):
            values = np.array([sphere(x) if x[0] < 1 else np.nan for x in run.message(1)])
            run.merge([values])

    whole, part = method(), method()
    advance(whole, 12)
    advance(part, 5)
    part.message(1)  # candidates that are asked for and not told are asked for again
    state = part.state()
    advance(part, 2)  # what was taken is a copy
    resumed = method()
    resumed.restore(state)
    advance(resumed, 7)
    assert_same(whole.result(), resumed.result())


def test_nothing_but_the_seed_matters(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = {"method": "cma", "steps": 120, "seed": 4, "popsize": 5, "tolfun": 1e-2}
    results = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        results.append(zoo.minimize(in_python, BOUNDS, **options))
        after = np.random.get_state()  # noqa: NPY002
        np.testing.assert_array_equal(before[1], after[1])
        assert before[2:] == after[2:]
    assert_same(*results)
    other = zoo.minimize(in_python, BOUNDS, **options | {"seed": 5})
    assert other.fun != results[0].fun
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_streams_of_their_own():
    purposes = {streams.INITIAL, streams.NOISE, streams.MEMORY_NOISE, streams.KICK, streams.BATCH}
    assert len(purposes | {NORMALS, UNIFORMS}) == 7


# pycma's algorithm


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_trajectory_is_that_of_pycma(boundary, diagonal):
    d, seed, seen = 4, 11, []

    def f(x):  # its minimum is outside of the box
        seen.append(x.copy())
        return float(((x - [-0.1, 0.3, 0.6, 0.4]) ** 2 * np.arange(1, d + 1)).sum())

    options = {"restarts": "none", "boundary": boundary, "diagonal": diagonal, "seed": seed}
    result = zoo.minimize(f, [(0, 1)] * d, method="cma", steps=60, **options)
    points = seen.copy()
    seen.clear()
    normals = generator(seed, 0, NORMALS)
    plain = cma.CMAEvolutionStrategy(
        generator(seed, 0, UNIFORMS).random(d + 2)[2:],
        0.2,
        {
            "bounds": [[0.0] * d, [1.0] * d],
            "BoundaryHandler": cma.BoundPenalty if boundary == "penalty" else cma.BoundTransform,
            "randn": lambda *shape: normals.standard_normal(shape),
            "seed": np.nan,
            "verbose": -9,
            "signals_filename": "",
            "CMA_diagonal": diagonal,
        },
    )
    while not plain.stop() and plain.countiter < 60:
        candidates = plain.ask()
        plain.tell(candidates, [f(x) for x in candidates])
    assert len(points) > 300
    np.testing.assert_array_equal(points, seen)
    assert result.sigma == plain.sigma
    np.testing.assert_array_equal(result.mean, plain.result.xfavorite)


def test_the_scale_of_the_box_does_not_matter():
    """Powers of two scale without rounding."""
    widths = 2.0 ** np.array([-40, 0, 30])
    options = {"method": "cma", "restarts": "none", "seed": 2}
    one = zoo.minimize(sphere, [(0, 1)] * 3, **options)
    scaled = zoo.minimize(lambda x: sphere(x / widths), [(0, w) for w in widths], **options)
    assert one.fun == scaled.fun < 1e-12
    np.testing.assert_array_equal(one.x * widths, scaled.x)
    np.testing.assert_array_equal(one.stds * widths, scaled.stds)


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
def test_badly_scaled_and_tiny_boxes(boundary):
    for widths in (np.array([1e-12, 1e9, 1.0]), np.full(2, 1e-15)):
        bounds = [(3.0 * w, 4.0 * w) for w in widths]
        result = zoo.minimize(
            lambda x, w=widths: float(((x / w - 3.7) ** 2).sum()),
            bounds,
            method="cma",
            restarts="none",
            boundary=boundary,
        )
        assert result.fun < 1e-9, widths


def test_standard_deviations_are_those_of_the_samples():
    """Also where pycma has moved an ill-conditioned map out of the covariance matrix."""
    d = 4
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0]
    problem = Problem(as_objective(sphere), np.zeros(d), np.ones(d))
    run = Restart("first", 10, 0.2)
    start = np.full(d, 0.45)
    descent = Descent(problem, build(CMAConfig, {}), run, start, generator(1, 0, NORMALS))
    scales = np.logspace(0, 14, d)
    for _ in range(400):
        x = descent.ask()
        descent.tell(((x - 0.5) @ rotation) ** 2 @ scales)
    assert not descent.strategy.gp.isidentity
    samples = np.array(descent.strategy.ask(5000))
    np.testing.assert_allclose(descent.stds, samples.std(axis=0), rtol=0.1)


# Restarts


def test_ipop_doubles_the_population():
    result = zoo.minimize(
        rastrigin, BOUNDS, method="cma", restarts="ipop", max_restarts=4, batched=True, seed=3
    )
    assert [run["popsize"] for run in result.restarts] == [8, 16, 32, 64, 128]
    assert [run["regime"] for run in result.restarts] == ["first"] + ["large"] * 4
    assert result.status == "converged"
    assert result.nfev == sum(run["popsize"] * run["iterations"] for run in result.restarts)
    assert result.fun == min(run["fun"] for run in result.restarts)
    assert all(run["stop"] for run in result.restarts)


def test_bipop_keeps_the_schedule():
    """Hansen (2009), step by step."""
    seed = 5
    result = zoo.minimize(
        rastrigin, BOUNDS, method="cma", max_restarts=4, batched=True, seed=seed, sigma0=0.25
    )
    default, latest = result.restarts[0]["popsize"], None
    budgets = {"small": result.restarts[0]["evaluations"], "large": 0}
    doublings = 0
    for number, run in enumerate(result.restarts[1:], start=1):
        u, v = generator(seed, number, UNIFORMS).random(2)
        if budgets["large"] <= budgets["small"]:
            doublings += 1
            assert (run["regime"], run["popsize"]) == ("large", default * 2**doublings)
            assert run["sigma0"] == 0.25
            latest = run
        else:
            ratio = 0.5 * latest["popsize"] / default
            assert run["regime"] == "small"
            assert run["popsize"] == int(default * ratio ** (u**2))
            assert run["sigma0"] == pytest.approx(0.25 * 10 ** (-2 * v))
            over = run["evaluations"] - latest["evaluations"] // 2
            assert over <= run["popsize"]
        budgets[run["regime"]] += run["evaluations"]
    assert doublings == 4
    assert budgets["small"] >= budgets["large"]  # then there would be a fifth
    sizes = {run["popsize"] for run in result.restarts if run["regime"] == "small"}
    assert len(sizes) > 1


def test_small_populations_stay_large_enough():
    done = [Restart("first", 4, 0.2, evaluations=8), Restart("large", 4, 0.2, evaluations=100)]
    config = build(CMAConfig, {"popsize_factor": 1.0})
    run = next_restart(config, done, lambda count: np.ones(count))
    assert run == Restart("small", 4, 0.002, maxfevals=50)


def test_restarts_begin_in_different_places():
    starts = []
    for seed in range(3):
        options = {"method": "cma", "sigma0": 1e-9, "maxiter": 1, "steps": 4, "seed": seed}
        optimizer = zoo.Optimizer(BOUNDS, restarts="ipop", **options)
        while not optimizer.finished:
            x = optimizer.ask()
            starts.append(x.mean(axis=0))
            optimizer.tell(x, rastrigin(x))
    starts = np.array(starts)
    gaps = np.linalg.norm(starts[:, None] - starts, axis=2)[np.triu_indices(12, 1)]
    assert gaps.min() > 0.1
    assert np.all(starts.min(axis=0) < -2)
    assert np.all(starts.max(axis=0) > 2)


def test_x0_is_the_first_mean_only():
    x0 = np.array([5.12, -5.12, 1.0, 0.0, -3.0])
    asked = []
    options = {"sigma0": 1e-9, "maxiter": 1, "steps": 2, "restarts": "ipop"}
    optimizer = zoo.Optimizer(BOUNDS, "cma", x0=x0, **options)
    while not optimizer.finished:
        asked.append(optimizer.ask())
        optimizer.tell(asked[-1], rastrigin(asked[-1]))
    np.testing.assert_allclose(asked[0], np.tile(x0, (8, 1)), atol=1e-6)
    assert np.abs(asked[1] - x0).max() > 1


# What it solves


def ellipsoid(x):
    d = x.shape[-1]
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((d, d)))[0]
    return ((x - 1.0) @ rotation) ** 2 @ np.logspace(0, 6, d)


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(axis=-1)


@pytest.mark.parametrize(
    ("function", "d", "options"),
    [
        (lambda x: (x**2).sum(axis=-1), 10, {"restarts": "none"}),
        (lambda x: (x**2).sum(axis=-1), 10, {"restarts": "none", "diagonal": True}),
        (ellipsoid, 10, {"restarts": "none"}),
        (rosenbrock, 10, {"boundary": "penalty"}),
        (rosenbrock, 10, {}),
        (rastrigin, 5, {"restarts": "ipop"}),
        (rastrigin, 5, {"restarts": "bipop"}),
    ],
)
def test_it_solves(function, d, options):
    result = zoo.minimize(
        function, [(-5, 5)] * d, "cma", batched=True, target=1e-8, seed=2, **options
    )
    assert (result.status, result.success) == ("target", True)
    assert result.fun <= 1e-8
    assert float(function(result.x)) == pytest.approx(result.fun, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("boundary", ["transform", "penalty"])
def test_one_dimension(boundary, diagonal):
    for seed in range(5):
        options = {"boundary": boundary, "diagonal": diagonal, "seed": seed, "target": 1e-8}
        for lowest in (3.0, 5.0):  # within the box, and at its end
            result = zoo.minimize(
                lambda x, lowest=lowest: (x[0] - lowest) ** 2, [(-5, 5)], "cma", **options
            )
            assert result.status == "target"


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
def test_no_point_is_outside_of_the_box(boundary):
    lower, upper = np.array([-3.0, 0.1, 1e6]), np.array([-1.0, 0.3, 1e6 + 1e-3])

    def f(x):  # lowest in a corner
        assert np.all((lower <= x) & (x <= upper))
        return float(((x - lower) / (upper - lower)).sum())

    bounds = np.stack([lower, upper], axis=1)
    result = zoo.minimize(f, bounds, "cma", boundary=boundary, sigma0=0.33, steps=200)
    assert result.fun < 1e-3
    assert np.all((lower <= result.mean) & (result.mean <= upper))


# Values that are none


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(bad, boundary):
    count = 0

    def f(x):
        nonlocal count
        if x[0] < 0.5 or x.sum() > 4:
            count += 1
            return bad
        return float(x @ x)

    result = zoo.minimize(f, BOUNDS, "cma", boundary=boundary, seed=1, target=0.25 + 1e-8)
    assert result.status == "target"
    assert result.nonfinite == count > 0
    assert result.x[0] >= 0.5


def test_bad_values_count_as_the_worst_of_the_run():
    problem = Problem(as_objective(sphere), np.zeros(2), np.ones(2))

    def means(substitute):
        descent = Descent(
            problem,
            build(CMAConfig, {}),
            Restart("first", 6, 0.2),
            np.full(2, 0.5),
            generator(1, 0, NORMALS),
        )
        for step in range(8):
            values = descent.ask() @ [1.0, 2.0]
            values[step % 6] = 9.0 if step == 0 else substitute
            descent.tell(values)
        return descent.mean

    np.testing.assert_array_equal(means(9.0), means(np.nan))
    np.testing.assert_array_equal(means(9.0), means(-np.inf))


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
def test_never_finite(boundary):
    with pytest.raises(zoo.ObjectiveError, match=r"never finite: \d+ evaluations"):
        zoo.minimize(lambda x: math.nan, BOUNDS, "cma", boundary=boundary, steps=30)


@pytest.mark.parametrize("boundary", ["transform", "penalty"])
def test_extreme_values(boundary):
    options = {"boundary": boundary, "steps": 60}
    flat = zoo.minimize(lambda x: 7.0, BOUNDS, "cma", **options)
    assert (flat.fun, flat.nit) == (7.0, 60)
    steep = zoo.minimize(lambda x: float(x @ x) * 1e306, BOUNDS, "cma", **options)
    assert math.isfinite(steep.fun)
    huge = [(-1e308, 1e308)] * 2
    result = zoo.minimize(
        lambda x: float(np.abs(x / 1e308).sum()), huge, "cma", x0=[1e307, -1e308], **options
    )
    assert result.fun < 1e-3
    assert np.all(np.isfinite(result.stds))


def test_failures_are_counted_through_a_resume():
    calls = itertools.count(1)

    def f(x):
        if next(calls) % 5 == 0:
            raise OSError("busy")
        return sphere(x)

    problem = Problem(as_objective(f, on_error="penalize"), *BOUNDS.T)
    method = CMA(problem, CMAConfig(), Budget(steps=9), 0)
    shard = method.shard(0)
    method.merge([shard.step(method.message(1))])
    state = method.state()
    method.merge([shard.step(method.message(1))])
    method.restore(state)
    assert dict(problem.objective.failures) == {"OSError": 1}


# Ends


def test_budgets_are_exact():
    steps = zoo.minimize(rastrigin, BOUNDS, "cma", batched=True, steps=37)
    assert (steps.status, steps.nit, steps.stop) == ("steps", 37, {"steps": 37})
    for evaluations in (8, 15, 16, 999, 5003):
        result = zoo.minimize(rastrigin, BOUNDS, "cma", batched=True, evaluations=evaluations)
        assert result.status == "evaluations"
        assert result.nfev <= evaluations
        # What would come next does not fit; a restart may be larger.
        following = 2 * max(run["popsize"] for run in result.restarts)
        assert result.nfev + following > evaluations
    assert zoo.minimize(rastrigin, BOUNDS, "cma", batched=True, evaluations=8).nfev == 8
    patience = zoo.minimize(lambda x: 7.0, BOUNDS, "cma", patience=6)
    assert (patience.status, patience.nit, patience.success) == ("stagnated", 7, True)


def test_the_target_ends_at_once():
    options = {"method": "cma", "batched": True, "seed": 3}
    whole = zoo.minimize(rastrigin, BOUNDS, steps=300, **options)
    rows = []
    zoo.minimize(
        rastrigin,
        BOUNDS,
        steps=300,
        listeners=[lambda event: rows.extend(event.data.get("rows", []))],
        **options,
    )
    target = rows[12]["best"]
    result = zoo.minimize(rastrigin, BOUNDS, target=target, **options)
    first = next(row for row in rows if row["best"] <= target)
    assert (result.nit, result.nfev) == (first["step"], first["evaluations"])
    assert result.stop == {"target": target}
    missed = zoo.minimize(rastrigin, BOUNDS, target=whole.fun / 2, steps=300, **options)
    assert (missed.status, missed.success) == ("steps", False)


def test_seconds():
    def slow(x):
        time.sleep(0.002)
        return sphere(x)

    rows, started = [], time.perf_counter()
    result = zoo.minimize(
        slow,
        BOUNDS,
        "cma",
        seconds=0.3,
        listeners=[lambda event: rows.extend(event.data.get("rows", []))],
    )
    assert time.perf_counter() - started < 2
    assert result.status == "seconds"
    assert result.stop == {"seconds": 0.3}
    assert result.nfev == 8 * result.nit > 0
    assert rows[-1]["step"] == result.nit


def test_a_callback_stops():
    result = zoo.minimize(sphere, BOUNDS, "cma", callback=lambda progress: progress.step >= 3)
    assert result.status == "stopped"
    assert result.nit >= 3


def test_without_restarts_its_own_criteria_end_it():
    result = zoo.minimize(sphere, BOUNDS, "cma", restarts="none")
    assert (result.status, result.success, len(result.restarts)) == ("converged", True, 1)
    assert list(result.stop) == ["tolfun"]
    assert result.message == "CMA-ES stopped by its own criteria (tolfun)"
    limited = zoo.minimize(sphere, BOUNDS, "cma", restarts="none", maxiter=9)
    assert (limited.nit, list(limited.stop)) == (9, ["maxiter"])
    for name, value in {"tolx": 0.05, "tolfun": 0.5, "tolfunhist": 0.5}.items():
        loose = zoo.minimize(sphere, BOUNDS, "cma", restarts="none", **{name: value})
        assert list(loose.stop) == [name]
        assert loose.nit < result.nit


def test_the_history_thins_out():
    rows = []
    zoo.minimize(
        rastrigin,
        [(-5, 5)] * 2,
        "cma",
        batched=True,
        steps=3000,
        restarts="none",
        tolfun=0.0,
        tolfunhist=0.0,
        tolx=0.0,
        tolflatfitness=10**6,
        maxiter=10**6,
        listeners=[lambda event: rows.extend(event.data.get("rows", []))],
    )
    steps = [row["step"] for row in rows]
    assert steps[:20] == list(range(1, 21))
    assert steps == sorted(set(steps))
    assert len(rows) < 250
    assert set(rows[0]) == {
        "step",
        "evaluations",
        "best",
        "spread",
        "sigma",
        "popsize",
        "restart",
    }


# Input that cannot be used, and what is worth a warning


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"popsize": 3}, "popsize must be >= 4, got 3"),
        ({"popsize": 2.5}, "popsize must be a whole number"),
        ({"sigma0": 0}, "sigma0 must be > 0 and <= 1, got 0"),
        ({"restarts": "bipopp"}, "did you mean 'bipop'"),
        ({"restarts": 3}, "restarts must be a word"),
        ({"boundary": "clip"}, "boundary must be transform | penalty"),
        ({"popsize_factor": 0.5}, "popsize_factor must be >= 1"),
        ({"tolfun": -1.0}, "tolfun must be >= 0"),
        ({"particles": 10}, "unknown parameter 'particles'"),
        ({"evaluations": 7}, "evaluations must be at least popsize = 8, got 7"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"x0": [9.0] * 5}, "x0 must lie within the bounds"),
    ],
)
def test_bad_input(options, line):
    with pytest.raises(zoo.InputError) as caught:
        zoo.minimize(sphere, BOUNDS, "cma", **options)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_warnings():
    assert CMAConfig().warnings(1000) == []
    assert "a third of the box" in CMAConfig(sigma0=0.5).warnings(2)[0]
    assert "full covariance" in CMAConfig().warnings(2000)[0]
    assert CMAConfig(diagonal=True).warnings(2000) == []


# The command line


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["run", "cma", "--objective", "rastrigin", "--dim", "5", "--target", "1e-8"]
    assert main([*run, "--seed", "2", "--out", "R", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["method"], result["status"], len(result["mean"])) == ("cma", "target", 5)
    assert result["restarts"][-1]["stop"] == {"target": 1e-8}
    assert main(["show", "R"]) == 0
    shown = capsys.readouterr().out
    named = " ".join(shown.split())
    assert f"restarts {len(result['restarts']) - 1} (" in named
    assert "large 64): " in named
    assert "tolfun, target" in named
    assert "popsize restart" in named
    stored = zoo.resume("R")
    assert stored.restarts == result["restarts"]
    assert main(["list", "methods"]) == 0
    assert "CMA-ES" in capsys.readouterr().out


def test_plot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["run", "cma", "--objective", "rastrigin", "--dim", "2", "--steps", "300"]
    assert main([*run, "--out", "R"]) == 0
    assert main(["show", "R", "--plot", "r.png"]) == 0
    assert (tmp_path / "r.png").stat().st_size > 10_000


def test_bits_do_not_depend_on_the_threads_of_linear_algebra():
    code = """if True:
        import zoo
        result = zoo.minimize(
            lambda x: float((x**2 * range(1, 101)).sum()), [(-5, 5)] * 100, "cma", steps=60
        )
        print(result.x.tobytes().hex())"""

    def run(threads):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert run("1") == run("2") != ""
