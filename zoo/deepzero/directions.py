"""Randomized gradient estimates (RGE) and antithetic evolution strategies (ES).

    rge   g = 1/q sum_i [l(theta + mu u_i) - l(theta)]/mu u_i
    es    g = 1/q sum_i [l(theta + mu u_i) - l(theta - mu u_i)]/(2 mu) u_i

with u normal, of random signs, or uniform on the sphere of radius sqrt(d): then the covariance of u
is the identity for all three (on the unit sphere the estimate has a factor d instead).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zoo.deepzero.masks import generator

Array = npt.NDArray[np.float64]

DISTRIBUTIONS = ("gaussian", "sphere", "rademacher")

#: Purpose of random numbers; see :mod:`zoo.streams`.
_DIRECTION = 37


def direction(distribution: str, size: int, seed: int, step: int, number: int) -> Array:
    """Direction ``number`` (size,) of a step."""
    rng = generator(seed, _DIRECTION, step, number)
    if distribution == "rademacher":
        return 2.0 * rng.integers(0, 2, size, np.int8) - 1.0
    u = rng.standard_normal(size)
    if distribution == "sphere":
        u *= math.sqrt(size) / np.linalg.norm(u)
    return u


def estimate(
    loss: Callable[[Array], float],
    theta: Array,
    base: float | None,
    mu: float,
    directions: Callable[[int], Array],
    first: int,
    last: int,
) -> Array:
    """Sum (d,) over the directions ``first <= i < last``; antithetic if there is no base loss."""
    total = np.zeros(len(theta))
    for i in range(first, last):
        u = directions(i)
        ahead = loss(theta + mu * u)
        back, span = (loss(theta - mu * u), 2.0 * mu) if base is None else (base, mu)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told of later
            total += (ahead - back) / span * u
    return total
