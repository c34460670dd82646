"""The same configuration and seed give the same bits, wherever and however the run is made."""

import numpy as np
import pytest
from cbo_variants import VARIANTS

import zoo
from zoo.errors import Interrupted
from zoo.objectives.registry import get
from zoo.optimize import describe, launch, split_options
from zoo.problem import Problem, as_objective
from zoo.runtime.folder import RunFolder

BOUNDS = np.array([(-5.12, 5.12)] * 5)
FUNCTION = get("rastrigin").function()
# One run in one piece, one run in three blocks, five runs in three shards.
SHAPES = {"one": {"shards": 1}, "blocks": {"shards": 3}, "runs": {"runs": 5, "shards": 3}}
COMPARED = ("x", "fun", "consensus", "consensus_fun", "nfev", "nit", "spread", "alpha", "particles")


def options_of(variant, shape):
    options = {"particles": 24, "steps": 25, "seed": 7, **VARIANTS[variant], **SHAPES[shape]}
    if shape == "blocks" and "batch" in options:
        options["batch"] = 9
    return options


def assert_same(a, b):
    for name in COMPARED:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for name in ("runs_x", "runs_fun", "runs_consensus", "runs_nfev", "minima"):
        if name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def in_python(x):
    return float(FUNCTION(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_hosts_and_ways_of_evaluating(variant, shape, tmp_path):
    options = options_of(variant, shape)
    inline = zoo.minimize(FUNCTION, BOUNDS, threads=1, **options)
    assert_same(inline, zoo.minimize(FUNCTION, BOUNDS, threads=2, **options))
    assert_same(inline, zoo.minimize(FUNCTION, BOUNDS, threads=3, **options))
    assert_same(inline, zoo.minimize(in_python, BOUNDS, **options))
    optimizer = zoo.Optimizer(BOUNDS, **options)
    while not optimizer.finished:
        x = optimizer.ask()
        optimizer.tell(x, [FUNCTION(point) for point in x])
    assert_same(inline, optimizer.result())
    assert_same(inline, interrupted_and_resumed(options, tmp_path))


def a_run(function, options, path):
    """Arguments of launch, and the run folder."""
    options = dict(options)
    seed = options.pop("seed")
    config, budget = split_options("cbo", options)
    problem = Problem(as_objective(function), *BOUNDS.T)
    folder = RunFolder(path / "run")
    folder.create(describe("cbo", {}, config, budget, seed))
    return (problem, "cbo", config, budget, seed), folder


def interrupted_and_resumed(options, path):
    """Stop within and between supersteps, and go on from the run folder."""
    parts, folder = a_run(in_python, options, path)
    calls = 0

    def cancelled():
        nonlocal calls
        calls += 1
        return calls in (10, 200, 420)

    times = 0
    snapshot = None
    while True:
        try:
            result = launch(
                *parts,
                folder=folder,
                snapshot=snapshot,
                cancelled=cancelled,
            )
            assert times >= 2
            return result
        except Interrupted:
            times += 1
            snapshot = folder.snapshot()
            folder.rewind(snapshot.rows if snapshot else 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", ["anisotropic", "covariance-ess", "memory-batch-gate"])
def test_compiled_runs_interrupted_and_resumed(variant, shape, tmp_path):
    options = options_of(variant, shape) | {"steps": 2000}
    whole = zoo.minimize(FUNCTION, BOUNDS, **options)
    parts, folder = a_run(FUNCTION, options, tmp_path)
    calls = 0

    def cancelled():
        nonlocal calls
        calls += 1
        return calls == 8  # which is at step 63 at most, whatever a step takes

    with pytest.raises(Interrupted):
        launch(*parts, folder=folder, cancelled=cancelled)
    assert_same(whole, zoo.resume(folder.path, FUNCTION, BOUNDS, threads=2))


def test_interrupts_are_real_and_history_is_whole(tmp_path):
    options = options_of("anisotropic", "blocks")
    zoo.minimize(in_python, BOUNDS, out=tmp_path / "whole", **options)
    (tmp_path / "cut").mkdir()
    interrupted_and_resumed(options, tmp_path / "cut")
    whole = RunFolder(tmp_path / "whole").history()
    assert len(whole) > 10
    assert whole == RunFolder(tmp_path / "cut" / "run").history()


def test_the_global_generator_does_not_matter():
    options = options_of("batch", "one")
    np.random.seed(1)  # noqa: NPY002
    first = zoo.minimize(FUNCTION, BOUNDS, **options)
    np.random.seed(2)  # noqa: NPY002
    assert_same(first, zoo.minimize(FUNCTION, BOUNDS, **options))


def test_another_seed_gives_another_run():
    options = options_of("anisotropic", "one")
    one = zoo.minimize(FUNCTION, BOUNDS, **options)
    other = zoo.minimize(FUNCTION, BOUNDS, **options | {"seed": 8})
    assert not np.array_equal(one.particles, other.particles)


def test_a_run_among_many_is_that_run_alone():
    # Run 0 of five is the run of one, whatever the shards.
    options = options_of("anisotropic", "one")
    alone = zoo.minimize(FUNCTION, BOUNDS, **options)
    many = zoo.minimize(FUNCTION, BOUNDS, **options | {"runs": 5, "shards": 2})
    np.testing.assert_array_equal(many.runs_x[0], alone.x)


def test_a_shift_of_the_values_changes_nothing():
    # Powers of two: the shifted energies are exact where the differences are what counts.
    def square(x):
        return float(np.round(np.sum(x**2) * 2**20) / 2**20)

    options = {"particles": 20, "steps": 30, "seed": 3}
    plain = zoo.minimize(square, BOUNDS, **options)
    shifted = zoo.minimize(lambda x: square(x) + 1024.0, BOUNDS, **options)
    np.testing.assert_array_equal(plain.x, shifted.x)
    assert shifted.fun == plain.fun + 1024.0
