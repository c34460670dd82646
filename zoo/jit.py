"""The one way this project compiles: cached, GIL-free kernels, and objectives called by address.

A loop that takes its objective as a Numba *dispatcher* is compiled again in every process. A loop
that takes the machine address of a compiled ``float64(float64[::1])`` function is compiled once,
served from the disk cache ever after, and costs no Python per call to dispatch.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numba
from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_config: Any = numba.config  # whose settings Numba makes as it is imported

#: Seconds that a process waits for another one to compile, at most: that one may hang.
_PATIENCE = 300.0


@functools.cache
def source_digest(*without: str) -> str:
    """Digest of the engine's sources, but for some folders; the processes of a run agree on it."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(__file__).parent.parent / "evolve"):
        for path in sorted(folder.rglob("*.py")):
            if path.relative_to(folder).parts[0] not in without:
                digest.update(path.read_bytes())
    return digest.hexdigest()


def cpu_name() -> str:
    """Name of the CPU that Numba compiles for, such as "znver3"; ``NUMBA_CPU_NAME`` is honoured."""
    return str(_config.CPU_NAME or llvm.get_host_cpu_name())


def _cache_folder() -> str:
    """Where compiled code is kept: a folder named after the sources.

    Numba notices a changed file, and not a changed callee in another file; and its files beside
    the sources would survive an uninstall. The runtime has no kernels. ``NUMBA_CACHE_DIR`` is
    honoured.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if home.startswith("~"):  # there is no home
        home = os.devnull
    base = _config.CACHE_DIR or os.path.join(home, "zoo")
    return os.path.join(base, f"compiled-{source_digest('runtime')[:16]}")


#: Folder of compiled code; it need not exist, nor be writable.
CACHE = _cache_folder()


@contextmanager
def warm(key: str) -> Iterator[None]:
    """Let one process of this machine compile, while others that need the same code wait for it.

    The first process with a key has the block to itself; those that come meanwhile wait until it
    has left, and then load what it compiled, side by side. That the block has ended well is written
    down: nobody waits any more, now or on another day. After an exception, or a sudden death, the
    next one has its turn.

    The key names what the block compiles, say by :func:`zoo.runtime.parcel.code_of`; the engine's
    sources, the CPU and the versions of Python and Numba are added to it. It is all about waiting:
    should the code not be in the cache after all, the block compiles it. Where nothing can be
    written, or locked, nobody waits. A block must not hold another one of the same key.
    """
    named = repr((key, cpu_name(), numba.__version__, sys.version_info[:2]))
    turn = _turn(Path(CACHE) / "warm" / hashlib.sha256(named.encode()).hexdigest()[:32])
    try:
        yield
        if turn is not None:
            with suppress(OSError):
                turn.write(b"compiled\n")
    finally:
        if turn is not None:
            with suppress(OSError):
                turn.close()


def _turn(path: Path) -> IO[bytes] | None:
    """The file, open and locked, if it is for us to compile: it is empty, and nobody is at it."""
    end = time.monotonic() + _PATIENCE
    with suppress(OSError), ExitStack() as opened:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = opened.enter_context(path.open("ab"))
        while os.fstat(file.fileno()).st_size == 0 and time.monotonic() < end:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            if os.fstat(file.fileno()).st_size == 0:
                opened.pop_all()
                return file
    return None


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with the cache in our folder, without moving that of anybody else."""

    def decorate(function: Callable[..., Any]) -> Any:
        before, _config.CACHE_DIR = _config.CACHE_DIR, CACHE
        try:
            return njit(cache=True, **options)(function)
        except (RuntimeError, OSError):  # source that is no file has nowhere to be cached
            return njit(**options)(function)
        finally:
            _config.CACHE_DIR = before

    return decorate


# fastmath=False is not the default: without it a callee is compiled with its caller's fastmath.
_STRICT: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}

#: Decorator of the engine's kernels. Strict IEEE arithmetic: the same bits however LLVM inlines.
kernel = _compiled(**_STRICT)

#: Decorator of the small functions inside vectorized loops: LLVM's own judgement would call them.
inlined = _compiled(**_STRICT, forceinline=True)

# reassoc lets sums vectorize, contract fuses products into them; NaN and inf keep their meaning.
# Inlined, for a module that calls another's loops may hold them optimized once more, with other
# additions first; which of the two a call reaches would depend on what was compiled before.
_relaxed = _compiled(
    **(_STRICT | {"fastmath": {"reassoc", "nsz", "arcp", "contract"}}), forceinline=True
)

#: Signature of a scalar objective: a contiguous point to a number.
SCALAR_OBJECTIVE = types.float64(types.float64[::1])


def jit_objective(function: Callable[..., float]) -> Any:
    """Compile a scalar objective ``f(x: float64[::1]) -> float`` for use inside the engine's loops.

    Sums over coordinates may be reassociated (so that they vectorize); infinities and NaN keep
    their meaning. A function that is already ``numba.njit``-compiled may be used as it is instead.
    """
    return _relaxed(function)


def address(dispatcher: Any) -> int:
    """Compile ``dispatcher`` as a scalar objective and return the machine address of the code.

    The caller keeps ``dispatcher`` alive for as long as the address is used.

    Raises
    ------
    TypeError
        If it does not compile for a 1-D float64 array, or does not return a float.
    """
    try:
        compiled = dispatcher.get_compile_result(SCALAR_OBJECTIVE)
        if compiled.signature.return_type == types.float64:
            return _entry(compiled)
    except Exception:  # another return type, or compiled for one signature that is not ours
        pass
    try:
        return _entry(_returning_float(dispatcher).get_compile_result(SCALAR_OBJECTIVE))
    except Exception as error:  # Numba passes on whatever its typing stumbled over
        raise TypeError(
            "the jitted objective does not compile to float(x), x a 1-D float64 array: "
            + why_not(error)
        ) from error


def why_not(error: Exception) -> str:
    """Line of Numba's message that says why something does not compile."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Failed in", "During:", "File ", "- Resolution", "Overload", "Rejected", ">>>")
    reasons = [line for line in lines if line and not line.startswith(noise)]
    return reasons[0] if reasons else "no reason given"


def _entry(compiled: Any) -> int:
    """Machine address of compiled code, by Numba's own calling convention."""
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


_wrappers: dict[Any, Any] = {}  # kept alive, for their addresses are in use
_wrapping = threading.Lock()


def _returning_float(dispatcher: Any) -> Any:
    with _wrapping:
        if dispatcher not in _wrappers:

            def objective(x):
                return float(dispatcher(x))

            _wrappers[dispatcher] = njit(nogil=True)(objective)
        return _wrappers[dispatcher]


@intrinsic
def call_objective(typingctx, address, x, start, n):
    """Call the objective at ``address`` on x[start : start + n], without a copy or a reference.

    Parameters
    ----------
    address : int64
        From :func:`address`.
    x : float64[::1]
    start, n : int64
    """
    point = types.float64[::1]

    def codegen(context, builder, signature, args):
        source = context.make_array(point)(context, builder, args[1])
        view = context.make_array(point)(context, builder)
        word = ir.IntType(64)
        context.populate_array(
            view,
            data=builder.gep(source.data, [args[2]]),
            shape=[args[3]],
            strides=[ir.Constant(word, 8)],
            itemsize=ir.Constant(word, 8),
            meminfo=None,
        )
        value = view._getvalue()
        prototype = context.call_conv.get_function_type(types.float64, (point,))
        function = builder.inttoptr(args[0], prototype.as_pointer())
        status, result = context.call_conv.call_function(
            builder, function, types.float64, (point,), (value,)
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return result

    return types.float64(types.int64, point, types.int64, types.int64), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Compute a*b + c, rounded once: the same bits wherever it is inlined."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def to_bits(typingctx, x):
    """Reinterpret a float64 as the uint64 with the same bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), codegen


@intrinsic
def from_bits(typingctx, bits):
    """Reinterpret a uint64 as the float64 with the same bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), codegen


@intrinsic
def borrowed(typingctx, held):
    """View of an array, or of a named tuple of arrays, that holds no reference.

    Loops that slice it and pass it on count nothing. The caller keeps the arrays themselves in use
    for as long as the view.
    """

    def lent(context, builder, kind, value):
        view = context.make_array(kind)(context, builder, value)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        return view._getvalue()

    def codegen(context, builder, signature, args):
        if isinstance(held, types.Array):
            return lent(context, builder, held, args[0])
        values = cgutils.unpack_tuple(builder, args[0])
        views = [lent(context, builder, k, v) for k, v in zip(held.types, values, strict=True)]
        return context.make_tuple(builder, held, views)

    return held(held), codegen
