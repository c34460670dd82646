"""Minibatches: which rows, and how images are varied."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from zoo.deepzero.data.parts import Array, Ints, random_order, words

_ORDER, _CROP = 32, 34  # purposes: the last counter words
_MARGIN = 4  # pixels


def batch_rows(n: int, size: int, seed: int, step: int) -> Ints:
    """Rows of minibatch number ``step``.

    An epoch is ``ceil(n / size)`` steps and has every row once, in an order of its own; its last
    minibatch is smaller where ``size`` does not divide n.

    Parameters
    ----------
    n : int
        Number of rows.
    size : int
        Of a minibatch.
    seed, step : int
        The rows are a function of these.

    Returns
    -------
    int64 array (size or fewer,)
        Read-only.
    """
    epoch, batch = divmod(step, -(-n // size))
    return _order(n, seed, epoch)[batch * size : (batch + 1) * size]


def crop_and_flip(x: Array, seed: int, step: int) -> Array:
    """Random crop of each image out of itself with 4 pixels of zeros around, mirrored or not.

    Parameters
    ----------
    x : float32 array (n, C, H, W)
        Normalised images.
    seed, step : int
        Crops and mirrorings are a function of these, the same for the same place in the batch.

    Returns
    -------
    float32 array (n, C, H, W)
    """
    n, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    random = words(seed, n, step, _CROP)
    tops, lefts = (_below(2 * _MARGIN + 1, random >> np.uint64(at)) for at in (0, 24))
    mirrored = (random >> np.uint64(63)).astype(bool).tolist()
    out = np.empty_like(x)
    for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        crop = padded[i, :, top : top + height, left : left + width]
        out[i] = crop[:, :, ::-1] if mirrored[i] else crop
    return out


@lru_cache(maxsize=8)
def _order(n: int, seed: int, epoch: int) -> Ints:
    order = random_order(seed, n, epoch, _ORDER)
    order.setflags(write=False)  # the cache's own
    return order


def _below(bound: int, random: Array) -> Array:
    """Numbers 0 .. bound-1 from the lowest 24 bits of random words."""
    return ((random & np.uint64(2**24 - 1)) * np.uint64(bound)) >> np.uint64(24)
