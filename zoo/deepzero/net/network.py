"""A network as the kernels see it: a sequence of stages, and one vector of parameters.

A stage is a convolution and what follows it channel by channel:

    z = W * a + b,   u = maxpool(batchnorm(z) + shortcut),   a' = avgpool(act(u))

A dense layer is a convolution whose kernel is as large as the map. Activations are monotone, so
they commute with the maximum: pooling goes first, for there are fewer of them after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.deepzero.net.layers import ACTIVATIONS, Layer, Residual, parse
from zoo.errors import InputError

Array = npt.NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Stage:
    """A convolution and what follows it; -1 is what a stage does not have.

    Attributes
    ----------
    name : str
        "conv3" or "dense3" for the third one.
    channels_in, height_in, width_in, channels, kernel_height, kernel_width, stride, padding : int
    height_conv, width_conv : int
        Of the convolution's map.
    maxpool : int
        Size of the windows; 1: none.
    height_pool, width_pool : int
        Of the map after it.
    average_height, average_width : int
        Size of the windows of the average pooling; 1: none.
    height, width : int
        Of the stage's map.
    activation : int
        Number in :data:`zoo.deepzero.net.layers.ACTIVATIONS`.
    levels : int
        Of a quantized activation.
    shortcut : int
        Number of the stage whose output is added, -2 for the network's input.
    shortcut_stride, shortcut_channel : int
        Its subsampling, and the channel that its first one is added to.
    weight, bias, gamma, beta : int
        Where they begin in the vector of parameters.
    """

    name: str
    channels_in: int
    height_in: int
    width_in: int
    channels: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    height_conv: int
    width_conv: int
    weight: int
    bias: int
    gamma: int = -1
    beta: int = -1
    shortcut: int = -1
    shortcut_stride: int = 1
    shortcut_channel: int = 0
    activation: int = 0
    levels: int = 0
    maxpool: int = 1
    height_pool: int = 0
    width_pool: int = 0
    average_height: int = 1
    average_width: int = 1
    height: int = 0
    width: int = 0

    @property
    def fan_in(self) -> int:
        """Weights of a channel."""
        return self.channels_in * self.kernel_height * self.kernel_width

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.channels * self.fan_in

    @property
    def shape(self) -> Shape:
        """Channels, height and width of its output."""
        return self.channels, self.height, self.width

    @property
    def end(self) -> int:
        """Where its parameters end."""
        last = max(self.weight + self.weights, self.bias + self.channels)
        return max(last, self.beta + self.channels)


@dataclass(frozen=True, eq=False)
class Network:
    """A network.

    Attributes
    ----------
    text : str
    shape : (channels, height, width)
        Of an input.
    stages : tuple of Stage
    """

    text: str
    shape: Shape
    stages: tuple[Stage, ...] = field(repr=False)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.stages[-1].end

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.stages[-1].channels

    @property
    def normalized(self) -> bool:
        """Whether it has batch normalization."""
        return any(stage.gamma >= 0 for stage in self.stages)

    def slices(self) -> dict[str, tuple[slice, tuple[int, ...]]]:
        """Name of a parameter array -> where it is in the vector, and its shape."""
        found: dict[str, tuple[slice, tuple[int, ...]]] = {}
        for stage in self.stages:
            kernel = (stage.kernel_height, stage.kernel_width)
            shapes: dict[str, tuple[int, ...]] = {"bias": (stage.channels,)}
            shapes["weight"] = (stage.channels, stage.channels_in, *kernel)
            if stage.name.startswith("dense"):
                shapes["weight"] = (stage.channels, stage.fan_in)
            shapes |= {"gamma": (stage.channels,), "beta": (stage.channels,)}
            for name, shape in shapes.items():
                at = getattr(stage, name)
                if at >= 0:
                    found[f"{stage.name}.{name}"] = (slice(at, at + math.prod(shape)), shape)
        return found

    def initial(self, seed: int) -> Array:
        """First parameters (d,): He normal weights (He et al. 2015), the last layer's smaller."""
        key = np.array([seed, 0], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, _INITIAL]))
        theta = np.zeros(self.parameters)
        for stage in self.stages:
            gain = 1.0 if stage is self.stages[-1] else 2.0
            drawn = rng.standard_normal(stage.weights) * math.sqrt(gain / stage.fan_in)
            theta[stage.weight : stage.weight + stage.weights] = drawn
            if stage.gamma >= 0:
                theta[stage.gamma : stage.gamma + stage.channels] = 1.0
        return theta


#: Purpose of the random numbers of the first parameters; see :mod:`zoo.streams`.
_INITIAL = 39


def network(text: str, shape: Sequence[int], classes: int) -> Network:
    """Network in words for inputs of a shape.

    Raises
    ------
    InputError
        If its layers do not follow on each other, or do not fit the shape or the classes.
    """
    builder = _Builder((int(shape[0]), int(shape[1]), int(shape[2])), classes)
    for layer in parse(text):
        if isinstance(layer, Residual):
            builder.residual(layer)
        else:
            builder.add(layer)
    stages = builder.stages
    last = stages[-1]
    plain = (last.gamma, last.shortcut, last.activation, last.maxpool) == (-1, -1, 0, 1)
    if not (plain and last.name.startswith("dense") and last.height * last.width == 1):
        raise InputError("the last layer of a network must be 'dense', for its outputs are classes")
    if last.channels != classes:
        raise InputError(
            f"the last layer has {last.channels} outputs, but there are {classes} classes"
        )
    return Network(text, builder.input, tuple(stages))


class _Builder:
    """Turns layers into stages, one after another."""

    def __init__(self, shape: Shape, classes: int) -> None:
        self.input, self.shape, self.classes = shape, shape, classes
        self.stages: list[Stage] = []
        self._at = 0
        self._done = ""  # the last thing added to the current stage

    def add(self, layer: Layer) -> None:
        """Begin a stage, or add to the last one."""
        if layer.kind in ("dense", "conv"):
            self._begin(layer)
            return
        if not self.stages:
            raise InputError(f"a network begins with conv or dense, not with {layer.kind}")
        kind = "activation" if layer.kind in ACTIVATIONS else layer.kind
        order = ("", "batchnorm", "shortcut", "activation", "maxpool", "avgpool")
        if order.index(kind) <= order.index(self._done):
            raise InputError(
                f"{layer.kind} cannot follow {self._done}: after conv or dense come, if at all, "
                "batchnorm, the end of a residual block, an activation, maxpool, avgpool"
            )
        self._done = kind
        getattr(self, f"_{kind}")(layer)

    def residual(self, block: Residual) -> None:
        """Add the stages of a block, and the shortcut to the last of them."""
        source, before = len(self.stages) - 1 if self.stages else -2, self.shape
        if block.layers[0].kind != "conv":
            raise InputError("a residual block begins with conv")
        for layer in block.layers:
            self.add(layer)
        if self._done not in ("", "batchnorm"):
            raise InputError(
                f"a residual block ends with conv or batchnorm, not with {self._done}: what comes "
                "after the sum follows the bracket"
            )
        after = self.shape
        steps = (
            stage.stride * stage.maxpool * max(stage.average_height, stage.average_width)
            for stage in self.stages[max(0, source + 1) :]
        )
        stride = 1 if after == before else math.prod(steps)
        fits = all(
            -(-size // stride) == now for size, now in zip(before[1:], after[1:], strict=True)
        )
        if not fits or after[0] < before[0]:
            raise InputError(
                f"a residual block turns {_show(before)} into {_show(after)}: its shortcut can "
                "subsample, and add channels, no more"
            )
        self._replace(
            shortcut=source,
            shortcut_stride=stride,
            shortcut_channel=(after[0] - before[0]) // 2,
        )
        self._done = "shortcut"

    def _begin(self, layer: Layer) -> None:
        channels, height, width = self.shape
        number = layer.number or self.classes
        name = f"{layer.kind}{len(self.stages) + 1}"
        bias = layer.options.get("bias", 1)
        if layer.kind == "dense":
            kernel, stride, padding = (height, width), 1, 0
        else:
            size = layer.options.get("kernel", 3)
            kernel, stride = (size, size), layer.options.get("stride", 1)
            padding = layer.options.get("padding", size // 2)
            if padding >= size:
                raise InputError(f"{name}: padding must be less than kernel, got {padding}, {size}")
        out = [
            (s + 2 * padding - k) // stride + 1
            for s, k in zip((height, width), kernel, strict=True)
        ]
        if min(out) < 1:
            raise InputError(
                f"{name}: a kernel of {kernel[0]} does not fit into {_show(self.shape)}"
            )
        weights = number * channels * kernel[0] * kernel[1]
        self.stages.append(
            Stage(
                name, channels, height, width, number, *kernel, stride, padding, out[0], out[1],
                weight=self._at, bias=self._at + weights if bias else -1,
                height_pool=out[0], width_pool=out[1], height=out[0], width=out[1],
            )
        )  # fmt: skip
        self._at += weights + bias * number
        self.shape = (number, out[0], out[1])
        self._done = ""

    def _replace(self, **changes: Any) -> None:
        self.stages[-1] = replace(self.stages[-1], **changes)
        self.shape = self.stages[-1].shape

    def _batchnorm(self, layer: Layer) -> None:
        channels = self.stages[-1].channels
        self._replace(gamma=self._at, beta=self._at + channels)
        self._at += 2 * channels

    def _activation(self, layer: Layer) -> None:
        self._replace(activation=ACTIVATIONS.index(layer.kind), levels=layer.number)

    def _maxpool(self, layer: Layer) -> None:
        size, stage = layer.number or 2, self.stages[-1]
        height, width = stage.height_conv // size, stage.width_conv // size
        if not height * width:
            raise InputError(f"maxpool {size} does not fit into {_show(stage.shape)}")
        self._replace(
            maxpool=size, height_pool=height, width_pool=width, height=height, width=width
        )

    def _avgpool(self, layer: Layer) -> None:
        stage = self.stages[-1]
        high, wide = (layer.number or size for size in (stage.height_pool, stage.width_pool))
        if high > stage.height_pool or wide > stage.width_pool:
            raise InputError(f"avgpool {layer.number} does not fit into {_show(stage.shape)}")
        self._replace(
            average_height=high,
            average_width=wide,
            height=stage.height_pool // high,
            width=stage.width_pool // wide,
        )


def _show(shape: Shape) -> str:
    return f"{shape[0]} channels of {shape[1]} x {shape[2]}"
