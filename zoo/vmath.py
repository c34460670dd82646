"""Elementary functions that LLVM vectorizes: straight-line polynomials, no library calls.

libm's functions are opaque to the vectorizer, and cost 10 to 20 times as much in a loop. These
are strict IEEE sequences of explicit fused multiply-adds, so they give the same bits in every loop
they are inlined in. Errors given below are the largest found by the tests.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.jit import fma, from_bits, inlined, kernel, to_bits

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding and subtracting it rounds to an integer
_ROUND_BITS = np.int64(np.float64(_ROUND).view(np.int64))
_EXPONENT = np.uint64(0xFFF0000000000000)
_SQRT_HALF = np.uint64(np.float64(math.sqrt(0.5)).view(np.uint64))
_LN2 = math.log(2.0)
_LN2_HI = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LO = float.fromhex("0x1.a39ef35793c76p-33")

# Highest power first. Taylor series: the last term left out is below 2**-53 on the reduced range.
_SIN = tuple((-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(10))[
    ::-1
]
_COS = tuple((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(11))[::-1]
_ATANH = tuple(2.0 / (2 * k + 1) for k in range(10))[::-1]
_EXP = tuple(1.0 / math.factorial(k) for k in range(14))[::-1]
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(1, 15))[::-1]


@inlined
def round_even(x):
    """Nearest integer to x as a float64, ties to even; exact for abs(x) < 2**51."""
    return (x + _ROUND) - _ROUND


@inlined
def sin_pi(r):
    """sin(pi r) for abs(r) <= 1/2; absolute error below 5e-16."""
    y = r * r
    p = 0.0
    for c in _SIN:
        p = fma(p, y, c)
    return r * p


@inlined
def cos_pi(r):
    """cos(pi r) for abs(r) <= 1/2; absolute error below 5e-16."""
    y = r * r
    p = 0.0
    for c in _COS:
        p = fma(p, y, c)
    return p


@inlined
def sin2_pi(x):
    """sin(pi x)**2 = (1 - cos(2 pi x))/2 for any x; exactly 0 at integers, never negative.

    The form of the cosine ripples of Rastrigin's and Ackley's functions that loses no digits near
    their minimum.
    """
    r = x - round_even(x) if abs(x) < 2.0**51 else 0.0 * x
    s = sin_pi(r)
    return s * s


@inlined
def log(x):
    """Natural logarithm of a normal positive number; relative error below 5e-16."""
    bits = to_bits(x)
    exponent = (bits - _SQRT_HALF) & _EXPONENT
    m = from_bits(bits - exponent)  # in [sqrt(1/2), sqrt(2))
    k = from_bits(np.uint64((np.int64(exponent) >> 52) + _ROUND_BITS)) - _ROUND
    s = (m - 1.0) / (m + 1.0)
    y = s * s
    p = 0.0
    for c in _ATANH:
        p = fma(p, y, c)
    return fma(k, _LN2, s * p)


@inlined
def exp(x):
    """e**x for x <= 709, flushed to 0 below -708; relative error below 5e-16."""
    t = max(x, -708.0)
    k = round_even(t * (1.0 / _LN2))
    r = fma(k, -_LN2_LO, fma(k, -_LN2_HI, t))
    p = 0.0
    for c in _EXP:
        p = fma(p, r, c)
    scale = from_bits(
        (to_bits(k + _ROUND) - np.uint64(_ROUND_BITS) + np.uint64(1023)) << np.uint64(52)
    )
    return 0.0 if x <= -708.0 else p * scale


@inlined
def expm1(x):
    """e**x - 1 for x <= 709; relative error below 5e-16."""
    t = max(x, -708.0)
    k = round_even(t * (1.0 / _LN2))
    r = fma(k, -_LN2_LO, fma(k, -_LN2_HI, t))
    p = 0.0
    for c in _EXPM1:
        p = fma(p, r, c)
    scale = from_bits(
        (to_bits(k + _ROUND) - np.uint64(_ROUND_BITS) + np.uint64(1023)) << np.uint64(52)
    )
    return fma(r * p, scale, scale - 1.0)


@inlined
def log1p(x):
    """log(1 + x) for x > -1; relative error below 1e-15."""
    u = 1.0 + x
    return log(u) + (x - (u - 1.0)) / u


@kernel
def folded_sum(values):
    """Sum of an array, by folding halves onto each other; overwrites it.

    A fixed order that vectorizes, which one running total does not.
    """
    n = len(values)
    while n > 16:
        half = n // 2
        for i in range(half):
            values[i] += values[n - half + i]
        n -= half
    total = 0.0
    for i in range(n):
        total += values[i]
    return total
