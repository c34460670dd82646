"""Coordinatewise gradient estimates (CGE), by what each coordinate changes.

    g_i = [l(theta + mu e_i) - l(theta)]/mu         (DeepZero, Chen et al. 2024, eq. 2)

or the central [l(theta + mu e_i) - l(theta - mu e_i)]/(2 mu). A parameter of the last layer moves a
single logit, one of the layer before it a single input of the last one, if that is all its map is:
neither needs a pass through any layer.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.change import activate_change, follow, normalize_change
from zoo.deepzero.net.loss import change_of_logit, loss_change
from zoo.deepzero.net.series import bend, by_change, by_weight, cumulants, largest, rectified
from zoo.jit import borrowed, kernel, relaxed


@kernel
def _shift_weight(stage, i, j, cin, a, mu, dz, n):
    """Change of a channel's convolution from that of one weight: input channel cin, tap (i, j)."""
    hin, win, stride, padding = (
        stage[col.HIN],
        stage[col.WIN],
        stage[col.STRIDE],
        stage[col.PADDING],
    )
    step = dz.dtype.type(mu)
    for y in range(stage[col.HCONV]):
        yy = y * stride + i - padding
        for x in range(stage[col.WCONV]):
            xx = x * stride + j - padding
            r = y * stage[col.WCONV] + x
            if 0 <= yy < hin and 0 <= xx < win:
                q = stage[col.IN_AT] + (cin * hin + yy) * win + xx
                for b in range(n):
                    dz[r, b] = step * a[q, b]
            else:
                for b in range(n):
                    dz[r, b] = dz.dtype.type(0)


@kernel
def _shift_all(stage, dz, mu, n):
    step = dz.dtype.type(mu)
    for r in range(stage[col.HCONV] * stage[col.WCONV]):
        for b in range(n):
            dz[r, b] = step


@kernel
def _shift_gamma(stage, c, cache, dz, mu, n):
    """Change of a channel's normalization from that of its gamma."""
    pixels = stage[col.HCONV] * stage[col.WCONV]
    step = dz.dtype.type(mu * cache.inverse[stage[col.CHANNEL_AT] + c])
    for r in range(pixels):
        for b in range(n):
            dz[r, b] = step * cache.z[stage[col.Z_AT] + c * pixels + r, b]


@kernel
def located(stage, i):
    """Channel, input channel and tap of parameter i; the input channel is -1 for a bias.

    -2 is gamma, and -3 beta.
    """
    if stage[col.BETA] >= 0 and i >= stage[col.BETA]:
        return i - stage[col.BETA], -3, 0, 0
    if stage[col.GAMMA] >= 0 and i >= stage[col.GAMMA]:
        return i - stage[col.GAMMA], -2, 0, 0
    if stage[col.BIAS] >= 0 and i >= stage[col.BIAS]:
        return i - stage[col.BIAS], -1, 0, 0
    taps = stage[col.KH] * stage[col.KW]
    c, rest = divmod(i - stage[col.WEIGHT], stage[col.CIN] * taps)
    cin, tap = divmod(rest, taps)
    return c, cin, tap // stage[col.KW], tap % stage[col.KW]


@kernel
def change_own(stage, i, mu, cache, scratch, n):
    """Change of its channel's activation from a change mu of parameter i; returns the channel."""
    c, cin, y, x = located(stage, i)
    dz = scratch.dz
    if cin >= 0:
        _shift_weight(stage, y, x, cin, cache.a, mu, dz, n)
    elif cin == -2:
        _shift_gamma(stage, c, cache, dz, mu, n)
    else:
        _shift_all(stage, dz, mu, n)
    if stage[col.GAMMA] >= 0 and cin >= -1:
        normalize_change(stage, c, dz, 0, cache.z, cache.inverse, cache.theta, n)
    activate_change(stage, c, dz, 0, cache.u, cache.gap, scratch.da, scratch.t, n)
    return c


@relaxed
def _total(mass, n):
    total = 0.0
    for b in range(n):
        total += mass[b]
    return total


@kernel
def _change_last(stage, i, mu, cache, scratch, n):
    """Sum of the changes of the losses from a parameter of the last layer."""
    mass = scratch.mass
    c, cin, i, j = located(stage, i)
    if cin >= 0:
        q = stage[col.IN_AT] + (cin * stage[col.HIN] + i) * stage[col.WIN] + j
        for b in range(n):
            mass[b] = mu * np.float64(cache.a[q, b])
    else:
        for b in range(n):
            mass[b] = mu
    change_of_logit(c, stage[col.OUT_AT], cache, mass, n)
    return _total(mass, n)


@kernel
def _change(table, k, i, mu, reach, widest, cache, scratch, n):
    """Sum of the changes of the losses when parameter i, of stage k, grows by mu.

    ``reach`` is the largest change that the unit's series holds for, and ``widest`` the largest
    input of a rectified unit; see :mod:`zoo.deepzero.net.series`.
    """
    stage, last = table[k], len(table) - 1
    if k == last:
        return _change_last(stage, i, mu, cache, scratch, n)
    c, cin, y, x = located(stage, i)
    if cin >= 0 and widest < math.inf and abs(mu) * widest <= reach:
        pixel = y * stage[col.WIN] + x
        return by_weight(stage, cin, pixel, mu, cache, scratch.bent, scratch.series, n)
    change_own(stage, i, mu, cache, scratch, n)
    pixels = stage[col.H] * stage[col.W]
    r = stage[col.OUT_AT] + c * pixels
    most = largest(scratch.da, r, pixels, n)
    if most == 0.0:  # its unit is dead, or its inputs are zero
        return 0.0
    if most <= reach:
        return by_change(scratch.da, r, scratch.series, n)
    follow(table, k, c, cache, scratch, n)
    loss_change(scratch.dz, table[last, col.OUT_AT], cache, scratch, n)
    return _total(scratch.mass, n)


@kernel
def cge(table, cache, scratch, coordinates, mu, central, g, n):
    """Estimate the derivatives of the mean loss by some coordinates.

    Parameters
    ----------
    table, cache, scratch
        After :func:`zoo.deepzero.net.forward.forward` with these n samples.
    coordinates : int64 array
        In ascending order.
    mu : float
    central : bool
    g : float64 array
        Receives the derivatives, in the same order.
    n : int
    """
    cache, scratch = borrowed(cache), borrowed(scratch)
    k, last, unit, reach, widest = -1, len(table) - 1, -1, 0.0, math.inf
    for at in range(len(coordinates)):
        i = coordinates[at]
        while k < last and table[k + 1, col.WEIGHT] <= i:
            k, unit, reach, widest = k + 1, -1, 0.0, math.inf
        stage = table[k]
        if k == last - 1 and stage[col.H] * stage[col.W] == 1:
            if unit < 0 and rectified(stage):
                inputs = stage[col.CIN] * stage[col.HIN] * stage[col.WIN]
                widest = float(largest(cache.a, stage[col.IN_AT], inputs, n))
            c = located(stage, i)[0]
            if c != unit:
                unit = c
                reach = cumulants(table[last], c, cache, scratch.series, n)
                if rectified(stage):
                    bend(stage, c, cache, scratch.bent, n)
        change = _change(table, k, i, mu, reach, widest, cache, scratch, n)
        if central:
            back = _change(table, k, i, -mu, reach, widest, cache, scratch, n)
            change = 0.5 * (change - back)
        g[at] = change / (mu * n)
