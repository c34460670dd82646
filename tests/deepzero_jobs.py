"""Jobs of zeroth-order training, and what their shards answer, for tests."""

import re

import numpy as np
import pytest

from zoo.config import build
from zoo.deepzero import study
from zoo.deepzero.config import DeepZeroConfig, NetworkConfig
from zoo.deepzero.data.batches import batch_rows
from zoo.deepzero.data.dataset import load
from zoo.deepzero.net.network import network
from zoo.deepzero.train import Arrays
from zoo.errors import InputError

MLP = "dense 5, tanh, dense 4"
CONV = "conv 4, batchnorm, relu, conv 4 bias=no, relu, dense 4"


def small_images(folder):
    """60 colour images of 6 x 6 to train on, 21 to test with, 4 classes."""
    rng = np.random.default_rng(3)
    arrays = {}
    for part, count in (("train", 60), ("test", 21)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 3, 6, 6)).astype(np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 4
    np.savez(folder / "images.npz", **arrays)
    return load(str(folder / "images.npz"))


def layered():
    """Network of layers of very different sizes, and a sparsity for each."""
    net = network(CONV, (2, 5, 5), 4)
    return net, {"conv1": 0.25, "conv2": 0.9, "dense3": 0.995}


def job_on(data, model, seed=0, augment=False, **options):
    """Job in double precision; large steps of the differences cost it no digits."""
    options = {"precision": "double", **options}
    given = NetworkConfig(model=model, augment=augment)
    return study.job_of(given, build(DeepZeroConfig, options), data, seed)


def driver_of(job):
    return study.assembled(NetworkConfig(), job, {}).method


def black_box(loss, template, samples=10, seed=0, **options):
    config = build(DeepZeroConfig, options)
    return study.black_box(loss, template, config, Arrays((np.arange(samples),)), seed)


def supersteps(method, count):
    """Messages, and the shards' reports, which the method has taken in."""
    shards = [method.shard(index) for index in range(method.shards)]
    for _ in range(count):
        message = method.message(1)
        reports = [shard.step(message) for shard in shards]
        method.merge(reports)
        yield message, reports


def batch_of(job, step):
    """Inputs in double precision, and labels."""
    rows = batch_rows(job.data.count("train"), job.config.batch, job.seed, step)
    x, y = job.data.batch("train", rows)
    return x.astype(np.float64), y


def refused(text):
    return pytest.raises(InputError, match=re.escape(text))


def close(found, wanted, tolerance):
    """Whether the largest error is so small, relative to the largest number."""
    return np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
