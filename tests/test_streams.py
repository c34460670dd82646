"""Random streams against numpy.random.Philox, and their statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cbo import normals as reference_normals
from reference_cbo import permutation as reference_permutation
from scipy import stats

from zoo import streams

u64 = np.uint64
WORD = st.integers(0, 2**64 - 1)


def tile(fill, rows, d, seed=1, stream=2, iteration=3, purpose=4, first=0):
    row, block = streams.lanes(rows, d)
    out = np.empty(4 * len(row))
    dp = streams.padded(d)
    fill(
        u64(seed), u64(stream), u64(iteration), u64(purpose), first, rows * dp // 4, row, block, out
    )
    return out[: rows * dp].reshape(rows, dp)[:, :d]


@given(WORD, WORD, WORD, WORD, WORD, WORD)
@settings(max_examples=300, deadline=None)
def test_raw_words_are_numpys(c0, c1, c2, c3, k0, k1):
    ours = streams.philox(u64(c0), u64(c1), u64(c2), u64(c3), u64(k0), u64(k1))
    counter = c0 | (c1 << 64) | (c2 << 128) | (c3 << 192)  # numpy counts up before it draws
    numpys = np.random.Philox(key=k0 | (k1 << 64), counter=(counter - 1) % 2**256)
    assert list(ours) == list(numpys.random_raw(4))


@pytest.mark.parametrize("d", [1, 2, 4, 5, 20, 33])
def test_normals_are_box_mullers_of_those_words(d):
    drawn = tile(streams.normals, 7, d, seed=9, stream=5, iteration=11, purpose=1, first=100)
    for i in range(7):
        expected = reference_normals(9, 5, 1, 11, 100 + i, d)
        np.testing.assert_allclose(drawn[i], expected, rtol=1e-12, atol=1e-14)


def test_a_number_does_not_depend_on_the_tile_it_is_drawn_in():
    together = tile(streams.normals, 40, 13)
    for i in (0, 1, 17, 39):
        np.testing.assert_array_equal(together[i], tile(streams.normals, 1, 13, first=i)[0])


def test_normals_are_normal():
    z = tile(streams.normals, 20_000, 20).ravel()
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    assert abs(stats.kurtosis(z)) < 4 * np.sqrt(24 / z.size)
    expected = 2 * stats.norm.sf(4.0) * z.size
    assert abs(np.sum(np.abs(z) > 4.0) - expected) < 5 * np.sqrt(expected)
    pairs = z.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / np.sqrt(len(pairs))
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 4 / np.sqrt(len(pairs))


def test_neighbouring_keys_and_counters_are_uncorrelated():
    base = tile(streams.normals, 2000, 20).ravel()
    for change in ({"seed": 2}, {"stream": 3}, {"iteration": 4}, {"purpose": 5}, {"first": 2000}):
        other = tile(streams.normals, 2000, 20, **change).ravel()
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / np.sqrt(base.size)


def test_uniforms_are_uniform_and_never_0_or_1():
    u = tile(streams.uniforms, 20_000, 10).ravel()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert u.min() > 0
    assert u.max() < 1
    assert 0 < streams.unit(u64(0)) < streams.unit(u64(2**64 - 1)) < 1


def test_permutations():
    out = np.empty(50, np.int64)
    streams.permutation(u64(3), u64(1), u64(6), streams.BATCH, 2, out)
    np.testing.assert_array_equal(out, reference_permutation(3, 1, 6, 2, 50))
    assert sorted(out) == list(range(50))
    first = []
    for epoch in range(3000):
        streams.permutation(u64(3), u64(1), u64(epoch), streams.BATCH, 0, out[:6])
        first.append(tuple(out[:3]))
    counts = np.unique(first, axis=0, return_counts=True)[1]
    assert len(counts) == 120
    assert stats.chisquare(counts).pvalue > 1e-3
