"""A piece of the population that lives on a GPU: whole runs, or a block of one run's particles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.device import batches
from zoo.cbo.device import shape as shapes
from zoo.cbo.device.kernel import kernel_of
from zoo.cbo.shard import Message, Report, stop_runs
from zoo.cuda import SIMULATED, cuda, memory_told, require
from zoo.errors import InputError
from zoo.jit import why_not
from zoo.problem import CompiledObjective
from zoo.runtime.protocol import Exchange, State

#: Numbers of last positions that are brought back, but of dynamics that are about them.
_FEW = 100_000

#: Arrays that a superstep changes, and a snapshot holds: of particles, and of whole runs.
_PARTICLES = ("x", "energy", "y", "y_energy")
_RUNS = ("runs", "best_x", "c", "covariance", "factor")

#: Some permutations are wanted.
_NEWS = (np.arange(batches.NEWS) == batches.WANTED).astype(np.int64)


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
        self._first, self._first_run, self._seed = particles.start, runs.start, np.uint64(seed)
        self._batch = batch = int(p["batch"])
        active = batch if batch and not p["move_all"] else n
        self._polarized = bool(p["dynamics"] == dy.POLARIZED)
        tiled = "float64" if self._polarized else real
        self._rows, self._bytes = shapes.tile_of(dp, count * active, tiled)
        affine, ess = bool(p["noise"] == dy.COVARIANCE), bool(p["ess"] > 0.0)
        if (affine or self._polarized or batch) and not self._bytes:
            raise InputError(
                "covariances, polarized dynamics and batches take up to "
                f"{shapes.most_dimensions(tiled)} dimensions on a GPU, got {self.d}: use device cpu"
            )
        self._groups = shapes.groups_of(count, active, self._rows, dp * dp if affine else 0)
        shape = shapes.Shape(
            real,
            self._bytes > 0,
            shapes.added_by_all(self._groups),
            int(p["noise"]),
            int(p["boundary"]),
            int(p["gate"]),
            bool(p["dynamics"] == dy.HOPPING),
            self._polarized,
            bool(p["memory"]),
            bool(p["kick_sigma"] > 0.0),
            ess,
            batch > 0,
            len(objective.shift) > 0,
            len(objective.rotation) > 0,
            objective.pure,
        )
        self._wanted = p["dynamics"] in (dy.POLARIZED, dy.SAMPLING)
        self._memory, self._ess = shape.memory, ess
        self._kernel = kernel_of(objective.dispatcher, shape)
        self._held = self._arrays(fresh, count, n, real, objective)
        moved = shape.shifted or not shape.pure  # objectives have a point of their own
        scratch = (self._rows, self.d if moved else 0, "float64" if SIMULATED else real)
        self._blocks, self._points = 1, _points(1, *scratch)
        try:
            self._launch(0)  # compiles
        except NumbaError as error:
            raise InputError(
                "the objective does not compile for the GPU, where functions have no arrays of "
                f"their own: {why_not(error)}"
            ) from error
        self._blocks = shapes.blocks_of(self._kernel, count * self._groups, self._bytes)
        self._points = _points(self._blocks, *scratch)

    def _arrays(
        self, fresh: Any, count: int, n: int, real: str, objective: CompiledObjective
    ) -> dict[str, Any]:
        """What is resident, by the kernel's names."""
        plan, put = self.plan, cuda.to_device
        p, dp = plan.params[0], len(plan.lower)
        mine, slots, dealt = (n if p["memory"] else 0), 3, n
        if not self._batch:
            slots, dealt = 1, 0
        shared = int(p["particles"]) if self._polarized else 0
        center = st.new_center(plan, count, 0)
        matrix = len(center.covariance[0])
        items = count * self._groups
        sums = st.new_sums(count, dp, matrix)
        bounds = within(plan.lower, plan.upper, real)
        box = np.stack([*bounds, plan.origin, plan.extent, plan.width])
        order = np.tile(np.arange(dealt, dtype=np.int32), (count, slots, 1))
        return {
            "params": put(plan.params),
            "box": put(box),
            "limits": put(np.stack(bounds).astype(real)),
            "runs": put(np.repeat(fresh, count)),
            "x": put(np.zeros((count, n, dp), real)),
            "energy": put(np.full((count, n), np.inf)),
            "y": put(np.zeros((count, mine, dp), real)),
            "y_energy": put(np.full((count, mine), np.inf)),
            "order": put(order),
            "epochs": put(np.full((count, 2), -1)),
            "news": put(_NEWS),
            "partners": cuda.device_array((count, 2, dealt), np.int32),
            "claims": cuda.device_array((count, 2, dealt), np.int32),
            "chosen": cuda.device_array((count, self._batch if self._ess else 0), np.float64),
            "c": put(center.c),
            "covariance": put(center.covariance),
            "factor": put(center.factor),
            "best_x": put(np.zeros((count, dp))),
            "head": put(sums.head),
            "moment": put(sums.first_moment),
            "second": put(sums.second_moment),
            "found": put(sums.best_x),
            "parts": put(np.zeros(items, st.SUMS)),
            "places": put(np.zeros(items, np.int64)),
            "moments": put(np.zeros((items, dp))),
            "seconds": put(np.zeros((items, matrix, matrix))),
            "others": put(np.zeros((count, shared, dp), real)),
            "others_energy": put(np.zeros((count, shared))),
            "shift": put(objective.shift),
            "rotation": put(objective.rotation),
            "anchor": put(objective.anchor),
        }

    def _launch(self, steps: int) -> Any:
        """Take so many supersteps; the trace of whole runs."""
        held, runs = self._held, len(self._held["runs"])
        lines = steps // int(self.plan.params[0]["stride"]) + 2 if self.whole else 0
        rows = cuda.device_array((runs, lines, st.TRACE), np.float64)
        used = cuda.to_device(np.zeros(runs, np.int64))
        taken = ("x", "energy", "y", "y_energy", "order", "epochs", "partners", "claims", "news")
        summed = ("c", "covariance", "factor", "best_x", "head", "moment", "second", "found")
        self._kernel[self._blocks, shapes.THREADS, 0, self._bytes](
            steps,
            int(self.whole),
            self._groups,
            self._rows,
            held["params"],
            held["box"],
            held["limits"],
            self._seed,
            self._first_run,
            self._first,
            held["runs"],
            held["x"].reshape(held["x"].size),
            *(held[name] for name in taken),
            held["chosen"],
            *(held[name] for name in summed),
            *(held[name] for name in ("parts", "places", "moments", "seconds")),
            *(held[name] for name in ("others", "others_energy")),
            rows,
            used,
            *(held[name] for name in ("shift", "rotation", "anchor")),
            self._points,
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
        if self._polarized:
            points = center.points.transpose(0, 2, 1)
            self._put("others", points.astype(self._held["others"].dtype))
            self._put("others_energy", center.energies)
        self._launch(1)
        head, moment, second, found = map(self._host, ("head", "moment", "second", "found"))
        second += np.tril(second, -1).transpose(0, 2, 1)  # the kernel leaves out what is the same
        report: dict[str, Any] = {"sums": st.Sums(head, moment, second, found)}
        if ending:
            return Report(self._host("runs"), last=self._last(), **report)
        if self._ess:
            energies = self._host("y_energy" if self._memory else "energy")
            report["energies"] = (self._host("chosen") if self._batch else energies)[0]
        if self._polarized:
            report |= {
                "x": self._host("x")[0].astype(np.float64),
                "energy": self._host("energy")[0],
            }
        return Report(self._host("runs"), **report)

    def _host(self, name: str) -> Any:
        return self._held[name].copy_to_host()

    def _put(self, name: str, array: Any) -> None:
        if array.size:  # strides of nothing are anything
            self._held[name].copy_to_device(np.ascontiguousarray(array))

    def _last(self) -> Any:
        """Last positions and energies, where they are few or what the dynamics are about."""
        if self._held["energy"].size * self.d > _FEW and not self._wanted:
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
        self._put("epochs", np.full(self._held["epochs"].shape, -1))
        self._put("news", _NEWS)


def _points(blocks: int, rows: int, d: int, real: str) -> Any:
    """Points (blocks, d, rows) of threads: those of neighbours are beside each other."""
    return cuda.device_array((blocks, d, rows), real)


def within(lower: Any, upper: Any, real: str) -> tuple[Any, Any]:
    """Bounds that positions of this type can have, no wider than the given ones."""
    low, high = lower.astype(real), upper.astype(real)
    low = np.where(low < lower, np.nextafter(low, np.inf, dtype=real), low)
    high = np.where(high > upper, np.nextafter(high, -np.inf, dtype=real), high)
    return low.astype(np.float64), high.astype(np.float64)
