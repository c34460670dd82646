"""How programs vary, and which are told apart."""

from itertools import islice

import numpy as np
import pytest
from published_programs import published

from evolve.autonumerics.interpreter import evaluate
from evolve.autonumerics.numerics import numerics
from evolve.autonumerics.programs import ADD, ARITY, DIV, FMA, MUL, SQRT, SUB, canonical, parse
from evolve.autonumerics.targets import TARGETS
from evolve.autonumerics.variation import smallest, vary

EXP2 = TARGETS["exp2"]
ALL = (ADD, SUB, MUL, DIV, FMA, SQRT)


def children(parent, count, seed=0, operations=(ADD, SUB, MUL, DIV), most=10):
    random = np.random.default_rng(seed)
    return [vary(parent, random, operations, most) for _ in range(count)]


@pytest.mark.parametrize("operations", [ALL, (ADD, DIV), (FMA,), (SQRT, MUL)])
def test_children_are_programs(operations):
    parent = smallest(operations)
    for child in children(parent, 500, 1, operations, 7):
        assert 1 <= child.cost <= 7
        for k, (op, *operands) in enumerate(child.codes.tolist()):
            assert op in operations
            assert all(-len(child.constants) <= o <= k for o in operands[: ARITY[op]])
            assert not any(operands[ARITY[op] :])
        again = canonical(child)
        assert again.cost == child.cost
        assert len(again.constants) == len(child.constants)


def test_children_differ_and_new_constants_are_unknown():
    parent = published("f5")
    made = children(parent, 300)
    assert all(child.text() != parent.text() for child in made)
    known = set(np.abs(parent.constants)) | set(np.abs(1.0 / parent.constants))
    fresh = [c for child in made for c in child.constants if np.isnan(c)]
    kept = [abs(c) for child in made for c in child.constants if abs(c) in known]
    assert len(fresh) > 50
    assert len(kept) > 500


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("add x c1", "add x c1; div c2 t1"),  # an operation on the result
        ("div c1 x; add x t1", "add x c1; div c2 t1; add t2 x"),  # one on an edge
        ("div c1 x; add t1 c2", "add x c1"),  # removed
        ("add x c1; mul t1 x", "add x c1; mul t1 t1"),  # another operand, or a square of less
        ("add x c1; mul t1 x", "add x c1; div t1 x"),  # another operation
        ("add x c1; div c2 t1", "add x c1; div c2 t1; mul t2 t2"),  # squared
        ("mul x x; add t1 c1", "mul x x; add t1 c2; div c1 t2; add t3 c3; add t1 t4"),  # continued
        ("div c1 x; add x t1; add t2 c2", "div c1 x; add t1 x; div c2 t2; add t3 t2; add t4 c3"),
    ],
)
def test_changes(parent, child):
    """Changes that good programs come of are found within some thousand children."""
    names = parse(parent, np.arange(1.0, 1.0 + len({w for w in parent.split() if w[0] == "c"})))
    wanted = parse(child, np.arange(1.0, 5.0)).codes
    random = np.random.default_rng(2)
    made = (vary(names, random, (ADD, SUB, MUL, DIV), 10) for _ in range(30_000))
    hits = (one for one in made if np.array_equal(one.codes, wanted))
    assert len(list(islice(hits, 2))) == 2


def test_what_computes_the_same_has_one_key():
    domain = numerics(EXP2, ALL, 10)
    keys = {
        text: domain.key(parse(text, [0.0, 0.0, 0.0]))
        for text in (
            "add x c1; add t1 t1",
            "add x c1; mul t1 x",
            "mul x x; mul x c1; add t1 t2",  # x^2 + c x, otherwise
            "add x c1; mul t1 t1",
        )
    }
    assert keys["add x c1; mul t1 x"] == keys["mul x x; mul x c1; add t1 t2"]
    assert len(set(keys.values())) == 3


def test_in_single_precision_roundings_tell_programs_apart():
    one, two = "mul x x; mul t1 c1", "mul x c1; mul t1 x"
    constants = [0.1]
    double, single = numerics(EXP2, ALL, 10), numerics(EXP2, ALL, 10, single=True)
    first, second = parse(one, constants), parse(two, constants)
    x = np.linspace(0, 1, 64)
    np.testing.assert_allclose(evaluate(first, x), evaluate(second, x))
    assert double.key(first) == double.key(second)
    assert single.key(first) != single.key(second)
    assert single.key(first) == single.key(parse(one, constants))
