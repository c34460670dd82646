"""The same programs on the same points by gplearn, DEAP and pyoperon; see autonumerics_speed.py.

Run by an interpreter that has them; reads trees in prefix form from standard input, and prints
CPU seconds of each, the best of some rounds, and the values as JSON. gplearn divides in its own,
protected way; pyoperon's package computes in single precision.
"""

from __future__ import annotations

import json
import operator
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """CPU seconds, the least of some rounds after a first one, and what it returns."""
    answer = work()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times), answer


def gplearn(trees: list[list[Any]], x: Any, rounds: int) -> tuple[float, Any]:
    """Each tree by ``_Program.execute``."""
    from gplearn._program import _Program
    from gplearn.fitness import _fitness_map
    from gplearn.functions import _function_map

    known = {"add": "add", "sub": "sub", "mul": "mul", "div": "div"}
    functions = [_function_map[name] for name in known.values()]
    programs = [
        _Program(
            function_set=functions,
            arities={2: functions},
            init_depth=(2, 6),
            init_method="half and half",
            n_features=1,
            const_range=(-1.0, 1.0),
            metric=_fitness_map["mse"],
            p_point_replace=0.05,
            parsimony_coefficient=0.0,
            random_state=np.random.RandomState(0),
            program=[
                _function_map[word] if word in known else 0 if word == "x" else float(word)
                for word in tree
            ],
        )
        for tree in trees
    ]
    points = x[:, None]
    return timed(lambda: [program.execute(points) for program in programs], rounds)


def deap(trees: list[list[Any]], x: Any, rounds: int) -> tuple[float, Any]:
    """Each tree compiled to a lambda, as it is for every new one, and called with an array."""
    work = _deap(trees, x)
    return timed(lambda: work(True), rounds)


def deap_compiled(trees: list[list[Any]], x: Any, rounds: int) -> tuple[float, Any]:
    """The same without the time to compile."""
    work = _deap(trees, x)
    return timed(lambda: work(False), rounds)


def _deap(trees: list[list[Any]], x: Any) -> Callable[[bool], Any]:
    from deap import gp

    pset = gp.PrimitiveSet("MAIN", 1)
    for name in ("add", "sub", "mul"):
        pset.addPrimitive(getattr(operator, name), 2, name=name)
    pset.addPrimitive(operator.truediv, 2, name="div")

    def text(words: list[Any]) -> str:
        word = words.pop(0)
        if word in ("add", "sub", "mul", "div"):
            return f"{word}({text(words)}, {text(words)})"
        return "ARG0" if word == "x" else str(word)

    given = [gp.PrimitiveTree.from_string(text(list(tree)), pset) for tree in trees]
    functions = [gp.compile(tree, pset) for tree in given]

    def work(compiling: bool) -> Any:
        if compiling:
            return [gp.compile(tree, pset)(x) for tree in given]
        return [function(x) for function in functions]

    return work


def pyoperon(trees: list[list[Any]], x: Any, rounds: int) -> tuple[float, Any]:
    """All trees by one call, on one thread."""
    import pyoperon as op

    data = op.Dataset(np.asfortranarray(x[:, None]))
    variable = data.Variables[0].Hash
    signs = {"add": "+", "sub": "-", "mul": "*", "div": "/"}

    def text(words: list[Any]) -> str:
        word = words.pop(0)
        if word in signs:
            return f"({text(words)} {signs[word]} {text(words)})"
        return str(word)

    parsed = [op.InfixParser.Parse(text(list(tree)), {"x": variable}) for tree in trees]
    result = np.zeros((len(trees), len(x)), np.float32).reshape(-1)

    def work() -> Any:
        op.EvaluateTrees(parsed, data, op.Range(0, len(x)), result, 1)
        return result.reshape(len(trees), len(x))

    return timed(work, rounds)


def main() -> None:
    given = json.load(sys.stdin)
    x = np.array(given["x"])
    np.seterr(all="ignore")
    found = {}
    for rival in (gplearn, deap, deap_compiled, pyoperon):
        seconds, values = rival(given["trees"], x, given["rounds"])
        rows = [np.broadcast_to(np.asarray(row, np.float64), x.shape)[::64] for row in values]
        found[rival.__name__] = {"seconds": seconds, "values": np.array(rows).tolist()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
