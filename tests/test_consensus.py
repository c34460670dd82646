"""The consensus point against log-sum-exp in NumPy, and what is made of its covariance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from reference_cbo import effective
from scipy.special import softmax

from zoo.cbo import consensus as cs
from zoo.cbo.state import new_sums


@njit
def add(alpha, x, energy, tile, center, sums, block, first, last):
    cs.clear(sums.head[block], sums.first_moment[block], sums.second_moment[block])
    weight = np.empty(tile)
    for start in range(first, last, tile):
        count = min(tile, last - start)
        cs.accumulate(
            alpha,
            x,
            energy,
            start,
            count,
            weight,
            center,
            sums.head[block],
            sums.first_moment[block],
            sums.second_moment[block],
        )


def consensus_of(alpha, x, energy, blocks=1, tile=3, center=None, about_last=False):
    """Consensus and covariance through the engine's sums, over blocks and tiles."""
    n, dp = x.shape
    c = np.zeros(dp) if center is None else center.copy()
    sums = new_sums(blocks, dp, dp)
    for b in range(blocks):
        add(alpha, x, energy, tile, c, sums, b, n * b // blocks, n * (b + 1) // blocks)
    covariance = np.zeros((dp, dp))
    moments = sums.first_moment, sums.second_moment
    cs.merge(alpha, sums.head, *moments, about_last, c, covariance, np.empty_like(covariance))
    return c, covariance


@given(
    st.integers(0, 10**6),
    st.floats(-12, 30).map(lambda p: 10.0**p),
    st.integers(1, 4),
    st.sampled_from([1, 2, 5, 64]),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_any_alpha_any_cut(seed, alpha, blocks, tile, share_infinite):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(17, 4)) * 10.0 ** rng.uniform(-3, 3)
    energy = rng.normal(size=17) * 10.0 ** rng.uniform(-6, 6)
    energy[1:][rng.uniform(size=16) < share_infinite] = np.inf
    finite = np.isfinite(energy)
    w = np.zeros(17)
    w[finite] = softmax(-alpha * (energy[finite] - energy[finite].min()))
    c, covariance = consensus_of(alpha, x, energy, blocks, tile)
    scale = np.abs(x).max()
    np.testing.assert_allclose(c, w @ x, rtol=0, atol=1e-12 * scale)
    expected = (w[:, None] * (x - c)).T @ (x - c)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-11 * scale**2)
    last = x[0]
    about = consensus_of(alpha, x, energy, blocks, tile, last, True)[1]
    expected = (w[:, None] * (x - last)).T @ (x - last)
    np.testing.assert_allclose(about, expected, rtol=0, atol=1e-11 * scale**2)


def test_no_finite_energy_leaves_the_consensus():
    center = np.array([1.0, 2.0, 3.0, 4.0])
    c, _ = consensus_of(1.0, np.ones((5, 4)), np.full(5, np.inf), 2, 2, center)
    np.testing.assert_array_equal(c, center)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("start", [1e-25, 1.0, 1e25])
def test_ess_alpha_solves_for_the_effective_size(fraction, start):
    energy = np.random.default_rng(5).exponential(size=200) * 1e4
    energy[7] = np.inf
    alpha = cs.ess_alpha(start, energy, fraction, 1e-30, 1e30)
    assert effective(energy, alpha) == pytest.approx(fraction * 199, rel=0.011)


def test_ess_alpha_of_equal_energies_is_the_largest():
    assert cs.ess_alpha(1.0, np.full(9, 3.0), 0.5, 1e-30, 1e20) == pytest.approx(1e20)
    assert cs.ess_alpha(2.0, np.full(9, np.inf), 0.5, 1e-30, 1e20) == 2.0


def test_cholesky_factor_of_full_and_deficient_matrices():
    rng = np.random.default_rng(1)
    for rank in (1, 3, 6):
        a = rng.normal(size=(6, rank))
        matrix = a @ a.T
        factor = np.empty((6, 6))
        cs.cholesky(matrix, factor)
        np.testing.assert_allclose(factor.T @ factor, matrix, atol=1e-6 * np.trace(matrix))
        if rank == 6:
            np.testing.assert_allclose(factor.T, np.linalg.cholesky(matrix), atol=1e-10)


def test_a_tolerance_of_zero_ends_no_run():
    from zoo.cbo import state as st
    from zoo.cbo.advance import stop_or_kick

    params = np.zeros(1, st.PARAMS)
    params["target"], params["steps"], params["max_evaluations"] = -np.inf, 100, 10**9
    for tolerance, status in ((0.0, st.RUNNING), (1e-10, st.CONVERGED)):
        run = np.zeros(1, st.RUN)
        run["phase"], run["step"], run["spread0"] = st.MOVE, 5, 1.0  # the spread is zero
        params["spread_tol"] = tolerance
        stop_or_kick(params[0], run[0], True)
        assert run["status"][0] == status
