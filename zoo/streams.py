"""Counter-based random numbers: any number of any stream, computed anywhere, in any order.

The generator is Philox4x64-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as
1, 2, 3", SC 2011), bit for bit that of :class:`numpy.random.Philox`. A number is a function of

    key     = (seed, stream)
    counter = (block, particle, iteration, purpose)

where a block is four 64-bit words, so a particle's d normals are blocks 0 .. ceil(d/4)-1 of its
row. Nothing is stored and nothing depends on who draws first: the same bits on one thread, on
many, and on another machine.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.jit import from_bits, inlined, kernel, to_bits
from zoo.vmath import cos_pi, log, sin_pi

# Purposes: the last counter word, so that no two uses of one stream ever share a number.
INITIAL, NOISE, MEMORY_NOISE, KICK, BATCH = (np.uint64(purpose) for purpose in range(5))

LANES = 8  # float64 in the widest vector register that there is

_M0 = np.uint64(0xD2E7470EE14C6C93)
_M1 = np.uint64(0xCA5A826395121157)
_W0 = np.uint64(0x9E3779B97F4A7C15)
_W1 = np.uint64(0xBB67AE8584CAA73B)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_M0_LOW, _M0_HIGH = _M0 & _LOW, _M0 >> _32
_M1_LOW, _M1_HIGH = _M1 & _LOW, _M1 >> _32
_12 = np.uint64(12)
_63 = np.uint64(63)
_ONE = np.uint64(0x3FF0000000000000)  # the bits of 1.0


@inlined
def _mulhi(al, ah, b):
    """High word of the 128-bit product (2**32 ah + al) b."""
    # From 32-bit halves, given apart: a form that LLVM vectorizes, so long as it does not see
    # through it and put a 128-bit product in its place.
    bl, bh = b & _LOW, b >> _32
    t = ah * bl + ((al * bl) >> _32)
    u = al * bh + (t & _LOW)
    return ah * bh + (t >> _32) + (u >> _32)


@inlined
def _round(c0, c1, c2, c3, k0, k1):
    high0, high1 = _mulhi(_M0_LOW, _M0_HIGH, c0), _mulhi(_M1_LOW, _M1_HIGH, c2)
    return high1 ^ c1 ^ k0, _M1 * c2, high0 ^ c3 ^ k1, _M0 * c0


@inlined
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x64-10: four uint64 of counter and two of key to four random uint64."""
    # Written out, not a loop over rounds: only straight-line bodies vectorize across blocks.
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + _W0, k1 + _W1
    return _round(c0, c1, c2, c3, k0, k1)


@inlined
def unit(word):
    """Random word to a float64 in the open interval (0, 1): 52 bits, (i + 1/2) / 2**52."""
    return from_bits((word >> _12) | _ONE) - (1.0 - 2.0**-53)


@inlined
def _normal_pair(a, b):
    # Box and Muller (1958). The angle is drawn in (-pi/2, pi/2); an unused bit signs the cosine.
    radius = math.sqrt(-2.0 * log(unit(a)))
    turn = from_bits((b >> _12) | _ONE) - 1.5
    cosine = from_bits(to_bits(cos_pi(turn)) ^ (b << _63))
    return radius * cosine, radius * sin_pi(turn)


@inlined
def padded(d):
    """Row length of :func:`normals` for d numbers a row: d rounded up to whole blocks of four."""
    return (d + 3) // 4 * 4


@kernel
def lanes(rows, d):
    """Row and block number of each block of a tile, for :func:`normals` and :func:`uniforms`.

    Their length is a multiple of LANES, so that no block is left to the scalar end of a loop; what
    they fill has four numbers for each.
    """
    blocks = padded(d) // 4
    length = (rows * blocks + LANES - 1) // LANES * LANES
    row = np.zeros(length, np.uint64)
    block = np.zeros(length, np.uint64)
    for i in range(rows):
        for b in range(blocks):
            row[i * blocks + b] = i
            block[i * blocks + b] = b
    return row, block


@kernel
def normals(seed, stream, iteration, purpose, first, count, row, block, out):
    """Fill ``out`` with the standard normals of a tile of particles.

    Parameters
    ----------
    seed, stream : uint64
        The key.
    iteration, purpose : uint64
        The upper counter words.
    first : int
        Number of the particle of row 0.
    count : int
        Number of blocks wanted: rows * padded(d) / 4.
    row, block : arrays
        From :func:`lanes`, for as many rows or more.
    out : float64 array of 4 * len(row)
        Receives one row of ``padded(d)`` normals a particle; what lies behind is overwritten.
    """
    start = np.uint64(first)
    for q in range((count + LANES - 1) // LANES * LANES):
        a, b, c, d = philox(block[q], start + row[q], iteration, purpose, seed, stream)
        z0, z1 = _normal_pair(a, b)
        z2, z3 = _normal_pair(c, d)
        out[4 * q] = z0
        out[4 * q + 1] = z1
        out[4 * q + 2] = z2
        out[4 * q + 3] = z3


@kernel
def uniforms(seed, stream, iteration, purpose, first, count, row, block, out):
    """Fill ``out`` with uniforms in (0, 1), laid out as :func:`normals` does."""
    start = np.uint64(first)
    for q in range((count + LANES - 1) // LANES * LANES):
        a, b, c, d = philox(block[q], start + row[q], iteration, purpose, seed, stream)
        out[4 * q] = unit(a)
        out[4 * q + 1] = unit(b)
        out[4 * q + 2] = unit(c)
        out[4 * q + 3] = unit(d)


@inlined
def partner(seed, stream, iteration, purpose, row, i):
    """Whom ``i`` changes places with in :func:`permutation`, one of 0 .. i."""
    word = philox(np.uint64(i), np.uint64(row), iteration, purpose, seed, stream)[0]
    # bias below 2**-40 for any population that fits in memory
    return np.int64(_mulhi(np.uint64(i + 1), np.uint64(0), word))


@kernel
def permutation(seed, stream, iteration, purpose, row, out):
    """Fill ``out`` with a random permutation of 0 .. len(out)-1 (Fisher-Yates), number ``row``."""
    n = len(out)
    for i in range(n):
        out[i] = i
    for i in range(n - 1, 0, -1):
        j = partner(seed, stream, iteration, purpose, row, i)
        out[i], out[j] = out[j], out[i]
