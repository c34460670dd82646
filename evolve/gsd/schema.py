"""What may be in a table: its columns, their labels and ranges. Public, or it gives data away."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evolve.gsd.columns import MOST_CODES, RESOLUTION, Column, category, integer, real
from zoo.errors import InputError

_KEYS = ("dtype", "values", "min", "max", "has_null", "null_value", "decimals", "bins")
_DTYPES = {  # what a data frame calls them: the kinds of number that they may be
    r"u?int(8|16|32|64)?": "integer",
    r"float(16|32|64)?": "real",
    r"object|str|string|category": "any",
}


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError("a schema must have at least one column")
        if len(set(self.names)) < len(self.names):
            raise InputError("a schema has two columns of one name")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Number of codes of each column, (d,), the nulls' included."""
        return np.array([column.size for column in self.columns], dtype=np.int64)

    def column(self, name: str) -> Column:
        """Column of a name.

        Raises
        ------
        InputError
            If there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise InputError(f"the schema has no column {name!r}{_hint(name, self.names)}")

    def describe(self) -> dict[str, Any]:
        """Plain JSON value from which :func:`schema_of` makes an equal schema."""
        return {"schema": {column.name: _describe(column) for column in self.columns}}


def read_schema(path: str, resolution: int = RESOLUTION) -> Schema:
    """Schema of a JSON file.

    Parameters
    ----------
    path : str
        See :func:`schema_of` for what it may hold.
    resolution : int
        Bins of a column with more numbers than that.

    Raises
    ------
    InputError
        If the file cannot be read, is no JSON, or is no schema.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file, object_pairs_hook=_without_twins)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    try:
        return schema_of(content, resolution)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def schema_of(content: Any, resolution: int = RESOLUTION) -> Schema:
    """Schema from a JSON value.

    Parameters
    ----------
    content : dict
        ``{COLUMN: {"dtype": ..., "values": [...]}}`` or ``{COLUMN: {"dtype": ..., "min": ...,
        "max": ...}}``, with or without an outer ``{"schema": ...}``; a column of codes 0 to
        size - 1 may be given as ``{COLUMN: size}``. Optional: ``has_null``, ``null_value`` (an
        empty cell by default), ``decimals`` of reals, ``bins`` of numbers. Numbers of dtype
        object are integers if both bounds are whole and no decimals are given.
    resolution : int
        Bins of a column with more numbers than that.

    Raises
    ------
    InputError
        For anything else; it names the column and the rule.
    """
    if not isinstance(resolution, int) or not 1 <= resolution <= MOST_CODES:
        raise InputError(f"resolution must be from 1 to {MOST_CODES}, got {resolution!r}")
    if isinstance(content, dict) and isinstance(content.get("schema"), dict):
        inner = content["schema"]
        if not set(inner) & set(_KEYS) or any(isinstance(v, dict) for v in inner.values()):
            if len(content) > 1:
                other = next(key for key in content if key != "schema")
                raise InputError(f"unknown key {other!r} beside 'schema'")
            content = inner
    if not isinstance(content, dict):
        raise InputError("a schema must be an object of columns, {COLUMN: {...}}")
    return Schema(tuple(_column(name, entry, resolution) for name, entry in content.items()))


def _column(name: str, entry: Any, resolution: int) -> Column:
    if isinstance(entry, int) and not isinstance(entry, bool):
        if not 1 <= entry <= MOST_CODES:
            raise InputError(f"column {name!r}: size must be from 1 to {MOST_CODES}, got {entry}")
        return category(name, [str(code) for code in range(entry)], whole=True)
    if not isinstance(entry, dict):
        raise InputError(
            f"column {name!r} must be an object such as {{'dtype': 'int64', 'min': 0, 'max': 9}}, "
            f"or a whole number of codes; got {entry!r:.80}"
        )
    for key in entry:
        if key not in _KEYS:
            raise InputError(f"column {name!r}: unknown key {key!r}{_hint(key, _KEYS)}")
    kind = _kind(name, entry.get("dtype", "object"))
    null = _null(name, entry)
    if "values" in entry:
        for key in ("min", "max", "decimals", "bins"):
            if key in entry:
                raise InputError(f"column {name!r} has values, which go without {key}")
        values = entry["values"]
        if not isinstance(values, list):
            raise InputError(f"column {name!r}: values must be a list, got {values!r:.80}")
        labels = [_text(name, "a value", value) for value in values]
        labels = [label for label in labels if label != null]
        return category(name, labels, null, whole=kind == "integer")
    for key in ("min", "max"):
        if key not in entry:
            raise InputError(f"column {name!r} must have values, or min and max: no {key}")
    lower, upper = (_bound(name, key, entry[key]) for key in ("min", "max"))
    decimals, bins = (_count(name, key, entry.get(key)) for key in ("decimals", "bins"))
    if kind == "any":
        whole = decimals is None and lower.is_integer() and upper.is_integer()
        kind = "integer" if whole else "real"
    if kind == "real":
        return real(name, lower, upper, null, bins, decimals, resolution)
    if decimals:
        raise InputError(f"column {name!r} is of whole numbers, which have no decimals")
    return integer(name, lower, upper, null, bins, resolution)


def _kind(name: str, dtype: Any) -> str:
    for pattern, kind in _DTYPES.items():
        if isinstance(dtype, str) and re.fullmatch(pattern, dtype, re.IGNORECASE):
            return kind
    raise InputError(
        f"column {name!r}: dtype must be object, string, category, int64 or float64 (or their "
        f"other sizes), got {dtype!r}"
    )


def _null(name: str, entry: Mapping[str, Any]) -> str | None:
    has_null = entry.get("has_null", "null_value" in entry)
    if not isinstance(has_null, bool):
        raise InputError(f"column {name!r}: has_null must be true or false, got {has_null!r}")
    if not has_null:
        if "null_value" in entry:
            raise InputError(f"column {name!r} has a null_value, but has_null is false")
        return None
    value = entry.get("null_value")
    return "" if value is None else _text(name, "null_value", value)


def _text(name: str, what: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"column {name!r}: {what} must be a text or a number, got {value!r:.80}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"column {name!r}: {what} must be finite, got {value}")
    return str(value)


def _bound(name: str, key: str, value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not abs(value) < math.inf or abs(value) > 1e300:
        raise InputError(f"column {name!r}: {key} must be a finite number, got {value!r:.80}")
    return float(value)


def _count(name: str, key: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InputError(f"column {name!r}: {key} must be a whole number, got {value!r:.80}")
    return value


def _describe(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if column.null is not None:
        entry |= {"has_null": True, "null_value": column.null}
    if column.kind == "category":
        values = [int(label) for label in column.labels] if column.whole else [*column.labels]
        return entry | {"dtype": "int64" if column.whole else "object", "values": values}
    entry["dtype"] = "int64" if column.kind == "integer" else "float64"
    entry |= {"min": column.lower, "max": column.upper, "bins": column.bins}
    return entry | ({"decimals": column.decimals} if column.kind == "real" else {})


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{twice!r} is there twice")
    return content


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(known[:12])}"
