"""The two sides of an algorithm: the server's, and each client's.

task = server.ask(round, clients)
repeat:   replies = {client: local.answer(task)}         # of those who take part
          server.tell(replies)
          task = server.ask(round, clients)
until     server.between                                 # the round is over
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zoo.fzoos.exchange import Arrays, Task
from zoo.runtime.protocol import State

Array = npt.NDArray[np.float64]


class Local(Protocol):
    """A client's side."""

    def answer(self, task: Task) -> dict[str, Array]:
        """Do a task.

        Raises
        ------
        NoValue
            If the client has nothing to say.
        """
        ...

    def state(self) -> State:
        """Everything that an answer changes, but for the ledger."""
        ...

    def restore(self, state: State) -> None:
        """Take up a state."""
        ...


class Server(Protocol):
    """The server's side.

    Attributes
    ----------
    x : (d,)
        Iterate, in the unit box.
    fun : float
        Mean of the clients' values there, as they told it; NaN before.
    between : bool
        Whether a round is over, and the next one may have other clients.
    """

    x: Array
    fun: float
    between: bool

    def ask(self, round: int, clients: Sequence[int]) -> Task:
        """What these clients are to do next."""
        ...

    def tell(self, round: int, replies: Mapping[int, Arrays]) -> None:
        """Take in what they answered, one or more."""
        ...

    def void(self) -> None:
        """Too few have answered: the round ends, and changes nothing."""
        ...

    def state(self) -> State:
        """Everything that changes."""
        ...

    def restore(self, state: State) -> None:
        """Take up a state."""
        ...
