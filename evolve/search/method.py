"""Islands on the superstep protocol: the driver passes migrants on, and keeps the front of all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from evolve.search.archive import Archive, Entry
from evolve.search.config import SearchConfig
from evolve.search.domain import Domain
from evolve.search.island import Island, Message, Report, packed, unpacked
from zoo.problem import Problem, never
from zoo.runtime.protocol import Progress, State

G = TypeVar("G")

_STATUS = {
    "": ("running", "the run goes on"),
    "candidates": ("candidates", "all candidates were tried"),
    "exhausted": ("exhausted", "there is nothing left to try"),
    "seconds": ("seconds", "the time is over"),
    "stopped": ("stopped", "the run was told to stop"),
}

#: Of each cost the driver keeps so many.
_KEPT = 6


class Islands(Generic[G]):
    """Evolution on islands; see :class:`zoo.runtime.protocol.Method`.

    Parameters
    ----------
    domain : Domain
    config : SearchConfig
    seed : int
    """

    resident = True
    concurrent = True
    problem: Problem | None = None

    def __init__(self, domain: Domain[G], config: SearchConfig, seed: int) -> None:
        self.domain, self.config, self.seed = domain, config, seed
        self.shards = config.islands
        self.archive: Archive[G] = Archive(_KEPT, config.slack)
        self._migrants: list[State] = []
        self._step = self._assessed = self._duplicates = 0
        self._reason, self._ended = "", ""
        self._rows: list[dict[str, Any]] = []
        self._shown = ""

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> Island[G]:
        """Build an island; see :class:`zoo.runtime.protocol.Method`."""
        archive: Archive[G] = Archive(self.config.elites, self.config.slack)
        domain = self.domain.fresh()
        return Island(index, domain, archive, self.config.emigrants, self.seed, cancelled)

    def message(self, steps: int) -> Message:
        """Migrants of all islands."""
        count, shares = self.shards, [self.config.batch] * self.shards
        if self.config.candidates is not None:
            left = self.config.candidates - self._assessed
            if left < sum(shares):
                shares = [left // count + (i < left % count) for i in range(count)]
        return Message(self._step, shares, self._migrants)

    def merge(self, reports: list[Report]) -> None:
        """Take in what the islands have found."""
        self._migrants = [report.migrants for report in reports]
        self._step += 1
        self._assessed += sum(report.assessed for report in reports)
        self._duplicates += sum(report.duplicates for report in reports)
        for migrants in self._migrants:
            for entry in unpacked(self.domain, migrants):
                self.archive.add(entry)
        limit = self.config.candidates
        if not any(report.assessed for report in reports):
            self._ended = "exhausted"
        elif limit is not None and self._assessed >= limit:
            self._ended = "candidates"
        self._ended = self._reason or self._ended
        if self._told() != self._shown or self._ended:
            self._shown = self._told()
            self._rows.append(
                {
                    "step": self._step,
                    self.domain.unit: self._assessed,
                    "best": self._best(),
                    "front": self._shown,
                }
            )

    def front(self) -> list[Entry[G]]:
        """Those that no cheaper one is as good as, by cost."""
        return self.archive.front()

    def _told(self) -> str:
        return "  ".join(f"{entry.cost}: {entry.score:.3f}" for entry in self.front())

    def _best(self) -> float:
        front = self.front()
        return -front[-1].score if front else math.inf

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    def stop(self, reason: str) -> None:
        """End the run after the next superstep."""
        self._reason = reason if reason in _STATUS else "stopped"

    def progress(self) -> Progress:
        """Where the run stands."""
        limit = self.config.candidates
        done, of = (self._assessed, limit) if limit is not None else (0, 0)
        return Progress(
            self._step,
            self._assessed,
            self._best(),
            math.nan,
            done,
            of,
            self.domain.unit,
            told=self._told(),
        )

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call: whenever the front has moved."""
        made, self._rows = self._rows, []
        return made

    def state(self) -> State:
        """Everything that a merge changes."""
        book = {
            "step": self._step,
            "assessed": self._assessed,
            "duplicates": self._duplicates,
            "ended": self._ended,
            "shown": self._shown,
            "islands": len(self._migrants),
        }
        parts = {"front": packed(self.domain, self.archive.entries())}
        parts |= {str(i): migrants for i, migrants in enumerate(self._migrants)}
        arrays = {f"{part}/{k}": a for part, held in parts.items() for k, a in held.items()}
        return {"book": np.array(json.dumps(book)), **arrays}

    def restore(self, state: State) -> None:
        """Take up a state."""
        book = json.loads(state["book"].item())
        self._step, self._assessed = book["step"], book["assessed"]
        self._duplicates, self._ended = book["duplicates"], book["ended"]
        self._shown = book["shown"]
        self._rows = []

        def part(name: str) -> State:
            return {
                k.removeprefix(f"{name}/"): a for k, a in state.items() if k.startswith(f"{name}/")
            }

        self.archive.bins.clear()
        for entry in unpacked(self.domain, part("front")):
            self.archive.bins.setdefault(entry.cost, []).append(entry)
        self._migrants = [part(str(i)) for i in range(book["islands"])]

    def result(self) -> dict[str, Any]:
        """Fields of the result."""
        status, message = _STATUS[self._ended]
        return {
            "fun": self._best(),
            "told": self._told(),
            "candidates": self._assessed + self._duplicates,
            self.domain.unit: self._assessed,
            "steps": self._step,
            "success": bool(self.front()),
            "status": status,
            "message": message,
        }
