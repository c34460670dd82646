"""Between two supersteps on a GPU: what a block of threads does with a run's sums.

The functions are those of :mod:`zoo.cbo.consensus` and :mod:`zoo.cbo.advance`, with the work shared
by all threads of the block; additions are in another order, and the rest is the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.advance import measured, schedule, stop_or_kick, tally
from zoo.cbo.device.shape import Shape
from zoo.cuda import block_lowest, block_total, cuda, device_function

_tally, _measured = device_function(tally), device_function(measured)
_schedule, _stop_or_kick = device_function(schedule), device_function(stop_or_kick)


@cuda.jit(device=True)
def _merge(about_last, weight, moment, second, c, covariance):
    """Consensus and covariance from the sums of all particles; see consensus.merge."""
    me, wide, dp = cuda.threadIdx.x, cuda.blockDim.x, len(c)
    for e in range(me, covariance.size, wide):
        j, k = e // dp, e % dp
        if k <= j:
            value = second[j, k] / weight
            if not about_last:
                value -= (moment[j] / weight - c[j]) * (moment[k] / weight - c[k])
            covariance[j, k] = value
            covariance[k, j] = value
    cuda.syncthreads()
    for j in range(me, dp, wide):
        c[j] = moment[j] / weight
    cuda.syncthreads()


@cuda.jit(device=True)
def _cholesky(matrix, factor):
    """Transposed lower factor of a positive semidefinite matrix; see consensus.cholesky."""
    me, wide, n = cuda.threadIdx.x, cuda.blockDim.x, len(matrix)
    trace = 0.0
    for j in range(n):
        trace += matrix[j, j]
    for e in range(me, n * n, wide):
        j, i = e // n, e % n
        factor[j, i] = matrix[i, j] if i >= j else 0.0
    cuda.syncthreads()
    for j in range(n):
        pivot = factor[j, j]
        kept = pivot > 1e-15 * trace
        cuda.syncthreads()
        root = math.sqrt(pivot) if kept else 1.0
        for i in range(j + me, n, wide):
            if not kept:
                factor[j, i] = 0.0
            elif i == j:
                factor[j, i] = root
            else:
                factor[j, i] /= root
        cuda.syncthreads()
        left = n - j - 1
        if kept:
            for e in range(me, left * left, wide):
                i, k = j + 1 + e // left, j + 1 + e % left
                if k >= i:
                    factor[i, k] -= factor[j, i] * factor[j, k]
        cuda.syncthreads()


@cuda.jit(device=True)
def _size(alpha, energy, lowest, scratch):
    """Effective sample size; see consensus.effective_sample_size."""
    s0, s1 = 0.0, 0.0
    for i in range(cuda.threadIdx.x, len(energy), cuda.blockDim.x):
        w = math.exp(-(alpha * (energy[i] - lowest)))
        s0 += w
        s1 += w * w
    s0 = block_total(s0, scratch)
    s1 = block_total(s1, scratch)
    return s0 * s0 / s1


@cuda.jit(device=True)
def _ess_alpha(alpha, energy, fraction, smallest, largest, scratch, places):
    """Alpha of an effective sample size; see consensus.ess_alpha."""
    mine, count = np.inf, 0.0
    for i in range(cuda.threadIdx.x, len(energy), cuda.blockDim.x):
        if energy[i] < np.inf:
            mine = min(mine, energy[i])
            count += 1.0
    lowest, _ = block_lowest(mine, np.int64(0), scratch, places)
    count = block_total(count, scratch)
    if count == 0.0:
        return alpha
    wanted = max(1.0, fraction * count)
    alpha = min(max(alpha, smallest), largest)
    low, high, factor = alpha, alpha, 1.5
    if _size(alpha, energy, lowest, scratch) > wanted:  # flatter than wanted: alpha must grow
        while high < largest and _size(high, energy, lowest, scratch) > wanted:
            low = high
            high = min(high * factor, largest)
            factor *= factor
    else:
        while low > smallest and _size(low, energy, lowest, scratch) < wanted:
            high = low
            low = max(low / factor, smallest)
            factor *= factor
    for _ in range(60):
        alpha = math.sqrt(low) * math.sqrt(high)
        size = _size(alpha, energy, lowest, scratch)
        if abs(size - wanted) <= 0.01 * wanted:
            break
        if size > wanted:
            low = alpha
        else:
            high = alpha
    return alpha


def advance_of(shape: Shape) -> Any:
    """Device function that closes a superstep; see :func:`zoo.cbo.advance.advance`."""
    affine, ess = shape.noise == dy.COVARIANCE, shape.ess

    @cuda.jit(device=True)
    def advance(p, run, sums, energies, c, covariance, factor, best_x, scratch, places):
        first = cuda.threadIdx.x == 0
        head = sums.head[0]
        moved, phase = head.moved, run.phase
        if first:
            _tally(run, sums, best_x)
        cuda.syncthreads()
        if phase == st.MEASURE:
            if first:
                _measured(run, c, best_x)
            cuda.syncthreads()
            return
        known = run.best < np.inf
        if known:
            if head.lowest < np.inf:
                about_last = p.about_last > 0 and phase == st.MOVE
                moment, second = sums.first_moment[0], sums.second_moment[0]
                _merge(about_last, head.weight, moment, second, c, covariance)
            if affine:
                _cholesky(covariance, factor)
            if first and phase == st.MOVE:
                _schedule(p, run, head.squares, moved)
            cuda.syncthreads()
            if ess and phase != st.WEIGH:
                most = p.alpha_max
                alpha = _ess_alpha(run.alpha, energies, p.ess, 1e-30, most, scratch, places)
                cuda.syncthreads()
                if first:
                    run.alpha = alpha
        if first:
            if known:
                run.phase = st.WEIGH if p.ess > 0.0 and phase == st.SCATTER else st.MOVE
            else:  # nothing finite yet: scatter anew
                run.step += 1
            _stop_or_kick(p, run, moved > 0)
        cuda.syncthreads()

    return advance
