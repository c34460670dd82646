"""Problems by name: a test function, a Python function in a module or a file, or a command."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import operator
import os
import shlex
import sys
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zoo.config import option
from zoo.errors import InputError
from zoo.objectives import registry

if TYPE_CHECKING:
    from zoo.problem import Array, Objective, Problem


@dataclass(frozen=True)
class ProblemConfig:
    """What is minimized, in words that the command line and a run folder can hold."""

    objective: str | None = option(
        None, "A test function (zoo list objectives), pkg.module:function or file.py:function."
    )
    command: str | None = option(
        None,
        "A program that prints the value as its last line. {x}: the coordinates as arguments; "
        "{0}, {1}, ...: one of them; neither: a line on its standard input.",
    )
    dim: int | None = option(None, "Dimension; test functions have one of their own.", least=1)
    bounds: str | None = option(
        None, "LOW,HIGH for all coordinates, or LOW,HIGH;LOW,HIGH;... one pair a coordinate."
    )
    shift: float | None = option(None, "Move the minimizer by this in every coordinate.")
    rotate: int | None = option(
        None, "Rotate the function at random about its minimizer; the seed of that.", least=0
    )
    batched: bool = option(False, "The function takes all points (n, d) of a step at once.")
    on_error: str = option(
        "raise",
        "An exception in the function ends the run, or counts as the worst value. Commands that "
        "fail always count as the worst value.",
        choices=("raise", "penalize"),
    )
    timeout: float | None = option(
        None,
        "Seconds that an evaluation by a command, or by a Python function, may take. The function "
        "is then evaluated in a process of its own, which may also crash.",
        above=0,
    )
    retries: int | None = option(
        None,
        "Further attempts at an evaluation that crashed, took too long or, by a command, printed "
        "no number: 1 by default. Given, a Python function is evaluated in a process of its own.",
        least=0,
    )


def located(config: ProblemConfig) -> ProblemConfig:
    """The same problem with absolute paths, to be found from any folder."""
    if config.objective is not None and _is_file(config.objective):
        path, colon, name = config.objective.rpartition(":")
        if colon:
            return replace(config, objective=f"{_absolute(path)}:{name}")
    if config.command is not None:
        try:
            words = shlex.split(config.command)
        except ValueError:  # said when it is loaded
            return config
        if words and os.sep in words[0] and not os.path.isabs(words[0]):
            return replace(config, command=shlex.join([_absolute(words[0]), *words[1:]]))
    return config


def source_digest(objective: str | None) -> str | None:
    """SHA-256 of the file of ``path/file.py:function``, which has been loaded.

    And of the modules in its folder, and below, that it has imported. None for other objectives.
    """
    path, found, _ = (objective or "").rpartition(":")
    if not found or not path.endswith(".py"):
        return None
    folder = os.path.join(os.path.dirname(os.path.abspath(path)), "")
    files = {os.path.abspath(path)}
    for module in list(sys.modules.values()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or {"site-packages", "dist-packages"} & {*file.split(os.sep)}:
            continue
        if file.startswith(folder) and file.endswith(".py"):
            files.add(file)
    digest = hashlib.sha256()
    for file in sorted(files):
        with contextlib.suppress(OSError):
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def load(config: ProblemConfig) -> Problem:
    """Find what is to be minimized.

    Raises
    ------
    InputError
        If it cannot be found or used.
    """
    if config.objective is None and config.command is None:
        raise InputError(
            "an objective is needed: objective = a test function ('zoo list objectives'), "
            "pkg.module:function or file.py:function; or a command"
        )
    if config.objective is not None and config.command is not None:
        raise InputError("objective and command are both given: one of them is minimized")
    if config.objective is None:
        return _command(config)
    if ":" in config.objective or _is_file(config.objective):
        from zoo.runtime.isolation import isolated

        return isolated(_user_function(config), config.timeout, config.retries)
    return _test_function(config)


def parse_bounds(text: str, dimension: int | None) -> tuple[Array, Array]:
    """Lower and upper bounds (d,) from "LOW,HIGH" or "LOW,HIGH;LOW,HIGH;...".

    Raises
    ------
    InputError
        If the text is something else, or its pairs are not those of the dimension.
    """
    from zoo.problem import as_bounds

    pairs = []
    for pair in text.strip().removesuffix(";").split(";"):
        try:
            low, high = (float(number) for number in pair.split(","))
        except ValueError:
            raise InputError(
                f"bounds must be LOW,HIGH, or LOW,HIGH;LOW,HIGH;... one pair a coordinate; "
                f"got {text!r}"
            ) from None
        pairs.append((low, high))
    if len(pairs) == 1:
        if dimension is None:
            raise InputError("dim is needed: one pair of bounds is for all coordinates")
        return as_bounds(pairs[0], dimension)
    return as_bounds(pairs, dimension)


def rotation_matrix(dimension: int, seed: int) -> Array:
    """Orthogonal (d, d) matrix drawn evenly from all (Haar), a function of the seed."""
    import numpy as np

    normals = np.random.Generator(np.random.Philox(key=seed)).standard_normal((dimension,) * 2)
    q, r = np.linalg.qr(normals)
    return np.ascontiguousarray(q * np.where(np.diag(r) < 0.0, -1.0, 1.0))


def _test_function(config: ProblemConfig) -> Problem:
    import numpy as np

    assert config.objective is not None
    function = registry.get(config.objective)
    if config.batched:
        raise InputError("batched is for Python functions, not for test functions")
    for name in ("timeout", "retries"):
        if getattr(config, name) is not None:
            raise InputError(f"{name} is for commands and Python functions, not for test functions")
    d = config.dim if config.dim is not None else function.default_dim
    function.check_dim(d)
    lower, upper = parse_bounds(config.bounds, d) if config.bounds else function.bounds(d)
    at = function.minimizer(d)

    from zoo.problem import CompiledObjective, Problem

    moved = at + (config.shift or 0.0)
    objective = CompiledObjective(
        function.function(), *_transformation(config, moved, at), on_error=config.on_error
    )
    if not np.all((lower <= moved) & (moved <= upper)):  # the lowest value in here is not known
        return Problem(objective, lower, upper, function.name)
    return Problem(objective, lower, upper, function.name, function.minimum(d), moved)


def _transformation(config: ProblemConfig, shift: Array, anchor: Array) -> tuple[Any, Any, Any]:
    """Shift, rotation and anchor of a CompiledObjective; empty for none."""
    import numpy as np

    if config.shift is None and config.rotate is None:
        return np.empty(0), np.empty((0, 0)), np.empty(0)
    rotation = np.empty((0, 0))
    if config.rotate is not None:
        rotation = rotation_matrix(len(shift), config.rotate)
    return shift, rotation, anchor


def _user_bounds(config: ProblemConfig, what: str) -> tuple[Array, Array]:
    if config.bounds is None:
        raise InputError(f"bounds are needed for {what}, such as -5,5")
    return parse_bounds(config.bounds, config.dim)


def _command(config: ProblemConfig) -> Problem:
    from zoo.objectives.command import CommandObjective
    from zoo.problem import Problem

    assert config.command is not None
    for name in ("shift", "rotate", "batched"):
        if getattr(config, name) not in (None, False):
            raise InputError(f"{name} does not go with a command")
    given = {} if config.retries is None else {"retries": config.retries}
    objective = CommandObjective(config.command, config.timeout, **given)
    lower, upper = _user_bounds(config, "a command")
    objective.check_dimension(len(lower))
    program, *arguments = shlex.split(config.command)
    name = " ".join([os.path.basename(program), *arguments])
    return Problem(objective, lower, upper, name)


def _user_function(config: ProblemConfig) -> Problem:
    from zoo.problem import Problem, as_objective

    assert config.objective is not None
    found = named(config.objective)
    if isinstance(found, Problem):
        return _given_problem(found, config)
    if not callable(found) or isinstance(found, type):
        raise InputError(f"{config.objective} is no function, but {_kind(found)}")
    lower, upper = _user_bounds(config, "a function of your own")
    objective = as_objective(found, batched=config.batched, on_error=config.on_error)
    objective = _moved(objective, config, len(lower))
    where, _, name = config.objective.rpartition(":")
    short = os.path.basename(where) if _is_file(where) else where
    return Problem(objective, lower, upper, f"{short}:{name}")


def named(text: str, what: str = "objective") -> Any:
    """Import what ``path/file.py:name`` or ``package.module:name`` names.

    Raises
    ------
    InputError
        If it cannot be found.
    """
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise InputError(f"{what} {text!r} names no function: add :NAME")
    module = _import_file(where, what) if _is_file(where) else _import_module(where)
    return _named(module, where, name)


def _given_problem(problem: Problem, config: ProblemConfig) -> Problem:
    for name in ("bounds", "shift", "rotate", "batched"):
        if getattr(config, name) not in (None, False):
            raise InputError(f"{config.objective} is a Problem, which has its own: no {name}")
    if config.dim not in (None, problem.dimension):
        raise InputError(f"{config.objective} has dimension {problem.dimension}, not {config.dim}")
    return problem


def _moved(objective: Objective, config: ProblemConfig, dimension: int) -> Objective:
    import numpy as np

    from zoo.problem import CompiledObjective

    if isinstance(objective, CompiledObjective):
        shift = np.full(dimension, config.shift or 0.0)
        moved = _transformation(config, shift, np.zeros(dimension))
        objective = CompiledObjective(objective.dispatcher, *moved, on_error=config.on_error)
        objective.target()  # compiles it: better now than in the middle of a run
    elif config.shift is not None or config.rotate is not None:
        raise InputError("shift and rotate are for test functions and numba-jitted functions")
    return objective


def _is_file(text: str) -> bool:
    path = text.rpartition(":")[0] or text
    return path.endswith(".py") or os.sep in path


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _kind(value: Any) -> str:
    return "a class" if isinstance(value, type) else f"of type {type(value).__name__}"


def _named(module: ModuleType, where: str, name: str) -> Any:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        own = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
        near = difflib.get_close_matches(name, own, 1, 0.5)
        hint = f": did you mean {near[0]!r}?" if near else ""
        if not near and own:
            hint = f"; it has {', '.join(sorted(own)[:8])}"
        raise InputError(f"{where} has no function {name!r}{hint}") from None


@contextlib.contextmanager
def _searched_first(folder: str) -> Iterator[None]:
    """Let a folder be searched first for modules, and last from then on.

    Last, because a file of the user's called like some library's module must not stand in for it
    when that library imports it later.
    """
    known = folder in sys.path
    if not known:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if not known and folder in sys.path:
            sys.path.remove(folder)
            sys.path.append(folder)


def _import_module(name: str) -> ModuleType:
    with _searched_first(os.getcwd()):
        try:
            return importlib.import_module(name)
        except BaseException as error:
            raise _import_error(name, None, error) from error


def _import_file(text: str, used: str) -> ModuleType:
    path = _absolute(text)
    if not os.path.isfile(path):
        what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        raise InputError(f"{used} file {text} {what}")
    name = os.path.splitext(os.path.basename(path))[0]
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == path:
        return loaded
    if loaded is not None or not name.isidentifier():
        name = f"objective_{zlib.crc32(path.encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{used} file {text} must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _searched_first(os.path.dirname(path)):
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            raise _import_error(text, path, error) from error
    return module


def _import_error(shown: str, path: str | None, error: BaseException) -> BaseException:
    if isinstance(error, KeyboardInterrupt | GeneratorExit | MemoryError):
        return error
    if isinstance(error, SyntaxError):
        return InputError(f"{error.filename or shown}:{error.lineno}: {error.msg}")
    if isinstance(error, SystemExit):
        return InputError(f"{shown} exits when it is imported (SystemExit: {error.code})")
    if isinstance(error, ImportError):
        return InputError(f"cannot import {shown}: {error}")
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    at = f":{lines[-1]}" if lines else ""
    return InputError(f"cannot import {shown}{at}: {type(error).__name__}: {error}")
