"""Algorithms whose clients take local steps, and whose server averages their iterates.

A round has two exchanges. In "steps" each client goes T steps of Adam from the server's iterate,
along its own estimate of the gradient and a correction,

    g = g_i(x) + correction,     x <- project(x - Adam(g))

and answers with the difference between its last iterate and the server's. In "survey" it evaluates
its function at the mean of the iterates, and whatever else its correction needs. Where the mean of
the values of the same clients is no better than at the iterate before, the round is taken back
(``guard``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.fzoos.exchange import Arrays, Task, weighted
from zoo.fzoos.job import Job
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]


def projected(x: Array) -> Array:
    """Nearest point of the unit box."""
    return np.clip(x, 0.0, 1.0)


class Stepping:
    """The server's side; see :class:`zoo.fzoos.algorithms.sides.Server`.

    Parameters
    ----------
    job : Job
    means : sequence of str
        Names of what clients answer in a survey, besides "value", whose weighted means they get
        with their next task; what an absent client answered last stays in, until it ages out.
    at_iterate : bool
        Whether the means are to be of what was answered at the server's iterate, and not at one
        that was taken back since.
    """

    def __init__(self, job: Job, means: tuple[str, ...] = (), at_iterate: bool = False) -> None:
        self.job, self._means, self._at_iterate = job, means, at_iterate
        self._asked: tuple[int, ...] = ()
        self.x = job.start
        self.fun = math.nan
        self.between = True
        self._next: Array | None = self.x  # to be surveyed
        self._values: dict[int, float] = {}  # of clients at x
        self._held: dict[int, tuple[int, Arrays]] = {}  # last survey of a client, and its round
        self._heard: dict[int, int] = {}  # round of a client's last survey, taken in or not
        self._steps: dict[int, tuple[int, Arrays]] = {}  # last steps of a client

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """See Server."""
        self._asked = tuple(clients)
        if self._next is not None:
            return Task("survey", round, {"x": self._next})
        return Task("steps", round, {"x": self.x, **self._current(round)})

    def _current(self, round: int) -> dict[str, Any]:
        """Means over all clients whose last survey is not too old, and the rounds of these."""
        oldest = self._oldest(round)
        held = {k: arrays for k, (_, arrays) in self._held.items() if self._heard[k] >= oldest}
        if not held:
            return {}
        of = np.full(len(self.job.problem.clients), -1, np.int64)
        for client in held:
            of[client] = self._held[client][0]
        return {**self._means_of(held), "of": of}

    def _means_of(self, held: dict[int, Arrays]) -> dict[str, Array]:
        return {name: weighted(held, self.job.problem.weights, name) for name in self._means}

    def _oldest(self, round: int) -> int:
        """Round whose answers are not too old yet."""
        return round - 1 - self.job.config.max_age

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """See Server."""
        if self._next is not None:
            self._surveyed(round, replies)
            return
        self.between = False
        present = dict(replies)
        if self.job.config.on_dropout == "stale":
            oldest = self._oldest(round)
            lately = {k: steps for k, (made, steps) in self._steps.items() if made >= oldest}
            present |= {k: lately[k] for k in self._asked if k in lately and k not in present}
            self._steps |= {client: (round, arrays) for client, arrays in replies.items()}
        self._next = projected(self.x + weighted(present, self.job.problem.weights, "step"))

    def _surveyed(self, round: int, replies: Mapping[int, Arrays]) -> None:
        assert self._next is not None
        values = {client: float(arrays["value"][0]) for client, arrays in replies.items()}
        weights = self.job.problem.weights
        worse = False
        if values.keys() == self._values.keys():  # of others one is not better for being less
            worse = sum(weights[k] * (values[k] - self._values[k]) for k in sorted(values)) >= 0.0
        taken_back = worse and self.job.config.guard
        if not taken_back:
            self.x = self._next
            self._values = values
            who = sorted(values)
            shares = weights[who] / weights[who].sum()
            self.fun = float(sum(s * values[k] for s, k in zip(shares, who, strict=True)))
        self._heard |= dict.fromkeys(replies, round)
        if self._means and not (taken_back and self._at_iterate):
            self._held |= {
                client: (round, {name: arrays[name] for name in self._means})
                for client, arrays in replies.items()
            }
        self._next, self.between = None, True

    def void(self) -> None:
        """See Server."""
        if not math.isnan(self.fun):
            self._next = None  # else the first iterate is still to be surveyed
        self.between = True

    def state(self) -> State:
        """See Server."""
        state: State = {
            "x": self.x.copy(),
            "book": np.array([self.fun, self.between, self._next is not None]),
            "values": np.array(sorted(self._values.items())).reshape(-1, 2),
            "heard": np.array(sorted(self._heard.items()), np.int64).reshape(-1, 2),
        }
        if self._next is not None:
            state["next"] = self._next.copy()
        for kind, held in (("held", self._held), ("steps", self._steps)):
            for client, (made, arrays) in held.items():
                for name, array in arrays.items():
                    state[f"{kind} {client} {made} {name}"] = array
        return state

    def restore(self, state: State) -> None:
        """See Server."""
        self.x = state["x"].copy()
        fun, between, pending = state["book"].tolist()
        self.fun, self.between = fun, bool(between)
        self._next = state["next"].copy() if pending else None
        self._values = {int(client): value for client, value in state["values"].tolist()}
        self._heard = dict(state["heard"].tolist())
        found: dict[str, dict[int, tuple[int, dict[str, Array]]]] = {"held": {}, "steps": {}}
        for key, array in state.items():
            if key.startswith(("held ", "steps ")):
                kind, client, made, name = key.split(" ", 3)
                found[kind].setdefault(int(client), (int(made), {}))[1][name] = array
        self._held, self._steps = {**found["held"]}, {**found["steps"]}


class Sent:
    """What a client has answered in surveys: its last, and the one that is in the server's means.

    The two differ where the server has not got the last, or has not taken it in.
    """

    def __init__(self) -> None:
        self._held: dict[int, Array] = {}  # by round
        self._used = -1

    def keep(self, round: int, array: Array) -> None:
        """Remember what is being sent."""
        self._held = {k: held for k, held in self._held.items() if k == self._used}
        self._held[round] = array

    def within(self, task: Task, client: int) -> Array | None:
        """What the means of a task have of this client, if anything."""
        if "of" not in task.arrays:
            return None
        self._used = int(task.arrays["of"][client])
        return self._held.get(self._used)

    def state(self) -> State:
        """Everything that changes."""
        rounds = np.array([self._used, *self._held], np.int64)
        return {"sent rounds": rounds, "sent": np.array(list(self._held.values()))}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._used, *rounds = state["sent rounds"].tolist()
        self._held = {k: array.copy() for k, array in zip(rounds, state["sent"], strict=True)}
