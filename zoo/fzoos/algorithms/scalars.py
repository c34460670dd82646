"""DeComFL: scalars along shared directions (Li et al., ICLR 2025), with orthonormal ones as well.

In a local step, all clients draw the same directions u_q, and answer with

    s_iq = [f_i(x + lambda u_q) - f_i(x)] / lambda

alone; everybody goes along their mean. The estimate from orthonormal directions, sum_q s_q u_q, is
the projection of the gradient on their span (least squares); from normal ones it is the mean of
s_q u_q. A client that was away gets the scalars it has missed, or the iterate if that is less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from zoo.fzoos.algorithms.stepping import projected
from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.directions import ALL, SHARED, generator, orthonormal
from zoo.fzoos.exchange import Arrays, Task, weighted
from zoo.fzoos.job import Job
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: Step that is found by its success: its factor where the values fell as foretold, and else.
_LONGER, _SHORTER = 1.3, 0.5
#: First step, as a share of the box's diagonal.
_FIRST = 0.05
#: Share of the fall foretold that must come true.
_ENOUGH = 0.3


def directions(job: Job, round: int, t: int) -> Array:
    """Directions (Q, d) of local step ``t`` of a round."""
    random = generator(job.seed, ALL, SHARED, round, t)
    count, d = job.config.directions, job.dimension
    if job.config.distribution == "orthonormal":
        return orthonormal(random, count, d)
    return random.standard_normal((count, d)) / math.sqrt(count)


def moved(job: Job, x: Array, round: int, scalars: Array, eta: float) -> Array:
    """Iterate after local steps along scalars (K, Q)."""
    for t, values in enumerate(scalars):
        u = directions(job, round, t)
        x = projected(x - eta * (values @ u))
    return x


class Scalars:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`."""

    between = True

    def __init__(self, job: Job) -> None:
        self.job, self.x, self.fun = job, job.start, math.nan
        self._next = job.start  # to be evaluated
        self._eta = job.config.lr or 0.0  # 0: not known yet
        self._before: dict[int, tuple[float, float]] = {}  # a client's value, and its fall foretold
        self._moves: list[tuple[int, float, Array]] = []  # round, eta and scalars of the latest
        self._made = 0  # moves in all
        self._counts: dict[int, int] = {}  # moves that a client knows of

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        arrays = {"eta": np.array([self._eta])}
        missed = self._made - min(self._counts.get(client, 0) for client in clients)
        latest = self._moves[len(self._moves) - missed :]
        if missed > len(self._moves):
            arrays["x"] = self._next
        elif latest:
            arrays["scalars"] = np.array([scalars for _, _, scalars in latest])
            arrays["moves"] = np.array([(made, eta) for made, eta, _ in latest])
        arrays["made"] = np.array([self._made], np.int64)
        return Task("scalars", round, arrays)

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        weights = self.job.problem.weights
        self.x, self.fun = self._next, float(weighted(replies, weights, "value")[0])
        scalars = weighted(replies, weights, "scalars")
        self._counts |= dict.fromkeys(replies, self._made)
        eta = self._eta  # that of the clients' local steps
        if self.job.config.lr is None:
            self._adapt(replies, scalars)
        if len(scalars) == 1 or eta == 0.0:  # there were none
            eta = self._eta
        self._before = {
            client: (float(arrays["value"][0]), eta * float(arrays["scalars"][0] @ scalars[0]))
            for client, arrays in replies.items()
        }
        self._next = moved(self.job, self._next, round, scalars, eta)
        self._made += 1
        most = max(1, self.job.dimension // scalars.size)  # more than that, and x is less
        self._moves = [*self._moves, (round, eta, scalars)][-most:]

    def _adapt(self, replies: Mapping[int, Arrays], scalars: Array) -> None:
        """Judge the last move by those who were there before it and are now."""
        if self._eta == 0.0:
            length = math.sqrt(float((scalars[0] ** 2).sum()))
            diagonal = math.sqrt(self.job.dimension)
            self._eta = _FIRST * diagonal / length if length > 0.0 else 0.0
            return
        fell = foretold = 0.0
        for client in sorted(replies.keys() & self._before.keys()):
            weight, (value, fall) = self.job.problem.weights[client], self._before[client]
            fell += weight * (value - float(replies[client]["value"][0]))
            foretold += weight * fall
        if foretold > 0.0:
            self._eta *= _LONGER if fell >= _ENOUGH * foretold else _SHORTER

    def void(self) -> None:
        """See Server."""

    def state(self) -> State:
        """See Server."""
        return {
            "x": self.x.copy(),
            "next": self._next.copy(),
            "book": np.array([self.fun, self._eta]),
            "before": np.array([(k, *told) for k, told in sorted(self._before.items())]).reshape(
                -1, 3
            ),
            "made": np.array(self._made),
            "moves": np.array([(made, eta) for made, eta, _ in self._moves]).reshape(-1, 2),
            "scalars": np.array([scalars for _, _, scalars in self._moves]),
            "counts": np.array(sorted(self._counts.items()), np.int64).reshape(-1, 2),
        }

    def restore(self, state: State) -> None:
        """See Server."""
        self.x, self._next = state["x"].copy(), state["next"].copy()
        self.fun, self._eta = state["book"].tolist()
        self._before = {int(k): (value, fall) for k, value, fall in state["before"].tolist()}
        self._made = int(state["made"])
        self._moves = [
            (int(made), eta, scalars.copy())
            for (made, eta), scalars in zip(state["moves"].tolist(), state["scalars"], strict=True)
        ]
        self._counts = dict(state["counts"].tolist())


class Answering:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`."""

    def __init__(self, job: Job, index: int, oracle: Oracle) -> None:
        self.job, self.oracle = job, oracle
        self._x, self._count = job.start, 0

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        self._follow(task.arrays)
        config, x = self.job.config, self._x
        eta = float(task.arrays["eta"][0])
        scalars, first = [], math.nan
        assert config.local_steps is not None
        for t in range(config.local_steps):
            u = directions(self.job, task.round, t)
            values = self.oracle(projected(np.concatenate([x[None], x + config.step * u])))
            if np.isnan(values).any():
                raise NoValue("its values are not finite")
            slopes = (values[1:] - values[0]) / config.step
            scalars.append(slopes)
            first = values[0] if t == 0 else first
            x = projected(x - eta * (slopes @ u))
        return {"value": np.array([first]), "scalars": np.array(scalars)}

    def _follow(self, arrays: Arrays) -> None:
        """Go to the server's iterate."""
        made = int(arrays["made"][0])
        if "x" in arrays:
            self._x = arrays["x"].copy()
        elif made > self._count:
            latest = zip(arrays["moves"].tolist(), arrays["scalars"], strict=True)
            for (round, eta), scalars in list(latest)[self._count - made :]:
                self._x = moved(self.job, self._x, int(round), scalars, eta)
        self._count = made

    def state(self) -> State:
        """See Local."""
        return {"x": self._x.copy(), "count": np.array(self._count)}

    def restore(self, state: State) -> None:
        """See Local."""
        self._x, self._count = state["x"].copy(), int(state["count"])
