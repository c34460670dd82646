"""Parquet files, by pyarrow, which is optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from evolve.gsd.cells import Cells, places
from evolve.gsd.columns import Codes
from zoo.errors import InputError
from zoo.extras import needed


def library() -> Any:
    """Return pyarrow.

    Raises
    ------
    InputError
        If it is not installed.
    """
    needed("pyarrow.parquet", "Parquet needs pyarrow", "parquet")
    return needed("pyarrow", "Parquet needs pyarrow", "parquet")


def parquet_cells(path: str, names: Sequence[str] | None) -> dict[str, Cells]:
    """Columns of a file by name, all of them by default.

    Raises
    ------
    InputError
        If it is no Parquet, lacks a column, or has one that is not of texts or numbers.
    OSError
        If it cannot be read.
    """
    pa = library()
    with open(path, "rb") as file:
        try:
            content = pa.parquet.ParquetFile(file)
            names, _ = places(path, content.schema_arrow.names, names)
            table = content.read(columns=list(names))
            return {name: _cells(pa, path, name, table[name]) for name in names}
        except pa.ArrowException as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path} cannot be read as Parquet: {reason}") from None


def write_columns(file: IO[bytes], columns: dict[str, Any]) -> None:
    """Write columns of one length, made by :func:`numbers` or :func:`labels`."""
    pa = library()
    pa.parquet.write_table(pa.table(columns), file)


def numbers(values: Any, null: Any) -> Any:
    """Column of numbers, int64 or float64 (N,), with nulls where ``null`` (N,) is true."""
    return library().array(values, mask=null)


def labels(of_codes: Sequence[str] | Sequence[int], codes: Codes, null: Any) -> Any:
    """Column of texts or int64, those of codes (N,), with nulls where ``null`` (N,) is true."""
    pa = library()
    return pa.array(of_codes).take(pa.array(codes, mask=null))


def _cells(pa: Any, path: str, name: str, column: Any) -> Cells:
    kind = column.type
    if pa.types.is_dictionary(kind):  # such as a pandas category
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_null(kind):
        return Cells([None], np.zeros(len(column), np.int32))
    good = (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )
    if not good:
        raise InputError(f"{path}: column {name!r} is of type {kind}, not of texts or numbers")
    column = column.combine_chunks().dictionary_encode(null_encoding="encode")
    values = column.dictionary.to_pylist()
    if pa.types.is_floating(kind):  # NaN is a null too, and a float32 of 0.1 is written 0.1
        number = kind.to_pandas_dtype()
        values = [None if value is None or value != value else number(value) for value in values]
    distinct = [None if value is None else str(value) for value in values]
    return Cells(distinct, column.indices.to_numpy().astype(np.int32))
