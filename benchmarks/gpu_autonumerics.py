"""Programs on a GPU: operations x points a second in three precisions, and every float32 of [0, 1).

The program of five operations is run thousands of times over with other constants; time is that of
device events around ten launches, median of several, the values left on the device. Published for
EvoGP's interpreter (float32, a GPU): 1e11 node-operations a second. The check of every float32 is
timed by wall clock after a first call, which compiles, and makes the true values of the domain;
that is timed, too.

    python benchmarks/gpu_autonumerics.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from report import arguments, report

from evolve.autonumerics.programs import parse
from evolve.autonumerics.singles import Precision
from evolve.autonumerics.targets import TARGETS

#: (x + 1)(x + ...)/...: a good program for 2^x - 1 + 1 of five operations, and a longer one.
PROGRAMS = {
    "5 operations": ("div c1 x; add t1 x; add t2 c2; div c3 t3; add t4 c4",
                     [25.549178, -8.8375, 17.715246, 0.999992]),
    "10, without division": ("; ".join(["fma x c1 c2", *(f"fma t{k} x c2" for k in range(1, 10))]),
                             [0.5, 0.25]),
}  # fmt: skip
ROUNDS = 7


def rate(text: str, constants: list[float], real: str, programs: int, points: int) -> float:
    """Operations x points a second."""
    from evolve.autonumerics import device
    from zoo.cuda import SIMULATED, cuda

    rng = np.random.default_rng(0)
    given = [parse(text, [c * (1.0 + 1e-3 * rng.normal()) for c in constants])
             for _ in range(programs)]  # fmt: skip
    x = np.linspace(0.0, 1.0, points)
    launch = device.prepared(given, x, real)
    launch()
    taken = []
    for _ in range(2 if SIMULATED else ROUNDS):
        if SIMULATED:
            started = time.perf_counter()
            launch()
            taken.append(time.perf_counter() - started)
            continue
        begin, end = cuda.event(), cuda.event()
        begin.record()
        for _ in range(10):
            launch()
        end.record()
        end.synchronize()
        taken.append(cuda.event_elapsed_time(begin, end) / 1e4)
    return float(given[0].cost * points * programs / np.median(taken))


def main() -> None:
    options = arguments(__doc__)
    from evolve.autonumerics import device
    from zoo.cuda import SIMULATED

    quick = options.quick or SIMULATED
    programs, points = (2, 64) if quick else (4096, 16_384)
    table: list[dict[str, Any]] = []
    for name, (text, constants) in PROGRAMS.items():
        row: dict[str, Any] = {"program": name}
        for real in ("float32", "float64", "double-double"):
            row[f"{real} /s"] = rate(text, constants, real, programs, points)
        row["times EvoGP's 1e11"] = row["float32 /s"] / 1e11
        table.append(row)
    report("Operations x points a second on a GPU", table, options.out)
    end = 1.0 + 300 * 2.0**-23 if quick else 1.0
    target = replace(TARGETS["exp2"], domain=(1.0 if quick else 0.0, end), error="ulp")
    precision = Precision(target)
    text, constants = PROGRAMS["5 operations"]
    one = parse(text, constants)
    started = time.perf_counter()
    first = device.worst(precision, one)
    once = time.perf_counter() - started
    started = time.perf_counter()
    worst = device.worst(precision, one)
    took = time.perf_counter() - started
    assert worst == first
    report("Every float32 of the domain of exp2",
           [{"seconds": took, "first call": once, "worst ULP": worst}], options.out)  # fmt: skip


if __name__ == "__main__":
    main()
