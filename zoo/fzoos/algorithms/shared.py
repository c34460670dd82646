"""Surrogates of shared queries: FZooS where all clients query the same points.

Everybody evaluates the server's next iterate, and points about it along directions that all draw
from the seed. Errors of surrogates of different clients are then errors at the same points, and
the mean of the surrogates is the surrogate of the mean: what the clients differ by cancels out, and
scalars travel in place of features. The surrogate is a quadratic of the latest points.

The server goes to where its mean is lowest, but not too far,

    x' = argmin mu(z) + rho/2 |z - x|^2       over the box,

and no further than the reach; rho falls and the reach grows as the values agree with what was
foretold, and the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zoo.fzoos.algorithms.stepping import projected
from zoo.fzoos.directions import ALL, SURVEY, generator, in_turn
from zoo.fzoos.exchange import Arrays, Task
from zoo.fzoos.job import Job
from zoo.fzoos.quadratic import COMMON, HESSIAN, Quadratic, fitted
from zoo.fzoos.trajectory import Trajectory
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

Parts = list[tuple[float, Quadratic]]

#: Shares of the fall foretold from which on one goes further, and below which not so far.
_GOOD, _POOR = 0.5, 0.1
#: Factors of rho, and of the reach, then.
_FREER, _STRICTER, _FURTHER, _NEARER = 0.2, 4.0, 2.0, 0.5
#: rho, at least.
_SMALLEST = 1e-12
#: Distance of surveyed points to the iterate, relative to the next move, and that of the nearest
#: of them to that of the furthest; at least, and at most, as shares of the box's diagonal.
_SPREAD, _NEAREST, _LEAST, _MOST = 0.3, 0.3, 1e-5, 0.3
#: After so many equal values at the same points there is no noise.
_HEARD = 3
#: A function with so many values that equal that of the iterate is constant in pieces, and was so
#: in one of so many rounds.
_EQUAL, _LATELY = 2, 5
#: Or as far as slopes are clearest, but no more than so many times the last distance.
_WIDER = 1.5
#: Points of a surrogate, in units of what a quadratic has coefficients.
_ENOUGH = 2
#: Iterations of the search for the lowest mean.
_SEARCH = 100

_LEFT_OUT = {"full": (), "common": (HESSIAN,), "none": (COMMON, HESSIAN)}


def surveyed(job: Job, x: Array, how: Array, round: int) -> Array:
    """Points (1 + e, d) of a round: the iterate, once or twice, and about it.

    ``how``: the distance, whether twice, and the number of the first direction.
    """
    assert job.config.survey is not None
    spread, twice, first = how.tolist()
    count = max(0, job.config.survey - int(twice))
    u = in_turn(job.seed, int(first), count, job.dimension)
    random = generator(job.seed, ALL, SURVEY, round)
    lengths = spread * random.uniform(_NEAREST, 1.0, (count, 1))  # so that curvature shows
    return projected(np.concatenate([*[x[None]] * (1 + int(twice)), x + lengths * u]))


class Shared:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`."""

    between = True

    def __init__(self, job: Job) -> None:
        self.job, self.x, self.fun = job, job.start, math.nan
        self._next = self.x  # to be evaluated
        self._foretold = math.nan  # fall of the mean
        diagonal = math.sqrt(job.dimension)
        self._rho = math.nan  # not known yet
        self._reach = 2.0 * job.config.radius * diagonal
        self._spread = _SPREAD * job.config.radius * diagonal
        self._twice = job.config.survey != 0  # whether the iterate is evaluated twice
        self._first = 0  # directions that have been used
        self._noises: list[float] = []  # variances of the mean, by what came of that
        self._stairs: list[float] = []  # and, of late, by its steps if it is constant in pieces
        self._flat = False  # whether no value differs from that of the iterate
        self._logs: dict[int, Array] = {}  # of the surrogate of each group's first client
        count = len(job.problem.clients)
        self._trajectory = Trajectory(job.dimension, job.config.memory, count)
        self._latest: dict[int, int] = {}  # round of a client's last answer

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        return Task("values", round, {"x": self._next, "how": self._how})

    @property
    def _how(self) -> Array:
        return np.array([self._spread, self._twice, self._first])

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        points = surveyed(self.job, self._next, self._how, round)
        self._first += len(points) - 1 - self._twice
        values = np.full((len(points), len(self.job.problem.clients)), np.nan)
        for client, arrays in replies.items():
            values[:, client] = arrays["values"]
            self._latest[client] = round
        if self._twice:
            points, values = points[1:], self._heard_twice(values)
        known = self._trajectory.find(self._next)
        if known is not None:  # by other clients, then
            before = self._trajectory.y[known]
            values[0] = np.where(np.isnan(values[0]), before, values[0])
        moved = (points != points[0]).any(1)  # the box may have kept some where they were
        moved[0] = True
        self._trajectory.add(points[moved], values[moved])
        self._see_stairs(values[moved])
        self._go(round)

    def _heard_twice(self, values: Array) -> Array:
        """Learn of the noise, and return values with the mean of the first two in their place."""
        there = np.isfinite(values[:2]).all(0)
        weights = self.job.problem.weights * there
        if there.any():
            differs = float(np.diff(values[:2, there], axis=0)[0] @ weights[there] / weights.sum())
            self._noises += [0.5 * differs**2]
        if len(self._noises) >= _HEARD and not any(self._noises):
            self._twice = False
        return np.concatenate([values[:2].mean(0, keepdims=True), values[2:]])

    def _see_stairs(self, values: Array) -> None:
        """Learn of functions that are constant in pieces: near the iterate, values are equal."""
        rises = np.abs(values[1:] - values[0])
        equal = (rises == 0.0).sum(0)
        self._flat = bool(equal.any() and not (rises > 0.0).any())
        steps = np.min(rises, axis=0, where=rises > 0.0, initial=np.inf)
        seen = (equal >= _EQUAL) & (steps < np.inf)
        variance = 0.0
        if seen.any():
            weights = self.job.problem.weights
            shares = weights[seen] / weights[np.isfinite(values[0])].sum()
            variance = float((shares * steps[seen]) @ (shares * steps[seen])) / 12.0
        self._stairs = [*self._stairs, variance][-_LATELY:]

    def _go(self, round: int) -> None:
        """Accept or refuse the iterate, and find the next one."""
        new = self._next
        parts = self._surrogates(new, round)
        here = self._value(parts, new, round)
        if not self._rho > 0.0:  # nothing has sloped yet
            length = self.job.config.radius * math.sqrt(self.job.dimension)
            self._rho = float(np.linalg.norm(_slope(parts, new))) / length
        if math.isnan(self.fun):
            self.x = new
        else:
            before = self._value(parts, self.x, round)
            share = (before - here) / self._foretold if self._foretold > 0.0 else math.nan
            if share >= _GOOD:
                diagonal = math.sqrt(self.job.dimension)
                self._rho = max(self._rho * _FREER, _SMALLEST)
                self._reach = min(self._reach * _FURTHER, diagonal)
            elif share < _POOR:
                self._rho, self._reach = self._rho * _STRICTER, self._reach * _NEARER
            if here < before:
                self.x = new
            else:
                here = before
        self.fun = here
        self._take_better(round)
        # Slopes are known from points so far away: no step need be shorter.
        clear = self._clear(parts)
        known, slope = max(clear, self._spread), float(np.linalg.norm(_slope(parts, self.x)))
        self._rho, self._reach = min(self._rho, slope / known), max(self._reach, known)
        self._next = self._lowest(parts)
        self._foretold = _mean(parts, self.x) - _mean(parts, self._next)
        self._spread = self._wide(clear)

    def _take_better(self, round: int) -> None:
        """Go to a surveyed point that is better, if all values are known, and without noise."""
        present = self._present(round)
        if any(self._noises) or not present:
            return
        weights = self.job.problem.weights[present]
        latest = self._trajectory.y[-(self.job.config.survey or 0) - 1 :, present]
        means = latest @ (weights / weights.sum())
        if np.isfinite(means).any() and np.nanmin(means) < self.fun:
            best = int(np.nanargmin(means)) - len(means)
            self.x, self.fun = self._trajectory.x[best].copy(), float(means[best])

    def _clear(self, parts: Parts) -> float:
        """Distance over which slopes are clearest, but not much more than that of the survey."""
        noise = math.sqrt(_average(self._noises) + _average(self._stairs))
        clearest = sum(share * part.clearest(noise) for share, part in parts)
        if self._flat:
            clearest = math.inf
        return max(min(clearest, _WIDER * self._spread), _LEAST * math.sqrt(self.job.dimension))

    def _wide(self, clear: float) -> float:
        """Distance of the points of the next survey."""
        moved = float(np.linalg.norm(self._next - self.x))
        return min(max(_SPREAD * moved, clear), _MOST * math.sqrt(self.job.dimension))

    def _present(self, round: int) -> list[int]:
        """Clients who have answered lately, and of whom something is remembered."""
        oldest = round - self.job.config.max_age
        known = np.asarray(np.isfinite(self._trajectory.y).any(0))
        return [k for k, last in sorted(self._latest.items()) if last >= oldest and known[k]]

    def _value(self, parts: Parts, x: Array, round: int) -> float:
        """Mean of the clients' values at x: as they are if all are known, and without noise."""
        place = self._trajectory.find(x)
        if place is not None and not any(self._noises):
            present = self._present(round)
            values, weights = self._trajectory.y[place][present], self.job.problem.weights[present]
            if np.isfinite(values).all():
                return float(values @ weights / weights.sum())
        return _mean(parts, x)

    def _surrogates(self, x: Array, round: int) -> Parts:
        """Surrogates of groups of clients who have answered the same points, and their weights."""
        job, held = self.job, self._trajectory
        assert job.config.window is not None
        present = self._present(round)
        there = np.isfinite(held.y)
        groups: dict[bytes, list[int]] = {}
        for client in present:
            groups.setdefault(there[:, client].tobytes(), []).append(client)
        weights = job.problem.weights
        found: Parts = []
        for members in groups.values():
            rows = self._near(x, np.flatnonzero(there[:, members[0]])[-job.config.window :])
            share = weights[members]
            values = held.y[rows][:, members] @ (share / share.sum())
            left_out = _LEFT_OUT[job.config.curvature]
            made = fitted(held.x[rows], values, x, self._logs.get(members[0]), left_out)
            self._logs[members[0]] = made.logs
            found.append((float(share.sum() / weights[present].sum()), made))
        return found

    def _near(self, x: Array, rows: Any) -> Any:
        """The nearest of some points, twice as many as a quadratic has; all, if there is noise."""
        d = self.job.dimension
        count = (self.job.config.survey or 0) + _ENOUGH * (d + 1) * (d + 2) // 2
        if len(rows) <= count or any(self._noises):
            return rows
        away = self._trajectory.x[rows] - x
        return rows[np.sort(np.argpartition(np.einsum("ij,ij->i", away, away), count)[:count])]

    def _lowest(self, parts: Parts) -> Array:
        """Point of the lowest mean that is not too far."""
        x = self.x

        def both(point: Array) -> tuple[float, Array]:
            moved = point - x
            value = _mean(parts, point) + 0.5 * self._rho * float(moved @ moved)
            return value, _slope(parts, point) + self._rho * moved

        box = [(0.0, 1.0)] * len(x)
        options = {"maxiter": _SEARCH, "ftol": 1e-15, "gtol": 1e-12}
        found = minimize(both, x, jac=True, bounds=box, method="L-BFGS-B", options=options)
        moved = found.x - x
        length = float(np.linalg.norm(moved))
        if length > self._reach:
            moved *= self._reach / length
        return np.asarray(projected(x + moved))

    def void(self) -> None:
        """See Server."""

    def state(self) -> State:
        """See Server."""
        latest = np.array(sorted(self._latest.items()), np.int64).reshape(-1, 2)
        book = [self.fun, self._foretold, self._rho, self._reach, self._spread]
        return {
            "iterate": self.x.copy(),
            "next": self._next.copy(),
            "book": np.array(book),
            "latest": latest,
            "counts": np.array([self._twice, self._first, self._flat], np.int64),
            "noises": np.array(self._noises),
            "stairs": np.array(self._stairs),
            "groups": np.array(sorted(self._logs), np.int64),
            "logs": np.array([self._logs[k] for k in sorted(self._logs)]),
            **self._trajectory.state(),
        }

    def restore(self, state: State) -> None:
        """See Server."""
        self.x, self._next = state["iterate"].copy(), state["next"].copy()
        book = state["book"].tolist()
        self.fun, self._foretold, self._rho, self._reach, self._spread = book
        self._latest = dict(state["latest"].tolist())
        twice, self._first, flat = state["counts"].tolist()
        self._twice, self._flat = bool(twice), bool(flat)
        self._noises, self._stairs = state["noises"].tolist(), state["stairs"].tolist()
        self._logs = dict(zip(state["groups"].tolist(), state["logs"], strict=True))
        self._trajectory.restore(state)


def _average(numbers: list[float]) -> float:
    return sum(numbers) / max(1, len(numbers))


def _mean(parts: Parts, x: Array) -> float:
    return sum(share * part.value(x) for share, part in parts)


def _slope(parts: Parts, x: Array) -> Array:
    return np.asarray(sum(share * part.gradient(x) for share, part in parts))


def points_of(job: Job, task: Task) -> Array:
    """Points (1 + e, d) that clients evaluate."""
    return surveyed(job, task.arrays["x"], task.arrays["how"], task.round)
