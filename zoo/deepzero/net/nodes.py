"""Node probes: one probe of a unit's pre-activation gives the derivatives by all of its weights.

Where the losses of the samples are seen one by one, and no sample's activations depend on another
sample (as they do in batch normalization), a probe moves the unit for all samples at once,

    delta_b = [l_b(z + mu) - l_b(z)]/mu,  dl/dw_i = mean_b delta_b x_bi,  dl/dbias = mean_b delta_b

which is what coordinatewise estimates tend to as mu does to 0. A convolution has a probe a pixel.
"""

from __future__ import annotations

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.change import activate_change, follow
from zoo.deepzero.net.loss import change_of_logit, loss_change, row_total
from zoo.jit import borrowed, kernel
from zoo.lanes import LANES, head, load, spread, store, total, widen


@kernel
def _hold_ties(stage, c, pixel, gap, dz, n):
    """Let only the first of several maxima of a window move, so that the window counts once."""
    size, wconv = stage[col.MAXPOOL], stage[col.WCONV]
    own = stage[col.GAP_AT] + c * stage[col.HCONV] * wconv
    y, x = pixel // wconv // size * size, pixel % wconv // size * size
    for i in range(size * size):
        q = (y + i // size) * wconv + x + i % size
        if q < pixel:
            for b in range(n):
                if gap[own + q, b] == 0 and gap[own + pixel, b] == 0:
                    dz[pixel, b] = 0


@kernel
def _probe(table, k, c, pixel, mu, cache, scratch, n):
    """Change of each sample's loss, into ``scratch.mass``."""
    stage, dz, mass = table[k], scratch.dz, scratch.mass
    at = table[len(table) - 1, col.OUT_AT]
    if k == len(table) - 1:
        for b in range(0, n, LANES):
            store(dz, (0, b), mu)
        change_of_logit(dz, c, at, cache.a, cache.p, cache.hot, cache.whole, mass, n)
        return
    for r in range(stage[col.HCONV] * stage[col.WCONV]):
        for b in range(0, n, LANES):
            store(dz, (r, b), mu if r == pixel else 0.0)
    if stage[col.MAXPOOL] > 1:
        _hold_ties(stage, c, pixel, cache.gap, dz, n)
    activate_change(stage, c, c + 1, dz, cache.u, cache.gap, scratch.da, scratch.t, n)
    follow(table, k, c, cache, scratch, n)
    loss_change(dz, at, cache.a, cache.p, cache.hot, cache.whole, mass, n)


@kernel
def _dot(a, r, delta, n):
    sum_ = spread(0.0)
    for b in range(0, n, LANES):
        sum_ += head(widen(load(a, (r, b))) * load(delta, (0, b)), n - b)
    return total(sum_)


@kernel
def _add(stage, c, pixel, scale, cache, delta, weights, at, n):
    """Add delta's part in the derivatives by the weights, and the bias, of channel c."""
    taps = stage[col.KH] * stage[col.KW]
    y = pixel // stage[col.WCONV] * stage[col.STRIDE] - stage[col.PADDING]
    x = pixel % stage[col.WCONV] * stage[col.STRIDE] - stage[col.PADDING]
    for cin in range(stage[col.CIN]):
        for tap in range(taps):
            yy, xx = y + tap // stage[col.KW], x + tap % stage[col.KW]
            if 0 <= yy < stage[col.HIN] and 0 <= xx < stage[col.WIN]:
                r = stage[col.IN_AT] + (cin * stage[col.HIN] + yy) * stage[col.WIN] + xx
                weights[at + cin * taps + tap] += scale * _dot(cache.a, r, delta, n)
    if stage[col.BIAS] >= 0:
        weights[at + stage[col.CIN] * taps] += scale * row_total(delta, 0, n)


@kernel
def probe(table, cache, scratch, units, mu, g, n):
    """Estimate the derivatives of the mean loss by the parameters of some units.

    Parameters
    ----------
    table, cache, scratch
        After :func:`zoo.deepzero.net.forward.forward` with these n samples.
    units : (m, 2) int64
        Stage and channel.
    mu : float
    g : float64 array of zeros
        Receives, unit after unit, the derivatives by its weights and by its bias, if it has one.
    n : int
    """
    cache, scratch = borrowed(cache), borrowed(scratch)
    at = 0
    for m in range(len(units)):
        k, c = units[m]
        stage = table[k]
        for pixel in range(stage[col.HCONV] * stage[col.WCONV]):
            _probe(table, k, c, pixel, mu, cache, scratch, n)
            _add(stage, c, pixel, 1.0 / (mu * n), cache, scratch.mass, g, at, n)
        at += stage[col.CIN] * stage[col.KH] * stage[col.KW] + (stage[col.BIAS] >= 0)
