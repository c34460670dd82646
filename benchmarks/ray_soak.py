"""A long run with a worker killed every ten seconds: the same bits, and memory that stays flat.

One CBO run in blocks on three workers: the processes of two are killed in turn, one is spared; and
the same run undisturbed, in this process. Resident memory of the driver and of the worker that is
spared is taken before every kill, when all are back.

    python benchmarks/ray_soak.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np
import psutil
from report import arguments, report

import zoo
from zoo.objectives.registry import get

BOUNDS = [(-5.12, 5.12)] * 20
FUNCTION = get("rastrigin").function()


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    return psutil.Process(pid).memory_info().rss / 1e6


def main() -> int:
    options = arguments(__doc__)
    length, every = (40.0, 5.0) if options.quick else (780.0, 10.0)
    kills: list[float] = []
    rows: list[dict[str, Any]] = []
    run: dict[str, Any] = {"particles": 400, "shards": 4, "seed": 1, "spread_tol": 0.0}

    with zoo.workers(3, cpus_per_worker=0.5, respawns=20) as crew:
        started = time.perf_counter()
        trial = zoo.minimize(FUNCTION, BOUNDS, workers=crew, steps=1000, **run)
        run["steps"] = int(1000 / trial.seconds * length)

        def disturb(progress: Any) -> None:
            now = time.perf_counter() - started
            if now < (len(kills) + 1) * every or len(crew.live()) < 3:
                return
            pids = [member.info["pid"] for member in crew.members if member.info]
            rows.append(
                {
                    "seconds": round(now, 1),
                    "step": progress.step,
                    "driver MB": megabytes(os.getpid()),
                    "spared worker": pids[0],
                    "its MB": megabytes(pids[0]),
                }
            )
            os.kill(pids[1 + len(kills) % 2], signal.SIGKILL)
            kills.append(now)

        started = time.perf_counter()
        soaked = zoo.minimize(FUNCTION, BOUNDS, workers=crew, callback=disturb, **run)
    alone = zoo.minimize(FUNCTION, BOUNDS, threads=1, **run)
    same = all(np.array_equal(soaked[n], alone[n]) for n in ("x", "consensus", "particles", "nfev"))

    shown = rows if len(rows) < 8 else [*rows[:2], *rows[2:-2:10], *rows[-2:]]
    report("memory when all workers are back", shown, options.out)
    first, last = rows[0], rows[-1]
    report(
        "the run",
        [
            {
                "seconds": soaked.seconds,
                "steps": soaked.nit,
                "kills": len(kills),
                "lost": soaked.workers["lost"],
                "shards rebuilt": soaked.workers["moved"],
                "messages replayed": soaked.workers["messages"],
                "same bits": same,
                "driver MB, first and last": f"{first['driver MB']:.0f} {last['driver MB']:.0f}",
                "spared worker MB": f"{first['its MB']:.0f} {last['its MB']:.0f}",
                "undisturbed, in process s": alone.seconds,
            }
        ],
        options.out,
    )
    return 0 if same and first["spared worker"] == last["spared worker"] else 1


if __name__ == "__main__":
    sys.exit(main())
