"""Coordinatewise gradient estimates (CGE), by what each coordinate changes.

    g_i = [l(theta + mu e_i) - l(theta)]/mu         (DeepZero, Chen et al. 2024, eq. 2)

or the central [l(theta + mu e_i) - l(theta - mu e_i)]/(2 mu). A parameter of the last layer moves a
single logit, one of the layer before it a single input of the last one, if that is all its map is:
neither needs a pass through any layer.
"""

from __future__ import annotations

import math

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.change import activate_change, follow, normalize_change
from zoo.deepzero.net.loss import change_of_logit, largest, loss_change, row_total
from zoo.deepzero.net.series import bend, by_change, by_weight, cumulants, rectified
from zoo.jit import borrowed, inlined, kernel
from zoo.lanes import LANES, load, store


@kernel
def _shift_weight(stage, i, j, cin, a, mu, dz, n):
    """Change of a channel's convolution from that of one weight: input channel cin, tap (i, j)."""
    hin, win, stride, padding = (
        stage[col.HIN],
        stage[col.WIN],
        stage[col.STRIDE],
        stage[col.PADDING],
    )
    for y in range(stage[col.HCONV]):
        yy = y * stride + i - padding
        for x in range(stage[col.WCONV]):
            xx = x * stride + j - padding
            r = y * stage[col.WCONV] + x
            if 0 <= yy < hin and 0 <= xx < win:
                q = stage[col.IN_AT] + (cin * hin + yy) * win + xx
                for b in range(0, n, LANES):
                    store(dz, (r, b), load(a, (q, b)) * mu)
            else:
                for b in range(0, n, LANES):
                    store(dz, (r, b), 0.0)


@kernel
def _shift_all(stage, dz, mu, n):
    for r in range(stage[col.HCONV] * stage[col.WCONV]):
        for b in range(0, n, LANES):
            store(dz, (r, b), mu)


@kernel
def _shift_gamma(stage, c, z, inverses, dz, mu, n):
    """Change of a channel's normalization from that of its gamma."""
    pixels = stage[col.HCONV] * stage[col.WCONV]
    first, step = stage[col.Z_AT] + c * pixels, mu * inverses[stage[col.CHANNEL_AT] + c]
    for r in range(pixels):
        for b in range(0, n, LANES):
            store(dz, (r, b), load(z, (first + r, b)) * step)


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


@inlined
def _change_own(stage, c, cin, y, x, mu, cache, scratch, n):
    """Change of channel c's activation from that of one of its parameters."""
    dz = scratch.dz
    if cin >= 0:
        _shift_weight(stage, y, x, cin, cache.a, mu, dz, n)
    elif cin == -2:
        _shift_gamma(stage, c, cache.z, cache.inverse, dz, mu, n)
    else:
        _shift_all(stage, dz, mu, n)
    if stage[col.GAMMA] >= 0 and cin >= -1:
        normalize_change(stage, c, dz, 0, cache.z, cache.inverse, cache.theta, n)
    activate_change(stage, c, c + 1, dz, cache.u, cache.gap, scratch.da, scratch.t, n)


@inlined
def _change_last(stage, c, q, mu, cache, scratch, n):
    """Sum of the changes of the losses from a parameter of the last layer, of input row q."""
    mass, dz = scratch.mass, scratch.dz
    for b in range(0, n, LANES):
        if q >= 0:
            store(dz, (0, b), load(cache.a, (q, b)) * mu)
        else:
            store(dz, (0, b), mu)
    at = stage[col.OUT_AT]
    change_of_logit(dz, c, at, cache.a, cache.p, cache.hot, cache.whole, mass, n)
    return row_total(mass, 0, n)


@inlined
def _change(table, k, c, cin, y, x, mu, reach, cache, scratch, n):
    """Sum of the changes of the losses from a parameter of stage k, before the last one."""
    stage, da = table[k], scratch.da
    _change_own(stage, c, cin, y, x, mu, cache, scratch, n)
    pixels = stage[col.H] * stage[col.W]
    r = stage[col.OUT_AT] + c * pixels
    most = largest(da, r, pixels, n)
    if most == 0.0:  # its unit is dead, or its inputs are zero
        return 0.0
    if most <= reach:
        return by_change(da, r, scratch.series, n)
    follow(table, k, c, cache, scratch, n)
    at = table[len(table) - 1, col.OUT_AT]
    loss_change(scratch.dz, at, cache.a, cache.p, cache.hot, cache.whole, scratch.mass, n)
    return row_total(scratch.mass, 0, n)


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
    k, last = -1, len(table) - 1
    # The largest change that a unit's series holds for, and the largest input of rectified units.
    unit, reach, widest = -1, 0.0, math.inf
    for at in range(len(coordinates)):
        i = coordinates[at]
        while k < last and table[k + 1, col.WEIGHT] <= i:
            k, unit, reach, widest = k + 1, -1, 0.0, math.inf
        stage = table[k]
        c, cin, y, x = located(stage, i)
        q = stage[col.IN_AT] + (cin * stage[col.HIN] + y) * stage[col.WIN] + x if cin >= 0 else -1
        if k == last - 1 and c != unit and stage[col.H] * stage[col.W] == 1:
            if unit < 0 and rectified(stage):
                inputs = stage[col.CIN] * stage[col.HIN] * stage[col.WIN]
                widest = largest(cache.a, stage[col.IN_AT], inputs, n)
            unit = c
            reach = cumulants(table[last], c, cache, scratch.series, n)
            if rectified(stage):
                bend(stage, c, cache, scratch.bent, n)
        change = 0.0
        for back in range(1 + central):
            step = -mu if back else mu
            if k == last:
                part = _change_last(stage, c, q, step, cache, scratch, n)
            elif q >= 0 and widest < math.inf and abs(mu) * widest <= reach:
                part = by_weight(cache.a, q, step, scratch.bent, scratch.series, n)
            else:
                part = _change(table, k, c, cin, y, x, step, reach, cache, scratch, n)
            change += -part if back else part
        g[at] = change / ((1 + central) * mu * n)
