"""Kernels for tests; to be imported where there is a GPU, or its simulator."""

import numpy as np

from zoo import streams
from zoo.cbo.device.batches import deal
from zoo.cbo.device.noise import normals_of
from zoo.cuda import cuda, device_function
from zoo.vmath import sin2_pi

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


_single_pair = normals_of("float32")


def _ripple(x):
    return sin2_pi(x)


_single_ripple = device_function(_ripple, single=True)


@cuda.jit
def singles(words, x, normals, ripples):
    """Fill rows i with the normals of two words, and sin^2(pi x)."""
    i = cuda.grid(1)
    if i < words.shape[0]:
        normals[i, 0], normals[i, 1] = _single_pair(words[i, 0], words[i, 1])
        ripples[i] = _single_ripple(x[i])


@cuda.jit
def permutations(params, seed, first_run, first, runs, order, epochs, partners, claims, news):
    """Draw the permutations that runs want."""
    deal(params[0], seed, first_run, first, runs, order, epochs, partners, claims, news)
