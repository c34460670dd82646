"""The curator: holds people's table, and lets out nothing but noisy counts that are paid for.

What it has released is on disk before it is used, and is never measured again: a run that is
resumed goes on from it, and its noise is not drawn twice.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evolve.gsd.ledger import Ledger
from evolve.gsd.noise import Seed, gaussian_rho, measure, sigma_for, stacked
from evolve.gsd.privacy import sensitivity
from evolve.gsd.queries import Queries
from evolve.gsd.selection import choose, epsilon_for, selection_rho
from zoo.errors import InputError, RunError
from zoo.runtime.folder import write_file

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

#: What a score is made of is a multiple of this: sums of it are exact, and so is its sensitivity.
_UNIT = 2.0**-20
#: A measurement for less than this share of the budget of a run is a mistake.
_LEAST = 1e-9


@dataclass(frozen=True, eq=False)
class Release:
    """Noisy counts.

    Attributes
    ----------
    name : str
    queries : Queries
        What was measured.
    counts : (cells,) int64
    sigma : float
        Of the noise in a cell.
    rho : float
        What it cost.
    chosen : (n,) int64
        Numbers of the query sets that were chosen for it; empty if all were measured.
    rows : int, optional
        Number of rows, where that is public.
    choice : float
        What the choice cost.
    """

    name: str
    queries: Queries
    counts: Counts
    sigma: float
    rho: float
    chosen: Ints
    rows: int | None = None
    choice: float = 0.0

    @property
    def cost(self) -> float:
        """The rho of the release and of its choice."""
        return math.fsum([self.rho, self.choice])


@dataclass
class Curator:
    """Holds the table.

    Attributes
    ----------
    table : callable
        Gives the codes (N, d); called when something is measured, and once.
    budget : float
        rho that this run may spend; infinite: no noise.
    neighbours : str
    ledger : Ledger, optional
        None without noise.
    run : str
        Name of the run on the ledger.
    folder : Path, optional
        Where releases are kept.
    noise : int, optional
        For tests: noise of this seed, the same in a run that is resumed.
    """

    table: Callable[[], Any]
    budget: float
    neighbours: str
    ledger: Ledger | None = None
    run: str = ""
    folder: Path | None = None
    noise: int | None = None
    releases: list[Release] = field(default_factory=list)
    _taken: int = 0
    _codes: Any = None
    _last: tuple[Queries, Array] | None = None
    _choice: float = 0.0  # cost of a choice that has not led to a release yet

    def rewind(self) -> None:
        """Give out the releases from the first one on again."""
        self._taken = 0

    @property
    def spent(self) -> float:
        """Sum of what this run's charges came to, those of lost measurements included."""
        if self.ledger is None:
            return 0.0
        entries = self.ledger.entries()
        return math.fsum(entry.rho for entry in entries if entry.details.get("run") == self.run)

    @property
    def left(self) -> float:
        """Budget that is left for this run; less than its own if others have spent the rest."""
        if self.ledger is None:
            return self.budget
        return max(0.0, min(self.budget - self.spent, self.ledger.remaining))

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left but what rounding has left."""
        return self.ledger is not None and self.left <= _LEAST * self.budget

    def released(self, name: str) -> Release | None:
        """The next release, of that name, if there is one already."""
        if self._taken == len(self.releases):
            return None
        release = self.releases[self._taken]
        if release.name != name:
            raise RunError(f"the measurements of this run are damaged: {release.name}, not {name}")
        self._taken += 1
        return release

    def measure(
        self, name: str, queries: Queries, rho: float, chosen: Ints | None = None
    ) -> Release:
        """Counts of query sets with discrete Gaussian noise, for ``rho`` in all.

        A row is in one cell of each set at most, so the sensitivity of m sets is sqrt(m) times that
        of one.

        Raises
        ------
        InputError
            If less is left; nothing is charged then.
        """
        sets = len(queries.offset) - 1
        sigma, cost = 0.0, 0.0
        counts = np.rint(queries.counts(self._people())).astype(np.int64)
        if self.ledger is not None:
            self.check(name, rho)
            one = stacked(self.neighbours, sets)
            sigma = sigma_for(rho, one)
            cost = gaussian_rho(sigma, one)
            counts = measure(
                self.ledger, name, counts, sigma, sets, insecure_seed=self._seed(0), run=self.run
            )
        none = np.empty(0, np.int64)
        public = self.ledger is None or self.neighbours == "replace-one"
        release = Release(
            name,
            queries,
            counts,
            sigma,
            cost,
            none if chosen is None else chosen,
            len(self._people()) if public else None,
            self._choice,
        )
        self._choice = 0.0
        self._keep(release)
        return release

    def choose(
        self,
        name: str,
        queries: Queries,
        expected: Array,
        handicap: Array,
        rho: float,
        many: int,
        worst_cell: bool,
    ) -> Ints:
        """Numbers (many,) of query sets that a table fits badly, by the exponential mechanism.

        The score of a set is the distance of its counts from what the table lets expect, in L1
        norm or, with ``worst_cell``, in the maximum norm, less its ``handicap``.

        Parameters
        ----------
        queries : Queries
        expected : (cells,)
            Counts of the table, scaled to the number of rows in the data.
        handicap : (sets,)
            Infinite for one that may not be chosen.
        rho : float
        many : int
        """
        able = np.flatnonzero(np.isfinite(handicap))
        distance = np.abs(self._answers(queries) - np.rint(expected / _UNIT) * _UNIT)
        handicap = np.rint(handicap / _UNIT) * _UNIT
        norm = np.maximum if worst_cell else np.add
        scores = (norm.reduceat(distance, queries.offset[:-1]) - handicap)[able]
        if self.ledger is None:
            return able[np.argsort(-scores, kind="stable")[:many]]
        self.check(name, rho)
        one = 1.0 if worst_cell else sensitivity(self.neighbours) ** 2  # L1 norm: 1, or 2
        epsilon = epsilon_for(rho, many)
        found = choose(
            self.ledger,
            name,
            scores,
            one,
            epsilon,
            many,
            insecure_seed=self._seed(1),
            run=self.run,
        )
        self._choice = selection_rho(epsilon, many)
        return able[found]

    def check(self, name: str, rho: float) -> None:
        """Refuse to spend ``rho`` if it is not left: another run may have spent it."""
        if self.ledger is None or (rho > _LEAST * self.budget and self.left >= rho * (1 - 1e-12)):
            return
        lost = self.spent - math.fsum(release.cost for release in self.releases)
        why = f"; rho {lost:.6g} was charged for what a crash has lost" if lost > 0.0 else ""
        raise InputError(
            f"the budget is spent: nothing is left for {name}, of the rho {self.budget:.6g} that "
            f"this run may spend{why}"
        )

    def _seed(self, use: int) -> Seed:
        if self.noise is None:
            return None
        return np.random.default_rng([self.noise, len(self.releases), use])

    def _people(self) -> Any:
        if self._codes is None:
            self._codes = self.table()
        return self._codes

    def _answers(self, queries: Queries) -> Array:
        """Counts without noise; those of the last queries are kept, for they are asked again."""
        if self._last is None or self._last[0] is not queries:
            self._last = (queries, queries.counts(self._people()))
        return self._last[1]

    def _keep(self, release: Release) -> None:
        self.releases.append(release)
        self._taken = len(self.releases)
        if self.folder is not None:
            number = len(self.releases) - 1
            write_file(self.folder / file_name(number), _written(release, self.run, number))


def file_name(number: int) -> str:
    """Name of the file of a release in the run folder."""
    return f"measurement{number:03}.npz"


def _written(release: Release, run: str, number: int) -> bytes:
    arrays = {f"queries/{name}": array for name, array in release.queries.arrays().items()}
    head = {"name": release.name, "sigma": release.sigma, "rho": release.rho}
    head |= {"rows": release.rows, "choice": release.choice, "run": run, "number": number}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        head=np.array(json.dumps(head)),
        counts=release.counts,
        chosen=release.chosen,
        **arrays,  # type: ignore[arg-type]
    )
    return buffer.getvalue()


def read_releases(folder: Path, bare: Queries, run: str) -> list[Release]:
    """Releases of a run, in order.

    Parameters
    ----------
    folder : Path
    bare : Queries
        Of the columns' sizes and the functions, which are in no file.
    run : str
        Name of the run on the ledger.

    Raises
    ------
    RunError
        If one is damaged.
    """
    releases = []
    count = len(list(folder.glob("measurement*.npz")))
    for number in range(count):
        path = folder / file_name(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(arrays["head"].item())
            queries = bare.like(
                {
                    name.removeprefix("queries/"): array
                    for name, array in arrays.items()
                    if name.startswith("queries/")
                }
            )
            counts, chosen = arrays["counts"], arrays["chosen"]
            if (head["run"], head["number"]) != (run, number):
                raise ValueError("it is of another run")
            if len(counts) != queries.offset[-1]:
                raise ValueError("cells")
            releases.append(
                Release(
                    head["name"],
                    queries,
                    counts,
                    head["sigma"],
                    head["rho"],
                    chosen,
                    head["rows"],
                    head["choice"],
                )
            )
        except FileNotFoundError:
            raise RunError(f"{path} is missing: a measurement of this run") from None
        except Exception as error:  # zip, npz, JSON: each has its own
            raise RunError(f"{path} is damaged: {error}") from error
    return releases
