"""From noisy counts to what a table is to fit, against closed forms and published optima."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from evolve.gsd import estimate

VECTORS = hnp.arrays(float, st.integers(1, 40), elements=st.floats(-100, 100))
SEEDS = st.integers(0, 2**32)


def shares(rng, *shape):
    made = rng.random(shape) ** 3 + 1e-4
    return made / made.sum()


@given(VECTORS)
def test_the_nearest_point_of_the_simplex(y):
    x = estimate.on_simplex(y)
    assert x.min() >= 0
    assert x.sum() == pytest.approx(1, abs=1e-10)
    # Nearest: from y, no corner of the simplex lies beyond x.
    assert (y - x).max() <= (y - x) @ x + 1e-8


def test_points_of_the_simplex_stay():
    x = shares(np.random.default_rng(1), 30)
    x[3] = 0.0
    np.testing.assert_allclose(estimate.on_simplex(x / x.sum()), x / x.sum(), atol=1e-15)
    np.testing.assert_allclose(estimate.on_simplex(np.array([0.9, 0.5, -3])), [0.7, 0.3, 0])


@given(SEEDS, st.integers(1, 200), st.integers(1, 30), st.booleans())
def test_bins_of_about_equal_mass(seed, size, count, apart):
    p = shares(np.random.default_rng(seed), size)
    bins = estimate.equal_mass(p, count, apart)
    assert bins[0] == 0
    assert set(np.diff(bins)) <= {0, 1}  # in order, none left out
    assert bins[-1] < count
    if size <= count:
        assert bins.tolist() == list(range(size))
    elif apart and count > 1:
        assert (bins == bins[-1]).sum() == 1
    else:
        masses = estimate.merged(p, bins)
        assert masses.sum() == pytest.approx(1)
        assert (np.abs(masses[:-1] - 1 / count) <= p.max()).all()  # the last one has the rest
        assert masses[-1] <= 1 / count + 0.5 * count * p.max()


def test_bins_of_even_and_of_odd_columns():
    even = np.full(12, 1 / 12)
    assert estimate.equal_mass(even, 4).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert estimate.equal_mass(even, 4, True).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3]
    assert estimate.equal_mass(even, 1, True).tolist() == [0] * 12
    assert estimate.equal_mass(np.zeros(5), 3).tolist() == [0] * 5
    peak = np.array([0.1, 0.6, 0.1, 0.1, 0.1])
    assert estimate.equal_mass(peak, 3).tolist() == [0, 1, 2, 2, 2]
    assert estimate.merged(peak, np.array([0, 1, 2, 2, 2]), 4).tolist() == pytest.approx(
        [0.1, 0.6, 0.3, 0]
    )


@pytest.mark.parametrize("shape", [(60, 120), (120, 60), (5, 5), (1, 9)])
def test_no_noise_no_shrinking(shape):
    matrix = np.random.default_rng(1).normal(size=shape)
    np.testing.assert_array_equal(estimate.shrunk(matrix, 0.0), matrix)


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (150, 150)])
def test_pure_noise_is_shrunk_away(shape):
    noise = 0.3 * np.random.default_rng(1).normal(size=shape)
    assert np.sum(estimate.shrunk(noise, 0.3) ** 2) < 0.01 * np.sum(noise**2)


@pytest.mark.parametrize("shape", [(200, 400), (400, 200), (300, 300)])
@pytest.mark.parametrize("x", [1.2, 2.0, 5.0])
def test_a_signal_of_rank_one_is_found_as_well_as_can_be(shape, x):
    long, beta, sigma = max(shape), min(shape) / max(shape), 0.01
    unit = sigma * math.sqrt(long)
    # Gavish and Donoho, 2017: the asymptotic loss of the best shrinker, for a singular value x.
    both = (x**4 - beta) ** 2 / ((x**4 + beta * x**2) * (x**4 + x**2))
    optimum = x**2 * (1 - both)
    ratios = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        u, v = (rng.normal(size=k) for k in shape)
        signal = x * unit * np.outer(u / np.linalg.norm(u), v / np.linalg.norm(v))
        noisy = signal + sigma * rng.normal(size=shape)
        error = np.sum((estimate.shrunk(noisy, sigma) - signal) ** 2) / unit**2
        assert error < 0.1 * np.sum((noisy - signal) ** 2) / unit**2
        ratios.append(error / optimum)
    assert np.mean(ratios) == pytest.approx(1, abs=0.12)


@given(VECTORS, st.floats(0, 100))
def test_smoothing_keeps_the_sum(counts, sigma):
    smooth = estimate.smoothed(counts, sigma)
    assert smooth.shape == counts.shape
    assert smooth.sum() == pytest.approx(counts.sum(), abs=1e-9 * (1 + np.abs(counts).sum()))
    np.testing.assert_allclose(estimate.smoothed(counts, 0.0), counts, atol=1e-10)
    np.testing.assert_allclose(estimate.smoothed(counts, 1e6), counts.mean(), atol=1e-9)


@pytest.mark.parametrize("n", [64, 100, 1000, 1025])
def test_noise_on_an_even_column_is_smoothed_away(n):
    flat, error = 0, 0.0
    for seed in range(40):
        noisy = 50.0 + 3.0 * np.random.default_rng(seed).normal(size=n)
        smooth = estimate.smoothed(noisy, 3.0)
        flat += np.ptp(smooth) < 1e-9
        error += np.mean((smooth - 50.0) ** 2) / 40
    assert flat > 20
    assert error < 0.1 * 9


@pytest.mark.parametrize("n", [64, 85, 129])
@pytest.mark.parametrize("at", [0, 37, -1])
def test_lone_peaks_stay(n, at):
    counts = np.zeros(n)
    counts[at] = 1000.0
    smooth = estimate.smoothed(counts + np.random.default_rng(2).normal(size=n), 1.0)
    assert smooth[at] == pytest.approx(1000, abs=15)
    assert np.abs(np.delete(smooth, at % n)).max() < 15


@pytest.mark.parametrize("n", [64, 85, 100])
def test_smoothing_helps_a_smooth_column(n):
    counts = 400 * np.exp(-np.arange(n) / 40.0)
    noise = 20.0 * np.random.default_rng(3).normal(size=(200, n))
    smooth = np.array([estimate.smoothed(counts + one, 20.0) for one in noise])
    errors = np.mean((smooth - counts) ** 2, axis=0)
    assert errors.mean() < (0.7 if n == 64 else 0.6) * 400


def test_haar_wavelets_by_hand():
    # Details: (8-0)/sqrt 2, (1-3)/sqrt 2; (8-4)/2. The threshold is sigma sqrt(2 log 4).
    sigma = 1.5 / math.sqrt(2 * math.log(4))
    assert estimate.smoothed(np.array([8.0, 0, 1, 3]), sigma) == pytest.approx([8, 0, 2, 2])
    assert estimate.smoothed(np.array([8.0, 0, 1, 3]), sigma * 2.5 / 1.5) == pytest.approx(
        [7, -1, 3, 3]
    )


def test_margins_are_met_and_odds_kept():
    rng = np.random.default_rng(1)
    start = rng.random((2, 2)) + 0.1
    margins = [shares(rng, 2), shares(rng, 2)]
    table = estimate.fitted(start.copy(), margins)
    np.testing.assert_allclose(table.sum(1), margins[0], atol=1e-12)
    np.testing.assert_allclose(table.sum(0), margins[1], atol=1e-12)

    def odds(t):
        return t[0, 0] * t[1, 1] / (t[0, 1] * t[1, 0])

    assert odds(table) == pytest.approx(odds(start), rel=1e-9)  # what fitting does not change


@pytest.mark.parametrize("shape", [(3, 5), (4, 3, 2)])
def test_margins_of_larger_tables(shape):
    rng = np.random.default_rng(2)
    start = rng.random(shape) + 0.05
    margins = [shares(rng, k) for k in shape]
    margins[0][0] = 0.0
    margins[0] /= margins[0].sum()
    table = estimate.fitted(start.copy(), margins)
    assert table.min() >= 0
    assert (table[0] == 0).all()
    for axis, margin in enumerate(margins):
        others = tuple(a for a in range(len(shape)) if a != axis)
        np.testing.assert_allclose(table.sum(axis=others), margin, atol=1e-7)
    even = estimate.fitted(np.ones(shape), margins)
    np.testing.assert_allclose(even, estimate.product(margins), atol=1e-10)
    zero = estimate.fitted(np.zeros(shape), margins)  # nothing known is independence
    np.testing.assert_allclose(zero, estimate.product(margins), atol=1e-10)


@given(SEEDS, st.sampled_from([(12, 9), (9, 30), (6, 5, 4)]), st.sampled_from([0.0, 0.002, 0.01]))
@settings(max_examples=40, deadline=None)
def test_joint_tables_have_their_margins(seed, shape, sigma):
    rng = np.random.default_rng(seed)
    margins = [shares(rng, k) for k in shape]
    bins = [estimate.equal_mass(margin, 4) for margin in margins]
    coarse = [b.max() + 1 for b in bins]
    noisy = estimate.product([estimate.merged(m, b) for m, b in zip(margins, bins, strict=True)])
    noisy = noisy * rng.uniform(0.7, 1.3, coarse)
    noisy += sigma * rng.normal(size=coarse)
    table = estimate.joint(noisy, margins, bins, sigma)
    assert table.shape == shape
    assert table.min() >= 0
    for axis, margin in enumerate(margins):
        others = tuple(a for a in range(len(shape)) if a != axis)
        np.testing.assert_allclose(table.sum(axis=others), margin, atol=0.02 * margin.max())
    for cell in np.ndindex(*coarse):  # columns are independent in a coarse cell
        inside = table[np.ix_(*(b == c for b, c in zip(bins, cell, strict=True)))]
        own = [m[b == c] for m, b, c in zip(margins, bins, cell, strict=True)]
        flat = estimate.product(own) * (inside.sum() / math.prod(m.sum() for m in own))
        np.testing.assert_allclose(inside, flat, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 5)])
def test_exact_joint_tables_stay(shape):
    table = shares(np.random.default_rng(4), *shape)
    axes = range(len(shape))
    margins = [table.sum(axis=tuple(a for a in axes if a != axis)) for axis in axes]
    bins = [np.arange(k) for k in shape]
    np.testing.assert_allclose(estimate.joint(table, margins, bins, 0.0), table, atol=1e-9)


def test_dependence_is_found_in_noise():
    rng = np.random.default_rng(5)
    truth = shares(rng, 30)[:, None] * shares(rng, 40)
    truth[:10, :12] *= 3.0
    truth /= truth.sum()
    margins = [truth.sum(1), truth.sum(0)]
    noisy = truth + 2e-4 * rng.normal(size=truth.shape)
    bins = [np.arange(30), np.arange(40)]
    found = estimate.joint(noisy, margins, bins, 2e-4)
    off = [np.abs(t - truth).sum() for t in (found, noisy, estimate.product(margins))]
    assert off[0] < 0.25 * min(off[1:])


def test_the_number_of_rows_of_many_marginals():
    rng = np.random.default_rng(6)
    sizes, sigmas = (3, 50, 8), (4.0, 4.0, 1.0)
    truth = [rng.multinomial(700, shares(rng, k)).astype(float) for k in sizes]
    found, sums = [], []
    for _ in range(4000):
        noisy = [t + s * rng.normal(size=len(t)) for t, s in zip(truth, sigmas, strict=True)]
        found.append(estimate.total(noisy, sigmas))
        sums.append([c.sum() for c in noisy])
    variances = np.array([k * s * s for k, s in zip(sizes, sigmas, strict=True)])
    best = 1 / np.sum(1 / variances)
    assert np.mean(found) == pytest.approx(700, abs=4 * math.sqrt(best / 4000))
    assert np.var(found) == pytest.approx(best, rel=0.1)
    assert np.var(found) < np.var(sums, axis=0).min()


def heavy(n=1024, people=8000):
    """Counts of a column with a long tail and two heaps, and its 32 ranges."""
    counts = np.rint(people * stats.lognorm(1.0, scale=n / 30).pdf(np.arange(n) + 0.5))
    counts[[0, n // 8]] += people // 10
    of = np.arange(n) * 32 // n
    return counts, of, np.bincount(of, weights=counts)


def test_values_by_levels_are_better_than_alone():
    counts, of, ranges = heavy()
    people, p = counts.sum(), counts / counts.sum()
    errors = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noisy, wider = (c + np.rint(rng.normal(0, 25, len(c))) for c in (counts, ranges))
        levels = estimate.by_levels(noisy, wider, of, 25.0, people)
        assert (levels >= 0.0).all()
        alone = estimate.on_simplex(estimate.smoothed(noisy, 25.0) / people)
        for found in (estimate.on_simplex(levels), alone):
            gap = np.cumsum(found - p)
            errors.append((0.5 * np.abs(found - p).sum(), np.abs(gap).max()))
    means = np.array(errors).reshape(20, 2, 2).mean(axis=0)  # levels, alone; distance, largest gap
    assert means[0, 0] < 0.8 * means[1, 0]
    assert means[0, 1] < 0.5 * means[1, 1]


def test_levels_keep_what_they_are_given():
    counts, of, ranges = heavy(people=10**6)
    levels = estimate.by_levels(counts, ranges, of, 1e-6, counts.sum())
    np.testing.assert_allclose(levels, counts / counts.sum(), atol=1e-9)
    wide = estimate.by_levels(np.zeros(8), np.array([100.0, 0.0]), np.arange(8) // 4, 1.0, 100.0)
    np.testing.assert_allclose(wide, [0.2] * 4 + [0.0] * 4)  # 4/5 of 100, by inverse variance
