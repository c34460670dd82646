"""The front of a search as it is published: polished, rounded, proven."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evolve.autonumerics.certificate import available, certified, rounded_up, series_of
from evolve.autonumerics.emit import Listing, emitted
from evolve.autonumerics.grid import Grid, grid_of
from evolve.autonumerics.interpreter import evaluate
from evolve.autonumerics.polish import polished, rounded
from evolve.autonumerics.programs import FMA, Program, expression, parse
from evolve.autonumerics.singles import Precision
from evolve.autonumerics.targets import Target
from zoo.errors import InputError

#: A program that costs more is published if its error is at most this share of the last one's.
_BETTER = 0.98

#: Steps by which constants of float32 are improved, programs of each cost whose constants CMA-ES
#: improves further, and those that are then tried at every float32.
_STEPS, _EVOLVED, _TRIED = 4000, 4, 3

#: Errors below this cannot be told from none.
_LEAST = 1e-30

#: Points of the grid on which the error of what is published is measured.
_FINE = 2001


def published(programs: Sequence[Program], target: Target) -> list[dict[str, Any]]:
    """Rows of the front, by operations: programs that are better than all that cost less.

    Each row has ``ops``, ``digits`` and ``error`` of the program in exact arithmetic, with its
    constants as they are printed; ``certified_error``, a proven bound of it, or None;
    ``float64_error``, the largest error found when it is run in double precision;
    ``minimax_digits``, those that constants of twice the precision would have; ``expression``,
    ``constants`` and ``program``, its text. Errors are in units of 2^-52 if the target's are in
    units in the last place.
    """
    grid, fine = grid_of(target), grid_of(target, _FINE)
    best: dict[int, tuple[float, float, Program]] = {}
    for program in programs:
        smooth = polished(program, grid)
        made = rounded(smooth, grid)
        error = fine.error(made)
        if error < best.get(made.cost, (math.inf,))[0]:
            best[made.cost] = error, fine.error(smooth), made
    rows: list[dict[str, Any]] = []
    last = math.inf
    for ops in sorted(best):
        error, smooth_error, program = best[ops]
        if not error < _BETTER * last:
            continue
        last = error
        rows.append(_row(program, error, smooth_error, fine, target))
    return rows


def published_singles(
    programs: Sequence[Program], target: Target, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Rows of the front of programs in single precision, by operations.

    ``error``, which is also ``certified_error``, is the largest one of all ``numbers`` float32 of
    the domain, in units in the last place; ``digits`` are those of that times 2^-23.
    """
    grid, precision = grid_of(replace(target, error="ulp")), Precision(target, device)
    rows: list[dict[str, Any]] = []
    for ops in sorted({program.cost for program in programs}):
        same = [program for program in programs if program.cost == ops]
        ulps, program = best_single(same, grid, precision)
        if rows and not ulps < _BETTER * rows[-1]["error"]:
            continue
        rows.append(
            {
                "ops": ops,
                "digits": _digits(ulps * 2.0**-23),
                "dtype": "float32",
                "error": ulps,
                "certified_error": ulps,
                "numbers": precision.count,
                "expression": expression(program),
                "constants": program.constants.tolist(),
                "program": program.text(),
            }
        )
    return rows


def best_single(
    programs: Sequence[Program], grid: Grid, precision: Precision
) -> tuple[float, Program]:
    """Largest error of all float32 in ULP, and the program, with constants of float32, that has it.

    The constants of all programs are improved first, from what they are and from the minimax ones,
    and those of the best few by CMA-ES; the best few of all are tried at every float32.
    """
    tuned: list[tuple[float, Program]] = []
    for number, program in enumerate(programs):
        for start in (program, polished(program, grid)):
            tuned.append(precision.tuned(start, _STEPS, _random(1, number)))
    tuned.sort(key=lambda found: found[0])
    for number, (_, program) in enumerate(tuned[:_EVOLVED]):
        tuned.append(precision.evolved(program, _STEPS, _random(2, number)))
    tuned.sort(key=lambda found: found[0])
    least, best = math.inf, tuned[0][1]
    for _, program in tuned[:_TRIED]:
        worst = precision.worst(program, least)
        if worst < least:
            least, best = worst, program
    return least, best


def _random(purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([number, purpose], np.uint64)))


def _digits(error: float) -> float:
    return -math.log10(max(error, _LEAST))


def _row(
    program: Program, error: float, smooth_error: float, fine: Grid, target: Target
) -> dict[str, Any]:
    series = series_of(target)
    bound = None
    if series is not None and available():
        bound = certified(program, series, target.domain, target.error, max(error, _LEAST))
    with np.errstate(all="ignore"):
        values = evaluate(program, fine.x)
        found = float(np.abs(((values - fine.truth) - fine.low) * fine.weights).max())
    unit = 2.0**52 if target.error == "ulp" else 1.0
    return {
        "ops": program.cost,
        "digits": _digits(error),
        "dtype": "float64",
        "error": error * unit,
        "certified_error": None if bound is None else rounded_up(bound * unit),
        "float64_error": found * unit if found == found else math.inf,
        "minimax_digits": _digits(smooth_error),
        "expression": expression(program),
        "constants": program.constants.tolist(),
        "program": program.text(),
    }


def listed(row: Mapping[str, Any], target: str, measure: str, language: str) -> str:
    """Code of a row of the front."""
    kind, unit = ("error", " ULP") if measure == "ulp" else (f"{measure} error", "")
    error = f"largest {kind} {row['error']:.4g}{unit}"
    if row["certified_error"] is not None:
        error = f"{kind} at most {row['certified_error']:.3e}{unit}, proven"
    ops = f"{row['ops']} operation{'s' if row['ops'] > 1 else ''}"
    single, kind = row["dtype"] == "float32", row["dtype"]
    told = [f"In exact arithmetic: {error}."]
    if single:
        told = [f"Largest error of all {row['numbers']:,} float32: {row['error']:.4g} ULP."]
    else:
        told += [f"In double precision: {row['float64_error']:.4g}{unit}, the largest found."]
    about = [
        f"{target}: {ops}.",
        *told,
        f"x is a {kind} of NumPy, or an array: 1/0 is to be infinite.",
    ]
    name = "".join(c if c.isalnum() else "_" for c in target.rpartition(":")[2].split(" ")[0])
    program = parse(row["program"], row["constants"])
    lines = about if language in ("python", "numba") else about[:-1]
    if language == "c":
        lines.append("To be compiled without contraction: -ffp-contract=off.")
    if language in ("python", "numba") and FMA in program.codes[:, 0]:
        raise InputError(f"{language} has no fma of arrays: --emit c or latex")
    return emitted(Listing(program, f"{name}_{row['ops']}", tuple(lines), single), language)
