"""Programs found from scratch, beside what the textbooks offer at the same number of operations.

Each seed searches for so many minutes on the threads of this machine; digits are those of the
polished program with constants rounded to double precision, in exact arithmetic, and a program
counts for all costs from its own on. The baselines are computed here, by Remez's exchange, and so
is what is known by hand for 2^x (autonumerics_by_hand.py), all with constants that are not rounded;
"not rounded": the best program found, likewise. Published: Real et al., 2023.

    python benchmarks/autonumerics_search.py [--quick] [--out FILE.json]
        [--target exp2] [--minutes 5] [--seeds 5] [--ops 10]
"""

from __future__ import annotations

import statistics
from typing import Any

from autonumerics_by_hand import by_hand
from report import arguments, report

from evolve.autonumerics import study
from evolve.autonumerics.baselines import baselines, best
from evolve.autonumerics.targets import TARGETS
from zoo.runtime.launch import launch

PUBLISHED = {"exp2": {2: 1.38, 3: 2.91, 5: 5.20, 10: 14.45}}


def up_to(known: dict[int, float], ops: int) -> float | None:
    """Most digits at no more than so many operations."""
    return max((digits for cost, digits in known.items() if cost <= ops), default=None)


def main() -> None:
    given = arguments(
        __doc__,
        target="function",
        minutes="of each search",
        seeds="searches",
        ops="operations, at most",
    )
    name, most = str(given.target or "exp2"), int(str(given.ops or 10))
    minutes, seeds = float(str(given.minutes or 5)), int(str(given.seeds or 5))
    if given.quick:
        minutes, seeds = 0.2, 1
    fronts, smooth, runs = [], [], []
    for seed in range(seeds):
        values = {"target": name, "max_ops": most, "minutes": minutes}
        result = launch(study.prepare("autonumerics", values, seed))
        fronts.append({row["ops"]: row["digits"] for row in result["front"]})
        smooth.append({row["ops"]: row["minimax_digits"] for row in result["front"]})
        digits = {f"{ops} ops": value for ops, value in fronts[-1].items()}
        runs.append({"seed": seed, "fits": result["fits"], "seconds": result["seconds"], **digits})
    report(f"{name}: each search", runs, given.out)
    table = best(baselines(TARGETS[name], most), most)
    hands = by_hand(TARGETS[name]) if name == "exp2" else {}
    rows = []
    for ops in range(2, most + 1):
        reached = [up_to(front, ops) or 0.0 for front in fronts]
        row: dict[str, Any] = {
            "ops": ops,
            "median": statistics.median(reached),
            "best": max(reached),
            "not rounded": max(up_to(front, ops) or 0.0 for front in smooth),
        }
        for family, kept in table.items():
            row[family] = kept[ops].digits if ops in kept else None
        row["by hand"] = up_to(hands, ops)
        row["published"] = up_to(PUBLISHED.get(name, {}), ops)
        rows.append(row)
    report(f"{name}: digits, {seeds} searches of {minutes:g} minutes", rows, given.out)


if __name__ == "__main__":
    main()
