"""Shards on workers: rebuilt from a checkpoint and the messages since, wherever workers die."""

from __future__ import annotations

import math
import pickle
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import Interrupted, RunError
from zoo.problem import never
from zoo.runtime.distributed.crew import DESERTED, Crew, WorkerLost, times
from zoo.runtime.distributed.worker import Fault, Reply, raised
from zoo.runtime.events import NOTE, REPLAYED, Event
from zoo.runtime.parcel import pack
from zoo.runtime.protocol import Method, State

#: Bytes of a message above which it is put into the object store, once for all workers.
_LARGE = 100_000
#: A checkpoint is made when so many bytes, messages or seconds have come since the last,
_LOG_BYTES, _LOG_LENGTH, _LOG_SECONDS = 64e6, 1000, 1.0
#: and it takes no more than this share of the time.
_CHECKPOINTING = 0.05
#: Seconds that a step under way has to end in when a run is interrupted, before it is given up, and
#: what it has done lost; most steps take less.
_ENDING = 0.25
#: Seconds that a worker asked to give up has for it, before it is killed.
_GRACE = 2.0
#: Seconds beyond a method's patience after which a worker that does not answer is taken for dead.
_SILENCE = 10.0
#: Seconds that shards wait for a worker of their own before others take them.
_VACANCY = 5.0


@dataclass(frozen=True)
class _Call:
    """A call under way."""

    worker: int
    actor: Any  # which of those that have been in that place
    number: int
    shards: list[int]
    since: float


class RayHost:
    """Holds shards in the workers of a crew; see :class:`zoo.runtime.hosts.Host`.

    A checkpoint is the state of every shard at one superstep, kept here. When a worker dies, its
    shards are built anew on another, restored, and sent the messages since: ``step`` is a function
    of state and message, so they come to the very state that was lost. Of a method that is
    ``secluded`` there are no checkpoints, but where states are asked for: all messages are kept.

    Attributes
    ----------
    counts : Counter
        moved: shards that were rebuilt elsewhere; messages: sent to them again.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.counts: Counter[str] = Counter()
        self._cancelled: Callable[[], bool] = never
        self._key = ""
        self._cpus: set[str] = set()
        self._resident = True
        self._patience: float | None = None
        self._secluded = False
        self._forget()

    def _forget(self) -> None:
        self._homes: list[int | None] = []  # the worker of each shard
        self._states: list[State | None] = []
        self._log: list[Any] = []
        self._log_bytes, self._checked, self._checking = 0, time.perf_counter(), 0.0
        self._deaths: list[int] = []
        self._calls: dict[Any, _Call] = {}
        self._moved: set[int] = set()  # shards that had to move since the last question

    def start(
        self, method: Method, cancelled: Callable[[], bool], states: Sequence[State] | None
    ) -> None:
        """See :class:`Host`."""
        self._forget()
        self._cancelled = cancelled
        self._objective = None if method.problem is None else method.problem.objective
        self._resident = method.resident
        self._patience = getattr(method, "patience", None)  # most methods have as long as it takes
        self._secluded = getattr(method, "secluded", False)  # states stay where they are
        self._states = list(states) if states else [None] * method.shards
        self._homes = [None] * method.shards
        self._deaths = [0] * method.shards
        self._places = list(getattr(method, "places", ())) or [""] * method.shards
        self._key, self._parcels = uuid.uuid4().hex, self._packed(method)
        self.crew.gather(cancelled)
        self._house()

    def _packed(self, method: Method) -> list[Any]:
        """What each shard is built of: one thing for all, or each its own part."""
        part = getattr(method, "part", None)
        if part is None:
            return [self.crew.put(pack(method))] * method.shards
        return [self.crew.put(pack(part(index))) for index in range(method.shards)]

    def step(self, message: Any) -> list[Any]:
        """See :class:`Host`."""
        self._welcome()
        # Pickled now, once: the method goes on to change what it has sent.
        sent, size = packed(message)
        if size > _LARGE:
            sent = self.crew.put(message)
        reports = self._ask("step", sent)
        self._deaths = [0] * len(self._deaths)
        if not self._resident:  # a lost shard need not be told what has been
            return reports
        self._log.append(sent)
        self._log_bytes += size
        since = time.perf_counter() - self._checked
        full = self._log_bytes > _LOG_BYTES or len(self._log) >= _LOG_LENGTH
        due = full or since > max(_LOG_SECONDS, self._checking / _CHECKPOINTING)
        if due and not self._secluded:
            self._checkpoint()
        return reports

    def states(self) -> list[State]:
        """See :class:`Host`."""
        if self._log or None in self._states:
            self._checkpoint()
        return [state for state in self._states if state is not None]

    def close(self) -> None:
        """See :class:`Host`."""
        if self._calls:
            self._settle(self._give_up())
        for k in {k for k in self._homes if k is not None}:
            self.crew.tell(k, "release")
        self._forget()

    def _checkpoint(self) -> None:
        started = time.perf_counter()
        # Copies: the originals lie in the stores of nodes that may be lost.
        self._states = [
            {name: np.array(array) for name, array in state.items()}
            for state in self._ask("states")
        ]
        self._log, self._log_bytes = [], 0
        self._checked = time.perf_counter()
        self._checking = self._checked - started

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """Answers of all shards to one question, asked again where a worker dies over it."""
        answers: dict[int, Any] = {}
        faults: dict[int, Fault] = {}
        counts: list[tuple[_Call, Reply]] = []
        asked, end = math.inf, math.inf
        self._moved = set()
        while True:
            self._house()
            for index in self._moved:  # what they answered before is not in their new state
                answers.pop(index, None)
                counts = [(call, reply) for call, reply in counts if index not in call.shards]
            self._moved = set()
            self._call_for(answers.keys(), method, *arguments)
            if not self._calls:
                break
            if asked == math.inf and self._cancelled():
                asked = time.perf_counter()
                if method == "states":  # what an interrupted run goes on from
                    end = asked + _GRACE
            if end == math.inf and time.perf_counter() > asked + _ENDING:
                end = self._give_up()
            elif time.perf_counter() > end:
                self._settle(end)
                raise Interrupted
            for call, reply in self._await():
                counts.append((call, reply))
                if reply.fault is None:
                    answers.update(reply.content)
                elif reply.cancelled:
                    raise Interrupted
                else:
                    at = reply.fault.shard
                    answers |= dict.fromkeys(call.shards)
                    faults[min(call.shards) if at is None else at] = reply.fault
        if self._objective is not None:
            for _, reply in counts:
                self._objective.failures.update(reply.failures)
                self._objective.last_error = reply.complaint or self._objective.last_error
        if faults:
            raise raised(faults[min(faults)])
        return [answers[index] for index in range(len(self._homes))]

    def _call_for(self, answered: Set[int], method: str, *arguments: Any) -> None:
        """Call the workers of all shards that have not answered, nor are being asked."""
        asked = {index for call in self._calls.values() for index in call.shards}
        wanted: dict[int, list[int]] = {}
        for index, k in enumerate(self._homes):
            if index not in answered and index not in asked:
                assert k is not None
                wanted.setdefault(k, []).append(index)
        for k, shards in wanted.items():
            self._send(k, shards, method, *arguments, shards)

    def _send(self, k: int, shards: list[int], method: str, *arguments: Any) -> None:
        reference, number = self.crew.call(k, method, *arguments)
        actor = self.crew.members[k].actor
        since = time.perf_counter() if method == "step" else math.inf  # to build may take long
        self._calls[reference] = _Call(k, actor, number, shards, since)

    def _await(self) -> list[tuple[_Call, Reply]]:
        """Replies that come next; the shards of workers found dead, or silent, lose their home."""
        came: list[tuple[_Call, Reply]] = []
        ready = self.crew.wait(list(self._calls))
        if not ready and self._patience is not None:  # who is ready need not be waited for
            for call in list(self._calls.values()):
                silent = time.perf_counter() - call.since
                if silent > self._patience * len(call.shards) + _SILENCE and self._is_there(call):
                    self._bury(call.worker, f"no answer for {silent:.0f} s", call.shards)
        for reference in ready:
            call = self._calls.pop(reference)
            try:
                reply: Reply = self.crew.get(reference)
            except WorkerLost as lost:
                if self._is_there(call):
                    self._bury(call.worker, str(lost), call.shards)
                continue
            came.append((call, reply))
        return came

    def _bury(self, k: int, why: str, shards: list[int]) -> None:
        """Replace a dead worker; its shards have no home now."""
        orphans = sorted({i for i, home in enumerate(self._homes) if home == k} | set(shards))
        self._calls = {r: call for r, call in self._calls.items() if call.worker != k}
        self._moved.update(orphans)
        self.counts["moved"] += len(orphans)
        for index in orphans:
            self._homes[index] = None
            self._deaths[index] += 1
        self.crew.lose(k, why, orphans)
        worst = max(orphans, key=lambda index: self._deaths[index])
        if self._deaths[worst] > self.crew.placement.respawns:
            raise RunError(
                f"shard {worst} lost its worker {times(self._deaths[worst])} in a row ({why}), and "
                f"respawns is {self.crew.placement.respawns}: the run stops here"
            )

    def _house(self) -> None:
        """Find every shard a worker: build it there, as far as the messages have come."""
        since = time.perf_counter()
        while None in self._homes:
            orphans = [index for index, home in enumerate(self._homes) if home is None]
            self._vacancy()
            load = {k: self._homes.count(k) for k in self.crew.live()}
            wanted: dict[int, list[int]] = {}
            for index in orphans:
                fit = self.crew.suited(load, self._places[index])
                if fit:
                    k = min(fit, key=lambda k: (load[k], k))
                    load[k] += 1
                    wanted.setdefault(k, []).append(index)
            if not wanted:  # until there is a worker at their place
                if self._cancelled():
                    raise Interrupted
                if time.perf_counter() - since > DESERTED:
                    raise RunError(
                        f"no worker at the place {self._places[orphans[0]]!r} for {DESERTED:g} s"
                    )
                time.sleep(0.0 if self.crew.joined(0.1) else 0.02)
            self._place(wanted)

    def _vacancy(self) -> None:
        """Wait for a worker without shards; or, when that lasts, for any."""
        end = time.perf_counter() + _VACANCY
        while all(k in self._homes for k in self.crew.live()):
            if self._cancelled():
                raise Interrupted
            if time.perf_counter() > end and self.crew.live():
                return
            self.crew.joined(0.1)

    def _place(self, wanted: dict[int, list[int]]) -> None:
        """Build shards on workers; what a worker died over stays without a home."""
        others, self._calls = self._calls, {}
        try:
            for k, shards in wanted.items():
                for parcel, alike in _by_parcel(self._parcels, shards):
                    states = {index: self._states[index] for index in alike}
                    self._send(k, alike, "place", self._key, parcel, states, *self._log)
            while self._calls:
                if self._cancelled():
                    self._give_up()
                    raise Interrupted
                for call, reply in self._await():
                    if reply.fault is not None:
                        raise raised(reply.fault)
                    for index in call.shards:
                        self._homes[index] = call.worker
                    self._compare(reply.content)
                    if self._log:
                        data = {"worker": call.worker, "shards": call.shards}
                        self.crew.emit(Event(REPLAYED, data | {"messages": len(self._log)}))
                        self.counts["messages"] += len(self._log)
        finally:
            self._calls |= {r: call for r, call in others.items() if self._is_there(call)}

    def _compare(self, cpu: str) -> None:
        """Say so, once, if code is compiled for several types of CPU."""
        before = len(self._cpus) > 1
        self._cpus.add(cpu)
        if len(self._cpus) == 2 and not before:
            text = (
                f"the workers have CPUs of several types ({', '.join(sorted(self._cpus))}), whose "
                "last bits may differ: NUMBA_CPU_NAME=generic in the environment makes them equal"
            )
            self.crew.emit(Event(NOTE, {"text": text}))

    def _welcome(self) -> None:
        """Give shards to workers that have none, from those that have most."""
        count = len(self._homes)
        if len(set(self._homes)) == min(self.crew.size, count):
            return
        if any(self._places) or (self._secluded and self._log):
            return  # they are bound, or all that has been would have to be done again
        self.crew.joined()
        idle = [k for k in self.crew.live() if k not in self._homes]
        share = count // (len(set(self._homes)) + len(idle))
        if not idle or share == 0:
            return
        self._checkpoint()
        wanted: dict[int, list[int]] = {k: [] for k in idle}
        for k in idle:
            while len(wanted[k]) < share:
                homes = [home for home in self._homes if home is not None]
                j = max(set(homes), key=lambda j: (homes.count(j), -j))
                index = max(i for i, home in enumerate(self._homes) if home == j)
                self._homes[index] = None
                self.crew.tell(j, "drop", [index])
                wanted[k].append(index)
        self._place(wanted)

    def _give_up(self) -> float:
        """Ask the workers to end what they are at; returns until when they may take."""
        for call in self._calls.values():
            self.crew.tell(call.worker, "cancel", call.number)
        return time.perf_counter() + _GRACE

    def _settle(self, end: float) -> None:
        """Wait for the calls under way; workers that do not answer are replaced."""
        while self._calls and time.perf_counter() < end:
            for reference in self.crew.wait(list(self._calls)):
                del self._calls[reference]
        for call in self._calls.values():
            if self._is_there(call):
                self.crew.replace(call.worker)
                self._homes = [None if home == call.worker else home for home in self._homes]
        self._calls = {}

    def _is_there(self, call: _Call) -> bool:
        """Whether the worker that was called has not been replaced since."""
        return self.crew.members[call.worker].actor is call.actor


def _by_parcel(parcels: Sequence[Any], shards: Sequence[int]) -> list[tuple[Any, list[int]]]:
    """Shards of the same parcel, which is of some or of all."""
    found: dict[int, tuple[Any, list[int]]] = {}
    for index in shards:
        found.setdefault(id(parcels[index]), (parcels[index], []))[1].append(index)
    return list(found.values())


def packed(message: Any) -> tuple[bytes, int]:
    """Pickled message without its arrays' contents if it is large, and its size with them."""
    buffers: list[pickle.PickleBuffer] = []
    outline = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    size = len(outline) + sum(buffer.raw().nbytes for buffer in buffers)
    return (outline if size > _LARGE else pickle.dumps(message, protocol=5)), size
