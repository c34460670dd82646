"""A shard of the search: the whole table, resident, and the stream of candidates for some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.config import GSDConfig
from evolve.gsd.genome import Edits, Table
from evolve.gsd.queries import Queries
from evolve.gsd.targets import Targets
from zoo.problem import never
from zoo.runtime.protocol import Exchange, State


@dataclass(frozen=True, eq=False)
class Begin:
    """Start of a round: the table, and what it is to fit."""

    codes: npt.NDArray[np.int16]
    targets: State


@dataclass(frozen=True, eq=False)
class Message:
    """What a generation starts from: a new round, or the edits accepted in the last generation."""

    generation: int
    candidates: int  # of each shard, at most
    begin: Begin | None
    accepted: Edits


@dataclass(frozen=True, eq=False)
class Report:
    """The edits that a shard would make, and how many candidates it has tried."""

    edits: Edits
    tried: int


def to_arrays(targets: Targets) -> State:
    """Targets as arrays, without the functions."""
    return {
        "weights": targets.weights,
        "cells": targets.cells,
        "shares": targets.shares,
        "sparse": np.array(targets.sparse),
        "noise": targets.noise,
        **{f"queries/{name}": array for name, array in targets.queries.arrays().items()},
    }


def from_arrays(state: State, bare: Queries) -> Targets:
    """Targets from arrays; ``bare`` has the sizes of the columns, and the functions."""
    queries = {
        name.removeprefix("queries/"): array
        for name, array in state.items()
        if name.startswith("queries/")
    }
    return Targets(
        bare.like(queries),
        state["weights"],
        state["cells"],
        state["shares"],
        bool(state["sparse"]),
        state["noise"],
    )


def table_of(codes: Any, targets: Targets) -> Table:
    """Table with the statistics that targets need."""
    return Table(
        codes, targets.queries, targets.weights, targets.cells, targets.shares, targets.sparse
    )


class GSDShard:
    """Searches among edits of its own rows; see :class:`zoo.runtime.protocol.Shard`.

    Parameters
    ----------
    index : int
    config : GSDConfig
    bare : Queries
    seed : int
    cancelled : callable
        True gives up a step.
    """

    def __init__(
        self,
        index: int,
        config: GSDConfig,
        bare: Queries,
        seed: int,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.index, self.config, self.bare, self.seed = index, config, bare, seed
        self.cancelled = cancelled
        self._targets: State = {}
        self._table: Table | None = None
        self._tentative: Edits = np.empty((0, 4), np.int32)

    def step(self, message: Message) -> Report:
        """Take up what all shards have found, and search on."""
        if message.begin is not None:
            self._begin(message.begin.codes, message.begin.targets)
        else:
            assert self._table is not None
            self._table.undo(self._tentative)
            self._table.redo(message.accepted)
        assert self._table is not None
        rows = len(self._table.codes)
        first = rows * self.index // self.config.shards
        count = rows * (self.index + 1) // self.config.shards - first
        tried = 0
        self._tentative = np.empty((0, 4), np.int32)
        if count:
            self._tentative, tried = self._table.search(
                self.seed,
                self.index,
                message.generation,
                first,
                count,
                message.candidates,
                self.config.edits,
                self.cancelled,
            )
        return Report(self._tentative, tried)

    def _begin(self, codes: Any, targets: State) -> None:
        self._targets = targets
        self._table = table_of(codes, from_arrays(targets, self.bare))

    def exchange(self, message: Message) -> Exchange:
        """Take a step; nothing is evaluated outside."""
        return self.step(message)
        yield  # makes this a generator

    def state(self) -> State:
        """The table as it stands, the edits in it that are not accepted yet, and the targets."""
        if self._table is None:
            return {}
        return {
            "codes": self._table.codes.copy(),
            "tentative": self._tentative.copy(),
            **{f"targets/{name}": array for name, array in self._targets.items()},
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        if not state:
            return
        targets = {
            name.removeprefix("targets/"): array
            for name, array in state.items()
            if name.startswith("targets/")
        }
        self._begin(state["codes"], targets)
        self._tentative = state["tentative"].copy()
