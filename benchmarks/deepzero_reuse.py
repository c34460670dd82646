"""Feature reuse for dense networks in NumPy: a rival of deepzero for its benchmarks.

Coordinate-wise gradient estimates in float32: a coordinate of a layer costs the pass from that
layer on, into arrays that are allocated once, with one thread for BLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import reference_network as reference

Array = np.ndarray
Operation = Callable[[Array], Array]

THREADS = ThreadpoolController()


def dense(weight: Array, bias: Array, out: Array) -> Operation:
    transposed = weight.T

    def run(x: Array) -> Array:
        np.matmul(x, transposed, out=out)
        return np.add(out, bias, out=out)

    return run


def operation(layer: reference.Layer, theta: Array, rows: int) -> Operation:
    """Of one layer; activations are in place, as every dense layer has an array of its own."""
    if layer.kind == "dense":
        weight, bias = reference.parts(layer, theta)
        return dense(weight, bias, np.empty((rows, layer.size), np.float32))
    if layer.kind == "relu":
        return lambda x: np.maximum(x, np.float32(0.0), out=x)
    if layer.kind == "tanh":
        return lambda x: np.tanh(x, out=x)
    raise ValueError(f"{layer.kind}: dense networks with relu or tanh only")


def cross_entropy(classes: int, y: Array) -> Callable[[Array], float]:
    """Mean loss of logits (batch, classes), which are overwritten."""
    picks = np.arange(len(y)) * classes + y
    largest, total = np.empty((len(y), 1), np.float32), np.empty(len(y), np.float32)
    picked = np.empty(len(y), np.float32)

    def run(logits: Array) -> float:
        np.maximum.reduce(logits, axis=1, out=largest, keepdims=True)
        np.subtract(logits, largest, out=logits)
        np.take(logits, picks, out=picked, mode="wrap")
        np.exp(logits, out=logits)
        np.add.reduce(logits, axis=1, out=total)
        np.log(total, out=total)
        np.subtract(total, picked, out=total)
        return float(np.add.reduce(total, dtype=np.float64)) / len(y)

    return run


@THREADS.wrap(limits=1)
def reuse_cge(
    text: str,
    params: Array,
    x: Array,
    y: Array,
    mu: float,
    coordinates: Sequence[int] | Array,
) -> Array:
    """[l(theta + mu e_i) - l(theta)] / mu of these coordinates, in any order, from their layers."""
    network = reference.parse(text, x.shape[1:])
    if network.layers[0].kind != "dense":
        raise ValueError("dense networks that begin with a dense layer only")
    theta = params.astype(np.float32)
    operations = [operation(layer, theta, len(x)) for layer in network.layers]
    loss = cross_entropy(network.shape[0], y)
    wanted, out = np.asarray(coordinates), np.empty(len(coordinates))
    features = x.reshape(len(x), -1).astype(np.float32)
    for k, layer in enumerate(network.layers):
        own = np.flatnonzero((wanted >= layer.first) & (wanted < layer.first + layer.count))
        later = operations[k:]
        for place, i in zip(own.tolist(), wanted[own].tolist(), strict=True):
            before = theta[i]
            theta[i] = before + mu
            z = features
            for op in later:
                z = op(z)
            out[place] = loss(z)
            theta[i] = before
        features = operations[k](features)
    return (out - loss(features)) / mu
