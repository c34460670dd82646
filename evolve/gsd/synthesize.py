"""Private-GSD in Python: a synthetic table from codes."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evolve.gsd.config import GSDConfig, TableConfig
from evolve.gsd.schema import Schema
from evolve.gsd.study import (
    Given,
    assembled,
    check_rows,
    check_sizes,
    describe,
    stored_given,
)
from evolve.gsd.workload import GIVEN
from zoo.config import build
from zoo.errors import InputError, RunError
from zoo.optimize import as_seed, split_placement, warn
from zoo.runtime.events import Listener
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import Prepared, launch, taken_up


def synthesize(
    table: Any,
    schema: Schema,
    *,
    ledger: Any = None,
    functions: Sequence[tuple[Callable[..., float], int]] = (),
    seed: int = 0,
    folder: Any = None,
    name: str = "table",
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Synthesize a table from one of people.

    Parameters
    ----------
    table : (N, d) int array
        Codes by the schema, such as :func:`evolve.gsd.table.read_table` gives.
    schema : Schema
        Public.
    ledger : path
        File that keeps the budget; needed unless ``epsilon`` is infinite.
    functions : sequence of (function, cells)
        With ``queries="functions"``: compiled by ``numba.njit``, ``function(x)`` is the cell, from
        0 on, of a row of values x (d,): a number as it is, a category as its code, NaN for a null.
    seed : int
        Of the search. The noise comes from the operating system.
    folder : path, optional
        Where to keep measurements and snapshots; without one, what a crash interrupts is lost, and
        the budget spent.
    name : str
        Of the data, for the ledger.
    threads, workers, callback, listeners
        See :func:`zoo.minimize`.
    **options
        Of :class:`evolve.gsd.config.GSDConfig`, and where workers are.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``codes`` (rows, d) is the synthetic table; the other fields are those of ``zoo run gsd``.

    Raises
    ------
    InputError
        If an argument cannot be used, or the budget is spent.
    """
    placement, crew, options = split_placement(workers, options)
    placement.check(threads)
    if functions:
        options["functions"] = GIVEN
    config = build(GSDConfig, options)
    codes = np.asarray(table)
    if codes.ndim != 2 or codes.shape[1] != len(schema.columns) or not len(codes):
        raise InputError(f"table must be rows of {len(schema.columns)} codes, got {codes.shape}")
    if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= schema.sizes).any():
        raise InputError("table must be whole numbers from 0 to the sizes of the schema's columns")
    if ledger is None and config.epsilon < math.inf:
        raise InputError("a ledger is needed: ledger = the file that keeps the budget of the data")
    check_sizes(schema)
    check_rows(config, len(codes))
    tables = TableConfig(ledger=None if ledger is None else os.path.abspath(os.fspath(ledger)))
    where = None if folder is None else Path(folder)
    given = Given(tables, config, schema, as_seed(seed), uuid.uuid4().hex, where, name)
    described = describe("gsd", given, from_python=True)
    prepared = assembled(given, lambda: codes, described, functions)
    kept = None
    if where is not None:
        kept = RunFolder(where)
        kept.create(described)
    return _launched(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
    )


def resume(
    folder: Any,
    table: Any = None,
    *,
    functions: Sequence[tuple[Callable[..., float], int]] = (),
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Continue a run of :func:`synthesize` from its folder; returns what it would have.

    Parameters
    ----------
    folder : path
    table : (N, d) int array, optional
        Needed if something is left to be measured.
    functions
        As given to :func:`synthesize`.
    threads, workers, callback, listeners, **options
        See :func:`zoo.resume`.

    Raises
    ------
    RunError
        If the folder holds no such run, or it has ended.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    kept = RunFolder(folder)
    stored = kept.config()
    if kept.result() is not None:
        raise RunError(f"the run in {folder} has ended")
    given = stored_given(stored, kept)

    def codes() -> Any:
        if table is None:
            raise InputError("the table is needed: something is left to be measured")
        return np.asarray(table)

    prepared = assembled(given, codes, stored, functions)
    return _launched(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
        snapshot=taken_up(kept),
    )


def _launched(prepared: Prepared, **how: Any) -> Any:
    result = launch(replace(prepared, complete=lambda fields: fields | {"out": None}), **how)
    method: Any = prepared.method
    result["codes"] = method.codes
    return result
