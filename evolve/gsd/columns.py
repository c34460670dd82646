"""A column of a table: its type, its range, and the codes that stand for its values.

Numbers are written in whole units of 10^-decimals, and the edges of their bins lie on such units.
So every bin holds a number that can be written, and what is written is read as the same code.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from zoo.errors import InputError

Codes = np.ndarray[Any, np.dtype[np.int32]]
Array = np.ndarray[Any, np.dtype[np.float64]]
Kind = Literal["category", "integer", "real"]

RESOLUTION = 1024  # bins of a column with more numbers than that
MOST_CODES = 1_000_000
_DIGITS = 15  # of a decimal number that a float64 gives back
_WRITTEN = 100  # numbers in a bin, at least, if nothing says how many decimals there are

#: A whole number of at most 18 digits, as Python writes it.
WHOLE = "0|-?[1-9][0-9]{0,17}"

# Line breaks and byte-order marks do not survive in every CSV file, lone surrogates in none.
_UNWRITABLE = re.compile("[\x00\r\n\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Column:
    """One column; made by :func:`category`, :func:`integer` or :func:`real`.

    Attributes
    ----------
    name : str
    kind : 'category', 'integer' or 'real'
    bins : int
        Codes of values: 0 to bins - 1. The null, if there is one, has the code ``bins``.
    labels : tuple of str
        What the codes of a category stand for, as written in a file.
    whole : bool
        Whether the labels are whole numbers, which Parquet stores as such.
    lower, upper : int or float
        Range of a number, both included.
    decimals : int
        Decimals with which a number is written; 0 for integers.
    null : str or None
        How a missing value is written (Parquet has nulls of its own); None if there are none.
    """

    name: str
    kind: Kind
    bins: int
    labels: tuple[str, ...] = ()
    whole: bool = False
    lower: float = 0
    upper: float = 0
    decimals: int = 0
    null: str | None = None

    @property
    def size(self) -> int:
        """Number of codes, with that of the null."""
        return self.bins + (self.null is not None)

    @property
    def ordered(self) -> bool:
        """Whether codes are in the order of their values: those of numbers are."""
        return self.kind != "category"

    @property
    def units(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Edges of the bins of a number, (bins + 1,), in units of 10^-decimals.

        Bin i holds the units from ``units[i]`` to ``units[i + 1] - 1``; the last bin of a real
        its upper end too.
        """
        lower, upper = (_in_units(bound, self.decimals) for bound in (self.lower, self.upper))
        span = upper - lower + (self.kind == "integer")
        # ceil(i span / bins), without a product that overflows
        steps, rest = divmod(span, self.bins)
        i = np.arange(self.bins + 1, dtype=np.int64)
        return lower + i * steps - (-i * rest) // self.bins

    @property
    def edges(self) -> Array:
        """Edges of the bins of a number, (bins + 1,), of equal width to one unit of its decimals.

        Bin i is [edges[i], edges[i + 1]), the last one closed. The last edge of integers is
        upper + 1: each of them fills its width of 1.
        """
        return self.units / 10.0**self.decimals

    def codes(self, values: Array) -> Codes:
        """Codes of numbers within the range; those of others mean nothing."""
        found = np.searchsorted(self.edges, values, side="right") - 1
        return np.clip(found, 0, self.bins - 1).astype(np.int32)


def category(
    name: str, labels: Sequence[str], null: str | None = None, whole: bool = False
) -> Column:
    """Column of labels.

    Raises
    ------
    InputError
        If there are none, two are equal, or one cannot be written.
    """
    if not labels:
        raise InputError(f"column {name!r}: values must be at least one besides the null")
    if len(labels) > MOST_CODES:
        raise InputError(f"column {name!r} has {len(labels)} values, at most {MOST_CODES} are")
    _check_writable(name, *labels, null or "")
    if len(set(labels)) < len(labels):
        twice = Counter(labels).most_common(1)[0][0]
        raise InputError(f"column {name!r}: value {twice!r} is there twice")
    if null in labels:
        raise InputError(f"column {name!r}: the null {null!r} is among the values")
    if whole:
        for label in labels:
            if not re.fullmatch(WHOLE, label):
                raise InputError(f"column {name!r}: value {label!r} is no whole number")
    return Column(name, "category", len(labels), tuple(labels), whole, null=null)


def integer(
    name: str,
    lower: float,
    upper: float,
    null: str | None = None,
    bins: int | None = None,
    resolution: int = RESOLUTION,
) -> Column:
    """Column of whole numbers from lower to upper.

    One code each if they are at most ``resolution``, else that many bins, if ``bins`` is not given.

    Raises
    ------
    InputError
        For a range that is empty or not of whole numbers, or a null or bins that do not go with it.
    """
    if not float(lower).is_integer() or not float(upper).is_integer():
        raise InputError(f"column {name!r}: min and max must be whole, got {lower}, {upper}")
    lower, upper = int(lower), int(upper)
    return _number(name, "integer", lower, upper, 0, null, bins, resolution)


def real(
    name: str,
    lower: float,
    upper: float,
    null: str | None = None,
    bins: int | None = None,
    decimals: int | None = None,
    resolution: int = RESOLUTION,
) -> Column:
    """Column of real numbers from lower to upper, in ``bins`` or else ``resolution`` bins.

    There are fewer if so few numbers have those decimals. Without ``decimals`` a bin has a
    hundred numbers or more.

    Raises
    ------
    InputError
        For a range that is empty or has too many digits, or a null, bins or decimals that do not
        go with it.
    """
    lower, upper = float(lower), float(upper)
    needed = max(_decimals(lower), _decimals(upper))
    largest = max(abs(lower), abs(upper), 1e-300)
    room = _DIGITS - max(math.ceil(math.log10(largest)), 0)
    if needed > room:
        raise InputError(
            f"column {name!r}: min {lower} and max {upper} do not fit in {_DIGITS} digits: "
            "round them, or choose another unit"
        )
    if decimals is None:
        width = (upper - lower) / (bins or resolution)
        wanted = math.ceil(math.log10(_WRITTEN / width)) if width > 0 else 0
        decimals = max(needed, min(wanted, room))
    elif not needed <= decimals <= room:
        raise InputError(
            f"column {name!r}: decimals must be from {needed} to {room} for min {lower} and "
            f"max {upper}, got {decimals}"
        )
    return _number(name, "real", lower, upper, decimals, null, bins, resolution)


def _number(
    name: str,
    kind: Kind,
    lower: float,
    upper: float,
    decimals: int,
    null: str | None,
    bins: int | None,
    resolution: int,
) -> Column:
    _check_writable(name, null or "")
    if lower > upper:
        raise InputError(f"column {name!r}: min {lower} is above max {upper}")
    if max(abs(lower), abs(upper)) > 10**_DIGITS:
        raise InputError(f"column {name!r}: min and max must be within +-1e{_DIGITS}")
    if null is not None and lower <= number_of(null) <= upper:
        raise InputError(
            f"column {name!r}: the null {null!r} is a number between min {lower} and max {upper}"
        )
    first, last = _in_units(lower, decimals), _in_units(upper, decimals)
    most = last - first + 1 if kind == "integer" else max(last - first, 1)
    if bins is None:
        bins = min(resolution, most)
    elif not 1 <= bins <= min(most, MOST_CODES):
        raise InputError(
            f"column {name!r}: bins must be from 1 to {min(most, MOST_CODES)}, got {bins}"
        )
    return Column(name, kind, bins, lower=lower, upper=upper, decimals=decimals, null=null)


def number_of(text: str) -> float:
    """The number that a text is; NaN if it is none."""
    try:
        return math.nan if "_" in text else float(text)  # Python's own 1_000 is no number here
    except ValueError:
        return math.nan


def _check_writable(name: str, *texts: str) -> None:
    if not name:
        raise InputError("a column has no name")
    for text in (name, *texts):
        if _UNWRITABLE.search(text):
            raise InputError(f"column {name!r}: {text!r} has a character that CSV does not keep")


def _decimals(bound: float) -> int:
    """Decimals of a number as it is written."""
    exponent = Decimal(repr(bound)).normalize().as_tuple().exponent
    assert isinstance(exponent, int), "bounds are finite"
    return max(-exponent, 0)


def _in_units(bound: float, decimals: int) -> int:
    return int(Decimal(repr(bound)).scaleb(decimals))
