"""Programs as code to paste: Python, Numba, C99 and LaTeX, with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evolve.autonumerics.programs import ADD, DIV, FMA, MUL, SQRT, SUB, Program, uses

#: Languages.
LANGUAGES = ("c", "python", "numba", "latex")

_SIGNS = {ADD: "+", SUB: "-", MUL: "*", DIV: "/"}


@dataclass(frozen=True)
class Listing:
    """What code is made of.

    Attributes
    ----------
    program : Program
        With constants of the type.
    name : str
        Of the function.
    about : tuple of str
        Lines of its comment: what it computes, where, and how well.
    single : bool
        float32.
    """

    program: Program
    name: str
    about: tuple[str, ...]
    single: bool = False


def emitted(listing: Listing, language: str) -> str:
    """Code of a program.

    Every constant reads back as the same number: in the shortest form that does, in C in the
    hexadecimal one.
    """
    return _EMITTERS[language](listing)


def shortest(value: float, single: bool) -> str:
    """Shortest decimal number that is this one."""
    return str(np.float32(value)) if single else repr(float(value))


def _statements(
    program: Program,
    constant: Callable[[float], str],
    fma: str,
    root: str,
) -> tuple[list[tuple[str, str]], str]:
    """Names and formulas of the results that are used more than once, and the last formula."""
    rows, used = program.codes.tolist(), uses(program, squares=2)
    texts: dict[int, tuple[str, int]] = {}
    lines: list[tuple[str, str]] = []

    def of(operand: int, least: int) -> str:
        if operand == 0:
            return "x"
        if operand < 0:
            value = float(program.constants[-operand - 1])
            text, tight = constant(value), 9 if math.copysign(1.0, value) > 0 else 3
        else:
            text, tight = texts[operand]
        return text if tight >= least else f"({text})"

    for k, (op, *operands) in enumerate(rows, 1):
        if op in _SIGNS:
            tight = 1 if op in (ADD, SUB) else 2
            # A sum on the right keeps its brackets: the order of the operations is the program's.
            left, right = of(operands[0], tight), of(operands[1], tight + 1)
            if op == ADD and right.startswith("-"):
                text = f"{left} - {right[1:]}"
            else:
                text = f"{left} {_SIGNS[op]} {right}"
        elif op == FMA:
            text, tight = f"{fma}({', '.join(of(o, 0) for o in operands)})", 9
        else:
            assert op == SQRT
            text, tight = f"{root}({of(operands[0], 0)})", 9
        if used[k - 1] > 1:
            name = f"t{len(lines) + 1}"
            lines.append((name, text))
            text, tight = name, 9
        texts[k] = (text, tight)
    return lines, of(len(rows), 0) if rows else constant(float(program.constants[0]))


def _python(listing: Listing) -> str:
    single = listing.single
    wrap = "np.float32({})" if single else "{}"

    def constant(value: float) -> str:
        return wrap.format(shortest(value, single))

    lines, last = _statements(listing.program, constant, "fma", "np.sqrt")
    uses_numpy = single or any("np." in text for _, text in [*lines, ("", last)])
    return "\n".join(
        [
            *(["import numpy as np", "", ""] if uses_numpy else []),
            f"def {listing.name}(x):",
            *_docstring(listing.about),
            *(f"    {name} = {text}" for name, text in lines),
            f"    return {last}",
            "",
        ]
    )


def _numba(listing: Listing) -> str:
    head, _, body = _python(listing).partition(f"def {listing.name}")
    uses = head.strip().splitlines()
    return "\n".join(
        [*uses, "from numba import vectorize", "", "", f"@vectorize\ndef {listing.name}{body}"]
    )


def _docstring(about: Sequence[str]) -> list[str]:
    first, *rest = about
    if not rest:
        return [f'    """{first}"""']
    return [f'    """{first}', "", *(f"    {line}" for line in rest), '    """']


def _c(listing: Listing) -> str:
    kind, suffix = ("float", "f") if listing.single else ("double", "")

    def constant(value: float) -> str:
        held = float(np.float32(value)) if listing.single else value
        return f"{held.hex()}{suffix}"

    lines, last = _statements(listing.program, constant, f"fma{suffix}", f"sqrt{suffix}")
    comment = [f" * {line}".rstrip() for line in listing.about]
    uses_math = any(word in text for _, text in [*lines, ("", last)] for word in ("fma", "sqrt"))
    return "\n".join(
        [
            *(["#include <math.h>", ""] if uses_math else []),
            "/*",
            *comment,
            " */",
            f"{kind} {listing.name}({kind} x)",
            "{",
            *(f"    const {kind} {name} = {text};" for name, text in lines),
            f"    return {last};",
            "}",
            "",
        ]
    )


def _latex(listing: Listing) -> str:
    program, single = listing.program, listing.single
    rows, used = program.codes.tolist(), uses(program, squares=1)
    texts: list[tuple[str, int]] = []
    powers: dict[int, tuple[str, int]] = {}  # of squares: what they are powers of
    lines: list[str] = []

    def number(value: float) -> str:
        mantissa, _, exponent = shortest(value, single).partition("e")
        return f"{mantissa} \\cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def of(operand: int, least: int) -> str:
        if operand == 0:
            return "x"
        if operand < 0:
            value = float(program.constants[-operand - 1])
            text, tight = number(value), 9 if value >= 0 else 3
        else:
            text, tight = texts[operand - 1]
        return text if tight >= least else f"\\left({text}\\right)"

    for op, *operands in rows:
        a, b = operands[0], operands[1]
        if op in (ADD, SUB):
            right = of(b, 2)
            sign = _SIGNS[op]
            if right.startswith("-") and op == ADD:
                sign, right = "-", right[1:]
            texts.append((f"{of(a, 1)} {sign} {right}", 1))
        elif op == MUL and a == b:
            base, power = powers.get(a, (of(a, 5), 1))
            powers[len(texts) + 1] = base, 2 * power
            texts.append((f"{base}^{{{2 * power}}}", 4))
        elif op == MUL:
            texts.append((f"{of(a, 2)} \\, {of(b, 4)}", 2))
        elif op == DIV:
            texts.append((f"\\frac{{{of(a, 0)}}}{{{of(b, 0)}}}", 4))
        elif op == FMA:
            texts.append((f"{of(a, 2)} \\, {of(b, 4)} + {of(operands[2], 2)}", 1))
        else:
            texts.append((f"\\sqrt{{{of(a, 0)}}}", 9))
        if used[len(texts) - 1] > 1:
            name = f"t_{{{len(lines) + 1}}}"
            lines.append(f"{name} = {texts[-1][0]}, \\quad")
            texts[-1] = name, 9
            powers.pop(len(texts), None)
    last = texts[-1][0] if texts else number(float(program.constants[0]))
    return "\n".join([*(f"% {line}" for line in listing.about), *lines, last, ""])


_EMITTERS = {"python": _python, "numba": _numba, "c": _c, "latex": _latex}
