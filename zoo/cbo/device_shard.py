"""A piece of the population that lives on a GPU: whole runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from zoo.cbo import device
from zoo.cbo import dynamics as dy
from zoo.cbo import state as st
from zoo.cbo.shard import Message, Report, stop_runs
from zoo.cuda import cuda, memory_told, require
from zoo.errors import InputError
from zoo.problem import CompiledObjective
from zoo.runtime.protocol import Exchange, State

#: Numbers of last positions that are brought back, but of dynamics that are about them.
_FEW = 100_000

#: Arrays that a superstep changes, and a snapshot holds.
_STATE = ("runs", "x", "energy", "y", "y_energy", "best_x", "c", "covariance", "factor")


class DeviceShard:
    """Runs ``runs``, of all their particles; see :class:`zoo.cbo.shard.CBOShard`."""

    @memory_told()
    def __init__(
        self,
        plan: st.Plan,
        seed: int,
        runs: range,
        fresh: Any,
        objective: CompiledObjective,
        real: str,
    ) -> None:
        require()
        p = plan.params[0]
        n, dp, count = int(p["particles"]), len(plan.lower), len(runs)
        self.plan, self.d, self._objective = plan, int(p["dimension"]), objective
        mine = n if p["memory"] else 0
        center = st.new_center(plan, count, 0)
        self._rows, self._bytes = device.tile_of(dp, count * n, real)
        matrix = len(center.covariance[0])
        polarized = bool(p["dynamics"] == dy.POLARIZED)
        if (matrix or polarized) and not self._bytes:
            raise InputError(
                f"covariances and polarized dynamics take up to {device.MOST_DIMENSIONS} "
                f"dimensions on a GPU, got {self.d}: use device cpu"
            )
        self._groups = device.groups_of(count, n, self._rows, matrix * matrix)
        items = count * self._groups
        shape = device.Shape(
            real,
            self._bytes > 0,
            int(p["noise"]),
            int(p["boundary"]),
            int(p["gate"]),
            bool(p["dynamics"] == dy.HOPPING),
            polarized,
            bool(p["memory"]),
            bool(p["kick_sigma"] > 0.0),
            bool(p["ess"] > 0.0),
            len(objective.shift) > 0,
            len(objective.rotation) > 0,
            bool(objective.target().pure),
        )
        self._wanted = p["dynamics"] in (dy.POLARIZED, dy.SAMPLING)
        self._copies = len(objective.shift) > 0 or not shape.pure
        self._kernel = device.kernel_of(objective.dispatcher, shape)
        bounds = within(plan.lower, plan.upper, real)
        box = np.stack([*bounds, plan.origin, plan.extent, plan.width])
        sums = st.new_sums(count, dp, matrix)
        put = cuda.to_device
        self._held = {
            "params": put(plan.params),
            "box": put(box),
            "runs": put(np.repeat(fresh, count)),
            "x": put(np.zeros((count, n, dp), real)),
            "energy": put(np.full((count, n), np.inf)),
            "y": put(np.zeros((count, mine, dp), real)),
            "y_energy": put(np.full((count, mine), np.inf)),
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
            "others": put(np.zeros((count, n if polarized else 0, dp), real)),
            "others_energy": put(np.zeros((count, n if polarized else 0))),
            "shift": put(objective.shift),
            "rotation": put(objective.rotation),
            "anchor": put(objective.anchor),
        }
        self._seed, self._first_run = np.uint64(seed), runs.start
        try:
            self._launch(0, 1, self._new_trace(0))  # compiles
        except NumbaError as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise InputError(
                "the objective does not compile for the GPU, where functions have no arrays of "
                f"their own: {said[-1].strip()}"
            ) from error
        self._blocks = device.blocks_of(self._kernel, items, self._bytes)

    def _new_trace(self, steps: int) -> st.Trace:
        rows = steps // int(self.plan.params[0]["stride"]) + 2
        runs = len(self._held["runs"])
        return st.Trace(np.empty((runs, rows, st.TRACE)), np.zeros(runs, np.int64))

    def _launch(self, steps: int, blocks: int, trace: st.Trace) -> st.Trace:
        held = self._held
        scratch = (blocks, self._rows, self.d if self._copies else 0)
        points = cuda.device_array(scratch, np.float64)
        rows, used = cuda.to_device(trace.rows), cuda.to_device(trace.used)
        self._kernel[blocks, device.THREADS, 0, self._bytes](
            steps,
            1,
            self._groups,
            self._rows,
            held["params"],
            held["box"],
            self._seed,
            self._first_run,
            0,
            held["runs"],
            held["x"].reshape(held["x"].size),
            *(held[name] for name in ("x", "energy", "y", "y_energy", "c", "covariance", "factor")),
            *(held[name] for name in ("best_x", "head", "moment", "second", "found", "parts")),
            held["places"],
            held["moments"],
            held["seconds"],
            held["others"],
            held["others_energy"],
            rows,
            used,
            held["shift"],
            held["rotation"],
            held["anchor"],
            points,
        )
        return st.Trace(rows.copy_to_host(), used.copy_to_host())

    def step(self, message: Message) -> Report:
        """Take up to ``message.steps`` supersteps; see :class:`zoo.runtime.protocol.Shard`."""
        if message.stop:
            runs = self._held["runs"].copy_to_host()
            stop_runs(runs)
            self._held["runs"].copy_to_device(runs)
        trace = self._launch(message.steps, self._blocks, self._new_trace(message.steps))
        runs = self._held["runs"].copy_to_host()
        last = None
        numbers = self._held["energy"].size * self.d
        if np.all(runs["phase"] == st.DONE) and (self._wanted or numbers <= _FEW):
            x = self._held["x"].copy_to_host()
            last = (x[:, :, : self.d].astype(np.float64), self._held["energy"].copy_to_host())
        return Report(
            runs,
            self._held["best_x"].copy_to_host()[:, : self.d],
            self._held["c"].copy_to_host()[:, : self.d],
            [rows[:used] for rows, used in zip(trace.rows, trace.used, strict=True)],
            last=last,
        )

    def exchange(self, message: Message) -> Exchange:
        """Take the supersteps; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """Everything that a superstep changes, as copies."""
        return {name: self._held[name].copy_to_host() for name in _STATE}

    def restore(self, state: State) -> None:
        """Take up a state."""
        for name in _STATE:
            self._held[name].copy_to_device(np.ascontiguousarray(state[name]))


def within(lower: Any, upper: Any, real: str) -> tuple[Any, Any]:
    """Bounds that positions of this type can have, no wider than the given ones."""
    low, high = lower.astype(real), upper.astype(real)
    low = np.where(low < lower, np.nextafter(low, np.inf, dtype=real), low)
    high = np.where(high > upper, np.nextafter(high, -np.inf, dtype=real), high)
    return low.astype(np.float64), high.astype(np.float64)
