"""Zeroth-order training in Python: of a network, or of any loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoo.config import build
from zoo.deepzero import study, weights
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.dataset import Dataset, load
from zoo.errors import InputError
from zoo.optimize import as_seed, split_placement, warn
from zoo.runtime.events import Listener
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import begun, launch, optimize_result, taken_up

#: Names of the options of the network, not of the oracle.
_NETWORK = ("hidden", "depth", "width", "data_folder", "augment", "init", "weights")
#: Those that a black box takes, too.
_OF_ALL = ("data_folder", "weights")


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples of a black box: arrays of equal length, whatever they mean.

    Attributes
    ----------
    train, test : tuples of arrays
        ``test`` may be empty.
    """

    train: tuple[npt.NDArray[Any], ...]
    test: tuple[npt.NDArray[Any], ...] = ()
    name: str = "arrays"

    def count(self, part: Literal["train", "test"]) -> int:
        """Samples of a part."""
        arrays = self.train if part == "train" else self.test
        return len(arrays[0]) if arrays else 0

    def batch(self, part: Literal["train", "test"], rows: Any) -> tuple[npt.NDArray[Any], ...]:
        """Those rows of the arrays of a part."""
        return tuple(array[rows] for array in (self.train if part == "train" else self.test))

    def describe(self) -> dict[str, Any]:
        """What they are, in JSON's types; equal for equal arrays."""
        return {"name": self.name, "digest": self._digest}

    @cached_property
    def _digest(self) -> str:
        digest = sha256()
        for array in (*self.train, *self.test):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def train(
    model: str | Callable[[Any, Any], float],
    data: Any = "digits",
    *,
    params: Any = None,
    test: Any = None,
    seed: int = 0,
    folder: Any = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Train a network, or anything else that has a loss, by evaluating it.

    Parameters
    ----------
    model : str or callable
        A network by name or in layers, as ``zoo run deepzero --model`` takes it; or a black box,
        ``loss(params, batch)``, which takes parameters like ``params`` and a tuple of arrays.
    data : str, Dataset, or tuple of arrays
        For a network a data set, or what :func:`zoo.deepzero.data.dataset.load` reads; for a black
        box also arrays of equal length, whose rows make a batch.
    params : array, or dict of arrays
        First parameters of a black box.
    test : tuple of arrays, optional
        With arrays as ``data``: what the loss is measured by after every epoch.
    seed : int
    folder : path, optional
        Run folder, for :func:`resume`.
    threads, workers, callback, listeners
        See :func:`zoo.minimize`.
    **options
        Of :class:`zoo.deepzero.config.DeepZeroConfig`, of the network (``hidden``, ``depth``,
        ``width``, ``augment``, ``init``, ``weights``), and where workers are.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``params`` are the trained parameters: those of a network by name, those of a black box in
        the form of ``params``. The other fields are those of ``zoo run deepzero --json``.

    Raises
    ------
    InputError
        If an argument cannot be used.
    RunError
        If the loss ceases to be finite.
    """
    placement, crew, options = split_placement(workers, options)
    placement.check(threads)
    job, given = _job(model, data, params, test, as_seed(seed), options)
    study.check_free(given)
    described = study.describe("deepzero", given, job, from_python=True)
    prepared = study.assembled(given, job, described)
    result = begun(
        prepared,
        folder,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
    )
    return _with_params(result, study.trained(prepared.method), params)


def resume(
    folder: Any,
    model: str | Callable[[Any, Any], float],
    data: Any = "digits",
    *,
    params: Any = None,
    test: Any = None,
    threads: int | None = None,
    workers: Any = None,
    callback: Callable[[Any], Any] | None = None,
    listeners: Sequence[Listener] = (warn,),
    **options: Any,
) -> Any:
    """Continue a run of :func:`train`, to what it would have come to.

    Parameters
    ----------
    folder : path
    model, data, params, test
        As they were given to :func:`train`; the other options are in the folder.
    threads, workers, callback, listeners, **options
        See :func:`zoo.resume`.

    Raises
    ------
    InputError
        If the data are others.
    RunError
        If the folder holds no such run, or a damaged one.
    """
    placement, crew, options = split_placement(workers, options)
    if options:
        raise InputError(f"unknown parameter {next(iter(options))!r}: a run keeps its own")
    kept = RunFolder(folder)
    stored = kept.config()
    if stored.get("method") != "deepzero":
        raise InputError(f"{folder} is a run of {stored.get('method')}, not of deepzero")
    given, config, seed = study.stored_config(stored, kept)
    names = _OF_ALL if callable(model) else _NETWORK
    asked = {name: value for name, value in vars(given).items() if name in names}
    job, given = _job(model, data, params, test, seed, vars(config) | asked)
    study.check_same(stored, given, job, kept)
    done = kept.result()
    if done is not None or kept.snapshot() is not None:
        given = replace(given, init=None)  # it has all that was in it
    prepared = study.assembled(given, job, stored)
    if done is not None:
        held = weights.read(str(kept.path / study.WEIGHTS))
        return _with_params(optimize_result(done), held, params)
    snapshot = taken_up(kept)
    result = launch(
        prepared,
        threads=threads,
        placement=placement,
        crew=crew,
        callback=callback,
        listeners=listeners,
        folder=kept,
        snapshot=snapshot,
    )
    return _with_params(result, study.trained(prepared.method), params)


def _job(
    model: Any, data: Any, params: Any, test: Any, seed: int, options: dict[str, Any]
) -> tuple[Any, NetworkConfig]:
    asked = {name: options.pop(name) for name in _NETWORK if name in options}
    for name in ("init", "weights", "data_folder"):  # a run may be resumed from another folder
        if isinstance(asked.get(name), str):
            asked[name] = os.path.abspath(os.path.expanduser(asked[name]))
    config = build(DeepZeroConfig, options)
    if test is not None and isinstance(data, str | Dataset | Arrays):
        raise InputError("test goes with arrays as data: these data have a test part of their own")
    if isinstance(data, str):
        data = load(data, asked.get("data_folder"))
    elif not isinstance(data, Dataset):
        data = _arrays(data, test)
    if callable(model):
        if params is None:
            raise InputError("a black box needs its first parameters: params = arrays")
        for option in asked:
            if option not in _OF_ALL:
                raise InputError(f"{option} is for networks")
        name = getattr(model, "__qualname__", "loss")
        given = build(NetworkConfig, {"model": name, "data": data.name} | asked)
        return study.black_box(model, params, config, data, seed), given
    if not isinstance(data, Dataset):
        raise InputError("a network needs a data set: load(...) of zoo.deepzero.data.dataset")
    if params is not None:
        raise InputError("params are for black boxes; a network takes init = FILE.npz")
    given = build(NetworkConfig, {"model": model, "data": data.name} | asked)
    return study.job_of(given, config, data, seed), given


def _arrays(data: Any, test: Any) -> Arrays:
    name = "arrays"
    if isinstance(data, Arrays):
        data, test, name = data.train, data.test or None, data.name
    held = () if test is None else _checked(test, "test")
    found = Arrays(_checked(data, "data"), held, name)
    if held and len(held) != len(found.train):
        raise InputError("test must have as many arrays as data")
    return found


def _checked(arrays: Any, name: str) -> tuple[npt.NDArray[Any], ...]:
    if isinstance(arrays, np.ndarray):
        arrays = (arrays,)
    if isinstance(arrays, Mapping) or not isinstance(arrays, Sequence) or not len(arrays):
        raise InputError(f"{name} must be a tuple of arrays, got {type(arrays).__name__}")
    try:
        found = tuple(np.asarray(array) for array in arrays)
    except ValueError as error:
        raise InputError(f"{name} must be arrays of numbers: {error}") from None
    lengths = {len(array) if array.ndim else 0 for array in found}
    if len(lengths) != 1 or lengths == {0} or any(a.dtype == object for a in found):
        raise InputError(f"{name} must be arrays of numbers, of equal length >= 1")
    return found


def _with_params(result: Any, trained: dict[str, Any], template: Any) -> Any:
    if template is None:  # a network, whose text is in the file only
        trained = {name: array for name, array in trained.items() if name != "layers"}
    alone = template is not None and not isinstance(template, Mapping)
    result["params"] = trained["params"] if alone else trained
    return result
