"""What programs are to compute: functions in arbitrary precision, where, and how errors count."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        "relative", "absolute", or "ulp": relative to the largest power of two that is not larger
        than the value, of which a unit in the last place is 2^-52 in double precision.
    """

    name: str
    function: Callable[[Any], Any]
    domain: tuple[float, float]
    error: str = "relative"


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


_HALF_PI = math.pi / 2

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
