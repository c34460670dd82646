"""What device functions are given that Numba has not: four numbers at once, and a shorter range.

To be imported where there is a real backend, and nowhere else.
"""

from __future__ import annotations

import dis
from importlib import import_module
from itertools import pairwise
from types import CodeType
from typing import Any

from llvmlite import ir

# Numba's own numba.cuda, which is in its place without a backend, has none of these.
cgutils: Any = import_module("numba.cuda.cgutils")
types: Any = import_module("numba.cuda.types")
imputils: Any = import_module("numba.cuda.core.imputils")
extending: Any = import_module("numba.cuda.extending")


def _four(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Pointer to four numbers of an array as a vector."""
    here = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
    return builder.bitcast(here, ir.VectorType(here.type.pointee, 4).as_pointer())


@extending.intrinsic
def load_four(typingctx, array, at):
    """Tuple of array[at : at + 4], which are at a multiple of 16 bytes."""

    def codegen(context, builder, signature, args):
        loaded = builder.load(_four(context, builder, array, *args), align=16)
        numbers = [builder.extract_element(loaded, ir.IntType(32)(k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, numbers)

    return types.UniTuple(array.dtype, 4)(array, types.uint64), codegen


@extending.intrinsic
def store_four(typingctx, array, at, a, b, c, d):
    """Write array[at : at + 4], which are at a multiple of 16 bytes."""

    def codegen(context, builder, signature, args):
        place = _four(context, builder, array, *args[:2])
        vector = ir.Constant(place.type.pointee, ir.Undefined)
        for k, number in enumerate(args[2:]):
            vector = builder.insert_element(vector, number, ir.IntType(32)(k))
        builder.store(vector, place, align=16)
        return context.get_dummy_value()

    return types.void(array, types.uint64, *[array.dtype] * 4), codegen


# Numba's range counts the steps that are left beside its number, which the compiler for GPUs does
# not see through: a loop over the coordinates of a point had 13 instructions more for each, as many
# as Rastrigin's function itself.

_NAME = "_range_counted_up"


def with_counted(code: CodeType, names: dict[str, Any]) -> tuple[CodeType, dict[str, Any]]:
    """Code of a function, and its global names, with :func:`counted` where it has ``range``.

    As they are, where it has a ``range`` of its own, or one that no loop goes over.
    """
    steps = list(dis.get_instructions(code))
    found = [at for at, step in enumerate(steps) if step.argval == "range"]
    if "range" in names or not all(_is_looped_over(steps[at:]) for at in found):
        return code, names
    # Another name: Numba refuses other meanings of this one.
    called = tuple(_NAME if name == "range" else name for name in code.co_names)
    return code.replace(co_names=called), names | {_NAME: counted}


def _is_looped_over(steps: list[dis.Instruction]) -> bool:
    """Whether what the first instruction loads is called, and the result looped over."""
    if steps[0].opname != "LOAD_GLOBAL":
        return False
    depth = 0  # of the stack, above what was there
    for step, following in pairwise(steps):
        depth += dis.stack_effect(step.opcode, step.arg, jump=False)
        if step.opname == "CALL" and depth == 1:
            return following.opname == "GET_ITER"
    return False


class _Counter(types.SimpleIteratorType):
    def __init__(self, kind: Any) -> None:
        super().__init__(f"counter({kind})", kind)


class _Range(types.SimpleIterableType):
    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(f"counted({kind})", _Counter(kind))


@extending.register_model(_Range)
class _RangeModel(extending.models.StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        members = [(name, fe_type.kind) for name in ("start", "stop", "step")]
        super().__init__(dmm, fe_type, members)


@extending.register_model(_Counter)
class _CounterModel(extending.models.StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        kind = fe_type.yield_type
        at = ("at", types.EphemeralPointer(kind))
        super().__init__(dmm, fe_type, [at, ("stop", kind), ("step", kind)])


@extending.intrinsic
def counted(typingctx, first, second=None, third=None):
    """The numbers of ``range(first, second, third)``; none where the step is 0."""
    given = [kind for kind in (first, second, third) if kind is not None]
    kind = types.uint64 if all(one == types.uint64 for one in given) else types.int64
    made = _Range(kind)

    def codegen(context, builder, signature, args):
        numbers = list(args[: len(given)])
        if len(given) == 1:
            numbers.insert(0, context.get_constant(kind, 0))
        if len(given) < 3:
            numbers.append(context.get_constant(kind, 1))
        counter = cgutils.create_struct_proxy(made)(context, builder)
        counter.start, counter.stop, counter.step = numbers
        return counter._getvalue()

    return made(*[kind] * len(given), *[types.none] * (3 - len(given))), codegen


@extending.lower_builtin("getiter", _Range)
def _begin(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    made = signature.args[0]
    whole = cgutils.create_struct_proxy(made)(context, builder, value=args[0])
    counter = cgutils.create_struct_proxy(made.iterator_type)(context, builder)
    counter.at = cgutils.alloca_once_value(builder, whole.start)
    counter.stop, counter.step = whole.stop, whole.step
    return counter._getvalue()


@extending.lower_builtin("iternext", _Counter)
@imputils.iternext_impl(imputils.RefType.UNTRACKED)
def _next(context: Any, builder: Any, signature: Any, args: Any, result: Any) -> None:
    made = signature.args[0]
    counter = cgutils.create_struct_proxy(made)(context, builder, value=args[0])
    kind, at = made.yield_type, builder.load(counter.at)
    compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
    zero = context.get_constant(kind, 0)
    up = builder.and_(compare(">", counter.step, zero), compare("<", at, counter.stop))
    down = builder.and_(compare("<", counter.step, zero), compare(">", at, counter.stop))
    result.set_valid(builder.or_(up, down))
    result.yield_(at)
    flags = ["nsw"] if kind.signed else []
    builder.store(builder.add(at, counter.step, flags=flags), counter.at)
