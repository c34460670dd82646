"""Programs on a GPU: operations x points a second in three precisions, and every float32 of [0, 1).

Programs are run thousands of times over with other constants; time is that of device events around
ten launches, median of several, the values left on the device. The floor of a program is itself,
compiled, on the same points with the same constants. Published for EvoGP's interpreter (float32, a
GPU): 1e11 node-operations a second. The check of every float32 is timed by wall clock after a first
call, which compiles, and makes the true values of the domain; that is timed, too.

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

#: A good program for 2^x, and a longer one.
PROGRAMS = {
    "5 operations": ("div c1 x; add t1 x; add t2 c2; div c3 t3; add t4 c4",
                     [25.549178, -8.8375, 17.715246, 0.999992]),
    "10, without division": ("; ".join(["fma x c1 c2", *(f"fma t{k} x c2" for k in range(1, 10))]),
                             [0.5, 0.25]),
}  # fmt: skip
ROUNDS = 7


def seconds(launch: Any) -> float:
    """Median seconds of a launch, which has been made once."""
    from zoo.cuda import SIMULATED, cuda

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
    return float(np.median(taken))


def compiled(name: str, real: str, constants: Any, points: Any) -> Any:
    """Launch of a program as code: of many, with these constants (P, K), at points (N,)."""
    from zoo.cuda import cuda, fma, fmaf

    fused = fma if real == "float64" else fmaf

    def five(x: Any, c: Any) -> Any:
        return c[2] / (c[0] / x + x + c[1]) + c[3]

    def ten(x: Any, c: Any) -> Any:
        t = fused(x, c[0], c[1])
        for _ in range(9):
            t = fused(t, x, c[1])
        return t

    body = cuda.jit(device=True)(five if name == "5 operations" else ten)

    @cuda.jit
    def run(c: Any, x: Any, out: Any) -> None:
        p = cuda.blockIdx.y
        for i in range(cuda.grid(1), len(x), cuda.gridsize(1)):
            out[p, i] = body(x[i], c[p])

    out = cuda.device_array((len(constants), len(points)), real)
    held = cuda.to_device(constants.astype(real)), cuda.to_device(points.astype(real))
    threads = min(256, len(points))
    place = (max(1, len(points) // threads // 8), len(constants)), threads
    return lambda: run[place](*held, out)


def rates(name: str, programs: int, points: int) -> dict[str, Any]:
    """Operations x points a second in three precisions, and times the floor in two."""
    from evolve.autonumerics import device

    text, constants = PROGRAMS[name]
    rng = np.random.default_rng(0)
    near = np.array(constants) * (1.0 + 1e-3 * rng.normal(size=(programs, len(constants))))
    given = [parse(text, row) for row in near]
    x = np.linspace(0.0, 1.0, points)
    row: dict[str, Any] = {"program": name}
    for real in ("float32", "float64", "double-double"):
        launch = device.prepared(given, x, real)
        (values, *_) = launch()
        took = seconds(launch)
        row[f"{real} /s"] = given[0].cost * points * programs / took
        if real == "double-double":
            continue
        straight = compiled(name, real, near, x)
        straight()
        floor = seconds(straight)
        row[f"{real}, times compiled"] = took / floor
        assert np.isfinite(values.copy_to_host()).any()
    row["times EvoGP's 1e11"] = row["float32 /s"] / 1e11
    return row


def main() -> None:
    options = arguments(__doc__)
    from zoo.cuda import SIMULATED

    quick = options.quick or SIMULATED
    programs, points = (2, 64) if quick else (4096, 16_384)
    table = [rates(name, programs, points) for name in PROGRAMS]
    report("Operations x points a second on a GPU", table, options.out)
    end = 1.0 + 300 * 2.0**-23 if quick else 1.0
    target = replace(TARGETS["exp2"], domain=(1.0 if quick else 0.0, end), error="ulp")
    precision = Precision(target, "cuda")
    text, constants = PROGRAMS["5 operations"]
    one = parse(text, constants)
    started = time.perf_counter()
    first = precision.worst(one)
    once = time.perf_counter() - started
    started = time.perf_counter()
    worst = precision.worst(one)
    took = time.perf_counter() - started
    assert worst == first
    report("Every float32 of the domain of exp2",
           [{"seconds": took, "first call": once, "worst ULP": worst}], options.out)  # fmt: skip


if __name__ == "__main__":
    main()
