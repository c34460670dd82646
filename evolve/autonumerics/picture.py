"""A picture of a search: its front beside what the textbooks offer, and a program's error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evolve.autonumerics.baselines import baselines, best
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.programs import parse
from evolve.autonumerics.targets import Target

_COLOURS = (
    "#999999", "#bbbbbb", "#555555", "#7a9cc6", "#b0c4de", "#e08214", "#c0392b", "#8e6bbf",
)  # fmt: skip
_FOUND = "#1f5f8b"

#: Points of the error curve.
_POINTS = 1001


def draw(figure: Any, target: Target, result: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Draw the front of a result, and the error of one of its rows, into an empty figure."""
    left, right = figure.subplots(1, 2)
    _front(left, target, result)
    _error(right, target, result, row)
    figure.suptitle(f"{result['target']} on {result['domain']}, {result['dtype']}")
    figure.tight_layout()


def _front(axes: Any, target: Target, result: Mapping[str, Any]) -> None:
    most = max(row["ops"] for row in result["front"])
    families = best(baselines(target, most), most)
    for (family, kept), colour in zip(families.items(), _COLOURS, strict=True):
        if kept:
            digits = [baseline.digits for baseline in kept.values()]
            axes.step(list(kept), digits, where="post", color=colour, lw=1, label=family)
    ops = [row["ops"] for row in result["front"]]
    digits = [row["digits"] for row in result["front"]]
    axes.step(ops, digits, where="post", color=_FOUND, lw=1.5)
    axes.plot(ops, digits, "o", color=_FOUND, ms=4, label="found")
    axes.set_xlabel("operations")
    axes.set_ylabel(f"digits ({result['measure']} error)")
    axes.legend(fontsize=7, frameon=False)


def _error(axes: Any, target: Target, result: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    program = parse(row["program"], row["constants"])
    grid = grid_of(target, _POINTS)
    errors = grid.errors(program)
    unit = ""
    if result["measure"] == "ulp":
        errors = errors * (2.0**23 if result["dtype"] == "float32" else 2.0**52)
        unit = ", ULP"
    axes.plot(grid.x, errors, color=_FOUND, lw=1)
    for side in (-1, 1):
        axes.axhline(side * float(np.abs(errors).max()), color=_COLOURS[0], lw=0.6, ls=":")
    axes.axhline(0.0, color=_COLOURS[0], lw=0.6)
    axes.set_xlabel("x")
    axes.set_ylabel(f"{result['measure']} error, exact arithmetic{unit}")
    axes.set_title(f"{row['ops']} operations", fontsize=9)
