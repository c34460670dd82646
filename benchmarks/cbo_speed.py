"""Speed of a CBO step against cbx (PyPI) on the same work, and against its floor.

Work: component-wise CBO on the standard Rastrigin function, d dimensions, N particles, M runs.
cbx gets the objective as one whole-array NumPy expression (its fastest form), tracks nothing,
prints nothing, and is timed by its bare step(). zoo is timed by whole calls of minimize, from the
second on, over all steps of the call. Both in turn, five times; medians.

The floor is the time, on one core, of drawing the same number of normals by the same generator
plus evaluating the objective as often, in loops that do nothing else.

    python benchmarks/cbo_speed.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from report import arguments, report

SIGMA, ALPHA, DT = 8.5, 30.0, 0.01
SIZES = [(1, 100, 20), (1, 10_000, 20), (1, 10_000, 100), (100, 100, 20)]  # M, N, d


def whole_array_rastrigin(x):
    return np.sum(x * x - 10.0 * np.cos(2.0 * np.pi * x) + 10.0, axis=-1)


def cbx_dynamic(runs, particles, d):
    from cbx.dynamics import CBO

    x = np.random.default_rng(0).uniform(-3, 3, (runs, particles, d))
    return CBO(
        whole_array_rastrigin,
        f_dim="3D",
        x=x,
        noise="anisotropic",
        sigma=SIGMA,
        alpha=ALPHA,
        dt=DT,
        max_it=10**9,
        verbosity=0,
        track_args={"names": []},
    )


def zoo_run(runs, particles, d, steps, threads):
    import zoo
    from zoo.objectives.registry import get

    return zoo.minimize(
        get("rastrigin").function(),
        [(-5.12, 5.12)] * d,
        threads=threads,
        runs=runs,
        particles=particles,
        steps=steps,
        sigma=SIGMA,
        alpha=ALPHA,
        dt=DT,
        alpha_schedule="constant",
        boundary="none",
        init_lower=-3,
        init_upper=3,
        spread_tol=0.0,
    )


def seconds(work, *args):
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def floor_seconds(runs, particles, d, repeats):
    """Seconds a step of the normals and of the objective alone, best of a few."""
    from zoo import streams
    from zoo.evaluate import Target, evaluate_rows
    from zoo.jit import address, kernel
    from zoo.objectives.registry import get

    @kernel
    def draw(tiles, rows, row, block, out):
        for t in range(tiles):
            streams.normals(
                np.uint64(1), np.uint64(0), np.uint64(t), streams.NOISE, 0, rows, row, block, out
            )

    rows = min(particles, 4096 // d)
    row, block = streams.lanes(rows, d)
    out = np.empty(4 * len(row))
    tiles = runs * particles // rows
    blocks = rows * streams.padded(d) // 4
    target = Target(
        address(get("rastrigin").function()), np.empty(0), np.empty((0, 0)), np.empty(0), True
    )
    x = np.random.default_rng(0).uniform(-3, 3, (particles, d))
    values = np.empty(particles)
    repeat = max(1, 200_000 // (particles * d))

    def normals():
        for _ in range(repeat):
            draw(tiles, blocks, row, block, out)

    def objective():
        for _ in range(runs * repeat):
            evaluate_rows(target, x, values)

    draw(1, blocks, row, block, out)
    evaluate_rows(target, x, values)
    per_call = min(seconds(evaluate_rows, target, x[:1], values[:1]) for _ in range(20))
    normal = min(seconds(normals) for _ in range(repeats)) / repeat
    evaluated = min(seconds(objective) for _ in range(repeats)) / repeat - runs * per_call
    return normal * (runs * particles) / (tiles * rows), evaluated


def speed(quick):
    rows = []
    rounds = 3 if quick else 5
    for runs, particles, d in SIZES:
        numbers = runs * particles * d
        steps_cbx = max(3, (200_000 if quick else 4_000_000) // numbers // 4)
        steps_zoo = max(5, (2_000_000 if quick else 200_000_000) // numbers)
        dynamic = cbx_dynamic(runs, particles, d)
        dynamic.step()
        for threads in (1, 2):
            zoo_run(runs, particles, d, 2, threads)

        def cbx_steps(dynamic=dynamic, steps_cbx=steps_cbx):
            for _ in range(steps_cbx):
                dynamic.step()

        taken = {"cbx": [], 1: [], 2: []}
        for _ in range(rounds):
            taken["cbx"].append(seconds(cbx_steps) / steps_cbx)
            for threads in (1, 2):
                work = (runs, particles, d, steps_zoo, threads)
                taken[threads].append(seconds(zoo_run, *work) / steps_zoo)
        normal, evaluated = floor_seconds(runs, particles, d, rounds)
        cbx, one, two = (float(np.median(taken[key])) for key in ("cbx", 1, 2))
        ratios = [a / b for a, b in zip(taken["cbx"], taken[1], strict=True)]
        rows.append(
            {
                "M x N x d": f"{runs} x {particles} x {d}",
                "cbx ms/step": cbx * 1e3,
                "zoo ms/step": one * 1e3,
                "2 threads": two * 1e3,
                "times cbx": float(np.median(ratios)),
                "with 2": cbx / two,
                "evaluations/s": runs * particles / one,
                "ns/coordinate": one / numbers * 1e9,
                "floor ms": (normal + evaluated) * 1e3,
                "of it normals": normal * 1e3,
                "times floor": one / (normal + evaluated),
            }
        )
    return rows


def memory_of(program):
    """Growth in MB of a process that makes a run of 10,000 x 100 after a small one."""
    if program == "zoo":
        zoo_run(1, 100, 100, 3, 1)
    else:
        cbx_dynamic(1, 100, 100).step()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    if program == "zoo":
        zoo_run(1, 10_000, 100, 20, 1)
    else:
        dynamic = cbx_dynamic(1, 10_000, 100)
        for _ in range(20):
            dynamic.step()
    return (resident("VmHWM") - before) / 1024


def resident(field):
    """Kilobytes of this process, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def memory():
    ensemble = 10_000 * 100 * 8 / 2**20
    rows = []
    for program in ("zoo", "cbx"):
        child = subprocess.run(
            [sys.executable, __file__, "--memory", program],
            capture_output=True,
            text=True,
            check=True,
        )
        grown = json.loads(child.stdout)
        rows.append(
            {
                "program": program,
                "ensemble MB": ensemble,
                "grown MB": grown,
                "times": grown / ensemble,
            }
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(json.dumps(memory_of(sys.argv[2])))
        raise SystemExit
    options = arguments(__doc__)
    report("CBO step, component-wise, Rastrigin", speed(options.quick), options.out)
    report("Peak memory of 1 x 10,000 x 100 above the interpreter", memory(), options.out)
