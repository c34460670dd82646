"""Evaluations on workers: the shards stay here, their points are evaluated by the crew."""

from __future__ import annotations

import math
import statistics
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import Interrupted, RunError
from zoo.problem import ATTEMPTS, Array, Objective, PythonObjective, never
from zoo.runtime.distributed.crew import Crew, WorkerLost, times
from zoo.runtime.distributed.worker import Reply, raised
from zoo.runtime.events import NOTE, Event
from zoo.runtime.exchanges import exchanged
from zoo.runtime.isolation import IsolatedObjective
from zoo.runtime.parcel import pack
from zoo.runtime.protocol import Method, Shard, State

#: Seconds of work that a chunk is to hold, so that a call's 0.5 ms do not matter.
_CHUNK = 0.01
#: and that it holds at least, so that the last ones do not cost more than what they level.
_LEAST = 2e-3
#: A chunk is a straggler when it has taken so many times what one usually takes, and so long.
_SLOW, _SLOW_SECONDS = 3.0, 0.05
#: Chunks that take no longer than this are sent one ahead.
_AHEAD = 0.05
#: Chunks whose times are remembered.
_REMEMBERED = 64
#: Steps between which the cost of sending is measured.
_WARM, _KNOWN = 5, 20


@dataclass(eq=False)
class _Chunk:
    """Points under evaluation: rows of the step's points."""

    rows: Any  # (k,) int
    step: int
    copies: int = 0  # under way
    deaths: int = 0  # of workers over it


@dataclass(frozen=True)
class _Call:
    worker: int
    actor: Any
    number: int
    chunk: _Chunk
    started: float


class EvaluationHost:
    """Holds shards here and evaluates their points on a crew; see :class:`zoo.runtime.hosts.Host`.

    Points go to the workers in chunks, sized by the measured time of an evaluation. What a worker
    dies over is sent to another. When nothing is left to send, a chunk that takes much longer than
    usual is sent to an idle worker too; the first answer counts, and the other is given up. Crashes
    and timeouts of an evaluation are dealt with on its worker.

    Attributes
    ----------
    counts : Counter
        copies: chunks sent twice; resent: chunks whose worker died.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.counts: Counter[str] = Counter()
        self._shards: list[Shard] = []
        self._calls: dict[Any, _Call] = {}
        self._queued: dict[int, int] = {}  # calls under way, by worker that is in service
        self._loading: dict[Any, tuple[int, Any]] = {}
        self._times: deque[float] = deque(maxlen=_REMEMBERED)  # seconds an evaluation
        self._steps, self._worked, self._waited, self._points = 0, 0.0, 0.0, 0
        self._deaths: Counter[int] = Counter()  # of workers in one place, in a row
        self._cancelled: Callable[[], bool] = never

    def start(
        self, method: Method, cancelled: Callable[[], bool], states: Sequence[State] | None
    ) -> None:
        """See :class:`Host`."""
        self._cancelled = cancelled
        self._shards = [method.shard(index, 1, cancelled) for index in range(method.shards)]
        for shard, state in zip(self._shards, states or (), strict=bool(states)):
            shard.restore(state)
        assert method.problem is not None
        objective = method.problem.objective
        self._objective = objective
        self._batched = getattr(objective, "batched", False)
        self._key, self._parcel = uuid.uuid4().hex, self.crew.put(pack(guarded(objective)))
        self.crew.gather(cancelled)
        self._queued, self._loading = {}, {}
        for k in self.crew.live():
            self._load(k)
        while not self._queued:
            if cancelled():
                raise Interrupted
            self._staff(0.1)

    def step(self, message: Any) -> list[Any]:
        """See :class:`Host`."""
        superstep = exchanged(self._shards, message)
        try:
            blocks = next(superstep)
            while True:
                blocks = superstep.send(self.evaluate(blocks))
        except StopIteration as ended:
            reports: list[Any] = ended.value
            return reports

    def states(self) -> list[State]:
        """See :class:`Host`."""
        return [shard.state() for shard in self._shards]

    def close(self) -> None:
        """See :class:`Host`."""
        for call in self._calls.values():
            self.crew.tell(call.worker, "cancel", call.number)
        for k in self.crew.live():
            self.crew.tell(k, "release")
        self._calls, self._shards = {}, []

    def evaluate(self, blocks: list[Array]) -> Array:
        """Values (n,) at the rows of the shards' blocks of points.

        A batched objective takes each block at once, as in one process: what it computes for a
        point may depend, in the last bits, on those beside it.

        Raises
        ------
        ObjectiveError
            If an evaluation fails and must not.
        RunError
            If workers die over and over.
        Interrupted
            If the run is asked to stop meanwhile.
        """
        started = time.perf_counter()
        self._steps += 1
        if self._steps == _WARM:
            self._worked, self._waited, self._points = 0.0, 0.0, 0
        x = np.concatenate(blocks)
        left: deque[Any] = deque([np.arange(len(x))])
        if self._batched:
            rows = np.split(np.arange(len(x)), np.cumsum([len(b) for b in blocks])[:-1])
            left = deque(block for block in rows if len(block))
        again: deque[_Chunk] = deque()
        missing = np.ones(len(x), bool)
        values = np.empty(len(x))
        under_way: list[_Chunk] = []
        while missing.any():
            if self._cancelled():
                raise Interrupted
            self._staff()
            for k in self._takers(bool(left)):
                chunk = self._next(left, again, under_way if self._queued[k] == 0 else [])
                if chunk is None:
                    break
                self._send(k, chunk, x)
                if chunk not in under_way:
                    under_way.append(chunk)
            for chunk, reply in self._replies():
                late = chunk.step != self._steps or not missing[chunk.rows[0]]
                if reply is not None:
                    self._count(reply, late)
                if late or (reply is not None and reply.cancelled):
                    continue  # answered before, by another
                if reply is None:  # its worker died
                    self._retry(chunk, again, under_way)
                elif reply.fault is not None:
                    raise raised(reply.fault)
                else:
                    values[chunk.rows], missing[chunk.rows] = reply.content, False
                    under_way.remove(chunk)
                    self._worked += reply.seconds
                    self._times.append(reply.seconds / len(chunk.rows))
                    self._give_up(chunk)
        self._waited += time.perf_counter() - started
        self._points += len(x)
        self._judge()
        return values

    def _takers(self, more: bool) -> list[int]:
        """Workers to send something to, idle ones first; one more to each, if there is enough.

        What waits at a worker hides the time between its answer and the next call.
        """
        idle = sorted(k for k, queued in self._queued.items() if queued == 0)
        short = 0.0 < self._usual() * self._points_of(_CHUNK) < _AHEAD
        ahead = sorted(k for k, queued in self._queued.items() if queued == 1)
        return [*idle, *(ahead if more and short else [])]

    def _usual(self) -> float:
        """Seconds of an evaluation; 0 while that is not known."""
        return statistics.median(self._times) if self._times else 0.0

    def _next(
        self, left: deque[Any], again: deque[_Chunk], under_way: list[_Chunk]
    ) -> _Chunk | None:
        """What a worker is to do: what was lost, what is left, or what lags."""
        if again:
            return again.popleft()
        if left:
            rows = left.popleft()
            share = math.ceil(len(rows) / max(1, len(self.crew.live())))
            count = min(self._points_of(_CHUNK), max(share, self._points_of(_LEAST)))
            if count < len(rows) and not self._batched:
                left.appendleft(rows[count:])
                rows = rows[:count]
            return _Chunk(rows, self._steps)
        lagging = [c for c in under_way if c.copies == 1 and self._lags(c)]
        if not lagging:
            return None
        self.counts["copies"] += 1
        return lagging[0]

    def _points_of(self, seconds: float) -> int:
        """Points that make so many seconds of work; 1 while that is not known."""
        return max(1, int(seconds / max(1e-9, self._usual()))) if self._times else 1

    def _lags(self, chunk: _Chunk) -> bool:
        if not self._times:
            return False
        usual = _SLOW * self._usual() * len(chunk.rows)
        since = min(c.started for c in self._calls.values() if c.chunk is chunk)
        return time.perf_counter() - since > max(_SLOW_SECONDS, usual)

    def _send(self, k: int, chunk: _Chunk, x: Array) -> None:
        reference, number = self.crew.call(k, "evaluate", x[chunk.rows])
        now = time.perf_counter()
        self._calls[reference] = _Call(k, self.crew.members[k].actor, number, chunk, now)
        self._queued[k] += 1
        chunk.copies += 1

    def _replies(self) -> list[tuple[_Chunk, Reply | None]]:
        """Chunks that have been answered; None where a worker died."""
        came: list[tuple[_Chunk, Reply | None]] = []
        if not self._calls:
            self._staff(0.1)
            return came
        patience = 0.1 if not self._times else max(0.005, min(0.1, self._times[-1]))
        for reference in self.crew.wait(list(self._calls), patience):
            call = self._calls.pop(reference)
            call.chunk.copies -= 1
            try:
                reply: Reply = self.crew.get(reference)
            except WorkerLost as lost:
                self._bury(call.worker, call.actor, str(lost))
                came.append((call.chunk, None))
                continue
            if self.crew.members[call.worker].actor is call.actor:
                self._queued[call.worker] -= 1
                self._deaths[call.worker] = 0
            came.append((call.chunk, reply))
        return came

    def _count(self, reply: Reply, late: bool) -> None:
        """Count what failed; what a copy that came late gave up was but one more attempt."""
        for kind, count in reply.failures.items():
            if not late:
                self._objective.failures[kind] += count
            elif kind.removeprefix("retried ") in ATTEMPTS:
                self._objective.failures["retried " + kind.removeprefix("retried ")] += count
        self._objective.last_error = reply.complaint or self._objective.last_error

    def _retry(self, chunk: _Chunk, again: deque[_Chunk], under_way: list[_Chunk]) -> None:
        """Have what a worker died over evaluated again, points one by one if they were many."""
        if chunk.copies:
            return  # by another worker, now
        chunk.deaths += 1
        if chunk.deaths > self.crew.placement.respawns:
            raise RunError(
                f"workers died {times(chunk.deaths)} in a row over the same evaluation, and "
                f"respawns is {self.crew.placement.respawns}: the run stops here"
            )
        self.counts["resent"] += 1
        under_way.remove(chunk)
        if self._batched:
            pieces = [_Chunk(chunk.rows, chunk.step)]
        else:
            pieces = [_Chunk(chunk.rows[i : i + 1], chunk.step) for i in range(len(chunk.rows))]
        for piece in pieces:
            piece.deaths = chunk.deaths
        again.extend(pieces)

    def _give_up(self, chunk: _Chunk) -> None:
        """Stop the other evaluation of what has been answered."""
        for call in self._calls.values():
            if call.chunk is chunk:
                self.crew.tell(call.worker, "cancel", call.number)

    def _bury(self, k: int, actor: Any, why: str) -> None:
        if self.crew.members[k].actor is actor:
            self._queued.pop(k, None)
            self.crew.lose(k, why)
            self._deaths[k] += 1
            if self._deaths[k] > self.crew.placement.respawns:
                raise RunError(
                    f"a worker died {times(self._deaths[k])} in a row ({why}), and respawns is "
                    f"{self.crew.placement.respawns}: the run stops here"
                )

    def _load(self, k: int) -> None:
        reference, _ = self.crew.call(k, "load", self._key, self._parcel)
        self._loading[reference] = (k, self.crew.members[k].actor)

    def _staff(self, seconds: float = 0.0) -> None:
        """Take workers that have become ready into service."""
        for k in self.crew.joined(seconds if not self._loading else 0.0):
            self._load(k)
        if not self._loading:
            return
        for reference in self.crew.wait(list(self._loading), seconds):
            k, actor = self._loading.pop(reference)
            try:
                reply: Reply = self.crew.get(reference)
            except WorkerLost as lost:
                self._bury(k, actor, str(lost))
                continue
            if reply.fault is not None:
                raise raised(reply.fault)
            self._queued[k] = 0

    def _judge(self) -> None:
        """Say so, once, if the evaluations are too cheap to be sent."""
        if self._steps != _KNOWN or self._waited <= self._worked:
            return
        each, steps = self._worked / max(1, self._points), _KNOWN - _WARM + 1
        if each > _CHUNK:  # something else has held it up
            return
        text = (
            f"an evaluation takes {each * 1e3:.3g} ms: "
            f"{self._points / steps:.3g} of them take {self._worked / steps * 1e3:.3g} ms in one "
            f"process, and {self._waited / steps * 1e3:.3g} ms on {self.crew.size} workers; "
            "without workers this run is faster"
        )
        self.crew.emit(Event(NOTE, {"text": text}))


def guarded(objective: Objective) -> Any:
    """Objective as workers evaluate it: a crash of Python code must not end the worker."""
    return IsolatedObjective(objective) if isinstance(objective, PythonObjective) else objective
