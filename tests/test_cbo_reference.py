"""Every dynamics against the slow NumPy program, trajectory against trajectory."""

import numpy as np
import pytest
from cbo_variants import VARIANTS
from reference_cbo import Reference, effective

import zoo
from zoo.cbo.config import CBOConfig
from zoo.config import build
from zoo.objectives.registry import get

PARTICLES, STEPS = 24, 12


def rastrigin(x):
    return float(np.sum(x**2 + 10.0 - 10.0 * np.cos(2 * np.pi * x)))


@pytest.mark.parametrize("d", [1, 3, 6])
@pytest.mark.parametrize("name", [name for name in VARIANTS if "ess" not in name])
def test_trajectory_is_the_references(name, d):
    options = {"particles": PARTICLES, **VARIANTS[name]}
    lower, upper = np.full(d, -5.12), np.linspace(4.0, 5.12, d)
    reference = Reference(rastrigin, lower, upper, build(CBOConfig, options), seed=11)
    for _ in range(STEPS):
        reference.superstep()
    function = get("rastrigin").function()
    result = zoo.minimize(
        function, np.c_[lower, upper], seed=11, steps=STEPS, spread_tol=0.0, shards=1, **options
    )
    scale = np.abs(reference.x).max()
    np.testing.assert_allclose(result.particles[0], reference.x, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(result.consensus, reference.consensus, rtol=0, atol=1e-9 * scale)
    assert result.nfev == reference.evaluations + 1
    assert result.fun == pytest.approx(min(reference.best, result.consensus_fun), abs=1e-9)
    assert result.spread == pytest.approx(reference.spread, rel=1e-9)
    assert result.alpha == pytest.approx(reference.alpha)


def test_ess_schedule_holds_the_effective_sample_size():
    for name in ("ess", "batch-ess"):
        options = {"particles": PARTICLES, **VARIANTS[name]}
        result = zoo.minimize(
            get("rastrigin").function(), [(-5.12, 5.12)] * 3, seed=2, steps=9, **options
        )
        energies = np.array([rastrigin(x) for x in result.particles[0]])
        if name == "ess":
            wanted = options["ess"] * PARTICLES
            assert effective(energies, result.alpha) == pytest.approx(wanted, rel=0.02)
        assert 1e-30 < result.alpha < 1e30


def test_kicks_happen():
    result = zoo.minimize(
        get("rastrigin").function(),
        [(-5.12, 5.12)] * 3,
        steps=60,
        particles=PARTICLES,
        **VARIANTS["kick"],
    )
    assert 0 < result.kicks < 60


def test_blocks_give_the_consensus_of_the_whole():
    # Same particles, cut differently: equal up to rounding, over a few steps.
    options = {"particles": PARTICLES, "steps": 4, "seed": 5}
    function, bounds = get("rastrigin").function(), [(-5.12, 5.12)] * 5
    for name in ("anisotropic", "isotropic", "covariance", "gate", "ess", "polarized", "memory"):
        one = zoo.minimize(function, bounds, shards=1, **options, **VARIANTS[name])
        three = zoo.minimize(function, bounds, shards=3, **options, **VARIANTS[name])
        np.testing.assert_allclose(three.particles[0], one.particles[0], rtol=0, atol=1e-8)
        extra = 2 * 4 if name == "gate" else 0  # each shard evaluates the consensus point
        assert three.nfev == one.nfev + extra
