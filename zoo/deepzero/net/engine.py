"""A network at work on a batch: losses, derivatives by coordinates and by units."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net.coordinates import cge
from zoo.deepzero.net.cost import blocks, change_costs, stage_of, unit_costs
from zoo.deepzero.net.forward import forward
from zoo.deepzero.net.network import Network
from zoo.deepzero.net.nodes import probe
from zoo.deepzero.net.plan import Cache, Plan, Scratch
from zoo.errors import Interrupted
from zoo.problem import never

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Operations that a thread does between two looks at whether it is to stop.
_PIECE = 2e9


class Engine:
    """A network, and the memory for batches of up to ``samples``.

    Parameters
    ----------
    network : Network
    samples : int
    dtype : numpy dtype
        float32 or float64.
    threads : int
    cancelled : callable
        True gives up what is under way.
    """

    def __init__(
        self,
        network: Network,
        samples: int,
        dtype: Any = np.float32,
        threads: int = 1,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.network, self.threads, self.cancelled = network, threads, cancelled
        self.plan = Plan(network, samples, dtype)
        self.cache = self.plan.cache()
        self._other: Cache | None = None
        self._scratch = [self.plan.scratch() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._change = change_costs(network, samples)
        self._unit = unit_costs(network, samples)
        self.samples = 0

    def load(self, x: Any, y: Ints) -> None:
        """Take up a batch: inputs (n, channels, height, width) and labels (n,)."""
        self.samples = len(x)
        _fill(self.cache, x, y)
        if self._other is not None:
            _fill(self._other, x, y)

    def base(self, theta: Array) -> float:
        """Mean loss of the batch at ``theta``, from which changes will start."""
        return self._pass(self.cache, theta, True)[0] / self.samples

    def loss(self, theta: Array) -> float:
        """Mean loss of the batch at ``theta``; changes still start from the last base."""
        if self._other is None:
            self._other = self.plan.cache()
            inputs = int(np.prod(self.network.shape))
            self._other.a[:inputs] = self.cache.a[:inputs]
            self._other.y[:] = self.cache.y
            self._other.hot[:] = self.cache.hot
        return self._pass(self._other, theta, True)[0] / self.samples

    def evaluate(self, theta: Array, moments: Array) -> tuple[float, int]:
        """Sum of the losses, and how many labels are right, normalized by ``moments``."""
        self.cache.moments[:] = moments
        return self._pass(self.cache, theta, False)

    @property
    def moments(self) -> Array:
        """Mean and variance (channels of all stages, 2) of the batch at the last base."""
        return self.cache.moments

    def _pass(self, cache: Cache, theta: Array, training: bool) -> tuple[float, int]:
        if self.cancelled():
            raise Interrupted
        with np.errstate(over="ignore"):  # then the loss is not finite, as will be told
            cache.theta[:] = theta
        total, right = forward(self.plan.table, cache, self._scratch[0], self.samples, training)
        return float(total), int(right)

    def derivatives(self, coordinates: Ints, mu: float, central: bool = False) -> Array:
        """Derivatives of the loss by coordinates, in ascending order; see :func:`cge`.

        Raises
        ------
        Interrupted
            If cancelled.
        """
        g = np.empty(len(coordinates))
        costs = self._change[stage_of(self.network, coordinates)] * (1 + central)

        def work(scratch: Scratch, first: int, last: int) -> None:
            part = coordinates[first:last], mu, central, g[first:last], self.samples
            cge(self.plan.table, self.cache, scratch, *part)

        self._shared(work, costs)
        return g

    def probes(self, units: Ints, mu: float) -> Array:
        """Derivatives by the weights and the bias of units (m, 2); see :func:`probe`."""
        sizes = np.array([s.fan_in + (s.bias >= 0) for s in self.network.stages])
        ends = np.concatenate([[0], np.cumsum(sizes[units[:, 0]])])
        g = np.zeros(ends[-1])

        def work(scratch: Scratch, first: int, last: int) -> None:
            part = units[first:last], mu, g[ends[first] : ends[last]], self.samples
            probe(self.plan.table, self.cache, scratch, *part)

        self._shared(work, self._unit[units[:, 0]])
        return g

    def _shared(self, work: Callable[[Scratch, int, int], None], costs: Array) -> None:
        """Do items in pieces, over the threads; what a piece comes to does not depend on them."""
        if not len(costs):
            return
        total = float(costs.sum()) * self.samples
        pieces = max(int(np.ceil(total / _PIECE)), self.threads if total > _PIECE / 1e4 else 1)
        bounds = blocks(costs, min(len(costs), pieces))
        if self._pool is None or pieces == 1:
            for first, last in pairwise(bounds):
                self._piece(work, self._scratch[0], int(first), int(last))
            return
        free: SimpleQueue[Scratch] = SimpleQueue()
        for scratch in self._scratch:
            free.put(scratch)

        def one(first: int, last: int) -> None:
            scratch = free.get()
            try:
                self._piece(work, scratch, first, last)
            finally:
                free.put(scratch)

        done = [self._pool.submit(one, int(first), int(last)) for first, last in pairwise(bounds)]
        wait(done)  # of one that is given up, too: the others use what is needed again
        for piece in done:
            piece.result()

    def _piece(
        self, work: Callable[[Scratch, int, int], None], scratch: Scratch, first: int, last: int
    ) -> None:
        if self.cancelled():
            raise Interrupted
        if last > first:
            work(scratch, first, last)


def _fill(cache: Cache, x: Any, y: Ints) -> None:
    n = len(x)
    inputs = x.reshape(n, -1)
    cache.a[: inputs.shape[1], :n] = inputs.T
    cache.y[:n] = y
    cache.hot[:, :n] = y == np.arange(len(cache.hot))[:, None]
