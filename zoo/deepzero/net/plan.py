"""Where the kernels find things: a table of the stages, and the memory of a batch.

Everything lies in rows, and a row is one number of the network for all samples of the batch (see
:mod:`zoo.deepzero.net.tile`). The input is activation 0, and stage k makes activation k + 1; pixel
(c, y, x) of an activation is row ``at + (c height + y) width + x``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net import columns as col
from zoo.deepzero.net.network import Network
from zoo.deepzero.net.tile import row_length, rows


class Cache(NamedTuple):
    """What a pass over the batch has left, for all changes to start from.

    Attributes
    ----------
    theta : (d,)
    a : activations
    z : convolutions less their means, where they are normalized
    gap : how far each pixel is below the maximum of its window, where there is maximum pooling
    u : what goes into the activation
    p : (classes, length)
        Probabilities.
    y : (samples,) int64
        Labels.
    hot : (classes, length)
        1 where a sample's label is, and 0.
    whole : (samples,) float64
        Logarithm of the sum of the exponentials of the logits.
    inverse : (channels of all stages,) float64
        1 / sqrt(variance + eps) of a normalized channel.
    moments : (channels of all stages, 2) float64
        Mean and variance of a normalized channel.
    """

    theta: Any
    a: Any
    z: Any
    gap: Any
    u: Any
    p: Any
    y: Any
    hot: Any
    whole: Any
    inverse: Any
    moments: Any


class Scratch(NamedTuple):
    """Memory of one thread that follows changes.

    Attributes
    ----------
    da : changes of the activations
    dz : change of a convolution
    t : a few rows
    source, tap : int64 arrays
        Of a tile.
    start : zeros
    series, bent : rows
        See :mod:`zoo.deepzero.net.series`.
    mass : one row of float64
    """

    da: Any
    dz: Any
    t: Any
    source: Any
    tap: Any
    start: Any
    series: Any
    bent: Any
    mass: Any


class Plan:
    """Sizes of everything for a network, and the memory for batches of up to ``samples``."""

    def __init__(self, network: Network, samples: int, dtype: Any) -> None:
        self.network, self.samples, self.dtype = network, samples, np.dtype(dtype)
        table, sizes = _table(network)
        self.table: npt.NDArray[np.int64] = table
        self.sizes = sizes

    def cache(self) -> Cache:
        """Memory of a pass."""
        sizes = self.sizes
        return Cache(
            theta=np.zeros(self.network.parameters, self.dtype),
            a=self._rows(sizes["a"]),
            z=self._rows(sizes["z"]),
            gap=self._rows(sizes["gap"]),
            u=self._rows(sizes["u"]),
            p=self._rows(sizes["classes"]),
            y=np.zeros(self.samples, np.int64),
            hot=self._rows(sizes["classes"]),
            whole=np.zeros(self.samples),
            inverse=np.zeros(sizes["channels"]),
            moments=np.zeros((sizes["channels"], 2)),
        )

    def scratch(self) -> Scratch:
        """Memory of a thread."""
        sizes = self.sizes
        return Scratch(
            da=self._rows(sizes["a"]),
            dz=self._rows(sizes["conv"]),
            t=self._rows(4),
            source=np.zeros(sizes["fan_in"], np.int64),
            tap=np.zeros(sizes["fan_in"], np.int64),
            start=np.zeros(sizes["widest"], self.dtype),
            series=self._rows(4),
            bent=self._rows(2),
            mass=rows(1, self.samples, np.float64),
        )

    def _rows(self, count: int) -> Any:
        return rows(max(1, count), self.samples, self.dtype)

    def nbytes(self, passes: int = 1) -> int:
        """Bytes of the caches of so many passes, and of the scratch memory of a thread."""
        sizes = self.sizes
        length = row_length(self.samples, self.dtype.itemsize) * self.dtype.itemsize
        kept = sum(sizes[name] for name in ("a", "z", "gap", "u", "classes", "classes"))
        return (passes * kept + sizes["a"] + sizes["conv"] + 10) * length


def _table(network: Network) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    table = np.zeros((len(network.stages), col.CHANNEL_AT + 1), np.int64)
    a, z, gap, u, channels = int(np.prod(network.shape)), 0, 0, 0, 0
    begins, shapes = [0], [network.shape]
    for row, stage in zip(table, network.stages, strict=True):
        row[: len(col.FIELDS)] = [getattr(stage, name) for name in col.FIELDS]
        conv = stage.channels * stage.height_conv * stage.width_conv
        row[col.SHORTCUT] = -1
        if stage.shortcut != -1:
            source = max(0, stage.shortcut + 1)
            row[col.SHORTCUT : col.IN_AT] = source, begins[source], *shapes[source]
        row[col.IN_AT :] = begins[-1], a, z, gap, u, channels
        shapes.append(stage.shape)
        begins.append(a)
        a += stage.channels * stage.height * stage.width
        u += stage.channels * stage.height_pool * stage.width_pool
        z += conv if stage.gamma >= 0 else 0
        gap += conv if stage.maxpool > 1 else 0
        channels += stage.channels
    stages = network.stages
    sizes = {"a": a, "z": z, "gap": gap, "u": u, "channels": channels, "classes": network.classes}
    sizes["conv"] = max(s.channels * s.height_conv * s.width_conv for s in stages)
    sizes["fan_in"] = max(s.fan_in for s in stages)
    sizes["widest"] = max(s.channels for s in stages)
    return table, sizes
