"""Compiled objectives at rows of points."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.jit import call_objective, kernel


class Target(NamedTuple):
    """A compiled objective: f(rotation (x - shift) + anchor), or f(x) where shift is empty."""

    address: Any  # from zoo.jit.address; 0 where the objective lives outside
    shift: Any  # (d,) or (0,)
    rotation: Any  # (d, d), or (0, 0) for none
    anchor: Any  # (d,)
    pure: Any  # whether it is known not to write on its argument


NO_TARGET = Target(0, np.empty(0), np.empty((0, 0)), np.empty(0), True)


@kernel
def evaluate(target, flat, start, d, dp, count, values, at, z):
    """Objective at ``count`` rows of ``flat``, number ``start`` on, into values[at:].

    Rows are ``dp`` apart and ``d`` long; ``z`` is scratch for one point.
    """
    transformed = len(target.shift) > 0
    rotated = len(target.rotation) > 0
    for i in range(count):
        offset = (start + i) * dp
        if not transformed and target.pure:
            values[at + i] = call_objective(target.address, flat, offset, d)
            continue
        if not transformed:
            for j in range(d):
                z[j] = flat[offset + j]
            values[at + i] = call_objective(target.address, z, 0, d)
            continue
        for j in range(d):
            z[j] = target.anchor[j]
        if rotated:
            for k in range(d):
                e = flat[offset + k] - target.shift[k]
                for j in range(d):
                    z[j] += target.rotation[j, k] * e
        else:
            for j in range(d):
                z[j] += flat[offset + j] - target.shift[j]
        values[at + i] = call_objective(target.address, z, 0, d)


@kernel
def evaluate_rows(target, x, values):
    """Objective at each row of x (n, d) into values (n,), as it returns them."""
    n, d = x.shape
    evaluate(target, x.reshape(-1), 0, d, d, n, values, 0, np.empty(d))
