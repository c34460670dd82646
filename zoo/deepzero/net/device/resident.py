"""What kernels of networks are given: tuples of arrays, which stay on the GPU.

Rows have ``length`` numbers, one for each sample and a few besides, and lie behind each other in
one flat array.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.cuda import cuda
from zoo.deepzero.net.plan import Plan


class Net(NamedTuple):
    """A network."""

    table: Any  # (stages, columns): see zoo.deepzero.net.columns, and convolution.STEP
    bases: Any  # (stages,) where each stage's weights begin in Cache.weights


class Size(NamedTuple):
    """Of a batch."""

    length: Any  # numbers of a row
    n: Any  # samples


class Cache(NamedTuple):
    """What a pass over the batch has left; see :class:`zoo.deepzero.net.plan.Cache`."""

    theta: Any
    weights: Any  # those of theta in the order of the convolutions; see engine.turned
    a: Any
    z: Any
    gap: Any
    u: Any
    p: Any
    y: Any
    whole: Any
    inverse: Any
    moments: Any


class Scratch(NamedTuple):
    """Memory of a block of threads that follows a change; not that of a thread of the CPU."""

    dz: Any  # rows of the change of a convolution
    da: Any  # rows of the changes of activations
    held: Any  # (WARPS, 3 channels) shared, sums of warps
    factors: Any  # (channels, 3) shared, of a normalization
    sums: Any  # (WARPS,) shared


def new_cache(plan: Plan, length: int, weights: int) -> Cache:
    """Room for a pass."""
    sizes, put = plan.sizes, cuda.to_device
    channels = max(1, sizes["channels"])

    def rows(name: str) -> Any:
        return put(np.zeros(max(1, sizes[name]) * length, plan.dtype))

    return Cache(
        theta=put(np.zeros(plan.network.parameters, plan.dtype)),
        weights=put(np.zeros(weights, plan.dtype)),
        a=rows("a"),
        z=rows("z"),
        gap=rows("gap"),
        u=rows("u"),
        p=rows("classes"),
        y=put(np.zeros(plan.samples, np.int64)),
        whole=put(np.zeros(plan.samples)),
        inverse=put(np.zeros(channels)),
        moments=put(np.zeros((channels, 2))),
    )
