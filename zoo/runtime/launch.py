"""A run from what has been prepared to its result: host, loop, run folder, what it had found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import InputError, Interrupted, ObjectiveError
from zoo.problem import never
from zoo.runtime.choice import hosted
from zoo.runtime.distributed.placement import Placement
from zoo.runtime.events import LOST, PROGRESS, REPLAYED, Event, Listener
from zoo.runtime.folder import PARTIAL, RunFolder, Snapshot
from zoo.runtime.isolation import IsolatedObjective
from zoo.runtime.loop import run
from zoo.runtime.protocol import Method


@dataclass(frozen=True)
class Prepared:
    """A run that can be launched: its input has been checked.

    Attributes
    ----------
    method : Method
    head : mapping
        First fields of the result: the method's name, and what it works on.
    described : mapping
        Content of the run folder's config.json, from which it can be prepared again.
    seed : int
    seconds : float, optional
        Budget of wall-clock time.
    warnings, notes : sequence of str
        For people, before it starts.
    folder : str, optional
        Run folder, if the method wants one whether or not it is asked for.
    complete : callable
        Takes the fields of the result, and the run folder if there is one, once the run has ended;
        returns the fields to be kept.
    minimum : float, optional
        Known minimum of a test function.
    """

    method: Method
    head: Mapping[str, Any]
    described: Mapping[str, Any]
    seed: int
    seconds: float | None = None
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    folder: str | None = None
    complete: Callable[[dict[str, Any], Path | None], dict[str, Any]] = field(
        default=lambda fields, folder: fields
    )
    minimum: float | None = None


def optimize_result(fields: Mapping[str, Any]) -> Any:
    """Result fields as a ``scipy.optimize.OptimizeResult``."""
    from scipy.optimize import OptimizeResult

    return OptimizeResult(fields)


def taken_up(folder: RunFolder) -> Snapshot | None:
    """Lock the folder of an interrupted run, and bring its history to its snapshot, if any."""
    folder.lock()
    try:
        snapshot = folder.snapshot()
        folder.rewind(snapshot.rows if snapshot else 0)
    except BaseException:
        folder.unlock()
        raise
    return snapshot


def begun(prepared: Prepared, path: Any = None, **how: Any) -> Any:
    """Launch a run, in a new run folder if a path is given; ``how`` is as :func:`launch` has it."""
    folder = None
    if path is not None:
        folder = RunFolder(path)
        folder.create(prepared.described)
    return launch(prepared, folder=folder, **how)


def launch(
    prepared: Prepared,
    *,
    threads: int | None = None,
    placement: Placement = Placement(),  # noqa: B008 (frozen)
    crew: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (),
    folder: RunFolder | None = None,
    snapshot: Snapshot | None = None,
    cancelled: Callable[[], bool] = never,
) -> Any:
    """Run to the end, from a snapshot if one is given; returns the OptimizeResult."""
    method = prepared.method
    objective = None if method.problem is None else method.problem.objective
    elapsed = spent = snapshot.seconds if snapshot else 0.0
    if snapshot is not None:
        method.restore(snapshot.method)

    def call(event: Event) -> None:
        nonlocal elapsed
        if event.kind == PROGRESS:
            elapsed = event.data["seconds"]
        if event.kind != PROGRESS or callback is None:
            return
        try:
            if callback(event.data["progress"]):
                method.stop("callback")
        except StopIteration:
            method.stop("callback")

    counts: Counter[str] = Counter()
    heard = [*([folder.listen] if folder else []), call, *listeners]

    def emit(event: Event) -> None:
        counts[event.kind] += event.kind in (LOST, REPLAYED)
        for listener in heard:
            listener(event)

    def fields(elapsed: float) -> dict[str, Any]:
        found = {**prepared.head, **method.result(), "seed": prepared.seed, "seconds": elapsed}
        failures = {} if objective is None else objective.failures
        for name, counted in (("failures", failures), ("workers", +counts)):
            if counted:
                found[name] = dict(counted)
        return found

    try:
        if threads is not None and (isinstance(threads, bool) or threads < 1):
            raise InputError(f"threads must be a whole number >= 1, got {threads!r}")
        with hosted(
            method,
            placement,
            threads=threads,
            crew=crew,
            emit=emit,
            counts=counts,
            cancelled=cancelled,
        ) as host:
            elapsed = run(
                method,
                host,
                seconds=prepared.seconds,
                listeners=heard,
                snapshots=folder,
                resumed=snapshot.shards if snapshot else None,
                spent=spent,
                cancelled=cancelled,
            )
    except InputError:
        if folder is not None:
            folder.discard()  # nothing has been run: the same command may be given again
        raise
    except (Interrupted, ObjectiveError) as error:
        if math.isfinite(method.progress().best):
            why = "interrupted" if isinstance(error, Interrupted) else str(error)
            partial = fields(elapsed) | {"message": why}
            error.result = optimize_result(partial)
            if folder is not None:
                folder.finish(partial, PARTIAL)
        raise
    else:
        result = prepared.complete(fields(elapsed), None if folder is None else folder.path)
        if folder is not None:
            folder.finish(result)
        return optimize_result(result)
    finally:
        if isinstance(objective, IsolatedObjective):
            objective.close()
        if folder is not None:
            folder.unlock()
