"""What is minimized: an objective, its bounds, and how it is evaluated."""

from __future__ import annotations

import numbers
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from zoo.errors import InputError, Interrupted, ObjectiveError

Array = np.ndarray[Any, np.dtype[np.float64]]

#: Kinds of failure that are tried again: a process that ends, that hangs, that says no number.
ATTEMPTS = ("crash", "timeout", "output")

_COUNTING = threading.Lock()  # of failures, by several threads

ON_ERROR = ("raise", "penalize")


def never() -> bool:
    """No one asks to stop."""
    return False


class Objective(Protocol):
    """A function to minimize, evaluated at rows of points.

    Attributes
    ----------
    concurrent : bool
        Whether rows may be evaluated on several threads at once with profit.
    failures : collections.Counter
        Evaluations that gave no value, by kind.
    last_error : str
        Why the last of them gave none.
    """

    concurrent: bool
    failures: Counter[str]
    last_error: str

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """Values (n,) at the rows of x (n, d); NaN where an evaluation failed and may.

        Raises
        ------
        ObjectiveError
            If an evaluation fails and must not.
        Interrupted
            If ``cancelled`` turns true meanwhile.
        """
        ...


def show_point(x: Array) -> str:
    """A point in one short line."""
    shown = ", ".join(f"{v:.6g}" for v in x[:8])
    return f"[{shown}{', ...' if len(x) > 8 else ''}]"


def as_value(returned: Any) -> float:
    """Accept what an objective returned as a number.

    Raises
    ------
    TypeError
        If it is no single real number.
    """
    if isinstance(returned, numbers.Real):
        return float(returned)
    if isinstance(returned, np.ndarray) and returned.size == 1 and returned.dtype.kind in "fiub":
        return float(returned.reshape(()))
    shape = f" of shape {returned.shape}" if isinstance(returned, np.ndarray) else ""
    raise TypeError(f"returned {type(returned).__name__}{shape}, not a number")


def _is_wrong_kind(error: BaseException) -> bool:
    """Whether the objective returned what is no value: a mistake that no policy forgives."""
    return isinstance(error, TypeError) and str(error).startswith("returned ")


def _where(error: BaseException) -> str:
    """File and line that raised an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""


@dataclass
class PythonObjective:
    """A Python callable ``f(x) -> float``, or, batched, ``f(x of (n, d)) -> (n,)``."""

    function: Callable[..., Any]
    batched: bool = False
    on_error: str = "raise"
    args: tuple[Any, ...] = ()
    concurrent: bool = field(default=False, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """See :class:`Objective`."""
        if self.batched:
            return self._evaluate_batch(x)
        values = np.empty(len(x))
        for i, point in enumerate(x):
            if cancelled():
                raise Interrupted
            try:
                values[i] = as_value(self.function(point.copy(), *self.args))
            except (Exception, SystemExit) as error:
                values[i] = self._failed(error, point)
        return values

    def _evaluate_batch(self, x: Array) -> Array:
        try:
            returned = np.asarray(self.function(x.copy(), *self.args))
            if returned.dtype.kind not in "fiub" or returned.size != len(x):
                raise TypeError(
                    f"returned {returned.dtype} of shape {returned.shape} for {len(x)} points, "
                    f"not ({len(x)},) numbers"
                )
            return returned.reshape(len(x)).astype(np.float64)
        except (Exception, SystemExit) as error:
            if len(x) == 1 or _is_wrong_kind(error):
                return np.array([self._failed(error, x[0])])
            # One by one, to find which point it was.
            return np.concatenate([self._evaluate_batch(x[i : i + 1]) for i in range(len(x))])

    def _failed(self, error: BaseException, point: Array) -> float:
        wrong_kind = _is_wrong_kind(error)
        if isinstance(error, SystemExit):  # it means to end more than this evaluation
            exits = f"the objective exits (SystemExit: {error.code}), at x = {show_point(point)}"
            raise ObjectiveError(exits, point) from error
        if self.on_error == "penalize" and not wrong_kind:
            self.failures[type(error).__name__] += 1
            self.last_error = f"{type(error).__name__}: {error}"
            return float("nan")
        what = (
            str(error) if wrong_kind else f"raised {type(error).__name__}: {error}{_where(error)}"
        )
        raise ObjectiveError(f"the objective {what}, at x = {show_point(point)}", point) from error


@dataclass
class CompiledObjective:
    """A Numba-compiled scalar objective, optionally of rotation (x - shift) + anchor.

    Attributes
    ----------
    dispatcher : numba dispatcher
        Compiled ``f(x: float64[::1]) -> float``.
    shift, anchor : (d,) float64, or empty for none
    rotation : (d, d) float64, or empty (0, 0) for none
    """

    dispatcher: Any
    shift: Array = field(default_factory=lambda: np.empty(0))
    rotation: Array = field(default_factory=lambda: np.empty((0, 0)))
    anchor: Array = field(default_factory=lambda: np.empty(0))
    on_error: str = "raise"
    concurrent: bool = field(default=True, init=False)
    failures: Counter[str] = field(default_factory=Counter, init=False)
    last_error: str = field(default="", init=False)

    @property
    def pure(self) -> bool:
        """Whether it is known not to write on its argument."""
        return bool(self.dispatcher.py_func.__module__ == "zoo.objectives.functions")

    def target(self) -> Any:
        """Address and transformation, as kernels take them."""
        from zoo.evaluate import Target
        from zoo.jit import address

        try:
            place = self.shift, self.rotation, self.anchor
            return Target(address(self.dispatcher), *place, self.pure)
        except TypeError as error:
            raise InputError(str(error)) from error

    def evaluate(self, x: Array, cancelled: Callable[[], bool] = never) -> Array:
        """See :class:`Objective`."""
        from zoo.evaluate import evaluate_rows

        target = self.target()
        x = np.ascontiguousarray(x)
        values = np.empty(len(x))
        try:
            evaluate_rows(target, x, values)
        except Exception:
            return self._one_by_one(x)
        return values

    def _one_by_one(self, x: Array) -> Array:
        from zoo.evaluate import evaluate_rows

        target = self.target()
        values = np.empty(len(x))
        for i in range(len(x)):
            try:
                evaluate_rows(target, x[i : i + 1], values[i : i + 1])
            except Exception as error:
                if self.on_error != "penalize":
                    raise ObjectiveError(
                        f"the objective raised {type(error).__name__}: {error}, "
                        f"at x = {show_point(x[i])}",
                        x[i],
                    ) from error
                with _COUNTING:
                    self.failures[type(error).__name__] += 1
                    self.last_error = f"{type(error).__name__}: {error}"
                values[i] = np.nan
        return values


@dataclass(frozen=True)
class Problem:
    """An objective over a box.

    Attributes
    ----------
    objective : Objective
    lower, upper : (d,) float64
        Bounds, finite.
    name : str
    minimum : float or None
        Known lowest value.
    minimizer : (d,) float64 or None
        Known point of it.

    Raises
    ------
    InputError
        If the objective is not callable, or the bounds cannot be used.
    """

    objective: Objective
    lower: Array
    upper: Array
    name: str = "objective"
    minimum: float | None = None
    minimizer: Array | None = None

    def __post_init__(self) -> None:
        lower, upper = as_bounds(Box(self.lower, self.upper))
        object.__setattr__(self, "objective", as_objective(self.objective))
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return len(self.lower)


class Box(NamedTuple):
    """Bounds in the form of ``scipy.optimize.Bounds``."""

    lb: Any
    ub: Any


def as_bounds(bounds: Any, dimension: int | None = None) -> tuple[Array, Array]:
    """Lower and upper bounds (d,) from (lo, hi), d pairs, or a ``scipy.optimize.Bounds``.

    Raises
    ------
    InputError
        If they are upside down, infinite or not of one dimension.
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        try:
            lower, upper = np.broadcast_arrays(
                np.asarray(bounds.lb, np.float64), np.asarray(bounds.ub, np.float64)
            )
        except (TypeError, ValueError):
            raise InputError(f"bounds must be pairs of numbers, got {bounds!r}") from None
        pairs = np.stack([np.atleast_1d(lower), np.atleast_1d(upper)], axis=1)
    else:
        try:
            pairs = np.asarray(bounds, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"bounds must be pairs of numbers, got {bounds!r}") from None
        if pairs.shape == (2,):
            if dimension is None:
                raise InputError("one pair of bounds needs the dimension too")
            pairs = np.tile(pairs, (dimension, 1))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise InputError(f"bounds must be (lower, upper) pairs, got an array of {pairs.shape}")
    if dimension is not None and len(pairs) != dimension:
        raise InputError(f"{len(pairs)} pairs of bounds for dimension {dimension}")
    for j, (low, high) in enumerate(pairs):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"bounds must be finite, got {low:g}, {high:g} for coordinate {j}")
        if not low < high:
            raise InputError(
                f"the lower bound must be below the upper, got {low:g}, {high:g} for coordinate {j}"
            )
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def is_compiled(function: Any) -> bool:
    """Whether a function is a Numba dispatcher, without importing Numba to ask."""
    dispatchers = sys.modules.get("numba.core.dispatcher")
    return dispatchers is not None and isinstance(function, dispatchers.Dispatcher)


def as_objective(
    function: Any, *, batched: bool = False, on_error: str = "raise", args: Sequence[Any] = ()
) -> Objective:
    """Objective from a Python callable, a batched one, or a Numba-compiled scalar function."""
    if on_error not in ON_ERROR:
        raise InputError(f"on_error must be {' | '.join(ON_ERROR)}, got {on_error!r}")
    if is_compiled(function) and not batched and not args:
        return CompiledObjective(function, on_error=on_error)
    if hasattr(function, "evaluate") and hasattr(function, "concurrent"):
        return cast(Objective, function)
    if not callable(function):
        raise InputError(f"the objective must be callable, got {type(function).__name__}")
    return PythonObjective(function, batched, on_error, tuple(args))
