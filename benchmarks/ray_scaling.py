"""What workers cost, and when they pay: a local Ray against the run's own process.

The first three tables drive the hosts directly, with shards that do nothing but use CPU time and
report an array. Their work is CPU time, not wall-clock time, so that two of them on one core take
twice as long. Hosts are stepped in turn, block by block; the first block does not count.

The other two time whole runs of minimize, from the second progress event on: what is started,
compiled and loaded before does not count. Medians of three runs, in turn.

    python benchmarks/ray_scaling.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from report import arguments, report

import zoo
from zoo.optimize import as_problem
from zoo.problem import Problem, never
from zoo.runtime.distributed.shards import RayHost
from zoo.runtime.hosts import InlineHost

SHARE = 0.1  # of a CPU, that a worker asks for: all crews fit on the one Ray
BLOCKS = 5
SHARDS = 8
TARGET = 2.0  # ms that 8 shards with small messages may cost above inline's
SIZES = {"1 KB": 10**3, "10 KB": 10**4, "100 KB": 10**5, "1 MB": 10**6}
LARGE = {"8 MB": 8 * 10**6, "64 MB": 64 * 10**6}
POINTS = 32  # evaluations a step


def spin(seconds):
    """Use so much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class SpinningShard:
    """Uses CPU time, and reports an array or a number."""

    def __init__(self, seconds, told):
        self.seconds, self.told = seconds, told

    def step(self, message):
        """Use the time; the message is not read."""
        if self.seconds:
            spin(self.seconds)
        return self.told

    def state(self):
        """Nothing changes."""
        return {}


@dataclass
class Spinning:
    """As much of a method as a host sees; the first shard's report may be large."""

    shards: int
    seconds: float = 0.0  # CPU time of a shard's step
    size: int = 0  # bytes of the first shard's report
    problem: Problem = field(default_factory=lambda: as_problem(np.sum, [(-1.0, 1.0)]))

    def shard(self, index, threads, cancelled):
        """Build one."""
        told = np.ones(self.size // 8) if index == 0 and self.size else float(index)
        return SpinningShard(self.seconds, told)


def measured(hosts, method, message, count):
    """Milliseconds of supersteps, at least ``count`` by host."""
    taken = {name: [] for name in hosts}
    with ExitStack() as running:
        for host in hosts.values():
            running.callback(host.close)
            host.start(method, never, None)
        for block in range(BLOCKS + 1):
            for name, host in hosts.items():
                for _ in range(math.ceil(count / BLOCKS)):
                    started = time.perf_counter()
                    host.step(message)
                    if block:
                        taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def fixed_cost(crews, quick):
    """Rows by shards and workers, of supersteps without work."""
    rows = []
    for shards in (1, 2, 8, 32):
        hosts = {workers: RayHost(crew) for workers, crew in crews.items()}
        count = 100 if quick else 1000
        with ExitStack() as more:
            if shards == 8:
                hosts[8] = RayHost(more.enter_context(zoo.workers(8, cpus_per_worker=SHARE)))
            taken = measured({0: InlineHost(), **hosts}, Spinning(shards), np.ones(8), count)
        inline = np.median(taken.pop(0))
        for workers, times in taken.items():
            rows.append(
                {
                    "shards": shards,
                    "workers": workers,
                    "inline ms": float(inline),
                    "median ms": float(np.median(times)),
                    "p95 ms": float(np.percentile(times, 95)),
                    "median - inline ms": float(np.median(times) - inline),
                    "p95 - inline ms": float(np.percentile(times, 95) - inline),
                    "target ms": TARGET if shards == 8 else None,
                }
            )
    return rows


def sizes(crews, quick):
    """Rows by size: of the message to all shards, and of a report from one.

    The array is copied into and mapped from the object store when large; that shards or the driver
    then read it is their own work, and not in it.
    """
    rows = []
    for name, size in (SIZES if quick else SIZES | LARGE).items():
        count = min(20 if quick else 200, max(10, 4 * 10**8 // size))
        hosts = {workers: RayHost(crew) for workers, crew in crews.items()}
        message = measured(hosts, Spinning(SHARDS), np.ones(size // 8), count)
        told = measured(hosts, Spinning(SHARDS, size=size), np.ones(8), count)
        row = {"size": name}
        for workers in crews:
            many = f"{workers} worker{'s' * (workers > 1)}"
            row[f"message ms, {many}"] = sent = float(np.median(message[workers]))
            row[f"report ms, {many}"] = came = float(np.median(told[workers]))
        rows.append(row | {"message MB/s": size / sent / 1e3, "report MB/s": size / came / 1e3})
    return rows


def throughput(crews, quick):
    """Rows by CPU time of a shard's step."""
    rows = []
    for work in (0.1, 1.0, 10.0) if quick else (0.1, 1.0, 10.0, 100.0):
        hosts = {0: InlineHost(), **{workers: RayHost(crew) for workers, crew in crews.items()}}
        count = min(100 if quick else 500, max(BLOCKS, math.ceil((10 if quick else 250) / work)))
        taken = measured(hosts, Spinning(SHARDS, work / 1e3), np.ones(8), count)
        inline, one, two = (float(np.median(taken[workers])) for workers in (0, 1, 2))
        rows.append(
            {
                "work a shard ms": work,
                "inline ms": inline,
                "1 worker ms": one,
                "2 workers ms": two,
                "2 workers over inline": inline / two,
                "2 workers over 1": one / two,
            }
        )
    return rows


def break_even(rows):
    """Work a shard, in ms, from which on 2 workers are faster; None if they never are."""
    work = [row["work a shard ms"] for row in rows]
    gain = [row["2 workers over inline"] for row in rows]
    slower = [i for i, ratio in enumerate(gain) if ratio < 1.0]
    if not slower:
        return work[0]
    last = slower[-1]
    if last == len(rows) - 1:
        return None
    share = (1.0 - gain[last]) / (gain[last + 1] - gain[last])
    return work[last] * (work[last + 1] / work[last]) ** share


def step_seconds(fun, bounds, window, **how):
    """Seconds a step of a run of CBO, over so many seconds of it."""
    told = []

    def clock(progress):
        told.append((time.perf_counter(), progress.step))
        return len(told) > 2 and told[-1][0] - told[1][0] >= window

    zoo.minimize(fun, bounds, callback=clock, listeners=(), steps=10**9, spread_tol=0.0, **how)
    (start, first), (end, last) = told[1], told[-1]
    return (end - start) / (last - first)


def in_turn(ways, rounds, **run):
    """Median of the seconds a step, by way."""
    taken = {name: [] for name in ways}
    for _ in range(rounds):
        for name, how in ways.items():
            taken[name].append(step_seconds(**run, **how))
    return {name: float(np.median(times)) for name, times in taken.items()}


def python_objective(seconds):
    def objective(x):
        spin(seconds)
        return float(x @ x)

    return objective


def evaluations(crews, quick):
    """Rows by CPU time of an evaluation."""
    rows = []
    ways = {0: {}} | {workers: {"workers": crew} for workers, crew in crews.items()}
    for cost in (0.01, 1.0, 10.0) if quick else (0.01, 0.1, 1.0, 10.0, 50.0):
        taken = in_turn(
            ways,
            1 if quick or cost > 10.0 else 3,
            fun=python_objective(cost / 1e3),
            bounds=[(-3.0, 3.0)] * 10,
            window=0.2 if quick else 1.0,
            particles=POINTS,
        )
        rate = {workers: POINTS / seconds for workers, seconds in taken.items()}
        rows.append(
            {
                "evaluation ms": cost,
                "in process 1/s": rate[0],
                "1 worker 1/s": rate[1],
                "2 workers 1/s": rate[2],
                "1 worker over in process": rate[1] / rate[0],
                "2 workers over in process": rate[2] / rate[0],
            }
        )
    return rows


def real(crews, quick):
    """Rows by where a large swarm is."""
    from zoo.objectives.registry import get

    ways = {"inline": {"threads": 1}, "2 threads": {"threads": 2}}
    ways |= {f"Ray, {workers} of 1 CPU": {"workers": crew} for workers, crew in crews.items()}
    taken = in_turn(
        ways,
        1 if quick else 3,
        fun=get("rastrigin").function(),
        bounds=[(-5.12, 5.12)] * 100,
        window=0.3 if quick else 2.0,
        particles=40_000,
        shards=16,
    )
    return [
        {"where": where, "ms/step": seconds * 1e3, "times inline": seconds / taken["inline"]}
        for where, seconds in taken.items()
    ]


if __name__ == "__main__":
    options = arguments(__doc__)
    quick, out = options.quick, options.out
    with (
        zoo.workers(2, cpus_per_worker=SHARE) as two,
        zoo.workers(1, cpus_per_worker=SHARE) as one,
    ):
        crews = {1: one, 2: two}
        report("A superstep without work (message of 64 bytes)", fixed_cost(crews, quick), out)
        report("Large messages and reports, 8 shards", sizes(crews, quick), out)
        rows = throughput(crews, quick)
        report("A superstep of 8 shards with work", rows, out)
        enough = break_even(rows)
        pays = {"ms a shard": enough, "ms a superstep": enough and SHARDS * enough}
        report("Two workers are faster than inline from so much work on", [pays], out)
        report(f"Evaluations on workers, {POINTS} a step", evaluations(crews, quick), out)
        report("CBO, 40,000 x 100, Rastrigin, 16 shards", real(crews, quick), out)
