"""CUDA: the backend that this machine has, and the engine's scalar functions as device functions.

The backend is ``numba-cuda``; with ``NUMBA_ENABLE_CUDASIM=1`` it is Numba's simulator, in which a
thread of the GPU is one of Python. (``numba_cuda_mlir``, which is to succeed it, compiles none of
these kernels yet: version 0.6 has no named tuples, and no constants of 2^63 and above.) To be
imported where a GPU is asked for, and nowhere else.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from zoo import jit, streams, vmath
from zoo.errors import InputError

# Few blocks are meant where there is little to do.
os.environ.setdefault("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", "0")
warnings.filterwarnings("ignore", message="Grid size .* will likely result in GPU under")

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
if SIMULATED:  # it spins while its threads wait for their turn
    sys.setswitchinterval(1e-4)


def _backend() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Numba's own is deprecated in favour of numba-cuda
        from numba import cuda as backend
    return _Simulated(backend) if SIMULATED else backend


class _Simulated:
    """Numba's simulator, for device functions of any module.

    Numba's puts what belongs to a thread in place of ``cuda`` among the names of each function that
    it runs, which threads undo for each other, and which fails while one of them adds a name. Here
    ``cuda`` is this, and looks up what belongs to the thread that asks.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._kernel = import_module("numba.cuda.simulator.kernel")
        vars(self._kernel)["swapped_cuda_module"] = lambda function, running: nullcontext()
        shared = import_module("numba.cuda.simulator.kernelapi").FakeCUDAShared
        shared.array = _shared_array(shared.array)

    def __getattr__(self, name: str) -> Any:
        running = self._kernel._get_kernel_context()
        return getattr(self._backend if running is None else running, name)


def _shared_array(array: Callable[..., Any]) -> Callable[..., Any]:
    """The simulator's ``cuda.shared.array``, of which two threads at once would get one each."""

    def shared_array(self: Any, shape: Any, dtype: Any) -> Any:
        if shape == 0:
            return array(self, shape, dtype)
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        return self._allocations.setdefault(place, np.empty(shape, getattr(dtype, "name", dtype)))

    return shared_array


#: The module of kernels' names: ``cuda.jit``, ``cuda.threadIdx``, ...
cuda: Any = _backend()

# Numba's own numba.cuda, which is there without a backend, lacks what these are made of.
_intrinsics: Any = None
if not SIMULATED and find_spec(cuda.__name__ + ".cgutils") is not None:
    _intrinsics = import_module("zoo.cuda_intrinsics")


def require() -> None:
    """Make sure that there is a GPU to be used.

    Raises
    ------
    InputError
        If there is none.
    """
    usable, driver = False, False
    with suppress(Exception):  # whatever the driver stumbled over
        usable = (SIMULATED or _intrinsics is not None) and bool(cuda.is_available())
        driver = SIMULATED or bool(cuda.cudadrv.driver.driver.is_available)
    if driver and not usable:
        raise InputError(
            "there is a GPU here, but no CUDA compiler (libnvvm): install 'zoo-engine[cuda]', set "
            "CUDA_HOME to a CUDA toolkit, or use --device cpu"
        )
    if not usable:
        raise InputError(
            "there is no CUDA GPU here, or no backend for it: install 'zoo-engine[cuda]' on a "
            "machine with an NVIDIA driver, give workers one by --gpus-per-worker, or use "
            "--device cpu"
        )


@contextmanager
def memory_told() -> Iterator[None]:
    """Say in one line where the GPU's memory is too small.

    Raises
    ------
    InputError
    """
    try:
        yield
    except Exception as error:
        if "out of memory" not in str(error).lower().replace("_", " "):
            raise
        raise InputError(
            "the GPU's memory is too small for this: smaller batches or populations need less"
        ) from error


if SIMULATED:

    def _to_bits(x):
        return np.float64(x).view(np.uint64)

    def _from_bits(bits):
        return np.uint64(bits).view(np.float64)

    def _fma(a, b, c):
        return a * b + c

    _fmaf = _fma

    def _product(a, b):
        return a * b

    def _unitf(word):
        return np.float32(((int(word) >> 41) + 0.5) * 2.0**-23)

    def _signedf(x, word):
        return -x if int(word) & 1 else x

    def _log2f(x):
        return np.float32(math.log2(x))

    def _rsqrtf(x):
        return np.float32(1.0 / math.sqrt(x))

    def _cosf(x):
        return np.float32(math.cos(x))

    def _sinf(x):
        return np.float32(math.sin(x))

    def _mulhi(low, high, b):
        return np.uint64(((int(high) << 32) + int(low)) * int(b) >> 64)

    def _four_at(array, at):
        return array[at], array[at + 1], array[at + 2], array[at + 3]

    def _put_four(array, at, four):
        array[at], array[at + 1], array[at + 2], array[at + 3] = four

else:
    _libdevice: Any = import_module(cuda.__name__ + ".libdevice")

    def _to_bits(x):
        return np.uint64(_libdevice.double_as_longlong(x))

    def _from_bits(bits):
        return _libdevice.longlong_as_double(np.int64(bits))

    def _fma(a, b, c):
        return _libdevice.fma(a, b, c)

    def _fmaf(a, b, c):
        return _libdevice.fmaf(a, b, c)

    def _product(a, b):
        return _libdevice.dmul_rn(a, b)

    _LAST = np.float32(1.0 - 2.0**-24)

    def _unitf(word):  # 1 + i/2^23, of its bits, less what makes it (i + 1/2)/2^23: both exact
        return (
            _libdevice.int_as_float(np.int32((word >> np.uint64(41)) | np.uint64(0x3F800000)))
            - _LAST
        )

    def _signedf(x, word):
        sign = np.int32(np.uint32(word << np.uint64(31)))
        return _libdevice.int_as_float(np.int32(_libdevice.float_as_int(x) ^ sign))

    def _log2f(x):
        return _libdevice.fast_log2f(x)

    def _rsqrtf(x):
        return _libdevice.rsqrtf(x)

    def _cosf(x):
        return _libdevice.fast_cosf(x)

    def _sinf(x):
        return _libdevice.fast_sinf(x)

    def _mulhi(low, high, b):
        return np.uint64(_libdevice.umul64hi(np.int64((high << np.uint64(32)) | low), np.int64(b)))

    _load_four = getattr(_intrinsics, "load_four", None)
    _store_four = getattr(_intrinsics, "store_four", None)

    def _four_at(array, at):
        return _load_four(array, at)

    def _put_four(array, at, four):
        _store_four(array, at, four[0], four[1], four[2], four[3])


def _device(function: Callable[..., Any]) -> Any:
    return cuda.jit(device=True)(function)


#: Arrays of the simulator.
_arrays: Any = import_module("numba.cuda.simulator.cudadrv.devicearray") if SIMULATED else None


class _Tuples:
    """Named tuples of arrays as arguments: Numba's simulator would leave them as they are."""

    def prepare_args(self, kind: Any, value: Any, **_: Any) -> tuple[Any, Any]:
        if hasattr(value, "_fields"):
            value = type(value)(*(self.prepare_args(kind, part)[1] for part in value))
        elif isinstance(value, _arrays.FakeCUDAArray):
            value = _arrays.FakeWithinKernelCUDAArray(value)
        return kind, value


class Kernel:
    """A kernel that takes named tuples of arrays, and the same types at every launch.

    Numba would find out the types of tuples anew each time, which takes longer than a launch.
    """

    def __init__(self, function: Callable[..., Any], registers: int | None) -> None:
        self.py_func = function
        if SIMULATED:
            self._made = cuda.jit(function)
            self._made.extensions.append(_Tuples())
        else:
            self._made = cuda.jit(max_registers=registers)(function)
        self._compiled: Any = None

    def __getitem__(self, place: tuple[Any, ...]) -> Callable[..., None]:
        """Launch on so many blocks, of so many threads, ..., as Numba has it."""

        def launch(*given: Any) -> None:
            if self._compiled is None:
                self._compiled = self._made if SIMULATED else self._made.specialize(*given)
            self._compiled[place](*given)

        return launch

    def most_blocks(self, threads: int, bytes_shared: int) -> int:
        """Blocks that can be there at once, once it is compiled."""
        (only,) = self._compiled.overloads.values()
        return int(only.max_cooperative_grid_blocks(threads, bytes_shared))


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorator of kernels that take named tuples of arrays."""
    return Kernel(function, None)


def kernel_of_registers(most: int) -> Callable[[Callable[..., Any]], Kernel]:
    """The same for threads that have at most so many registers: more of them run then."""
    return lambda function: Kernel(function, most)


#: Threads that see each other's registers; in the simulator every thread is alone.
WARP = 1 if SIMULATED else 32

if SIMULATED:

    def _warp_total(value):
        return value

    def _warp_least(value):
        return value

    def _rint(x):
        return np.rint(x)

    _rintf = _rint

else:

    def _warp_total(value):
        for distance in (16, 8, 4, 2, 1):
            value += cuda.shfl_xor_sync(0xFFFFFFFF, value, distance)
        return value

    def _warp_least(value):
        for distance in (16, 8, 4, 2, 1):
            value = min(value, cuda.shfl_xor_sync(0xFFFFFFFF, value, distance))
        return value

    def _rint(x):
        return _libdevice.rint(x)

    def _rintf(x):
        return _libdevice.rintf(x)


#: What the engine's intrinsics, and what the GPU has an instruction for, are on the device.
_INTRINSICS: dict[Any, Any] = {
    jit.to_bits: _device(_to_bits),
    jit.from_bits: _device(_from_bits),
    jit.fma: _device(_fma),
    streams._mulhi: _device(_mulhi),
}

#: a*b + c rounded once, of float64 and of float32; and a*b that no compiler fuses with a sum.
fma, fmaf, product = _INTRINSICS[jit.fma], _device(_fmaf), _device(_product)

#: Four numbers beside each other in a flat array, at a multiple of four of memory that is aligned
#: to 16 bytes, as a tuple: read, and written, at once.
four_at, put_four = _device(_four_at), _device(_put_four)

#: Random word to a float32 in the open interval (0, 1), (i + 1/2) / 2^23 of its upper 23 bits; and
#: x with the sign of the word's lowest bit, of x > 0.
unitf, signedf = _device(_unitf), _device(_signedf)

#: Of float32 what the GPU has an instruction for, to about 2^-21: of logarithms between 1/2 and 2,
#: and of the cosine and sine within half a turn, that is the error; of the others it is relative.
log2f, rsqrtf, cosf, sinf = _device(_log2f), _device(_rsqrtf), _device(_cosf), _device(_sinf)

#: Sum and least of a value over the threads of a warp, which all of them get; and the nearest whole
#: number, the even one of two.
warp_total, warp_least, rint = _device(_warp_total), _device(_warp_least), _device(_rint)
_rint_of_float32 = _device(_rintf)

#: Of sin^2(pi t) / t^2 in t^2 for |t| <= 1/2, to 2e-8: interpolated at Chebyshev points.
_SIN2 = tuple(
    np.float32(value) for value in (9.869604, -32.46967, 42.727192, -30.1014, 13.049796, -3.3561087)
)


@_device
def block_total(value, scratch):
    """Sum over the threads of a block, in a fixed order; all of them get it.

    ``scratch`` is shared, and has a place for each warp.
    """
    value = warp_total(value)
    cuda.syncthreads()
    if cuda.threadIdx.x % WARP == 0:
        scratch[cuda.threadIdx.x // WARP] = value
    cuda.syncthreads()
    total = scratch[0]
    for warp in range(1, cuda.blockDim.x // WARP):
        total += scratch[warp]
    return total


@_device
def block_least(value, scratch):
    """Least value over the threads of a block; see :func:`block_total`."""
    value = warp_least(value)
    cuda.syncthreads()
    if cuda.threadIdx.x % WARP == 0:
        scratch[cuda.threadIdx.x // WARP] = value
    cuda.syncthreads()
    least = scratch[0]
    for warp in range(1, cuda.blockDim.x // WARP):
        least = min(least, scratch[warp])
    return least


@_device
def block_lowest(value, at, scratch, places):
    """Smallest value over the threads of a block, and the first place that has it.

    ``scratch`` and ``places`` are shared, and have a place for each thread, a power of two.
    """
    me = cuda.threadIdx.x
    cuda.syncthreads()
    scratch[me], places[me] = value, at
    cuda.syncthreads()
    width = cuda.blockDim.x // 2
    while width > 0:
        if me < width:
            other, there = scratch[me + width], places[me + width]
            if other < scratch[me] or (other == scratch[me] and there < places[me]):
                scratch[me], places[me] = other, there
        cuda.syncthreads()
        width //= 2
    return scratch[0], places[0]


@_device
def _sin2_pi(x):
    t = np.float32(x) - _rint_of_float32(np.float32(x))
    s = t * t
    c0, c1, c2, c3, c4, c5 = _SIN2
    return s * (c0 + s * (c1 + s * (c2 + s * (c3 + s * (c4 + s * c5)))))


#: What is as exact as single precision, and takes a fraction of the time.
_SINGLES: dict[Any, Any] = {vmath.sin2_pi: _sin2_pi}

_made: dict[Any, Any] = {}


def device_function(function: Any, single: bool = False) -> Any:
    """A compiled function of the engine, or of a user, as a device function, from its own source.

    Compiled functions that it calls become device functions, too, and the engine's intrinsics those
    of the device; loops over ``range`` are counted in another way, and everything else it names is
    as it is.

    Parameters
    ----------
    function : Numba dispatcher, or Python function
    single : bool
        Whether it is for single precision, and so may compute in it.
    """
    python = getattr(function, "py_func", function)
    if (python, single) not in _made:
        _made[python, single] = _device(_rebound(python, single))
    return _made[python, single]


def _rebound(python: Callable[..., Any], single: bool) -> Callable[..., Any]:
    """The function, with what it names replaced."""
    held: Any = python
    names, code = dict(held.__globals__), held.__code__
    for name in code.co_names:
        if name in names:
            names[name] = _replaced(names[name], code.co_names, single)
    cells = tuple(
        CellType(_replaced(cell.cell_contents, (), single)) for cell in held.__closure__ or ()
    )
    if _intrinsics is not None:
        code, names = _intrinsics.with_counted(code, names)
    made = FunctionType(code, names, held.__name__, held.__defaults__, cells)
    made.__qualname__, made.__module__ = held.__qualname__, held.__module__
    return made


def _replaced(value: Any, attributes: tuple[str, ...], single: bool) -> Any:
    with suppress(TypeError):  # it cannot be hashed
        if single and value in _SINGLES:
            return _SINGLES[value]
        if value in _INTRINSICS:
            return _INTRINSICS[value]
    if hasattr(value, "py_func"):
        return device_function(value, single)
    if isinstance(value, ModuleType) and value not in (math, np):
        return _module(value, attributes, single)
    return value


def _module(module: ModuleType, attributes: tuple[str, ...], single: bool) -> ModuleType:
    """A module with some of its functions for the device."""
    found = {name: getattr(module, name) for name in attributes if hasattr(module, name)}
    if not any(hasattr(value, "py_func") or _is_intrinsic(value) for value in found.values()):
        return module
    made = ModuleType(module.__name__)
    for name, value in found.items():
        setattr(made, name, _replaced(value, (), single))
    return made


def _is_intrinsic(value: Any) -> bool:
    try:
        return value in _INTRINSICS
    except TypeError:
        return False


@functools.cache
def multiprocessors() -> int:
    """Multiprocessors of the GPU; 1 in the simulator."""
    if SIMULATED:
        return 1
    return int(cuda.get_current_device().MULTIPROCESSOR_COUNT)
