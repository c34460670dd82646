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
from evolve.gsd.curator import read_releases
from evolve.gsd.memory import stated_memory
from evolve.gsd.schema import Schema
from evolve.gsd.study import (
    Given,
    assembled,
    check_new,
    check_rows,
    check_sizes,
    checked_codes,
    describe,
    stored_given,
)
from evolve.gsd.table import read_table
from evolve.gsd.workload import GIVEN, design_of
from zoo.config import build
from zoo.errors import InputError
from zoo.optimize import as_seed, split_placement, warn
from zoo.runtime.events import Listener
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import Prepared, launch, optimize_result, taken_up

#: The table, in the run folder.
_OUT = "synthetic.csv"


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
        Where to keep measurements, snapshots and the table; without one, what a crash interrupts is
        lost, and the budget spent.
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
    codes = checked_codes(table, schema)
    if ledger is None and config.epsilon < math.inf:
        raise InputError("a ledger is needed: ledger = the file that keeps the budget of the data")
    check_sizes(schema)
    check_rows(config, len(codes))
    tables = TableConfig(ledger=None if ledger is None else os.path.abspath(os.fspath(ledger)))
    where = None if folder is None else Path(folder)
    if where is not None:
        check_new(where)
        tables = replace(tables, out=str(where.absolute() / _OUT))
    design = design_of(config, schema, functions)
    stated_memory(config, design, len(codes))
    given = Given(tables, config, schema, design, as_seed(seed), uuid.uuid4().hex, where, name)
    described = describe("gsd", given, from_python=True)
    prepared = assembled(given, lambda: codes, described, [])
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
    """Continue a run of :func:`synthesize` from its folder; returns what it would have, or has.

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
        If the folder holds no such run, or a damaged one.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    kept = RunFolder(folder)
    stored = kept.config()
    given = stored_given(stored, kept, functions)
    done = kept.result()
    if done is not None:
        made = read_table(given.tables.out, given.schema)
        return optimize_result(done | {"codes": made})

    def codes() -> Any:
        if table is None:
            raise InputError("the table is needed: something is left to be measured")
        return checked_codes(table, given.schema)

    snapshot = taken_up(kept)
    try:
        releases = read_releases(kept.path, given.design.bare, given.run)
        prepared = assembled(given, codes, stored, releases)
    except BaseException:
        kept.unlock()
        raise
    return _launched(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
        snapshot=snapshot,
    )


def _launched(prepared: Prepared, **how: Any) -> Any:
    if how["folder"] is None:
        prepared = replace(prepared, complete=lambda fields, folder: fields | {"out": None})
    result = launch(prepared, **how)
    method: Any = prepared.method
    result["codes"] = method.codes.astype(np.int32)
    return result
