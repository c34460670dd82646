"""Library entry points: minimize a function, and continue a run."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from zoo import methods
from zoo.config import build, options_of, plain
from zoo.errors import InputError, RunError
from zoo.methods import MINIMIZATION
from zoo.problem import Array, Problem, as_bounds, as_objective, never
from zoo.runtime.budget import Budget
from zoo.runtime.distributed.placement import Placement
from zoo.runtime.events import NOTE, Event, Listener
from zoo.runtime.folder import CONFIG, RunFolder
from zoo.runtime.isolation import isolated
from zoo.runtime.launch import Prepared, optimize_result, taken_up
from zoo.runtime.launch import launch as launched

#: Files whose frames a warning passes over: ours, and contextlib's.
_PLUMBING = (os.path.join(os.path.dirname(os.path.abspath(__file__)), ""), contextlib.__file__)

_ARGUMENTS = (
    *("seed", "x0", "args", "batched", "on_error", "timeout", "retries"),
    *("threads", "callback", "out", "method"),
)


def warn(event: Event) -> None:
    """Make warnings of notes, at the caller's line: the listener of those who bring none."""
    if event.kind != NOTE:
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PLUMBING):
        level, frame = level + 1, frame.f_back
    warnings.warn(event.data["text"], RuntimeWarning, stacklevel=level)


def split_options(method: str, options: dict[str, Any]) -> tuple[Any, Budget]:
    """Config and budget of a method from one set of names.

    Raises
    ------
    InputError
        For an unknown name, or a value outside its range.
    """
    entry = methods.get(method)
    if entry.study != MINIMIZATION:
        raise InputError(f"{method} minimizes no function; {entry.summary}")
    known = [*options_of(entry.config_class()), *options_of(Budget)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *_ARGUMENTS], 1, 0.5)
            hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"unknown parameter {name!r}{hint}")
    names = {f.name for f in fields(Budget)}
    given = {k: v for k, v in options.items() if k in names}
    config = build(entry.config_class(), {k: v for k, v in options.items() if k not in names})
    budget = build(Budget, given)
    unlimited = budget.steps is None and budget.evaluations is None and budget.seconds is None
    if unlimited and "steps" not in given:
        budget = replace(budget, **entry.budget)
    return config, budget


def split_placement(workers: Any, options: dict[str, Any]) -> tuple[Placement, Any, dict[str, Any]]:
    """Placement, crew if one is given, and the options that are of neither."""
    names = options_of(Placement)
    given = {k: v for k, v in options.items() if k in names}
    rest = {k: v for k, v in options.items() if k not in names}
    if workers is None or isinstance(workers, str):
        placement = build(Placement, given | {"workers": workers})
    elif isinstance(workers, int | np.integer) and not isinstance(workers, bool):
        placement = build(Placement, given | {"workers": str(workers)})
    elif hasattr(workers, "members"):
        if given:
            raise InputError(f"{next(iter(given))} was settled when the workers were started")
        return workers.placement, workers, rest
    else:
        raise InputError(f"workers must be auto or a whole number >= 1, got {workers!r}")
    return placement, None, rest


def as_seed(seed: Any) -> int:
    """Seed as an integer in 0 .. 2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}")
    if not 0 <= int(seed) < 2**64:
        raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}")
    return int(seed)


def start_point(x0: Any, problem: Problem) -> Array | None:
    """Starting point as an array (d,), or None."""
    if x0 is None:
        return None
    try:
        point = np.asarray(x0, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"x0 must be {problem.dimension} numbers") from None
    if point.shape != (problem.dimension,) or not np.all(np.isfinite(point)):
        raise InputError(f"x0 must be {problem.dimension} finite numbers, got {x0!r}")
    if np.any(point < problem.lower) or np.any(point > problem.upper):
        raise InputError(f"x0 must lie within the bounds, got {x0!r}")
    return point


def minimize(
    fun: Any,
    bounds: Any = None,
    method: str = "cbo",
    *,
    seed: int = 0,
    x0: Any = None,
    args: Sequence[Any] = (),
    batched: bool = False,
    on_error: str = "raise",
    timeout: float | None = None,
    retries: int | None = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    out: Any = None,
    **options: Any,
) -> Any:
    """Minimize a function over a box.

    Parameters
    ----------
    fun : callable or Problem
        ``f(x) -> float`` over a 1-D float64 array; or, with ``batched``, ``f(x (n, d)) -> (n,)``;
        or a Numba-compiled scalar function, which then runs inside the compiled loop; or a
        :class:`Problem`, which carries its bounds.
    bounds : sequence of (lower, upper) pairs, or scipy.optimize.Bounds
        Finite; one pair a coordinate.
    method : str
        See ``zoo.methods.METHODS``.
    seed : int
        The run is a function of the arguments and this, whatever the number of threads.
    x0 : (d,) array, optional
        A first guess. ``cbo``: one particle starts there, the others normally about it; ``cma``:
        the first mean.
    args : sequence
        Further arguments of ``fun``.
    batched : bool
        Whether ``fun`` takes all points of a step at once.
    on_error : {"raise", "penalize"}
        Whether an exception in ``fun`` ends the run, or counts as the worst value.
    timeout : float, optional
        Seconds that an evaluation of a Python function may take. Given this or ``retries``, it is
        evaluated in processes of its own, one a thread, which may hang and crash: see
        :class:`zoo.runtime.isolation.IsolatedObjective`. An evaluation that failed so counts as
        the worst value.
    retries : int, optional
        Further attempts at an evaluation that took too long, or crashed; 1 if only ``timeout`` is
        given.
    threads : int, optional
        Threads to use; by default all, where they can help.
    callback : callable, optional
        Called with the :class:`zoo.runtime.protocol.Progress` now and then, some 50 times a second
        at most; True, or StopIteration raised, stops the run.
    workers : int, "auto" or Crew, optional
        Processes to work in, by Ray: a number of them; "auto", as many as the machine and the
        objective suggest, none if it is cheap; or those of :func:`zoo.workers`, which outlive the
        run. Functions and their modules are sent to them; what a function changes stays there.
    listeners : sequence of callables
        Called with each :class:`zoo.runtime.events.Event`; by default notes become warnings.
    out : path, optional
        Run folder to write.
    **options
        Budget (``steps``, ``evaluations``, ``seconds``, ``target``, ``patience``), the method's
        parameters, such as ``particles``, ``sigma`` or ``runs`` (see its config dataclass), and
        where workers are (``ray_address``, ``cpus_per_worker``, ... of
        :class:`zoo.runtime.distributed.placement.Placement`).

    Returns
    -------
    scipy.optimize.OptimizeResult
        x, fun, nfev, nit, success, status, message, seed, seconds and the method's own fields: for
        ``cbo`` also consensus, consensus_fun, spread, runs_* (several runs), minima and minima_fun
        (polarized), particles (sampling); for ``cma`` mean, sigma, stds, popsize and stop of the
        last distribution, and restarts, a dict for each run between two.

    Raises
    ------
    InputError
        If an argument cannot be used.
    ObjectiveError
        If the function fails, or is never finite.

    Examples
    --------
    >>> import zoo
    >>> result = zoo.minimize(lambda x: ((x - 1) ** 2).sum(), [(-5, 5)] * 3, seed=1, steps=500)
    >>> bool(result.fun < 1e-6)
    True
    """
    problem = as_problem(
        fun,
        bounds,
        batched=batched,
        on_error=on_error,
        args=args,
        timeout=timeout,
        retries=retries,
    )
    placement, crew, options = split_placement(workers, options)
    placement.check(threads)
    config, budget = split_options(method, options)
    start = start_point(x0, problem)
    for warning in config.warnings(problem.dimension):
        warnings.warn(warning, RuntimeWarning, stacklevel=2)
    folder = None
    if out is not None:
        methods.get(method).method_class()(problem, config, budget, as_seed(seed), start)  # checks
        folder = RunFolder(out)
        described = {"objective": None, "name": problem.name, "x0": start}
        described |= {"lower": problem.lower, "upper": problem.upper}
        folder.create(describe(method, described, config, budget, as_seed(seed)))
    return launch(
        problem,
        method,
        config,
        budget,
        seed,
        x0=start,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=folder,
    )


def resume(
    path: Any,
    fun: Any = None,
    bounds: Any = None,
    *,
    batched: bool = False,
    on_error: str = "raise",
    args: Sequence[Any] = (),
    timeout: float | None = None,
    retries: int | None = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    cancelled: Callable[[], bool] = never,
    **options: Any,
) -> Any:
    """Continue an interrupted run to the bits that it would have reached.

    Parameters
    ----------
    path : path
        Run folder.
    fun, bounds, batched, on_error, args, timeout, retries
        The objective, as given to :func:`minimize`; not needed for runs started on the command
        line, whose folder says where it is.
    threads, workers, callback, listeners, **options
        See :func:`minimize`; the workers need not be those that the run was started on.

    Returns
    -------
    scipy.optimize.OptimizeResult
        The stored result if the run had ended.

    Raises
    ------
    RunError
        If the folder holds no run, or a damaged one.
    InputError
        If the objective is needed and not given.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    folder = RunFolder(path)
    stored = folder.config()
    done = folder.result()
    if done is not None:
        return optimize_result({name: _arrays(value) for name, value in done.items()})
    method, config, budget, seed = restored(stored, folder)
    described = stored["problem"]
    if fun is not None:
        problem = as_problem(
            fun,
            bounds,
            batched=batched,
            on_error=on_error,
            args=args,
            timeout=timeout,
            retries=retries,
        )
    elif described.get("objective") or described.get("command"):
        from zoo.objectives.load import ProblemConfig, load

        problem = load(build(ProblemConfig, described))
    else:
        raise InputError(f"{folder.path} was started from Python: resume needs its function")
    for name in ("lower", "upper"):
        if name in described and not np.array_equal(described[name], getattr(problem, name)):
            raise InputError(
                f"the run in {folder.path} has {name} bounds {described[name]}, "
                f"not {getattr(problem, name).tolist()}"
            )
    x0 = start_point(described.get("x0"), problem)
    snapshot = taken_up(folder)
    return launch(
        problem,
        method,
        config,
        budget,
        seed,
        x0=x0,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=folder,
        snapshot=snapshot,
        cancelled=cancelled,
    )


def restored(stored: Mapping[str, Any], folder: RunFolder) -> tuple[str, Any, Budget, int]:
    """Method, its config, budget and seed of a stored run.

    Raises
    ------
    RunError
        If they are damaged.
    """
    try:
        if not isinstance(stored["problem"], dict):
            raise TypeError("it has no 'problem'")
        entry = methods.get(stored["method"])
        if entry.study != MINIMIZATION:
            raise RunError(f"{folder.path} holds no run that minimizes a function")
        kind = entry.config_class()
        return (
            stored["method"],
            build(kind, numbers(kind, stored["config"])),
            build(Budget, numbers(Budget, stored["budget"])),
            as_seed(stored["seed"]),
        )
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise RunError(f"{folder.path / CONFIG} is damaged: {error}") from error


def _arrays(value: Any) -> Any:
    """Lists of a stored result as arrays, as they were; a list of mappings is one."""
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return np.asarray(value)
    return value


def describe(
    method: str, problem: dict[str, Any], config: Any, budget: Budget, seed: int
) -> dict[str, Any]:
    """Content of a run folder's config.json; infinities as words, for JSON has none."""
    return {
        "method": method,
        "problem": problem,
        "config": words(config),
        "budget": words(budget),
        "seed": seed,
    }


def words(config: Any) -> dict[str, Any]:
    """Values of a config by name, as JSON has them."""
    return {
        name: str(value) if isinstance(value, float) and math.isinf(value) else value
        for name, value in asdict(config).items()
    }


def numbers(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a config from what :func:`words` made of them."""
    kinds = {name: plain(hint)[0] for name, (_, _, hint) in options_of(config).items()}
    return {
        k: float(v) if v in ("inf", "-inf") and kinds.get(k) is float else v
        for k, v in values.items()
    }


def prepare(
    problem: Problem,
    method: str,
    config: Any,
    budget: Budget,
    seed: int,
    x0: Array | None = None,
    described: Mapping[str, Any] | None = None,
) -> Prepared:
    """Bring a method and a problem together; ``described`` is what a folder is to keep of it.

    Raises
    ------
    InputError
        If they do not fit.
    """
    return Prepared(
        method=methods.get(method).method_class()(problem, config, budget, as_seed(seed), x0),
        head={"method": method, "objective": problem.name, "dim": problem.dimension},
        described=described or {},
        seed=seed,
        seconds=budget.seconds,
        warnings=config.warnings(problem.dimension),
        minimum=problem.minimum,
    )


def launch(
    problem: Problem,
    method: str,
    config: Any,
    budget: Budget,
    seed: int,
    *,
    x0: Array | None = None,
    **how: Any,
) -> Any:
    """Run a method on a problem; ``how`` as in :func:`zoo.runtime.launch.launch`."""
    return launched(prepare(problem, method, config, budget, seed, x0), **how)


def as_problem(
    fun: Any,
    bounds: Any = None,
    *,
    batched: bool = False,
    on_error: str = "raise",
    args: Sequence[Any] = (),
    timeout: float | None = None,
    retries: int | None = None,
) -> Problem:
    """Problem from a function and bounds, or the Problem given; isolated if asked to."""
    if isinstance(fun, Problem):
        if bounds is not None or batched or args:
            raise InputError("a Problem carries its bounds and its objective: give no others")
        return isolated(fun, timeout, retries)
    if bounds is None:
        raise InputError("bounds are needed: one (lower, upper) pair a coordinate")
    lower, upper = as_bounds(bounds)
    objective = as_objective(fun, batched=batched, on_error=on_error, args=args)
    problem = Problem(objective, lower, upper, getattr(fun, "__name__", "objective"))
    return isolated(problem, timeout, retries)
