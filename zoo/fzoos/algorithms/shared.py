"""Surrogates of shared queries: FZooS where all clients query the same points.

Everybody evaluates the server's next iterate, and points about it along directions that all draw
from the seed. Errors of surrogates of different clients are then errors at the same points, and
the mean of the surrogates is the surrogate of the mean: what the clients differ by cancels out, and
scalars travel in place of features.

The server goes to where the posterior mean mu of the mean is lowest, but not too far,

    x' = argmin mu(z) + rho/2 |z - x|^2       over the box

and rho falls and grows as the values agree with what was foretold, or do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zoo.fzoos import surrogate
from zoo.fzoos.algorithms.stepping import projected
from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.directions import ALL, SURVEY, generator, orthonormal
from zoo.fzoos.exchange import Arrays, Task
from zoo.fzoos.job import Job
from zoo.fzoos.kernels import KERNELS
from zoo.fzoos.linear import one_thread
from zoo.fzoos.surrogate import Surrogate
from zoo.fzoos.trajectory import Trajectory
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: Length scales and noises that are tried next to the last ones.
_BESIDE, _NOISES = (0.7, 1.0, 1.4), (1e-8, 1e-6, 1e-4)
#: First length scale, relative to the square root of d.
_FIRST = 0.3
#: Shares of the fall foretold from which on rho falls, and below which it grows; its factors.
_GOOD, _POOR = 0.5, 0.1
_FREER, _STRICTER = 0.3, 4.0
#: Distance of surveyed points to the iterate, relative to the last move; at least, and at most.
_SPREAD, _LEAST, _MOST = 0.3, 1e-4, 0.5
#: Iterations of the search for the lowest mean.
_SEARCH = 60


def surveyed(job: Job, x: Array, spread: float, round: int) -> Array:
    """Points (1 + e, d) of a round: the iterate, and about it."""
    assert job.config.survey is not None
    random = generator(job.seed, ALL, SURVEY, round)
    u = orthonormal(random, job.config.survey, job.dimension)
    return projected(np.concatenate([x[None], x + spread * u]))


class Shared:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`."""

    between = True

    def __init__(self, job: Job) -> None:
        self.job, self.x, self.fun = job, job.start, math.nan
        self._next = self.x  # to be evaluated
        self._foretold = math.nan  # fall of the mean
        self._rho = math.nan  # not known yet
        self._spread = job.config.radius * math.sqrt(job.dimension) * _SPREAD
        self._ell = job.config.length_scale or _FIRST * math.sqrt(job.dimension)
        self._noise = 1e-6 if job.config.gp_noise is None else job.config.gp_noise
        count = len(job.problem.clients)
        self._trajectory = Trajectory(job.dimension, job.config.memory, count)
        self._latest: dict[int, int] = {}  # round of a client's last answer

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        return Task("values", round, {"x": self._next, "spread": np.array([self._spread])})

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        points = surveyed(self.job, self._next, self._spread, round)
        values = np.full((len(points), len(self.job.problem.clients)), np.nan)
        for client, arrays in replies.items():
            values[:, client] = arrays["values"]
            self._latest[client] = round
        known = self._trajectory.find(self._next)
        if known is not None:  # by other clients, then
            before = self._trajectory.y[known]
            values[0] = np.where(np.isnan(values[0]), before, values[0])
        self._trajectory.add(points, values)
        with one_thread():
            self._go(round)

    def _go(self, round: int) -> None:
        """Accept or refuse the iterate, and find the next one."""
        job, new = self.job, self._next
        parts = self._surrogates(new, round)
        here = _mean(parts, new)
        if math.isnan(self.fun):
            self.x = new
        else:
            before = _mean(parts, self.x)
            share = (before - here) / self._foretold if self._foretold > 0.0 else -1.0
            if share >= _GOOD:
                self._rho *= _FREER
            elif share < _POOR:
                self._rho *= _STRICTER
            if here < before:
                self.x = new
            else:
                here = before
        self.fun = here
        self._next = self._lowest(parts)
        self._foretold = here - _mean(parts, self._next)
        distance = float(np.linalg.norm(self._next - self.x))
        diagonal = math.sqrt(job.dimension)
        self._spread = min(max(_SPREAD * distance, _LEAST * diagonal), _MOST * diagonal)

    def _surrogates(self, x: Array, round: int) -> list[tuple[float, Surrogate]]:
        """Surrogates of groups of clients who have answered the same points, and their weights."""
        job, held = self.job, self._trajectory
        assert job.config.window is not None
        oldest = round - job.config.max_age
        present = [k for k, latest in sorted(self._latest.items()) if latest >= oldest]
        there = np.isfinite(held.y)
        groups: dict[bytes, list[int]] = {}
        for client in present:
            groups.setdefault(there[:, client].tobytes(), []).append(client)
        weights = job.problem.weights
        total = weights[present].sum()
        found: list[tuple[float, Surrogate]] = []
        for members in groups.values():
            rows = np.flatnonzero(there[:, members[0]])
            rows = rows[-job.config.window :]
            share = weights[members]
            values = held.y[rows][:, members] @ (share / share.sum())
            first = not found
            scales = [self._ell * f for f in _BESIDE] if first and self._free else [self._ell]
            noises = _NOISES if first and job.config.gp_noise is None else [self._noise]
            made = surrogate.fitted(
                held.x[rows], values, x, KERNELS[job.config.kernel], scales, noises
            )
            if first:
                self._ell, self._noise = made.ell, made.noise
            found.append((float(share.sum() / total), made))
        return found

    @property
    def _free(self) -> bool:
        return self.job.config.length_scale is None

    def _lowest(self, parts: list[tuple[float, Surrogate]]) -> Array:
        """Point of the lowest mean that is not too far."""
        x = self.x
        if math.isnan(self._rho):
            length = self.job.config.radius * math.sqrt(len(x))
            self._rho = float(np.linalg.norm(_slope(parts, x))) / length

        def both(point: Array) -> tuple[float, Array]:
            moved = point - x
            value = _mean(parts, point) + 0.5 * self._rho * float(moved @ moved)
            return value, _slope(parts, point) + self._rho * moved

        box = [(0.0, 1.0)] * len(x)
        options = {"maxiter": _SEARCH, "ftol": 1e-12, "gtol": 1e-10}
        found = minimize(both, x, jac=True, bounds=box, method="L-BFGS-B", options=options)
        return np.asarray(projected(found.x))

    def void(self) -> None:
        """See Server."""

    def state(self) -> State:
        """See Server."""
        book = [self.fun, self._foretold, self._rho, self._spread, self._ell, self._noise]
        latest = np.array(sorted(self._latest.items()), np.int64).reshape(-1, 2)
        held = self._trajectory.state()
        return {
            "iterate": self.x.copy(),
            "next": self._next.copy(),
            "book": np.array(book),
            "latest": latest,
            **held,
        }

    def restore(self, state: State) -> None:
        """See Server."""
        self.x, self._next = state["iterate"].copy(), state["next"].copy()
        (self.fun, self._foretold, self._rho, self._spread, self._ell, self._noise) = state[
            "book"
        ].tolist()
        self._latest = dict(state["latest"].tolist())
        self._trajectory.restore(state)


def _mean(parts: list[tuple[float, Surrogate]], x: Array) -> float:
    return sum(share * part.value(x) for share, part in parts)


def _slope(parts: list[tuple[float, Surrogate]], x: Array) -> Array:
    return np.asarray(sum(share * part.gradient(x) for share, part in parts))


class Evaluating:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`."""

    def __init__(self, job: Job, index: int, oracle: Oracle) -> None:
        self.job, self.oracle = job, oracle

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        spread = float(task.arrays["spread"][0])
        values = self.oracle(surveyed(self.job, task.arrays["x"], spread, task.round))
        if not np.isfinite(values).any():
            raise NoValue("its values are not finite")
        return {"values": values}

    def state(self) -> State:
        """See Local."""
        return {}

    def restore(self, state: State) -> None:
        """See Local."""
