"""Test problems that are split between clients, who differ by as much as one likes.

quadratic (FZooS, section 6.1), with z in [-10, 10]^d and, for every coordinate j, a_.j and b_.j
drawn from the Dirichlet distribution of parameters 1/N, so that they sum to one:

    f_i = 1/(10 d) (sum_j s_j ([1 + C (a_ij - 1/N)] z_j^2 + [1 + C (b_ij - 1/N)] z_j) + 1)

with s = 1 in the paper, from 1 down to 1/condition here; z may be rotated. Of any other function
the clients have f_i = f + 1/(10 d) sum_j C ((a_ij - 1/N) z_j^2 + (b_ij - 1/N) z_j), z being x in
units of its box. What is added sums to zero: the mean of the clients is the same for every C.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.fzoos.client import Client
from zoo.fzoos.config import FederatedProblem
from zoo.jit import kernel
from zoo.objectives import registry
from zoo.objectives.load import named, rotation_matrix
from zoo.problem import CompiledObjective, as_bounds, never

Array = npt.NDArray[np.float64]

QUADRATIC = "quadratic"


@kernel
def _quadratics(z, squares, lines, out):
    """Add sum_j squares_j z_ij^2 + lines_j z_ij to out_i."""
    for i in range(len(z)):
        total = 0.0
        for j in range(z.shape[1]):
            total += (squares[j] * z[i, j] + lines[j]) * z[i, j]
        out[i] += total


@dataclass
class Part:
    """A client's function; see :class:`zoo.problem.Objective`.

    Attributes
    ----------
    base : str, optional
        Test function that it is added to.
    squares, lines : (d,)
        Factors of z^2 and z.
    constant : float
    lower, upper : (d,)
        Of the box that z = -10 .. 10 stands for.
    rotation : (d, d), or (0, 0) for none
    """

    base: str | None
    squares: Array
    lines: Array
    constant: float
    lower: Array
    upper: Array
    rotation: Array
    concurrent: bool = field(default=True, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)
    isolable: bool = field(default=False, init=False)  # compiled, and bounded in time

    @cached_property
    def _base(self) -> CompiledObjective:
        assert self.base is not None
        return CompiledObjective(registry.get(self.base).function())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_base"}

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """See :class:`zoo.problem.Objective`."""
        z = 20.0 * ((x - self.lower) / (self.upper - self.lower)) - 10.0
        if len(self.rotation):
            z = np.ascontiguousarray(np.einsum("ij,kj->ik", z, self.rotation))
        values = np.full(len(x), self.constant)
        if self.base is not None:
            values += self._base.evaluate(x, cancelled)
        _quadratics(z, self.squares, self.lines, values)
        return values


@dataclass(frozen=True, eq=False)
class Federated:
    """Clients, and what they share.

    Attributes
    ----------
    clients : tuple of Client
    lower, upper : (d,)
    name : str
    whole : callable, optional
        Their mean, of points (m, d), if it is known; noise is not in it.
    minimum : float, optional
        Its lowest value.
    noise : float
        Standard deviation of what is added to every value.
    """

    clients: tuple[Client, ...]
    lower: Array
    upper: Array
    name: str
    whole: Callable[[Array], Array] | None = None
    minimum: float | None = None
    noise: float = 0.0

    @property
    def weights(self) -> Array:
        """Weights (N,), of the sum 1."""
        weights = np.array([client.weight for client in self.clients], np.float64)
        return np.asarray(weights / weights.sum())


def problem_of(given: FederatedProblem, seed: int) -> Federated:
    """Clients that a command asks for.

    Raises
    ------
    InputError
        If there are no such.
    """
    if ":" in given.objective:
        return _own(given)
    name = given.objective.strip().lower().replace("_", "-")
    if name != QUADRATIC:
        base = registry.get(name)
        if base.dim is not None:
            raise InputError(f"{name} has dimension {base.dim}: take one of any dimension")
        base.check_dim(given.dim)
        for option in ("condition", "rotate"):
            if getattr(given, option) != getattr(FederatedProblem, option):
                raise InputError(f"{option} is for quadratic")
    return split(given, seed if given.instance is None else given.instance)


def split(given: FederatedProblem, instance: int) -> Federated:
    """Test problem split between clients."""
    d, n = given.dim, given.clients
    name = given.objective.strip().lower().replace("_", "-")
    random = np.random.Generator(np.random.Philox(key=np.array([instance, 2**63], np.uint64)))
    shares = [random.dirichlet(np.full(n, 1.0 / n), d) for _ in range(2)]  # a and b, (d, N)
    differs = [given.heterogeneity * (share.T - 1.0 / n) for share in shares]
    if name == QUADRATIC:
        scale = given.condition ** (-np.arange(d) / max(1, d - 1)) / (10.0 * d)
        lower, upper = np.full(d, -10.0), np.full(d, 10.0)
        base, constant = None, 1.0 / (10.0 * d)
        common, minimum = scale, constant - 0.25 * scale.sum()
    else:
        function = registry.get(name)
        scale = np.full(d, 1.0 / (10.0 * d))
        lower, upper = function.bounds(d)
        base, constant = name, 0.0
        common, minimum = np.zeros(d), function.minimum(d)
    rotation = rotation_matrix(d, instance) if given.rotate else np.empty((0, 0))

    def part(square: Array, line: Array) -> Part:
        return Part(base, square, line, constant, lower, upper, rotation)

    parts = [part(common + scale * differs[0][i], common + scale * differs[1][i]) for i in range(n)]
    clients = tuple(Client(one) for one in parts)
    whole = part(common, common).evaluate
    return Federated(clients, lower, upper, name, whole, minimum, given.noise)


def federation(clients: Any, bounds: Any = None, name: str = "clients") -> Federated:
    """Clients of a caller, in the order of their names if they have any.

    Raises
    ------
    InputError
        If they do not fit each other.
    """
    try:
        held = tuple(clients)
    except TypeError:
        raise InputError(f"clients must be a list of zoo.Client, got {clients!r}") from None
    if not held or not all(isinstance(client, Client) for client in held):
        raise InputError("clients must be a list of zoo.Client, of one or more")
    names = [client.name for client in held if client.name]
    if len(set(names)) < len(names) or len(names) not in (0, len(held)):
        raise InputError("clients must have different names, all of them or none")
    held = tuple(sorted(held, key=lambda client: client.name))
    boxes = [as_bounds(client.bounds) for client in held if client.bounds is not None]
    if bounds is not None:
        boxes.append(as_bounds(bounds))
    if not boxes:
        raise InputError("bounds are needed, of the clients or of all")
    lower, upper = boxes[0]
    if any(not (np.array_equal(lower, a) and np.array_equal(upper, b)) for a, b in boxes):
        raise InputError("the clients must have the same bounds")
    return Federated(held, lower, upper, name)


def _own(given: FederatedProblem) -> Federated:
    """Clients that a file or a module of the user's has."""
    for option in ("dim", "clients", "heterogeneity", "condition", "rotate", "noise", "instance"):
        if getattr(given, option) != getattr(FederatedProblem, option):
            raise InputError(f"{option} is for test problems, and {given.objective} has its own")
    found = named(given.objective)
    if callable(found) and not isinstance(found, Client):
        found = found()
    where, _, name = given.objective.rpartition(":")
    return federation(found, name=f"{where.rsplit('/', 1)[-1]}:{name}")
