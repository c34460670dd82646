"""Changes of many parameters at once, stacked: convolutions by a library's matrix units.

In a large network nearly all of a change's work is convolutions of whole maps. Here the changes of
some hundred parameters of a stage lie behind each other like so many samples, (parameter, sample,
row, column, channel), and a library convolves all of them; kernels do the rest in two passes over
them, sums of the batch and what follows. Only changes are multiplied, and never their difference
from what was there before, so that the ten bits of a matrix unit's factors (TF32) err by a share of
the change.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numba import float64

from zoo.cuda import SIMULATED, block_total, cuda, device_function, kernel, kernel_of_registers
from zoo.deepzero.net import columns as col
from zoo.deepzero.net.coordinates import located
from zoo.deepzero.net.device.convolution import MAP, SINGLE
from zoo.deepzero.net.device.following import THREADS, WARPS, following
from zoo.deepzero.net.device.resident import Cache, Net, Scratch, Size
from zoo.deepzero.net.network import Network, Stage
from zoo.errors import InputError

Array = npt.NDArray[np.float64]

#: Rows (samples' pixels) that a block sums up, at most, and blocks that share a change.
_ROWS, _SHARES = 4096, 512

_located = device_function(located)

#: Kernels that wait for memory, of which many threads are to be at work at the same time.
_busy, _half = kernel_of_registers(80), kernel_of_registers(128)


class Library(Protocol):
    """What convolves."""

    def array(self, values: Any) -> Any:
        """Values on the device."""
        ...

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Memory on the device."""
        ...

    def convolve(self, x: Any, weights: Any, stride: int, padding: int) -> Any:
        """Convolution of x (m, height, width, channels) by (channels out, channels, k, k)."""
        ...

    def held(self, array: Any) -> Any:
        """Array as kernels take it, flat."""
        ...


class Torch:
    """PyTorch, and so cuDNN, in single precision by TF32."""

    def __init__(self, dtype: Any, device: str = "cuda") -> None:
        try:
            import torch
        except ImportError as error:
            raise InputError(
                "changes of large networks are convolved by PyTorch, which is not here: install "
                "'zoo-engine[torch]', or use --convolutions kernels"
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "PyTorch has no GPU here: install one of its builds for CUDA, or use "
                "--convolutions kernels"
            )
        self._torch, self._device = torch, device
        self._dtype = torch.float32 if dtype == np.float32 else torch.float64

    def array(self, values: Any) -> Any:
        """Values on the device."""
        return self._torch.tensor(values, dtype=self._dtype, device=self._device)

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Memory on the device."""
        return self._torch.empty(shape, dtype=self._dtype, device=self._device)

    def convolve(self, x: Any, weights: Any, stride: int, padding: int) -> Any:
        """Convolution; channels are last in memory before and after."""
        last = self._torch.channels_last
        flags = self._torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=True
        )
        with flags, self._torch.no_grad():
            out = self._torch.nn.functional.conv2d(
                x.permute(0, 3, 1, 2),
                weights.contiguous(memory_format=last),
                stride=stride,
                padding=padding,
            )
        return out.contiguous(memory_format=last).permute(0, 2, 3, 1)

    def held(self, array: Any) -> Any:
        """Array as kernels take it, flat."""
        return cuda.as_cuda_array(array.reshape(-1))


class Plain:
    """NumPy, for the simulator."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def array(self, values: Any) -> Any:
        """Values as they are."""
        return np.array(values, self._dtype)

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Memory that is seen where it was not written."""
        return np.full(shape, np.nan, self._dtype)

    def convolve(self, x: Any, weights: Any, stride: int, padding: int) -> Any:
        """Convolution, window by window."""
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        seen = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, around), weights.shape[2:], axis=(1, 2)
        )
        windows = seen[:, ::stride, ::stride]
        return np.ascontiguousarray(np.einsum("myxcij,ocij->myxo", windows, weights))

    def held(self, array: Any) -> Any:
        """Array as kernels take it, flat."""
        return array.reshape(-1)


class ByChannel(NamedTuple):
    """Rows of a pass that changes start from, as (sample, pixel, channel); u where it has none."""

    z: Any
    gap: Any
    u: Any


class Kernels(NamedTuple):
    """Kernels of stacked changes."""

    turn: Any
    begin: Any
    first: Any
    add: Any
    factors: Any
    finish: Any
    pool: Any
    loss: Any


@functools.cache
def kernels(real: Any) -> Kernels:
    """Kernels of stacked changes in a precision."""
    zero = real(0)
    bent, factors_of, shift, normalize, finish_own, loss_change = following(real)

    @kernel
    def turn(rows, at, channels, pixels, out, size):
        """Rows of (channel, pixel) by sample, as (sample, pixel, channel)."""
        length, n = size
        for q in range(cuda.grid(1), n * pixels * channels, cuda.gridsize(1)):
            c, rest = q % channels, q // channels
            r = at + c * pixels + rest % pixels
            out[q] = rows[np.uint64(r * length + rest // pixels)]

    @_half
    def begin(net, k, coordinates, mu, cache, all_dz, da, size):
        """Changes of the coordinates' own channels of stage k's activation, as rows of da."""
        held = cuda.shared.array((WARPS, 3), float64)
        factors = cuda.shared.array((1, 3), real)
        sums = cuda.local.array(3, real)
        stage, dz = net.table[k], all_dz[cuda.blockIdx.x]
        for at in range(cuda.blockIdx.x, len(coordinates), cuda.gridDim.x):
            c, cin, row, column = _located(stage, coordinates[at])
            for q in range(3):
                sums[q] = zero
            scratch = Scratch(dz, da[at], held, factors, held[0])  # whose last nobody asks for
            shift(stage, c, cin, row, column, mu, cache, dz, sums, size)
            scaled = stage[col.GAMMA] >= 0 and cin >= -1
            normalize(stage, c, 1, sums, cache, scratch, size.n)
            finish_own(stage, k, -1, c, 1, scaled, cache, scratch, 0, 0, size)

    @kernel
    def first(net, k, coordinates, da, cache, out, size):
        """Convolution of the one channel that has changed: of pixel y, x of all samples.

        A thread has one channel of every so many samples.
        """
        stage, at = net.table[k + 1], cuda.blockIdx.x
        length, n = size
        channels, wide = stage[col.C], stage[col.WCONV]
        pixels = stage[col.HCONV] * wide
        tile = SINGLE[1] if pixels == 1 else MAP[1]
        padded = (channels + tile - 1) // tile * tile
        c, _, _, _ = _located(net.table[k], coordinates[at])
        stride, padding = stage[col.STRIDE], stage[col.PADDING]
        kh, kw, hin, win = stage[col.KH], stage[col.KW], stage[col.HIN], stage[col.WIN]
        begins, step, change = net.bases[k + 1] + c * padded, stage[col.CIN] * padded, da[at]
        here = min(channels, cuda.blockDim.x)
        side, group = cuda.threadIdx.x % here, cuda.threadIdx.x // here
        groups = cuda.blockDim.x // here
        for pixel in range(cuda.blockIdx.y, pixels, cuda.gridDim.y):
            y, x = pixel // wide * stride - padding, pixel % wide * stride - padding
            for o in range(side, channels if group < groups else 0, here):
                for b in range(group, n, groups):
                    total, w = zero, begins + o
                    for yy in range(y, y + kh):
                        for xx in range(x, x + kw):
                            if yy >= 0 and yy < hin and xx >= 0 and xx < win:
                                moved = change[np.uint64((yy * win + xx) * length + b)]
                                total += cache.weights[np.uint64(w)] * moved
                            w += step
                    out[np.uint64(((at * n + b) * pixels + pixel) * channels + o)] = total

    @cuda.jit
    def add(channels, rows, d, z, parts):
        """Sums of d, z d and d^2 by channel of some rows, of change blockIdx.x; in a fixed order.

        A thread has one channel of every so many rows.
        """
        shared = cuda.shared.array((3, THREADS), real)
        me, wide = cuda.threadIdx.x, cuda.blockDim.x
        k, share = cuda.blockIdx.x, cuda.blockIdx.y
        each = (rows + cuda.gridDim.y - 1) // cuda.gridDim.y
        end = min(rows, (share + 1) * each)
        for c0 in range(0, channels, wide):
            here = min(wide, channels - c0)
            side, group, groups = me % here, me // here, wide // here
            total, mixed, squares = zero, zero, zero
            if group < groups:
                for row in range(share * each + group, end, groups):
                    at = row * channels + c0 + side
                    change = d[np.uint64(k * rows * channels + at)]
                    total += change
                    mixed += z[np.uint64(at)] * change
                    squares += change * change
            cuda.syncthreads()
            shared[0, me], shared[1, me], shared[2, me] = total, mixed, squares
            cuda.syncthreads()
            if group == 0:
                for m in range(3):
                    value = 0.0
                    for other in range(groups):
                        value += float64(shared[m, other * here + side])
                    parts[k, share, c0 + side, m] = value

    @kernel
    def factors(stage, parts, cache, count, out):
        """Factors of the channels of all changes, from their sums."""
        channels = stage[col.C]
        q = cuda.grid(1)
        if q < len(parts) * channels:
            k, c = q // channels, q % channels
            total, mixed, squares = 0.0, 0.0, 0.0
            for share in range(parts.shape[1]):
                total += parts[k, share, c, 0]
                mixed += parts[k, share, c, 1]
                squares += parts[k, share, c, 2]
            out[q, 0], out[q, 1], out[q, 2] = factors_of(
                total / count,
                (2.0 * mixed + squares) / count,
                cache.inverse[stage[col.CHANNEL_AT] + c],
                cache.theta[stage[col.GAMMA] + c],
            )

    def finish_of(windows: bool) -> Any:
        """Kernel for stages with pooling, or without."""

        @(_half if windows else _busy)
        def finish(stage, coordinates, source, origin, d, factors, turned, added, own, out, size):
            """Changes of a stage's activation from those of its convolution, of change blockIdx.x.

            ``source`` is 1 where a whole map ``added`` comes with them, 2 where it is the channel
            that has changed first, of stage ``origin``, in rows ``own``.
            """
            k, me = cuda.blockIdx.x, cuda.threadIdx.x
            length, n = size
            z, gap, u = turned
            channels, wconv = stage[col.C], stage[col.WCONV]
            window = stage[col.MAXPOOL] if windows else 1
            pixels, rows = stage[col.HCONV] * wconv, stage[col.H] * stage[col.W]
            high = stage[col.AVERAGE_H] if windows else 1
            across = stage[col.AVERAGE_W] if windows else 1
            wpool = stage[col.WPOOL]
            pooled = stage[col.HPOOL] * wpool
            kind, levels = stage[col.ACTIVATION], stage[col.LEVELS]
            share, step = real(1.0 / (high * across)), stage[col.SHORTCUT_STRIDE]
            scaled = stage[col.GAMMA] >= 0
            high_from, wide_from = stage[col.SHORTCUT_H], stage[col.SHORTCUT_W]
            many_from, into = stage[col.SHORTCUT_C], stage[col.W]
            below = stage[col.H]
            here = min(channels, cuda.blockDim.x)
            groups = cuda.blockDim.x // here
            only = -1
            if source == 2:
                only, _, _, _ = _located(origin, coordinates[k])
            if me >= groups * here:
                return
            for c in range(me % here, channels, here):
                after, change, less = real(1), zero, zero
                if scaled:
                    q = k * channels + c
                    after, change, less = factors[q, 0], factors[q, 1], factors[q, 2]
                other = c - stage[col.SHORTCUT_CHANNEL]
                adds = source > 0 and other >= 0 and other < stage[col.SHORTCUT_C]
                if source == 2:
                    adds = adds and other == only
                stride = groups * cuda.gridDim.y
                down, over = stride % rows // into, stride % into
                at = cuda.blockIdx.y * groups + me // here
                b, row, x = at // rows, at % rows // into, at % into
                for q in range(at, n * rows, stride):
                    total = zero
                    for yp in range(row * high, row * high + high):
                        for xp in range(x * across, x * across + across):
                            most = zero
                            for yy in range(yp * window, yp * window + window):
                                for xx in range(xp * window, xp * window + window):
                                    place = (b * pixels + yy * wconv + xx) * channels + c
                                    v = d[np.uint64(k * n * pixels * channels + place)]
                                    if scaled:
                                        v = v * after + (z[np.uint64(place)] * change - less)
                                    if adds:
                                        r = yy * step * wide_from + xx * step
                                        if source == 2:
                                            v += own[k, np.uint64(r * length + b)]
                                        else:
                                            r += (k * n + b) * high_from * wide_from
                                            r = r * many_from + other
                                            v += added[np.uint64(r)]
                                    if window > 1:
                                        v += gap[np.uint64(place)]
                                    start = yy == yp * window and xx == xp * window
                                    if start or not v <= most:
                                        most = v
                            place = (b * pooled + yp * wpool + xp) * channels + c
                            total += bent(u[np.uint64(place)], most, kind, levels)
                    out[np.uint64((k * n * rows + q) * channels + c)] = total * share
                    x, row, b = x + over, row + down, b + stride // rows
                    if x >= into:
                        x, row = x - into, row + 1
                    if row >= below:
                        row, b = row - below, b + 1

        return finish

    @kernel
    def loss(net, cache, d, scale, g, size):
        """Derivatives from the changes d of the logits."""
        length, n = size
        scratch = cuda.shared.array(WARPS, float64)
        classes = net.table[len(net.table) - 1, col.C]
        total = 0.0
        for b in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            start = (cuda.blockIdx.x * n + b) * classes
            total += loss_change(net.table, cache, d, start, 1, -1, length, b)
        total = block_total(total, scratch)
        if cuda.threadIdx.x == 0:
            g[cuda.blockIdx.x] += scale * total

    return Kernels(turn, begin, first, add, factors, finish_of(False), finish_of(True), loss)


class Stacked:
    """Changes of parameters of early stages, many at once.

    Parameters
    ----------
    network : Network
    net : Net
    dtype : numpy dtype
    length : int
        Of rows.
    library : Library
    most : int
        Bytes that changes may take.
    """

    def __init__(
        self,
        network: Network,
        net: Net,
        dtype: Any,
        length: int,
        library: Library,
        most: int,
    ) -> None:
        self.network, self._net, self._length = network, net, length
        self._library, self._most, self._dtype = library, most, np.dtype(dtype)
        self._run = kernels(self._dtype.type)
        self._weights: list[Any] = []
        self._turned: list[ByChannel] = []
        self._room: dict[str, Any] = {}

    @property
    def stages(self) -> int:
        """The first so many stages have whole convolutions after them: those are done here."""
        return max(0, len(self.network.stages) - 3)

    def base(self, theta: Array, cache: Cache, table: Any, n: int) -> None:
        """Take up a pass over the batch, from which changes start."""
        empty, held, none = self._library.empty, self._library.held, cache.u
        self._weights, self._turned = [], []
        for k, stage in enumerate(self.network.stages):
            places: dict[str, Any] = {}
            if k:
                shape = (stage.channels, stage.channels_in, stage.kernel_height, stage.kernel_width)
                of_it = theta[stage.weight : stage.weight + stage.weights].reshape(shape)
                self._weights.append(self._library.array(of_it))
                conv = stage.height_conv * stage.width_conv
                wanted = {"u": stage.height_pool * stage.width_pool}
                wanted |= {"z": conv} if stage.gamma >= 0 else {}
                wanted |= {"gap": conv} if stage.maxpool > 1 else {}
                for name, pixels in wanted.items():
                    at = table[k, {"u": col.U_AT, "z": col.Z_AT, "gap": col.GAP_AT}[name]]
                    places[name] = held(empty((n * pixels * stage.channels,)))
                    self._run.turn[self._blocks(n * pixels * stage.channels), THREADS](
                        getattr(cache, name), at, stage.channels, pixels, places[name],
                        Size(self._length, n),
                    )  # fmt: skip
            else:
                self._weights.append(None)
            self._turned.append(ByChannel(*(places.get(name, none) for name in ByChannel._fields)))

    @staticmethod
    def _blocks(items: int) -> int:
        return 1 if SIMULATED else max(1, min(-(-items // THREADS), 1 << 14))

    def at_once(self, k: int, n: int) -> int:
        """Coordinates of stage k that fit into the memory."""
        stages = self.network.stages
        largest = max(s.channels * s.height_conv * s.width_conv for s in stages[k + 1 :])
        alive = 4 * largest * n  # a convolution, two activations, and one that will be added
        own = stages[k].height_conv * stages[k].width_conv + stages[k].height * stages[k].width
        most = self._most // ((alive + own * self._length) * self._dtype.itemsize)
        most = max(1, min(most, (2**31 - 1) // (n * largest)))
        return int(1 << (int(most).bit_length() - 1))  # few sizes: a library prepares each anew

    def derivatives(
        self, k: int, coordinates: Any, mu: float, central: bool, cache: Cache, n: int
    ) -> Array:
        """Derivatives by coordinates of stage k, so few that they fit."""
        g = cuda.to_device(np.zeros(len(coordinates)))
        given = cuda.to_device(np.ascontiguousarray(coordinates))
        for step in (mu, -mu) if central else (mu,):
            self._change(k, given, step, (1.0 if not central else 0.5) / (step * n), cache, n, g)
        return np.asarray(g.copy_to_host())

    def _change(
        self, k: int, coordinates: Any, mu: float, scale: float, cache: Cache, n: int, g: Any
    ) -> None:
        run, library, length = self._run, self._library, self._length
        stages, count, size = self.network.stages, len(coordinates), Size(length, n)
        stage = stages[k]
        blocks = min(count, 1 if SIMULATED else 1 << 10)
        dz = library.empty((blocks, stage.height_conv * stage.width_conv * length))
        own = library.empty((count, stage.height * stage.width * length))
        flat = _rows_of(library, dz, blocks), _rows_of(library, own, count)
        run.begin[blocks, min(THREADS, length)](self._net, k, coordinates, mu, cache, *flat, size)
        following_ = stages[k + 1]
        pixels = following_.height_conv * following_.width_conv
        d = library.empty(
            (count * n, following_.height_conv, following_.width_conv, following_.channels)
        )
        run.first[(count, 1 if SIMULATED else min(pixels, 64)), THREADS](
            self._net, k, coordinates, flat[1], cache, library.held(d), size
        )
        made: dict[int, Any] = {}
        for m in range(k + 1, len(stages) - 1):
            stage = stages[m]
            if m > k + 1:
                x = made[m]
                d = library.convolve(x, self._weights[m], stage.stride, stage.padding)
            made[m + 1] = self._finished(m, k, d, made, flat[1], coordinates, cache, size)
            needed = {s.shortcut + 1 for s in stages[m + 1 :]} | {m + 1}
            made = {number: array for number, array in made.items() if number in needed}
        last = len(stages) - 1
        logits = library.convolve(made[last], self._weights[last], 1, 0)
        run.loss[count, THREADS](self._net, cache, library.held(logits), scale, g, size)

    def _kept(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Memory that is used again and again."""
        size = int(np.prod(shape))
        if name not in self._room or self._room[name].size < size:
            self._room[name] = cuda.device_array(size, dtype)
        return self._room[name][:size].reshape(shape)

    def _finished(
        self, m: int, k: int, d: Any, made: dict[int, Any], own: Any, coordinates: Any,
        cache: Cache, size: Size,
    ) -> Any:  # fmt: skip
        """Changes of stage m's activation from those of its convolution."""
        run, library = self._run, self._library
        stage: Stage = self.network.stages[m]
        count, turned, n = len(coordinates), self._turned[m], size.n
        rows = n * stage.height_conv * stage.width_conv
        flat, row = library.held(d), self._net.table[m]
        factors = self._kept("factors", (count * stage.channels, 3), self._dtype)
        if stage.gamma >= 0:
            shares = 1 if SIMULATED else min(_SHARES, -(-rows // _ROWS))
            parts = self._kept("parts", (count, shares, stage.channels, 3), np.float64)
            run.add[(count, shares), THREADS](stage.channels, rows, flat, turned.z, parts)
            run.factors[-(-count * stage.channels // THREADS), THREADS](
                row, parts, cache, rows, factors
            )
        out = library.empty((count * n, stage.height, stage.width, stage.channels))
        source = 0 if stage.shortcut < k else (2 if stage.shortcut == k else 1)
        added = library.held(made[stage.shortcut + 1]) if source == 1 else cache.u
        items = n * stage.height * stage.width * stage.channels
        blocks = 1 if SIMULATED else max(1, min(_SHARES, items // (8 * THREADS)))
        windows = stage.maxpool * stage.average_height * stage.average_width > 1
        (run.pool if windows else run.finish)[(count, blocks), THREADS](
            row, coordinates, source, self._net.table[k], flat, factors, turned, added, own,
            library.held(out), size,
        )  # fmt: skip
        return out


def _rows_of(library: Library, array: Any, count: int) -> Any:
    """Array as kernels take it, a row for each of ``count``."""
    flat = library.held(array)
    return flat.reshape((count, flat.size // count))
