"""CMA-ES (pycma's) with restarts, as an ask/tell method on the superstep protocol."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from zoo.cma.config import CMAConfig
from zoo.cma.descent import Descent
from zoo.cma.restarts import Restart, next_restart
from zoo.errors import InputError, ObjectiveError
from zoo.problem import Array, Problem, never
from zoo.runtime.budget import Budget
from zoo.runtime.evaluation import EvaluationShard, Evaluator
from zoo.runtime.protocol import Progress, State

# Random numbers are Philox words of key (seed, restart) and counter (block, 0, 0, purpose); the
# purposes 0 to 4 are those of zoo.streams.
NORMALS, UNIFORMS = 5, 6

#: The history has every step at first, and then one in step / _ROWS.
_ROWS = 30

#: What ended a run: its status, and why in words.
_STATUS = {
    "": ("running", "the run goes on"),
    "target": ("target", "the target value was reached"),
    "converged": ("converged", "CMA-ES stopped by its own criteria"),
    "patience": ("stagnated", "no better value for patience steps"),
    "steps": ("steps", "all steps were taken"),
    "evaluations": ("evaluations", "the budget of evaluations is used"),
    "seconds": ("seconds", "the budget of seconds is used"),
    "stopped": ("stopped", "the run was told to stop"),
}


class CMA:
    """CMA-ES on the superstep protocol: a superstep is one generation, the shard its evaluations.

    A run never exceeds ``evaluations``: it ends when the next generation would. The state is what
    the strategy of the present restart was told, and is restored by telling it again.

    Parameters
    ----------
    problem : Problem
    config : CMAConfig
    budget : Budget
        ``steps`` are generations; all limits are for all restarts together.
    seed : int
        0 .. 2**64 - 1.
    x0 : (d,) array, optional
        First mean of the first run; else, and in restarts, it is uniform in the box.
    """

    shards = 1
    resident = False
    concurrent = True

    def __init__(
        self,
        problem: Problem,
        config: CMAConfig,
        budget: Budget,
        seed: int,
        x0: Array | None = None,
    ) -> None:
        self.problem, self.config, self.budget, self.seed = problem, config, budget, seed
        d = problem.dimension
        popsize = config.popsize or 4 + math.floor(3 * math.log(d))
        if budget.steps == 0:
            raise InputError("steps must be >= 1, got 0")
        if budget.evaluations is not None and budget.evaluations < popsize:
            raise InputError(
                f"evaluations must be at least popsize = {popsize}, got {budget.evaluations}"
            )
        self._x0 = x0
        self._runs = [Restart("first", popsize, config.sigma0)]
        self._told = array("d")
        self._descent: Descent | None = None
        self._candidates: Array | None = None
        self._best, self._best_x = math.inf, np.full(d, np.nan)
        self._stagnant, self._nonfinite = 0, 0
        self._reason, self._ended = "", ""
        self._recorded = 0  # step of the last row of the history
        self._rows: list[dict[str, Any]] = []

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> EvaluationShard:
        """Build the shard; see :class:`zoo.runtime.protocol.Method`."""
        return EvaluationShard(Evaluator(self.problem.objective, threads, cancelled))

    def message(self, steps: int) -> Array:
        """Points (popsize, d) of the next generation; none if the run has been stopped."""
        if self._reason and self._evaluations:
            return np.empty((0, self.problem.dimension))
        if self._candidates is None:
            self._candidates = self._current().ask()
        return self._candidates

    def merge(self, reports: list[Array]) -> None:
        """Take in the values of a generation."""
        if len(reports[0]):
            self._take(reports[0])
        if self._reason and not self._ended:
            self._end(self._reason)
            if self._recorded < self._step:
                self._record()
        if self.finished and not math.isfinite(self._best):
            failures = self.problem.objective.failures
            counted = "".join(f"; {count} {kind}" for kind, count in sorted(failures.items()))
            raise ObjectiveError(
                f"the objective was never finite: {self._evaluations} evaluations gave NaN or "
                f"infinity{counted}"
            )

    def _take(self, values: Array) -> None:
        assert self._candidates is not None
        finite = np.isfinite(values)
        energies = np.where(finite, values, np.inf)
        first = int(np.argmin(energies))
        run, best = self._runs[-1], float(energies[first])
        run.iterations += 1
        run.evaluations += len(values)
        run.fun = min(run.fun, best)
        self._nonfinite += len(values) - int(finite.sum())
        self._stagnant += 1
        if best < self._best:
            self._best, self._best_x, self._stagnant = best, self._candidates[first].copy(), 0
        run.stop = self._current().tell(values)
        self._told.extend(values.tolist())
        self._candidates = None
        following = None
        if run.stop:
            following = next_restart(self.config, self._runs, self._uniforms)
        limit = self._limit(following)
        if limit:
            self._end(limit)
        if run.stop or self._step >= self._recorded + max(1, self._recorded // _ROWS):
            self._record()
        if following is not None and not limit:
            self._runs.append(following)
            self._told = array("d")
            self._descent = None

    def _limit(self, following: Restart | None) -> str:
        """Name what ends the run before its next generation; nothing if it goes on."""
        budget, run = self.budget, self._runs[-1]
        if budget.target is not None and self._best <= budget.target:
            return "target"
        if run.stop and following is None:
            return "converged"
        if budget.patience is not None and self._stagnant >= budget.patience:
            return "patience"
        if budget.steps is not None and self._step >= budget.steps:
            return "steps"
        next_size = (following or run).popsize
        if budget.evaluations is not None and self._evaluations + next_size > budget.evaluations:
            return "evaluations"
        return ""

    def _end(self, limit: str) -> None:
        self._ended = limit
        run = self._runs[-1]
        run.stop = run.stop or {limit: getattr(self.budget, limit, None)}

    def _current(self) -> Descent:
        """Strategy of the present restart, brought to where it was by what it was told."""
        if self._descent is None:
            run, number = self._runs[-1], len(self._runs) - 1
            start = self._uniforms(2 + self.problem.dimension, number)[2:]
            if number == 0 and self._x0 is not None:
                # Halves, so that the width of no box overflows.
                low, high = self.problem.lower / 2, self.problem.upper / 2
                start = np.clip((self._x0 / 2 - low) / (high - low), 0.0, 1.0)
            normals = self._generator(number, NORMALS)
            self._descent = Descent(self.problem, self.config, run, start, normals)
            for values in np.array(self._told).reshape(-1, run.popsize):
                self._descent.ask()
                self._descent.tell(values)
        return self._descent

    def _generator(self, restart: int, purpose: int) -> np.random.Generator:
        key = np.array([self.seed, restart], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))

    def _uniforms(self, count: int, restart: int | None = None) -> Array:
        """First uniforms of a restart, the next one by default: two for BIPOP, d for its start."""
        number = len(self._runs) if restart is None else restart
        return self._generator(number, UNIFORMS).random(count)

    @property
    def _step(self) -> int:
        return sum(run.iterations for run in self._runs)

    @property
    def _evaluations(self) -> int:
        return sum(run.evaluations for run in self._runs)

    def _record(self) -> None:
        descent, self._recorded = self._current(), self._step
        self._rows.append(
            {
                "step": self._recorded,
                "evaluations": self._evaluations,
                "best": self._best,
                "spread": float(descent.stds.max()),
                "sigma": float(descent.strategy.sigma),
                "popsize": self._runs[-1].popsize,
                "restart": len(self._runs) - 1,
            }
        )

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    def stop(self, reason: str) -> None:
        """End the run at the next superstep, which evaluates nothing if anything has been."""
        self._reason = reason if reason in _STATUS else "stopped"

    def progress(self) -> Progress:
        """Where the run stands; the spread is the largest deviation in widths of the box."""
        step, evaluations = self._step, self._evaluations
        limits = [(step, self.budget.steps), (evaluations, self.budget.evaluations)]
        known = [(done, of) for done, of in limits if of is not None]
        done, of = max(known, key=lambda limit: limit[0] / limit[1], default=(0, 0))
        spread = float(self._descent.stds.max()) if self._descent is not None else math.nan
        return Progress(step, evaluations, self._best, spread, done, of)

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call, dense at first and then ever thinner."""
        rows, self._rows = self._rows, []
        return rows

    def state(self) -> State:
        """Everything that a merge changes."""
        book = {
            "runs": [asdict(run) for run in self._runs],
            "best": self._best,
            "stagnant": self._stagnant,
            "nonfinite": self._nonfinite,
            "ended": self._ended,
            "recorded": self._recorded,
        }
        return {
            "told": np.array(self._told),
            "best_x": self._best_x.copy(),
            "book": np.array(json.dumps(book)),
            "failures": np.array(json.dumps(self.problem.objective.failures)),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self.problem.objective.failures.clear()
        self.problem.objective.failures.update(json.loads(state["failures"].item()))
        book = json.loads(state["book"].item())
        self._runs = [Restart(**run) for run in book["runs"]]
        self._best, self._best_x = book["best"], state["best_x"].copy()
        self._stagnant, self._nonfinite = book["stagnant"], book["nonfinite"]
        self._ended, self._recorded, self._rows = book["ended"], book["recorded"], []
        self._told = array("d", state["told"].tolist())
        self._descent, self._candidates = None, None

    def result(self) -> dict[str, Any]:
        """Fields of the result; see :func:`zoo.minimize`."""
        if not math.isfinite(self._best):
            raise ObjectiveError("no finite value was found")
        descent, run = self._current(), self._runs[-1]
        status, message = _STATUS[self._ended]
        if status == "converged":
            message += f" ({', '.join(run.stop)})"
            message += "" if self.config.restarts == "none" else ", and no restart is left"
        stds = descent.stds
        reached = self.budget.target is not None and self._best <= self.budget.target
        own_end = status in ("converged", "stagnated")
        return {
            "x": self._best_x.copy(),
            "fun": self._best,
            "nfev": self._evaluations,
            "nit": self._step,
            "success": reached if self.budget.target is not None else own_end,
            "status": status,
            "message": message,
            "mean": descent.mean,
            "sigma": float(descent.strategy.sigma),
            "stds": stds * self.problem.upper - stds * self.problem.lower,
            "popsize": run.popsize,
            "stop": dict(run.stop),
            "restarts": [asdict(one) for one in self._runs],
            "nonfinite": self._nonfinite,
        }
