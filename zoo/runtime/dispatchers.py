"""How Numba-compiled functions travel: by value, under a name that their machine code is kept by.

By Numba's own reduction a function leaves its disk cache behind, and every worker compiles it
anew; and that cache would not notice another constant, or a changed helper in another file. Here
the name of a function is a digest of all that its machine code is made from, and the cache of a
node is searched by that name. The function's file is not needed, nor that it has one.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from numba.core.caching import FunctionCache
from numba.core.errors import NumbaWarning
from numba.core.utils import _dynamic_module

from zoo.jit import CACHE

_FOLDER = Path(CACHE) / "functions"

# Nobody asked for this cache: what cannot be kept in it is compiled, without a word.
warnings.filterwarnings("ignore", category=NumbaWarning, module=re.escape(str(_FOLDER)))

# Functions of other kinds (ufuncs, say) have that for a module, and Numba imports it from a cache.
sys.modules.setdefault(_dynamic_module.__name__, _dynamic_module)

_rebuilt: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def reduced(dispatcher: Any, name: str) -> tuple[Any, ...]:
    """Reduction of a dispatcher, for a pickler; by the empty name nothing is kept.

    The function is part of the state, filled in later, for it may refer to its own dispatcher.
    """
    # Signatures that were given with the function are all that it may be compiled for.
    signatures = [] if dispatcher._can_compile else dispatcher.nopython_signatures
    state = (name, dispatcher.py_func, dispatcher.targetoptions, dispatcher.locals, signatures)
    return _shell, (type(dispatcher), name), state, None, None, _fill


def described(dispatcher: Any) -> tuple[Any, ...]:
    """Like :func:`reduced`, for :func:`name_of`: the same bytes in every process."""
    options = {
        key: sorted(value) if isinstance(value, set | frozenset) else value
        for key, value in sorted(dispatcher.targetoptions.items())
    }
    given = [] if dispatcher._can_compile else dispatcher.nopython_signatures
    signatures = [str(signature) for signature in given]
    types = sorted((name, str(type_)) for name, type_ in dispatcher.locals.items())
    state = ("", dispatcher.py_func, options, types, signatures)
    return _shell, (type(dispatcher), ""), state, None, None, _fill


def name_of(description: bytes, installed: set[str]) -> str:
    """Name of a function: digest of its description and of the installed modules that it uses."""
    digest = hashlib.sha256(description)
    for name in sorted(installed | {name.partition(".")[0] for name in installed}):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and os.path.exists(path):
            found = os.stat(path)
            digest.update(f"{name} {found.st_mtime_ns} {found.st_size}\n".encode())
    return digest.hexdigest()[:32]


def _shell(kind: Any, name: str) -> Any:
    known = _rebuilt.get(name) if name else None
    return kind.__new__(kind) if known is None else known


def _fill(dispatcher: Any, state: Any) -> None:
    name, function, options, locals_, signatures = state
    if hasattr(dispatcher, "py_func"):  # one that had come before
        return
    if name:
        _settle(function, name)
    dispatcher.__init__(function, locals_, options)
    if name:
        with suppress(OSError, RuntimeError):  # there is nowhere to write
            dispatcher._cache = _cache(name)
        _rebuilt[name] = dispatcher
    for signature in signatures:
        dispatcher.compile(signature)
    dispatcher.disable_compile(bool(signatures))


def _settle(function: FunctionType, name: str) -> None:
    """Give a function a module to be at home in.

    Numba names machine code after module and function: no two functions may share both. And it
    imports the module of what it finds in a cache, for the globals.
    """
    module = ModuleType(f"zoo_function_{name}")
    vars(module).update({**function.__globals__, "__name__": module.__name__})
    sys.modules[module.__name__] = module
    function.__module__ = module.__name__


def _cache(name: str) -> Any:
    """Numba's cache for a function of this name.

    Numba finds a cache by the place of a function, and checks it by the text there and the values
    in its closure; all of which is the name here, so it is shown an empty function in an empty
    file of that name.
    """
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / f"{name}.py"
    path.touch()
    return FunctionCache(FunctionType(_nothing.__code__.replace(co_filename=str(path)), {}))


def _nothing() -> None: ...
