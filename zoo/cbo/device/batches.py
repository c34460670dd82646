"""Mini-batches on a GPU: the permutations of the CPU, drawn by all threads.

Fisher and Yates exchange one pair after another. An exchange can be made as soon as none before it
that is still to be made has one of its two places: every exchange left claims its places, the first
to claim both is made, and after some log n rounds all are (Shun, Gu, Blelloch, Fineman, Gibbons,
"Sequential random permutation, list contraction and tree contraction are highly parallel", 2015).
"""

from __future__ import annotations

import numpy as np

from zoo import streams
from zoo.cbo import state as st
from zoo.cbo.kernels import batch_at
from zoo.cuda import cuda, device_function
from zoo.streams import BATCH

_partner, at = device_function(streams.partner), device_function(batch_at)

#: Places of ``news``: exchanges left after a round, by its number modulo three; and whether a run
#: wants a permutation that is not there.
_ROUNDS, WANTED = 3, 3
NEWS = 4
#: News where runs have just been begun, or restored.
WANTED_ALL = (np.arange(NEWS) == WANTED).astype(np.int64)


@cuda.jit(device=True)
def _wanted(p, n, run, slot):
    """Number of the permutation that a run's next superstep wants in a slot, or -1."""
    if run.phase == st.DONE or run.phase == st.MEASURE:
        return np.int64(-1)
    moving = run.phase == st.MOVE
    looks, _ = at(p.batch, n, run.step + 1 if moving else 0)
    if looks % 2 == slot:
        return looks
    moves, _ = at(p.batch, n, run.step)
    if moving and p.move_all == 0 and moves % 2 == slot:
        return moves
    return np.int64(-1)


@cuda.jit(device=True)
def ready(p, n, run, epochs):
    """Whether the permutations of a run's next superstep are there."""
    for slot in range(2):
        number = _wanted(p, n, run, slot)
        if number >= 0 and epochs[slot] != number:
            return False
    return True


@cuda.jit(device=True)
def deal(p, seed, first_run, pop, deals):
    """Draw the permutations that runs want into ``pop.order``, by all threads of the grid."""
    runs, order, epochs = pop.runs, pop.order, pop.epochs
    partners, claims, news = deals.partners, deals.claims, deals.news
    if news[WANTED] == 0:
        return
    grid = cuda.cg.this_grid()
    me, wide = cuda.grid(1), cuda.gridsize(1)
    n = order.shape[2]
    for q in range(me, claims.size, wide):
        r, slot, i = q // (2 * n), q // n % 2, q % n
        number = _wanted(p, n, runs[r], slot)
        mate = np.int64(-1)
        if number >= 0 and epochs[r, slot] != number:
            order[r, 1 + slot, i] = i
            claims[r, slot, i] = 0
            if i > 0:
                stream = np.uint64(first_run + r)
                mate = _partner(seed, stream, np.uint64(number), BATCH, np.uint64(pop.first), i)
        partners[r, slot, i] = mate
    turn = 0
    left = np.int64(1)
    while left > 0:
        grid.sync()
        for q in range(me, claims.size, wide):
            r, slot, i = q // (2 * n), q // n % 2, q % n
            mate = partners[r, slot, i]
            if mate >= 0:
                cuda.atomic.max(claims, (r, slot, i), i)
                cuda.atomic.max(claims, (r, slot, mate), i)
        if me == 0:
            news[(turn + 1) % _ROUNDS] = 0
        grid.sync()
        later = 0
        for q in range(me, claims.size, wide):
            r, slot, i = q // (2 * n), q // n % 2, q % n
            mate = partners[r, slot, i]
            if mate < 0:
                continue
            if claims[r, slot, i] == i and claims[r, slot, mate] == i:
                mine = order[r, 1 + slot, i]
                order[r, 1 + slot, i] = order[r, 1 + slot, mate]
                order[r, 1 + slot, mate] = mine
                partners[r, slot, i] = -1
                claims[r, slot, i] = 0  # nobody's number, whoever reads it now
                claims[r, slot, mate] = 0
            else:
                later += 1
        if later > 0:
            cuda.atomic.add(news, turn, later)
        grid.sync()
        left = news[turn]
        turn = (turn + 1) % _ROUNDS
    for q in range(me, epochs.size, wide):
        r, slot = q // 2, q % 2
        number = _wanted(p, n, runs[r], slot)
        if number >= 0:
            epochs[r, slot] = number
    if me == 0:
        for k in range(NEWS):
            news[k] = 0
    grid.sync()


@cuda.jit(device=True)
def turn(p, n, step):
    """Whose turn it is in a step: a range of a row of ``order``, and the row."""
    number, start = at(p.batch, n, step)
    return start, start + p.batch, 1 + number % 2
