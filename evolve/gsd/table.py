"""Tables between files and codes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evolve.gsd.cells import Cells
from evolve.gsd.columns import Codes, Column, number_of
from evolve.gsd.files import check_output, is_parquet, read_cells, writing
from evolve.gsd.schema import Schema
from zoo.errors import InputError


def read_table(path: str, schema: Schema, clip: bool = False) -> Codes:
    """Codes of a table, (N, d), in the order of the schema's columns.

    Parameters
    ----------
    path : str
        CSV (UTF-8, with a header) or Parquet, by its name. Its columns may be in any order; those
        that the schema does not have are left out.
    schema : Schema
    clip : bool
        Whether values outside the schema are moved into it: numbers to the nearest bound, other
        texts to the null, where the column has one.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has a value outside the schema; the error
        names its column and its row, of which the first after the header is 1.
    """
    cells = read_cells(path, schema.names)
    rows = len(cells[schema.names[0]].index)
    codes = np.empty((rows, len(schema.columns)), np.int32)
    for j, column in enumerate(schema.columns):
        codes[:, j] = _encode(path, column, cells.pop(column.name), clip)
    return codes


def write_table(path: str, schema: Schema, codes: Codes, seed: int) -> None:
    """Write a table, which :func:`read_table` reads as the same codes.

    A number is drawn evenly from those of its bin. The file appears when it is complete. CSV has
    nulls as the schema writes them; Parquet has its own, and int64, float64 and string columns.

    Parameters
    ----------
    path : str
        CSV or Parquet, by its name.
    schema : Schema
    codes : int32 array (N, d)
    seed : int
        Of the numbers within their bins.

    Raises
    ------
    InputError
        If the codes are not the schema's, the folder does not exist, or pyarrow is missing.
    RunError
        If the file cannot be written.
    """
    if codes.ndim != 2 or codes.shape[1] != len(schema.columns) or not len(codes):
        raise InputError(f"codes must be rows of {len(schema.columns)}, got shape {codes.shape}")
    outside = ((codes < 0) | (codes >= schema.sizes)).any(axis=0)
    if outside.any():
        column = schema.columns[int(np.argmax(outside))]
        raise InputError(f"column {column.name!r}: codes must be from 0 to {column.size - 1}")
    check_output(path)
    rng = np.random.Generator(np.random.Philox(key=seed))
    if is_parquet(path):
        _write_parquet(path, schema, codes, rng)
        return
    texts = [_texts(column, codes[:, j], rng) for j, column in enumerate(schema.columns)]
    with writing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(schema.names)
        writer.writerows(zip(*texts, strict=True))
        text.detach()  # flushes it, and leaves the file open


def _encode(path: str, column: Column, cells: Cells, clip: bool) -> Codes:
    """Codes of a column's rows, (N,)."""
    texts = cells.distinct
    found = _labelled(column, texts) if column.kind == "category" else _binned(column, texts, clip)
    if clip and column.null is not None:
        found[found < 0] = column.bins
    codes = found[cells.index]
    if (found < 0).any():
        row = int(np.argmax(codes < 0))
        rule = _rule(column, texts[int(cells.index[row])])
        raise InputError(f"{path}, row {row + 1}, column {column.name!r}: {rule}")
    return codes


def _labelled(column: Column, texts: Sequence[str | None]) -> Codes:
    """Codes of texts, by their labels; -1 for others."""
    known: dict[str | None, int] = {label: code for code, label in enumerate(column.labels)}
    if column.null is not None:
        known |= {column.null: column.bins, None: column.bins}
    codes = np.array([known.get(text, -1) for text in texts], np.int32)
    for i, text in enumerate(texts):
        if codes[i] >= 0 or text is None:
            continue
        text = text.strip()
        number = number_of(text)
        if column.whole and number.is_integer():  # 2.0 where labels are whole numbers
            text = str(int(number))
        codes[i] = known.get(text, -1)
    return codes


def _binned(column: Column, texts: Sequence[str | None], clip: bool) -> Codes:
    """Codes of numbers, by their bins; -1 for other texts, and outside the range."""
    values = np.array([math.nan if text is None else number_of(text) for text in texts])
    null = np.zeros(len(texts), bool)
    if column.null is not None:
        same = [text is None or text.strip() == column.null.strip() for text in texts]
        null = np.array(same) | (values == number_of(column.null))
    if column.kind == "integer":
        values[np.isfinite(values) & (values != np.floor(values))] = math.nan
    if clip:
        values = np.clip(values, column.lower, column.upper)
    within = (values >= column.lower) & (values <= column.upper)
    codes = np.where(within, column.codes(values), -1).astype(np.int32)
    codes[null] = column.bins
    return codes


def _rule(column: Column, text: str | None) -> str:
    """What is wrong with a cell."""
    if text is None:
        return "a null, and the schema has none in this column"
    to_null = " (clip makes it the null)" if column.null is not None else ""
    if column.kind == "category":
        labels = ", ".join(repr(label) for label in column.labels[:8])
        more = f" and {column.bins - 8} more" if column.bins > 8 else ""
        return f"{text!r:.80} is not among the values {labels}{more}{to_null}"
    value = number_of(text)
    if math.isnan(value):
        return f"{text!r:.80} is no number{to_null}"
    if column.kind == "integer" and math.isfinite(value) and not value.is_integer():
        return f"{text!r:.80} is no whole number{to_null}"
    return (
        f"{text.strip():.80} is not within {column.lower:.15g} to {column.upper:.15g} "
        "(clip moves it to the nearest of these)"
    )


def _units(column: Column, codes: Codes, rng: np.random.Generator) -> Any:
    """Numbers in units of 10^-decimals, int64 (N,), each drawn from its bin."""
    edges = column.units
    last = edges[1:] - 1
    if column.kind == "real":
        last[-1] += 1  # the last bin is closed
    bins = np.minimum(codes, column.bins - 1)  # a null draws too, and is not shown
    return rng.integers(edges[bins], last[bins], endpoint=True)


def _texts(column: Column, codes: Codes, rng: np.random.Generator) -> list[str]:
    if column.kind == "category":
        words = [*column.labels, column.null]
        return [words[code] for code in codes.tolist()]
    units = _units(column, codes, rng)
    if column.kind == "integer":
        texts = list(map(str, units.tolist()))
    else:
        form = f"%.{column.decimals}f"
        texts = [form % value for value in (units / 10.0**column.decimals).tolist()]
    if column.null is not None:
        for row in np.flatnonzero(codes == column.bins):
            texts[row] = column.null
    return texts


def _write_parquet(path: str, schema: Schema, codes: Codes, rng: np.random.Generator) -> None:
    from evolve.gsd import parquet

    columns = {}
    for j, column in enumerate(schema.columns):
        null = codes[:, j] == column.bins
        if column.kind == "category":
            labels = [int(label) for label in column.labels] if column.whole else column.labels
            columns[column.name] = parquet.labels(labels, codes[:, j], null)
        else:
            units = _units(column, codes[:, j], rng)
            values = units if column.kind == "integer" else units / 10.0**column.decimals
            columns[column.name] = parquet.numbers(values, null)
    with writing(path) as file:
        parquet.write_columns(file, columns)
