"""What programs are to compute: functions in arbitrary precision, where, and how errors count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Decimal digits in which truth is computed.
_DIGITS = 50


@dataclass(frozen=True)
class Target:
    """A function to be computed.

    Attributes
    ----------
    name : str
    function : callable
        Of a number of mpmath.
    domain : (float, float)
        Closed interval.
    error : str
        "relative" or "absolute".
    """

    name: str
    function: Callable[[Any], Any]
    domain: tuple[float, float]
    error: str = "relative"

    def truth(self, x: Array) -> tuple[Array, Array]:
        """High and low parts of the function's values at points (N,)."""
        import mpmath

        with mpmath.workdps(_DIGITS):
            values = [self.function(mpmath.mpf(float(point))) for point in x]
            high = [float(value) for value in values]
            low = [float(value - top) for value, top in zip(values, high, strict=True)]
        return np.array(high), np.array(low)

    def weights(self, truth: Array) -> Array:
        """What makes differences errors: 0 at a zero of the function, if errors are relative."""
        if self.error == "absolute":
            return np.ones_like(truth)
        with np.errstate(divide="ignore"):
            return np.where(truth == 0.0, 0.0, 1.0 / np.abs(truth))


def chebyshev(domain: tuple[float, float], count: int, ends: bool = False) -> Array:
    """Chebyshev nodes of an interval, or, with its ends, where their polynomial is extremal."""
    low, high = domain
    k = np.arange(count)
    angles = k * np.pi / (count - 1) if ends else (k + 0.5) * np.pi / count
    points = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(angles)
    if ends:
        points[0], points[-1] = low, high
    return points


def _mp(name: str) -> Callable[[Any], Any]:
    """Function of mpmath, which is imported when it is called."""

    def function(x: Any) -> Any:
        import mpmath

        return getattr(mpmath, name)(x)

    return function


def _exp2(x: Any) -> Any:
    return 2**x


def _log2(x: Any) -> Any:
    import mpmath

    return mpmath.log(x, 2)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + _mp("exp")(-x))


def _bessel_half(x: Any) -> Any:
    import mpmath

    return mpmath.besseli(mpmath.mpf(1) / 2, x)


def _bessel0(x: Any) -> Any:
    import mpmath

    return mpmath.besselj(0, x)


def _airy(x: Any) -> Any:
    import mpmath

    return mpmath.airyai(-7 * x)


_HALF_PI = float(np.pi / 2)

TARGETS = {
    target.name: target
    for target in (
        Target("exp2", _exp2, (0.0, 1.0)),
        Target("exp", _mp("exp"), (0.0, 1.0)),
        Target("log2", _log2, (1.0, 2.0), "absolute"),
        Target("log", _mp("log"), (1.0, 2.0), "absolute"),
        Target("sin", _mp("sin"), (0.0, _HALF_PI), "absolute"),
        Target("cos", _mp("cos"), (0.0, _HALF_PI), "absolute"),
        Target("tanh", _mp("tanh"), (0.0, 1.0), "absolute"),
        Target("erf", _mp("erf"), (0.0, 1.0), "absolute"),
        Target("gamma", _mp("gamma"), (1.0, 2.0)),
        Target("airy", _airy, (0.0, 1.0), "absolute"),
        Target("bessel_j0", _bessel0, (0.0, 4.0), "absolute"),
        Target("bessel_i_half", _bessel_half, (0.0, 1.0), "absolute"),
        Target("sigmoid", _sigmoid, (-4.0, 4.0)),
    )
}
