"""Passes over a batch.

In training, batch normalization takes the batch's own mean and variance (Ioffe and Szegedy 2015);
a pass leaves behind what changes of single parameters need to start from.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.loss import softmax
from zoo.deepzero.net.tile import sums
from zoo.jit import borrowed, kernel
from zoo.lanes import LANES, fma, head, load, spread, store, total

#: Added to a variance.
EPS = 1e-5


@kernel
def convolve(stage, x, x_at, first, last, out, out_at, theta, start, start_at, source, tap, n):
    """Rows of a convolution of the channels ``first <= c < last`` of x.

    Output channel c starts from ``start[start_at + c]``; taps that fall outside of the map are
    zero, and are left out.
    """
    hin, win, hout, wout = stage[col.HIN], stage[col.WIN], stage[col.HCONV], stage[col.WCONV]
    kh, kw, stride, padding = stage[col.KH], stage[col.KW], stage[col.STRIDE], stage[col.PADDING]
    fan = stage[col.CIN] * kh * kw
    for y in range(hout):
        for z in range(wout):
            count = 0
            for c in range(first, last):
                for i in range(kh):
                    yy = y * stride + i - padding
                    if 0 <= yy < hin:
                        for j in range(kw):
                            xx = z * stride + j - padding
                            if 0 <= xx < win:
                                source[count] = x_at + (c * hin + yy) * win + xx
                                tap[count] = (c * kh + i) * kw + j
                                count += 1
            sums(
                out, out_at + y * wout + z, hout * wout, stage[col.C],
                x, source, tap, count, theta, stage[col.WEIGHT], fan, start, start_at, n,
            )  # fmt: skip


@kernel
def _centre(z, first, pixels, n):
    """Subtract the mean of a channel's rows from them; returns mean and variance."""
    zero = spread(z.dtype.type(0))
    sums_, squares = 0.0, 0.0
    for r in range(first, first + pixels):
        row = zero
        for b in range(0, n, LANES):
            row += head(load(z, (r, b)), n - b)
        sums_ += total(row)
    mean = sums_ / (pixels * n)
    for r in range(first, first + pixels):
        row = zero
        for b in range(0, n, LANES):
            centred = load(z, (r, b)) - mean
            store(z, (r, b), centred)
            centred = head(centred, n - b)
            row = fma(centred, centred, row)
        squares += total(row)
    return mean, squares / (pixels * n)


@kernel
def _subtract(z, first, pixels, n, mean):
    shift = z.dtype.type(mean)
    for r in range(first, first + pixels):
        for b in range(n):
            z[r, b] -= shift


@kernel
def _activate(u, r, n, kind, levels, a, q):
    """Row q of a: the activation of row r of u."""
    one, zero = u.dtype.type(1), u.dtype.type(0)
    if kind == 1:
        for b in range(n):
            a[q, b] = max(u[r, b], zero)
    elif kind == 2:
        for b in range(n):
            a[q, b] = math.tanh(u[r, b])
    elif kind == 3:
        for b in range(n):
            a[q, b] = one if u[r, b] > zero else zero
    elif kind == 4:
        many = u.dtype.type(levels)
        for b in range(n):
            a[q, b] = np.rint(min(max(u[r, b], zero), one) * many) / many
    else:
        for b in range(n):
            a[q, b] = u[r, b]


@kernel
def add_shortcut(stage, c, a, only, out, out_at, n):
    """Add the shortcut to the rows of channel c before pooling.

    ``only`` is the one channel of it that is not zero, -1: all of them.
    """
    source = c - stage[col.SHORTCUT_CHANNEL]
    if source < 0 or source >= stage[col.SHORTCUT_C] or only not in (-1, source):
        return
    high, wide, step = stage[col.SHORTCUT_H], stage[col.SHORTCUT_W], stage[col.SHORTCUT_STRIDE]
    for y in range(stage[col.HCONV]):
        for x in range(stage[col.WCONV]):
            q = out_at + y * stage[col.WCONV] + x
            r = stage[col.SHORTCUT_AT] + (source * high + y * step) * wide + x * step
            for b in range(n):
                out[q, b] += a[r, b]


@kernel
def _pool(stage, c, pre, pre_at, gap, u, n):
    """Maxima of the windows of channel c, and how far below them each pixel is."""
    wconv, size = stage[col.WCONV], stage[col.MAXPOOL]
    for y in range(stage[col.HPOOL]):
        for x in range(stage[col.WPOOL]):
            r = stage[col.U_AT] + (c * stage[col.HPOOL] + y) * stage[col.WPOOL] + x
            first = y * size * wconv + x * size
            for b in range(n):
                u[r, b] = pre[pre_at + first, b]
            for i in range(size * size if size > 1 else 0):
                q = pre_at + first + i // size * wconv + i % size
                for b in range(n):
                    u[r, b] = max(u[r, b], pre[q, b])
            for i in range(size * size if size > 1 else 0):
                q = first + i // size * wconv + i % size
                g = stage[col.GAP_AT] + c * stage[col.HCONV] * wconv + q
                for b in range(n):
                    gap[g, b] = pre[pre_at + q, b] - u[r, b]


@kernel
def _average(stage, c, a, u, free, r, n):
    """Activation of channel c; row r of ``free`` may be used."""
    high, wide = stage[col.AVERAGE_H], stage[col.AVERAGE_W]
    share = a.dtype.type(1.0 / (high * wide))
    for y in range(stage[col.H]):
        for x in range(stage[col.W]):
            q = stage[col.OUT_AT] + (c * stage[col.H] + y) * stage[col.W] + x
            first = (
                stage[col.U_AT] + (c * stage[col.HPOOL] + y * high) * stage[col.WPOOL] + x * wide
            )
            if high * wide == 1:
                _activate(u, first, n, stage[col.ACTIVATION], stage[col.LEVELS], a, q)
                continue
            for b in range(n):
                a[q, b] = a.dtype.type(0)
            for i in range(high * wide):
                at = first + i // wide * stage[col.WPOOL] + i % wide
                _activate(u, at, n, stage[col.ACTIVATION], stage[col.LEVELS], free, r)
                for b in range(n):
                    a[q, b] += free[r, b] * share


@kernel
def _stage(stage, cache, scratch, n, training):
    """Pass through one stage."""
    theta, z, dz = cache.theta, cache.z, scratch.dz
    pixels = stage[col.HCONV] * stage[col.WCONV]
    normalized = stage[col.GAMMA] >= 0
    to, at = (z, stage[col.Z_AT]) if normalized else (dz, 0)
    start, start_at = (theta, stage[col.BIAS]) if stage[col.BIAS] >= 0 else (scratch.start, 0)
    convolve(
        stage, cache.a, stage[col.IN_AT], 0, stage[col.CIN], to, at, theta, start, start_at,
        scratch.source, scratch.tap, n,
    )  # fmt: skip
    for c in range(stage[col.C]):
        first = c * pixels
        if normalized:
            k = stage[col.CHANNEL_AT] + c
            if training:
                cache.moments[k, 0], cache.moments[k, 1] = _centre(z, at + first, pixels, n)
            else:
                _subtract(z, at + first, pixels, n, cache.moments[k, 0])
            variance = cache.moments[k, 1]
            cache.inverse[k] = 1.0 / math.sqrt(variance + EPS) if variance < math.inf else math.nan
            scale = z.dtype.type(theta[stage[col.GAMMA] + c] * cache.inverse[k])
            beta = theta[stage[col.BETA] + c]
            for r in range(first, first + pixels):
                for b in range(n):
                    dz[r, b] = scale * z[at + r, b] + beta
        if stage[col.SHORTCUT] >= 0:
            add_shortcut(stage, c, cache.a, -1, dz, first, n)
        _pool(stage, c, dz, first, cache.gap, cache.u, n)
        _average(stage, c, cache.a, cache.u, dz, first, n)


@kernel
def forward(table, cache, scratch, n, training):
    """Pass of the first n columns of the input through the network.

    Parameters
    ----------
    table, cache, scratch
        Of :class:`zoo.deepzero.net.plan.Plan`; the input is in the first rows of ``cache.a``.
    n : int
    training : bool
        Normalize by the batch; if not, by ``cache.moments``.

    Returns
    -------
    total, right : float, int
        Sum of the cross-entropies, and how many labels have the largest probability; the first
        of several is the one that has.
    """
    cache, scratch = borrowed(cache), borrowed(scratch)
    for k in range(len(table)):
        _stage(table[k], cache, scratch, n, training)
    return softmax(cache.a, table[len(table) - 1, col.OUT_AT], cache, scratch.mass, n)
