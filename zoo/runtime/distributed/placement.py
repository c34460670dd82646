"""Where a run works: nothing here changes its result."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from zoo.config import option
from zoo.errors import InputError

#: Ray counts shares of a CPU or GPU in units of this.
_LEAST = 1e-4

_ADDRESS = re.compile(r"auto|local|[^\s/]+:\d{1,5}")


@dataclass(frozen=True)
class Placement:
    """Workers that a run asks for; without, and without an address, it stays in its process."""

    workers: str | None = option(
        None,
        "Work in this many processes, by Ray; auto: as many as the machine and the objective "
        "suggest, none if it is cheap.",
        numeric=True,
    )
    ray_address: str | None = option(
        None,
        "Ray cluster to work on: auto, or HOST:PORT (also from RAY_ADDRESS). Without one, or with "
        "local, a Ray is started on this machine, and stopped in the end. It implies --workers "
        "auto.",
    )
    distribute: str = option(
        "auto",
        "What goes to the workers: shards of the population, or evaluations (with retries, and "
        "stragglers repeated). auto: shards where the objective is compiled.",
        choices=("auto", "shards", "evaluations"),
    )
    cpus_per_worker: float = option(1.0, "CPUs a worker asks Ray for; may be a fraction.", above=0)
    gpus_per_worker: float = option(0.0, "GPUs a worker asks Ray for; may be a fraction.", least=0)
    respawns: int = option(
        5,
        "Times in a row that a worker may die, without progress between, before the run ends.",
        least=0,
    )
    working_dir: str | None = option(
        None, "Folder that Ray copies to the nodes of its cluster, and works in there."
    )

    @property
    def distributed(self) -> bool:
        """Whether workers are asked for."""
        return self.workers is not None or self.ray_address is not None

    def count(self) -> int | None:
        """Number of workers; None for as many as suit.

        Raises
        ------
        InputError
            If it is no whole number from 1 on, nor "auto".
        """
        if self.workers in (None, "auto"):
            return None
        try:
            count = int(self.workers or "")
        except ValueError:
            count = 0
        if not 1 <= count <= 100_000:
            raise InputError(f"workers must be auto or a whole number >= 1, got {self.workers!r}")
        return count

    def check(self, threads: int | None = None) -> None:
        """Raise InputError for what does not fit together."""
        self.count()
        if self.distributed and threads is not None:
            raise InputError("threads are for a run in its own process: leave them out, or workers")
        for field in fields(self):
            if not self.distributed and getattr(self, field.name) != field.default:
                raise InputError(f"{field.name} needs workers too: --workers N, or --workers auto")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            share = getattr(self, name)
            if 0 < share < _LEAST or (share > 1 and not share.is_integer()):
                raise InputError(
                    f"{name} must be a whole number, or a fraction of 1 from {_LEAST:g} on "
                    f"(Ray's rule), got {share:g}"
                )
        if self.ray_address is not None:
            check_address(self.ray_address, "ray_address")


def check_address(address: str, name: str) -> None:
    """Raise InputError for what is no address of a Ray cluster."""
    if not _ADDRESS.fullmatch(address):
        client = ", not that of a Ray Client" if address.startswith("ray://") else ""
        raise InputError(f"{name} must be auto, local or HOST:PORT{client}, got {address!r}")
