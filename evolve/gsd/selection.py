"""Which marginals to measure: the exponential mechanism of OpenDP, on the system's randomness.

P(i) ~ exp(epsilon score_i / (2 sensitivity)). It costs epsilon^2 / 8 of zCDP, for its range is
bounded (Cesar, Rogers 2021, arXiv 2004.07223). The best of scores plus Gumbel noise is that choice,
and the best S in order are S such choices, each among those left (Durfee, Rogers 2019,
arXiv 1905.04273); OpenDP compares the noisy scores exactly, to as many bits as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evolve.gsd.ledger import Ledger
from evolve.gsd.noise import Seed, check_mark, check_range, opendp
from zoo.errors import InputError

Indices = NDArray[np.int64]


def choose(
    ledger: Ledger,
    what: str,
    scores: ArrayLike,
    sensitivity: float,
    epsilon: float,
    many: int = 1,
    *,
    insecure_seed: Seed = None,
    **details: Any,
) -> Indices:
    """Indices of ``many`` high scores, paid for.

    Parameters and errors as for :func:`select`; the ledger is charged first, under the name
    ``what``, with ``details``, and not at all if the input cannot be used or the budget is spent.
    """
    check_mark(ledger, insecure_seed)
    values = _checked(scores, many)
    draw = _mechanism(sensitivity, epsilon, many, insecure_seed)
    ledger.charge(
        what,
        selection_rho(epsilon, many),
        mechanism="exponential",
        epsilon=float(epsilon),
        sensitivity=float(sensitivity),
        many=many,
        candidates=len(values),
        **details,
    )
    return draw(values)


def select(
    scores: ArrayLike,
    sensitivity: float,
    epsilon: float,
    many: int = 1,
    *,
    insecure_seed: Seed = None,
) -> Indices:
    """Indices of ``many`` high scores, without replacement, in the order of choice.

    Parameters
    ----------
    scores : array of floats
        Taken as exact numbers: ``sensitivity`` has to cover the rounding of what made them.
    sensitivity : float
        Most that any score may differ between neighbouring tables, in either direction.
    epsilon : float
        Of each choice.
    many : int
    insecure_seed : numpy.random.Generator, optional
        For tests: the result is not private.

    Raises
    ------
    InputError
        If the input cannot be used, or OpenDP is missing.
    """
    values = _checked(scores, many)
    return _mechanism(sensitivity, epsilon, many, insecure_seed)(values)


def selection_rho(epsilon: float, many: int = 1) -> float:
    """Cost of ``select``: many epsilon^2 / 8, rounded up."""
    check_range("epsilon", epsilon)
    check_range("many", many, 1)
    return _above(Fraction(epsilon) ** 2 * many / 8)


def epsilon_for(rho: float, many: int = 1) -> float:
    """Largest epsilon such that ``many`` choices cost at most ``rho``."""
    check_range("rho", rho)
    check_range("many", many, 1)
    epsilon = math.sqrt(8 * rho / many)
    while selection_rho(epsilon, many) > rho:
        epsilon = math.nextafter(epsilon, 0.0)
    return epsilon


def _mechanism(
    sensitivity: float, epsilon: float, many: int, insecure_seed: Seed
) -> Callable[[NDArray[np.float64]], Indices]:
    check_range("sensitivity", sensitivity)
    check_range("epsilon", epsilon)
    scale = _above(2 * Fraction(sensitivity) / Fraction(epsilon))  # more noise, not less
    if insecure_seed is not None:

        def draw(values: NDArray[np.float64]) -> Indices:
            return np.argsort(-(values / scale + insecure_seed.gumbel(size=len(values))))[:many]

        return draw
    dp = opendp()
    best = dp.m.make_noisy_top_k(
        dp.vector_domain(dp.atom_domain(T="f64", nan=False)),
        dp.linf_distance(T="f64"),
        dp.zero_concentrated_divergence(),
        k=many,
        scale=scale,
    )
    return lambda values: np.array(best(values.tolist()), dtype=np.int64)


def _above(exact: Fraction) -> float:
    """Nearest float that is not below."""
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def _checked(scores: ArrayLike, many: int) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("scores must be a list of finite numbers")  # which are not told: they leak
    if not 1 <= many <= len(values):
        raise InputError(f"many must be >= 1 and <= the {len(values)} scores, got {many!r}")
    return values
