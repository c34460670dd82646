"""The process that works: a Ray actor that holds shards, or evaluates points.

What goes wrong in it travels as data: exceptions with unusual constructors lose their type in
Ray's hands.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ray

import zoo
from zoo.errors import Interrupted, ObjectiveError
from zoo.problem import Array, CompiledObjective, Objective
from zoo.runtime.parcel import code_of, pack, unpack
from zoo.runtime.protocol import Shard, State

#: Method groups of the actor: what asks it to stop must not queue behind what is to be stopped.
CONTROL = "control"


@dataclass(frozen=True)
class Fault:
    """An exception as data."""

    kind: str
    message: str
    where: str  # the traceback
    shard: int | None = None
    point: Array | None = None
    pickled: bytes | None = None  # of the exception, if it survives that


@dataclass(frozen=True)
class Reply:
    """What a worker answers: reports, states or values, or a fault; and what failed meanwhile."""

    content: Any = None
    failures: dict[str, int] = field(default_factory=dict)
    complaint: str = ""  # of the objective, about the last of them
    seconds: float = 0.0
    fault: Fault | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was given up, as asked."""
        return self.fault is not None and self.fault.kind == "Interrupted"


def unpacked(message: Any) -> Any:
    """Message that was pickled, or came through the object store."""
    return pickle.loads(message) if isinstance(message, bytes) else message


def fault_of(error: BaseException, shard: int | None = None) -> Fault:
    """Exception as data, with the number of the shard that raised it."""
    where = "".join(traceback.format_exception(error))
    pickled = None
    with contextlib.suppress(Exception):
        data = pack(error)
        if type(unpack(data)) is type(error):
            pickled = data
    return Fault(
        type(error).__name__,
        str(error),
        where,
        shard,
        getattr(error, "point", None),
        pickled,
    )


def environment(working_dir: str | None = None) -> dict[str, Any]:
    """What a worker takes over from the process that starts it; not its folder if Ray sets one."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    folder = os.getcwd() if working_dir is None else ""
    return {"variables": kept, "path": [p for p in sys.path if p], "folder": folder}


class Worker:
    """See the module."""

    def __init__(self, threads: int, around: dict[str, Any]) -> None:
        os.environ.update(around["variables"])
        os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))  # it ignores OMP_NUM_THREADS
        if os.path.isdir(around["folder"]):
            os.chdir(around["folder"])
        sys.path += [p for p in around["path"] if p not in sys.path]
        self._threads = threads
        self._key, self._parcel = "", b""
        self._method: Any = None
        self._objective: Objective | None = None
        self._shards: dict[int, Shard] = {}
        self._counted: Counter[str] = Counter()
        self._call = 0
        self._cancelled: set[int] = set()
        self._stepping: int | None = None  # the shard at work

    def hello(self) -> dict[str, Any]:
        """Say where this is, and whether it can work for the one who asks."""
        from zoo.jit import source_digest

        node = ray.get_runtime_context().get_node_id()
        host = ray.util.get_node_ip_address()
        return {
            "pid": os.getpid(),
            "node": node[:8],
            "host": host,
            "sources": source_digest(),
            "zoo": zoo.__file__,
        }

    @ray.method(concurrency_group=CONTROL)
    def cancel(self, call: int) -> None:
        """Give up the call of this number, now or when it comes."""
        self._cancelled.add(call)

    def place(
        self, call: int, key: str, parcel: bytes, states: dict[int, State | None], *log: Any
    ) -> Reply:
        """Hold shards: build them, in their states if any, and replay the messages since.

        Answers with the name of the CPU that code is compiled for here.
        """

        def build() -> str:
            from zoo.jit import cpu_name, warm

            with warm(code_of(parcel)):
                if self._key != key:
                    self.release()
                    self._key = key
                if self._parcel != parcel:
                    self._parcel, self._method = parcel, unpack(parcel)
                    if self._method.problem is not None:
                        self._take(self._method.problem.objective)
                for index, state in states.items():
                    self._shards[index] = self._method.shard(index, self._threads, self._given_up)
                    if state is not None:
                        self._shards[index].restore(state)
            for message in log:
                for index in states:
                    self._shards[index].step(unpacked(message))
            if log:  # these have been counted
                self._new_failures()
            return cpu_name()

        return self._reply(call, build)

    def step(self, call: int, message: Any, shards: list[int]) -> Reply:
        """Step shards; reports by shard."""

        def steps() -> dict[int, Any]:
            reports, told = {}, unpacked(message)
            for self._stepping in shards:
                reports[self._stepping] = self._shards[self._stepping].step(told)
            return reports

        return self._reply(call, steps)

    def states(self, call: int, shards: list[int]) -> Reply:
        """Return states by shard."""
        return self._reply(call, lambda: {index: self._shards[index].state() for index in shards})

    def drop(self, shards: list[int]) -> None:
        """Let shards go, to be held elsewhere."""
        for index in shards:
            self._shards.pop(index, None)

    def release(self) -> None:
        """Let everything go."""
        close = getattr(self._objective, "close", None)
        if close is not None:
            close()
        self._key, self._parcel = "", b""
        self._method, self._objective, self._shards = None, None, {}
        self._counted = Counter()

    def load(self, call: int, key: str, parcel: bytes) -> Reply:
        """Take an objective to evaluate."""

        def take() -> None:
            from zoo.jit import warm

            if self._key != key:
                self.release()
                with warm(code_of(parcel)):
                    self._key = key
                    self._take(unpack(parcel))

        return self._reply(call, take)

    def _take(self, objective: Objective) -> None:
        self._objective = objective
        self._counted = Counter(objective.failures)  # of before, on the driver
        if isinstance(objective, CompiledObjective):
            objective.target()  # compiles it

    def evaluate(self, call: int, x: Array) -> Reply:
        """Values at the rows of x."""
        objective = self._objective
        assert objective is not None
        return self._reply(call, lambda: objective.evaluate(x, self._given_up))

    def _given_up(self) -> bool:
        return self._call in self._cancelled

    def _reply(self, call: int, work: Any) -> Reply:
        self._call, self._stepping = call, None
        self._cancelled -= {number for number in self._cancelled.copy() if number < call}
        started = time.perf_counter()
        content, fault = None, None
        try:
            if self._given_up():
                raise Interrupted
            content = work()
        except Exception as error:
            fault = fault_of(error, self._stepping)
        new = self._new_failures()
        complaint = self._objective.last_error if new and self._objective is not None else ""
        return Reply(content, new, complaint, time.perf_counter() - started, fault)

    def _new_failures(self) -> dict[str, int]:
        """Failures of the objective since the last call of this."""
        if self._objective is None:
            return {}
        new = self._objective.failures - self._counted
        self._counted = Counter(self._objective.failures)
        return dict(new)


def raised(fault: Fault) -> BaseException:
    """Exception of a fault, with the shard's number and the traceback there as notes."""
    error: BaseException
    if fault.kind == "Interrupted":
        return Interrupted()
    where = "" if fault.shard is None else f" (shard {fault.shard})"
    if fault.kind == "ObjectiveError":
        error = ObjectiveError(fault.message + where, fault.point)
    elif fault.pickled is not None:
        error = unpack(fault.pickled)
        error.__traceback__ = None
        error.add_note(f"raised in a worker{where}")
    else:
        error = RuntimeError(f"{fault.kind}: {fault.message}{where}")
    error.add_note(fault.where)
    return error
