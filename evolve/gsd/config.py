"""Parameters of Private-GSD."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evolve.gsd.privacy import NEIGHBOURS
from zoo.config import option
from zoo.errors import InputError

#: Largest epsilon with noise; a larger one is none to speak of.
_MOST_EPSILON = 1e6

QUERIES = ("marginals", "ranges", "halfspaces", "prefixes", "functions")


#: Parameters that only some queries have.
_ONLY = {("ranges",): ("depth",), ("halfspaces", "prefixes"): ("count",)}


@dataclass(frozen=True)
class TableConfig:
    """What comes in, and where what comes out goes."""

    data: str | None = option(
        None, "Table of people, .csv or .parquet; without one, a generated census-like table."
    )
    schema: str | None = option(
        None,
        "What may be in it, in JSON: categories, ranges, nulls. It is public and must not be made "
        "by looking at the data.",
    )
    infer_schema: bool = option(
        False,
        "Take the schema from the data. This gives values away that no budget pays for: the result "
        "is marked as not private.",
    )
    clip: bool = option(
        False,
        "Move values outside the schema into it: numbers to the nearest bound, unknown categories "
        "to null. Without, they are refused.",
    )
    ledger: str | None = option(
        None,
        "File that keeps the budget of this data set over all runs; by default the data's name "
        "with .ledger, beside them.",
    )
    out: str = option(
        "synthetic.csv", "Synthetic table to write, .csv or .parquet; it must not be there."
    )
    folder: str | None = option(
        None,
        "Run folder to write: measurements, history, snapshots, result (for zoo resume and zoo "
        "show); by default the name of the synthetic table with .run.",
    )
    insecure_noise_seed: int | None = option(
        None,
        "For tests: noise from a known seed. It protects nobody, and the result is marked as not "
        "private.",
        least=0,
    )


@dataclass(frozen=True)
class GSDConfig:
    """Every parameter of Private-GSD: the budget, what is asked of the data, and the search."""

    epsilon: float = option(
        1.0,
        "Privacy budget epsilon of the data set; inf adds no noise, and the result is not private.",
        above=0,
        finite=False,
    )
    delta: float = option(1e-9, "Privacy budget delta; at most 1 / rows.", above=0)
    neighbours: str = option(
        "add-remove",
        "Tables that must look alike: with one row more or less (the number of rows is private), "
        "or with one row replaced (it is public).",
        choices=tuple(NEIGHBOURS),
    )
    share: float = option(
        1.0,
        "Share of the whole budget, in rho, that this run may spend; another run on the same "
        "ledger may spend the rest.",
        above=0,
        most=1,
    )
    queries: str = option(
        "marginals",
        "What is measured. marginals: counts of every combination of values, in bins as fine as "
        "the noise allows. ranges: the same with numbers in 2, 4, 8, ... equal ranges. halfspaces, "
        "prefixes: random ones over the numbers, by a category each. functions: those of "
        "--functions.",
        choices=QUERIES,
    )
    marginals: int = option(2, "Columns of a marginal, k.", least=1, most=4)
    target: str | None = option(None, "Only the marginals that have this column.")
    workload: str | None = option(
        None, 'Only the marginals of this JSON file: lists of columns, [["age", "sex"], ...].'
    )
    functions: str | None = option(
        None,
        "FILE.py:NAME, a list of (function, cells): compiled by numba.njit, function(x) is the "
        "cell of a row of values x, from 0 on.",
    )
    depth: int = option(5, "Levels of ranges: the finest has 2^depth.", least=1, most=10)
    count: int = option(500, "Random halfspaces or prefixes to choose from.", least=1)
    adaptive: bool = option(
        False,
        "Choose what to measure in rounds, by where the table fits worst, instead of measuring "
        "everything once.",
    )
    rounds: int = option(50, "Rounds of an adaptive run.", least=1)
    per_round: int = option(
        1, "Query sets that a round chooses and measures, each of them once in a run.", least=1
    )
    choice_share: float = option(
        0.1, "Share of a round's budget that pays for the choice.", above=0, most=0.9
    )
    one_way_share: float = option(
        0.35,
        "Share of the budget for single columns, if more than those are asked for.",
        above=0,
        most=0.95,
    )
    coarseness: float = option(
        4.0,
        "Marginals are measured in so many cells that each has this many times sigma rows, were "
        "they equal.",
        above=0,
    )
    rows: str = option(
        "2000", "Rows of the synthetic table; same: as many as in the data.", numeric=True
    )
    shards: int = option(4, "Pieces of the search, each of which edits rows of its own.", least=1)
    batch: int | None = option(
        None,
        "Candidates that a shard tries in a generation, at most; by default one for each value of "
        "the table, over the shards, and from 2^15 to 2^18.",
        least=2,
        most=1 << 30,
    )
    edits: int = option(4096, "Edits of a shard that end its generation.", least=1, most=1 << 20)
    sweeps: float = option(
        20.0,
        "Stop when so many candidates for each value of the table lowered the loss by less than "
        "tolerance; a quarter of them in rounds before the last.",
        above=0,
    )
    tolerance: float = option(0.01, "See sweeps: a share of the loss.", least=0)
    below_noise: float = option(
        0.005,
        "Stop when the loss is below this share of what noise has put into the measurements that "
        "the targets were estimated from; at the noise itself where they are fitted as they are.",
        least=0,
    )
    candidates: int | None = option(None, "Most candidates.", least=1)
    seconds: float | None = option(None, "Most seconds of wall-clock time.", above=0)

    def __post_init__(self) -> None:
        if self.rows != "same" and not (self.rows.isdecimal() and 0 < int(self.rows) < 2**31):
            raise InputError(
                f"rows must be a whole number from 1 to 2^31 - 1, or same: {self.rows!r}"
            )
        if _MOST_EPSILON < self.epsilon < math.inf:
            raise InputError(f"epsilon must be at most {_MOST_EPSILON:g}, or inf: {self.epsilon:g}")
        if not self.delta < 1:
            raise InputError(f"delta must be > 0 and < 1, got {self.delta:g}")
        if self.batch is not None and self.batch % 2:
            raise InputError(f"batch must be even, got {self.batch}")
        for kinds, names in _ONLY.items():
            for name in names:
                if self.queries not in kinds and getattr(self, name) != getattr(GSDConfig, name):
                    raise InputError(f"{name} is for {' and '.join(kinds)}, not {self.queries}")
        for name in ("rounds", "per_round", "choice_share"):
            if not self.adaptive and getattr(self, name) != getattr(GSDConfig, name):
                raise InputError(f"{name} goes with adaptive")
        named = {"target": self.target, "workload": self.workload}
        if all(named.values()):
            raise InputError("target and workload are two ways to choose marginals: give one")
        for name, value in named.items():
            if value is not None and self.queries not in ("marginals", "ranges"):
                raise InputError(f"{name} chooses among marginals or ranges, not {self.queries}")
        if (self.functions is not None) != (self.queries == "functions"):
            raise InputError(
                "queries=functions goes with --functions FILE.py:NAME, and only with it"
            )
        if self.adaptive and self.queries == "functions":
            raise InputError("functions are measured once: adaptive is for the other queries")

    def batch_of(self, values: int) -> int:
        """Candidates of a shard in a generation, for a table of so many values."""
        if self.batch is not None:
            return self.batch
        return min(max(1 << 15, values // self.shards // 2 * 2), 1 << 18)
