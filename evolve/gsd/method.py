"""Private-GSD on the superstep protocol: a superstep is one generation of all shards.

The driver measures (see :mod:`evolve.gsd.rounds`), accepts edits and decides when a round has been
searched enough. Of people's table the shards, and their workers, get to know nothing but noisy
counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.config import GSDConfig
from evolve.gsd.curator import Curator
from evolve.gsd.design import Design
from evolve.gsd.genome import Table
from evolve.gsd.report import errors
from evolve.gsd.rounds import Rounds, rounds
from evolve.gsd.shard import Begin, GSDShard, Message, Report, table_of, to_arrays
from evolve.gsd.targets import Targets
from zoo.errors import RunError
from zoo.problem import Problem, never
from zoo.runtime.protocol import Progress, State

#: Purpose of the random numbers of the first table; see :mod:`zoo.streams`.
_INITIAL = 19

#: A round with others after it is searched so many times less.
_BETWEEN = 4

#: The history has every generation at first, and then one in generation / _ROWS.
_ROWS = 30

_STATUS = {
    "": ("running", "the run goes on"),
    "noise": ("noise", "the table fits the measurements as well as their noise lets it"),
    "converged": ("converged", "edits hardly lower the loss any more"),
    "candidates": ("candidates", "all candidates were tried"),
    "seconds": ("seconds", "the budget of seconds is used"),
    "stopped": ("stopped", "the run was told to stop"),
}


@dataclass
class _Round:
    """A round under way."""

    number: int
    targets: Targets
    table: Table
    begun: bool = False  # whether the shards have been told
    since: int = 0  # candidates tried,
    mark: float = math.inf  # since the loss was this


class GSD:
    """Private-GSD; see :class:`zoo.runtime.protocol.Method`.

    Parameters
    ----------
    curator : Curator
    config : GSDConfig
    design : Design
    seed : int
        Of the search. The noise does not know it.
    """

    resident = True
    concurrent = True
    problem: Problem | None = None

    def __init__(self, curator: Curator, config: GSDConfig, design: Design, seed: int) -> None:
        self.curator: Curator | None = curator
        self.config, self.design, self.seed = config, design, seed
        self.shards = config.shards
        self._bare = design.bare
        self._rounds: Rounds | None = None
        self._round: _Round | None = None
        self._accepted = np.empty((0, 4), np.int32)
        self._generation, self._tried, self._loss = 0, 0, math.inf
        self._reason, self._ended = "", ""
        self._recorded = 0
        self._rows: list[dict[str, Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        """What goes to workers: nothing that has seen people's table."""
        hidden = ("curator", "design", "_rounds", "_round", "_rows")
        return {k: None if k in hidden else v for k, v in vars(self).items()}

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> GSDShard:
        """Build a shard; see :class:`zoo.runtime.protocol.Method`."""
        return GSDShard(index, self.config, self._bare, self.seed, cancelled)

    def message(self, steps: int) -> Message:
        """Begin a round, or pass on the edits accepted last."""
        if self._round is None:
            self._next()
        current = self._round
        assert current is not None
        begin = None
        if not current.begun:
            begin = Begin(current.table.codes, to_arrays(current.targets))
        candidates = self.config.batch_of(current.table.codes.size)
        if self.config.candidates is not None:
            left = self.config.candidates - self._tried
            candidates = min(candidates, max(2, left // self.shards // 2 * 2))
        return Message(self._generation, candidates, begin, self._accepted)

    def merge(self, reports: list[Report]) -> None:
        """Accept, shard after shard, the edits that still lower the loss."""
        current = self._round
        assert current is not None
        current.begun = True
        accepted = [current.table.accept(report.edits) for report in reports]
        self._accepted = np.concatenate([edits for edits, _ in accepted])
        tried = sum(report.tried for report in reports)
        self._generation += 1
        self._tried += tried
        current.since += tried
        at_noise = False
        if current.targets.sparse:  # to go through all of its cells would take longer
            self._loss += sum(change for _, change in accepted)
        else:
            squares, noise = current.table.squares(), current.targets.noise
            self._loss = float(squares @ current.table.weights)
            at_noise = bool(noise.all() and np.mean(squares / noise) <= 1.0)
        finished = self._finished(current, at_noise)
        if self._reason or finished == "candidates":
            self._ended = self._reason or finished
        elif finished and not self._next():
            self._ended = finished
        if self._ended or self._generation >= self._recorded + max(1, self._recorded // _ROWS):
            self._record()

    def _finished(self, current: _Round, at_noise: bool) -> str:
        """Name what ends the round; nothing if it goes on."""
        limit = self.config.candidates
        if limit is not None and self._tried >= limit:
            return "candidates"
        if at_noise:
            return "noise"
        if current.mark == math.inf:
            current.mark, current.since = self._loss, 0
            return ""
        sweeps = self.config.sweeps if current.targets.last else self.config.sweeps / _BETWEEN
        if current.since >= sweeps * current.table.codes.size:
            if self._loss >= current.mark * (1.0 - self.config.tolerance):
                return "converged"
            current.mark, current.since = self._loss, 0
        return ""

    def _next(self) -> bool:
        """Measure for the next round, and start it; False if there is none."""
        assert self.curator is not None
        if self._rounds is None:
            self.curator.rewind()
            self._rounds = rounds(self.curator, self.config, self.design)
            targets = next(self._rounds)
            self._round = _Round(0, targets, table_of(self._initial(), targets))
            self._loss = self._round.table.loss()
            return True
        assert self._round is not None
        codes = self._round.table.codes
        try:
            targets = self._rounds.send(codes)
        except StopIteration:
            return False
        self._round = _Round(self._round.number + 1, targets, table_of(codes, targets))
        self._accepted = self._accepted[:0]
        self._loss = self._round.table.loss()
        return True

    @property
    def size(self) -> int:
        """Rows N' of the synthetic table."""
        if self.config.rows == "same":
            return max(1, round(self.design.people))
        return int(self.config.rows)

    def _initial(self) -> npt.NDArray[np.int16]:
        """Rows whose columns are independent, each as it was measured."""
        key = np.array([self.seed, 0], np.uint64)
        bits = np.random.Philox(key=key, counter=[0, 0, 0, _INITIAL])
        uniform = np.random.Generator(bits).random((len(self.design.sizes), self.size))
        codes = np.empty((self.size, len(self.design.sizes)), np.int16)
        for j, margin in enumerate(self.design.margins):
            edges = np.cumsum(margin)
            codes[:, j] = np.searchsorted(edges[:-1] / edges[-1], uniform[j], side="right")
        return codes

    def _record(self) -> None:
        assert self._round is not None
        self._recorded = self._generation
        self._rows.append(
            {
                "step": self._generation,
                "candidates": self._tried,
                "best": self._loss,
                "round": self._round.number,
                "accepted": len(self._accepted),
            }
        )

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    def stop(self, reason: str) -> None:
        """End the run after the next generation."""
        self._reason = reason if reason in _STATUS else "stopped"

    def progress(self) -> Progress:
        """Where the run stands; the best is the loss."""
        limit = self.config.candidates
        done, of = (self._tried, limit) if limit is not None else (0, 0)
        return Progress(
            self._generation, self._tried, self._loss, math.nan, done, of, unit="candidates"
        )

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call, dense at first and then ever thinner."""
        made, self._rows = self._rows, []
        return made

    def state(self) -> State:
        """Everything that a merge changes; the releases are in the run folder."""
        current = self._round
        book = {
            "generation": self._generation,
            "tried": self._tried,
            "loss": self._loss,
            "recorded": self._recorded,
            "ended": self._ended,
            "round": -1 if current is None else current.number,
            "releases": 0 if self.curator is None else len(self.curator.releases),
        }
        if current is None:
            return {"book": np.array(json.dumps(book))}
        book |= {"begun": current.begun, "since": current.since, "mark": current.mark}
        return {
            "book": np.array(json.dumps(book)),
            "codes": current.table.codes.copy(),
            "accepted": self._accepted.copy(),
        }

    def restore(self, state: State) -> None:
        """Take up a state: the rounds are gone through again, with what was released for them.

        Raises
        ------
        RunError
            If a release is missing.
        """
        assert self.curator is not None
        book = json.loads(state["book"].item())
        if len(self.curator.releases) < book["releases"]:  # else they would be paid for again
            raise RunError("measurements of this run are missing from its folder")
        self._generation, self._tried = book["generation"], book["tried"]
        self._loss, self._recorded, self._ended = book["loss"], book["recorded"], book["ended"]
        self._round, self._rounds, self._rows = None, None, []
        if book["round"] < 0:
            return
        self.curator.rewind()
        self._rounds = rounds(self.curator, self.config, self.design)
        targets = next(self._rounds)
        for _ in range(book["round"]):
            targets = self._rounds.send(None)
        self._round = _Round(
            book["round"],
            targets,
            table_of(state["codes"], targets),
            book["begun"],
            book["since"],
            book["mark"],
        )
        self._accepted = state["accepted"].copy()

    def result(self) -> dict[str, Any]:
        """Fields of the result."""
        assert self.curator is not None
        if self._round is None:
            return {}
        status, message = _STATUS[self._ended]
        table = self._round.table
        releases = self.curator.releases
        return {
            "fun": self._loss,
            "rows": len(table.codes),
            "queries_measured": int(sum(len(release.counts) for release in releases)),
            "generations": self._generation,
            "candidates": self._tried,
            "rounds": self._round.number + 1,
            "rho_spent": self.curator.spent,
            "error": errors(releases, table.codes, self.design.people),
            "memory": table.nbytes * (self.shards + 1),
            "success": status in ("noise", "converged"),
            "status": status,
            "message": message,
        }

    @property
    def codes(self) -> npt.NDArray[np.int16]:
        """The synthetic table (rows, d)."""
        assert self._round is not None
        return self._round.table.codes
