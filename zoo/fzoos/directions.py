"""Random directions and steps: what is drawn from a seed, by client and round."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Purposes of random numbers; see :mod:`zoo.streams`.
NOISE, LOCAL, SURVEY, CHOSEN, START, SHARED = range(42, 48)

#: A basis of more than so many dimensions takes too long.
_LARGE = 1000

#: "Client" of what all share.
ALL = 2**63


def generator(
    seed: int, client: int, purpose: int, number: int, piece: int = 0
) -> np.random.Generator:
    """Random numbers of a client, for round ``number``."""
    key = np.array([seed, client + 1], np.uint64)  # stream 0 is that of the features
    return np.random.Generator(np.random.Philox(key=key, counter=[0, piece, number, purpose]))


def orthonormal(random: np.random.Generator, count: int, dimension: int) -> Array:
    """Directions (count, d), by blocks of d orthonormal ones."""
    blocks = []
    for at in range(0, count, dimension):
        size = min(dimension, count - at)
        q, r = np.linalg.qr(random.standard_normal((dimension, size)))
        blocks.append((q * np.sign(np.diagonal(r))).T)
    return np.concatenate(blocks) if blocks else np.empty((0, dimension))


@functools.lru_cache(maxsize=2)
def _basis(seed: int, number: int, dimension: int) -> Array:
    return orthonormal(generator(seed, ALL, SURVEY, number, 1), dimension, dimension)


def in_turn(seed: int, first: int, count: int, dimension: int) -> Array:
    """Directions (count, d), number ``first`` and on, of bases that all share, one after another.

    So d of them in a row, as a rule, span everything. In many dimensions, where that takes long and
    random directions are nearly orthogonal anyway, they are so within a call alone.
    """
    if dimension > _LARGE:
        return orthonormal(generator(seed, ALL, SURVEY, first, 2), count, dimension)
    wanted = np.arange(first, first + count)
    numbers, rows = wanted // dimension, wanted % dimension
    found = np.empty((count, dimension))
    for number in np.unique(numbers):
        there = numbers == number
        found[there] = _basis(seed, int(number), dimension)[rows[there]]
    return found


class Adam:
    """Steps of Adam (Kingma and Ba, 2015), from the beginning of a round on."""

    def __init__(self, dimension: int, eta: float) -> None:
        self.eta, self.t = eta, 0
        self.m, self.v = np.zeros(dimension), np.zeros(dimension)

    def step(self, gradient: Array) -> Array:
        """Step (d,) to be subtracted."""
        self.t += 1
        self.m += 0.1 * (gradient - self.m)
        self.v += 0.001 * (gradient * gradient - self.v)
        unbiased = self.m / (1.0 - 0.9**self.t)
        return np.asarray(self.eta * unbiased / (np.sqrt(self.v / (1.0 - 0.999**self.t)) + 1e-8))
