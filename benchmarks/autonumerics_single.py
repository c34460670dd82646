"""2^x in single precision: the fewest operations for an error below one unit in the last place.

Programs are searched for so many minutes on the threads of this machine, with + - * / and with fma
besides. Beside them minimax polynomials in Horner's form, of which a step is a multiplication and
an addition, or one fma: their constants of float32 are improved as those of the programs are, from
six random sequences, as many as there are programs of a cost. Every error is the largest of all
float32 in [0, 1].

The two ways to improve constants, a random climb by units in the last place and CMA-ES on integers
(pycma), are then compared at the same number of evaluations, by the error in the sample that both
are given: the search climbs, the last few are improved by both.

    python benchmarks/autonumerics_single.py [--quick] [--out FILE.json]
        [--minutes 5] [--seeds 2] [--ops 10]
"""

from __future__ import annotations

import time
from dataclasses import replace
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

TARGET = replace(TARGETS["exp2"], error="ulp")
SETS = ("add,sub,mul,div", "add,sub,mul,div,fma")
TRIES = 6

#: Square of a ratio of quadratics, with its constants of double precision: 7 operations.
RATIO = parse(
    "div c3 x; add x t1; div c1 t2; add t2 t3; add c2 t4; div c4 t5; sub t6 c5",
    [237.378640880970703, -31.3627904533341567, 90.4939320171455972, 62.7256158131009956,
     -0.99999999943638611],
)  # fmt: skip


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


def constants(evaluations: int, seeds: int) -> list[dict[str, Any]]:
    """The climb and CMA-ES, from the same rounded constants."""
    grid, precision = grid_of(TARGET), Precision(TARGET).sampled()
    rows = []
    for name, program in (
        ("polynomial of degree 5", polished(polynomial(5, False), grid)),
        ("polynomial of degree 6", polished(polynomial(6, False), grid)),
        ("ratio of 7 operations", polished(RATIO, grid)),
    ):
        row: dict[str, Any] = {"program": name, "rounded": precision.error(program)}
        begin = time.perf_counter()
        climbs = [
            precision.tuned(program, evaluations, np.random.default_rng(seed))[0]
            for seed in range(seeds)
        ]
        middle = time.perf_counter()
        rivals = [
            precision.evolved(program, evaluations, np.random.default_rng(seed))[0]
            for seed in range(seeds)
        ]
        seconds = middle - begin, time.perf_counter() - middle
        for kind, found, spent in zip(("climb", "CMA-ES"), (climbs, rivals), seconds, strict=True):
            row[f"{kind}, best"], row[f"{kind}, median"] = min(found), float(np.median(found))
            row[f"{kind}, s"] = spent / seeds
        rows.append(row)
    return rows


def main() -> None:
    given = arguments(
        __doc__, minutes="of each search", seeds="searches", ops="operations, at most"
    )
    minutes, seeds = float(str(given.minutes or 5)), int(str(given.seeds or 2))
    most = int(str(given.ops or 10))
    evaluations, tries = (400, 2) if given.quick else (4000, TRIES)
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
    title = f"ULP in the sample, {evaluations:,} evaluations, {tries} seeds"
    report(title, constants(evaluations, tries), given.out)


if __name__ == "__main__":
    main()
