"""A Gaussian process whose functions are quadratics: all that is known of a mean near an iterate.

    f(x) = a + b'x + c/2 |x|^2 + x'H x/2,     x from the iterate on, in units of the points' radius

with a, b, c and H normal and independent: so the covariance of two values is

    k(x, x') = A + x'x' + C/4 |x|^2 |x'|^2 + B/2 (x'x')^2

and needs inner products alone. The noise of a value at x is N + T |x|^6: what is left of a smooth
function beyond its quadratic. C, B, T and N are the most likely ones of a grid, looked for from the
last ones on. With few points B and T keep H from being read out of noise; the curvature c that all
directions have in common is learned from a handful.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

Array = npt.NDArray[np.float64]

#: Variance of a, relative to that of b: it is hardly known before.
_CONSTANT = 10.0
#: C, B, T and N to begin with, and the ends of their grids, whose points are a factor apart.
_FIRST = np.log([1.0, 0.1, 1e-4, 1e-6])
_LOW = np.log([1e-6, 1e-8, 1e-14, 1e-13])
_HIGH = np.log([1e8, 1e6, 1e1, 1.0])
_FACTOR = math.log(4.0)
#: Standard deviation of their logarithms before any value is known: a few values could be anything.
_VAGUE = np.array([6.0, 3.0, 6.0, 6.0])
#: Walks through the grid, and steps of each: with few points there is time for more.
_WALKS, _FEW, _STEPS = 2, 200, (8, 3)

#: Indices of C and B, which may be left out.
COMMON, HESSIAN = 0, 1


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The posterior mean, a quadratic about an origin.

    Attributes
    ----------
    origin : (d,)
    radius : float
        Unit of length: root of the mean squared distance of the points to the origin.
    x : (n, d)
        Points less the origin, in that unit.
    weights : (n,)
        Their part in H.
    constant, scale : float
        Value at the origin, and unit of the values.
    linear : (d,)
    common : float
        c.
    logs : (4,)
        Logarithms of C, B, T and N,
    parts : (4,)
        and what they are without the terms that are left out.
    variance : float
        That they are relative to.
    """

    origin: Array
    radius: float
    x: Array
    weights: Array
    constant: float
    linear: Array
    common: float
    scale: float
    logs: Array
    parts: Array
    variance: float

    def value(self, x: Array) -> float:
        """Posterior mean at x (d,)."""
        z = (x - self.origin) / self.radius
        along = self.x @ z
        curved = self.common * float(z @ z) + float(self.weights @ (along * along))
        return self.constant + self.scale * (float(self.linear @ z) + 0.5 * curved)

    def gradient(self, x: Array) -> Array:
        """Gradient (d,) of the posterior mean at x (d,)."""
        z = (x - self.origin) / self.radius
        curved = self.common * z + (self.weights * (self.x @ z)) @ self.x
        return np.asarray((self.scale / self.radius) * (self.linear + curved))

    def clearest(self, noise: float) -> float:
        """Distance at which noise, and curvature that is not known, blur a slope the least.

        Of a difference quotient over a length h the noise has the standard deviation s/h, and
        x'H x/2 has q h; what is beyond has r h^2.
        """
        _, b, t, _ = np.sqrt(self.parts * self.variance).tolist()
        q, r = b / math.sqrt(2.0) * self.scale, t * self.scale
        curved = math.sqrt(noise / q) if q > 0.0 else math.inf
        beyond = (noise / r) ** (1.0 / 3.0) if r > 0.0 else math.inf
        return self.radius * min(curved, beyond)


class _Fit:
    """Covariances for different C, B, T and N, and how likely they make the values."""

    def __init__(self, gram: Array, values: Array, left_out: tuple[int, ...]) -> None:
        self.gram, self.values = gram, values
        self.squares = np.diagonal(gram).copy()
        self.plane = _CONSTANT + gram
        self.common = 0.25 * np.outer(self.squares, self.squares)
        self.products = 0.5 * gram * gram
        self.left_out = left_out

    def parts(self, logs: Array) -> Array:
        """C, B, T and N."""
        found = np.exp(logs)
        found[list(self.left_out)] = 0.0
        return np.asarray(found)

    def solve(self, logs: Array) -> tuple[float, Array]:
        """Log posterior for the best scale, plus a constant, and the solution (n,)."""
        c, b, t, n = self.parts(logs)
        matrix = np.asfortranarray(self.plane + c * self.common + b * self.products)
        matrix[np.diag_indices_from(matrix)] += n + t * self.squares**3
        factor, failed = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if failed:
            return -math.inf, self.values
        solution = lapack.dpotrs(factor, self.values, lower=1)[0]
        likely = -0.5 * len(self.values) * math.log(self.variance(solution))
        likely -= float(np.log(np.diagonal(factor)).sum())
        return likely - 0.5 * float((((logs - _FIRST) / _VAGUE) ** 2).sum()), solution

    def variance(self, solution: Array) -> float:
        """Most likely variance of b, per unit of length."""
        return max(float(self.values @ solution) / len(self.values), 1e-300)


def fitted(
    x: Array,
    values: Array,
    origin: Array,
    logs: Array | None = None,
    left_out: tuple[int, ...] = (),
) -> Quadratic:
    """Quadratic of points (n, d) and values (n,).

    Parameters
    ----------
    x, values
    origin : (d,)
    logs : (4,), optional
        Logarithms of C, B, T and N to begin with.
    left_out : tuple of int
        COMMON, HESSIAN: terms to do without.
    """
    at = x - origin
    radius = math.sqrt(float(np.einsum("ij,ij->", at, at)) / len(at)) or 1.0
    at = at / radius
    constant, scale = float(values[np.argmin(np.einsum("ij,ij->i", at, at))]), float(values.std())
    if not scale > 1e-14 * abs(constant):
        scale = 1.0  # a constant, whose gradient is zero
    fit = _Fit(at @ at.T, (values - constant) / scale, left_out)
    best = _FIRST.copy() if logs is None else logs.copy()
    likely, solution = fit.solve(best)
    if likely == -math.inf:  # the noise must be more for these points
        best = _FIRST.copy()
        while likely == -math.inf:
            best[3] += _FACTOR
            likely, solution = fit.solve(best)
    for _ in range(_WALKS):
        for k in (k for k in range(len(best)) if k not in left_out):
            for way in (_FACTOR, -_FACTOR):
                for _ in range(_STEPS[len(values) > _FEW]):
                    tried = best.copy()
                    tried[k] = min(max(tried[k] + way, _LOW[k]), _HIGH[k])
                    now, other = fit.solve(tried)
                    if not now > likely + 1e-6:
                        break
                    best, likely, solution = tried, now, other
    c, b, _, _ = fit.parts(best)
    return Quadratic(
        origin,
        radius,
        at,
        b * solution,
        constant + scale * _CONSTANT * float(solution.sum()),
        solution @ at,
        0.5 * c * float(solution @ fit.squares),
        scale,
        best,
        fit.parts(best),
        fit.variance(solution),
    )
