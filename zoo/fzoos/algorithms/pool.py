"""FedKSeed: scalars along the directions of one pool (Qin et al., ICML 2024).

Directions z_k, k = 1 .. K, are drawn from the seed, once for the whole run. In a local step a
client draws one of them, and goes along it,

    s = [f_i(w + lambda z_k) - f_i(w - lambda z_k)] / (2 lambda),     w <- w - eta s z_k

and answers with the numbers k and the scalars s. The server adds them up by direction, so that all
that has happened is K sums, from which anybody rebuilds the iterate,

    w = w_0 - sum_k a_k z_k

however many rounds it was away. A sum cannot be projected, and where only its values are, a
coordinate that has left the box has no slope any more: so f_i(w) is that of w mirrored at the
bounds of the box. Where K is more than d, w itself is less to send.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.directions import ALL, LOCAL, SHARED, generator
from zoo.fzoos.exchange import Arrays, Task, weighted
from zoo.fzoos.job import Job
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: Step that is found by its success: its factor where the mean fell, and else.
_LONGER, _SHORTER = 1.1, 0.5
#: First move of all clients, as a share of the box's diagonal.
_FIRST = 0.05


def direction(job: Job, k: int) -> Array:
    """Direction z_k (d,), of length one on average."""
    d = job.dimension
    return generator(job.seed, ALL, SHARED, k).standard_normal(d) / math.sqrt(d)


def mirrored(w: Array) -> Array:
    """Points of the unit box, by reflections at its bounds."""
    return 1.0 - np.abs(1.0 - np.mod(w, 2.0))


def rebuilt(job: Job, sums: Array) -> Array:
    """Iterate w (d,) from the sums (K,)."""
    w = job.start
    for k in np.flatnonzero(sums):
        w = w - sums[k] * direction(job, int(k))
    return w


class Pool:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`."""

    between = True

    def __init__(self, job: Job) -> None:
        self.job, self.x, self.fun = job, job.start, math.nan
        self._sums = np.zeros(job.config.pool)
        self._w = job.start  # what they stand for: to be evaluated
        self._eta = job.config.lr or 0.0  # 0: not known yet
        self._values: dict[int, float] = {}  # of clients, in the last round

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        where = {"sums": self._sums} if len(self._sums) < self.job.dimension else {"w": self._w}
        return Task("pool", round, {"eta": np.array([self._eta]), **where})

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        weights = self.job.problem.weights
        self.x, self.fun = mirrored(self._w), float(weighted(replies, weights, "value")[0])
        total = sum(weights[k] for k in replies)
        moves = np.zeros_like(self._sums)
        for client in sorted(replies):
            numbers: Any = replies[client]["numbers"]
            np.add.at(moves, numbers, weights[client] / total * replies[client]["scalars"])
        eta = self._eta  # that of the clients' local steps
        if self.job.config.lr is None:
            self._adapt(replies, moves)
        self._sums = self._sums + (eta or self._eta) * moves
        self._w = rebuilt(self.job, self._sums)
        self._values = {client: float(arrays["value"][0]) for client, arrays in replies.items()}

    def _adapt(self, replies: Mapping[int, Arrays], moves: Array) -> None:
        """Judge the last move by those who were there before it and are now."""
        if self._eta == 0.0:
            length = float(np.linalg.norm(rebuilt(self.job, moves) - self.job.start))
            diagonal = math.sqrt(self.job.dimension)
            self._eta = _FIRST * diagonal / length if length > 0.0 else 0.0
            return
        both = sorted(replies.keys() & self._values.keys())
        weights = self.job.problem.weights
        fell = sum(weights[k] * (self._values[k] - replies[k]["value"][0]) for k in both)
        if both:
            self._eta *= _LONGER if fell > 0.0 else _SHORTER

    def void(self) -> None:
        """See Server."""

    def state(self) -> State:
        """See Server."""
        return {
            "x": self.x.copy(),
            "sums": self._sums.copy(),
            "book": np.array([self.fun, self._eta]),
            "values": np.array(sorted(self._values.items())).reshape(-1, 2),
        }

    def restore(self, state: State) -> None:
        """See Server."""
        self.x, self._sums = state["x"].copy(), state["sums"].copy()
        self.fun, self._eta = state["book"].tolist()
        self._values = {int(client): value for client, value in state["values"].tolist()}
        self._w = rebuilt(self.job, self._sums)


class Drawing:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`."""

    def __init__(self, job: Job, index: int, oracle: Oracle) -> None:
        self.job, self.index, self.oracle = job, index, oracle

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        job, config, given = self.job, self.job.config, task.arrays
        w = given["w"] if "w" in given else rebuilt(job, given["sums"])
        eta = float(given["eta"][0])
        value = self.oracle.one(mirrored(w))
        assert config.local_steps is not None
        random = generator(job.seed, self.index, LOCAL, task.round)
        numbers = random.integers(config.pool, size=config.local_steps)
        scalars = np.empty(config.local_steps)
        for t, k in enumerate(numbers.tolist()):
            z = direction(job, k)
            after, before = self.oracle(
                mirrored(np.array([w + config.step * z, w - config.step * z]))
            )
            if not math.isfinite(after - before):
                raise NoValue("its values are not finite")
            scalars[t] = (after - before) / (2.0 * config.step)
            w = w - eta * scalars[t] * z
        return {"value": np.array([value]), "numbers": numbers, "scalars": scalars}

    def state(self) -> State:
        """See Local."""
        return {}

    def restore(self, state: State) -> None:
        """See Local."""
