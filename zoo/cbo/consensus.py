"""The consensus point: weighted sums, their merge over shards, and what follows from it.

For energies E_i, positions x_i and inverse temperature alpha,

    w_i = exp(-alpha (E_i - E_min)),    c = sum_i w_i x_i / sum_i w_i

(Pinnau, Totzeck, Tse, Martin 2017, eq. 1.2). The sums run with E_min the lowest energy met so far
and are rescaled when a lower one comes, so no alpha overflows anything.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.jit import kernel
from zoo.vmath import exp

#: Weights below exp(-80) are left out of sums whose largest weight is 1.
_NEGLIGIBLE = 80.0


@kernel
def copy(row, out):
    """Copy a row: a loop, which runs on a GPU as well."""
    for j in range(len(row)):
        out[j] = row[j]


@kernel
def clear(sums, first_moment, second_moment):
    """Empty a shard's sums before a superstep."""
    sums.lowest = np.inf
    sums.weight = 0.0
    sums.best = np.inf
    sums.squares = 0.0
    sums.moved = 0
    sums.evaluations = 0
    sums.nonfinite = 0
    first_moment[:] = 0.0
    second_moment[:] = 0.0


@kernel
def accumulate(alpha, x, energy, start, count, weight, center, sums, first_moment, second_moment):
    """Add a tile of ``count`` rows, from number ``start`` on, to the sums.

    Parameters
    ----------
    x : (n, dp) float64
        Positions.
    energy : (n,) float64
        Their energies; inf has no weight.
    weight : (count,) float64
        Scratch.
    center : (dp,) float64
        Origin of the second moment, near the population.
    first_moment : (dp,) float64
        Sum w x.
    second_moment : (dp, dp) float64, or (0, 0) where no covariance is wanted
        Sum w (x - center)(x - center)^T.
    """
    dp = x.shape[1]
    lowest = sums.lowest
    for i in range(count):
        lowest = min(lowest, energy[start + i])
    if lowest == np.inf:
        return
    if lowest < sums.lowest and sums.weight > 0.0:
        scale = exp(-alpha * (sums.lowest - lowest))
        sums.weight *= scale
        for j in range(dp):
            first_moment[j] *= scale
        second_moment *= scale
    sums.lowest = lowest
    for i in range(count):
        weight[i] = exp(-(alpha * (energy[start + i] - lowest)))
    for i in range(count):
        w = weight[i]
        if not w > math.exp(-_NEGLIGIBLE):
            continue
        sums.weight += w
        for j in range(dp):
            first_moment[j] += w * x[start + i, j]
        for j in range(len(second_moment)):
            u = w * (x[start + i, j] - center[j])
            for k in range(dp):
                second_moment[j, k] += u * (x[start + i, k] - center[k])


@kernel
def merge(
    alpha, sums, first_moments, second_moments, about_last, consensus, covariance, scratch
):  # fmt: skip
    """Consensus point, and covariance about it or the last one, from all shards, in order.

    Leaves both as they are where no particle has a finite energy.

    Parameters
    ----------
    sums : (S,) state.SUMS
    first_moments, second_moments : (S, dp), (S, dp, dp) or (S, 0, 0)
    about_last : bool
        Whether the covariance is to be about the last consensus.
    consensus : (dp,)
        The last consensus, origin of the second moments; receives c.
    covariance : (dp, dp) or (0, 0)
        Receives C = sum w (x - o)(x - o)^T / sum w, with o = c, or the last c.
    scratch : (dp, dp) or (0, 0)
        Is overwritten.
    """
    dp = len(consensus)
    lowest = np.inf
    for s in range(len(sums)):
        lowest = min(lowest, sums[s].lowest)
    if lowest == np.inf:
        return
    weight = 0.0
    center = consensus
    if len(covariance) > 0:
        center = scratch[0]
        copy(consensus, center)
    consensus[:] = 0.0
    covariance[:] = 0.0
    for s in range(len(sums)):
        if sums[s].lowest == np.inf:
            continue
        scale = exp(-(alpha * (sums[s].lowest - lowest)))
        weight += scale * sums[s].weight
        for j in range(dp):
            consensus[j] += scale * first_moments[s, j]
        for j in range(len(covariance)):
            for k in range(dp):
                covariance[j, k] += scale * second_moments[s, j, k]
    for j in range(dp):
        consensus[j] /= weight
    for j in range(len(covariance)):
        for k in range(dp):
            covariance[j, k] /= weight
            if not about_last:
                covariance[j, k] -= (consensus[j] - center[j]) * (consensus[k] - center[k])


@kernel
def effective_sample_size(alpha, energy, lowest):
    """(sum w)^2 / sum w^2 of the weights exp(-alpha (E - lowest)); inf energies have none."""
    s0 = 0.0
    s1 = 0.0
    for i in range(len(energy)):
        w = exp(-(alpha * (energy[i] - lowest)))
        s0 += w
        s1 += w * w
    return s0 * s0 / s1


@kernel
def ess_alpha(alpha, energy, fraction, smallest, largest):
    """Inverse temperature at which the effective sample size is ``fraction`` of the population.

    Brackets from the last ``alpha``, then bisects log(alpha) until the size is within 1 %.
    """
    lowest = np.inf
    count = 0
    for i in range(len(energy)):
        if energy[i] < np.inf:
            lowest = min(lowest, energy[i])
            count += 1
    if count == 0:
        return alpha
    wanted = max(1.0, fraction * count)
    alpha = min(max(alpha, smallest), largest)
    size = effective_sample_size(alpha, energy, lowest)
    low, high = alpha, alpha
    factor = 1.5
    if size > wanted:  # flatter than wanted: alpha must grow
        while high < largest and effective_sample_size(high, energy, lowest) > wanted:
            low = high
            high = min(high * factor, largest)
            factor *= factor
    else:
        while low > smallest and effective_sample_size(low, energy, lowest) < wanted:
            high = low
            low = max(low / factor, smallest)
            factor *= factor
    for _ in range(60):
        alpha = math.sqrt(low) * math.sqrt(high)
        size = effective_sample_size(alpha, energy, lowest)
        if abs(size - wanted) <= 0.01 * wanted:
            break
        if size > wanted:
            low = alpha
        else:
            high = alpha
    return alpha


@kernel
def cholesky(matrix, factor):
    """Lower factor of a positive semidefinite matrix, transposed: factor^T factor = matrix.

    A pivot lost to rounding (a rank-deficient covariance) leaves its row zero.
    """
    n = len(matrix)
    trace = 0.0
    for j in range(n):
        trace += matrix[j, j]
    factor[:] = 0.0
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= factor[k, j] * factor[k, j]
        if not pivot > 1e-15 * trace:
            continue
        root = math.sqrt(pivot)
        factor[j, j] = root
        for i in range(j + 1, n):
            value = matrix[i, j]
            for k in range(j):
                value -= factor[k, i] * factor[k, j]
            factor[j, i] = value / root
