"""Noisy counts: the exact discrete Gaussian of OpenDP, on the operating system's randomness.

Whole counts plus the discrete Gaussian cost sensitivity^2 / (2 sigma^2) of zCDP, as with the
continuous one (Canonne, Kamath, Steinke 2020, arXiv 2004.00010, Theorem 4). Naive floating-point
noise leaks (Mironov 2012; Jin et al. 2021, arXiv 2112.05307), and so does noise of a known seed:
no seed of ours reaches it.

``measure`` charges a ledger first and draws then; ``gaussian`` leaves that to the caller.
``insecure_seed`` is for tests: its noise has the same distribution and protects nobody, and the
ledger says so (``private`` is false).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evolve.gsd.ledger import Ledger
from evolve.gsd.privacy import sensitivity as sensitivity_of
from zoo.errors import InputError
from zoo.extras import needed

Counts = NDArray[np.int64]
Seed = np.random.Generator | None

_SIGMAS = (1e-6, 1e12)
_FARTHEST = 2**62  # OpenDP saturates at the ends of int64


def measure(
    ledger: Ledger,
    what: str,
    counts: ArrayLike,
    sigma: float,
    sets: int = 1,
    *,
    insecure_seed: Seed = None,
    **details: Any,
) -> Counts:
    """Noisy counts of query sets, paid for.

    Parameters
    ----------
    ledger : Ledger
        Its neighbours give the sensitivity of one set.
    what : str
        Name of the marginal, for the ledger.
    counts : array of integers
    sigma : float
    sets : int
        Sets of cells that make up ``counts``; each row is in one cell of each at most.
    insecure_seed : numpy.random.Generator, optional
        Only with a ledger that is not private.
    **details
        For the ledger.

    Raises
    ------
    InputError
        If the input cannot be used, OpenDP is missing or the budget is spent: nothing is charged.
    """
    check_mark(ledger, insecure_seed)
    whole, sensitivity = _whole(counts), stacked(ledger.neighbours, sets)
    rho = gaussian_rho(sigma, sensitivity)
    ledger.charge(
        what,
        rho,
        mechanism="discrete gaussian",
        sigma=float(sigma),
        sensitivity=sensitivity,
        sets=sets,
        cells=whole.size,
        **details,
    )
    return gaussian(whole, sigma, insecure_seed=insecure_seed)


def stacked(neighbours: str, sets: int) -> float:
    """Sensitivity in L2 norm of the counts of several sets of cells, rounded up."""
    return sensitivity_of(neighbours) * math.nextafter(math.sqrt(sets), math.inf if sets > 1 else 1)


def gaussian(counts: ArrayLike, sigma: float, *, insecure_seed: Seed = None) -> Counts:
    """Counts plus discrete Gaussian noise, P(x) ~ exp(-x^2 / (2 sigma^2)) on the whole numbers."""
    whole = _whole(counts)
    check_range("sigma", sigma, *_SIGMAS)
    if insecure_seed is not None:
        return whole + _insecure_gaussian(whole.size, sigma, insecure_seed).reshape(whole.shape)
    noisy = _gaussian_measurement(sigma)(whole.ravel().tolist())
    return np.array(noisy, dtype=np.int64).reshape(whole.shape)


def gaussian_rho(sigma: float, sensitivity: float) -> float:
    """Cost of ``gaussian``: sensitivity^2 / (2 sigma^2), by OpenDP's own map, which rounds up."""
    check_range("sigma", sigma, *_SIGMAS)
    check_range("sensitivity", sensitivity)
    return float(_gaussian_measurement(sigma).map(float(sensitivity)))


def sigma_for(rho: float, sensitivity: float) -> float:
    """Smallest sigma whose cost is at most ``rho``."""
    check_range("rho", rho)
    check_range("sensitivity", sensitivity)
    sigma = max(_SIGMAS[0], sensitivity / math.sqrt(2 * rho))
    while gaussian_rho(sigma, sensitivity) > rho:
        sigma = math.nextafter(sigma, math.inf)
    return sigma


def _gaussian_measurement(sigma: float) -> Any:
    dp = opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    return dp.m.make_gaussian(*space, scale=float(sigma))


def _insecure_gaussian(size: int, sigma: float, generator: np.random.Generator) -> Counts:
    """Discrete Gaussian by rejection from the discrete Laplace (arXiv 2004.00010, Algorithm 3)."""
    t = math.floor(sigma) + 1
    drawn = np.empty(size, np.int64)
    missing = np.arange(size)
    while missing.size:
        up, down = generator.geometric(-math.expm1(-1 / t), (2, missing.size))
        y = up - down
        kept = np.exp(-((np.abs(y) - sigma**2 / t) ** 2) / (2 * sigma**2))
        accepted = generator.random(missing.size) < kept
        drawn[missing[accepted]] = y[accepted]
        missing = missing[~accepted]
    return drawn


def _whole(counts: ArrayLike) -> Counts:
    array = np.asarray(counts)
    if array.dtype.kind not in "iu":
        raise InputError(f"counts must be whole numbers, got {array.dtype}")
    if array.size and max(abs(int(array.min())), abs(int(array.max()))) > _FARTHEST:
        raise InputError(f"counts must be within +-{_FARTHEST}")  # theirs are not told: they leak
    return array.astype(np.int64)


def opendp() -> Any:
    """OpenDP's namespace, with the parts that are proven but not yet vetted enabled.

    Raises
    ------
    InputError
        If it is not installed.
    """
    dp = needed("opendp.prelude", "gsd needs OpenDP for its noise", "gsd")
    dp.enable_features("contrib")
    return dp


def check_range(name: str, value: float, least: float = 1e-30, most: float = 1e15) -> None:
    """Refuse a number outside its range."""
    if not least <= value <= most:
        raise InputError(f"{name} must be >= {least:g} and <= {most:g}, got {value!r}")


def check_mark(ledger: Ledger, insecure_seed: Seed) -> None:
    """Refuse noise of a known seed on a ledger that says private, and the reverse."""
    if ledger.private != (insecure_seed is None):
        raise InputError("insecure_seed goes with a ledger of private=False, and only with one")
