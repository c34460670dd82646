"""Standard normals of the positions' precision, from the engine's random words."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from zoo import streams
from zoo.cuda import cospif, cuda, device_function, sinpif

philox, unit = device_function(streams.philox), device_function(streams.unit)
normal_pair = device_function(streams._normal_pair)


@functools.cache
def normals_of(real: str) -> Any:
    """Device function: two random words to two standard normals."""
    if real == "float64":
        return normal_pair
    single = np.float32
    scale = single(2.0**-23)

    def pair(a, b):
        # Box and Muller with the words' upper 23 bits.
        u = (single(a >> np.uint64(41)) + single(0.5)) * scale
        radius = single(math.sqrt(single(-2.0) * single(math.log(u))))
        turn = (single(b >> np.uint64(41)) + single(0.5)) * scale - single(0.5)
        cosine = cospif(turn)
        if b & np.uint64(1):
            cosine = -cosine
        return radius * cosine, radius * sinpif(turn)

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
def one_of(k, z):
    """Number ``k`` of four."""
    return z[0] if k == 0 else (z[1] if k == 1 else (z[2] if k == 2 else z[3]))
