"""FZooS: gradients of surrogates of what has been queried (algorithm 2 of the paper).

    g = grad mu_i(x) + gamma [grad mu(x) - grad mu_i'(x)]

with mu_i the surrogate of the client's own trajectory, mu_i' the one that it sent last, as weights
of random features, and mu the mean of all that were sent. Clients take the length scale that most
of them find likely, of a coarse grid: weights of the same one have a mean; those that an absent
client has sent for another stay beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from zoo.fzoos import surrogate
from zoo.fzoos.algorithms.stepping import Sent, Stepping, projected
from zoo.fzoos.client import NoValue, Oracle
from zoo.fzoos.directions import ALL, LOCAL, SURVEY, Adam, generator, in_turn
from zoo.fzoos.exchange import Arrays, Task
from zoo.fzoos.features import features
from zoo.fzoos.job import Job
from zoo.fzoos.kernels import KERNELS
from zoo.fzoos.surrogate import Surrogate
from zoo.fzoos.trajectory import Trajectory
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]

#: Half the width of the box of queries near an iterate, and of the first ones, in units of the box.
_NEAR = 0.01
#: Of a survey's, at least.
_LEAST = 1e-4
#: Distance of the nearest of shared points to that of the furthest, at least.
_NEAREST = 0.3
#: Candidates of a query near a local iterate, and of a survey.
_LOCAL_CANDIDATES, _SURVEY_CANDIDATES = 20, 4

#: A surrogate of so many points is extended by those of a step, and not made anew of the nearest.
_MANY = 300

#: The grid of length scales, the first one relative to the square root of d; noises.
_GRID, _FIRST, _NOISES = 1.4, 0.3, (1e-8, 1e-6, 1e-4)


def first_scale(job: Job) -> float:
    """Length scale to begin with."""
    return job.config.length_scale or _FIRST * math.sqrt(job.dimension)


class Averaging(Stepping):
    """The server's side: it averages weights, too."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, ("weights", "scale"))
        self._scale = first_scale(job)
        self._raised = np.zeros(len(job.problem.clients), np.int64)

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        task = super().ask(round, clients)
        arrays = dict(task.arrays) | {"scale": np.array([self._scale])}
        if task.kind == "survey":
            arrays["from"] = self.x
        return Task(task.kind, round, arrays)

    def _means_of(self, held: dict[int, Arrays]) -> dict[str, Array]:
        """Mean of the surrogates: weights (G, M), each for a length scale of its own."""
        who = sorted(held)
        shares = self.job.problem.weights[who]
        sums: dict[float, Array] = {}
        for share, arrays in zip(shares / shares.sum(), (held[k] for k in who), strict=True):
            at = float(arrays["scale"][1])
            sums[at] = sums.get(at, 0.0) + share * arrays["weights"]
        return {"weights": np.array(list(sums.values())), "scales": np.array(list(sums))}

    def _surveyed(self, round: int, replies: Mapping[int, Arrays]) -> None:
        super()._surveyed(round, replies)
        for client, arrays in replies.items():
            self._raised[client] = arrays["raised"][0]
        wanted = float(np.median([arrays["scale"][0] for arrays in replies.values()]))
        first = first_scale(self.job)
        self._scale = first * _GRID ** round_half(math.log(wanted / first) / math.log(_GRID))

    def state(self) -> State:
        """See Server."""
        return super().state() | {"scale": np.array(self._scale), "raised": self._raised.copy()}

    def restore(self, state: State) -> None:
        """See Server."""
        super().restore(state)
        self._scale = float(state["scale"])
        self._raised = state["raised"].copy()

    @property
    def raised(self) -> int:
        """Surrogates of all clients whose noise had to be more than was asked for."""
        return int(self._raised.sum())


def round_half(x: float) -> int:
    """Nearest whole number."""
    return math.floor(x + 0.5)


class Trajectories:
    """A client's side; see :class:`zoo.fzoos.algorithms.sides.Local`."""

    def __init__(self, job: Job, index: int, oracle: Oracle) -> None:
        self.job, self.index, self.oracle = job, index, oracle
        self.kernel = KERNELS[job.config.kernel]
        self.trajectory = Trajectory(job.dimension, job.config.memory)
        self._features = features(job.seed, job.config.features, job.dimension, self.kernel)
        self._ell, self._wanted = first_scale(job), first_scale(job)
        self._noise = 1e-6 if job.config.gp_noise is None else job.config.gp_noise
        self._sent = Sent()
        self._reached = np.full(job.dimension, np.nan)  # last local iterate
        self._raised = 0  # surrogates whose noise had to be more than was asked for

    def answer(self, task: Task) -> dict[str, Array]:
        """See Local."""
        self._ell = float(task.arrays["scale"][0])
        return self._survey(task) if task.kind == "survey" else self._steps(task)

    def _query(self, points: Array) -> bool:
        """Ask for what is not known; says whether a value has come, or none was asked for."""
        fresh = np.array([x for x in points if self.trajectory.find(x) is None])
        if not len(fresh):
            return True
        values = self.oracle(fresh)
        there = np.isfinite(values)
        self.trajectory.add(fresh[there], values[there])
        return bool(there.any())

    def _surrogate(self, x: Array, choose: bool = False) -> Surrogate:
        held, config = self.trajectory, self.job.config
        assert config.window is not None
        rows = held.nearest(x, config.window)
        scales, noises = [self._ell], [self._noise]
        if choose and config.length_scale is None:
            scales = [self._ell / _GRID, self._ell, self._ell * _GRID]
        if choose and config.gp_noise is None:
            noises = list(_NOISES)
        made = surrogate.fitted(held.x[rows], held.y[rows], x, self.kernel, scales, noises)
        self._raised += made.noise not in noises
        return made

    def _steps(self, task: Task) -> dict[str, Array]:
        config, start = self.job.config, task.arrays["x"]
        answered = self._query(start[None])
        if not len(self.trajectory):
            raise NoValue("it has no finite value yet")
        self._tune(start)
        if len(self.trajectory) < 2:  # it was not there in the beginning
            self._begin(start, generator(self.job.seed, self._who, SURVEY, task.round, 1))
        x, steps, between = start.copy(), Adam(self.job.dimension, config.eta), self._between(task)
        held = self._surrogate(x)
        assert config.local_steps is not None
        assert config.gamma is not None
        for t in range(1, config.local_steps + 1):
            g = held.gradient(x)
            gamma = 1.0 / t if config.gamma == "1/t" else float(config.gamma)
            for ell, weights in between.items():
                g += gamma * self._features.gradient(x, ell, weights)
            x, known = projected(x - steps.step(g)), self.trajectory.added
            answered |= self._query(x[None])
            if t == config.local_steps:
                break
            if config.local_queries:
                random = generator(self.job.seed, self.index, LOCAL, task.round, t)
                self._near(x, config.local_queries, _NEAR, random, _LOCAL_CANDIDATES)
            if len(held.y) < _MANY:
                held = self._surrogate(x)
            elif fresh := self.trajectory.added - known:
                held = held.extended(self.trajectory.x[-fresh:], self.trajectory.y[-fresh:])
        if not answered:
            raise NoValue("its values are not finite")
        self._reached = x
        return {"step": x - start}

    def _between(self, task: Task) -> dict[float, Array]:
        """The others' surrogates less one's own, as weights by length scale."""
        sent = self._sent.within(task, self.index)
        if sent is None:
            return {}
        scales, weights = task.arrays["scales"].tolist(), task.arrays["weights"]
        found = dict(zip(scales, weights, strict=True))
        found[sent[0]] = found.get(sent[0], 0.0) - sent[1:]
        return found

    def _begin(self, x: Array, random: np.random.Generator) -> None:
        """Query near the first iterate."""
        self._near(x, self.job.config.start_points, _NEAR, random, 1)

    @property
    def _who(self) -> int:
        """Whose random numbers surveys take."""
        return ALL if self.job.config.select == "shared" else self.index

    def _tune(self, x: Array) -> None:
        """Find the most likely length scale and noise next to the present ones."""
        if len(self.trajectory) > 2:
            chosen = self._surrogate(x, choose=True)
            self._wanted = chosen.ell
            if self.job.config.gp_noise is None:
                self._noise = chosen.noise

    def _survey(self, task: Task) -> dict[str, Array]:
        config, x = self.job.config, task.arrays["x"]
        self._query(x[None])
        place = self.trajectory.find(x)
        if place is None:
            raise NoValue("its value is not finite")
        value = self.trajectory.y[place]
        assert config.survey is not None
        shared, count = config.select == "shared", config.survey
        random = generator(self.job.seed, self._who, SURVEY, task.round)
        begun = task.arrays["from"] if shared else self._reached
        moved = float(np.abs(x - begun).mean()) / 2.0
        half = moved if moved > _LEAST else _LEAST  # also if it has not moved yet
        if task.round == 0:
            self._begin(x, random)
        elif shared:
            u = in_turn(self.job.seed, count * (task.round - 1), count, len(x))
            length = half * math.sqrt(len(x) / 3.0)  # as far as points of the box are
            self._query(projected(x + length * random.uniform(_NEAREST, 1.0, (count, 1)) * u))
        else:
            self._near(x, count, half, random, _SURVEY_CANDIDATES)
        rows = self.trajectory.nearest(x, config.features_window)
        points, values = self.trajectory.x[rows], self.trajectory.y[rows]
        weights = self._features.weights(points, values, self._ell, self._noise)
        self._sent.keep(task.round, np.append(self._ell, weights))
        scale = np.array([self._wanted, self._ell])
        raised = np.array([self._raised])
        return {"value": np.array([value]), "weights": weights, "scale": scale, "raised": raised}

    def _near(
        self, x: Array, count: int, half: float, random: np.random.Generator, candidates: int
    ) -> None:
        """Query so many points of a box about x, of so many times as many candidates."""
        if self.job.config.select != "uncertain" or candidates == 1 or len(self.trajectory) < 2:
            self._query(projected(x + half * random.uniform(-1.0, 1.0, (count, len(x)))))
            return
        points = projected(x + half * random.uniform(-1.0, 1.0, (candidates * count, len(x))))
        traces = self._surrogate(x).traces(points)
        self._query(points[np.sort(np.argsort(-traces, kind="stable")[:count])])

    def state(self) -> State:
        """See Local."""
        book = np.array([self._ell, self._wanted, self._noise, self._raised])
        found = {"book": book, "reached": self._reached.copy()}
        return found | self._sent.state() | self.trajectory.state()

    def restore(self, state: State) -> None:
        """See Local."""
        self._ell, self._wanted, self._noise, raised = state["book"].tolist()
        self._raised = int(raised)
        self._reached = state["reached"].copy()
        self._sent.restore(state)
        self.trajectory.restore(state)
