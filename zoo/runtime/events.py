"""The one stream of events of a run; progress, logs and history are its listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STARTED, PROGRESS, IMPROVED, SNAPSHOT, FINISHED, NOTE = (
    "started",
    "progress",
    "improved",
    "snapshot",
    "finished",
    "note",  # one line for people, as text
)

#: Of workers: ready to work, gone, and their shards brought up to date elsewhere.
JOINED, LOST, REPLAYED = WORKER_EVENTS = ("joined", "lost", "replayed")


@dataclass(frozen=True)
class Event:
    """Something that happened in a run: one of the kinds above, and what goes with it."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
