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
from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, head, load, spread, store, total


@kernel
def normalize_change(stage, c, dz, first, z, inverses, theta, n):
    """Change of a channel's normalization from that of its convolution, in place."""
    pixels = stage[col.HCONV] * stage[col.WCONV]
    at = stage[col.Z_AT] + c * pixels
    zero = spread(dz.dtype.type(0))
    one, mixed, two = 0.0, 0.0, 0.0  # sums of dz, z dz and dz^2
    for r in range(pixels):
        ones, products, squares = zero, zero, zero
        for b in range(0, n, LANES):
            d = head(load(dz, (first + r, b)), n - b)
            ones, squares = ones + d, fma(d, d, squares)
            products = fma(d, load(z, (at + r, b)), products)
        one, mixed, two = one + total(ones), mixed + total(products), two + total(squares)
    mean = one / (pixels * n)
    inverse = inverses[stage[col.CHANNEL_AT] + c]
    q = ((2.0 * mixed + two) / (pixels * n) - mean * mean) * inverse * inverse
    root = math.sqrt(max(1.0 + q, EPS * inverse * inverse))  # the new variance may round below 0
    before = theta[stage[col.GAMMA] + c] * inverse
    change = -before * q / (root * (1.0 + root))
    after, shift = before + change, (before + change) * mean
    for r in range(pixels):
        for b in range(0, n, LANES):
            scaled = fma(load(z, (at + r, b)), change, -shift)
            store(dz, (first + r, b), fma(load(dz, (first + r, b)), after, scaled))


@kernel
def _bend_change(du, u, r, n, kind, levels):
    """Change of an activation of another kind than relu, in place of that of row r of u."""
    one, zero = u.dtype.type(1), u.dtype.type(0)
    if kind == 2:
        for b in range(n):
            a, t = math.tanh(u[r, b]), math.tanh(du[0, b])
            if abs(t) < 0.5:
                du[0, b] = t * (one - a * a) / (one + a * t)
            else:
                du[0, b] = math.tanh(u[r, b] + du[0, b]) - a
    elif kind == 3:
        for b in range(n):
            before = one if u[r, b] > zero else zero
            du[0, b] = (one if u[r, b] + du[0, b] > zero else zero) - before
    elif kind == 4:
        many = u.dtype.type(levels)
        for b in range(n):
            before = np.rint(min(max(u[r, b], zero), one) * many)
            du[0, b] = (np.rint(min(max(u[r, b] + du[0, b], zero), one) * many) - before) / many


@kernel
def activate_change(stage, begin, end, du, u, gap, da, t, n):
    """Changes of the activations of the channels ``begin <= c < end``.

    du has the changes of what goes into their pooling, from its first row on.
    """
    size, high, wide = stage[col.MAXPOOL], stage[col.AVERAGE_H], stage[col.AVERAGE_W]
    hpool, wpool, wconv = stage[col.HPOOL], stage[col.WPOOL], stage[col.WCONV]
    pixels, rows = stage[col.HCONV] * wconv, stage[col.H] * stage[col.W]
    kind, levels = stage[col.ACTIVATION], stage[col.LEVELS]
    averaged, share = high * wide > 1, 1.0 / (high * wide)
    for c in range(begin, end):
        out = stage[col.OUT_AT] + c * rows
        if averaged:
            for q in range(out, out + rows):
                for b in range(0, n, LANES):
                    store(da, (q, b), 0.0)
        for y in range(stage[col.H] * high):
            for x in range(stage[col.W] * wide):
                at = y * size * wconv + x * size
                own, g = (c - begin) * pixels + at, stage[col.GAP_AT] + c * pixels + at
                r = stage[col.U_AT] + (c * hpool + y) * wpool + x
                q = out + (y // high * stage[col.W] + x // wide if averaged else y * wpool + x)
                for b in range(0, n, LANES):
                    change = load(du, (own, b))
                    if size > 1:
                        change += load(gap, (g, b))
                        for i in range(0, size * wconv, wconv):
                            for k in range(i, i + size):
                                pixel = load(du, (own + k, b)) + load(gap, (g + k, b))
                                change = max(change, pixel)
                    if kind == 1:
                        before = load(u, (r, b))
                        change = max(0.0 - max(before, 0.0), change + min(before, 0.0))
                    if kind > 1:
                        store(t, (0, b), change)
                    elif averaged:
                        store(da, (q, b), fma(change, share, load(da, (q, b))))
                    else:
                        store(da, (q, b), change)
                if kind > 1:
                    _bend_change(t, u, r, n, kind, levels)
                    for b in range(0, n, LANES):
                        change = load(t, (0, b))
                        if averaged:
                            change = fma(change, share, load(da, (q, b)))
                        store(da, (q, b), change)


@inlined
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
        activate_change(stage, 0, stage[col.C], dz, u, gap, da, t, n)
