"""Programs for a function, found from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evolve.autonumerics import study
from evolve.autonumerics.config import TargetConfig
from evolve.search.config import SearchConfig
from zoo.config import build, options_of, taken
from zoo.errors import InputError, RunError
from zoo.optimize import as_seed, split_placement, warn
from zoo.runtime.events import Listener
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import begun, launch, optimize_result, taken_up


def discover(
    target: str | Callable[[Any], Any],
    *,
    domain: tuple[float, float] | None = None,
    seed: int = 0,
    folder: Any = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Find programs of few operations that compute a function.

    Parameters
    ----------
    target : str or callable
        A function by name, as ``zoo run autonumerics --target`` takes it; or one of a number of
        mpmath, of any precision: it is called with 50 digits.
    domain : (float, float), optional
        Closed interval; a callable needs one.
    seed : int
    folder : path, optional
        Run folder, for :func:`resume`.
    threads, workers, callback, listeners
        See :func:`zoo.minimize`.
    **options
        Of :class:`evolve.autonumerics.config.TargetConfig` and
        :class:`evolve.search.config.SearchConfig`, and where workers are.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``front`` is a list of dicts, a program each, by operations; the other fields are those of
        ``zoo run autonumerics --json``. :func:`evolve.autonumerics.study.code` makes code of it.

    Raises
    ------
    InputError
        If an argument cannot be used.
    """
    placement, crew, options = split_placement(workers, options)
    placement.check(threads)
    if not (isinstance(target, str) or callable(target)):
        raise InputError(f"target must be a name or a function, got {type(target).__name__}")
    options["target"] = target if isinstance(target, str) else getattr(target, "__name__", "f")
    if domain is not None:
        options["domain"] = _text(domain)
    known = options_of(TargetConfig) | options_of(SearchConfig)
    for name in options:
        if name not in known:
            raise InputError(f"unknown parameter {name!r}; known are {', '.join(known)}")
    given = study.located(taken(TargetConfig, options))
    config = build(SearchConfig, options)
    function = None if isinstance(target, str) else target
    prepared = study.searched("autonumerics", given, config, as_seed(seed), function)
    return begun(
        prepared,
        folder,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
    )


def resume(
    folder: Any,
    target: Callable[[Any], Any] | None = None,
    *,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Continue a run of :func:`discover`; returns what it would have, or has.

    Parameters
    ----------
    folder : path
    target : callable, optional
        As it was given, if it was one; all else is in the folder.
    threads, workers, callback, listeners, **options
        See :func:`zoo.resume`.

    Raises
    ------
    InputError
        If the target is another one.
    RunError
        If the folder holds no such run, or a damaged one.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    kept = RunFolder(folder)
    stored = kept.config()
    if stored.get("method") != "autonumerics":
        raise RunError(f"{folder} is a run of {stored.get('method')}, not of autonumerics")
    if target is not None and not (callable(target) and stored.get("from_python")):
        raise InputError(f"{folder} keeps its target, {stored['problem']['target']}: give none")
    done = kept.result()
    if done is not None:
        return optimize_result(done)
    snapshot = taken_up(kept)
    try:
        prepared = study.reopened(stored, kept, target)
    except BaseException:
        kept.unlock()
        raise
    return launch(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
        snapshot=snapshot,
    )


def _text(domain: Any) -> str:
    """An interval as a command takes it."""
    try:
        low, high = domain
        return f"{float(low)!r},{float(high)!r}"
    except (TypeError, ValueError):
        raise InputError(f"domain must be two numbers (A, B), got {domain!r}") from None
