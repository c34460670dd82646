"""What (epsilon, delta) buys: zero-concentrated differential privacy (zCDP) and the neighbours.

rho-zCDP (Bun, Steinke 2016, arXiv 1605.02065) composes by adding. The conversion is that of
Canonne, Kamath, Steinke 2020 ("The Discrete Gaussian for Differential Privacy", arXiv 2004.00010),
by the best Renyi order a: rho-zCDP implies (epsilon, delta)-DP if, for some a > 1,

    log delta >= (a - 1) (a rho - epsilon) + (a - 1) log(1 - 1/a) - log a .

Every a is valid, so a search for the best one errs on the safe side. Solved for rho, epsilon or
log delta, each is one search over s = a - 1, of one optimum: the right side is convex in a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from zoo.errors import InputError

NEIGHBOURS: Mapping[str, float] = MappingProxyType(
    {
        "add-remove": 1.0,  # one row more or less: one cell of a marginal changes by 1
        "replace-one": math.sqrt(2),  # one row changed: two cells; this float is above the root
    }
)

# Rounding is far below this part of the sizes of a formula's terms; the ledger's is 2^-48.
_SLACK = 2.0**-46


def sensitivity(neighbours: str) -> float:
    """L2 sensitivity of the counts of one marginal, by the relation of neighbouring tables.

    Raises
    ------
    InputError
        For a relation other than those of ``NEIGHBOURS``.
    """
    if neighbours not in NEIGHBOURS:
        raise InputError(f"neighbours must be {' | '.join(NEIGHBOURS)}, got {neighbours!r}")
    return NEIGHBOURS[neighbours]


def check_budget(epsilon: float, delta: float, rows: int | None = None) -> str | None:
    """Refuse a budget that means nothing; give a warning, or None, for one that means little.

    Parameters
    ----------
    epsilon : float
        Infinite means no noise and no privacy, which the caller has to mark.
    delta : float
    rows : int, optional
        N, if it is public: a refusal by a private N would tell something of it.

    Raises
    ------
    InputError
        If epsilon <= 0, delta is not in (0, 1), or delta > 1/N.
    """
    if not epsilon > 0:
        raise InputError(f"epsilon must be > 0, got {epsilon!r}")
    if not 0 < delta < 1:
        raise InputError(f"delta must be > 0 and < 1, got {delta!r}")
    if rows is None:
        return None
    if rows < 1:
        raise InputError(f"rows must be >= 1, got {rows!r}")
    if delta > 1 / rows * (1 + 1e-12):
        raise InputError(
            f"delta must be at most 1/N = {1 / rows:.3g} for {rows} rows, got {delta!r}: "
            "publishing a row at random would be allowed"
        )
    if delta > 1 / rows**2 * (1 + 1e-12):
        return f"delta = {delta:g} is above 1/N^2 = {1 / rows**2:.3g} for {rows} rows"
    return None


def rho_of(epsilon: float, delta: float) -> float:
    """Largest rho such that rho-zCDP implies (epsilon, delta)-DP, rounded down.

    Infinite for an infinite epsilon.
    """
    check_budget(epsilon, delta)
    if math.isinf(epsilon):
        return math.inf
    log_delta = math.log(delta)

    def rho(s: float) -> float:
        return (epsilon + (log_delta - _free(s)) / s) / (1 + s)

    s = _minimizer(lambda s: -rho(s))
    return rho(s) - _SLACK * (epsilon + (abs(log_delta) + abs(_free(s))) / s) / (1 + s)


def epsilon_of(rho: float, delta: float) -> float:
    """Smallest epsilon such that rho-zCDP implies (epsilon, delta)-DP, rounded up."""
    _check_rho(rho)
    check_budget(math.inf, delta)
    if rho in (0, math.inf):
        return rho
    log_delta = math.log(delta)

    def epsilon(s: float) -> float:
        return (1 + s) * rho + (_free(s) - log_delta) / s

    s = _minimizer(epsilon)
    sizes = (1 + s) * rho + (abs(log_delta) + abs(_free(s))) / s
    return max(0.0, epsilon(s) + _SLACK * sizes)


def delta_of(rho: float, epsilon: float) -> float:
    """Smallest delta such that rho-zCDP implies (epsilon, delta)-DP, rounded up."""
    _check_rho(rho)
    if not epsilon >= 0:
        raise InputError(f"epsilon must be >= 0, got {epsilon!r}")
    if rho == 0 or math.isinf(epsilon):
        return 0.0
    if math.isinf(rho):
        return 1.0

    def log_delta(s: float) -> float:
        return s * ((1 + s) * rho - epsilon) + _free(s)

    s = _minimizer(log_delta)
    sizes = s * ((1 + s) * rho + epsilon) + abs(_free(s))
    return min(1.0, math.exp(min(0.0, log_delta(s) + _SLACK * sizes)))


def _check_rho(rho: float) -> None:
    if not rho >= 0:
        raise InputError(f"rho must be >= 0, got {rho!r}")


def _free(s: float) -> float:
    """Return what has neither rho nor epsilon in it, with a = 1 + s and nothing cancelled."""
    return -s * math.log1p(1 / s) - math.log1p(s)


def _minimizer(f: Callable[[float], float]) -> float:
    """Minimizer over s > 0 of a function of one minimum; it may lie at any order of magnitude."""
    from scipy.optimize import minimize_scalar  # heavy

    found = minimize_scalar(
        lambda t: f(math.exp(t)), bounds=(-40.0, 60.0), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(found.x)
