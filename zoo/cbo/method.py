"""The driver's side of consensus-based optimization."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.cbo import config as cf
from zoo.cbo import state as st
from zoo.cbo.advance import close, record_one
from zoo.cbo.config import CBOConfig
from zoo.cbo.shard import CBOShard, Message, Report, stop_runs
from zoo.errors import InputError, ObjectiveError
from zoo.problem import Array, CompiledObjective, Problem, never
from zoo.runtime.budget import Budget
from zoo.runtime.evaluation import Evaluator
from zoo.runtime.protocol import Progress, State

if TYPE_CHECKING:
    from zoo.cbo.device.shard import DeviceShard

#: Rows of the history of a run that takes all its steps.
_HISTORY = 200
#: Numbers of last positions that every result carries.
_FEW = 100_000
#: Numbers a tile: the working arrays of one stay in the second-level cache.
_TILE = 8192
#: Numbers a block has at least, so that a superstep outweighs its exchange.
_BLOCK = 100_000

_STATUS = {
    st.RUNNING: ("running", "the run goes on"),
    st.TARGET: ("target", "the target value was reached"),
    st.CONVERGED: ("converged", "the particles have converged"),
    st.STAGNATED: ("stagnated", "no better value for patience steps"),
    st.STEPS: ("steps", "all steps were taken"),
    st.EVALUATIONS: ("evaluations", "the budget of evaluations is used"),
    st.NEVER_FINITE: ("nonfinite", "the objective was never finite"),
    st.STOPPED: ("stopped", "the run was told to stop"),
}


def _pieces(total: int, count: int) -> list[range]:
    """``total`` things in ``count`` contiguous ranges of nearly equal length."""
    edges = [total * i // count for i in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


class CBO:
    """Consensus-based optimization on the superstep protocol.

    Several runs are spread over shards whole, each taking many iterations a superstep. One run is
    cut into blocks of particles if it is large; then a superstep is one iteration, and the
    consensus is merged here.

    Parameters
    ----------
    problem : Problem
    config : CBOConfig
    budget : Budget
        ``evaluations`` is for each run.
    seed : int
        0 .. 2**64 - 1.
    x0 : (d,) array, optional
        Middle of a normal start.
    """

    resident = True

    def __init__(
        self,
        problem: Problem,
        config: CBOConfig,
        budget: Budget,
        seed: int,
        x0: Array | None = None,
    ) -> None:
        self.problem = problem
        width = float(np.mean(problem.upper - problem.lower))
        self.config = config = config.resolved(problem.dimension, width)
        self.seed = seed
        assert config.particles is not None
        self._n = n = config.particles
        d = problem.dimension
        on_device = config.device == "cuda"
        self.concurrent = not on_device  # shards of one process have one GPU
        if config.precision != "float64" and not on_device:
            raise InputError("precision float32 is for device cuda")
        wanted = config.shards or (1 if on_device else self._shards_for(n, d, config.runs))
        if on_device:
            if not isinstance(problem.objective, CompiledObjective):
                raise InputError(
                    "device cuda takes an objective that is compiled: one of zoo's own, or a "
                    "numba.njit function"
                )
            if problem.objective.on_error == "penalize":
                raise InputError("on_error penalize is for device cpu: a GPU raises nothing")
        if config.runs > 1:
            self._run_ranges = _pieces(config.runs, min(wanted, config.runs))
            self._blocks = [range(n)]
        else:
            self._run_ranges = [range(1)]
            wanted = min(wanted, n)
            while config.batch and not config.shards and config.batch % wanted:
                wanted -= 1
            self._blocks = _pieces(n, wanted)
        self.shards = max(len(self._run_ranges), len(self._blocks))
        self.whole = len(self._blocks) == 1
        self._plan = self._make_plan(budget, x0)
        self._runs = np.zeros(config.runs, st.RUN)
        self._fresh(self._runs)
        dp = len(self._plan.lower)
        self._best_x = np.zeros((config.runs, dp))
        shared = n if config.dynamics == "polarized" and not self.whole else 0
        self._center = st.new_center(self._plan, 1, shared)
        self._consensus = np.zeros((config.runs, d))
        self._last: list[Any] = [None] * self.shards
        self._stopping, self._reason = False, ""
        self._rows: list[dict[str, Any]] = []
        self._traced = np.full((config.runs, st.TRACE), np.nan)

    @staticmethod
    def _shards_for(n: int, d: int, runs: int) -> int:
        if runs > 1:
            return min(runs, 16)
        return min(64, max(1, n * d // _BLOCK))

    def _make_plan(self, budget: Budget, x0: Array | None) -> st.Plan:
        config, problem = self.config, self.problem
        d = problem.dimension
        dp = (d + 3) // 4 * 4
        n, blocks = self._n, len(self._blocks)
        if config.batch % blocks:
            raise InputError(
                f"batch must be a multiple of the {blocks} shards of the population, "
                f"got {config.batch}"
            )
        sampling = config.dynamics == "sampling"
        steps = budget.steps or 20_000
        if budget.evaluations is not None:
            steps = min(steps, budget.evaluations // (config.batch or n))
        placed = config.init_mean is not None or config.init_std is not None
        values = {
            "dimension": d,
            "particles": n,
            "blocks": blocks,
            "dynamics": cf.DYNAMICS.index(config.dynamics),
            "noise": 2 if sampling else cf.NOISES.index(config.noise),
            "alpha_factor": config.alpha_factor if config.alpha_schedule == "multiply" else 1.0,
            "ess": config.ess if config.alpha_schedule == "ess" else 0.0,
            "gate": cf.GATES.index(config.gate),
            "batch": 0 if config.batch in (0, n) else config.batch // blocks,
            "move_all": config.batch_moves == "all",
            "kernel_scaled": config.kernel_scaling == "alpha",
            "boundary": cf.BOUNDARIES.index(config.boundary),
            "guess": x0 is not None,
            "init_normal": config.init == "normal" or x0 is not None or placed,
            "about_last": config.covariance_about == "last",
            "spread_tol": 0.0 if sampling else config.spread_tol,
            "steps": budget.steps if budget.steps is not None else np.iinfo(np.int64).max,
            "max_evaluations": budget.evaluations or np.iinfo(np.int64).max,
            "target": -np.inf if budget.target is None else budget.target,
            "patience": budget.patience or 0,
            "tile": max(8, _TILE // dp // 8 * 8),
            "stride": max(1, -(-steps // _HISTORY)),
        }
        params = np.zeros(1, st.PARAMS)
        for name in st.PARAMS.names or ():
            params[name] = values[name] if name in values else getattr(config, name)
        self._params = params[0]
        smallest = n + 1
        if budget.evaluations is not None and budget.evaluations < smallest:
            raise InputError(
                f"evaluations must be at least particles + 1 = {smallest}, got {budget.evaluations}"
            )

        def padded(row: Any) -> Array:
            out = np.zeros(dp)
            out[:d] = row
            return out

        lower, upper = problem.lower, problem.upper
        box = (lower, upper)
        if config.init_lower is not None and config.init_upper is not None:
            box = (np.full(d, config.init_lower), np.full(d, config.init_upper))
        origin, extent = box[0], box[1] - box[0]
        if self._params["init_normal"]:
            if x0 is not None:
                origin = x0
            elif config.init_mean is not None:
                origin = np.full(d, config.init_mean)
            else:
                origin = 0.5 * (box[0] + box[1])
            std = config.init_std
            extent = 0.25 * (box[1] - box[0]) if std is None else np.full(d, std)
        return st.Plan(
            params,
            padded(lower),
            padded(upper),
            padded(origin),
            padded(extent),
            padded(upper - lower),
        )

    def _fresh(self, runs: Any) -> None:
        config = self.config
        runs["alpha"] = config.alpha
        runs["sigma"] = config.sigma
        runs["dt"] = config.dt
        runs["best"] = np.inf
        runs["spread"] = np.nan
        runs["at_consensus"] = np.inf

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> CBOShard | DeviceShard:
        """Build shard ``index``; see :class:`zoo.runtime.protocol.Method`."""
        fresh = np.zeros(1, st.RUN)
        self._fresh(fresh)
        here = (
            self._run_ranges[index if self.whole else 0],
            self._blocks[0 if self.whole else index],
        )
        if self.config.device == "cuda":
            from zoo.cbo.device.shard import DeviceShard

            assert isinstance(self.problem.objective, CompiledObjective)
            return DeviceShard(
                self._plan, self.seed, *here, fresh, self.problem.objective, self.config.precision
            )
        return CBOShard(
            self._plan,
            self.seed,
            *here,
            fresh,
            Evaluator(self.problem.objective, threads, cancelled),
        )

    def message(self, steps: int) -> Message:
        """Message of the next superstep."""
        if self.whole:
            return Message(steps, self._stopping)
        return Message(1, runs=self._runs, center=self._center)

    def merge(self, reports: list[Report]) -> None:
        """Take in the reports of a superstep."""
        if self.whole:
            self._gather(reports)
        else:
            self._merge_blocks(reports)
        if self.finished and not np.any(np.isfinite(self._runs["best"])):
            raise ObjectiveError(
                f"the objective was never finite: {int(self._runs['evaluations'].sum())} "
                f"evaluations gave NaN or infinity{self._failures()}"
            )

    def _failures(self) -> str:
        failures = self.problem.objective.failures
        return "".join(f"; {count} {kind}" for kind, count in sorted(failures.items()))

    def _gather(self, reports: list[Report]) -> None:
        rows = []
        for index, (runs, report) in enumerate(zip(self._run_ranges, reports, strict=True)):
            here = slice(runs.start, runs.stop)
            self._runs[here] = report.runs
            self._best_x[here, : self.problem.dimension] = report.best_x
            self._consensus[here] = report.consensus
            self._last[index] = report.last
            for r, trace in zip(runs, report.traces, strict=True):
                rows += [(row[0], r, row) for row in trace]
        rows.sort(key=lambda row: row[:2])
        for i, (step, r, row) in enumerate(rows):
            self._traced[r] = row
            if i + 1 == len(rows) or rows[i + 1][0] != step:
                self._record(int(step))

    def _merge_blocks(self, reports: list[Report]) -> None:
        runs, center = self._runs, self._center
        if runs[0]["phase"] == st.MEASURE:
            runs["at_consensus"] = reports[0].runs["at_consensus"]
            self._last = [report.last for report in reports]
        sums = st.Sums(
            *(np.concatenate(parts) for parts in zip(*(r.sums for r in reports), strict=True))
        )
        energies = np.empty(0)
        if reports[0].energies is not None:
            energies = np.concatenate([report.energies for report in reports])
        if reports[0].x is not None:
            energy = np.concatenate([report.energy for report in reports])
            lowest = energy.min()
            center.energies[0] = energy - lowest if np.isfinite(lowest) else energy
            center.points[0] = np.concatenate([report.x for report in reports]).T
        close(self._plan, runs, sums, energies, center, self._best_x)
        self._consensus[0] = center.c[0, : self.problem.dimension]
        trace = st.Trace(np.empty((1, 1, st.TRACE)), np.zeros(1, np.int64))
        if record_one(int(self._params["stride"]), runs, trace):
            self._traced[0] = trace.rows[0, 0]
            self._record(int(runs[0]["step"]))

    def _record(self, step: int) -> None:
        best, spread = (column[~np.isnan(column)] for column in self._traced[:, 2:4].T)
        row: dict[str, Any] = {
            "step": step,
            "evaluations": int(np.nansum(self._traced[:, 1])),
            "best": float(best.min()),
            "spread": float(np.median(spread)) if step and len(spread) else None,
            "alpha": float(np.nanmedian(self._traced[:, 4])),
        }
        if self.config.runs > 1:
            row |= {"median": float(np.median(best)), "worst": float(best.max())}
        self._rows.append(row)

    @property
    def finished(self) -> bool:
        """Whether every run has ended."""
        return bool(np.all(self._runs["phase"] == st.DONE))

    def stop(self, reason: str) -> None:
        """End the runs that go on; their consensus points are measured first."""
        self._stopping, self._reason = True, reason
        if not self.whole:
            stop_runs(self._runs)

    def progress(self) -> Progress:
        """Where the runs stand."""
        runs = self._runs
        spread = runs["spread"][~np.isnan(runs["spread"])]
        steps, evaluations = int(self._params["steps"]), int(self._params["max_evaluations"])
        done, of = 0, 0
        limits = [
            (float(runs["step"].mean()), steps),
            (float(runs["evaluations"].mean()), evaluations),
        ]
        nearest = max(limits, key=lambda limit: limit[0] / max(1, limit[1]))
        if nearest[1] < np.iinfo(np.int64).max:
            done, of = int(nearest[0]), nearest[1]
        return Progress(
            int(runs["step"].max()),
            int(runs["evaluations"].sum()),
            float(runs["best"].min()),
            float(np.median(spread)) if len(spread) else math.nan,
            done,
            of,
        )

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def state(self) -> State:
        """Everything that a merge changes."""
        state = {"runs": self._runs, "best_x": self._best_x, "traced": self._traced}
        state |= {"consensus": self._consensus}
        state |= {f"center_{name}": getattr(self._center, name) for name in self._center._fields}
        copies = {name: array.copy() for name, array in state.items()}
        return copies | {"failures": np.array(json.dumps(self.problem.objective.failures))}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self.problem.objective.failures.clear()
        self.problem.objective.failures.update(json.loads(state["failures"].item()))
        self._runs[...] = state["runs"]  # whose records files do not keep aligned
        self._best_x = state["best_x"].copy()
        self._traced = state["traced"].copy()
        self._consensus = state["consensus"].copy()
        self._center = st.Center(*(state[f"center_{name}"].copy() for name in st.Center._fields))

    def result(self) -> dict[str, Any]:
        """Fields of the result; see :func:`zoo.minimize`."""
        runs, d = self._runs, self.problem.dimension
        if not np.any(np.isfinite(runs["best"])):
            raise ObjectiveError("no finite value was found")
        first = int(np.argmin(runs["best"]))
        status, why = self._status(runs[first])
        target = float(self._params["target"])
        reached = runs["best"] <= target
        message = why if len(runs) == 1 else f"{why} (run {first}, the best of {len(runs)})"
        result: dict[str, Any] = {
            "x": self._best_x[first, :d].copy(),
            "fun": float(runs[first]["best"]),
            "nfev": int(runs["evaluations"].sum()),
            "nit": int(runs["step"].max()),
            "success": bool(reached[first]) if math.isfinite(target) else self._ended(first),
            "status": status,
            "message": message,
            "consensus": self._consensus[first].copy(),
            "consensus_fun": float(runs[first]["at_consensus"]),
            "spread": float(runs[first]["spread"]),
            "alpha": float(runs[first]["alpha"]),
            "nonfinite": int(runs["nonfinite"].sum()),
            "kicks": int(runs["kicks"].sum()),
        }
        if len(runs) > 1:
            result |= {
                "runs_x": self._best_x[:, :d].copy(),
                "runs_fun": runs["best"].copy(),
                "runs_consensus": self._consensus.copy(),
                "runs_consensus_fun": runs["at_consensus"].copy(),
                "runs_nfev": runs["evaluations"].copy(),
                "runs_status": [self._status(run)[0] for run in runs],
            }
        return result | self._particles()

    def _ended(self, r: int) -> bool:
        """Whether a run came to its own end, not that of a budget; some dynamics have none."""
        status = int(self._runs[r]["status"])
        own = (st.TARGET, st.CONVERGED, st.STAGNATED)
        endless = self.config.dynamics != "cbo" and status in (st.STEPS, st.EVALUATIONS)
        return status in own or endless

    def _status(self, run: Any) -> tuple[str, str]:
        if run["status"] == st.STOPPED and self._reason == "seconds":
            return "seconds", "the budget of seconds is used"
        return _STATUS[int(run["status"])]

    def _particles(self) -> dict[str, Any]:
        """Last positions, where the dynamics are about them or they are few."""
        wanted = self.config.dynamics in ("polarized", "sampling")
        numbers = self._n * self.config.runs * self.problem.dimension
        if any(last is None for last in self._last) or not (wanted or numbers <= _FEW):
            return {}
        axis = 0 if self.whole else 1
        x = np.concatenate([last[0] for last in self._last], axis)
        energy = np.concatenate([last[1] for last in self._last], axis)
        fields: dict[str, Any] = {"particles": x}
        if self.config.dynamics == "polarized":
            points, values = distinct_minima(
                x.reshape(-1, x.shape[2]), energy.reshape(-1), self.config.kappa or 0.0
            )
            fields |= {"minima": points, "minima_fun": values}
        return fields


def distinct_minima(x: Array, energy: Array, separation: float) -> tuple[Array, Array]:
    """Lowest particles (k, d) more than ``separation`` apart, best first, and their values (k,)."""
    chosen: list[int] = []
    for i in np.argsort(energy, kind="stable"):
        if not np.isfinite(energy[i]):
            break
        if all(np.linalg.norm(x[i] - x[j]) > separation for j in chosen):
            chosen.append(int(i))
    return x[chosen].copy(), energy[chosen].copy()
