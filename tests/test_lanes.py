"""Vectors in kernels, against NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest

from zoo.jit import kernel
from zoo.lanes import (
    LANES,
    fma,
    head,
    highest,
    load,
    spread,
    store,
    total,
    where_finite,
    widen,
)

DTYPES = [np.float32, np.float64]


@kernel
def _each(x, y, out, number):
    for b in range(0, x.shape[1], LANES):
        v, w = load(x, (0, b)), load(y, b)
        store(out, (0, b), v + w)
        store(out, (1, b), v - w)
        store(out, (2, b), v * w)
        store(out, (3, b), v / w)
        store(out, (4, b), max(v, w))
        store(out, (5, b), min(v, w))
        store(out, (6, b), abs(v))
        store(out, (7, b), fma(v, w, v))
        store(out, (8, b), number - v * 2)
        store(out, (9, b), max(v, 0) / number)
        store(out, (10, b), fma(v, number, 0.5))
        store(out, (11, b), number)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operations(dtype):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 5 * LANES)).astype(dtype)
    number = dtype(0.3)
    out = np.zeros((13, 5 * LANES), dtype)
    _each(x[None], y, out, 0.3)
    exact = [
        float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(a)))
        for a, b in zip(x, y, strict=True)
    ]
    expected = [
        *(x + y, x - y, x * y, x / y, np.maximum(x, y), np.minimum(x, y), abs(x)),
        np.array(exact).astype(dtype),  # rounded once
        *(number - x * dtype(2), np.maximum(x, dtype(0)) / number),
        (np.float64(x) * number + 0.5).astype(dtype) if dtype == np.float32 else out[10],
        np.full_like(x, number),
        np.zeros_like(x),
    ]
    np.testing.assert_array_equal(out, expected)


@kernel
def _finite(x, out):
    for b in range(0, len(x), LANES):
        v = load(x, b)
        store(out, (0, b), where_finite(v, v))
        store(out, (1, b), where_finite(v, spread(x.dtype.type(3))))
        store(out, (2, b), math.sqrt(v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite(dtype):
    x = np.resize(np.array([1.5, np.inf, -np.inf, np.nan, 0.0], dtype), 2 * LANES)
    out = np.ones((3, 2 * LANES), dtype)
    _finite(x, out)
    np.testing.assert_array_equal(out[0], np.where(np.isfinite(x), x, dtype(0)))
    np.testing.assert_array_equal(out[1], np.where(np.isfinite(x), dtype(3), dtype(0)))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out[2], np.sqrt(x))


@kernel
def _sums(x, n):
    real = x.dtype.type
    one, most, wide = spread(real(0)), spread(real(0)), spread(0.0)
    for b in range(0, n, LANES):
        v = head(load(x, (1, b)), n - b)
        one, most, wide = one + v, max(most, abs(v)), wide + widen(v)
    return total(one), highest(most), total(wide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 37, 48])
def test_sums_leave_out_the_padding(dtype, n):
    x = np.random.default_rng(n).standard_normal((2, 48)).astype(dtype)
    x[:, n:] = np.nan
    padded = np.where(np.arange(48) < n, x[1], dtype(0))

    def folded(values):
        while len(values) > 1:
            half = len(values) // 2
            values = values[:half] + values[half:]
        return values[0]

    by_lanes = padded.reshape(-1, LANES)
    one, most, wide = _sums(x, n)
    assert one == folded(by_lanes.sum(axis=0))
    assert wide == folded(by_lanes.astype(np.float64).sum(axis=0))
    assert most == abs(padded).max()
