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

from zoo.jit import kernel, relaxed, searching
from zoo.vmath import exp, expm1, log1p

#: Changes of logits up to this take a polynomial in single precision, expm1(t) to 1e-10 of t.
_SMALL = 0.25
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(8, 0, -1))

#: Changes up to this, in single precision, take four terms of expm1 and five of log1p, to 2e-9.
_TINY = 0.02

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
        mass[b] = 0.0
    for c in range(classes):
        for b in range(n):
            mass[b] += p[c, b]
    for b in range(n):
        more = math.log(mass[b])
        total += more
        whole[b] += more
    for c in range(classes):
        for b in range(n):
            p[c, b] /= mass[b]
    return total, right


@searching
def _largest(t, classes, n):
    """Largest absolute change of a logit."""
    most = t.dtype.type(0)
    for c in range(classes):
        for b in range(n):
            most = max(most, abs(t[c, b]))
    return most


@relaxed
def _add_small(t, c, p, moved, n):
    """Add p_c expm1(t_c) to a row, where t is small."""
    real = t.dtype.type
    for b in range(n):
        x = t[c, b]
        s = real(0)
        for factor in _EXPM1:
            s = s * x + real(factor)
        moved[2, b] += p[c, b] * (s * x)


@relaxed
def _add_tiny(t, c, p, moved, n):
    """Add p_c expm1(t_c) to a row, where t is tiny."""
    real = t.dtype.type
    two, three, four = real(1 / 2), real(1 / 6), real(1 / 24)
    for b in range(n):
        x = t[c, b]
        moved[2, b] += p[c, b] * (x * (real(1) + x * (two + x * (three + x * four))))


@relaxed
def _log_tiny(moved, mass, n):
    """Row of log1p of a row of tiny numbers."""
    real = moved.dtype.type
    two, three, four, five = real(-1 / 2), real(1 / 3), real(-1 / 4), real(1 / 5)
    for b in range(n):
        x = moved[2, b]
        mass[b] = x * (real(1) + x * (two + x * (three + x * (four + x * five))))


@kernel
def loss_change(t, at, cache, scratch, n):
    """Change of each sample's loss, into ``scratch.mass``, from the changes t of the logits.

    The logits themselves are rows from ``at`` on of ``cache.a``.
    """
    _loss_change(t, at, cache.a, cache.p, cache.y, cache.whole, scratch.mass, scratch.t, n)


@kernel
def _loss_change(t, at, a, p, y, whole, mass, moved, n):
    classes = len(p)
    most = _largest(t, classes, n)
    if most > _FAR:
        _all_far(t, at, a, y, whole, len(p), mass, n)
        return
    if t.itemsize == 4 and most <= _TINY:
        for b in range(n):
            moved[2, b] = t.dtype.type(0)
        for c in range(classes):
            _add_tiny(t, c, p, moved, n)
        _log_tiny(moved, mass, n)
        for b in range(n):
            mass[b] -= t[y[b], b]
        return
    if t.itemsize == 4 and most <= _SMALL:
        for b in range(n):
            moved[2, b] = t.dtype.type(0)
        for c in range(classes):
            _add_small(t, c, p, moved, n)
        for b in range(n):
            mass[b] = moved[2, b]
    else:
        for b in range(n):
            mass[b] = 0.0
        for c in range(classes):
            for b in range(n):
                mass[b] += p[c, b] * expm1(np.float64(t[c, b]))
    for b in range(n):
        mass[b] = log1p(mass[b])
    for b in range(n):
        mass[b] -= t[y[b], b]


@kernel
def _all_far(t, at, a, y, whole, classes, mass, n):
    for b in range(n):
        mass[b] = _far(t, at, a, classes, b) - whole[b] - t[y[b], b]


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
def change_of_logit(c, at, cache, mass, n):
    """Change of each sample's loss from that of its logit c, ``mass``, in place."""
    p, y = cache.p, cache.y
    most = 0.0
    for b in range(n):
        most = max(most, abs(mass[b]))
    if most > _FAR:
        for b in range(n):
            mass[b] = _far_of_one(c, mass[b], at, cache, b) - (mass[b] if y[b] == c else 0.0)
        return
    for b in range(n):
        t = mass[b]
        mass[b] = log1p(p[c, b] * expm1(t)) - (t if y[b] == c else 0.0)


@kernel
def _far_of_one(c, t, at, cache, b):
    """Growth of the logarithm of the sum of a sample's exponentials, where only logit c moves."""
    a, classes = cache.a, len(cache.p)
    highest = np.float64(a[at + c, b]) + t
    for m in range(classes):
        if m != c:
            highest = max(highest, np.float64(a[at + m, b]))
    total = math.exp(np.float64(a[at + c, b]) + t - highest)
    for m in range(classes):
        if m != c:
            total += math.exp(np.float64(a[at + m, b]) - highest)
    return highest + math.log(total) - cache.whole[b]
