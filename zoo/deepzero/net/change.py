"""What a change of one channel does to the loss: only what changes is computed.

A changed parameter changes one channel; the next convolution changes by that channel's part alone,
and from there on everything does. Every step gives the change of its result from the change of its
argument in a form that subtracts no two numbers that are nearly equal, so single precision is
enough for changes of any size:

    relu      max(u + du, 0) - max(u, 0)          = max(du + min(u, 0), -max(u, 0))
    maxpool   max_k (u_k + du_k) - max_k u_k      = max_k (du_k + (u_k - max u))
    tanh      tanh(u + du) - tanh u               = t (1 - a^2)/(1 + a t), t = tanh du, a = tanh u
              (but as it stands where t is large: 1 + a t may be 0)
    batchnorm A' (dz - mean dz) + (A' - A) zc, where A = gamma/s, A'/A - 1 = -q/(r (1 + r)),
              r = sqrt(1 + q), q = (s'^2 - s^2)/s^2, and zc = z - mean z
"""

from __future__ import annotations

import math

import numpy as np

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.forward import EPS, add_shortcut, convolve
from zoo.jit import kernel, relaxed


@relaxed
def _products(dz, r, z, q, n):
    """Sums of dz, z dz and dz^2 over a row."""
    zero = dz.dtype.type(0)
    one, mixed, two = zero, zero, zero
    for b in range(n):
        d = dz[r, b]
        one += d
        mixed += z[q, b] * d
        two += d * d
    return one, mixed, two


@kernel
def normalize_change(stage, c, dz, first, z, inverses, theta, n):
    """Change of a channel's normalization from that of its convolution, in place."""
    pixels = stage[col.HCONV] * stage[col.WCONV]
    at = stage[col.Z_AT] + c * pixels
    one, mixed, two = 0.0, 0.0, 0.0
    for r in range(pixels):
        a, b, d = _products(dz, first + r, z, at + r, n)
        one, mixed, two = one + a, mixed + b, two + d
    mean = one / (pixels * n)
    inverse = inverses[stage[col.CHANNEL_AT] + c]
    q = ((2.0 * mixed + two) / (pixels * n) - mean * mean) * inverse * inverse
    root = math.sqrt(max(1.0 + q, EPS * inverse * inverse))  # the new variance may round below 0
    before = theta[stage[col.GAMMA] + c] * inverse
    change = -before * q / (root * (1.0 + root))
    real = dz.dtype.type
    after, slope, shift = real(before + change), real(change), real((before + change) * mean)
    for r in range(pixels):
        for b in range(n):
            dz[first + r, b] = after * dz[first + r, b] + slope * z[at + r, b] - shift


@kernel
def _activate_change(du, q, u, r, n, kind, levels, da, to):
    """Row ``to`` of da from rows of u and du."""
    one, zero = u.dtype.type(1), u.dtype.type(0)
    if kind == 1:
        for b in range(n):
            da[to, b] = max(du[q, b] + min(u[r, b], zero), -max(u[r, b], zero))
    elif kind == 2:
        for b in range(n):
            a, t = math.tanh(u[r, b]), math.tanh(du[q, b])
            if abs(t) < 0.5:
                da[to, b] = t * (one - a * a) / (one + a * t)
            else:
                da[to, b] = math.tanh(u[r, b] + du[q, b]) - a
    elif kind == 3:
        for b in range(n):
            before = one if u[r, b] > zero else zero
            da[to, b] = (one if u[r, b] + du[q, b] > zero else zero) - before
    elif kind == 4:
        many = u.dtype.type(levels)
        for b in range(n):
            before = np.rint(min(max(u[r, b], zero), one) * many)
            da[to, b] = (np.rint(min(max(u[r, b] + du[q, b], zero), one) * many) - before) / many
    else:
        for b in range(n):
            da[to, b] = du[q, b]


@kernel
def activate_change(stage, c, du, first, u, gap, da, t, n):
    """Change of channel c's activation from that of what goes into its pooling."""
    size, high, wide = stage[col.MAXPOOL], stage[col.AVERAGE_H], stage[col.AVERAGE_W]
    hpool, wpool, wconv = stage[col.HPOOL], stage[col.WPOOL], stage[col.WCONV]
    share = da.dtype.type(1.0 / (high * wide))
    if high * wide > 1:
        for q in range(stage[col.H] * stage[col.W]):
            r = stage[col.OUT_AT] + c * stage[col.H] * stage[col.W] + q
            for b in range(n):
                da[r, b] = da.dtype.type(0)
    for y in range(hpool):
        for x in range(wpool):
            source, row = du, first + y * wconv + x
            if size > 1:
                at = y * size * wconv + x * size
                g = stage[col.GAP_AT] + c * stage[col.HCONV] * wconv + at
                for b in range(n):
                    t[0, b] = du[first + at, b] + gap[g, b]
                for i in range(1, size * size):
                    k = i // size * wconv + i % size
                    for b in range(n):
                        t[0, b] = max(t[0, b], du[first + at + k, b] + gap[g + k, b])
                source, row = t, 0
            r = stage[col.U_AT] + (c * hpool + y) * wpool + x
            yy, xx = y // high, x // wide
            if yy >= stage[col.H] or xx >= stage[col.W]:
                continue
            q = stage[col.OUT_AT] + (c * stage[col.H] + yy) * stage[col.W] + xx
            kind, levels = stage[col.ACTIVATION], stage[col.LEVELS]
            if high * wide == 1:
                _activate_change(source, row, u, r, n, kind, levels, da, q)
                continue
            _activate_change(source, row, u, r, n, kind, levels, t, 1)
            for b in range(n):
                da[q, b] += t[1, b] * share


@kernel
def follow(table, k, channel, cache, scratch, n):
    """Changes of the logits, the first rows of ``scratch.dz``.

    ``scratch.da`` has those of one channel of stage k's activation; there is a stage after it.
    """
    # Arrays one by one: a call that is given all of them at once takes as long as its work.
    da, dz, t, start = scratch.da, scratch.dz, scratch.t, scratch.start
    u, gap = cache.u, cache.gap
    source, tap = scratch.source, scratch.tap
    last = len(table) - 1
    for m in range(k + 1, last + 1):
        stage = table[m]
        begin, end = (channel, channel + 1) if m == k + 1 else (0, stage[col.CIN])
        x_at, theta = stage[col.IN_AT], cache.theta
        convolve(stage, da, x_at, begin, end, dz, 0, theta, start, 0, source, tap, n)
        if m == last:
            return
        pixels = stage[col.HCONV] * stage[col.WCONV]
        for c in range(stage[col.C]):
            if stage[col.GAMMA] >= 0:
                normalize_change(stage, c, dz, c * pixels, cache.z, cache.inverse, theta, n)
            if stage[col.SHORTCUT] > k:  # its source has changed: one channel of it, or all
                only = channel if stage[col.SHORTCUT] == k + 1 else -1
                add_shortcut(stage, c, da, only, dz, c * pixels, n)
            activate_change(stage, c, dz, c * pixels, u, gap, da, t, n)
