"""Kernels for tests; to be imported where there is a GPU, or its simulator."""

import numpy as np

from zoo import streams
from zoo.cbo.device.batches import deal
from zoo.cuda import cuda, device_function

_philox = device_function(streams.philox)
_normal_pair = device_function(streams._normal_pair)


@cuda.jit
def words_and_normals(seed, stream, words, normals):
    """Fill rows i with the words of block i, and the normals of the first two."""
    i = cuda.grid(1)
    if i < words.shape[0]:
        drawn = _philox(np.uint64(i), np.uint64(3), np.uint64(5), np.uint64(1), seed, stream)
        for k in range(4):
            words[i, k] = drawn[k]
        normals[i, 0], normals[i, 1] = _normal_pair(drawn[0], drawn[1])


@cuda.jit
def permutations(params, seed, first_run, first, runs, order, epochs, partners, claims, news):
    """Draw the permutations that runs want."""
    deal(params[0], seed, first_run, first, runs, order, epochs, partners, claims, news)
