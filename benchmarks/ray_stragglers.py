"""Throughput of 1 and 2 workers on an objective that straggles, crashes and hangs.

An attempt at an evaluation sleeps 50 ms on average, by a Pareto law of tail exponent 2 capped at
1 s; 2 % of the attempts end their own process by SIGKILL, 1 % never return. Which ones, is a
function of the attempt's number in its run: so one worker and two meet the same fates, whatever the
points. The value is Rosenbrock's function, in 10 dimensions, of the point alone. Each attempt notes
its fate in a file first; the notes are set against what the result counts.

busy: the sleeps noted and the timeouts counted, as a share of the workers' time. Copies of
stragglers blur both: a sleep that is given up early is noted in full, and a crash or hang that is
given up has no count. What is noted and not counted can be no more than the copies; without any (1
worker) notes and counts must agree. The exit status is 1 if they do not, if bits or numbers of
evaluations differ, or (but with --quick) if two workers reach less than 1.8 times one.

    python benchmarks/ray_stragglers.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import arguments, report

import zoo

BOUNDS = [(-5.0, 10.0)] * 10
MEAN, CAP, TAIL = 0.05, 1.0, 2.0
CRASHES, HANGS = 0.02, 0.01
TIMEOUT, RETRIES = 1.5, 9
POPULATION = {"cma": {"popsize": 40}, "cbo": {"particles": 50}}


def rosenbrock(x):
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def treacherous(log):
    """Rosenbrock's function with the fates of the attempts, noted in a file."""

    def objective(x):
        with log.with_suffix(".count").open("ab") as file:  # a byte an attempt
            fcntl.flock(file, fcntl.LOCK_EX)
            number = file.seek(0, os.SEEK_END)
            file.write(b".")
        fate, tail = np.random.default_rng(number).random(2)
        pareto = MEAN * (TAIL - 1.0) / TAIL * (1.0 - tail) ** (-1.0 / TAIL)
        crashes, hangs = fate < CRASHES, CRASHES <= fate < CRASHES + HANGS
        note = "crash" if crashes else "hang" if hangs else f"{min(pareto, CAP)}"
        with log.open("a") as file:  # one write, appended: lines of processes do not mix
            file.write(note + "\n")
        if crashes:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600.0 if hangs else min(pareto, CAP))
        return rosenbrock(x)

    return objective


def same(one, other):
    """Whether results have the same bits, but for what happened on the way."""
    by_chance = ("seconds", "failures", "workers", "objective")
    one, other = ({k: v for k, v in r.items() if k not in by_chance} for r in (one, other))
    try:
        np.testing.assert_equal(one, other)  # zeros by their sign, too
    except AssertionError:
        return False
    return True


def measured(method, steps, crew, log):
    """One row: a run on a crew, against the same run of the function alone, inline."""
    options = POPULATION[method] | {"steps": steps, "seed": 1}
    alone = zoo.minimize(rosenbrock, BOUNDS, method, **options)
    log.write_text("")
    log.with_suffix(".count").write_text("")
    started = time.perf_counter()
    result = zoo.minimize(
        treacherous(log), BOUNDS, method, workers=crew, timeout=TIMEOUT, retries=RETRIES, **options
    )
    seconds = time.perf_counter() - started
    notes = log.read_text().split()
    crashes, hangs = notes.count("crash"), notes.count("hang")
    slept = sum(float(note) for note in notes if note not in ("crash", "hang"))
    failures = dict(result.get("failures", {}))
    crashed, late = (failures.pop(f"retried {kind}", 0) for kind in ("crash", "timeout"))
    return {
        "method": method,
        "workers": crew.size,
        "evaluations": result.nfev,
        "seconds": seconds,
        "evaluations/s": result.nfev / seconds,
        "busy": (slept + TIMEOUT * late) / (crew.size * seconds),
        "crashes noted": crashes,
        "counted crashes": crashed,
        "hangs noted": hangs,
        "counted timeouts": late,
        "other failures": sum(failures.values()),
        "copies": result.workers.get("copies", 0),
        "resent": result.workers.get("resent", 0),
        "nfev exact": result.nfev == alone.nfev,
        "same bits": same(alone, result),
    }


def stragglers(quick):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            with zoo.workers(workers, ray_address="local") as crew:
                crew.gather()
                for method, steps in (("cma", 2 if quick else 25), ("cbo", 1 if quick else 20)):
                    rows.append(measured(method, steps, crew, Path(folder) / "log"))
    rows.sort(key=lambda row: row["method"], reverse=True)
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        two["times 1"] = two["evaluations/s"] / one["evaluations/s"]
    return rows


def sound(row, quick):
    """Whether a row shows what it must."""
    uncounted = row["crashes noted"] + row["hangs noted"]
    uncounted -= row["counted crashes"] + row["counted timeouts"]
    counted = 0 <= uncounted <= row["copies"] and row["other failures"] == 0
    return (
        counted
        and row["nfev exact"]
        and row["same bits"]
        and (quick or row.get("times 1", 2.0) >= 1.8)
    )


def main():
    options = arguments(__doc__)
    rows = stragglers(options.quick)
    report("Stragglers, crashes and hangs on 1 and 2 workers", rows, options.out)
    return 0 if all(sound(row, options.quick) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
