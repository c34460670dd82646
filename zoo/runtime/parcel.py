"""How problems travel to other processes, of this machine or of others.

What is installed there as here (the engine, the standard library, packages) travels by its name.
What is the user's own (functions of ``__main__``, of files, of modules in his folders) travels by
value, so that it need not exist there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import io
import operator
import os
import pickle
import socket
import sys
import sysconfig
import threading
from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import cloudpickle

from zoo.errors import InputError
from zoo.problem import is_compiled

_registering = threading.Lock()  # cloudpickle's registry is one for the process

_ROOT = Path(__file__).parents[2]
_INSTALLED = tuple(
    os.path.join(path, "")
    for path in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        *(str(_ROOT / package) for package in ("zoo", "evolve", "cli")),
    )
)


class _Parcel(NamedTuple):
    python: tuple[int, int]
    code: str  # names the compiled code of what is within
    folders: list[str]  # of the user's modules, searched last for what is imported later
    files: dict[str, str]  # modules that could not travel by value
    why: str  # they could not
    content: bytes


def pack(value: Any) -> bytes:
    """Bytes of a value, such as a method with its problem, for :func:`unpack` in another process.

    The user's modules travel by value. Should that fail for something that one of them holds, such
    as a lock, they are imported there from the same files.

    Raises
    ------
    InputError
        If it holds something that cannot travel either way.
    """
    own = _own_modules()
    files: dict[str, str] = {}
    why = ""
    with _registering:
        try:
            with _by_value(own):
                pickler, content = _pickled(value, own)
        except InputError as error:
            why = str(error)
            try:
                pickler, content = _pickled(value, None)
            except InputError as again:
                raise InputError(f"the objective cannot be sent to workers: {again}") from None
            used = pickler.modules()
            files = {
                name: os.path.abspath(str(module.__file__))
                for name, module in own.items()
                if name in used
            }
    folders = [path for path in map(os.path.abspath, sys.path) if _is_own(path)]
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return pickle.dumps(
        _Parcel(
            sys.version_info[:2],
            " ".join([kind, *sorted(pickler.compiled)]),
            folders,
            files,
            why,
            content,
        )
    )


def unpack(data: bytes) -> Any:
    """Value from the bytes of :func:`pack`.

    Compiled functions find their machine code in the node's cache, if it is there. Those that were
    given with signatures are compiled in here.

    Raises
    ------
    InputError
        If something that it needs is not to be had in this process.
    """
    parcel: _Parcel = pickle.loads(data)
    here = socket.gethostname()
    if parcel.python != sys.version_info[:2]:
        raise InputError(
            f"Python {_dotted(sys.version_info[:2])} on {here} cannot take what was packed by "
            f"Python {_dotted(parcel.python)}: they must be the same"
        )
    sys.path += [path for path in parcel.folders if path not in sys.path and os.path.isdir(path)]
    try:
        for name, path in parcel.files.items():
            _import(name, path)
        return pickle.loads(parcel.content)
    except InputError:
        raise
    except Exception as error:
        because = f"; its modules were not sent: {parcel.why}" if parcel.files else ""
        raise InputError(
            f"the objective cannot be set up on {here}: {type(error).__name__}: {error}{because}"
        ) from error


def code_of(data: bytes) -> str:
    """Name of the compiled code that a packed value uses, as a key for :func:`zoo.jit.warm`."""
    parcel: _Parcel = pickle.loads(data)
    return parcel.code


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _is_own(path: str) -> bool:
    """Whether a file or folder is the user's, and not installed."""
    if {"site-packages", "dist-packages"} & set(path.split(os.sep)):
        return False
    return not os.path.join(path, "").startswith(_INSTALLED)


def _own_modules() -> dict[str, ModuleType]:
    """The user's modules that are loaded, but for ``__main__``, which always goes by value."""
    own = {}
    for name, module in list(sys.modules.items()):
        # Not asked for by getattr: some modules import others then.
        known = vars(module) if isinstance(module, ModuleType) else {}
        path = known.get("__file__")
        if name == "__main__" or known.get("__name__") != name or not isinstance(path, str):
            continue
        if path.endswith(".py") and _is_own(os.path.abspath(path)):
            own[name] = module
    return own


@contextmanager
def _by_value(own: dict[str, ModuleType]) -> Iterator[None]:
    """Have cloudpickle send these modules by value."""
    known = cloudpickle.list_registry_pickle_by_value()
    mine = [module for name, module in own.items() if name not in known]
    for module in mine:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            cloudpickle.unregister_pickle_by_value(module)


class _Pickler(cloudpickle.Pickler):
    """Cloudpickle, with the user's modules and Numba's functions by our rules.

    Attributes
    ----------
    own : dict of modules, or None
        The modules that go by value; None if all are to be imported.
    named : set of str, or None
        Not None: the bytes are for a digest, and tell of the modules what is in here. Names in the
        functions are added.
    used : list
        Whatever is no plain data, in order.
    compiled : set of str
        Names of the compiled functions.
    """

    def __init__(
        self, file: io.BytesIO, own: dict[str, ModuleType] | None, named: set[str] | None
    ) -> None:
        reducers: dict[type, Any] = {}
        if named is not None:
            reducers[CodeType] = _reduced_code
        if "numba" in sys.modules:
            from numba.core.serialize import _CustomPickled

            reducers[_CustomPickled] = _CustomPickled._reduce  # else Numba has a pickler of its own
        self.dispatch_table = ChainMap(reducers, cloudpickle.Pickler.dispatch_table)
        super().__init__(file)
        self.own = own
        self.named = named
        self.used: list[Any] = []
        self.compiled: set[str] = set()

    def modules(self) -> set[str]:
        """Names of the modules used."""
        names = {
            used.__name__ if isinstance(used, ModuleType) else getattr(used, "__module__", None)
            for used in self.used
        }
        return {name for name in names if isinstance(name, str)}

    def reducer_override(self, value: Any) -> Any:
        """See :class:`pickle.Pickler`."""
        self.used.append(value)
        if is_compiled(value):
            return self._dispatcher(value)
        if isinstance(value, ModuleType) and value.__name__ in (self.own or {}):
            # Its content is filled in later, for it may refer to the module.
            return ModuleType, (value.__name__,), self._content(value), None, None, _fill
        if self.named is not None and isinstance(value, CodeType):
            self.named.update(value.co_names, (c for c in value.co_consts if isinstance(c, str)))
        return super().reducer_override(value)

    def _dispatcher(self, dispatcher: Any) -> tuple[Any, ...]:
        from zoo.runtime import dispatchers

        module, name = dispatcher.py_func.__module__, dispatcher.py_func.__qualname__
        if module != "__main__" and module not in (self.own or {}) and module in sys.modules:
            try:
                importable = operator.attrgetter(name)(sys.modules[module]) is dispatcher
            except AttributeError:  # made in a function
                importable = False
            if importable:
                self.compiled.add(f"{module}.{name}")
                return _imported, (module, name)
        if self.named is not None:
            return dispatchers.described(dispatcher)
        if self.own is None:  # what it calls in the user's modules, its name would not tell
            return dispatchers.reduced(dispatcher, "")
        named: set[str] = set()
        count = -1
        while len(named) > count:  # a function found last may name more of a module found first
            count = len(named)
            pickler, description = _pickled(dispatcher, self.own, named)
        installed = pickler.modules() - {*self.own, "__main__"}
        digest = dispatchers.name_of(description, installed)
        self.compiled.add(digest)
        return dispatchers.reduced(dispatcher, digest)

    def _content(self, module: ModuleType) -> dict[str, Any]:
        left = ("__builtins__", "__cached__", "__loader__", "__spec__")
        return {
            name: value
            for name, value in vars(module).items()
            if name not in left and (self.named is None or name in self.named)
        }


def _pickled(
    value: Any, own: dict[str, ModuleType] | None, named: set[str] | None = None
) -> tuple[_Pickler, bytes]:
    """Bytes of a value, and the pickler that made them.

    Raises
    ------
    InputError
        In one line, if it cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, own, named)
    try:
        pickler.dump(value)
    except InputError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        deep = isinstance(error.__cause__, RecursionError)
        raise InputError(why if deep else why + _holder(pickler.used)) from error
    return pickler, file.getvalue()


def _reduced_code(code: CodeType) -> Any:
    """Like cloudpickle, for a digest.

    Whether the file's name is one object with other strings differs between an import that
    compiles a file and one that finds it compiled, and would show in the bytes.
    """
    anonymous = code.replace(co_filename=f"in {code.co_filename}")
    return cloudpickle.Pickler.dispatch_table[CodeType](anonymous)


def _holder(used: list[Any]) -> str:
    """Where the last of the values used was found: the one that cannot be pickled."""
    culprit = used[-1]
    for holder in reversed(used):
        content: dict[str, Any] = getattr(holder, "__dict__", {})
        what, where = "attribute", type(holder).__name__
        if isinstance(holder, ModuleType):
            what, where = "global", _file_of(holder)
        elif isinstance(holder, FunctionType):
            free = zip(holder.__code__.co_freevars, holder.__closure__ or (), strict=True)
            for name, cell in free:
                with suppress(ValueError):  # an empty one
                    if cell.cell_contents is culprit:
                        return f" (variable {name} of {holder.__qualname__})"
            what, where, content = "global", _file_of(holder), holder.__globals__
        for name, value in content.items():
            if value is culprit:
                return f" ({what} {name} of {where})"
    return ""


def _file_of(value: Any) -> str:
    try:
        return os.path.basename(inspect.getfile(value))
    except TypeError:
        return str(value.__name__)


def _fill(module: ModuleType, content: dict[str, Any]) -> None:
    vars(module).update(content)


def _imported(module: str, name: str) -> Any:
    return operator.attrgetter(name)(importlib.import_module(module))


def _import(name: str, path: str) -> None:
    """Import a module of the user's, from its file if it has a name that no one else knows."""
    if name in sys.modules:
        return
    if "." in name or not os.path.isfile(path):
        importlib.import_module(name)
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
