"""Searches for programs, as commands start and continue them; see :mod:`zoo.minimization`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from evolve.autonumerics.certificate import available, series_of
from evolve.autonumerics.config import OPERATIONS, TargetConfig
from evolve.autonumerics.emit import LANGUAGES
from evolve.autonumerics.front import listed, published, published_singles
from evolve.autonumerics.grid import Grid
from evolve.autonumerics.numerics import Numerics, numerics
from evolve.autonumerics.picture import draw
from evolve.autonumerics.targets import TARGETS, Target
from evolve.search.config import SearchConfig
from evolve.search.method import Islands
from zoo.config import build, taken
from zoo.errors import InputError, RunError
from zoo.extras import needed
from zoo.objectives.load import named
from zoo.optimize import as_seed, numbers, words
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.launch import Prepared


def prepare(name: str, values: dict[str, Any], seed: int) -> Prepared:
    """Prepare a run; see :func:`zoo.minimization.prepare`."""
    given = located(taken(TargetConfig, values))
    return searched(name, given, build(SearchConfig, values), seed)


def searched(
    name: str,
    given: TargetConfig,
    config: SearchConfig,
    seed: int,
    function: Callable[[Any], Any] | None = None,
) -> Prepared:
    """Prepare a search; ``function`` is a target that is known to Python only."""
    target = target_of(given, function)
    domain = domain_of(target, given)
    described = {
        "method": name,
        "problem": asdict(given),
        "config": words(config),
        "budget": {},
        "seed": seed,
        "truth": digest(domain.grid),
        "from_python": function is not None,
    }
    return assembled(given, config, target, domain, seed, described)


def reopen(stored: Mapping[str, Any], folder: RunFolder, objective: str | None) -> Prepared:
    """Prepare a stored run again; see :func:`zoo.minimization.reopen`."""
    if objective is not None:
        raise InputError("--objective is for runs that minimize one; this one evolves programs")
    return reopened(stored, folder)


def reopened(
    stored: Mapping[str, Any],
    folder: RunFolder,
    function: Callable[[Any], Any] | None = None,
) -> Prepared:
    """Prepare a stored search again; ``function`` is its target, if Python alone knows it.

    Raises
    ------
    InputError
        If the target is not the one that the search was started with.
    RunError
        If the folder is damaged.
    """
    try:
        given = build(TargetConfig, stored["problem"])
        config = build(SearchConfig, numbers(SearchConfig, stored["config"]))
        seed = as_seed(stored["seed"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error
    if stored.get("from_python") and function is None:
        raise InputError(
            f"{folder.path} was started from Python, with the function {given.target}: "
            "evolve.autonumerics.discover.resume continues it there"
        )
    target = target_of(given, function)
    domain = domain_of(target, given)
    if stored.get("truth") != digest(domain.grid):
        raise InputError(f"{given.target} is not the function that {folder.path} was started with")
    return assembled(given, config, target, domain, seed, stored)


def assembled(
    given: TargetConfig,
    config: SearchConfig,
    target: Target,
    domain: Numerics,
    seed: int,
    described: Mapping[str, Any],
) -> Prepared:
    """Run of a search."""
    if given.device == "cuda":
        if given.dtype != "float32":
            raise InputError(f"device cuda goes with dtype float32, got {given.dtype}")
        from zoo.cuda import require

        require()
    method = Islands(domain, config, seed)
    low, high = target.domain
    head = {
        "method": "autonumerics",
        "target": os.path.basename(target.name),
        "domain": [low, high],
        "measure": target.error,
        "operations": [OPERATIONS[op] for op in domain.operations],
        "dtype": given.dtype,
    }

    def complete(fields: dict[str, Any], folder: Path | None) -> dict[str, Any]:
        programs = [entry.genome for entry in method.archive.entries()]
        if domain.precision:
            return fields | {"front": published_singles(programs, target, given.device)}
        return fields | {"front": published(programs, target)}

    notes = []
    if series_of(target) is None:
        notes.append(f"{os.path.basename(target.name)} is known by values alone: no certificates")
    elif not available():
        notes.append("python-flint is not installed (zoo[autonumerics]): no certificates")
    return Prepared(
        method, head, described, seed, seconds=60.0 * given.minutes, complete=complete, notes=notes
    )


def target_of(given: TargetConfig, function: Callable[[Any], Any] | None = None) -> Target:
    """Target of what a command was given, or of a function of that name.

    Raises
    ------
    InputError
        If there is none of that name, or it has no finite values in the domain.
    """
    needed("mpmath", "autonumerics needs mpmath", "autonumerics")
    if function is not None:
        if given.domain is None:
            raise InputError(f"{given.target} needs a domain: domain = (A, B)")
        target = Target(given.target, function, (0.0, 1.0))
    elif given.target in TARGETS:
        target = TARGETS[given.target]
    elif ":" in given.target:
        if given.domain is None:
            raise InputError(f"{given.target} needs a domain: --domain A,B")
        function = named(given.target, "target")
        if not callable(function):
            raise InputError(f"{given.target} is not a function of a number")
        target = Target(given.target, function, (0.0, 1.0))
    else:
        raise InputError(
            f"unknown target {given.target!r}: known are {', '.join(TARGETS)}, and FILE.py:NAME"
        )
    if given.domain is not None:
        target = replace(target, domain=interval(given.domain))
    kind = given.error
    if given.dtype == "float32":
        if kind not in (None, "ulp"):
            raise InputError(f"float32 goes with --error ulp, got {kind}")
        kind = "ulp"
    return target if kind is None else replace(target, error=kind)


def interval(text: str) -> tuple[float, float]:
    """Interval from "A,B".

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"domain must be two finite numbers A,B with A < B, got {text!r}")
    return low, high


def domain_of(target: Target, given: TargetConfig) -> Numerics:
    """Domain of the search.

    Raises
    ------
    InputError
        If the target has no values, or the operations are none.
    """
    chosen = [word.strip() for word in given.operations.split(",")]
    unknown = [word for word in chosen if word not in OPERATIONS]
    if unknown or len(set(chosen)) < len(chosen):
        raise InputError(
            f"operations must be some of {', '.join(OPERATIONS)}, got {given.operations!r}"
        )
    try:
        codes = [OPERATIONS.index(word) for word in chosen]
        domain = numerics(target, codes, given.max_ops, given.dtype == "float32")
    except InputError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{target.name} has no value in its domain: {what}") from error
    for grid in (domain.nodes, domain.grid):
        if not (np.isfinite(grid.truth).all() and np.isfinite(grid.low).all()):
            raise InputError(f"{target.name} is not finite in all of its domain")
    return domain


def digest(grid: Grid) -> str:
    """Digest of a target's values."""
    return sha256(grid.x.tobytes() + grid.truth.tobytes() + grid.low.tobytes()).hexdigest()


def lines(result: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Title, and rows of a label and a text, that tell of a result."""
    rows = []
    kind = result["dtype"] if result["measure"] == "ulp" else f"{result['measure']} error"
    unit = " ULP" if result["measure"] == "ulp" else ""
    if "front" not in result:  # it was interrupted
        rows.append(("so far", result["told"]))
    for row in result.get("front", ()):
        proven = "not proven"
        if row["certified_error"] is not None:
            proven = f"proven {row['certified_error']:.3e}{unit}"
        text = f"{row['digits']:6.2f} digits, {proven}: {row['expression']}"
        if result["dtype"] == "float32":
            text = f"{row['error']:.4g} ULP, all {row['numbers']:,} tried: {row['expression']}"
        rows.append((f"{row['ops']} operations", text))
    seconds = float(result["seconds"])
    rate = f", {result['fits'] / seconds:.3g} fits/s" if seconds > 0 else ""
    rows.append(
        (
            "work",
            f"{result['candidates']:,} candidates, {result['fits']:,} fits, {seconds:.3g} s{rate}",
        )
    )
    low, high = result["domain"]
    title = f"{result['target']} on [{plain(low)}, {plain(high)}], {kind}: autonumerics"
    return f"{title}, seed {result['seed']}", rows


def plain(value: float) -> str:
    """All digits of a number, and no ".0"."""
    return repr(float(value)).removesuffix(".0")


def code(result: Mapping[str, Any], language: str, ops: int | None) -> str:
    """Code of the program of so many operations, by default of the largest one.

    Raises
    ------
    InputError
        If there is no such program, or language.
    """
    if language not in LANGUAGES:
        raise InputError(f"--emit must be {' | '.join(LANGUAGES)}, got {language!r}")
    low, high = result["domain"]
    title = f"{result['target']} on [{plain(low)}, {plain(high)}]"
    return listed(_row_of(result, ops), title, result["measure"], language)


def _row_of(result: Mapping[str, Any], ops: int | None) -> Mapping[str, Any]:
    """Row of the front with so many operations, by default the last one."""
    rows = {row["ops"]: row for row in result["front"]}
    if not rows:
        raise InputError("the front is empty: no program has values in all of the domain")
    chosen = max(rows) if ops is None else ops
    if chosen not in rows:
        known = ", ".join(str(number) for number in rows)
        raise InputError(f"no program of {chosen} operations is on the front; there are {known}")
    row: Mapping[str, Any] = rows[chosen]
    return row


def picture(
    figure: Any, stored: Mapping[str, Any], result: Mapping[str, Any], ops: int | None
) -> None:
    """Draw a front beside the baselines, and the error of its program of so many operations.

    Raises
    ------
    InputError
        If there is no such program, or its target is not there, or another one.
    """
    row = _row_of(result, ops)
    if stored.get("from_python"):
        raise InputError(
            f"{result['target']} is a function of Python's: it is not here to be drawn"
        )
    given = build(TargetConfig, stored["problem"])
    target = target_of(given)
    if stored.get("truth") != digest(domain_of(target, given).grid):
        raise InputError(f"{given.target} is not the function that the run was started with")
    draw(figure, target, result, row)


def located(given: TargetConfig) -> TargetConfig:
    """Name of a file made absolute: a run may be resumed from another folder."""
    where, colon, name = given.target.rpartition(":")
    if colon and where.endswith(".py"):
        return replace(given, target=f"{os.path.abspath(os.path.expanduser(where))}:{name}")
    return given
