"""Neural networks as a slow and obvious NumPy program in double precision, with hand backprop.

A network is a text: a list of layers, separated by commas or line ends, in any case.

    dense N | conv N [kernel=3] [stride=1] [padding=kernel//2] [bias=yes|no] | batchnorm, bn
    relu | tanh | step | quantize L | maxpool [K=2] | avgpool [K] (without K: of all pixels)
    ( ... )  a residual block: what is inside, plus a shortcut

Features are (batch, channels, height, width); a dense layer flattens them and gives (batch, N, 1,
1). All parameters are one flat vector: layer by layer, the weight (N, channels, kernel, kernel) or
(N, inputs) in C order, then the bias; of a batch norm gamma, then beta. Its statistics are another
one: layer by layer the means, then the variances with n - 1 ("statistics" of a batch, "running"
averaged over batches). Where running statistics are given, the network is in evaluation mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Shape = tuple[int, int, int]  # channels, height, width
Back = Callable[[Array, Array], Array]  # (dloss/doutput, gradient to add to) -> dloss/dinput

EPSILON = 1e-5
#: Fewest and most numbers after the word.
NUMBERS = {
    **dict.fromkeys(("batchnorm", "relu", "tanh", "step"), (0, 0)),
    **dict.fromkeys(("dense", "conv", "quantize"), (1, 1)),
    **dict.fromkeys(("maxpool", "avgpool"), (0, 1)),
}


@dataclass(frozen=True)
class Layer:
    kind: str  # the word, or "block"
    source: Shape  # of what comes in
    shape: Shape  # of what comes out
    first: int  # index of its first parameter
    count: int  # of its parameters
    first_statistic: int
    statistics: int  # how many it has
    size: int = 0  # N, L or K; 0 where K is left out
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    bias: bool = True
    inside: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Network:
    layers: tuple[Layer, ...]
    source: Shape
    shape: Shape
    count: int
    statistics: int


def parse(text: str, shape: Sequence[int]) -> Network:
    items = [item.strip() for item in re.findall(r"[()]|[^(),\n]+", text.lower())]
    channels, height, width = shape
    whole = sequence([item for item in items if item], (channels, height, width), 0, 0, False)
    return Network(whole.inside, whole.source, whole.shape, whole.count, whole.statistics)


def parameter_count(network: Network) -> int:
    return network.count


def sequence(items: list[str], source: Shape, first: int, statistic: int, closes: bool) -> Layer:
    """Layers up to a closing bracket, if one is due, or to the end; they are taken off items."""
    layers: list[Layer] = []
    shape, count, statistics = source, 0, 0
    while items and items[0] != ")":
        item = items.pop(0)
        at = (shape, first + count, statistic + statistics)
        layer = block(sequence(items, *at, True)) if item == "(" else plain(item, *at)
        layers.append(layer)
        shape, count = layer.shape, count + layer.count
        statistics += layer.statistics
    if bool(items) != closes:
        raise ValueError("brackets do not match")
    if closes:
        items.pop(0)
    if not layers:
        raise ValueError("no layers")
    stride = int(np.prod([layer.stride for layer in layers]))
    ends = (source, shape, first, count, statistic, statistics)
    return Layer("block", *ends, stride=stride, inside=tuple(layers))


def block(layer: Layer) -> Layer:
    """The layer, if its shortcut has the right shape."""
    seen = tuple(-(-side // layer.stride) for side in layer.source[1:])
    fits = layer.shape[1:] == seen and layer.shape[0] >= layer.source[0]
    if layer.shape != layer.source and not fits:
        raise ValueError(f"no shortcut from {layer.source} to {layer.shape}")
    return layer


def plain(item: str, source: Shape, first: int, statistic: int) -> Layer:
    word, *words = item.split()
    kind = "batchnorm" if word == "bn" else word
    numbers = [int(w) for w in words if "=" not in w]
    options = dict(w.split("=") for w in words if "=" in w)
    known = {"kernel", "stride", "padding", "bias"} if kind == "conv" else set()
    least, most = NUMBERS.get(kind, (0, -1))
    if not least <= len(numbers) <= most or min(numbers, default=1) < 1 or set(options) - known:
        raise ValueError(f"not a layer: {item}")
    answer = options.pop("bias", "yes")
    if answer not in ("yes", "no"):
        raise ValueError(f"not a layer: {item}")
    bias = answer == "yes"
    given = {name: int(value) for name, value in options.items()}
    channels, height, width = source
    size, kernel, stride, padding, statistics = sum(numbers), 1, 1, 0, 0
    shape, count = source, 0
    if kind == "dense":
        shape, count = (size, 1, 1), size * (channels * height * width + 1)
    elif kind == "batchnorm":
        count = statistics = 2 * channels
    elif kind == "conv":
        kernel, stride = given.get("kernel", 3), given.get("stride", 1)
        padding = given.get("padding", kernel // 2)
        if min(kernel, stride, padding + 1) < 1:
            raise ValueError(f"not a layer: {item}")
        height, width = ((s + 2 * padding - kernel) // stride + 1 for s in (height, width))
        shape = (size, height, width)
        count = size * channels * kernel**2 + size * bias
    elif kind == "avgpool" and not size:
        shape, stride = (channels, 1, 1), max(height, width)
    elif kind in ("maxpool", "avgpool"):
        size = kernel = stride = size or 2
        shape = (channels, height // size, width // size)
    if min(shape) < 1:
        raise ValueError(f"{item} does not fit {source}")
    at = (first, count, statistic, statistics)
    return Layer(kind, source, shape, *at, size, kernel, stride, padding, bias)


def every(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers, and those inside blocks in their place."""
    for layer in layers:
        yield from every(layer.inside) if layer.kind == "block" else (layer,)


def parts(layer: Layer, flat: Array) -> list[Array]:
    """Views of a layer's own parameters in a flat vector: weight and bias, or gamma and beta."""
    own = flat[layer.first : layer.first + layer.count]
    channels, height, width = layer.source
    if layer.kind == "batchnorm":
        return [own[:channels], own[channels:]]
    inputs = channels * height * width
    form = (-1, inputs) if layer.kind == "dense" else (-1, channels, layer.kernel, layer.kernel)
    weights = layer.count - layer.size * layer.bias
    return [own[:weights].reshape(form), own[weights:]]


def initial(network: Network, seed: int) -> Array:
    """Weights N(0, 2 / inputs), biases 0, gamma 1, beta 0."""
    rng = np.random.default_rng(seed)
    params = np.zeros(network.count)
    for layer in every(network.layers):
        if layer.kind == "batchnorm":
            parts(layer, params)[0][:] = 1.0
        elif layer.count:
            weight = parts(layer, params)[0]
            weight[:] = rng.standard_normal(weight.shape) * np.sqrt(2.0 / weight[0].size)
    return params


def initial_running(network: Network) -> Array:
    """Means 0, variances 1."""
    running = np.zeros(network.statistics)
    for layer in every(network.layers):
        middle = layer.first_statistic + layer.statistics // 2
        running[middle : layer.first_statistic + layer.statistics] = 1.0
    return running


def averaged(running: Array, statistics: Array) -> Array:
    return 0.9 * running + 0.1 * statistics


def pixels(x: Array, layer: Layer, i: int, j: int) -> Array:
    """Of every window of x, the pixel (i, j)."""
    s, (height, width) = layer.stride, layer.shape[1:]
    return x[:, :, i : i + s * (height - 1) + 1 : s, j : j + s * (width - 1) + 1 : s]


def dense(layer: Layer, params: Array, x: Array) -> tuple[Array, Back]:
    weight, bias = parts(layer, params)
    rows = x.reshape(len(x), -1)

    def back(g: Array, gradient: Array) -> Array:
        g = g.reshape(len(x), -1)
        to_weight, to_bias = parts(layer, gradient)
        to_weight += g.T @ rows
        to_bias += g.sum(axis=0)
        return (g @ weight).reshape(x.shape)

    return (rows @ weight.T + bias).reshape(-1, *layer.shape), back


def conv(layer: Layer, params: Array, x: Array) -> tuple[Array, Back]:
    weight, bias = parts(layer, params)
    p, k = layer.padding, range(layer.kernel)
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    y = np.zeros((len(x), *layer.shape))
    for i in k:
        for j in k:
            seen = pixels(padded, layer, i, j)
            y += np.einsum("nchw,oc->nohw", seen, weight[:, :, i, j], optimize=True)

    def back(g: Array, gradient: Array) -> Array:
        to_weight, to_bias = parts(layer, gradient)
        to_padded = np.zeros_like(padded)
        for i in k:
            for j in k:
                seen = pixels(padded, layer, i, j)
                to_weight[:, :, i, j] += np.einsum("nohw,nchw->oc", g, seen, optimize=True)
                to_seen = np.einsum("nohw,oc->nchw", g, weight[:, :, i, j], optimize=True)
                pixels(to_padded, layer, i, j)[...] += to_seen
        if layer.bias:
            to_bias += g.sum(axis=(0, 2, 3))
        height, width = layer.source[1:]
        return to_padded[:, :, p : p + height, p : p + width]

    return y + (bias[:, None, None] if layer.bias else 0.0), back


def batchnorm(
    layer: Layer, params: Array, x: Array, running: Array | None, statistics: Array
) -> tuple[Array, Back]:
    gamma, beta = (part[:, None, None] for part in parts(layer, params))
    own = slice(layer.first_statistic, layer.first_statistic + layer.statistics)
    if running is None:
        n = x[:, 0].size
        mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        statistics[own] = np.concatenate([mean, variance * n / max(n - 1, 1)])
    else:
        mean, variance = running[own].reshape(2, -1)
    deviation = np.sqrt(variance + EPSILON)[:, None, None]
    normal = (x - mean[:, None, None]) / deviation

    def back(g: Array, gradient: Array) -> Array:  # by the batch's own statistics
        to_gamma, to_beta = parts(layer, gradient)
        to_gamma += (g * normal).sum(axis=(0, 2, 3))
        to_beta += g.sum(axis=(0, 2, 3))
        g = g * gamma
        along = (g * normal).mean(axis=(0, 2, 3), keepdims=True)
        return (g - g.mean(axis=(0, 2, 3), keepdims=True) - normal * along) / deviation

    return gamma * normal + beta, back


def pool(layer: Layer, x: Array) -> tuple[Array, Back]:
    if not layer.size:
        share = 1.0 / x[0, 0].size
        return x.mean(axis=(2, 3), keepdims=True), lambda g, _: g * share * np.ones_like(x)
    places = [(i, j) for i in range(layer.size) for j in range(layer.size)]
    seen = np.stack([pixels(x, layer, i, j) for i, j in places])
    if layer.kind == "avgpool":
        shares = np.full(seen.shape, 1.0 / len(places))
        y = seen.mean(axis=0)
    else:  # all to the first of the largest
        y = seen.max(axis=0)
        shares = np.arange(len(places)).reshape(-1, 1, 1, 1, 1) == seen.argmax(axis=0)

    def back(g: Array, _: Array) -> Array:
        to_x = np.zeros_like(x)
        for (i, j), share in zip(places, shares, strict=True):
            pixels(to_x, layer, i, j)[...] = g * share
        return to_x

    return y, back


def activation(layer: Layer, x: Array) -> tuple[Array, Back]:
    slope = np.zeros_like(x)
    if layer.kind == "relu":
        y, slope = np.maximum(x, 0.0), np.where(x > 0.0, 1.0, 0.0)
    elif layer.kind == "tanh":
        y, slope = np.tanh(x), 1.0 - np.tanh(x) ** 2
    elif layer.kind == "step":
        y = np.where(x > 0.0, 1.0, 0.0)
    else:
        y = np.rint(np.clip(x, 0.0, 1.0) * layer.size) / layer.size
    return y, lambda g, _: g * slope


def shortcut(layer: Layer, x: Array) -> tuple[Array, Back]:
    """The identity, or option A of He et al. 2016: every so many pixels, zeros as new channels."""
    if layer.shape == layer.source:
        return x, lambda g, _: g
    s, channels = layer.stride, layer.source[0]
    before = (layer.shape[0] - channels) // 2
    y = np.zeros((len(x), *layer.shape))
    y[:, before : before + channels] = x[:, :, ::s, ::s]

    def back(g: Array, _: Array) -> Array:
        to_x = np.zeros_like(x)
        to_x[:, :, ::s, ::s] = g[:, before : before + channels]
        return to_x

    return y, back


def through(
    layers: Sequence[Layer], params: Array, x: Array, running: Array | None, statistics: Array
) -> tuple[Array, Back]:
    backs: list[Back] = []
    for layer in layers:
        if layer.kind == "block":
            around, around_back = shortcut(layer, x)
            x, inner_back = through(layer.inside, params, x, running, statistics)
            x = x + around
            back = both(inner_back, around_back)
        elif layer.kind == "dense":
            x, back = dense(layer, params, x)
        elif layer.kind == "conv":
            x, back = conv(layer, params, x)
        elif layer.kind == "batchnorm":
            x, back = batchnorm(layer, params, x, running, statistics)
        elif layer.kind in ("maxpool", "avgpool"):
            x, back = pool(layer, x)
        else:
            x, back = activation(layer, x)
        backs.append(back)

    def whole(g: Array, gradient: Array) -> Array:
        for back in reversed(backs):
            g = back(g, gradient)
        return g

    return x, whole


def both(one: Back, other: Back) -> Back:
    return lambda g, gradient: one(g, gradient) + other(g, gradient)


def forward(
    network: Network, params: Array, x: Array, running: Array | None = None
) -> tuple[Array, Array]:
    """Logits (batch, classes), and the batch's statistics (zeros in evaluation mode)."""
    statistics = np.zeros(network.statistics)
    features, _ = through(network.layers, params, x, running, statistics)
    return features.reshape(len(x), -1), statistics


def cross_entropy(logits: Array, y: Array) -> float:
    """Mean over the batch of log sum exp(logits) - logits[y]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(y)), y]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - picked))


def loss(
    network: Network, params: Array, x: Array, y: Array, running: Array | None = None
) -> float:
    return cross_entropy(forward(network, params, x, running)[0], y)


def accuracy(
    network: Network, params: Array, x: Array, y: Array, running: Array | None = None
) -> float:
    return float(np.mean(forward(network, params, x, running)[0].argmax(axis=1) == y))


def gradient(network: Network, params: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Gradient of the loss in training mode, by backprop, and the batch's statistics."""
    statistics, total = np.zeros(network.statistics), np.zeros(network.count)
    features, back = through(network.layers, params, x, None, statistics)
    logits = features.reshape(len(x), -1)
    g = np.exp(logits - logits.max(axis=1, keepdims=True))
    g /= g.sum(axis=1, keepdims=True)
    g[np.arange(len(y)), y] -= 1.0
    back((g / len(y)).reshape(features.shape), total)
    return total, statistics


def slope(
    network: Network, params: Array, x: Array, y: Array, mu: float, u: Array, central: bool
) -> float:
    """[l(theta + mu u) - l(theta)] / mu, or [l(theta + mu u) - l(theta - mu u)] / (2 mu)."""
    after = loss(network, params + mu * u, x, y)
    if central:
        return (after - loss(network, params - mu * u, x, y)) / (2.0 * mu)
    return (after - loss(network, params, x, y)) / mu


def naive_cge(
    network: Network,
    params: Array,
    x: Array,
    y: Array,
    mu: float,
    coordinates: Sequence[int] | Array,
    central: bool = False,
) -> Array:
    """Coordinate-wise estimate of these partial derivatives, in training mode."""
    out = np.zeros(len(coordinates))
    for k, i in enumerate(coordinates):
        u = np.zeros(network.count)
        u[i] = 1.0
        out[k] = slope(network, params, x, y, mu, u, central)
    return out


def naive_rge(
    network: Network,
    params: Array,
    x: Array,
    y: Array,
    mu: float,
    directions: Array,
    central: bool = False,
) -> Array:
    """Mean over directions u (rows) of the slope along u times u, in training mode."""
    slopes = [slope(network, params, x, y, mu, u, central) for u in directions]
    return np.mean(np.array(slopes)[:, None] * directions, axis=0)


def learning_rate(t: int, total: int, warmup: int, highest: float) -> float:
    """Of iteration t of total: up a line for so many iterations, then down half a cosine."""
    if t < warmup:
        return highest * (t + 1) / warmup
    return float(highest * 0.5 * (1.0 + np.cos(np.pi * (t - warmup) / (total - warmup))))


def batches(count: int, batch: int, epochs: int, seed: int) -> Iterator[Array]:
    """Indices of every batch; each epoch has an order of its own, and drops what is left over."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(epochs):
        order = rng.permutation(count)
        for k in range(count // batch):
            yield order[k * batch : (k + 1) * batch]


def train_first_order(
    text: str,
    x: Array,
    y: Array,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 50,
    batch: int = 64,
    warmup: int = 0,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Parameters and running statistics after SGD; the first ``warmup`` epochs warm up.

    g = gradient + weight_decay theta, v = momentum v + g, theta = theta - lr v.
    """
    network = parse(text, x.shape[1:])
    params, running = initial(network, seed), initial_running(network)
    velocity = np.zeros(network.count)
    each = len(x) // batch
    for t, rows in enumerate(batches(len(x), batch, epochs, seed)):
        g, statistics = gradient(network, params, x[rows], y[rows])
        velocity = momentum * velocity + g + weight_decay * params
        params = params - learning_rate(t, each * epochs, each * warmup, lr) * velocity
        running = averaged(running, statistics)
    return params, running
