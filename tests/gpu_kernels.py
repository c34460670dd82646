"""Kernels for tests; to be imported where there is a GPU, or its simulator."""

import numpy as np

from zoo import streams
from zoo.cbo.device.batches import deal
from zoo.cbo.device.noise import normals_of
from zoo.cuda import cuda, device_function, kernel
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


def loops(n, out):
    """Loops over every kind of range."""
    for i in range(n):
        out[0] += i
    for i in range(2, n):
        out[1] += i * i
    for i in range(n, -3, -2):
        if i == 1:
            continue
        out[2] += i
    for i in range(np.uint64(3), np.uint64(9)):
        out[3] += float(i)
    for i in range(-2, np.uint64(3)):
        out[3] += i
    for i in range(n):
        if i == 3:
            break
        for j in range(i, 10, 3):
            out[4] += j
    else:
        out[5] += 7
    for i in range(np.int32(4)):
        out[6] += i


def within(n, out):
    """A range that nobody loops over."""
    for i, v in enumerate(out[:2]):
        if i + 3 in range(n):
            out[7] += v


_loops, _within = device_function(loops), device_function(within)


@cuda.jit
def looped(n, out):
    """What :func:`loops` and :func:`within` do."""
    _loops(n, out)
    _within(n, out)


@kernel
def permutations(params, seed, first_run, population, deals):
    """Draw the permutations that runs want."""
    deal(params[0], seed, first_run, population, deals)
