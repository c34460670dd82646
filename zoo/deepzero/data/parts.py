"""Labelled samples as files have them, and how one part of them becomes two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zoo.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
#: Samples (N, C, H, W), uint8 or float32, and their labels as the file has them.
Labelled: TypeAlias = tuple[Array, Array]

_SPLIT = 33  # purpose: the last counter word, so that no two uses of a seed share a number


@dataclass(frozen=True, eq=False)
class Parts:
    """What a file, a folder or an archive holds.

    Attributes
    ----------
    name : str
    train : samples and labels
    test : samples and labels, or None
        None: a fifth of ``train`` is held out.
    classes : tuple of str or None
        Names in label order; by default the labels are their own names.
    divisor : float or None
        What turns stored numbers into inputs; None: each channel is standardised.
    """

    name: str
    train: Labelled
    test: Labelled | None = None
    classes: tuple[str, ...] | None = None
    divisor: float | None = None


def labels(where: str, y: Array, count: int) -> Ints:
    """Labels as int64, (count,).

    Parameters
    ----------
    where : str
        Begins the error.
    y : array (count,) or (count, 1)
        Numbers of any type.
    count : int
        Number of samples.

    Raises
    ------
    InputError
        If they are not that many, not whole numbers from 0 on, or there are none.
    """
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise InputError(f"{where}: labels must be one number a sample, got shape {y.shape}")
    if len(y) != count:
        raise InputError(f"{where}: there are {count} samples, but {len(y)} labels")
    if not count:
        raise InputError(f"{where}: there are no samples")
    if y.dtype.kind not in "buif":
        raise InputError(f"{where}: labels must be whole numbers from 0 on, got {y.dtype}")
    wrong = ~((y >= 0) & (y < 2**31) & (y == np.floor(y)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{where}: labels must be whole numbers from 0 on, got {y[row]} as number {row + 1}"
        )
    return y.astype(np.int64)


def class_names(found: Parts, y_train: Ints, y_test: Ints) -> tuple[str, ...]:
    """Names of the classes of labels, which are their numbers where there are no others.

    Raises
    ------
    InputError
        If there are fewer than two classes, or one of them has no training samples.
    """
    present = np.unique(y_train)
    count = max(int(present[-1]), int(y_test.max())) + 1
    count = count if found.classes is None else max(count, len(found.classes))
    if count < 2:
        raise InputError(f"{found.name}: labels must be of two classes or more, got one")
    if len(present) < count:
        missing = int(np.argmax(np.append(present, -1) != np.arange(len(present) + 1)))
        shown = missing if found.classes is None else repr(found.classes[missing])
        raise InputError(
            f"{found.name}: labels must be numbers from 0 on without gaps, and each must have "
            f"training samples; of the {count} up to the largest, {shown} has none"
        )
    return found.classes or tuple(map(str, range(count)))


def stratified(y: Ints, held_out: int, split: int) -> tuple[Ints, Ints]:
    """Rows to train on and rows to hold out, in ascending order.

    Each class gives its share, rounded by largest remainders, but keeps a sample to train on.
    The rows are those whose words of Philox (key ``split``, one word a row) are the lowest of
    their class: the same on every machine and with every version of the libraries.

    Parameters
    ----------
    y : int64 array (N,)
        Labels.
    held_out : int
    split : int
        Number of the split.

    Returns
    -------
    tuple of two int64 arrays
        They share no row and have all of them.
    """
    counts = np.bincount(y)
    quota, remainder = np.divmod(counts * held_out, len(y))
    largest = np.argsort(-remainder, kind="stable")[: held_out - int(quota.sum())]
    quota[largest] += 1
    quota = np.minimum(quota, np.maximum(counts - 1, 0))
    order = random_order(split, len(y), 0, _SPLIT)
    by_class = order[np.argsort(y[order], kind="stable")]
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = rank < np.repeat(quota, counts)
    return np.sort(by_class[~held]), np.sort(by_class[held])


def random_order(seed: int, n: int, number: int, purpose: int) -> Ints:
    """Permutation of 0 .. n-1: the order of n words of Philox.

    Their key is (seed, 0), their counter (block, 0, number, purpose).
    """
    return np.argsort(words(seed, n, number, purpose), kind="stable").astype(np.int64, copy=False)


def words(seed: int, n: int, number: int, purpose: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Random 64-bit words (n,) of Philox, which no version of numpy changes.

    Their key is (seed, 0), their counter (block, 0, number, purpose).
    """
    key = np.array([seed, 0], np.uint64)
    counter = np.array([0, 0, number, purpose], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(n)
