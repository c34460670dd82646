"""Federated optimization on the superstep protocol: a superstep is one exchange with the clients.

Who takes part in a round is drawn from the seed and the round's number. Whoever does not answer is
absent from that exchange, and from the rest of the round; the others' weights are scaled up. A
late answer is never mixed into another round: a client gives up at its time, and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.errors import RunError
from zoo.fzoos.algorithms.table import server_of
from zoo.fzoos.algorithms.trajectories import Averaging
from zoo.fzoos.client import elsewhere
from zoo.fzoos.directions import ALL, CHOSEN, generator
from zoo.fzoos.exchange import Message, Report, Task, size_of
from zoo.fzoos.job import Job
from zoo.fzoos.linear import one_thread
from zoo.fzoos.shard import ClientShard
from zoo.problem import Problem, never
from zoo.runtime.protocol import Progress, State

#: Seconds that a client may take on a worker, where no round_timeout says otherwise.
_PATIENCE = 3600.0
#: So many rounds in a row in which too few answer end the run.
_DESERTED = 5

_STATUS = {
    "": ("running", "the run goes on"),
    "rounds": ("rounds", "all rounds are done"),
    "target": ("target", "the target was reached"),
    "queries": ("queries", "the budget of queries is used"),
    "deserted": ("deserted", "too few clients answered"),
    "seconds": ("seconds", "the budget of seconds is used"),
    "callback": ("stopped", "the callback ended the run"),
    "stopped": ("stopped", "the run was told to stop"),
}


class Federation:
    """Federated optimization; see :class:`zoo.runtime.protocol.Method`.

    Parameters
    ----------
    job : Job
    """

    resident = True
    secluded = True  # what clients remember is theirs
    problem: Problem | None = None

    def __init__(self, job: Job) -> None:
        self.job = job
        self.shards = len(job.problem.clients)
        self.places = tuple(client.place for client in job.problem.clients)
        self.patience = job.config.round_timeout or _PATIENCE  # of a host, with a client
        self.concurrent = job.config.round_timeout is not None or all(
            getattr(client.objective, "concurrent", False) for client in job.problem.clients
        )
        self.server = server_of(job)
        self._round = 0  # 0: of the first iterate alone, in some algorithms
        self._clients: tuple[int, ...] = ()
        self._absent: dict[int, str] = {}
        self._sent: Message | None = None
        self._queries = np.zeros(self.shards, np.int64)
        self._up = self._down = self._void = 0
        self._best = math.inf
        self._ended = self._reason = ""
        self._rows: list[dict[str, Any]] = []
        self._course: list[tuple[int, int, float]] = []  # round, queries and fun of every round

    def __getstate__(self) -> dict[str, Any]:
        """What goes to workers."""
        return {"job": self.job, "problem": None, "shards": self.shards}

    def part(self, index: int) -> Federation:
        """Make what goes to the worker of one client: it holds none of the others' objectives."""
        made, problem = copy(self), self.job.problem
        clients = [
            client if k == index else replace(client, objective=elsewhere, load=None)
            for k, client in enumerate(problem.clients)
        ]
        apart = replace(problem, clients=tuple(clients), whole=None)
        made.job = replace(self.job, problem=apart)
        return made

    def shard(
        self, index: int, threads: int = 1, cancelled: Callable[[], bool] = never
    ) -> ClientShard:
        """Build a client's side; see :class:`zoo.runtime.protocol.Method`."""
        return ClientShard(index, self.job, threads, cancelled)

    def message(self, steps: int) -> Message:
        """Ask those who take part in the round; nobody, if the run was told to end."""
        if self._stopping:
            self._sent = Message(Task("end", self._round), ())
            return self._sent
        if not self._clients:
            self._clients, self._absent = self._chosen(), {}
        with one_thread():
            task = self.server.ask(self._round, self._clients)
        self._sent = Message(task, self._clients)
        return self._sent

    @property
    def _stopping(self) -> bool:
        """Whether the run ends before the next exchange: not before it has a value."""
        return bool(self._reason) and not math.isnan(self.server.fun)

    def _chosen(self) -> tuple[int, ...]:
        config = self.job.config
        count = max(config.min_clients, math.floor(config.participation * self.shards + 0.5))
        if count >= self.shards:
            return tuple(range(self.shards))
        random = generator(self.job.seed, ALL, CHOSEN, self._round)
        return tuple(sorted(random.choice(self.shards, count, replace=False).tolist()))

    def merge(self, reports: list[Report]) -> None:
        """Take in the answers; those who gave none are out of the round."""
        assert self._sent is not None
        if not self._sent.clients:
            self._ended = self._reason
            return
        config, asked = self.job.config, self._clients
        replies = {}
        self._down += size_of(self._sent.task.arrays) * len(asked)
        for client, report in enumerate(reports):
            self._queries[client] = report.queries
            if client not in asked:
                continue
            if report.arrays is None:
                self._absent[client] = report.reason
            else:
                replies[client] = report.arrays
                self._up += size_of(report.arrays)
        if self._absent and config.on_dropout == "fail":
            raise RunError(f"{self._told_absent()}, and on_dropout is fail")
        self._clients = tuple(sorted(replies))
        if len(replies) < config.min_clients:
            if self._round <= 1 and math.isnan(self.server.fun):
                raise RunError(
                    f"too few clients answer at the first iterate: {self._told_absent()}"
                )
            self.server.void()
            self._void += 1
            over = True
        else:
            with one_thread():
                self.server.tell(self._round, replies)
            over = self.server.between
            self._void = 0 if over else self._void
        if over:
            self._record(len(replies))
            self._round += 1
            self._clients = ()
            self._end()

    def _end(self) -> None:
        config = self.job.config
        if self._round > config.rounds:
            self._ended = "rounds"
        elif config.target is not None and self.server.fun <= config.target:
            self._ended = "target"
        elif config.queries is not None and self._queries.sum() >= config.queries:
            self._ended = "queries"
        elif self._void >= _DESERTED:
            self._ended = "deserted"
        self._ended = self._ended or (self._reason if self._stopping else "")

    def _told_absent(self) -> str:
        names = [client.name or f"client {i}" for i, client in enumerate(self.job.problem.clients)]
        told = [f"{names[k]}: {why}" for k, why in sorted(self._absent.items())[:3]]
        more = len(self._absent) - len(told)
        return "; ".join(told) + (f"; and {more} more" if more else "")

    def _record(self, participants: int) -> None:
        self._best = min(self._best, self.server.fun)
        row: dict[str, Any] = {
            "round": self._round,
            "queries": int(self._queries.sum()),
            "best": self._best,
            "fun": self.server.fun,
            "participants": participants,
            "bytes_up": self._up,
            "bytes_down": self._down,
        }
        if self.job.problem.whole is not None:
            row["gap"] = self._gap()
        if self._absent:
            row["absent"] = {str(k): why for k, why in sorted(self._absent.items())}
        self._rows.append(row)
        self._course.append((self._round, row["queries"], self.server.fun))

    @property
    def x(self) -> Any:
        """Iterate (d,), in the caller's units."""
        problem = self.job.problem
        inside = problem.lower + self.server.x * (problem.upper - problem.lower)
        return np.clip(inside, problem.lower, problem.upper)

    def _gap(self) -> float | None:
        problem = self.job.problem
        if problem.whole is None or problem.minimum is None:
            return None
        return float(problem.whole(self.x[None])[0]) - problem.minimum

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    def stop(self, reason: str) -> None:
        """End the run: a round under way is left."""
        self._reason = reason if reason in _STATUS else "stopped"

    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(
            self._round,
            int(self._queries.sum()),
            self._best,
            math.nan,
            min(self._round, self.job.config.rounds),
            self.job.config.rounds,
            unit="queries",
        )

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history since the last call, one a round."""
        made, self._rows = self._rows, []
        return made

    def state(self) -> State:
        """Everything that a merge changes."""
        book = {
            "round": self._round,
            "clients": self._clients,
            "absent": sorted(self._absent.items()),
            "bytes": [self._up, self._down],
            "void": self._void,
            "ended": self._ended,
            "reason": self._reason,
        }
        server = {f"server {name}": array for name, array in self.server.state().items()}
        return {
            "book": np.array(json.dumps(book)),
            "queries": self._queries.copy(),
            "best": np.array(self._best),
            "course": np.array(self._course).reshape(-1, 3),
            **server,
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        book = json.loads(state["book"].item())
        self._round, self._clients = book["round"], tuple(book["clients"])
        self._absent = dict(book["absent"])
        (self._up, self._down), self._void = book["bytes"], book["void"]
        self._ended, self._reason = book["ended"], book["reason"]
        self._queries = state["queries"].copy()
        self._best = float(state["best"])
        self._course = [(int(r), int(q), fun) for r, q, fun in state["course"].tolist()]
        mark = "server "
        self.server.restore({k[len(mark) :]: v for k, v in state.items() if k.startswith(mark)})
        self._rows = []

    def result(self) -> dict[str, Any]:
        """Fields of the result."""
        status, message = _STATUS[self._ended]
        found: dict[str, Any] = {
            "x": self.x,
            "fun": self.server.fun,
            "gap": self._gap(),
            "rounds": max(0, self._round - 1),
            "queries": int(self._queries.sum()),
            "queries_each": self._queries.tolist(),
            "nfev": int(self._queries.sum()),
            "nit": max(0, self._round - 1),
            "bytes_up": self._up,
            "bytes_down": self._down,
            "history": [{"round": r, "queries": q, "fun": fun} for r, q, fun in self._course],
            "algorithm": self.job.config.algorithm,
            "success": status in ("rounds", "target"),
            "status": status,
            "message": message,
        }
        if isinstance(self.server, Averaging):
            found["raised"] = self.server.raised
        return found
