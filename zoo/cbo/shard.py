"""A resident piece of the population: whole runs, or a block of the particles of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.cbo import kernels
from zoo.cbo import state as st
from zoo.cbo.dynamics import POLARIZED
from zoo.evaluate import NO_TARGET
from zoo.problem import CompiledObjective
from zoo.runtime.evaluation import Evaluator
from zoo.runtime.protocol import Exchange, State

#: Seconds an evaluation may take to be made inside the compiled loop, which nothing interrupts.
_CHEAP = 1e-4


@dataclass(frozen=True)
class Message:
    """What shards are told: how far to go, and, for blocks, what their population shares."""

    steps: int
    stop: bool = False  # the runs that go on are to measure their consensus and end
    runs: Any = None  # (1,) state.RUN
    center: Any = None  # state.Center


@dataclass(frozen=True)
class Report:
    """What a shard answers: views of its state, to be taken in before it steps again."""

    runs: Any  # (R,) state.RUN
    best_x: Any = None  # (R, d), of whole runs; and so are the next two
    consensus: Any = None  # (R, d)
    traces: Any = None  # (R lists of) (rows, TRACE)
    sums: Any = None  # state.Sums of a block; and so are the next three
    energies: Any = None  # (m,) of the evaluated, where alpha depends on them
    x: Any = None  # (n, dp), where the dynamics are polarized; and so is the next
    energy: Any = None  # (n,)
    last: Any = None  # positions (R, n, d) and energies (R, n) of runs that have ended


class CBOShard:
    """Particles ``particles`` of runs ``runs``; ``whole`` if those are all of them."""

    def __init__(
        self,
        plan: st.Plan,
        seed: int,
        runs: range,
        particles: range,
        fresh: Any,
        evaluator: Evaluator,
    ) -> None:
        p = plan.params[0]
        d, dp = int(p["dimension"]), len(plan.lower)
        r, n = len(runs), len(particles)
        self.plan = plan
        self.seed = np.uint64(seed)
        self.first_run = runs.start
        self.whole = n == int(p["particles"])
        self.leads = particles.start == 0
        self.evaluator = evaluator
        self.d = d
        self._polarized = p["dynamics"] == POLARIZED
        self._target: Any = None
        mine = n if p["memory"] else 0
        rows = 3 if p["batch"] else 1
        self.population = st.Population(
            particles.start,
            np.repeat(fresh, r),
            np.zeros((r, n, dp)),
            np.full((r, n), np.inf),
            np.zeros((r, mine, dp)),
            np.full((r, mine), np.inf),
            np.tile(np.arange(n), (r, rows, 1)),
            np.full((r, 2), -1),
            np.zeros((r, dp)),
        )
        self.center = st.new_center(plan, r, int(p["particles"]) if self._polarized else 0)
        self.sums = st.new_sums(r, dp, self.center.covariance.shape[1])
        self._supersteps(NO_TARGET, self._new_trace(0), 0, 0)  # compiles, or loads

    def step(self, message: Message) -> Report:
        """Take up to ``message.steps`` supersteps; see :class:`zoo.runtime.protocol.Shard`."""
        if self._inside():
            self._adopt(message)
            self._compiled(message.steps)
            return self._report()
        exchange = self.exchange(message)
        try:
            points = next(exchange)
            while True:
                points = exchange.send(self.evaluator(points))
        except StopIteration as finished:
            report: Report = finished.value
            return report

    def exchange(self, message: Message) -> Exchange:
        """Take the supersteps with evaluations made outside."""
        self._adopt(message)
        pop, doing = self.population, kernels.OBSERVING
        if self.whole:
            doing |= kernels.ADVANCING
        trace = self._new_trace(message.steps)
        for _ in range(message.steps):
            active = [r for r in range(len(pop.runs)) if pop.runs[r]["phase"] != st.DONE]
            if not active:
                break
            gated = self.plan.params[0]["gate"] != 0
            asked = [
                r
                for r in active
                if (pop.runs[r]["phase"] == st.MEASURE and self.leads)
                or (pop.runs[r]["phase"] == st.MOVE and gated)
            ]
            if asked:
                pop.runs["at_consensus"][asked] = yield self.center.c[asked, : self.d]
            self._supersteps(NO_TARGET, trace, 1, kernels.MOVING)
            moved = [r for r in active if pop.runs[r]["phase"] in (st.SCATTER, st.MOVE)]
            chosen = [
                kernels.to_evaluate(self.plan, self.seed, self.first_run, pop, r) for r in moved
            ]
            if moved:
                points = [pop.x[r, rows, : self.d] for r, rows in zip(moved, chosen, strict=True)]
                values = yield np.concatenate(points)
                start = 0
                for r, rows in zip(moved, chosen, strict=True):
                    pop.energy[r, rows] = values[start : start + len(rows)]
                    start += len(rows)
            self._supersteps(NO_TARGET, trace, 1, doing)
        return self._report(trace)

    def state(self) -> State:
        """Everything that a superstep changes, as copies."""
        pop = self.population
        state = {"x": pop.x, "energy": pop.energy, "y": pop.y, "y_energy": pop.y_energy}
        if self.whole:
            center = self.center
            state |= {"runs": pop.runs, "best_x": pop.best_x, "c": center.c}
            state |= {"covariance": center.covariance, "factor": center.factor}
        return {name: array.copy() for name, array in state.items()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        for holder in (self.population, self.center):
            for name in holder._fields:
                if name in state:
                    getattr(holder, name)[...] = state[name]
        self.population.epochs[...] = -1

    def _inside(self) -> bool:
        """Whether evaluations are made inside the compiled loop: the same bits, only faster."""
        objective = self.evaluator.objective
        if not isinstance(objective, CompiledObjective) or objective.on_error == "penalize":
            return False
        if self._target is None:
            self._target = objective.target()
        return 0.0 < self.evaluator.seconds_each < _CHEAP  # as the first superstep timed it

    def _compiled(self, steps: int) -> None:
        doing = kernels.MOVING | kernels.EVALUATING | kernels.OBSERVING
        if self.whole:
            doing |= kernels.ADVANCING
        elif not self.leads and self.population.runs[0]["phase"] == st.MEASURE:
            doing = kernels.MOVING
        self._trace = self._new_trace(steps)
        try:
            self._supersteps(self._target, self._trace, steps, doing)
        except Exception as error:
            # Somewhere in the population: evaluate one by one to name the point.
            points = np.concatenate(
                [self.population.x.reshape(-1, len(self.plan.lower)), self.center.c]
            )
            self.evaluator.objective.evaluate(np.ascontiguousarray(points[:, : self.d]))
            raise error  # not the objective's

    def _supersteps(self, target: Any, trace: st.Trace, steps: int, doing: int) -> None:
        kernels.supersteps(
            target,
            self.plan,
            self.seed,
            self.first_run,
            self.population,
            self.center,
            self.sums,
            trace,
            steps,
            doing,
        )

    def _new_trace(self, steps: int) -> st.Trace:
        rows = steps // int(self.plan.params[0]["stride"]) + 2
        runs = len(self.population.runs)
        return st.Trace(np.empty((runs, rows, st.TRACE)), np.zeros(runs, np.int64))

    def _adopt(self, message: Message) -> None:
        if self.whole:
            if message.stop:
                stop_runs(self.population.runs)
            return
        self.population.runs[...] = message.runs
        for mine, theirs in zip(self.center, message.center, strict=True):
            mine[...] = theirs

    def _report(self, trace: st.Trace | None = None) -> Report:
        pop, p = self.population, self.plan.params[0]
        if self.whole:
            trace = trace or self._trace
            ended = bool(np.all(pop.runs["phase"] == st.DONE))
            return Report(
                pop.runs,
                pop.best_x[:, : self.d],
                self.center.c[:, : self.d],
                [rows[:used] for rows, used in zip(trace.rows, trace.used, strict=True)],
                last=(pop.x[:, :, : self.d], pop.energy) if ended else None,
            )
        report: dict[str, Any] = {"sums": self.sums}
        phase = pop.runs[0]["phase"]
        if phase == st.MEASURE and not self.leads:  # the first block alone evaluates the consensus
            self.sums.head["evaluations"] = 0
        if p["ess"] > 0.0 and phase != st.MEASURE:
            rows = kernels.to_evaluate(self.plan, self.seed, self.first_run, pop, 0)
            report["energies"] = (pop.y_energy if p["memory"] else pop.energy)[0, rows]
        if self._polarized and phase != st.MEASURE:
            report |= {"x": pop.x[0], "energy": pop.energy[0]}
        if phase == st.MEASURE:
            report["last"] = (pop.x[:, :, : self.d], pop.energy)
        return Report(pop.runs, **report)


def stop_runs(runs: Any) -> None:
    """Let the runs that go on measure their consensus and end."""
    going = (runs["phase"] != st.MEASURE) & (runs["phase"] != st.DONE)
    runs["status"][going] = st.STOPPED
    runs["phase"][going] = np.where(np.isfinite(runs["best"][going]), st.MEASURE, st.DONE)
