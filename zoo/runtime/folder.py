"""The run folder: config.json, history.jsonl, workers.jsonl, snapshot.npz and result.json.

Every file is written under another name and renamed, so a folder is readable after any crash. The
last two snapshots are kept; a damaged one is noticed by its checksum. Plain JSON and npz.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.errors import RunError
from zoo.runtime.events import PROGRESS, WORKER_EVENTS, Event
from zoo.runtime.protocol import State

FORMAT = 1
CONFIG, HISTORY, WORKERS, SNAPSHOT, PREVIOUS, RESULT, PARTIAL, LOCK = (
    "config.json",
    "history.jsonl",
    "workers.jsonl",  # who came, who was lost, what was replayed; if there were any
    "snapshot.npz",
    "snapshot.previous.npz",
    "result.json",
    "partial.json",  # what an interrupted or failed run had found
    ".lock",
)


@dataclass(frozen=True)
class Snapshot:
    """A saved state of a run."""

    method: State
    shards: list[State]
    seconds: float
    rows: int  # of the history at that time


def to_json(value: Any) -> Any:
    """Plain JSON value of numbers, arrays and containers; infinities and NaN become null."""
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is there whole, or not at all, whatever happens meanwhile.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _digest(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.descr} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class RunFolder:
    """One run's files.

    Attributes
    ----------
    path : Path
    interval : float
        Seconds between snapshots.
    rows : int
        Rows of the history so far.
    """

    def __init__(self, path: str | Path, interval: float = 10.0) -> None:
        self.path = Path(path)
        self.interval = interval
        self.rows = 0
        self._fresh = False
        self._lock: IO[str] | None = None

    def check_free(self) -> None:
        """Refuse a folder that holds a run already, with a RunError."""
        if (self.path / CONFIG).exists():
            raise RunError(
                f"{self.path} already holds a run: 'zoo resume {self.path}' continues it, "
                "'zoo show' shows it; choose another folder for a new one"
            )

    def create(self, config: Mapping[str, Any]) -> None:
        """Start a run here.

        Raises
        ------
        RunError
            If the folder holds a run already, or cannot be written.
        """
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.lock()
        self._write_json(CONFIG, {"format": FORMAT, **config})
        write_file(self.path / HISTORY, b"")
        self._fresh = True

    def discard(self) -> None:
        """Remove the run if it was created here and nothing has happened in it."""
        if not self._fresh or self.rows:
            return
        for name in (CONFIG, HISTORY, WORKERS, LOCK):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it
            self.path.rmdir()

    def config(self) -> dict[str, Any]:
        """Read the configuration that the run was started with.

        Raises
        ------
        RunError
            If there is none, or it cannot be read.
        """
        config = self._read_json(CONFIG)
        if config is None:
            raise RunError(f"{self.path} holds no run (no {CONFIG})")
        if config.get("format") != FORMAT:
            raise RunError(
                f"{self.path / CONFIG} has format {config.get('format')!r}; "
                f"this version reads format {FORMAT}"
            )
        return config

    def save(
        self, method: State, shards: Sequence[State], seconds: float, rows: int | None = None
    ) -> None:
        """Write a snapshot, of ``rows`` rows of the history; the one before is kept as well."""
        self._fresh = False
        arrays = {f"method/{name}": array for name, array in method.items()}
        for index, shard in enumerate(shards):
            arrays |= {f"shard{index}/{name}": array for name, array in shard.items()}
        arrays["seconds"] = np.array(seconds)
        arrays["shards"] = np.array(len(shards))
        arrays["rows"] = np.array(self.rows if rows is None else rows)
        arrays["format"] = np.array(FORMAT)
        digest = np.array(_digest(arrays))
        path = self.path / SNAPSHOT
        temporary = path.with_name(f".{SNAPSHOT}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, digest=digest, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            if path.exists():  # a second name for it first: at no time is there no snapshot
                older = path.with_name(f".{PREVIOUS}.{os.getpid()}")
                older.unlink(missing_ok=True)
                os.link(path, older)
                older.replace(self.path / PREVIOUS)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error

    def snapshot(self) -> Snapshot | None:
        """Read the last snapshot that is whole; None if none was written.

        Raises
        ------
        RunError
            If there are some, and every one is damaged.
        """
        paths = [self.path / name for name in (SNAPSHOT, PREVIOUS)]
        paths = [path for path in paths if path.exists()]
        for path in paths:
            try:
                return self._read_snapshot(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                continue
        if paths:
            raise RunError(
                f"the snapshots in {self.path} are damaged "
                f"({', '.join(path.name for path in paths)}): delete them to start the run again"
            )
        return None

    def _read_snapshot(self, path: Path) -> Snapshot:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if arrays.pop("digest").item() != _digest(arrays):
            raise ValueError("checksum")

        def part(prefix: str) -> State:
            return {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }

        shards = [part(f"shard{index}/") for index in range(int(arrays["shards"]))]
        return Snapshot(part("method/"), shards, float(arrays["seconds"]), int(arrays["rows"]))

    def rewind(self, rows: int) -> None:
        """Cut the history to its first ``rows`` rows."""
        lines = self._lines(HISTORY)[:rows]
        write_file(self.path / HISTORY, "".join(f"{line}\n" for line in lines).encode())
        self.rows = len(lines)

    def listen(self, event: Event) -> None:
        """Append the rows of a progress event to the history, and events of workers to theirs."""
        if event.kind in WORKER_EVENTS:
            self._append(WORKERS, [{"event": event.kind, "time": time.time(), **event.data}])
        elif event.kind == PROGRESS and event.data["rows"]:
            self._append(HISTORY, event.data["rows"])
            self.rows += len(event.data["rows"])

    def _append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            with (self.path / name).open("ab+") as file:
                if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                    file.write(b"\n")  # a crash has cut the last line short
                file.writelines((json.dumps(to_json(row)) + "\n").encode() for row in rows)
        except OSError as error:
            raise RunError(f"cannot write {self.path / name}: {error.strerror}") from error

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history; a row cut short by a crash is left out."""
        return self._parsed(HISTORY)

    def workers(self) -> list[dict[str, Any]]:
        """Events of workers, in all sittings of the run."""
        return self._parsed(WORKERS)

    def _parsed(self, name: str) -> list[dict[str, Any]]:
        rows = []
        for line in self._lines(name):
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.path / name).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    def finish(self, result: Mapping[str, Any], name: str = RESULT) -> None:
        """Write the result."""
        self._write_json(name, result)

    def result(self, name: str = RESULT) -> dict[str, Any] | None:
        """Result of the run, or PARTIAL; None while it has none."""
        return self._read_json(name)

    def lock(self) -> None:
        """Keep others from running here, until :meth:`unlock` or the end of the process.

        Raises
        ------
        RunError
            If one does already.
        """
        try:
            self._lock = (self.path / LOCK).open("a+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"the run in {self.path} is being run already") from None
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error

    def unlock(self) -> None:
        """Let others run here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(to_json(content), indent=1) + "\n"
        write_file(self.path / name, text.encode())

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {path}: {error}") from error
        except json.JSONDecodeError as error:
            raise RunError(f"{path} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{path} is damaged: not an object")
        return content
