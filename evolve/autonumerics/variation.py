"""How programs vary: one small change of the graph, then its canonical form.

Insertion, removal and rewiring are the paper's, of about its weights (Real et al. 2023). To change
an operation, to square the result, to continue a fraction, to put in two operations at once, and to
give a new one the same operand twice are ours: the best programs known are powers of continued
fractions.
"""

from __future__ import annotations

import itertools
from bisect import bisect
from collections.abc import Callable, Sequence

import numpy as np

from evolve.autonumerics.programs import ADD, ARITY, DIV, MUL, SUB, Program, X, canonical

Random = np.random.Generator
Rows = list[list[int]]

#: Share of new operands that are new constants, and that are the same as the other operand.
_FRESH, _TWICE = 0.4, 0.25

#: A program is changed once, and with this probability once more.
_AGAIN = 0.3

#: A change that comes to nothing is made again, so many times.
_TRIES = 20


def fresh(random: Random, shape: int | tuple[int, ...]) -> np.ndarray:
    """New constants: of either sign, and of some decades about 3."""
    signs = random.choice((-1.0, 1.0), shape)
    return np.asarray(signs * 10.0 ** random.normal(0.5, 1.0, shape))


def vary(parent: Program, random: Random, operations: Sequence[int], most: int) -> Program:
    """Change a program until it is another one, of at most so many operations.

    New constants are NaN.
    """
    for _ in range(_TRIES):
        rows, constants = parent.codes.tolist(), parent.constants.tolist()
        change_more = True
        while change_more:
            change = _CHANGES[bisect(_BOUNDS, random.random())]
            change(rows, constants, random, operations)
            change_more = random.random() < _AGAIN
        low = np.zeros(len(constants))
        child = canonical(Program(np.array(rows, np.int8).reshape(-1, 4), np.array(constants), low))
        child = _written(child, operations)
        if not set(child.codes[:, 0].tolist()) <= set(operations):
            continue
        if 0 < child.cost <= most and not np.array_equal(child.codes, parent.codes):
            return child
    return parent


def _written(program: Program, operations: Sequence[int]) -> Program:
    """To divide by a constant is to multiply by another one, and to subtract one is to add one.

    It is done in the way that the operations allow, preferably by multiplication and addition.
    """
    codes, constants = program.codes.copy(), program.constants.copy()
    for k, (op, a, b, _) in enumerate(codes.tolist()):
        alone = op <= DIV and a >= 0 and b < 0 and (codes[:, 1:] == b).sum() == 1
        new = op
        if alone and op in (MUL, DIV):
            new = MUL if MUL in operations else DIV
        elif alone:
            new = ADD if ADD in operations else SUB
        if new != op:
            codes[k, 0] = new
            with np.errstate(divide="ignore"):
                constants[-b - 1] = 1.0 / constants[-b - 1] if op >= MUL else -constants[-b - 1]
    return Program(codes, constants, np.zeros_like(constants))


def _operand(rows: Rows, constants: list[float], before: int, random: Random) -> int:
    """Something that operation ``before`` can take."""
    if random.random() < _FRESH:
        constants.append(np.nan)
        return -len(constants)
    known = before + 1 + len(constants)
    chosen = _below(random, known)
    return chosen if chosen <= before else -(chosen - before)


def _code(op: int, operands: Sequence[int]) -> list[int]:
    return [op, *operands[: ARITY[op]], *[0] * (3 - ARITY[op])]


def _below(random: Random, count: int) -> int:
    """Whole number from 0 on, below ``count``."""
    return int(random.random() * count)


def _shuffled(random: Random, items: list[int]) -> list[int]:
    for i in range(len(items) - 1, 0, -1):
        j = _below(random, i + 1)
        items[i], items[j] = items[j], items[i]
    return items


def _pick(random: Random, items: Sequence[int]) -> int:
    return items[_below(random, len(items))]


def _edge(rows: Rows, random: Random) -> tuple[int, int, int]:
    """Operation that takes an operand, which of them, and what it is; the last one: the result."""
    at = _below(random, len(rows) + 1)
    if at == len(rows):
        return at, 0, at
    slot = 1 + _below(random, ARITY[rows[at][0]])
    return at, slot, rows[at][slot]


def _put(rows: Rows, at: int, slot: int, new: list[int]) -> None:
    """Put an operation before operation ``at``, as what goes into that slot of it, if any."""
    for row in rows[at:]:  # results from here on are one later
        row[1:] = [o + 1 if o > at else o for o in row[1:]]
    rows.insert(at, new)
    if slot:
        rows[at + 1][slot] = at + 1


def _insert(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Put an operation on an edge, or on the result."""
    at, slot, source = _edge(rows, random)
    op = _pick(random, operations)
    operands = [source] + [
        source if random.random() < _TWICE else _operand(rows, constants, at, random)
        for _ in range(ARITY[op] - 1)
    ]
    _put(rows, at, slot, _code(op, _shuffled(random, operands)))


def _extend(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Put two operations on an edge: one of what is there, and one of that and the other's result.

    So s becomes s + c/s.
    """
    at, slot, source = _edge(rows, random)
    for operands in ([source, _operand(rows, constants, at, random)], [source, at + 1]):
        op = _pick(random, operations)
        while len(operands) < ARITY[op]:
            operands.append(_operand(rows, constants, at, random))
        _put(rows, at, slot, _code(op, _shuffled(random, operands[: ARITY[op]])))
        at += 1


def _remove(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Take an operation out; one of its operands stands for it."""
    if len(rows) < 2:
        return
    k = _below(random, len(rows))
    stands = rows[k][1 + _below(random, ARITY[rows[k][0]])]
    if k == len(rows) - 1 and stands <= 0:
        return
    del rows[k]
    if k == len(rows):  # the result is now that of an earlier one
        del rows[stands:]
    for row in rows[k:]:
        row[1:] = [stands if o == k + 1 else o - 1 if o > k + 1 else o for o in row[1:]]


def _rewire(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Let an operation take something else."""
    k = _below(random, len(rows))
    slot = 1 + _below(random, ARITY[rows[k][0]])
    rows[k][slot] = _operand(rows, constants, k, random)


def _change(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Change an operation, or the order of its operands."""
    k = _below(random, len(rows))
    op, operands = _pick(random, operations), rows[k][1 : 1 + ARITY[rows[k][0]]]
    while len(operands) < ARITY[op]:
        operands.append(_operand(rows, constants, k, random))
    rows[k] = _code(op, _shuffled(random, operands))


def _square(rows: Rows, constants: list[float], random: Random, operations: Sequence[int]) -> None:
    """Square the result, if products are allowed."""
    if MUL not in operations:
        return
    rows.append(_code(MUL, [len(rows), len(rows)]))


def _continue(
    rows: Rows, constants: list[float], random: Random, operations: Sequence[int]
) -> None:
    """Continue a fraction: a constant c becomes c + c'/(v + c''), v being x or any result."""
    slots = [(k, i) for k, row in enumerate(rows) for i in range(1, 4) if row[i] < 0]
    if not slots or not {ADD, DIV} <= set(operations):
        return
    at, slot = slots[_below(random, len(slots))]
    source = rows[at][slot]
    constants += [np.nan, np.nan]
    _put(rows, at, slot, _code(ADD, [_below(random, at + 1), -len(constants)]))
    _put(rows, at + 1, slot, _code(DIV, [1 - len(constants), at + 1]))
    _put(rows, at + 2, slot, _code(ADD, [source, at + 2]))


_CHANGES: tuple[Callable[[Rows, list[float], Random, Sequence[int]], None], ...] = (
    _insert,
    _remove,
    _rewire,
    _change,
    _square,
    _extend,
    _continue,
)

#: Shares of the changes, added up.
_BOUNDS = tuple(itertools.accumulate((0.26, 0.14, 0.2, 0.1, 0.1, 0.14)))


def smallest(operations: Sequence[int]) -> Program:
    """The program that evolution begins with: one operation on x and constants."""
    op = operations[0]
    return Program(
        np.array([[op, X, *([-1, -2, 0, 0][: ARITY[op] - 1]), *[0] * (3 - ARITY[op])]], np.int8),
        np.ones(ARITY[op] - 1),
        np.zeros(ARITY[op] - 1),
    )
