"""What a kernel is compiled for, and how populations are cut into tiles and groups of tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.cuda import SIMULATED, Kernel, multiprocessors

#: Threads of a block.
THREADS = 2 if SIMULATED else 128
#: Registers of a thread: with as many as the compiler would like, half as many threads would run.
REGISTERS = 128
#: Particles of a tile, at most.
ROWS = 128
#: Shared memory that a tile may take: a block has 48 KiB without asking, and what kernels declare
#: takes 7,168 bytes of them.
_BYTES = 40_960
#: Particles of a tile that does not fit there.
_LONG = 32
#: Tiles that a small population has at least, for all of a GPU to have something to do.
_TILES = 256
#: Groups of tiles of all runs, and those of a run from which on all blocks add up their sums.
_GROUPS, _FEW = 1536, 8
#: Blocks of a multiprocessor that wait for no other: a few times those at work at once.
_ALONE = 16
#: Bytes of the groups' sums for covariances, at most.
_MATRICES = 1 << 28


@dataclass(frozen=True)
class Shape:
    """What a kernel is compiled for.

    Attributes
    ----------
    real : str
        float64 or float32: of positions, of what moves them, and of what objectives see.
    shared : bool
        Whether a tile is in shared memory.
    alone : bool
        Whether a block has whole runs to itself, and waits for no other.
    many : bool
        Whether a run has so many groups that all blocks add up their sums.
    noise, boundary, gate : int
        Codes of zoo.cbo.dynamics.
    hopping, polarized, memory, kicks, ess, batches : bool
    shifted, rotated : bool
        Whether the objective is taken at another place; see :class:`zoo.evaluate.Target`.
    pure : bool
        Whether it is known not to write on its argument.
    """

    real: str
    shared: bool
    alone: bool
    many: bool
    noise: int
    boundary: int
    gate: int
    hopping: bool
    polarized: bool
    memory: bool
    kicks: bool
    ess: bool
    batches: bool
    shifted: bool
    rotated: bool
    pure: bool


def tile_of(dp: int, particles: int, real: str) -> tuple[int, int]:
    """Particles of a tile, of so many in all runs; and its bytes of shared memory, or none."""
    itemsize = 8 if SIMULATED else np.dtype(real).itemsize
    across = itemsize * (dp + 1)
    most = min(_BYTES // across // 8 * 8, ROWS)
    if most <= 0:
        return _LONG, 0
    rows = min(most, max(8, -(-particles // _TILES + 7) // 8 * 8))
    return rows, rows * across


def most_dimensions(real: str) -> int:
    """Dimensions of which a tile of eight particles fits into shared memory."""
    return (_BYTES // (8 * (8 if SIMULATED else np.dtype(real).itemsize)) - 1) // 4 * 4


def groups_of(runs: int, n: int, tile: int, matrix: int = 0) -> int:
    """Groups of tiles of a run; each has a matrix of so many numbers."""
    most = min(_GROUPS // runs, _MATRICES // (8 * matrix * runs)) if matrix else _GROUPS // runs
    return max(1, min(-(-n // tile), most))


def added_by_all(groups: int) -> bool:
    """Whether all blocks add up the sums of a run's groups, not the one that closes it."""
    return groups > _FEW


def blocks_of(kernel: Kernel, alone: bool, items: int, bytes_shared: int) -> int:
    """Blocks to launch: where they wait for each other, no more than can be there at once."""
    if SIMULATED:
        return 1
    if alone:
        return min(items, _ALONE * multiprocessors())
    return min(items, kernel.most_blocks(THREADS, bytes_shared), 8 * multiprocessors())
