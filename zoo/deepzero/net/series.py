"""The loss as a function of one number before the last layer.

Where a parameter moves a single number of a sample, by s, and the last layer's weights of it are w,
the logits move by s w, and the loss by a function of s alone: the cumulants of w under the
probabilities p, k_1, k_2, ..., are the coefficients of its series,

    log sum_c p_c exp(s w_c) - s w_y = s (k_1 - w_y) + s^2 k_2/2! + s^3 k_3/3! + s^4 k_4/4! + ...

so that all parameters of a unit share them, and none of them passes through a layer.
"""

from __future__ import annotations

import math

from zoo.deepzero.net import columns as col
from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, head, load, spread, total

#: The series holds while s times half the range of w is at most this: the first term that is left
#: out is then below 1e-6 of the first one.
_HOLDS = 0.05


@kernel
def cumulants(stage, c, cache, series, n):
    """Coefficients for input c of the last layer, in four rows; returns the largest s."""
    p, y, theta = cache.p, cache.y, cache.theta
    classes, fan, at = stage[col.C], stage[col.CIN], stage[col.WEIGHT] + c
    real = series.dtype.type
    low = high = theta[at]
    for q in range(4):
        for b in range(n):
            series[q, b] = real(0)
    for m in range(classes):
        w = theta[at + m * fan]
        low, high = min(low, w), max(high, w)
        for b in range(n):
            series[0, b] += p[m, b] * w
    for m in range(classes):  # moments about the mean
        w = theta[at + m * fan]
        for b in range(n):
            d = w - series[0, b]
            square = p[m, b] * d * d
            series[1, b] += square
            series[2, b] += square * d
            series[3, b] += square * d * d
    for b in range(n):
        two = series[1, b]
        series[3, b] = (series[3, b] - real(3) * two * two) * real(1.0 / 24.0)
        series[2, b] *= real(1.0 / 6.0)
        series[1, b] *= real(0.5)
        series[0, b] -= theta[at + y[b] * fan]
    half = 0.5 * (high - low)
    return _HOLDS / half if half > 0.0 else math.inf


@inlined
def _term(s, series, b):
    """The series at s."""
    high = fma(s, load(series, (3, b)), load(series, (2, b)))
    return s * fma(s, fma(s, high, load(series, (1, b))), load(series, (0, b)))


@kernel
def by_change(da, r, series, n):
    """Sum of the changes of the losses from those of one input of the last layer, row r."""
    sum_ = spread(da.dtype.type(0))
    for b in range(0, n, LANES):
        sum_ += head(_term(load(da, (r, b)), series, b), n - b)
    return float(total(sum_))


@kernel
def rectified(stage):
    """Whether a stage is one of rectified units, that see no padding, and nothing else."""
    single = stage[col.HCONV] * stage[col.WCONV] == 1 and stage[col.PADDING] == 0
    return (
        single and stage[col.ACTIVATION] == 1 and stage[col.GAMMA] < 0 and stage[col.SHORTCUT] < 0
    )


@kernel
def bend(stage, c, cache, bent, n):
    """Parts of a rectified unit's change: max(du + bent_0, bent_1)."""
    r, zero = stage[col.U_AT] + c, bent.dtype.type(0)
    for b in range(n):
        bent[0, b] = min(cache.u[r, b], zero)
        bent[1, b] = -max(cache.u[r, b], zero)


@kernel
def by_weight(a, r, mu, bent, series, n):
    """Sum of the changes of the losses from the weight of input row r of a rectified unit."""
    sum_ = spread(a.dtype.type(0))
    for b in range(0, n, LANES):
        du = fma(load(a, (r, b)), mu, load(bent, (0, b)))
        sum_ += head(_term(max(du, load(bent, (1, b))), series, b), n - b)
    return float(total(sum_))
