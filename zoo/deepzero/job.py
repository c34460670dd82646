"""What is trained, on what, and how: all that a shard needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.blackbox import BlackBox, gathered
from zoo.deepzero.config import DeepZeroConfig
from zoo.deepzero.masks import Masks, cyclic, kept_weights
from zoo.deepzero.net.cost import blocks, change_costs, stage_of, unit_costs
from zoo.deepzero.net.engine import Engine
from zoo.deepzero.net.network import Network
from zoo.problem import never

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Costs of a step (:func:`zoo.deepzero.net.cost.change_costs`) from which on it is cut in pieces.
_LARGE = 2e9
_PIECES = 8
#: And, of a batch, from which on changes are stacked on a GPU.
_LARGEST = 1e13


@dataclass(frozen=True, eq=False)
class Job:
    """A training run, without what changes in it.

    Attributes
    ----------
    data : Dataset or Arrays
    config : DeepZeroConfig
        Completed.
    seed : int
    network : Network, optional
        None: a black box,
    loss : callable, optional
        of this function of parameters and batch,
    template : array or dict of arrays, optional
        with parameters of this form.
    augment : bool
    sparsities : mapping
        Name of a stage -> share of its weights that a step leaves out; empty if that is none.
    """

    data: Any
    config: DeepZeroConfig
    seed: int
    network: Network | None = None
    loss: Callable[[Any, Any], float] | None = None
    template: Any = None
    augment: bool = False
    sparsities: dict[str, float] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to workers: not what can be had from it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def size(self) -> int:
        """Number of parameters d."""
        if self.network is not None:
            return self.network.parameters
        return len(gathered(self.template))

    def described(self) -> Any:
        """Form of the parameters, in JSON's types: a network's layers, or a black box's shapes."""
        if self.network is not None:
            return " ".join(self.network.text.split())
        template = self.template if isinstance(self.template, Mapping) else {"": self.template}
        return {str(name): list(np.shape(array)) for name, array in template.items()}

    @property
    def normalized(self) -> bool:
        """Whether there is batch normalization."""
        return self.network is not None and self.network.normalized

    @property
    def based(self) -> bool:
        """Whether a step needs the loss at the parameters themselves."""
        return self.config.oracle != "es" or self.normalized

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; its last batch may be smaller."""
        return -(-self.data.count("train") // self.config.batch)

    @property
    def samples(self) -> int:
        """Most samples of a batch."""
        most = self.config.batch
        if self._by_scores and self.network is not None:
            most = max(most, self.config.grasp_samples * self.network.classes)
        return min(most, int(self.data.count("train")))

    @property
    def _by_scores(self) -> bool:
        config = self.config
        return config.oracle == "cge" and config.sparsity > 0.0 and config.pruning == "grasp"

    @property
    def sparsity(self) -> float:
        """Share of the weights that a step leaves out; a file of shares may have its own."""
        if not self.sparsities or self._by_scores or self.network is None:
            return self.config.sparsity
        weights = {stage.name: stage.weights for stage in self.network.stages}
        kept = sum(kept_weights(self.network, self.sparsities).values())
        return 1.0 - kept / sum(weights.values())

    def model(self, threads: int = 1, cancelled: Callable[[], bool] = never) -> Any:
        """Network or black box at work.

        Raises
        ------
        InputError
            If it is to be on a GPU, and there is none.
        """
        if self.network is None:
            assert self.loss is not None
            return BlackBox(self.loss, self.template, cancelled)
        dtype = np.float32 if self.config.precision == "single" else np.float64
        if self.config.device == "cuda":
            from zoo.deepzero.net.device.engine import DeviceEngine

            return DeviceEngine(self.network, self.samples, dtype, cancelled, self.stacked)
        return Engine(self.network, self.samples, dtype, threads, cancelled)

    @property
    def stacked(self) -> bool:
        """Whether a library convolves changes on a GPU."""
        chosen = self.config.convolutions
        assert self.network is not None
        if self.config.oracle not in ("cge", "cyclic") or len(self.network.stages) < 4:
            return False
        if chosen == "auto":
            return float(self._full_costs.sum()) * self.config.batch > _LARGEST
        return chosen == "torch"

    @cached_property
    def shards(self) -> int:
        """Pieces of a step; the same before and after GraSP."""
        if self.config.shards is not None:
            return self.config.shards
        if self.config.device != "cpu":  # one of them keeps it busy
            return 1
        return 1 if self.cost * self.config.batch < _LARGE else _PIECES

    @cached_property
    def costs(self) -> Array:
        """Cost of each coordinate, or unit, for one sample; of masked ones by their share."""
        costs = self._full_costs
        if not self.sparsities:
            return costs
        assert self.network is not None
        kept, expected = kept_weights(self.network, self.sparsities), costs.copy()
        for stage in self.network.stages:
            share = kept[stage.name] / stage.weights
            expected[stage.weight : stage.weight + stage.weights] *= share
        return expected

    @cached_property
    def _full_costs(self) -> Array:
        if self.network is None:
            return np.ones(self.size)
        if self.config.oracle == "node":
            return unit_costs(self.network, self.config.batch)[self.units[:, 0]]
        costs = change_costs(self.network, self.config.batch)
        return costs[stage_of(self.network, np.arange(self.size))]

    @property
    def cost(self) -> float:
        """Cost of a step, for one sample; that of sparsity by its share."""
        from zoo.deepzero.net.cost import forward_flops

        if self.network is None:
            return 0.0
        if self.config.oracle in ("rge", "es"):
            return 2.0 * self.config.directions * forward_flops(self.network)
        if self.sparsities and not self._by_scores:
            return float(self.costs.sum())
        return (1.0 - self.config.sparsity) * float(self._full_costs.sum())

    @cached_property
    def bounds(self) -> Ints:
        """Where the shards' blocks of coordinates, or of units, begin and end (shards + 1,)."""
        return blocks(self.costs, self.shards)

    @cached_property
    def units(self) -> Ints:
        """Stage and channel of each unit (m, 2)."""
        assert self.network is not None
        pairs = [(k, c) for k, s in enumerate(self.network.stages) for c in range(s.channels)]
        return np.array(pairs, np.int64)

    @cached_property
    def probes(self) -> Ints:
        """Probes of a channel of each stage."""
        assert self.network is not None
        return np.array([s.height_conv * s.width_conv for s in self.network.stages])

    @cached_property
    def masks(self) -> Masks | None:
        """Masks, if weights are left out."""
        if self.network is None or not self.sparsities:
            return None
        return Masks(self.network, kept_weights(self.network, self.sparsities), self.seed)

    def coordinates(self, step: int) -> Ints:
        """Coordinates that a step estimates, in the order in which shards answer."""
        if self.config.oracle == "node":
            return self._by_units
        if self.config.oracle == "cyclic":
            block = max(1, round((1.0 - self.config.sparsity) * self.size))
            return cyclic(self.size, block, self.seed, step)
        if self.masks is None:
            return np.arange(self.size)
        every = self.config.mask_every * self.steps_per_epoch
        return self.masks.chosen(step // every if every else step)

    @cached_property
    def _by_units(self) -> Ints:
        assert self.network is not None
        parts = []
        for k, c in self.units:
            stage = self.network.stages[k]
            first = stage.weight + c * stage.fan_in
            parts.append(np.arange(first, first + stage.fan_in))
            if stage.bias >= 0:
                parts.append(np.array([stage.bias + c]))
        return np.concatenate(parts)

    def own(self, shard: int, coordinates: Ints) -> Ints:
        """Those of some coordinates, in ascending order, that are a shard's."""
        first, last = np.searchsorted(coordinates, self.bounds[shard : shard + 2])
        return coordinates[first:last]
