"""Which host a run lives on: the calling thread, threads, or workers."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
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
#: Seconds that one takes which is worth sending, whatever had to be loaded for it.
_LONG = 2.0


@contextmanager
def hosted(
    method: Method,
    placement: Placement,
    *,
    threads: int | None = None,
    crew: Crew | None = None,
    emit: Callable[[Event], None] = lambda event: None,
    counts: Counter[str] | None = None,
    cancelled: Callable[[], bool] = never,
) -> Iterator[Host]:
    """Yield the host for a run, and end what was started for it.

    Parameters
    ----------
    method : Method
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
    cancelled : callable
        True gives up the choice.

    Raises
    ------
    InputError
        If the placement does not fit.
    """
    placement.check(threads)
    if crew is None and not placement.distributed:
        yield in_process(method, threads)
        return
    shards = _shards_travel(method, placement)
    size = placement.count()
    alone = not (_on_a_cluster(placement) or placement.gpus_per_worker)
    if crew is None and size is None and alone:
        why_not = _stay(method, cancelled)
        emit(Event(NOTE, {"text": why_not or f"evaluations go to {_cores()} workers"}))
        if why_not:
            yield in_process(method, None)
            return
    from zoo.runtime.distributed.crew import Crew as NewCrew
    from zoo.runtime.distributed.evaluations import EvaluationHost
    from zoo.runtime.distributed.shards import RayHost

    with ExitStack() as undo:
        of_shards = getattr(method, "places", ())
        places = sorted({place for place in of_shards if place})
        if crew is None:
            most = method.shards if shards else None
            anywhere = sum(not place for place in of_shards)
            crew = undo.enter_context(NewCrew(placement, most, places, anywhere))
            doubts = _doubts(method, crew) if crew.local else []
            for text in [*_idle(method, size or crew.size, shards), *doubts]:
                emit(Event(NOTE, {"text": text}))
        elif not set(places) <= set(crew.places):
            raise InputError(
                f"these workers are not at the places {', '.join(places)}: "
                "zoo.workers(places=...) starts others"
            )
        undo.enter_context(crew.serving(emit))
        host: Any = (RayHost if shards else EvaluationHost)(crew)
        try:
            yield host
        finally:
            if counts is not None:
                counts.update(host.counts)
                counts["workers"] = len(crew.live())


def in_process(method: Method, threads: int | None) -> Host:
    """Pick threads where evaluations may run at once, else the calling thread."""
    problem = method.problem
    concurrent = method.concurrent and (problem is None or problem.objective.concurrent)
    if threads == 1 or not concurrent:
        return InlineHost()
    return ThreadsHost(threads)


def _shards_travel(method: Method, placement: Placement) -> bool:
    """Whether shards go to the workers, or only the evaluations of their points."""
    if method.problem is None:
        if placement.distribute == "evaluations":
            raise InputError("this method has no evaluations to distribute: it must be shards")
        return True
    if placement.distribute != "auto":
        return placement.distribute == "shards"
    return method.resident and _compiled(method)


def _compiled(method: Method) -> bool:
    """Whether all the work is compiled."""
    if method.problem is None:
        return method.concurrent
    return isinstance(method.problem.objective, CompiledObjective)


def _idle(method: Method, wanted: int, travel: bool) -> list[str]:
    """Why some of the workers wanted have nothing to do, and what to do about it."""
    shards = method.shards
    batched = method.problem is not None and getattr(method.problem.objective, "batched", False)
    if wanted <= shards or not (travel or batched):
        return []
    what = f"the population is {shards} shards" if shards > 1 else "the population is one shard"
    blocks = "" if travel else ", and a batched objective takes a shard's points at once"
    hint = f"--shards {wanted} would use {wanted}"
    if not method.resident and method.problem is not None:
        hint = "--distribute evaluations would use them" if travel else "it needs no others"
    few = f"{shards} workers have" if shards > 1 else "one worker has"
    return [f"{what}{blocks}: only {few} work to do ({hint})"]


def _doubts(method: Method, crew: Crew) -> list[str]:
    """Reasons for which workers on this machine alone may not help."""
    cores, doubts = _cores(), []
    if _compiled(method) and not crew.placement.gpus_per_worker:
        doubts.append(
            f"compiled work runs as fast on the {cores} threads of one process, without "
            "workers; they are for clusters"
        )
    each = crew.placement.cpus_per_worker
    if crew.size * each > cores:
        doubts.append(f"{crew.size} workers of {each:g} CPU share {cores} cores")
    return doubts


def _on_a_cluster(placement: Placement) -> bool:
    if placement.ray_address or os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _stay(method: Method, cancelled: Callable[[], bool]) -> str:
    """Why workers on this machine would not help; empty if they would."""
    cores = _cores()
    if cores == 1:
        return "one core: the run stays in its own process"
    problem = method.problem
    objective = None if problem is None else problem.objective
    if problem is None and not method.concurrent:
        return (
            "the run stays in its own process, for what its evaluations take is not known: "
            "--workers N sends its shards to N others"
        )
    if problem is None or not isinstance(objective, PythonObjective):
        return f"{cores} threads of this process do it: workers would add nothing on one machine"
    try:
        each = _seconds_each(objective, problem, cancelled)
    except InputError as error:  # it cannot travel
        return f"the run stays in its own process: {error}"
    if each >= _WORTH_SENDING:
        return ""
    return (
        f"an evaluation takes {each * 1e3:.3g} ms: the run stays in its own process, for sending "
        "one to another takes longer"
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _seconds_each(
    objective: PythonObjective, problem: Problem, cancelled: Callable[[], bool]
) -> float:
    """Measured seconds of an evaluation, in the middle of the box."""
    from zoo.runtime.isolation import IsolatedObjective

    point = 0.5 * (problem.lower + problem.upper)[None]
    trial = IsolatedObjective(
        PythonObjective(objective.function, objective.batched, "penalize", objective.args),
        timeout=_TRIAL,
        retries=0,
    )
    least = math.inf
    try:
        for _ in range(4):  # the first has much to load
            started = time.perf_counter()
            trial.evaluate(point, cancelled)
            took = time.perf_counter() - started
            least = min(least, took)
            if took > _LONG:
                break
        return least
    finally:
        trial.close()
