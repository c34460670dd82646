"""2^x in single precision: the fewest operations for an error below one unit in the last place.

Programs are searched for so many minutes on the threads of this machine, with + - * / and with fma
besides. Beside them minimax polynomials in Horner's form, of which a step is a multiplication and
an addition, or one fma: their constants of float32 are improved by the same steps as those of the
programs, from six random sequences, as many as there are programs of a cost. Every error is the
largest of all float32 in [0, 1].

    python benchmarks/autonumerics_single.py [--quick] [--out FILE.json]
        [--minutes 5] [--seeds 2] [--ops 10]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from report import arguments, report

from evolve.autonumerics import study
from evolve.autonumerics.front import best_single
from evolve.autonumerics.grid import grid_of
from evolve.autonumerics.polish import polished
from evolve.autonumerics.programs import parse
from evolve.autonumerics.singles import Precision
from evolve.autonumerics.targets import TARGETS
from zoo.runtime.launch import launch

TARGET = TARGETS["exp2"]
SETS = ("add,sub,mul,div", "add,sub,mul,div,fma")
TRIES = 6


def polynomial(degree: int, fused: bool) -> Any:
    """Horner's form, its constants those of the Taylor polynomial to start with."""
    lines, last = [], f"c{degree + 1}"
    for k in range(degree, 0, -1):
        if fused:
            lines.append(f"fma {last} x c{k}")
        else:
            lines += [f"mul {last} x", f"add t{len(lines) + 1} c{k}"]
        last = f"t{len(lines)}"
    k = np.arange(degree + 1)
    taylor = np.log(2.0) ** k / np.cumprod(np.maximum(k, 1))
    return parse("; ".join(lines), taylor)


def main() -> None:
    given = arguments(
        __doc__, minutes="of each search", seeds="searches", ops="operations, at most"
    )
    minutes, seeds = float(str(given.minutes or 5)), int(str(given.seeds or 2))
    most = int(str(given.ops or 10))
    if given.quick:
        minutes, seeds, most = 0.2, 1, 6
    columns: dict[str, dict[int, float]] = {}
    for operations in SETS:
        kept = columns.setdefault(f"found, {operations}", {})
        for seed in range(seeds):
            values = {"target": "exp2", "dtype": "float32", "max_ops": most, "minutes": minutes,
                      "operations": operations}  # fmt: skip
            for row in launch(study.prepare("autonumerics", values, seed))["front"]:
                kept[row["ops"]] = min(row["error"], kept.get(row["ops"], np.inf))
    grid, precision = grid_of(TARGET), Precision(TARGET)
    for fused in (False, True):
        kept = columns.setdefault("polynomial" + ", fma" * fused, {})
        for degree in range(1, 7):
            made = polished(polynomial(degree, fused), grid)
            if made.cost <= most + 2:
                kept[made.cost] = best_single([made] * TRIES, grid, precision)[0]
    rows = []
    for ops in range(1, most + 3):
        row: dict[str, Any] = {"ops": ops}
        for name, kept in columns.items():
            row[name] = min((ulp for cost, ulp in kept.items() if cost <= ops), default=None)
        rows.append(row)
    report(f"ULP, {seeds} searches of {minutes:g} minutes each", rows, given.out)


if __name__ == "__main__":
    main()
