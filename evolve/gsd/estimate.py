"""From noisy counts to the marginals of the people behind them; costs no privacy.

One column is projected to the simplex, numbers after smoothing. Two or more are taken as the
product of their columns, times what their noisy coarse table says beyond that. Of a pair's residual
only the singular values that stand out of the noise are kept, shrunk: noise is spread over all of
them, dependence over few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Sweeps of iterative proportional fitting.
_SWEEPS = 20

_TINY = 1e-12


def on_simplex(y: Array) -> Array:
    """Point of the probability simplex nearest to y (k,) in Euclidean distance.

    Held, Wolfe and Crowder, "Validation of subgradient optimization", Mathematical Programming,
    1974.
    """
    u = np.sort(y)[::-1]
    excess = (np.cumsum(u) - 1.0) / np.arange(1, len(u) + 1)
    return np.maximum(y - excess[np.flatnonzero(u > excess)[-1]], 0.0)


def smoothed(counts: Array, sigma: float) -> Array:
    """Counts (n,) of values in order, without the noise that stands out at no scale.

    Hard thresholding of Haar wavelet coefficients at sigma sqrt(2 log n): Donoho and Johnstone,
    "Ideal spatial adaptation by wavelet shrinkage", Biometrika, 1994; unbalanced ones where n is
    no power of two: Fryzlewicz, Journal of the American Statistical Association, 2007. Lone peaks
    stay, and where values are rare their mass is spread evenly. The sum is kept.
    """
    means = np.array(counts, np.float64)
    sizes = np.ones(len(means))
    threshold = sigma * math.sqrt(2.0 * math.log(max(2, len(means))))
    details = []
    while len(means) > 1:
        pairs = len(means) // 2 * 2  # the last one may be left over
        left, right, a, b = means[:pairs:2], means[1:pairs:2], sizes[:pairs:2], sizes[1:pairs:2]
        gap = right - left
        gap = np.where(np.abs(gap) * np.sqrt(a * b / (a + b)) > threshold, gap, 0.0)
        details.append(np.stack([-gap * b / (a + b), gap * a / (a + b)], axis=1).ravel())
        means = np.append((a * left + b * right) / (a + b), means[pairs:])
        sizes = np.append(a + b, sizes[pairs:])
    for detail in reversed(details):
        half = len(detail) // 2
        means = np.append(np.repeat(means[:half], 2) + detail, means[half:])
    return means


def by_levels(leaves: Array, ranges: Array, of: Ints, sigma: float, people: float) -> Array:
    """Probabilities (n,) of values in order, from noisy counts of them and of ranges of them.

    The ranges come first, each count improved by the sum of its values'; then the values within
    each, in proportion to their smoothed counts.

    Parameters
    ----------
    leaves : (n,)
        Counts of the values, with noise.
    ranges : (m,)
        Counts of the ranges, with noise of the same sigma.
    of : (n,)
        Range of each value.
    sigma : float
    people : float
        Number of rows.
    """
    sizes = np.bincount(of).astype(np.float64)
    masses = (sizes * ranges + merged(leaves, of)) / (sizes + 1.0)  # by inverse variance
    masses = np.maximum(smoothed(masses, sigma), 0.0)
    p = np.zeros(len(leaves))
    for number, mass in enumerate(masses):
        within = smoothed(leaves[of == number], sigma)
        if mass > 0.0:
            within += (mass - within.sum()) / len(within)
            p[of == number] = mass * on_simplex(within / mass)
    return p / people


def total(counts: Sequence[Array], sigmas: Sequence[float]) -> float:
    """Number of rows behind noisy marginals: the inverse-variance mean of their sums."""
    weights = np.array([1.0 / (len(c) * s * s) for c, s in zip(counts, sigmas, strict=True)])
    return float(np.dot(weights, [c.sum() for c in counts]) / weights.sum())


def equal_mass(p: Array, count: int, apart: bool = False) -> Ints:
    """Bins (k,) of neighbouring values that have about equal probability, at most ``count``.

    Parameters
    ----------
    p : (k,)
        Probabilities of the values.
    count : int
    apart : bool
        Whether the last value, a null, has a bin of its own.
    """
    if len(p) <= count:
        return np.arange(len(p))
    if apart and count > 1:
        rest = equal_mass(p[:-1], count - 1)
        return np.append(rest, rest[-1] + 1)
    bins = np.zeros(len(p), np.int64)
    share, mass = p.sum() / count, 0.0
    for value in range(1, len(p)):
        mass += p[value - 1]
        new = mass > 0.0 and mass + 0.5 * p[value] > share and bins[value - 1] < count - 1
        bins[value] = bins[value - 1] + new
        mass = 0.0 if new else mass
    return bins


def merged(p: Array, bins: Ints, count: int | None = None) -> Array:
    """Probability of each bin, given that of each value and its bin."""
    return np.bincount(bins, weights=p, minlength=count or 0).astype(np.float64)


def shrunk(residual: Array, sigma: float) -> Array:
    """Low-rank signal in a matrix (m, n) with independent noise of standard deviation sigma.

    The singular values' optimal shrinkage in Frobenius norm: Gavish and Donoho, "Optimal shrinkage
    of singular values", IEEE Transactions on Information Theory, 2017, eq. (7).
    """
    if sigma == 0.0:
        return residual
    u, s, v = np.linalg.svd(residual, full_matrices=False)
    long, short = max(residual.shape), min(residual.shape)
    y, beta = s / (sigma * np.sqrt(long)), short / long
    inside = np.maximum((y**2 - beta - 1.0) ** 2 - 4.0 * beta, 0.0)
    kept = np.where(y > 1.0 + np.sqrt(beta), np.sqrt(inside) / np.maximum(y, _TINY), 0.0)
    return np.asarray((u * (kept * sigma * np.sqrt(long))) @ v)


def fitted(table: Array, margins: Sequence[Array]) -> Array:
    """Table with given one-way margins that is nearest to a non-negative one (IPF).

    Deming and Stephan, "On a least squares adjustment of a sampled frequency table", 1940.
    """
    table = table + _TINY
    axes = range(table.ndim)
    for _ in range(_SWEEPS):
        for axis, margin in enumerate(margins):
            sums = table.sum(axis=tuple(a for a in axes if a != axis))
            scale = margin / np.where(sums > 0.0, sums, 1.0)
            table *= scale.reshape([-1 if a == axis else 1 for a in axes])
    return table


def product(margins: Sequence[Array]) -> Array:
    """Outer product of probability vectors."""
    table = np.ones(())
    for margin in margins:
        table = np.multiply.outer(table, margin)
    return np.asarray(table)


def joint(noisy: Array, margins: Sequence[Array], bins: Sequence[Ints], sigma: float) -> Array:
    """Probabilities of the cells of some columns, from a noisy coarse table of them.

    Parameters
    ----------
    noisy : (b_1, ..., b_k)
        Shares of the rows in coarse cells, with noise.
    margins : sequence of (n_1,), ..., (n_k,)
        Probabilities of the values of each column.
    bins : sequence of (n_1,), ..., (n_k,)
        Coarse bin of each value.
    sigma : float
        Standard deviation of the noise in a share.

    Returns
    -------
    (n_1, ..., n_k)
        With those margins; within a coarse cell, the product of its columns.
    """
    coarse = [merged(*each) for each in zip(margins, bins, noisy.shape, strict=True)]
    independent = product(coarse)
    residual = noisy - independent
    if noisy.ndim == 2:
        residual = shrunk(residual, sigma)
    elif sigma > 0.0:  # James and Stein, 1961
        residual *= max(0.0, 1.0 - residual.size * sigma**2 / np.sum(residual**2))
    table = fitted(np.maximum(independent + residual, 0.0), coarse)
    ratio = table / np.maximum(independent, _TINY)
    return product(margins) * ratio[np.ix_(*bins)]
