"""Which host a run lives on: the calling thread, threads, or workers."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import Interrupted
from zoo.problem import CompiledObjective, Problem, PythonObjective, never
from zoo.runtime.distributed.placement import Placement
from zoo.runtime.events import NOTE, Event
from zoo.runtime.hosts import Host, InlineHost, ThreadsHost
from zoo.runtime.protocol import Method

if TYPE_CHECKING:
    from zoo.runtime.distributed.crew import Crew

#: Seconds of an evaluation from which on it pays to send it to another process.
_WORTH_SENDING = 2e-3
#: Seconds that one may take while it is measured; the first may have much to load.
_TRIAL = 5.0


@contextmanager
def hosted(
    problem: Problem,
    method: Method,
    placement: Placement,
    *,
    threads: int | None = None,
    crew: Crew | None = None,
    emit: Callable[[Event], None] = lambda event: None,
    counts: Counter[str] | None = None,
) -> Iterator[Host]:
    """Yield the host for a run, and end what was started for it.

    Parameters
    ----------
    problem, method
        What runs.
    placement : Placement
        Workers asked for.
    threads : int, optional
        Threads asked for, of a run in its own process.
    crew : Crew, optional
        Workers that there are; they are left running.
    emit : callable
        Takes the events of workers.
    counts : Counter, optional
        Counts what the host did besides, under a name each.

    Raises
    ------
    InputError
        If the placement does not fit.
    """
    placement.check(threads)
    if crew is None and not placement.distributed:
        yield in_process(problem, threads)
        return
    shards = _shards_travel(problem, method, placement)
    size = placement.count()
    if crew is None and size is None and not _on_a_cluster(placement):
        why_not = _stay(problem)
        emit(Event(NOTE, {"text": why_not or f"evaluations go to {_cores()} workers"}))
        if why_not:
            yield in_process(problem, None)
            return
    if crew is None and shards and size is not None and size > method.shards:
        text = f"{method.shards} shards keep no more than as many workers busy (shards)"
        emit(Event(NOTE, {"text": text}))
    from zoo.runtime.distributed.crew import Crew as NewCrew
    from zoo.runtime.distributed.evaluations import EvaluationHost
    from zoo.runtime.distributed.shards import RayHost

    owned = NewCrew(placement, method.shards if shards else None) if crew is None else None
    used = crew or owned
    assert used is not None
    used.listen(emit)
    host: Any = (RayHost if shards else EvaluationHost)(used)
    try:
        yield host
    finally:
        if counts is not None:
            counts.update(host.counts)
            counts["workers"] = used.size
        if owned is not None:
            owned.close()


def in_process(problem: Problem, threads: int | None) -> Host:
    """Pick threads where evaluations may run at once, else the calling thread."""
    if threads == 1 or not problem.objective.concurrent:
        return InlineHost()
    return ThreadsHost(threads)


def _shards_travel(problem: Problem, method: Method, placement: Placement) -> bool:
    """Whether shards go to the workers, or only the evaluations of their points."""
    if placement.distribute != "auto":
        return placement.distribute == "shards"
    return method.resident and isinstance(problem.objective, CompiledObjective)


def _on_a_cluster(placement: Placement) -> bool:
    if placement.ray_address or os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _stay(problem: Problem) -> str:
    """Why workers on this machine would not help; empty if they would."""
    cores = _cores()
    if cores == 1:
        return "one core: the run stays in its own process"
    objective = problem.objective
    if not isinstance(objective, PythonObjective):
        return f"{cores} threads of this process do it: workers would add nothing on one machine"
    each = _seconds_each(objective, problem)
    if each >= _WORTH_SENDING:
        return ""
    return (
        f"an evaluation takes {each * 1e3:.3g} ms: the run stays in its own process, for sending "
        "one to another takes longer"
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _seconds_each(objective: PythonObjective, problem: Problem) -> float:
    """Measured seconds of an evaluation, in the middle of the box; the second of two."""
    from zoo.runtime.isolation import IsolatedObjective

    point = 0.5 * (problem.lower + problem.upper)[None]
    trial = IsolatedObjective(
        PythonObjective(objective.function, objective.batched, "penalize", objective.args),
        timeout=_TRIAL,
        retries=0,
    )
    try:
        for _ in range(2):
            started = time.perf_counter()
            trial.evaluate(point, never)
        return time.perf_counter() - started
    except Interrupted:
        return _TRIAL
    finally:
        trial.close()
