"""The cross-entropy of a softmax, and how it changes with the logits.

With probabilities p and changes t of the logits a, a sample of label y changes its loss by

    log1p(sum_c p_c expm1(t_c)) - t_y

which subtracts no two losses. Where a logit moves far, exponentials overflow and probabilities have
underflowed; there the change is large, and is taken as what it is,

    log sum_c exp(a_c + t_c) - log sum_c exp(a_c) - t_y
"""

from __future__ import annotations

import math

import numpy as np

from zoo.jit import inlined, kernel
from zoo.lanes import LANES, fma, head, highest, load, spread, store, total, widen
from zoo.vmath import exp, expm1, log1p

#: Changes of logits up to this take short series in single precision: expm1(t) to 1e-10 of t, and
#: log1p(s) = 2 artanh(s/(s + 2)) to 1e-10 of s.
_SMALL = 0.25
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(8, 0, -1))
_ARTANH = tuple(1.0 / k for k in range(9, 0, -2))

#: Changes up to this take four terms of expm1 and five of log1p, to 2e-9.
_TINY = 0.02
_EXPM1_TINY = _EXPM1[-4:]
_LOG1P_TINY = (1 / 5, -1 / 4, 1 / 3, -1 / 2, 1.0)

#: Changes beyond this are far: rounded probabilities may no longer stand for the logits.
_FAR = 4.0


@kernel
def softmax(logits, at, cache, mass, n):
    """Probabilities of the classes; returns the sum of the losses, and how many are right."""
    p, y, whole = cache.p, cache.y, cache.whole
    classes = len(p)
    total, right = 0.0, 0
    for b in range(n):
        whole[b] = logits[at, b]
    for c in range(1, classes):
        for b in range(n):
            whole[b] = max(whole[b], np.float64(logits[at + c, b]))
    for b in range(n):
        total -= logits[at + y[b], b] - whole[b]
        first = 0
        while logits[at + first, b] < whole[b]:
            first += 1
        right += first == y[b]
    for c in range(classes):
        for b in range(n):
            p[c, b] = exp(logits[at + c, b] - whole[b])
    for b in range(n):
        mass[0, b] = 0.0
    for c in range(classes):
        for b in range(n):
            mass[0, b] += p[c, b]
    for b in range(n):
        more = math.log(mass[0, b])
        total += more
        whole[b] += more
    for c in range(classes):
        for b in range(n):
            p[c, b] /= mass[0, b]
    return total, right


@kernel
def row_total(x, r, n):
    """Sum of row r."""
    s = spread(x.dtype.type(0))
    for b in range(0, n, LANES):
        s += head(load(x, (r, b)), n - b)
    return float(total(s))


@kernel
def largest(x, first, count, n):
    """Largest absolute value of some rows; NaN if one of them is, or is infinite."""
    most = nothing = spread(x.dtype.type(0))
    for r in range(first, first + count):
        for b in range(0, n, LANES):
            values = head(load(x, (r, b)), n - b)
            most, nothing = max(most, abs(values)), fma(values, 0.0, nothing)
    return float(highest(most) + total(nothing))


@inlined
def _polynomial(factors, x):
    value = fma(x, factors[0], factors[1])
    for factor in factors[2:]:
        value = fma(value, x, factor)
    return value


@inlined
def _log1p_small(s):
    z = s / (s + 2.0)
    return (z + z) * _polynomial(_ARTANH, z * z)


@kernel
def loss_change(t, at, a, p, hot, whole, mass, n):
    """Change of each sample's loss, into row 0 of ``mass``, from the changes t of the logits.

    The logits themselves are rows from ``at`` on of ``a``; the others are of the cache.
    """
    classes = len(p)
    most = largest(t, 0, classes, n)
    zero = spread(t.dtype.type(0))
    if t.itemsize == 4 and most <= _SMALL:
        tiny = most <= _TINY
        for b in range(0, n, LANES):
            s, own = zero, zero
            for c in range(classes):
                x = load(t, (c, b))
                growth = x * (_polynomial(_EXPM1_TINY, x) if tiny else _polynomial(_EXPM1, x))
                s = fma(load(p, (c, b)), growth, s)
                own = fma(load(hot, (c, b)), x, own)
            grown = s * _polynomial(_LOG1P_TINY, s) if tiny else _log1p_small(s)
            store(mass, (0, b), widen(grown - own))
    elif most <= _FAR:
        _any_change(t, p, hot, mass, n)
    else:
        for b in range(n):
            mass[0, b] = _far(t, at, a, classes, b) - whole[b]
            for c in range(classes):
                if hot[c, b] > 0:
                    mass[0, b] -= t[c, b]


@kernel
def _any_change(t, p, hot, mass, n):
    classes = len(p)
    for b in range(n):
        mass[0, b] = 0.0
    for c in range(classes):
        for b in range(n):
            mass[0, b] += p[c, b] * expm1(np.float64(t[c, b]))
    for b in range(n):
        mass[0, b] = log1p(mass[0, b])
    for c in range(classes):
        for b in range(n):
            mass[0, b] -= hot[c, b] * t[c, b]


@kernel
def _far(t, at, a, classes, b):
    """Logarithm of the sum of a sample's exponentials after a change."""
    highest = -math.inf
    for c in range(classes):
        highest = max(highest, np.float64(a[at + c, b]) + np.float64(t[c, b]))
    total = 0.0
    for c in range(classes):
        total += math.exp(np.float64(a[at + c, b]) + np.float64(t[c, b]) - highest)
    return highest + math.log(total)


@kernel
def change_of_logit(t, c, at, a, p, hot, whole, mass, n):
    """Change of each sample's loss from that of its logit c alone, row 0 of t."""
    most = largest(t, 0, 1, n)
    if t.itemsize == 4 and most <= _SMALL:
        for b in range(0, n, LANES):
            x = load(t, (0, b))
            growth = _log1p_small(load(p, (c, b)) * (x * _polynomial(_EXPM1, x)))
            store(mass, (0, b), widen(growth - load(hot, (c, b)) * x))
    elif most <= _FAR:
        for b in range(n):
            x = np.float64(t[0, b])
            mass[0, b] = log1p(p[c, b] * expm1(x)) - hot[c, b] * x
    else:
        for b in range(n):
            mass[0, b] = _far_of_one(c, np.float64(t[0, b]), at, a, len(p), b) - whole[b]
            if hot[c, b] > 0:
                mass[0, b] -= t[0, b]


@kernel
def _far_of_one(c, t, at, a, classes, b):
    """Logarithm of the sum of a sample's exponentials where only logit c has moved."""
    highest = np.float64(a[at + c, b]) + t
    for m in range(classes):
        if m != c:
            highest = max(highest, np.float64(a[at + m, b]))
    total = math.exp(np.float64(a[at + c, b]) + t - highest)
    for m in range(classes):
        if m != c:
            total += math.exp(np.float64(a[at + m, b]) - highest)
    return highest + math.log(total)
