"""Programs at work: operations a second of the interpreter, beside other engines; fits a second.

Everybody evaluates the same random trees of ten operations (+ - * /, nothing shared) at the same
1,024 points on one core; the unit is 10^9 operations x points a second of CPU, of the best of some
rounds. Beside the interpreter in its three precisions: NumPy, one call for each operation, into
arrays that are there already; and, with --rivals PYTHON, an interpreter that has them, gplearn,
DEAP (with the time to compile its lambdas, and without) and pyoperon (autonumerics_rivals.py).
"difference" is the median, over all trees, of the largest one to our double precision; gplearn's
division is protected, so that where it divides by little it has other values.

The floor is the time of the same operations, each alone, on rows in the nearest cache, where
nothing is looked up, read or written elsewhere: division is what most of it goes to. The peak is
additions in registers.

Fits are those of a search: a candidate is one that is fitted from all its starts and scored; CPU
time of one core, with the variation, hashing and selection around it.

    python benchmarks/autonumerics_speed.py [--rivals PYTHON] [--quick] [--out FILE.json]
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import arguments, report

from evolve.autonumerics.interpreter import BLOCK, apply, dd_run, run
from evolve.autonumerics.numerics import numerics
from evolve.autonumerics.programs import ADD, DIV, MUL, SUB, Program, parse
from evolve.autonumerics.targets import TARGETS
from evolve.search.config import SearchConfig
from evolve.search.method import Islands
from zoo.jit import kernel
from zoo.lanes import load, store

OPERATIONS, POINTS = 10, 1024
WORDS = ("add", "sub", "mul", "div")


def tree(random: np.random.Generator, operations: int) -> list[Any]:
    """Random tree in prefix form; half of its leaves are x."""
    if not operations:
        return ["x"] if random.random() < 0.5 else [round(float(random.uniform(0.5, 3.0)), 6)]
    left = int(random.integers(operations))
    word = WORDS[random.integers(len(WORDS))]
    return [word, *tree(random, left), *tree(random, operations - 1 - left)]


def program_of(words: list[Any]) -> Program:
    """The tree as a program of ours, as it stands: in no canonical form."""
    codes: list[list[int]] = []
    constants: list[float] = []
    left = list(words)

    def visit() -> int:
        word = left.pop(0)
        if word == "x":
            return 0
        if word not in WORDS:
            constants.append(word)
            return -len(constants)
        a = visit()
        b = visit()
        codes.append([(ADD, SUB, MUL, DIV)[WORDS.index(word)], a, b, 0])
        return len(codes)

    visit()
    return Program(np.array(codes, np.int8), np.array(constants), np.zeros(len(constants)))


@kernel
def run_all(codes, constants, counts, x, r, out):
    """All programs; each has its count of constants."""
    for k in range(len(codes)):
        run(codes[k], constants[k, : counts[k]], x, r, out[k])


@kernel
def dd_run_all(codes, constants, rest, counts, x, low, h, w, out, out_low):
    """All programs in double-double precision."""
    for k in range(len(codes)):
        c = counts[k]
        dd_run(codes[k], constants[k, :c], rest[k, :c], x, low, h, w, out[k], out_low[k])


@kernel
def one_operation(op, r, times):
    """The floor: row 2 of row 0 and row 1, again and again."""
    for _ in range(times):
        apply(op, r, 2, 0, 1, 0, BLOCK)


@kernel
def additions(r, times):
    """The peak: sums in registers, of four times ``LANES`` numbers."""
    a, b, c, d = load(r, (0, 0)), load(r, (0, 16)), load(r, (0, 32)), load(r, (0, 48))
    one = load(r, (1, 0))
    for _ in range(times):
        a, b, c, d = a + one, b + one, c + one, d + one
    store(r, (2, 0), a + b)
    store(r, (2, 16), c + d)


def timed(work: Callable[[], Any], rounds: int) -> float:
    """CPU seconds, the least of some rounds after a first one."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def by_numpy(program: Program, x: Any, rows: Any) -> Any:
    """One call for each operation."""
    functions = (np.add, np.subtract, np.multiply, np.divide)
    count = 0
    for op, a, b, _ in program.codes.tolist():
        operands = [
            x if o == 0 else rows[o - 1] if o > 0 else program.constants[-o - 1] for o in (a, b)
        ]
        functions[op](*operands, out=rows[count])
        count += 1
    return rows[count - 1]


def evaluation(programs: list[Program], trees: list[list[Any]], given: Any, rounds: int) -> None:
    """Table of operations a second."""
    x = np.linspace(0.1, 0.9, POINTS)
    work = len(programs) * OPERATIONS * POINTS / 1e9
    rows: list[dict[str, Any]] = []
    values = np.empty((len(programs), POINTS))
    memory = np.zeros((2, 3 * OPERATIONS, BLOCK))
    codes = np.array([program.codes for program in programs])
    counts = np.array([len(program.constants) for program in programs])
    constants = np.zeros((len(programs), OPERATIONS + 1))
    for k, program in enumerate(programs):
        constants[k, : counts[k]] = program.constants
    for dtype in (np.float32, np.float64):
        out = values.astype(dtype)
        held = (codes, constants.astype(dtype), counts, x.astype(dtype), memory[0].astype(dtype))
        one = np.ones((3, BLOCK), dtype)
        each = [
            timed(lambda op=op, r=one: one_operation(op, r, 1_000_000), rounds) / BLOCK / 1e6
            for op in (ADD, SUB, MUL, DIV)
        ]
        floor = 1e-9 / float(np.mean([each[op] for op in codes[:, :, 0].reshape(-1)]))
        peak = 64 * 1e7 / 1e9 / timed(lambda one=one: additions(one, 10_000_000), rounds)
        rate = work / timed(lambda h=held, o=out: run_all(*h, o), rounds)
        name = np.dtype(dtype).name
        rows.append({"engine": f"zoo, {name}", "Gop/s": rate, "of floor": rate / floor,
                     "of peak": rate / peak})  # fmt: skip
    truth, low = out, np.empty_like(out)
    rest, zeros = np.zeros_like(constants), np.zeros(POINTS)
    exact = np.empty_like(out)

    def precise() -> None:
        dd_run_all(codes, constants, rest, counts, x, zeros, *memory, exact, low)

    rate = work / timed(precise, rounds)
    rows.append({"engine": "zoo, double-double", "Gop/s": rate, "difference": apart(exact, truth)})
    space = np.empty((OPERATIONS, POINTS))

    def plain() -> None:
        for k, program in enumerate(programs):
            values[k] = by_numpy(program, x, space)

    rate = work / timed(plain, rounds)
    rows.append({"engine": "NumPy, float64", "Gop/s": rate, "difference": apart(values, truth)})
    if given.rivals is not None:
        sent = json.dumps({"trees": trees, "x": x.tolist(), "rounds": rounds})
        command = [str(given.rivals), str(Path(__file__).with_name("autonumerics_rivals.py"))]
        done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
        for rival, answer in json.loads(done.stdout).items():
            found = np.array(answer["values"])
            rows.append({"engine": rival, "Gop/s": work / answer["seconds"],
                         "difference": apart(found, truth[:, ::64])})  # fmt: skip
    ours = rows[1]["Gop/s"]
    for row in rows:
        row["zoo's float64 is times"] = ours / row["Gop/s"]
    report(f"{len(programs)} trees of {OPERATIONS} operations, {POINTS} points", rows, given.out)


def apart(found: Any, truth: Any) -> float:
    """Median over trees of the largest relative difference."""
    with np.errstate(all="ignore"):
        differences = np.abs(found / truth - 1.0)
    return float(np.median(np.max(np.where(np.isnan(differences), 0.0, differences), axis=1)))


def fits(given: Any, candidates: int) -> None:
    """Table of fits a second."""
    rows = []
    for most in (6, 10, 14):
        domain = numerics(TARGETS["exp2"], [ADD, SUB, MUL, DIV], most)
        method = Islands(domain, SearchConfig(candidates=candidates), 0)
        shards = [method.shard(i) for i in range(method.shards)]
        domain.assess(parse("add x c1", [1.0]), -1.0, np.random.default_rng(0))
        begin = time.process_time()
        while not method.finished:
            message = method.message(1)
            method.merge([shard.step(message) for shard in shards])
        seconds = time.process_time() - begin
        told = method.result()
        rows.append({"operations, at most": most, "fits": told["fits"],
                     "candidates": told["candidates"], "fits/s": told["fits"] / seconds,
                     "candidates/s": told["candidates"] / seconds})  # fmt: skip
    report("exp2: a search on one core", rows, given.out)


def main() -> None:
    given = arguments(__doc__, rivals="Python that has gplearn, DEAP and pyoperon")
    count, rounds, candidates = (100, 2, 2000) if given.quick else (2000, 7, 20_000)
    random = np.random.default_rng(1)
    trees = [tree(random, OPERATIONS) for _ in range(count)]
    np.seterr(all="ignore")
    evaluation([program_of(words) for words in trees], trees, given, rounds)
    fits(given, candidates)


if __name__ == "__main__":
    main()
