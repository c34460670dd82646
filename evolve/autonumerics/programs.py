"""Programs: a few operations on x and learned constants, as a graph without names.

A program is a row of operations (op, a, b, c). An operand is x (0), the result of operation k
(k + 1), or constant k (-k - 1); the last operation's result is the program's. Operations that
depend on x are what a program costs (Real et al., "AutoNumerics-Zero", 2023): those of constants
alone are constants themselves, and those that nothing uses are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.autonumerics.config import OPERATIONS as NAMES

Codes = npt.NDArray[np.int8]
Array = npt.NDArray[np.float64]

ADD, SUB, MUL, DIV, FMA, SQRT = range(6)

#: Number of operands of each operation.
ARITY = (2, 2, 2, 2, 3, 1)

#: Operations whose first two operands may change places.
_COMMUTE = (ADD, MUL, FMA)

X = 0


@dataclass(frozen=True, eq=False)
class Program:
    """A program with its constants.

    Attributes
    ----------
    codes : (n, 4) int8
        Operations; operands that an operation does not take are 0.
    constants : (K,) float64
    low : (K,) float64
        What ``constants`` leaves out of constants of double-double precision.
    """

    codes: Codes
    constants: Array
    low: Array

    @property
    def cost(self) -> int:
        """Number of operations."""
        return len(self.codes)

    def with_constants(self, constants: Array, low: Array | None = None) -> Program:
        """The same operations with other constants."""
        return Program(self.codes, constants, np.zeros_like(constants) if low is None else low)

    def text(self) -> str:
        """The program as one line; see :func:`parse`."""
        parts = [
            " ".join([NAMES[op], *(_word(o) for o in operands[: ARITY[op]])])
            for op, *operands in self.codes.tolist()
        ]
        return "; ".join(parts)


def program(codes: Any, constants: Any, low: Any = None) -> Program:
    """Program from any sequences, in canonical form."""
    made = np.array(codes, np.int8).reshape(-1, 4)
    values = np.array(constants, np.float64).reshape(-1)
    rest = np.zeros_like(values) if low is None else np.array(low, np.float64).reshape(-1)
    return canonical(Program(made, values, rest))


def _word(operand: int) -> str:
    if operand == X:
        return "x"
    return f"t{operand}" if operand > 0 else f"c{-operand}"


def parse(text: str, constants: Sequence[float], low: Sequence[float] | None = None) -> Program:
    """Program from lines such as "add x c1; div c2 t1"; t1 is what the first one comes to.

    Constants are given in the order of their numbers in the text.
    """
    codes = []
    for part in text.split(";"):
        name, *words = part.split()
        operands = [0 if w == "x" else int(w[1:]) if w[0] == "t" else -int(w[1:]) for w in words]
        codes.append([NAMES.index(name), *operands, *[0] * (3 - len(operands))])
    return program(codes, constants, low)


def depends_on_x(codes: Codes) -> list[bool]:
    """Whether the result of each operation depends on x."""
    depends: list[bool] = []
    for op, *operands in codes.tolist():
        depends.append(any(o == X or (o > 0 and depends[o - 1]) for o in operands[: ARITY[op]]))
    return depends


_FOLD: tuple[Callable[..., float], ...] = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b, c: a * b + c,
    np.sqrt,
)


def canonical(given: Program) -> Program:
    """The same function with nothing in it that is not needed, in an order of its own.

    Operations of constants alone become constants, to subtract one is to add its negative,
    operations that nothing uses go, equal operations become one; operands of operations that
    commute, and operations and constants themselves, come in the order in which the result asks
    for them.
    """
    if not len(given.codes):
        return given
    depends = depends_on_x(given.codes)
    rows = given.codes.tolist()
    values = given.constants.tolist()
    if not depends[-1]:  # a program without operations is its constant
        value = _folded(rows, depends, values, len(rows))
        return Program(np.zeros((0, 4), np.int8), np.array([value]), np.zeros(1))

    shapes: dict[int, int] = {X: 1}

    def shape(operand: int) -> int:
        """Number that tells apart what operands are, constants all alike: 0."""
        if is_constant(operand):
            return 0
        if operand not in shapes:
            op, *operands = rows[operand - 1]
            parts = [shape(o) for o in operands[: ARITY[op]]]
            if op == SUB and not parts[1]:
                op = ADD
            if op in _COMMUTE:
                parts[:2] = sorted(parts[:2])
            shapes[operand] = 2 + abs(hash((op, *parts)))  # of whole numbers: always the same
        return shapes[operand]

    made: list[list[int]] = []
    known: dict[Any, int] = {}
    constants: list[tuple[float, float]] = []
    places: dict[tuple[int, int], int] = {}

    def constant(operand: int, sign: int = 1) -> int:
        """Number of a constant, or of what an operation of constants comes to, or its negative."""
        if (operand, sign) not in places:
            high, low = _folded(rows, depends, values, operand), 0.0
            if operand < 0:
                low = float(given.low[-operand - 1])
            constants.append((sign * high, sign * low))
            places[operand, sign] = -len(constants)
        return places[operand, sign]

    def is_constant(operand: int) -> bool:
        return operand < 0 or (operand > 0 and not depends[operand - 1])

    done: dict[int, int] = {X: X}

    def visit(operand: int) -> int:
        if is_constant(operand):
            return constant(operand)
        if operand not in done:
            op, *operands = rows[operand - 1]
            operands = operands[: ARITY[op]]
            if op in _COMMUTE:
                operands[:2] = sorted(operands[:2], key=shape, reverse=True)
            if op == SUB and is_constant(operands[1]):
                code = [ADD, visit(operands[0]), constant(operands[1], -1)]
            else:
                code = [op, *(visit(o) for o in operands)]
            key = tuple(code)
            if key not in known:
                made.append(code + [0] * (4 - len(code)))
                known[key] = len(made)
            done[operand] = known[key]
        return done[operand]

    visit(len(rows))
    high, low = zip(*constants, strict=True) if constants else ((), ())
    return Program(
        np.array(made, np.int8).reshape(-1, 4),
        np.array(high, np.float64),
        np.array(low, np.float64),
    )


def _folded(rows: list[list[int]], depends: list[bool], values: list[float], operand: int) -> float:
    """Value of an operation of constants."""
    if operand < 0:
        return values[-operand - 1]
    op, *operands = rows[operand - 1]
    parts = [np.float64(_folded(rows, depends, values, o)) for o in operands[: ARITY[op]]]
    with np.errstate(all="ignore"):
        return float(_FOLD[op](*parts))


def uses(given: Program, squares: int) -> list[int]:
    """How often each result is used, from the first operation on; by a square so many times."""
    found = [0] * given.cost
    for op, *operands in given.codes.tolist():
        parts = operands[: ARITY[op]]
        if op == MUL and parts[0] == parts[1]:
            parts = parts[:squares]
        for operand in parts:
            if operand > 0:
                found[operand - 1] += 1
    return found


def expression(given: Program) -> str:
    """The program as formulas: results that are used more than once first, then the last one.

    They are separated by "; ", and squares of squares are powers.
    """
    signs = {ADD: "+", SUB: "-", MUL: "*", DIV: "/"}
    rows, used = given.codes.tolist(), uses(given, squares=1)
    texts: list[tuple[str, int, int]] = []  # and how tightly it binds, and the power that it is of
    lines: list[str] = []

    def of(operand: int, least: int) -> str:
        if operand <= 0:
            return "x" if operand == X else f"c{-operand}"
        text, tight, power = texts[operand - 1]
        if power > 1:
            return f"{text}^{power}"
        return text if tight >= least else f"({text})"

    for k, (op, *operands) in enumerate(rows, 1):
        a, b, c = operands
        power = 1
        if op == MUL and a == b:
            text, tight, power = of(a, 9), 9, 2
            if a > 0 and texts[a - 1][2] > 1:
                text, power = texts[a - 1][0], 2 * texts[a - 1][2]
        elif op in signs:
            tight = 1 if op in (ADD, SUB) else 2
            text = f"{of(a, tight)} {signs[op]} {of(b, tight + (op in (SUB, DIV)))}"
        elif op == FMA:
            text, tight = f"{of(a, 2)} * {of(b, 2)} + {of(c, 1)}", 1
        else:
            text, tight = f"sqrt({of(a, 0)})", 9
        texts.append((text, tight, power))
        if used[k - 1] > 1:
            name = f"t{len(lines) + 1}"
            lines.append(f"{name} = {of(k, 0)}")
            texts[-1] = name, 9, 1
    return "; ".join([*lines, of(len(rows), 0) if rows else "c1"])
