"""The same networks in PyTorch, on one thread: rivals of deepzero for its benchmarks.

From the text of a network and its flat parameter vector: coordinate-wise gradient estimates (CGE)
of forward differences in training mode, whole passes or with feature reuse, in which a coordinate
of a layer costs the passes from that layer on; backprop; and first-order training. Reuse is what a
user can do in eager mode: inference_mode, features cached once a layer, shortcuts too, weights
changed and restored through a NumPy view, operators called without their Python wrappers, in place
where that is safe. Numbers are float32 unless said otherwise, features of convolutional networks
channels last in memory, which with oneDNN was faster than channels first or without oneDNN.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import reference_network as reference

Operation = Callable[[Any], Any]
Join = Callable[[Any, Any], Any]

#: Autograd does not need what these gave, and nobody else holds it.
FRESH = ("dense", "conv", "batchnorm", "maxpool", "avgpool", "block")


@dataclass(frozen=True)
class Step:
    """An operation with the parameters that it uses, or a residual block of steps.

    Features of one pixel are (batch, channels), all others (batch, channels, height, width).
    """

    run: Operation
    parameters: tuple[tuple[int, Tensor], ...] = ()  # with the index of each one's first
    inside: tuple[Step, ...] = ()
    around: Operation | None = None  # the shortcut
    add: Join | None = None  # (features of the block, of its shortcut)


@dataclass(frozen=True)
class Net:
    """A network in one mode; nets may share parameters."""

    network: reference.Network
    parameters: dict[int, Tensor]  # by the index of the first in the flat vector, in order
    steps: tuple[Step, ...]
    channels_last: bool  # of features and convolutions in memory


def build(
    text: str,
    shape: Sequence[int],
    params: np.ndarray,
    double: bool = False,
    channels_last: bool = True,
    running: Tensor | None = None,
    training: bool = True,
) -> Net:
    """Network of the text with a copy of these parameters; sets PyTorch to one thread.

    With ``running``, the flat running statistics, training updates them and evaluation uses them.
    """
    import torch

    torch.set_num_threads(1)
    network = reference.parse(text, shape)
    layers = list(reference.every(network.layers))
    channels_last = channels_last and any(layer.kind == "conv" for layer in layers)
    parameters = {}
    for layer in layers:
        first = layer.first
        for part in reference.parts(layer, params) if layer.count else ():
            if part.size:  # each has aligned memory of its own
                kind = torch.float64 if double else torch.float32
                whole = laid(torch.tensor(part, dtype=kind), channels_last)
                parameters[first] = whole.requires_grad_()
            first += part.size
    whole = steps(network.layers, parameters, running, training)
    return Net(network, parameters, whole, channels_last)


def in_mode(net: Net, running: Tensor, training: bool) -> Net:
    """The same parameters in another mode."""
    return replace(net, steps=steps(net.network.layers, net.parameters, running, training))


def laid(x: Tensor, channels_last: bool) -> Tensor:
    """The tensor, in memory as is asked for if it has pixels."""
    import torch

    order = torch.channels_last if channels_last and x.dim() == 4 else torch.contiguous_format
    return x.contiguous(memory_format=order)


def steps(
    layers: Sequence[reference.Layer],
    parameters: dict[int, Tensor],
    running: Tensor | None,
    training: bool,
) -> tuple[Step, ...]:
    out: list[Step] = []
    previous = ""
    for layer in layers:
        one_before, one_after = layer.source[1:] == (1, 1), layer.shape[1:] == (1, 1)
        spatial = layer.kind in ("conv", "maxpool") or (layer.kind == "avgpool" and layer.size)
        if spatial and one_before:
            out.append(Step(spread(layer.source)))
        if layer.kind == "dense" and not one_before:
            out.append(Step(flatten))
        if layer.kind == "block":
            inside = steps(layer.inside, parameters, running, training)
            add = add_into if layer.inside[-1].kind in FRESH else plus
            around = shortcut(layer)
            out.append(Step(residual(inside, around, add), (), inside, around, add))
        else:
            own = {
                first: parameter
                for first, parameter in parameters.items()
                if layer.first <= first < layer.first + layer.count
            }
            run = operation(layer, list(own.values()), running, training, previous in FRESH)
            out.append(Step(run, tuple(own.items())))
        if spatial and one_after:
            out.append(Step(flatten))
        previous = layer.kind
    return tuple(out)


def spread(shape: reference.Shape) -> Operation:
    return lambda x: x.view(-1, *shape)


def flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def plus(x: Tensor, around: Tensor) -> Tensor:
    return x + around


def add_into(x: Tensor, around: Tensor) -> Tensor:
    return x.add_(around)


def residual(inside: Sequence[Step], around: Operation, add: Join) -> Operation:
    runs = [step.run for step in inside]

    def run(x: Tensor) -> Tensor:
        y = x
        for op in runs:
            y = op(y)
        return add(y, around(x))

    return run


def shortcut(layer: reference.Layer) -> Operation:
    from torch.nn.functional import pad

    if layer.shape == layer.source:
        return lambda x: x
    s, more = layer.stride, layer.shape[0] - layer.source[0]
    channels = (0, 0, 0, 0, more // 2, more - more // 2)

    def run(x: Tensor) -> Tensor:
        x = pad(x.view(-1, *layer.source)[:, :, ::s, ::s], channels)
        return x.flatten(1) if layer.shape[1:] == (1, 1) else x

    return run


def operation(
    layer: reference.Layer,
    own: list[Tensor],
    running: Tensor | None,
    training: bool,
    fresh: bool,
) -> Operation:
    import torch
    from torch.nn.functional import avg_pool2d, linear

    size, stride, padding = layer.size, layer.stride, layer.padding
    if layer.kind == "dense":
        weight, bias = own
        return lambda x: linear(x, weight, bias)
    if layer.kind == "conv":
        weight, bias = own[0], own[1] if layer.bias else None
        return lambda x: torch.conv2d(x, weight, bias, stride, padding)
    if layer.kind == "batchnorm":
        gamma, beta = own
        mean = variance = None
        if running is not None:
            count = layer.statistics // 2
            mean = running[layer.first_statistic :][:count]
            variance = running[layer.first_statistic + count :][:count]
        rest = (mean, variance, training, 0.1, reference.EPSILON, False)
        return lambda x: torch.batch_norm(x, gamma, beta, *rest)
    if layer.kind == "maxpool":
        return lambda x: torch.max_pool2d(x, size)
    if layer.kind == "avgpool" and size:
        return lambda x: avg_pool2d(x, size)
    if layer.kind == "avgpool":
        return torch.clone if layer.source[1:] == (1, 1) else lambda x: x.mean((2, 3))
    if layer.kind == "relu":
        return torch.relu_ if fresh else torch.relu
    if layer.kind == "tanh":
        return torch.tanh_ if fresh else torch.tanh
    if layer.kind == "step":
        return lambda x: (x > 0).to(x.dtype)
    return lambda x: torch.round(torch.clamp(x, 0.0, 1.0) * size) / size


def batch_of(net: Net, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """The arrays as the net takes them: its precision, and int64 labels."""
    import torch

    kind = next(iter(net.parameters.values())).dtype
    shape = net.network.source if net.network.source[1:] != (1, 1) else net.network.source[:1]
    features = torch.tensor(x, dtype=kind).view(-1, *shape)
    return laid(features, net.channels_last), torch.tensor(y, dtype=torch.int64)


def logits_of(net: Net, x: Tensor) -> Tensor:
    for step in net.steps:
        x = step.run(x)
    return x.flatten(1)


def to_loss(net: Net, y: Tensor) -> list[Operation]:
    """From the last layer's features to the loss."""
    import torch
    from torch.nn.functional import cross_entropy

    end: list[Operation] = [] if net.network.shape[1:] == (1, 1) else [flatten]
    if len(y) < 100:
        return [*end, lambda logits: cross_entropy(logits, y)]
    picks = y[:, None]  # for many rows of few classes three times as fast

    def loss(logits: Tensor) -> Tensor:
        return (torch.logsumexp(logits, 1, keepdim=True) - logits.gather(1, picks)).mean()

    return [*end, loss]


def restarts(
    sequence: Sequence[Step], x: Tensor, after: list[Operation]
) -> Iterator[tuple[Step, Tensor, list[Operation]]]:
    """Of each step with parameters: its input, and all operations from it on.

    The input of a step is computed when it is asked for; parameters are to be as they were then.
    """
    for k, step in enumerate(sequence):
        later = [other.run for other in sequence[k + 1 :]] + after
        if step.inside:
            assert step.around is not None
            added = closing(step, step.around(x))
            yield from restarts(step.inside, x, [added, *later])
        elif step.parameters:
            yield step, x, [step.run, *later]
        x = step.run(x)


def closing(block: Step, around: Tensor) -> Operation:
    """The block's end, with the features of its shortcut at hand."""
    add = block.add
    assert add is not None
    return lambda x: add(x, around)


def losses(
    parameter: Tensor, indices: list[int], mu: float, x: Tensor, operations: list[Operation]
) -> list[float]:
    """Loss with one element of the parameter changed by mu, for each index."""
    values = parameter.detach().numpy().flat  # the same memory, in C order whatever is in it
    out = []
    for i in indices:
        before = values[i]
        values[i] = before + mu
        features = x
        for op in operations:
            features = op(features)
        out.append(features.item())
        values[i] = before
    return out


def reuse_cge(
    net: Net, x: Tensor, y: Tensor, mu: float, coordinates: Sequence[int] | np.ndarray
) -> np.ndarray:
    """[l(theta + mu e_i) - l(theta)] / mu of these coordinates, in any order, from their layers."""
    import torch

    wanted, out = np.asarray(coordinates), np.empty(len(coordinates))
    with torch.inference_mode():
        base = to_loss(net, y)[-1](logits_of(net, x)).item()
        for step, features, operations in restarts(net.steps, x, to_loss(net, y)):
            for first, parameter in step.parameters:
                own = np.flatnonzero((wanted >= first) & (wanted < first + parameter.numel()))
                indices = (wanted[own] - first).tolist()
                out[own] = losses(parameter, indices, mu, features, operations)
    return (out - base) / mu


def naive_cge(
    net: Net, x: Tensor, y: Tensor, mu: float, coordinates: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The same by whole forward passes."""
    import torch

    wanted, out = np.asarray(coordinates), np.empty(len(coordinates))
    operations = [step.run for step in net.steps] + to_loss(net, y)
    with torch.inference_mode():
        base = to_loss(net, y)[-1](logits_of(net, x)).item()
        for first, parameter in net.parameters.items():
            own = np.flatnonzero((wanted >= first) & (wanted < first + parameter.numel()))
            indices = (wanted[own] - first).tolist()
            out[own] = losses(parameter, indices, mu, x, operations)
    return (out - base) / mu


def gradient(net: Net, x: Tensor, y: Tensor) -> np.ndarray:
    """Flat gradient of the loss by backprop; zero where the loss does not depend on it."""
    import torch

    leaves = list(net.parameters.values())
    loss = to_loss(net, y)[-1](logits_of(net, x))
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients]).numpy()


def flat(net: Net) -> np.ndarray:
    """Its parameters as one vector."""
    return np.concatenate([p.detach().numpy().reshape(-1) for p in net.parameters.values()])


def train_first_order(
    text: str,
    x: np.ndarray,
    y: np.ndarray,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 50,
    batch: int = 64,
    warmup: int = 0,
    seed: int = 0,
    double: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and running statistics after SGD from the reference's start, by its schedule."""
    import torch

    network = reference.parse(text, x.shape[1:])
    kind = torch.float64 if double else torch.float32
    running = torch.tensor(reference.initial_running(network), dtype=kind)
    start = reference.initial(network, seed)
    net = build(text, x.shape[1:], start, double, running=running)
    xs, ys = batch_of(net, x, y)
    leaves = list(net.parameters.values())
    optimizer = torch.optim.SGD(leaves, lr, momentum=momentum, weight_decay=weight_decay)
    each = len(x) // batch
    for t, rows in enumerate(reference.batches(len(x), batch, epochs, seed)):
        rate = reference.learning_rate(t, each * epochs, each * warmup, lr)
        optimizer.param_groups[0]["lr"] = rate
        chosen = torch.from_numpy(rows)
        optimizer.zero_grad()
        to_loss(net, ys[chosen])[-1](logits_of(net, xs[chosen])).backward()
        optimizer.step()
    return flat(net), running.numpy()


def accuracy(net: Net, x: Tensor, y: Tensor) -> float:
    """Share of labels that the largest logit gives, in the net's mode."""
    import torch

    with torch.inference_mode():
        return float((logits_of(net, x).argmax(1) == y).double().mean())


def main() -> None:
    """Time a coordinate of each sample, and a backprop; print seconds and answers as JSON."""
    import json
    import time

    import torch

    torch.set_num_threads(1)
    with np.load(sys.argv[1], allow_pickle=False) as file:
        given = {name: file[name] for name in file.files}
    text, mu = str(given["text"]), float(given["mu"])
    net = build(text, given["x"].shape[1:], given["theta"])
    x, y = batch_of(net, given["x"], given["y"])
    samples = [given[f"sample{k}"] for k in range(sum(name.startswith("sample") for name in given))]
    answers: list[float] = []
    took: dict[str, list[float]] = {"reuse": [], "naive": []}
    for coordinates in samples:
        for name, work in (("reuse", reuse_cge), ("naive", naive_cge)):
            best = [float("inf"), float("inf")]
            for _ in range(3):
                for k, part in enumerate((coordinates[:1], coordinates)):
                    started = time.perf_counter()
                    found = work(net, x, y, mu, part)
                    best[k] = min(best[k], time.perf_counter() - started)
            took[name].append((best[1] - best[0]) / (len(coordinates) - 1))
            if name == "reuse":
                answers += np.asarray(found, np.float64).tolist()
    backprop = []
    for _ in range(10):
        started = time.perf_counter()
        gradient(net, x, y)
        backprop.append(time.perf_counter() - started)
    print(json.dumps({**took, "backprop": min(backprop), "answers": answers}))


if __name__ == "__main__":
    main()
