"""Which queries a configuration asks for, over the columns of a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.columns import Column
from evolve.gsd.config import GSDConfig
from evolve.gsd.design import WIDE, Design
from evolve.gsd.marginals import Marginal, every
from evolve.gsd.queries import Function, Queries
from evolve.gsd.schema import Schema
from evolve.gsd.thresholds import Family
from zoo.errors import InputError
from zoo.jit import address
from zoo.objectives.load import named
from zoo.problem import is_compiled

#: Stands for functions that were given in Python.
GIVEN = "given"

#: Seed of random halfspaces and prefixes: they are public, and the same in every run.
_FAMILY_SEED = 0


def design_of(
    config: GSDConfig, schema: Schema, given: Sequence[tuple[Callable[..., float], int]] = ()
) -> Design:
    """Queries of a configuration; ``given`` are functions in place of those that it names.

    Raises
    ------
    InputError
        If it asks for what the schema does not have.
    """
    sizes = tuple(int(size) for size in schema.sizes)
    functions: tuple[Function, ...] = ()
    if given:
        functions = _checked(given, "functions")
    elif config.functions == GIVEN:
        raise InputError("the functions are needed, as they were given to synthesize")
    elif config.functions is not None:
        functions = _checked(named(config.functions, "functions"), config.functions)
    bare = Queries(sizes, functions=functions, values=_values(schema) if functions else None)
    apart = [column.null is not None for column in schema.columns]
    design = Design(bare, apart, [column.ordered for column in schema.columns], (), None)
    if config.queries == "marginals":
        design.sets = [columns for columns in _sets(config, schema) if len(columns) > 1]
        return design
    numbers = [column for column in schema.columns if column.ordered]
    if not numbers and config.queries != "functions":
        raise InputError(f"{config.queries} are for numbers, and the schema has categories alone")
    if config.queries == "ranges":
        marginals = [m for columns in _sets(config, schema) for m in _tree(columns, schema, config)]
        if not marginals:
            raise InputError("none of the marginals asked for has a column of numbers: no ranges")
        design.fixed = Queries(sizes, tuple(marginals))
    elif config.queries == "functions":
        design.fixed = bare
    else:
        values = tuple(column.bins if column.ordered else 0 for column in schema.columns)
        family = Family(config.queries, sizes, values, _FAMILY_SEED)
        design.fixed = Queries(sizes, thresholds=family.block(0, config.count))
    return design


def _sets(config: GSDConfig, schema: Schema) -> list[tuple[int, ...]]:
    """Columns of the marginals asked for."""
    d = len(schema.columns)
    if config.workload is not None:
        return _read_workload(config.workload, schema)
    if config.marginals > d:
        raise InputError(
            f"marginals must be <= {d}, the columns of the schema, got {config.marginals}"
        )
    target = None
    if config.target is not None:
        target = schema.names.index(schema.column(config.target).name)
    return every(d, config.marginals, target)


def _read_workload(path: str, schema: Schema) -> list[tuple[int, ...]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    good = isinstance(content, list) and content
    if not good or not all(_is_list_of_names(names) for names in content):
        raise InputError(f'{path} must be a list of lists of columns, such as [["age", "sex"]]')
    sets = []
    for names in content:
        try:
            columns = tuple(sorted(schema.names.index(schema.column(name).name) for name in names))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if len(set(columns)) < len(columns):
            raise InputError(f"{path}: {names!r} has a column twice")
        least = math.prod(min(schema.columns[j].size, 2) for j in columns)
        if least > WIDE:
            raise InputError(f"{path}: {len(columns)} columns are too many for one marginal")
        if columns in sets:
            raise InputError(f"{path}: {names!r} is there twice")
        sets.append(columns)
    return sets


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _tree(columns: Sequence[int], schema: Schema, config: GSDConfig) -> list[Marginal]:
    """Marginals of some columns, with every level of the numbers among them."""
    made: list[tuple[npt.NDArray[np.int64], ...]] = [()]
    for j in columns:
        levels = _levels(schema.columns[j], config.depth)
        made = [(*bins, level) for bins in made for level in levels]
    if not any(schema.columns[j].ordered for j in columns):
        return []
    return [Marginal(tuple(columns), bins) for bins in made]


def _levels(column: Column, depth: int) -> list[npt.NDArray[np.int64]]:
    """Bins of the codes of a column: in 2, 4, ... equal ranges for a number."""
    codes = np.arange(column.size)
    if not column.ordered:
        return [codes]
    counts = [1 << level for level in range(1, depth + 1) if 1 << level <= column.bins]
    # A null, whose code is the number of bins, comes out as a range of its own.
    return [codes * count // column.bins for count in counts] or [codes]


def _values(schema: Schema) -> npt.NDArray[np.float64]:
    """What functions are given for a code: the middle of a number's bin, NaN for a null."""
    values = np.full((len(schema.columns), int(schema.sizes.max())), np.nan)
    for j, column in enumerate(schema.columns):
        if column.ordered:
            edges = column.edges
            upper = edges[1:] - 1.0 if column.kind == "integer" else edges[1:]
            values[j, : column.bins] = 0.5 * (edges[:-1] + upper)
        else:
            values[j, : column.bins] = np.arange(column.bins)
    return values


def _checked(found: Any, what: str) -> tuple[Function, ...]:
    wanted = f"{what} must be a list of (function, cells), each compiled by numba.njit"
    if not isinstance(found, list | tuple) or not found:
        raise InputError(wanted)
    functions = []
    for one in found:
        pair = isinstance(one, list | tuple) and len(one) == 2
        if not pair or not is_compiled(one[0]) or type(one[1]) is not int or one[1] < 1:
            raise InputError(f"{wanted}; got {one!r:.80}")
        try:
            address(one[0])  # compiles it: better now than when budget has been spent
        except TypeError as error:
            raise InputError(f"{what}: {error}") from None
        functions.append(Function(*one))
    return tuple(functions)
