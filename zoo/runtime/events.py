"""The one stream of events of a run; progress, logs and history are its listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STARTED, PROGRESS, IMPROVED, SNAPSHOT, FINISHED = (
    "started",
    "progress",
    "improved",
    "snapshot",
    "finished",
)


@dataclass(frozen=True)
class Event:
    """Something that happened in a run: one of the kinds above, and what goes with it."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
