"""Standard normals of the positions' precision, from the engine's random words."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from zoo import streams
from zoo.cuda import cosf, cuda, device_function, log2f, rsqrtf, signedf, sinf, unitf

philox, unit = device_function(streams.philox), device_function(streams.unit)
normal_pair = device_function(streams._normal_pair)


@functools.cache
def normals_of(real: str) -> Any:
    """Device function: two random words to two standard normals."""
    if real == "float64":
        return normal_pair
    single = np.float32
    factor, half, pi = single(-2.0 * math.log(2.0)), single(0.5), single(math.pi)
    least = single(-2.0 * math.log1p(-(2.0**-24)))  # of the largest u, which rounding may pass

    def pair(a, b):
        # Box and Muller with the words' upper 23 bits.
        square = max(factor * log2f(unitf(a)), least)
        radius = square * rsqrtf(square)
        angle = (unitf(b) - half) * pi
        return radius * signedf(cosf(angle), b), radius * sinf(angle)

    return cuda.jit(device=True)(pair)


@functools.cache
def four_of(real: str) -> Any:
    """Device function: the four normals of a block of coordinates of a particle."""
    pair = normals_of(real)

    def four(seed, stream, iteration, purpose, particle, block):
        a, b, c, d = philox(block, particle, iteration, purpose, seed, stream)
        z0, z1 = pair(a, b)
        z2, z3 = pair(c, d)
        return z0, z1, z2, z3

    return cuda.jit(device=True)(four)


@cuda.jit(device=True)
def first_of(z, count):
    """The first ``count`` of four, at least one, and zeros."""
    nothing = z[0] - z[0]
    return (
        z[0],
        z[1] if count > 1 else nothing,
        z[2] if count > 2 else nothing,
        z[3] if count > 3 else nothing,
    )


@cuda.jit(device=True)
def one_of(k, z):
    """Number ``k`` of four."""
    return z[0] if k == 0 else (z[1] if k == 1 else (z[2] if k == 2 else z[3]))
