"""Kernels of Gaussian processes, and all that gradients of a posterior mean need of them.

With D the distance and ell the length scale,

    squared exponential   k = exp(-D^2 / 2 ell^2),            dk/dx = c (x_a - x),  c = k / ell^2
    Matern 5/2            k = (1 + s + s^2/3) e^-s,           c = 5/(3 ell^2) (1 + s) e^-s

with s = sqrt(5) D / ell. There is no division by D, so points may coincide. The curvature kappa is
that of k at D = 0: the prior variance of each coordinate of the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """A kernel of distances.

    Attributes
    ----------
    value, slope : callables
        k, and c, of squared distances (any shape) and the length scale.
    kappa : float
        Curvature for the length scale 1; it falls with its square.
    freedom : float
        Of the Student distribution that its random frequencies have; infinite for the normal one.
    """

    value: Callable[[Array, float], Array]
    slope: Callable[[Array, float], Array]
    kappa: float
    freedom: float


def _exponential(squares: Array, ell: float) -> Array:
    return np.exp(squares * (-0.5 / ell**2))


def _exponential_slope(squares: Array, ell: float) -> Array:
    return _exponential(squares, ell) / ell**2


def _matern(squares: Array, ell: float) -> Array:
    s = np.sqrt(squares * (5.0 / ell**2))
    return (1.0 + s + s * s / 3.0) * np.exp(-s)


def _matern_slope(squares: Array, ell: float) -> Array:
    s = np.sqrt(squares * (5.0 / ell**2))
    return (5.0 / (3.0 * ell**2)) * (1.0 + s) * np.exp(-s)


KERNELS = {
    "se": Kernel(_exponential, _exponential_slope, 1.0, math.inf),
    "matern": Kernel(_matern, _matern_slope, 5.0 / 3.0, 5.0),
}
