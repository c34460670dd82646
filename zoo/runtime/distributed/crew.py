"""A crew of workers: Ray actors, watched, and replaced when they die.

Ray's own restarts give up when a node is lost although another has joined, so the crew starts new
actors itself, wherever Ray then has room for them.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import zoo
from zoo.config import build
from zoo.errors import InputError, Interrupted, RunError
from zoo.problem import never
from zoo.runtime.distributed.connection import connect
from zoo.runtime.distributed.placement import Placement
from zoo.runtime.events import JOINED, LOST, NOTE, Event

#: Seconds to wait for all workers before starting with those that there are.
_PATIENCE = 10.0
#: Seconds without a worker at a place that are too many.
DESERTED = 600.0
#: Workers that may die in a row before they were ready, and as many as there are to be.
_STILLBORN = 10
#: Of its place's resource, a worker takes so much.
_PRESENCE = 1e-3
#: Seconds between two looks at what is going on, while waiting.
_LOOK = 0.1


@dataclass
class Member:
    """One worker's place in the crew."""

    place: str = ""  # the resource that its node has
    actor: Any = None  # None: not started yet
    hello: Any = None  # the reference to its first answer, until that has come
    info: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Process and machine."""
        return f"{self.info['pid']}@{self.info['host']}" if self.info else "a worker"


class Crew:
    """Workers of one or many runs.

    Attributes
    ----------
    size : int
        Workers wanted.
    placement : Placement
    emit : callable
        Called with each event: JOINED, LOST, NOTE.

    Parameters
    ----------
    placement : Placement
    most : int, optional
        Workers that can be of use.
    places : sequence of str
        Resources of nodes, of each of which there is to be a worker.
    anywhere : int
        Workers that can be of use besides. They are started once those of places are there: Ray
        may give them the only room on a node that has a place.
    """

    def __init__(
        self,
        placement: Placement,
        most: int | None = None,
        places: Sequence[str] = (),
        anywhere: int = 0,
    ) -> None:
        import ray

        placement.check()
        self.placement, self.places, self._anywhere = placement, tuple(places), anywhere > 0
        self.closed = False
        self.emit: Callable[[Event], None] = _unheard
        self._ray = ray
        self._calls = 0
        self._stillborn = 0
        self._use = threading.Lock()
        self._started = 0.0  # when a worker was started last
        self._alone: float | None = None  # since when no worker is ready
        self._told = False  # that it has been so for long
        self._short = False  # it has been waited for all of them, in vain
        here = len(os.sched_getaffinity(0))
        wanted = min(placement.count() or 0, most or 100_000)
        self._connection = connect(
            placement.ray_address,
            cpus=max(here, wanted * placement.cpus_per_worker),
            working_dir=placement.working_dir,
        )
        self.members: list[Member] = []
        try:
            useful = anywhere if self.places else most or 100_000
            self.size = wanted or len(self.places) + min(self._room(), useful)
            self._refuse_missing_gpus()
            self._refuse_missing_places()
            from zoo.runtime.distributed.worker import CONTROL, Worker, environment

            self._threads = max(1, int(placement.cpus_per_worker))
            self._around = ray.put(environment(placement.working_dir))
            remote: Any = ray.remote  # its types know no groups
            self._options = {
                "num_cpus": placement.cpus_per_worker,
                "num_gpus": placement.gpus_per_worker,
                "max_restarts": 0,
                "max_task_retries": 0,
                "scheduling_strategy": "SPREAD",
            }
            self._class: Any = remote(concurrency_groups={CONTROL: 1})(Worker)
            self.members = [Member(self._place_of(k)) for k in range(self.size)]
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers go, and the Ray that was started for them."""
        if self.closed:
            return
        self.closed = True
        for member in self.members:
            self._kill(member)
        self.members = []
        self._connection.end()

    @contextmanager
    def serving(self, emit: Callable[[Event], None]) -> Iterator[None]:
        """Serve a run, whose events go to ``emit``.

        Raises
        ------
        InputError
            If they are closed, or serve another run.
        """
        if self.closed:
            raise InputError("these workers have been closed: zoo.workers() starts others")
        if not self._use.acquire(blocking=False):
            raise InputError("these workers serve another run: zoo.workers() starts others")
        self.emit = emit
        try:
            for k in self.live():
                self._introduce(k)
            yield
        finally:
            self.emit = _unheard
            self._use.release()

    def live(self) -> list[int]:
        """Numbers of the workers that are ready."""
        return [k for k, member in enumerate(self.members) if member.info is not None]

    def suited(self, numbers: Iterable[int], place: str) -> list[int]:
        """Those of some workers that are at a place; without one, rather those without."""
        held = list(numbers)
        there = [k for k in held if self.members[k].place == place]
        return there or ([] if place else held)

    def call(self, k: int, method: str, *arguments: Any) -> tuple[Any, int]:
        """Call worker ``k``; returns the reference to its reply, and the number of the call."""
        self._calls += 1
        return getattr(self.members[k].actor, method).remote(self._calls, *arguments), self._calls

    def tell(self, k: int, method: str, *arguments: Any) -> None:
        """Call worker ``k`` for no reply."""
        actor = self.members[k].actor
        if actor is not None and not self._connection.gone:
            getattr(actor, method).remote(*arguments)

    def wait(self, references: list[Any], seconds: float = _LOOK) -> list[Any]:
        """Those of the references that are there within some seconds; the first ones to be.

        Raises
        ------
        RunError
            If Ray is gone.
        """
        self._connection.check()
        return list(self._ray.wait(references, num_returns=1, timeout=seconds)[0])

    def get(self, reference: Any) -> Any:
        """Reply behind a reference that is there.

        Raises
        ------
        WorkerLost
            If the worker died, or its node.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError:
            raise  # a fault of ours
        except errors.RayError as error:
            raise WorkerLost(_why(error)) from None

    def put(self, value: Any) -> Any:
        """Reference to a value, stored once for all workers."""
        return self._ray.put(value)

    def lose(self, k: int, why: str, shards: list[int] | None = None) -> None:
        """Take worker ``k`` for dead, and start another in its place."""
        member = self.members[k]
        self.emit(
            Event(LOST, {"worker": k, "name": member.name, "why": why, "shards": shards or []})
        )
        self.replace(k)

    def replace(self, k: int) -> None:
        """Start another worker in the place of ``k``."""
        place = self.members[k].place
        for other, member in enumerate(self.members):
            # One without a place that is not ready may wait for room, and take that of this one.
            if other == k or (place and not member.place and member.info is None):
                self._kill(member)
                self.members[other] = Member(member.place)
        self._start()

    def joined(self, seconds: float = 0.0) -> list[int]:
        """Numbers of the workers that have become ready, within some seconds.

        Raises
        ------
        RunError
            If a worker cannot work for us, or none comes to a place.
        """
        waiting = {
            member.hello: k for k, member in enumerate(self.members) if member.hello is not None
        }
        if not waiting:
            return []
        self._complain()
        ready = []
        for reference in self.wait(list(waiting), seconds):
            k = waiting[reference]
            if self.members[k].hello is not reference:  # replaced meanwhile
                continue
            try:
                info = self.get(reference)
            except WorkerLost as error:
                self._stillborn += 1
                self._refuse_hopeless(str(error))
                self.replace(k)
                continue
            self._stillborn, self._alone, self._told = 0, None, False
            self._refuse_strangers(info)
            self.members[k].info, self.members[k].hello = info, None
            self._introduce(k)
            ready.append(k)
        self._start()
        return ready

    @property
    def local(self) -> bool:
        """Whether they are on this machine alone, for its Ray was started for them."""
        return self._connection.owned

    def _introduce(self, k: int) -> None:
        member = self.members[k]
        assert member.info is not None
        where = {name: member.info[name] for name in ("pid", "host", "node")}
        self.emit(Event(JOINED, {"worker": k, "name": member.name, **where}))

    def gather(self, cancelled: Callable[[], bool] = never) -> None:
        """Wait until all workers are ready; or one is, and patience with the last ends.

        Raises
        ------
        Interrupted
            If ``cancelled`` turns true meanwhile.
        """
        started = time.monotonic()
        while len(self.live()) < self.size:
            if cancelled():
                raise Interrupted
            self.joined(0.0 if self._short and self.live() else _LOOK)
            waited = time.monotonic() - max(started, self._started)
            if self.live() and (self._short or waited > _PATIENCE):
                if not self._short:
                    self._short = True
                    text = f"{len(self.live())} of {self.size} workers are there: on with them"
                    self.emit(Event(NOTE, {"text": f"{text} ({self._offers()})"}))
                return

    def _complain(self) -> None:
        """Say what is missing, once, when no worker has been ready for long."""
        if self.live():
            return
        self._alone = self._alone or time.monotonic()
        waited = time.monotonic() - self._alone
        if waited > _PATIENCE and not self._told:
            self._told = True
            self.emit(Event(NOTE, {"text": f"waiting for room for a worker ({self._offers()})"}))
        if waited > DESERTED and any(member.actor is None for member in self.members):
            raise RunError(f"no worker at the places {', '.join(self.places)} for {DESERTED:g} s")

    def _place_of(self, k: int) -> str:
        if not self.places or (k >= len(self.places) and self._anywhere):
            return ""
        return self.places[k % len(self.places)]

    def _start(self) -> None:
        """Start those that are not; without a place once all of places are there."""
        placed = all(member.info is not None for member in self.members if member.place)
        for member in self.members:
            if member.actor is None and (placed or member.place):
                resources = {member.place: _PRESENCE} if member.place else {}
                actor = self._class.options(**self._options, resources=resources)
                member.actor = actor.remote(self._threads, self._around)
                member.hello = member.actor.hello.remote()
                self._started = time.monotonic()

    def _kill(self, member: Member) -> None:
        if member.actor is None:
            return
        with contextlib.suppress(Exception):
            self._ray.kill(member.actor)

    def _room(self) -> int:
        """Workers that the cluster has room for now."""
        offers = self._ray.cluster_resources()
        room = offers.get("CPU", 1.0) / self.placement.cpus_per_worker
        if self.placement.gpus_per_worker:
            room = min(room, offers.get("GPU", 0.0) / self.placement.gpus_per_worker)
        return max(1, math.floor(room))

    def _offers(self) -> str:
        cpus, gpus = self.placement.cpus_per_worker, self.placement.gpus_per_worker
        resources = self._ray.cluster_resources()
        free = self._ray.available_resources()
        wanted, there = [f"{cpus:g} CPU"], [_of(free, resources, "CPU")]
        if gpus:
            wanted.append(f"{gpus:g} GPU")
            there.append(_of(free, resources, "GPU"))
        missing = [place for place in self.places if place not in resources]
        if missing:
            there.append(f"no node with the resource {' or '.join(missing)}")
        return f"one asks for {' and '.join(wanted)}; free in the cluster: {' and '.join(there)}"

    def _refuse_missing_gpus(self) -> None:
        """A cluster may grow; what this machine has is all there is."""
        wanted = self.size * self.placement.gpus_per_worker
        there = self._ray.cluster_resources().get("GPU", 0.0)
        if self.local and wanted > there:
            many = "a worker" if self.size == 1 else f"{self.size} workers"
            raise InputError(
                f"gpus_per_worker {self.placement.gpus_per_worker:g} for {many} is {wanted:g} "
                f"GPUs, and this machine has {there:g}"
            )

    def _refuse_missing_places(self) -> None:
        """A cluster may grow; the nodes of one that we have started do not have any."""
        if self.size < len(self.places):
            raise InputError(
                f"clients have {len(self.places)} places ({', '.join(self.places)}), and workers "
                f"is {self.size}: leave it out, or take as many"
            )
        missing = [place for place in self.places if place not in self._ray.cluster_resources()]
        if missing and self.local:
            raise InputError(
                f"no node has the resource {missing[0]!r}: places are for a cluster, whose nodes "
                f"are started with them (ray start --resources='{{\"{missing[0]}\": 1}}')"
            )

    def _refuse_hopeless(self, why: str) -> None:
        if self._stillborn > _STILLBORN + self.size:
            raise RunError(f"workers die as they start, the last of them so: {why}")
        if "No module named" in why or "ModuleNotFoundError" in why or "ImportError" in why:
            raise RunError(
                "zoo cannot be imported by the workers: install it on every node, or submit the "
                f"run as a job with a runtime environment that does ({why})"
            )

    def _refuse_strangers(self, info: dict[str, Any]) -> None:
        from zoo.jit import source_digest

        if info["sources"] != source_digest():
            raise RunError(
                f"the worker on {info['host']} has another version of zoo, {info['zoo']}, than "
                f"{zoo.__file__}: install the same one on every node"
            )


class WorkerLost(Exception):
    """A worker died, or its node; the message says how."""


def _why(error: Exception) -> str:
    """What Ray says of a death, in a line."""
    text = " ".join(str(error).split())
    for sign, said in (
        ("ModuleNotFoundError", text[text.find("ModuleNotFoundError") :][:200]),
        ("node has died", "its node was lost"),
        ("node was terminated", "its node was lost"),
        ("worker process has died", "its process died"),
    ):
        if sign in text:
            return said
    kinds = {
        "OutOfMemoryError": "out of memory",
        "NodeDiedError": "its node was lost",
        "ActorUnavailableError": "it cannot be reached",
    }
    name = type(error).__name__
    return kinds.get(name, f"{name}: {text[:300]}")


def _of(free: dict[str, float], resources: dict[str, float], kind: str) -> str:
    return f"{free.get(kind, 0.0):g} of {resources.get(kind, 0.0):g} {kind}s"


def times(number: int) -> str:
    """A number of times in words."""
    return "once" if number == 1 else f"{number} times"


def _unheard(event: Event) -> None:
    """No one listens."""


def workers(
    number: int | str = "auto", *, places: Sequence[str] = (), **placement: Any
) -> Crew:  # fmt: skip
    """Start workers that serve many runs: a context manager, for ``minimize(workers=...)``.

    Parameters
    ----------
    number : int or "auto"
        How many; by default as many as the machine, or the cluster, has room for.
    places : sequence of str
        Those of the clients to be served; see :class:`zoo.Client`.
    **placement
        Of :class:`zoo.runtime.distributed.placement.Placement`: ``ray_address``,
        ``cpus_per_worker``, ``gpus_per_worker``, ``respawns``, ``distribute``, ``working_dir``.

    Examples
    --------
    >>> import zoo
    >>> with zoo.workers(2) as crew:  # doctest: +SKIP
    ...     for seed in range(10):
    ...         zoo.minimize(f, bounds, seed=seed, workers=crew)
    """
    if isinstance(places, str):
        raise InputError(f"places must be a list of names, got {places!r}")
    return Crew(build(Placement, placement | {"workers": str(number)}), places=places)
