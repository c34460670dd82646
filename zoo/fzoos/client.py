"""A client: an objective of its own, and the ledger of what it has been asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, ObjectiveError
from zoo.fzoos.directions import NOISE, generator
from zoo.problem import Objective, as_objective, never
from zoo.runtime.evaluation import Evaluator
from zoo.runtime.isolation import IsolatedObjective

Array = npt.NDArray[np.float64]

#: Resources that every node of Ray has, or may have.
_RESERVED = ("CPU", "GPU", "memory", "object_store_memory")
#: A larger value is none: squares of such are infinite.
_LARGEST = 1e150


@dataclass(frozen=True, eq=False)
class Client:
    """One of those who share a problem.

    Attributes
    ----------
    objective : callable, optional
        As :func:`zoo.minimize` takes it; it is evaluated where the client is.
    weight : float
        Of it in the mean; they are scaled to the sum 1.
    bounds : optional
        The same for all clients; see :func:`zoo.minimize`.
    load : callable, optional
        In place of the objective: called once where the client is, it returns the objective. So
        its data need not travel.
    batched : bool
        Whether the objective takes all points at once.
    place : str
        Resource of the Ray nodes where its data is: on workers, the client is at one of these.
    name : str
        Clients with names are taken in their order, however the list has them.
    """

    objective: Any = None
    weight: float = 1.0
    bounds: Any = None
    load: Callable[[], Any] | None = None
    batched: bool = False
    place: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if (self.objective is None) == (self.load is None):
            raise InputError("a client has an objective, or load, a function that returns one")
        if self.load is not None and not callable(self.load):
            raise InputError(f"load must be a function, got {type(self.load).__name__}")
        if self.objective is not None:
            as_objective(self.objective, batched=self.batched)
        if not isinstance(self.place, str) or self.place in _RESERVED:
            raise InputError(
                f"place must be the name of a resource of your own, got {self.place!r}"
            )
        try:
            weight = float(self.weight)
        except (TypeError, ValueError):
            weight = -1.0
        if not 0.0 < weight < np.inf:
            raise InputError(f"weight must be a number > 0, got {self.weight!r}")

    def open(self, isolate: bool) -> Objective:
        """Objective at hand; in processes of its own, where it can be given up, if asked."""
        made = self.objective if self.load is None else self._loaded()
        objective = as_objective(made, batched=self.batched)
        if not isolate or not getattr(objective, "isolable", True):
            return objective
        return IsolatedObjective(objective)

    def _loaded(self) -> Any:
        assert self.load is not None
        try:
            return self.load()
        except Exception as error:
            who = f"client {self.name}" if self.name else "a client"
            why = f"{type(error).__name__}: {error}"
            raise InputError(f"{who} cannot be loaded: {why}") from error


def elsewhere(x: Any) -> float:
    """Objective of a client who is at another place."""
    raise ObjectiveError("this client is at another place")


class NoValue(Exception):
    """A client has no finite value where it needs one."""


class Oracle:
    """Values of a client's function over the unit box, each query in the ledger.

    Attributes
    ----------
    queries : int
        Points that were asked for, whatever came of them.
    """

    def __init__(
        self,
        objective: Objective,
        lower: Array,
        upper: Array,
        *,
        noise: float = 0.0,
        seed: int = 0,
        client: int = 0,
        threads: int = 1,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self._evaluate = Evaluator(objective, threads, cancelled)
        self._lower, self._width = lower, upper - lower
        self._upper = upper
        self._noise, self._seed, self._client = noise, seed, client
        self.queries = 0

    def __call__(self, u: Array) -> Array:
        """Values (m,) at points (m, d) of the unit box; NaN where there is none, or a huge one."""
        if not len(u):
            return np.empty(0)
        first, self.queries = self.queries, self.queries + len(u)
        x = np.clip(self._lower + u * self._width, self._lower, self._upper)
        values = np.array(self._evaluate(x), np.float64)
        values[~(np.abs(values) <= _LARGEST)] = np.nan
        if self._noise:
            random = generator(self._seed, self._client, NOISE, first)
            values += self._noise * random.standard_normal(len(values))
        return values

    def one(self, u: Array) -> float:
        """Value at a point (d,).

        Raises
        ------
        NoValue
            If it is not finite.
        """
        value = float(self(u[None])[0])
        if np.isnan(value):
            raise NoValue("its value is not finite")
        return value
