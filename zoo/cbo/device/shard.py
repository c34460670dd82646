"""A piece of the population that lives on a GPU: whole runs, or a block of one run's particles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.device import shape as shapes
from zoo.cbo.device.batches import WANTED_ALL
from zoo.cbo.device.kernel import kernel_of
from zoo.cbo.device.resident import new_resident, target_of
from zoo.cbo.shard import Message, Report, stop_runs
from zoo.cuda import cuda, memory_told, require
from zoo.errors import InputError
from zoo.jit import why_not
from zoo.problem import CompiledObjective
from zoo.runtime.protocol import Exchange, State

#: Numbers of last positions that are brought back, but of dynamics that are about them.
_FEW = 100_000

#: Arrays that a superstep changes, and a snapshot holds: of particles, and of whole runs.
_PARTICLES = ("x", "energy", "y", "y_energy")
_RUNS = ("runs", "best_x", "c", "covariance", "factor")


class DeviceShard:
    """Particles ``particles`` of runs ``runs``; see :class:`zoo.cbo.shard.CBOShard`."""

    @memory_told()
    def __init__(
        self,
        plan: st.Plan,
        seed: int,
        runs: range,
        particles: range,
        fresh: Any,
        objective: CompiledObjective,
        real: str,
    ) -> None:
        require()
        p = plan.params[0]
        n, dp, count = len(particles), len(plan.lower), len(runs)
        self.plan, self.d = plan, int(p["dimension"])
        self.whole = n == int(p["particles"])
        self.leads = particles.start == 0
        self._first_run, self._seed = runs.start, np.uint64(seed)
        batch = int(p["batch"])
        active = batch if batch and not p["move_all"] else n
        affine, polarized = bool(p["noise"] == dy.COVARIANCE), bool(p["dynamics"] == dy.POLARIZED)
        tiled = "float64" if polarized else real
        rows, self._bytes = shapes.tile_of(dp, count * active, tiled)
        if (affine or polarized or batch) and not self._bytes:
            raise InputError(
                "covariances, polarized dynamics and batches take up to "
                f"{shapes.most_dimensions(tiled)} dimensions on a GPU, got {self.d}: use device cpu"
            )
        groups = shapes.groups_of(count, active, rows, dp * dp if affine else 0)
        self._shape = shape = shapes.Shape(
            real,
            self._bytes > 0,
            # In batches and polarized dynamics all wait for all before any goes on.
            self.whole and groups == 1 and not batch and not polarized,
            shapes.added_by_all(groups),
            int(p["noise"]),
            int(p["boundary"]),
            int(p["gate"]),
            bool(p["dynamics"] == dy.HOPPING),
            polarized,
            bool(p["memory"]),
            bool(p["kick_sigma"] > 0.0),
            bool(p["ess"] > 0.0),
            batch > 0,
            len(objective.shift) > 0,
            len(objective.rotation) > 0,
            objective.pure,
        )
        self._wanted = p["dynamics"] in (dy.POLARIZED, dy.SAMPLING)
        self._kernel = kernel_of(objective.dispatcher, shape)
        self._held = held = new_resident(plan, shape, fresh, count, particles, groups, rows)
        self._arrays = held.population._asdict() | held.center._asdict()
        self._blocks, self._target = 1, target_of(objective, shape, self.d, 1, rows)
        try:
            self._launch(0)  # compiles
        except NumbaError as error:
            raise InputError(
                "the objective does not compile for the GPU, where functions have no arrays of "
                f"their own: {why_not(error)}"
            ) from error
        self._blocks = shapes.blocks_of(self._kernel, shape.alone, count * groups, self._bytes)
        self._target = target_of(objective, shape, self.d, self._blocks, rows)

    def _launch(self, steps: int) -> Any:
        """Take so many supersteps; the trace of whole runs."""
        runs = len(self._held.population.runs)
        lines = steps // int(self.plan.params[0]["stride"]) + 2 if self.whole else 0
        rows = cuda.device_array((runs, lines, st.TRACE), np.float64)
        used = cuda.to_device(np.zeros(runs, np.int64))
        self._kernel[self._blocks, shapes.THREADS, 0, self._bytes](
            steps,
            int(self.whole),
            self._seed,
            self._first_run,
            *self._held,
            self._target,
            st.Trace(rows, used),
        )
        if not self.whole:
            return []
        return [rows[:n] for rows, n in zip(rows.copy_to_host(), used.copy_to_host(), strict=True)]

    @memory_told()
    def step(self, message: Message) -> Report:
        """Take up to ``message.steps`` supersteps; see :class:`zoo.runtime.protocol.Shard`."""
        if not self.whole:
            return self._step_of_block(message)
        if message.stop:
            runs = self._host("runs")
            stop_runs(runs)
            self._put("runs", runs)
        traces = self._launch(message.steps)
        runs = self._host("runs")
        return Report(
            runs,
            self._host("best_x")[:, : self.d],
            self._host("c")[:, : self.d],
            traces,
            last=self._last() if np.all(runs["phase"] == st.DONE) else None,
        )

    def _step_of_block(self, message: Message) -> Report:
        runs, center = message.runs, message.center
        ending = runs[0]["phase"] == st.MEASURE
        if ending and not self.leads:  # the first block alone evaluates the consensus
            nothing = st.new_sums(1, len(self.plan.lower), len(center.covariance[0]))
            nothing.head["lowest"] = nothing.head["best"] = np.inf
            return Report(runs, sums=nothing, last=self._last())
        self._put("runs", runs)
        for name in ("c", "factor"):
            self._put(name, getattr(center, name))
        if self._shape.polarized:
            self._put("points", center.points.transpose(0, 2, 1).astype(self._shape.real))
            self._put("energies", center.energies)
        self._launch(1)
        sums = st.Sums(*(array.copy_to_host() for array in self._held.sums))
        second = sums.second_moment  # the kernel leaves out what is the same
        second += np.tril(second, -1).transpose(0, 2, 1)
        report: dict[str, Any] = {"sums": sums}
        if ending:
            return Report(self._host("runs"), last=self._last(), **report)
        if self._shape.batches and self._shape.ess:
            report["energies"] = self._held.deals.chosen.copy_to_host()[0]
        elif self._shape.ess:
            report["energies"] = self._host("y_energy" if self._shape.memory else "energy")[0]
        if self._shape.polarized:
            report |= {
                "x": self._host("x")[0].astype(np.float64),
                "energy": self._host("energy")[0],
            }
        return Report(self._host("runs"), **report)

    def _host(self, name: str) -> Any:
        return self._arrays[name].copy_to_host()

    def _put(self, name: str, array: Any) -> None:
        if array.size:  # strides of nothing are anything
            self._arrays[name].copy_to_device(np.ascontiguousarray(array))

    def _last(self) -> Any:
        """Last positions and energies, where they are few or what the dynamics are about."""
        if self._arrays["energy"].size * self.d > _FEW and not self._wanted:
            return None
        return self._host("x")[:, :, : self.d].astype(np.float64), self._host("energy")

    def exchange(self, message: Message) -> Exchange:
        """Take the supersteps; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """Everything that a superstep changes, as copies."""
        return {name: self._host(name) for name in _PARTICLES + (_RUNS if self.whole else ())}

    def restore(self, state: State) -> None:
        """Take up a state."""
        for name in _PARTICLES + (_RUNS if self.whole else ()):
            self._put(name, state[name])
        self._put("epochs", np.full(self._arrays["epochs"].shape, -1))
        self._held.deals.news.copy_to_device(WANTED_ALL)
