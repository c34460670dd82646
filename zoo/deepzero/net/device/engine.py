"""A network at work on a GPU: what :class:`zoo.deepzero.net.engine.Engine` does, by its kernels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.cuda import SIMULATED, cuda, memory_told, multiprocessors, require
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.cost import blocks, change_costs, stage_of, unit_costs
from zoo.deepzero.net.device.changes import changes
from zoo.deepzero.net.device.convolution import tile_of
from zoo.deepzero.net.device.following import THREADS
from zoo.deepzero.net.device.passes import WIDE, passes
from zoo.deepzero.net.device.resident import Cache, Net, Size, new_cache
from zoo.deepzero.net.device.stacked import Plain, Stacked, Torch
from zoo.deepzero.net.network import Network
from zoo.deepzero.net.plan import Plan
from zoo.errors import InputError, Interrupted
from zoo.problem import never

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Operations of a launch: a look at whether to stop comes after each.
_PIECE = 1e12
#: Pixels of a unit that one block probes.
_PROBED = 16
#: Samples that rows are a multiple of, so that a warp's numbers begin where a sector does.
_ALIGNED = 1 if SIMULATED else 32


class DeviceEngine:
    """A network on a GPU, and the memory for batches of up to ``samples``.

    Parameters
    ----------
    network : Network
    samples : int
    dtype : numpy dtype
        float32 or float64.
    cancelled : callable
        True gives up what is under way.
    stacked : bool
        Whether a library convolves the changes of early stages; see :class:`Stacked`.

    Raises
    ------
    InputError
        If there is no GPU, or its memory is too small, or the library is not there.
    """

    @memory_told()
    def __init__(
        self,
        network: Network,
        samples: int,
        dtype: Any = np.float32,
        cancelled: Callable[[], bool] = never,
        stacked: bool = False,
    ) -> None:
        require()
        self.network, self.cancelled, self.samples = network, cancelled, 0
        self.plan = Plan(network, samples, dtype)
        real = self.plan.dtype.type
        self._passes, self._changes = passes(real), changes(real)
        self._length = -(-samples // _ALIGNED) * _ALIGNED
        if self.plan.sizes["a"] * self._length >= 1 << 32:  # see convolution
            raise InputError("batches are too large for a GPU: all activations of one must be "
                             "fewer than 2^32")  # fmt: skip
        order, bases = turned(network)
        self._padded = len(order)
        table = self.plan.table
        steps = table[:, col.HIN] * table[:, col.WIN] * self._length
        self._net = Net(cuda.to_device(np.column_stack([table, steps])), cuda.to_device(bases))
        self._order = cuda.to_device(order)
        self._conv = self._zeros(self.plan.sizes["conv"])
        self._result = cuda.to_device(np.zeros(2))
        self._base = self._new_cache()
        self._other: Cache | None = None
        self._change = change_costs(network, samples, False)
        self._unit = unit_costs(network, samples)
        self._scratch: dict[int, Any] = {}
        self._stacked: Stacked | None = None
        if stacked:
            real = self.plan.dtype
            library = Plain(real) if SIMULATED else Torch(real)
            self._stacked = Stacked(network, self._net, real, self._length, library, _memory() // 4)
        self._threads = min(THREADS, self._length)
        self.moments: Array = np.zeros((self.plan.sizes["channels"], 2))

    def _zeros(self, rows: int) -> Any:
        return cuda.to_device(np.zeros(max(1, rows) * self._length, self.plan.dtype))

    def _new_cache(self) -> Cache:
        return new_cache(self.plan, self._length, self._padded)

    @property
    def _size(self) -> Size:
        return Size(self._length, self.samples)

    def load(self, x: Any, y: Ints) -> None:
        """Take up a batch: inputs (n, channels, height, width) and labels (n,)."""
        self.samples = n = len(x)
        self._inputs = cuda.to_device(np.ascontiguousarray(x.reshape(n, -1), self.plan.dtype))
        self._labels = np.zeros(self.plan.samples, np.int64)
        self._labels[:n] = y
        self._fill(self._base)
        if self._other is not None:
            self._fill(self._other)

    def _fill(self, cache: Cache) -> None:
        blocks = 1 if SIMULATED else -(-self._inputs.shape[1] * self._length // WIDE)
        self._passes.lay[blocks, WIDE](self._inputs, cache.a, self._length)
        cache.y.copy_to_device(self._labels)

    def base(self, theta: Array) -> float:
        """Mean loss of the batch at ``theta``, from which changes will start."""
        loss = self._pass(self._base, theta, True)[0] / self.samples
        self.moments = self._base.moments.copy_to_host()[: len(self.moments)]
        if self._stacked is not None:
            self._stacked.base(theta, self._base, self.plan.table, self.samples)
        return loss

    def loss(self, theta: Array) -> float:
        """Mean loss of the batch at ``theta``; changes still start from the last base."""
        if self._other is None:
            self._other = self._new_cache()
            self._fill(self._other)
        return self._pass(self._other, theta, True)[0] / self.samples

    def evaluate(self, theta: Array, moments: Array) -> tuple[float, int]:
        """Sum of the losses, and how many labels are right, normalized by ``moments``."""
        self.moments = moments.copy()
        if len(moments):
            self._base.moments.copy_to_device(np.ascontiguousarray(moments))
        return self._pass(self._base, theta, False)

    def _pass(self, cache: Cache, theta: Array, training: bool) -> tuple[float, int]:
        if self.cancelled():
            raise Interrupted
        run, net, conv, size = self._passes, self._net, self._conv, self._size
        with np.errstate(over="ignore"):  # then the loss is not finite, as will be told
            cache.theta.copy_to_device(theta.astype(self.plan.dtype))
        run.turn[-(-self._padded // WIDE), WIDE](cache.theta, self._order, cache.weights)
        for k, stage in enumerate(self.network.stages):
            pixels = stage.height_conv * stage.width_conv
            many, channels = tile_of(pixels)
            grid = -(-stage.channels // channels), -(-pixels // (2 * many))
            run.convolve[grid, self._threads](net, k, cache, conv, size)
            run.finish[stage.channels, WIDE](net, k, cache, conv, size, training)
        logits = self.plan.table[-1, col.OUT_AT]
        run.softmax[1, WIDE](logits, self.network.classes, cache, self._result, size)
        total, right = self._result.copy_to_host()
        return float(total), int(right)

    def derivatives(self, coordinates: Ints, mu: float, central: bool = False) -> Array:
        """Derivatives of the loss by coordinates, in ascending order; see :func:`cge`.

        Raises
        ------
        Interrupted
            If cancelled.
        """
        stages = stage_of(self.network, coordinates)
        first = 0
        g = np.empty(len(coordinates))
        if self._stacked is not None:
            first = int(np.searchsorted(stages, self._stacked.stages))
            self._stack(coordinates[:first], stages[:first], mu, central, g[:first])
        self._launched(coordinates[first:], stages[first:], mu, central, g[first:])
        return g

    def _stack(self, coordinates: Ints, stages: Ints, mu: float, central: bool, g: Array) -> None:
        """Derivatives by coordinates of early stages, into g."""
        assert self._stacked is not None
        at = 0
        while at < len(coordinates):
            if self.cancelled():
                raise Interrupted
            k = int(stages[at])
            end = int(np.searchsorted(stages, k, side="right"))
            end = min(end, at + self._stacked.at_once(k, self.samples))
            g[at:end] = self._stacked.derivatives(
                k, coordinates[at:end], mu, central, self._base, self.samples
            )
            at = end

    def _launched(
        self, coordinates: Ints, stages: Ints, mu: float, central: bool, g: Array
    ) -> None:
        """Derivatives by coordinates, into g, by the kernel that does all of a change."""
        if not len(coordinates):
            return
        costs = self._change[stages] * (1 + central)
        chosen = np.ascontiguousarray(coordinates)
        begin = 0 if self._stacked is None else self._stacked.stages
        a_at = int(self.plan.table[begin, col.OUT_AT])

        def launch(first: int, last: int, dz: Any, da: Any) -> None:
            out = cuda.device_array(last - first, np.float64)
            self._changes.cge[min(len(dz), last - first), self._threads](
                self._net, a_at, cuda.to_device(chosen[first:last]), mu, int(central),
                self._base, dz, da, out, self._size,
            )  # fmt: skip
            out.copy_to_host(g[first:last])

        self._in_pieces(launch, costs, begin)

    def probes(self, units: Ints, mu: float) -> Array:
        """Derivatives by the weights and the bias of units (m, 2); see :func:`probe`."""
        stages = self.network.stages
        items, owner = [], []
        for m, (k, c) in enumerate(units):
            pixels = stages[k].height_conv * stages[k].width_conv
            for first in range(0, pixels, _PROBED):
                items.append((k, c, first, min(pixels, first + _PROBED)))
                owner.append(m)
        given = np.array(items, np.int64).reshape(-1, 4)
        sizes = np.array([s.fan_in + (s.bias >= 0) for s in stages])[units[:, 0]]
        widest = int(max(sizes, default=1))
        parts = np.empty((len(given), widest))
        a_at = int(self.plan.table[0, col.OUT_AT])
        each = np.array([s.height_conv * s.width_conv for s in stages])[given[:, 0]]
        costs = self._unit[given[:, 0]] * (given[:, 3] - given[:, 2]) / each

        def launch(first: int, last: int, dz: Any, da: Any) -> None:
            out = cuda.to_device(np.zeros((last - first, widest)))
            mass = cuda.device_array((len(dz), self._length), np.float64)
            self._changes.probe[min(len(dz), last - first), self._threads](
                self._net, a_at, cuda.to_device(given[first:last]), mu, self._base, dz, da, mass,
                out, self._size,
            )  # fmt: skip
            out.copy_to_host(parts[first:last])

        self._in_pieces(launch, costs, 0)
        sums = np.zeros((len(units), widest))
        np.add.at(sums, np.array(owner, np.int64), parts)
        return np.concatenate(
            [np.zeros(0), *(row[:size] for row, size in zip(sums, sizes, strict=True))]
        )

    def _in_pieces(
        self, launch: Callable[[int, int, Any, Any], None], costs: Array, begin: int
    ) -> None:
        """Launch for items ``first <= i < last``, so few that a request to stop is heard.

        They are of stages from ``begin`` on. A launch has work for all blocks.
        """
        if not len(costs):
            return
        if begin not in self._scratch:
            with memory_told():
                self._scratch[begin] = self._rows(begin)
        dz, da = self._scratch[begin]
        pieces = int(np.ceil(float(costs.sum()) * self.samples / _PIECE))
        pieces = max(1, min(pieces, len(costs) // len(dz)))
        for first, last in pairwise(blocks(costs, pieces)):
            if self.cancelled():
                raise Interrupted
            if last > first:
                launch(int(first), int(last), dz, da)

    def _rows(self, begin: int) -> tuple[Any, Any]:
        """Rows of the changes that blocks follow: of convolutions, and of activations."""
        rows = self.network.classes
        for k, stage in enumerate(self.network.stages[begin:]):
            pixels = stage.height_conv * stage.width_conv
            rows = max(rows, pixels * (min(stage.channels, tile_of(pixels)[1]) if k else 1))
        sizes = rows, self.plan.sizes["a"] - int(self.plan.table[begin, col.OUT_AT])
        bytes_each = sum(sizes) * self._length * self.plan.dtype.itemsize
        count = min(2 if SIMULATED else 4 * multiprocessors(), _memory() // 4 // bytes_each)
        if count < 1:
            raise InputError(
                f"the GPU's memory is too small for this network and batch: one block of its "
                f"threads takes {bytes_each / 1e9:.3g} GB"
            )
        dz, da = (
            cuda.device_array((int(count), size * self._length), self.plan.dtype) for size in sizes
        )
        return dz, da


def _memory() -> int:
    """Bytes of the GPU's memory: of all of it, so that a run does not depend on what is free."""
    if SIMULATED:
        return 1 << 30
    _, total = cuda.current_context().get_memory_info()
    return int(total)


def turned(network: Network) -> tuple[Ints, Ints]:
    """Where weights go for the convolutions: of each, its place in theta, -1 for none.

    A stage's have the order (tap, input channel, channel), and its channels whole tiles. Also where
    each stage's begin.
    """
    order: list[Any] = []
    bases, at = [], 0
    for stage in network.stages:
        channels = tile_of(stage.height_conv * stage.width_conv)[1]
        padded = -(-stage.channels // channels) * channels
        taps = stage.kernel_height * stage.kernel_width
        places = np.full((taps, stage.channels_in, padded), -1, np.int64)
        own = stage.weight + np.arange(stage.weights).reshape(
            stage.channels, stage.channels_in, taps
        )
        places[:, :, : stage.channels] = own.transpose(2, 1, 0)
        order.append(places.ravel())
        bases.append(at)
        at += places.size
    return np.concatenate(order), np.array(bases, np.int64)
