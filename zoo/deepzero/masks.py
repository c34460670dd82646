"""Which coordinates a step estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net.network import Network

Ints = npt.NDArray[np.int64]

#: Purposes of random numbers; see :mod:`zoo.streams`.
_MASK, _CYCLE = 35, 36


def generator(seed: int, purpose: int, number: int, piece: int = 0) -> np.random.Generator:
    """Random numbers of a purpose, for step, epoch or cycle ``number``."""
    key = np.array([seed, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, piece, number, purpose]))


@dataclass(frozen=True)
class Masks:
    """Random masks: so many weights of each layer; biases and normalization are never left out.

    Attributes
    ----------
    network : Network
    kept : mapping
        Name of a stage -> number of its weights that are estimated.
    seed : int
    """

    network: Network
    kept: Mapping[str, int]
    seed: int

    @property
    def size(self) -> int:
        """Coordinates of a mask."""
        weights = sum(stage.weights for stage in self.network.stages)
        return self.network.parameters - weights + sum(self.kept.values())

    def chosen(self, number: int) -> Ints:
        """Coordinates of mask ``number``, in ascending order."""
        parts = []
        for k, stage in enumerate(self.network.stages):
            kept = self.kept[stage.name]
            weights = np.arange(stage.weights)
            if kept < stage.weights:
                drawn = generator(self.seed, _MASK, number, k).permutation(stage.weights)
                weights = np.sort(drawn[:kept])
            parts += [stage.weight + weights, np.arange(stage.weight + stage.weights, stage.end)]
        return np.concatenate(parts).astype(np.int64)


def kept_weights(network: Network, sparsities: Mapping[str, float]) -> dict[str, int]:
    """Name of a stage -> number of weights that its sparsity leaves."""
    return {s.name: round((1.0 - sparsities[s.name]) * s.weights) for s in network.stages}


def cyclic(size: int, block: int, seed: int, step: int) -> Ints:
    """Coordinates of step number ``step``: all come once in a cycle, ``block`` at a time.

    The order is another one in every cycle.
    """
    steps = -(-size // block)
    order = generator(seed, _CYCLE, step // steps).permutation(size)
    at = step % steps * block
    return np.sort(order[at : at + block]).astype(np.int64)
