"""A schema from the data itself, which gives some of the data away."""

from __future__ import annotations

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from evolve.gsd.columns import WHOLE, Column, category, integer, number_of, real
from evolve.gsd.files import read_cells
from evolve.gsd.schema import Schema
from zoo.errors import InputError

_FEW = 100  # distinct numbers that are taken for categories


def infer_schema(path: str) -> Schema:
    """Schema that a file happens to fit.

    **This is a leak.** Every category, minimum and maximum is some person's value, published
    without noise: no guarantee of privacy holds for a table made with this schema. Use it where
    the user has asked for it, and mark the result as not private.

    At most 100 distinct values, or any that are no numbers, are categories; other numbers range
    from the least to the greatest found. Empty cells are nulls; so is the one text in a column of
    more numbers than that.

    Parameters
    ----------
    path : str
        CSV or Parquet, by its name.

    Raises
    ------
    InputError
        If the file cannot be read, a column cannot be one of a schema, or it seems to hold
        identifiers or free text.
    """
    cells = read_cells(path)
    for name, column in cells.items():
        rows = len(column.index)
        words = [t for t in column.distinct if t and not math.isfinite(number_of(t))]
        if len(words) > max(_FEW, rows / 10):
            raise InputError(
                f"{path}, column {name!r}: {len(words):,} different texts in {rows:,} rows look "
                "like names, identifiers or free text, which a schema from the data gives away"
            )
    try:
        return Schema(tuple(_column(name, cells[name].distinct) for name in cells))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _column(name: str, distinct: list[str | None]) -> Column:
    texts = [text for text in distinct if text is not None and text.strip()]
    null = "" if len(texts) < len(distinct) else None
    words = [text for text in texts if not math.isfinite(number_of(text))]
    if len(texts) - len(words) > _FEW and (not words or (len(words) == 1 and null is None)):
        null = words[0] if words else null
        return _range(name, [number_of(text) for text in texts if text not in words], null)
    labels = sorted(texts) if words else sorted(texts, key=lambda text: (number_of(text), text))
    whole = all(re.fullmatch(WHOLE, label) for label in labels)
    return category(name, labels, null, whole)


def _range(name: str, values: list[float], null: str | None) -> Column:
    lower, upper = min(values), max(values)
    if all(value.is_integer() for value in values):
        return integer(name, lower, upper, null)
    # outwards to 12 digits, which a column can have
    places = 12 - math.ceil(math.log10(max(abs(lower), abs(upper), 1)))
    unit = Decimal(1).scaleb(-places)
    low = Decimal(lower).quantize(unit, ROUND_FLOOR)
    high = Decimal(upper).quantize(unit, ROUND_CEILING)
    return real(name, float(low), float(high), null)
