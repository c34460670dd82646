"""One of two workers killed in the middle of a run: zoo against evotorch, both on Ray.

Work: CMA-ES, population 40, on Rosenbrock's function in 10 dimensions, in Python, each evaluation
with a sleep of 5 ms; two Ray actors each, on a Ray of their own. evotorch as its documentation
has it: a Problem of num_actors=2 and float64, the CMAES searcher; and once more with Ray told to
restart its actors and repeat their calls, through evotorch's actor_config.

After half of the generations, 50 ms into the next one, one actor's process gets SIGKILL. Every
run is a process of its own, whose outcome is its result, its exception, or that it is killed when
its time is over. "same": the best point, its value and the final mean have the bits of an
undisturbed run; of that itself, that a second one has. Seconds are of the run, without imports
and the start of Ray.

    python benchmarks/ray_rivals.py [--quick] [--out FILE.json]    (extra: rivals)
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from report import arguments, report

D, POPULATION, WORKERS, SEED = 10, 40, 2, 1
BOX = (-5.0, 10.0)
EACH = 0.005
INTO_IT = 0.05  # seconds of a generation before the kill; it takes twice as long, at least
OVER = 60.0  # seconds that a run may take, start included
LIBRARIES = ("zoo", "evotorch", "evotorch, Ray's restarts")


def objective(x):
    time.sleep(EACH)
    x = np.asarray(x)
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def actors():
    """Processes of Ray's actors that descend from this one."""
    parents, found = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if words.startswith((b"ray::Worker", b"ray::EvaluationActor")):  # not Ray's own
            found.append(int(path.name))

    def descends(pid):
        return pid == os.getpid() or (pid in parents and descends(parents[pid]))

    return [pid for pid in sorted(found) if descends(pid)]


class Killer:
    """Called with the number of generations done; kills one actor, once, within the next."""

    def __init__(self, generation):
        self.generation = generation
        self.killed = False

    def __call__(self, done):
        """Hear of a generation."""
        if done == self.generation:
            threading.Timer(INTO_IT, self.kill).start()

    def kill(self):
        """End one actor's process."""
        found = actors()
        assert len(found) == WORKERS, found
        os.kill(found[0], signal.SIGKILL)
        self.killed = True


def by_zoo(generations, killer):
    import zoo

    def callback(progress):
        killer(progress.step)

    with zoo.workers(WORKERS, ray_address="local") as crew:
        crew.gather()
        started = time.perf_counter()
        result = zoo.minimize(
            objective,
            [BOX] * D,
            "cma",
            popsize=POPULATION,
            steps=generations,
            seed=SEED,
            workers=crew,
            callback=callback,
        )
        seconds = time.perf_counter() - started
    assert result.nit == generations
    return seconds, [*result.x, result.fun, *result.mean]


def by_evotorch(generations, killer, **actor_config):
    import ray
    import torch
    from evotorch import Problem
    from evotorch.algorithms import CMAES

    torch.manual_seed(SEED)  # with a seed of the Problem's own, 0.6.1 cannot build its actors
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False)
    problem = Problem(
        "min",
        objective,
        solution_length=D,
        initial_bounds=BOX,
        dtype=torch.float64,
        num_actors=WORKERS,
        actor_config=actor_config or None,
    )
    searcher = CMAES(problem, stdev_init=0.2 * (BOX[1] - BOX[0]), popsize=POPULATION)
    problem.evaluate(problem.generate_batch(WORKERS))  # its actors start with this
    searcher.after_step_hook.append(lambda: killer(searcher.step_count))
    started = time.perf_counter()
    searcher.run(generations)
    seconds = time.perf_counter() - started
    best = searcher.status["best"]
    return seconds, [*best.values.tolist(), float(best.evals[0]), *searcher.m.tolist()]


def child(library, generations, kill):
    """Run one of them, and print what came of it."""
    killer = Killer(generations // 2 if kill else -1)
    started = time.perf_counter()
    told = {}
    try:
        if library == "zoo":
            seconds, numbers = by_zoo(generations, killer)
        else:
            again = {"max_restarts": -1, "max_task_retries": -1}
            seconds, numbers = by_evotorch(
                generations, killer, **({} if library == "evotorch" else again)
            )
        assert killer.killed == kill
        told = {"outcome": "finished", "numbers": [float(v).hex() for v in numbers]}
    except Exception as error:
        seconds = time.perf_counter() - started
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = {"outcome": f"{type(error).__name__}: {' '.join(lines)}"[:90]}
    print(json.dumps(told | {"seconds": seconds}), flush=True)


def outcome(library, generations, kill):
    """What came of a run in a process, and a process group, of its own."""
    words = [sys.executable, __file__, "--child", library, str(generations), str(int(kill))]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ
        | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )
    try:
        out, err = process.communicate(timeout=OVER)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"outcome": f"hangs: killed after {OVER:g} s", "seconds": OVER}
    told = [line for line in out.splitlines() if line.startswith("{")]
    if not told:
        last = err.strip().splitlines()[-1:] or ["nothing said"]
        return {"outcome": f"exit {process.returncode}: {last[0]}"[:90], "seconds": None}
    return json.loads(told[-1])


def rivals(quick):
    generations = 12 if quick else 60
    rows = []
    for library in LIBRARIES:
        alone = outcome(library, generations, False)
        for run in ("undisturbed", "one of 2 killed"):
            told = outcome(library, generations, run != "undisturbed")
            numbers = told.get("numbers")
            rows.append(
                {
                    "library": library,
                    "run": run,
                    "outcome": told["outcome"],
                    "seconds": told["seconds"],
                    "same": numbers == alone.get("numbers") if numbers else None,
                    "evaluations": generations * POPULATION,
                }
            )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")
        raise SystemExit
    options = arguments(__doc__)
    if importlib.util.find_spec("evotorch") is None:
        print("evotorch is not installed: pip install -e '.[rivals]'", file=sys.stderr)
        raise SystemExit(2)
    report("A worker killed in the middle", rivals(options.quick), options.out)
