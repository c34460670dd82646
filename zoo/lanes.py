"""Sixteen numbers at a time: vectors in kernels, where the order of every operation is ours.

A loop of sums vectorizes only if the compiler may reorder the additions; then their order depends
on the processor, and even on what else is compiled into the same module. A loop in lanes is what it
says: the same bits wherever it runs, and no test of whether arrays overlap, no remainder loop.

    for b in range(0, n, LANES):
        total = fma(load(x, (r, b)), load(y, b), total)

Rows are read and written whole, so they are padded to multiples of ``LANES``; :func:`head` takes
the padding out of a sum. Numbers that meet lanes are spread over them, in the lanes' type.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

#: Numbers in a vector: a register of 64 bytes of float32, two of float64; LLVM splits them for
#: narrower ones.
LANES = 16


class LanesType(types.Type):
    """Numba's type of ``LANES`` numbers of one type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"lanes({dtype})")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


def _lanes(*kinds: Any) -> LanesType | None:
    """Type of the lanes among some arguments, if the others are numbers."""
    found = {kind for kind in kinds if isinstance(kind, LanesType)}
    fit = len(found) == 1 and all(isinstance(kind, (LanesType, types.Number)) for kind in kinds)
    return found.pop() if fit else None


def _signature(result: Any, lanes: LanesType, kinds: Any) -> Any:
    """Signature in which the numbers come in the lanes' type."""
    return result(*(lanes if isinstance(kind, LanesType) else lanes.dtype for kind in kinds))


def _numbers(count: int = LANES) -> ir.VectorType:
    """Type of so many whole numbers."""
    return ir.VectorType(ir.IntType(32), count)


def _spread(builder: Any, value: Any) -> Any:
    """The value in all lanes; what is a vector already stays."""
    if isinstance(value.type, ir.VectorType):
        return value
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(_numbers(), [0] * LANES)
    return builder.shuffle_vector(first, nothing, everywhere)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Pointer to the vector that begins at an index."""
    held = context.make_array(kind)(context, builder, array)
    if kind.ndim == 1:
        index = at
    else:
        row, column = cgutils.unpack_tuple(builder, at)
        length = cgutils.unpack_tuple(builder, held.shape)[1]
        index = builder.add(builder.mul(row, length), column)
    vector = ir.VectorType(context.get_value_type(kind.dtype), LANES)
    return builder.bitcast(builder.gep(held.data, [index]), vector.as_pointer())


def _index(array: Any) -> Any:
    return types.int64 if array.ndim == 1 else types.UniTuple(types.int64, 2)


def _has_rows(array: Any) -> bool:
    return isinstance(array, types.Array) and array.layout == "C" and array.ndim <= 2


@intrinsic
def load(typingctx, x, at):
    """Lanes of x from index ``at`` on: a number, or row and column of a C-contiguous array."""
    if not _has_rows(x):
        return None

    def codegen(context, builder, signature, args):
        place = _place(context, builder, x, *args)
        return builder.load(place, align=x.dtype.bitwidth // 8)

    return LanesType(x.dtype)(x, _index(x)), codegen


@intrinsic
def store(typingctx, x, at, values):
    """Write lanes, or one number in all of them, into x from index ``at`` on."""
    if not _has_rows(x):
        return None
    given = values if isinstance(values, LanesType) else x.dtype
    if given not in (LanesType(x.dtype), x.dtype):
        return None

    def codegen(context, builder, signature, args):
        array, at, values = args
        place = _place(context, builder, x, array, at)
        builder.store(_spread(builder, values), place, align=x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(x, _index(x), given), codegen


@intrinsic
def spread(typingctx, value):
    """The number in all lanes."""

    def codegen(context, builder, signature, args):
        return _spread(builder, args[0])

    return LanesType(value)(value), codegen


@intrinsic
def widen(typingctx, values):
    """The lanes as float64."""
    if not isinstance(values, LanesType):
        return None
    wide = LanesType(types.float64)

    def codegen(context, builder, signature, args):
        same = values == wide
        return args[0] if same else builder.fpext(args[0], context.get_value_type(wide))

    return wide(values), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Compute a*b + c in each lane, rounded once."""
    lanes = _lanes(a, b, c)
    if lanes is None:
        return None

    def codegen(context, builder, signature, args):
        vector = context.get_value_type(lanes)
        name = f"llvm.fma.v{LANES}f{lanes.dtype.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(fused, [_spread(builder, value) for value in args])

    return _signature(lanes, lanes, (a, b, c)), codegen


@intrinsic
def head(typingctx, values, count):
    """The lanes before ``count``, and zeros."""
    if not isinstance(values, LanesType):
        return None

    def codegen(context, builder, signature, args):
        vector = args[0].type
        number = builder.trunc(args[1], ir.IntType(32))
        lanes = ir.Constant(_numbers(), list(range(LANES)))
        before = builder.icmp_signed("<", lanes, _spread(builder, number))
        return builder.select(before, args[0], ir.Constant(vector, [0.0] * LANES))

    return values(values, types.int64), codegen


@intrinsic
def where_finite(typingctx, of, values):
    """The values where ``of`` is finite, and zeros; for NaN, too."""
    if not isinstance(of, LanesType) or of != values:
        return None

    def codegen(context, builder, signature, args):
        of, values = args
        finite = builder.fcmp_ordered("ord", builder.fsub(of, of), values)
        zeros = ir.Constant(values.type, [0.0] * LANES)
        return builder.select(finite, values, zeros)

    return values(of, values), codegen


def _folded(builder: Any, value: Any, joined: Any) -> Any:
    """One number from the lanes, by joining the upper half of them to the lower one."""
    half = LANES // 2
    while half:
        lower = ir.Constant(_numbers(half), list(range(half)))
        upper = ir.Constant(_numbers(half), list(range(half, 2 * half)))
        parts = [builder.shuffle_vector(value, value, which) for which in (lower, upper)]
        value, half = joined(builder, *parts), half // 2
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@intrinsic
def total(typingctx, values):
    """Sum of the lanes: halves of them are added to each other."""
    if not isinstance(values, LanesType):
        return None

    def codegen(context, builder, signature, args):
        return _folded(builder, args[0], lambda build, a, b: build.fadd(a, b))

    return values.dtype(values), codegen


@intrinsic
def highest(typingctx, values):
    """Largest of the lanes; one that is NaN may be overlooked."""
    if not isinstance(values, LanesType):
        return None

    def codegen(context, builder, signature, args):
        return _folded(builder, args[0], _larger)

    return values.dtype(values), codegen


def _binary(build: Any, *functions: Any) -> None:
    """Define functions, by any name, of two lanes, or of lanes and a number."""

    @intrinsic
    def lanewise(typingctx, a, b):
        lanes = _lanes(a, b)

        def codegen(context, builder, signature, args):
            return build(builder, *(_spread(builder, value) for value in args))

        return _signature(lanes, lanes, (a, b)), codegen

    for function in functions:

        @overload(function)
        def chosen(a, b):
            return None if _lanes(a, b) is None else lambda a, b: lanewise(a, b)


_binary(lambda builder, a, b: builder.fadd(a, b), operator.add, operator.iadd)
_binary(lambda builder, a, b: builder.fsub(a, b), operator.sub)
_binary(lambda builder, a, b: builder.fmul(a, b), operator.mul)
_binary(lambda builder, a, b: builder.fdiv(a, b), operator.truediv)
_binary(_larger, max)  # the second one, should one of them be NaN
_binary(_smaller, min)


def _unary(function: Any, name: str) -> None:
    """Define a function of lanes that LLVM has for a vector."""

    @intrinsic
    def lanewise(typingctx, a):
        def codegen(context, builder, signature, args):
            vector = args[0].type
            kind = ir.FunctionType(vector, [vector])
            full = f"llvm.{name}.v{LANES}f{a.dtype.bitwidth}"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, full), args)

        return a(a), codegen

    @overload(function)
    def chosen(a):
        return (lambda a: lanewise(a)) if isinstance(a, LanesType) else None


_unary(abs, "fabs")
_unary(math.sqrt, "sqrt")
