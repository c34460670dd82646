"""What travels between the server and its clients, and how it is counted.

Nothing else does: a client's values and points stay with it, but for those that its algorithm
names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Task:
    """What the server asks of clients.

    Attributes
    ----------
    kind : str
        Name of the exchange.
    round : int
    arrays : mapping of arrays
        All numbers that travel.
    """

    kind: str
    round: int
    arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Message:
    """A task, and the clients that it is for."""

    task: Task
    clients: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A client's answer.

    Attributes
    ----------
    arrays : mapping of arrays, or None
        None if it is absent, for this reason.
    queries : int
        All that it has made, by its ledger.
    reason : str
    """

    arrays: Arrays | None
    queries: int
    reason: str = ""


def size_of(arrays: Arrays) -> int:
    """Bytes of numbers."""
    return sum(array.nbytes for array in arrays.values())


def weighted(replies: Mapping[int, Arrays], weights: Array, name: str) -> Any:
    """Weighted mean of what clients answered, the weights scaled to those who did."""
    who = sorted(replies)
    share = weights[who] / weights[who].sum()
    total = share[0] * replies[who[0]][name]
    for part, client in zip(share[1:], who[1:], strict=True):
        total = total + part * replies[client][name]
    return total
