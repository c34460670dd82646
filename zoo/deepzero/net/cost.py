"""What a gradient estimate costs: operations by coordinate, and blocks of equal cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net.network import Network, Stage

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: An operation on a row in memory takes as long as so many that a tile does in registers.
_IN_MEMORY = 6.0

#: And so many where the rows that it takes part in are more bytes than caches near a core hold.
_FAR_MEMORY, _NEAR = 15.0, 1 << 22


def _convolution(stage: Stage, channels: int) -> float:
    """Operations of a sample's convolution of so many channels: taps outside the map are none."""

    def inside(size: int, kernel: int, out: int) -> int:
        first = np.arange(out) * stage.stride - stage.padding
        return int((np.minimum(first + kernel, size) - np.maximum(first, 0)).sum())

    taps = inside(stage.height_in, stage.kernel_height, stage.height_conv)
    taps *= inside(stage.width_in, stage.kernel_width, stage.width_conv) if taps else 0
    return 2.0 * channels * stage.channels * taps


def _elementwise(stage: Stage) -> float:
    """Operations on the rows of one channel."""
    pixels = stage.height_conv * stage.width_conv
    each = 1.0 + (4.0 if stage.gamma >= 0 else 0.0) + (1.0 if stage.shortcut != -1 else 0.0)
    pooled = stage.height_pool * stage.width_pool
    more = pixels if stage.maxpool > 1 else 0
    return each * pixels + more + 2.0 * pooled


def forward_flops(network: Network) -> float:
    """Operations of a pass of one sample, multiplications and additions."""
    return sum(_convolution(stage, stage.channels_in) for stage in network.stages)


def change_costs(network: Network, samples: int = 1, weighted: bool = True) -> Array:
    """Cost of a coordinate of each stage (stages,), for one of so many samples, by what it changes.

    Operations on rows in memory count several times, if they are weighted.
    """

    def in_memory(stage: Stage, channels: int) -> float:
        if not weighted:
            return 1.0
        rows = 3 * channels * stage.height_conv * stage.width_conv  # of dz, z or gap, and u
        return _FAR_MEMORY if rows * 4 * samples > _NEAR else _IN_MEMORY

    stages = network.stages
    costs = np.zeros(len(stages))
    for k, stage in enumerate(stages):
        if k == len(stages) - 1:
            costs[k] = 60.0 * in_memory(stage, 1)  # logarithms
            continue
        pixels = stage.height_conv * stage.width_conv
        costs[k] = in_memory(stage, 1) * (_elementwise(stage) + pixels)
        if k == len(stages) - 2 and stage.height * stage.width == 1:
            costs[k] += 4.0 * in_memory(stage, 1)
            continue
        for m in range(k + 1, len(stages)):
            later = stages[m]
            costs[k] += _convolution(later, 1 if m == k + 1 else later.channels_in)
            costs[k] += in_memory(later, later.channels) * later.channels * _elementwise(later)
    return costs


def unit_costs(network: Network, samples: int = 1) -> Array:
    """Cost of a node probe of each stage's channel (stages,), for one of so many samples."""
    pixels = np.array([stage.height_conv * stage.width_conv for stage in network.stages])
    weights = np.array([stage.fan_in for stage in network.stages])
    return pixels * (change_costs(network, samples) + 2.0 * weights)


def blocks(costs: Array, count: int) -> Ints:
    """Bounds (count + 1,) of contiguous blocks of items whose costs are nearly equal."""
    total = np.concatenate([[0.0], np.cumsum(costs)])
    wanted = np.linspace(0.0, total[-1], count + 1)
    bounds = np.searchsorted(total, wanted, side="left").astype(np.int64)
    bounds[0], bounds[-1] = 0, len(costs)
    return np.maximum.accumulate(bounds)


def stage_of(network: Network, coordinates: Ints) -> Ints:
    """Number of the stage of each coordinate."""
    begins = np.array([stage.weight for stage in network.stages])
    return np.searchsorted(begins, coordinates, side="right") - 1
