"""The privacy ledger: what was measured, what it cost, and no more than the budget.

A file of JSON lines: the first states the budget, each further one is a charge. A charge is on the
disk before the noise it pays for is drawn, so a crash can only waste budget. Whoever charges holds
the file's lock and counts what is in the file, so runs and processes share one budget.

The data set goes by the name that its owner gives it, never by a hash, size or time of its file:
whoever holds a guess of the table could check it against a hash. So nothing here can notice that
one table has two ledgers (their rho add up), or that a ledger was edited or put back from a copy.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evolve.gsd.privacy import check_budget, rho_of, sensitivity
from zoo.errors import InputError, RunError
from zoo.runtime.folder import to_json

FORMAT = "zoo gsd ledger 1"
_CREEP = 2.0**-48  # shares of a budget add up to it but for rounding; rho_of leaves 2^-46
_RHO = re.compile(r'\{"rho": ([0-9.e+-]+),')


@dataclass(frozen=True)
class Entry:
    """One charge."""

    rho: float
    what: str
    time: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Ledger:
    """A budget and the file that keeps it.

    Attributes
    ----------
    path : Path
    epsilon, delta, rho : float
        The budget.
    neighbours : str
        Relation of neighbouring tables, of ``privacy.NEIGHBOURS``.
    data : str
        The owner's name for the data set.
    private : bool
        False for tests whose noise has a known seed: nothing charged here protects anyone.
    """

    path: Path
    epsilon: float
    delta: float
    rho: float
    neighbours: str
    data: str = ""
    private: bool = True

    @classmethod
    def open(
        cls,
        path: str | Path,
        epsilon: float,
        delta: float,
        neighbours: str,
        data: str = "",
        private: bool = True,
    ) -> Ledger:
        """Ledger at a path: continued if it is there, and started otherwise.

        Raises
        ------
        InputError
            If the budget is not one, the file cannot be written or is no ledger, or the ledger
            states something else.
        """
        check_budget(epsilon, delta)
        sensitivity(neighbours)
        if math.isinf(epsilon):
            raise InputError("a ledger needs a finite epsilon: without noise there is no budget")
        rho = rho_of(epsilon, delta)
        wanted = cls(Path(path), float(epsilon), float(delta), rho, neighbours, data, private)
        with wanted._locked(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as file:
            content = _read(file)
            if not content:
                wanted._append(file, b"", {"ledger": FORMAT, "time": _now()} | wanted._statement())
                _sync_folder(wanted.path)
                return wanted
        found = _ledger(wanted.path, content)
        theirs, ours = found._statement(), wanted._statement()
        differ = [name for name in ours if name != "rho" and ours[name] != theirs[name]]
        if differ:
            raise InputError(
                f"{path} is the ledger of another budget or data set; a run on it must state "
                + ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in differ)
            )
        return found

    @classmethod
    def read(cls, path: str | Path) -> Ledger:
        """Ledger that is there, as it states itself."""
        blank = cls(Path(path), math.nan, math.nan, math.nan, "")
        with blank._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
            return _ledger(blank.path, _read(file))

    def entries(self) -> tuple[Entry, ...]:
        """All charges so far, by whatever process."""
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
            return self._entries(_read(file))

    @property
    def spent(self) -> float:
        """Sum of the charges."""
        return _sum(self.entries())

    @property
    def remaining(self) -> float:
        """What is left to spend."""
        return max(0.0, self.rho - self.spent)

    def charge(self, what: str, rho: float, **details: Any) -> Entry:
        """Take a charge off the budget; when this returns, and not before, draw its noise.

        Raises
        ------
        InputError
            If less than ``rho`` is left; nothing is charged then.
        RunError
            If the charge cannot be written; nothing is charged, and no noise may be drawn.
        """
        rho = float(rho)
        if not 0 < rho < math.inf:
            raise InputError(f"a charge must be > 0 and finite, got rho = {rho!r} for {what!r}")
        entry = Entry(rho, what, _now(), to_json(details))
        with self._locked(os.O_RDWR, fcntl.LOCK_EX) as file:
            content = _read(file)
            spent = self._entries(content)
            if math.fsum([*(e.rho for e in spent), rho]) > self.rho * (1 + _CREEP):
                left = max(0.0, self.rho - _sum(spent))
                cut = sum("damaged" in e.details for e in spent)
                raise InputError(
                    f"the budget is spent: {what!r} costs rho = {rho:.6g}, and of "
                    f"{self.rho:.6g} (epsilon {self.epsilon:g}, delta {self.delta:g}) "
                    f"{left:.6g} is left in {self.path}"
                    + (f", where {cut} damaged lines count as spent" if cut else "")
                )
            self._append(file, content, asdict(entry))
        return entry

    def _statement(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "path"}

    def _entries(self, content: bytes) -> tuple[Entry, ...]:
        """Charges in the file; a line that a crash cut short counts for all that it may be.

        Its rho stands first in it; where not even that can be read, all that was left is spent.
        """
        if _ledger(self.path, content) != self:
            raise InputError(f"{self.path} is another ledger than the one opened")
        entries: list[Entry] = []
        for number, line in enumerate(content.decode(errors="replace").split("\n")[1:], 2):
            if not line:
                continue
            entry = _entry(line)
            if entry is None:
                rho = _readable_rho(line)
                rho = max(0.0, self.rho - _sum(entries)) if rho is None else rho
                entry = Entry(rho, f"line {number}, cut short", "", {"damaged": True})
            entries.append(entry)
        return tuple(entries)

    @contextlib.contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        try:  # a missing folder is not made: a mistyped path must not start a new budget
            file = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise InputError(
                f"cannot open ledger {self.path}: {error.strerror} (--ledger FILE is another place)"
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise InputError(f"cannot open ledger {self.path}: not a file")
            try:
                fcntl.flock(file, lock)
            except OSError as error:
                raise InputError(f"cannot lock ledger {self.path}: {error.strerror}") from error
            yield file
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # a fork of this process may hold the file open
            os.close(file)

    def _append(self, file: int, content: bytes, row: dict[str, Any]) -> None:
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        if content and not content.endswith(b"\n"):  # a crash has cut the last line short
            line = b"\n" + line
        try:
            while line:
                line = line[os.write(file, line) :]
            os.fsync(file)
        except OSError as error:
            with contextlib.suppress(OSError):  # no noise has been drawn for it
                os.ftruncate(file, len(content))
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error


def _read(file: int) -> bytes:
    content = b""
    while part := os.read(file, 1 << 20):
        content += part
    return content


def _ledger(path: Path, content: bytes) -> Ledger:
    """Ledger that the first line states."""
    try:
        row = json.loads(content.split(b"\n")[0])
        if row.pop("ledger") != FORMAT or not content.count(b"\n"):
            raise ValueError
        row.pop("time")
        ledger = Ledger(path, **row)
        if not 0 < ledger.rho <= rho_of(ledger.epsilon, ledger.delta) * (1 + 1e-9):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} is not a ledger of this version, or its first line is damaged; it was left "
            "as it is"
        ) from None
    return ledger


def _entry(line: str) -> Entry | None:
    """Charge of a line; None if it is damaged."""
    try:
        entry = Entry(**json.loads(line))
        return entry if 0 < entry.rho < math.inf else None
    except (ValueError, TypeError):
        return None


def _readable_rho(line: str) -> float | None:
    """Return the rho that a damaged line begins with, if it is whole."""
    found = _RHO.match(line)
    try:
        rho = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return rho if 0 < rho < math.inf else None


def _sum(entries: tuple[Entry, ...] | list[Entry]) -> float:
    return math.fsum(entry.rho for entry in entries)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
