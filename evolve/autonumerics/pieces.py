"""The true values of a function at every float32 of its domain, as a piecewise polynomial.

It is in double precision, made from arbitrary precision: a piece that between its nodes is wrong by
a thousandth of a unit in the last place (ULP) is cut in two, down to some numbers, whose values are
taken one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.grid import truth_at
from evolve.autonumerics.targets import Target
from zoo.errors import InputError

Array = npt.NDArray[np.float64]

#: Degree of the pieces of the truth, and pieces of a binade.
_DEGREE, _PIECES = 11, 8

#: Binades below this have one piece, of a low degree: the function is nearly linear there.
_TINY, _TINY_DEGREE = -24, 3

#: A polynomial may be wrong by so many ULP; of so few numbers there is none, and at most so many
#: pieces there are.
_WRONG, _FEW, _MOST_PIECES = 1e-3, 64, 200_000

#: The least ULP.
LEAST = 2.0**-149


@dataclass(frozen=True)
class Piece:
    """Float32 of consecutive bits, and the polynomial that is the truth of them.

    ``power`` is the power of two that none of the true values is below, nor twice as large; 0 if
    there is no such. The polynomial's own rounding must not take 1 for what is less.
    """

    first: int
    last: int
    middle: float
    scale: float
    factors: Array
    power: float


def pieces_of(target: Target, ends: tuple[np.float32, np.float32]) -> list[Piece]:
    """Pieces of all float32 between two, with them.

    Raises
    ------
    InputError
        If there are too many.
    """
    left = list(_ranges(*ends))[::-1]
    found: list[Piece] = []
    while left:
        first, last, degree = left.pop()
        if last - first <= _FEW:
            values, low = truth_at(target, _singles(first, last))
            powers = _powers(values, low)
            for k, (value, power) in enumerate(zip(values, powers, strict=True)):
                piece = Piece(first + k, first + k + 1, 0.0, 1.0, np.array([value]), power)
                found.append(piece)
        else:
            piece = _piece(target, first, last, degree)
            wrong, power = _checked(target, piece)
            if wrong <= _WRONG:
                found.append(replace(piece, power=power))
            else:
                middle = (first + last) // 2
                left += [(middle, last, _DEGREE), (first, middle, _DEGREE)]
        if len(found) > _MOST_PIECES:
            raise InputError(
                f"{target.name} is too irregular in its domain for float32: "
                f"{_MOST_PIECES:,} polynomials are not enough"
            )
    return found


def _piece(target: Target, first: int, last: int, degree: int) -> Piece:
    low, high = (float(_single(bits)) for bits in (first, last - 1))
    middle, half = 0.5 * (low + high), 0.5 * abs(high - low)
    nodes = np.cos((np.arange(degree + 1) + 0.5) * np.pi / (degree + 1))
    values = truth_at(target, middle + half * nodes)[0]
    series = np.polynomial.chebyshev.Chebyshev.fit(nodes, values, degree, domain=(-1, 1))
    factors = series.convert(kind=np.polynomial.Polynomial).coef[::-1]
    return Piece(first, last, middle, 1.0 / half, np.ascontiguousarray(factors), 0.0)


def _checked(target: Target, piece: Piece) -> tuple[float, float]:
    """Largest error of a piece, in ULP: at its ends, and between the nodes; and its power."""
    count = len(piece.factors) + 1
    between = 0.5 - 0.5 * np.cos(np.arange(count) * np.pi / (count - 1))
    offsets = np.round(between * (piece.last - piece.first - 1)).astype(np.int64)
    offsets = np.unique(np.concatenate([offsets, [1, piece.last - piece.first - 2]]))
    x = np.array([float(_single(piece.first + int(k))) for k in offsets])
    truth, low = truth_at(target, x)
    t = (x - piece.middle) * piece.scale
    made = np.polynomial.polynomial.polyval(t, piece.factors[::-1])
    power = np.ldexp(1.0, np.frexp(truth)[1] - 24)
    units = np.where(truth == 0.0, LEAST, np.maximum(power, LEAST))
    powers = np.unique(_powers(truth, low))
    same = float(powers[0]) if len(powers) == 1 else 0.0
    return float(np.max(np.abs(made - truth) / units)), same


def _powers(high: Array, low: Array) -> Array:
    """Powers of two that the sizes of values in two parts are not below; 0 for zeros."""
    size = np.abs(high)
    powers = np.where(size > 0.0, np.ldexp(1.0, np.frexp(size)[1] - 1), 0.0)
    return np.where((size == powers) & (low * np.sign(high) < 0.0), 0.5 * powers, powers)


def _singles(first: int, last: int) -> Array:
    """Float32 of consecutive bits, as numbers."""
    return np.array([float(_single(bits)) for bits in range(first, last)])


def _single(bits: int) -> Any:
    return np.array(bits, np.int64).astype(np.uint32).view(np.float32)


def _ranges(low: np.float32, high: np.float32) -> Iterator[tuple[int, int, int]]:
    """Ranges of bits (as signed numbers) of all float32 in an interval, and degrees."""
    for negative in (True, False):
        # Bits count the numbers of one sign outwards from zero.
        near, far = (-high, -low) if negative else (low, high)
        if far < 0 or (negative and far == 0):
            continue
        begin = int(np.float32(max(near, np.float32(0)) + np.float32(0)).view(np.int32))  # not -0
        end = int(np.float32(far).view(np.int32)) + 1
        sign = -(1 << 31) if negative else 0
        for binade in range(begin >> 23, (end >> 23) + 1):
            first, last = max(begin, binade << 23), min(end, (binade + 1) << 23)
            tiny = binade - 127 < _TINY
            parts = 1 if tiny else _PIECES
            bounds = np.linspace(first, last, parts + 1).astype(np.int64)
            for a, b in itertools.pairwise(bounds):
                if a < b:
                    yield int(a) + sign, int(b) + sign, _TINY_DEGREE if tiny else _DEGREE
