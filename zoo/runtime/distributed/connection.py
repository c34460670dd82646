"""The Ray that a run works on: its own, or a cluster's."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import InputError, RunError
from zoo.runtime.distributed import head
from zoo.runtime.distributed.placement import check_address

#: What Ray would say to the user's terminal, for those who want to see it.
_log = logging.getLogger("zoo.ray")

_FOLDER = "zoo-ray-"
#: Seconds between two looks at whether Ray is still there, and misses in a row until it is not.
_LOOK, _MISSES = 1.0, 4
#: Seconds that a Ray of our own has to end.
_PATIENCE = 10.0

_AUTH = "RAY_AUTH_MODE"


class Connection:
    """A connection of this process to Ray, shared by all who ask for one meanwhile.

    Attributes
    ----------
    users : int
        How many hold it; the last one ends it. 0: it was there before, and is left as it is.
    gone : bool
        Whether Ray is.
    """

    def __init__(self) -> None:
        import ray

        self.users = 0
        self.gone = False
        self._undo = contextlib.ExitStack()
        self._ray = ray
        self._head: subprocess.Popen[bytes] | None = None
        self._looked, self._missed = 0.0, 0

    @property
    def owned(self) -> bool:
        """Whether that Ray was started here."""
        return self._head is not None

    def check(self) -> None:
        """Raise RunError if Ray is gone: it would end this process, before long and silently."""
        if time.monotonic() - self._looked < _LOOK:
            return
        missing = self._missing()
        self._looked = time.monotonic()
        self._missed = self._missed + 1 if missing else 0
        if self._missed > _MISSES:
            self.gone = True
            raise RunError(f"Ray is gone: {missing}")

    def end(self) -> None:
        """Let the connection go."""
        global _current
        with _sharing:
            self.users -= 1
            if self.users == 0:
                if _current is self:
                    _current = None
                self._undo.close()

    def _missing(self) -> str:
        if self._head is not None and self._head.poll() is not None:
            return "the process that started it here has ended"
        with contextlib.suppress(AttributeError):  # no public name for it
            node = sys.modules["ray._private.worker"]._global_node
            with socket.socket(socket.AF_UNIX) as raylet:
                try:
                    raylet.connect(node.raylet_socket_name)
                except OSError:
                    return "its raylet on this machine has ended"
        address = self._ray.get_runtime_context().gcs_address
        reason = _refusal(address, 1.0)
        return f"its head at {address} does not answer ({reason})" if reason else ""

    def open(self, address: str | None, cpus: float, environment: dict[str, Any]) -> None:
        """Connect to a cluster, or to a Ray started for it; see :func:`connect`."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(_muted())
            options: dict[str, Any] = {"log_to_driver": False, "runtime_env": environment}
            options["logging_level"] = logging.CRITICAL
            if address is None:
                self._head, address = _start(cpus, undo)
                with _kept_handler():
                    self._ray.init(address=address, **options)
            else:
                with _kept_handler(), _heard_at_once():
                    _join(address, options)
            undo.callback(self._ray.shutdown)
            self._undo = undo.pop_all()


_sharing = threading.RLock()
_current: Connection | None = None


def connect(
    address: str | None, *, cpus: float = 1.0, working_dir: str | None = None
) -> Connection:
    """Connect to Ray, or start one on this machine.

    Parameters
    ----------
    address : str, optional
        "auto", HOST:PORT, or none for a Ray of our own; RAY_ADDRESS stands in for none.
    cpus : float
        What a Ray of our own is to offer.
    working_dir : str, optional
        Folder that Ray copies to the nodes.

    Raises
    ------
    InputError
        If there is no such cluster, or it cannot be used; or this process is connected to
        another one.
    RunError
        If a Ray of our own does not start.
    """
    global _current
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    environment = _environment(working_dir)
    with _sharing:
        if ray.is_initialized():
            _refuse_another(address, working_dir)
            connection = _current or Connection()
        else:
            named = os.environ.get("RAY_ADDRESS") or None
            if address is None and named is not None:
                check_address(named, "RAY_ADDRESS")
            address = address or named
            connection = Connection()
            connection.open(None if address == "local" else address, cpus, environment)
            _current = connection
        if connection is _current:
            connection.users += 1
        return connection


def _refuse_another(address: str | None, working_dir: str | None) -> None:
    import ray

    here = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", "local", here):
        raise InputError(
            f"ray_address is {address}, but this process is connected to Ray at {here} already"
        )
    if working_dir is not None:
        raise InputError(
            f"working_dir cannot be copied: this process is connected to Ray at {here} already"
        )


def _environment(working_dir: str | None) -> dict[str, Any]:
    """What Ray is to set up for the workers, besides what is installed there."""
    environment: dict[str, Any] = {}
    if os.environ.get("PYTHONPATH"):  # a cluster's processes have their own
        environment["env_vars"] = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    if working_dir is not None:
        if not os.path.isdir(working_dir):
            raise InputError(f"working_dir must be a folder; there is none at {working_dir}")
        environment["working_dir"] = working_dir
    return environment


def _join(address: str, options: dict[str, Any]) -> None:
    import ray

    listening = _running_here() if address == "auto" else address
    reason = _refusal(listening, 5.0) if listening else ""
    if reason:  # Ray itself would try, and complain, for minutes
        hint = "" if os.environ.get("RAY_ADDRESS") != address else " (the address of RAY_ADDRESS)"
        raise InputError(f"no Ray cluster answers at {listening}{hint}: {reason}")
    reason = _unwilling(listening) if listening else ""
    if reason:
        raise InputError(reason)
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        if address == "auto":
            raise InputError(
                "no Ray cluster is running on this machine: 'ray start --head' starts one, "
                "or leave ray_address out"
            ) from None
        raise InputError(f"no Ray cluster answers at {address}: {_first_line(error)}") from None
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"the Ray cluster at {address} cannot be used: {_first_line(error)}"
        ) from None


def _unwilling(address: str) -> str:
    """Why a cluster will not have us, or is none; Ray itself would try for up to minutes."""
    import ray

    client = getattr(sys.modules["ray._raylet"], "GcsClient", None)  # no public name for it
    if client is None:
        return ""
    try:
        client(address=address)
    except ray.exceptions.AuthenticationError:
        return (
            f"the Ray cluster at {address} asks for a token: set {_AUTH}=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its own"
        )
    except ray.exceptions.RayError as error:
        return f"no Ray cluster answers at {address}: {_first_line(error)}"
    except Exception:  # Ray will say
        return ""
    return ""


def _running_here() -> str | None:
    """Address of the cluster that was last started here, if Ray has left a note of it."""
    try:
        return (Path("/tmp/ray") / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _refusal(address: str, seconds: float) -> str:
    """Why no one listens at an address; empty if someone does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except (OSError, ValueError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _start(cpus: float, undo: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Ray of our own; returns the process that keeps it, and its address."""
    _sweep()
    for attempt in (1, 2):  # on a busy machine it may miss its own time limits
        # Ray never removes its session folders; and its sockets need a short path.
        folder = tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir="/tmp")
        given = {"num_cpus": max(1, math.ceil(cpus))}
        process = subprocess.Popen(
            # Not its folder first among the paths to import from.
            [sys.executable, "-P", str(Path(head.__file__)), folder, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        undo.callback(_ended, process, folder)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline() or "{}")
        if "address" in said:
            undo.enter_context(_with_token(said.get(_AUTH)))
            return process, said["address"]
        if attempt == 2:
            why = said.get("error") or "the process that was to start it has ended"
            raise RunError(f"Ray does not start: {why}")
    raise AssertionError


def _ended(process: subprocess.Popen[bytes], folder: str) -> None:
    """End what keeps a Ray of our own; it ends that, and removes its folder."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # Ray's processes die with it
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what is left of processes that were killed, with all that they had started."""
    for path in Path("/tmp").glob(f"{_FOLDER}*"):
        process = path.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(path, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _with_token(mode: str | None) -> Iterator[None]:
    """Have Ray take its token along, as the one that it started does."""
    if mode is None or _AUTH in os.environ:
        yield
        return
    from ray import _raylet

    refresh: Any = _raylet.Config.initialize  # type: ignore[attr-defined]
    os.environ[_AUTH] = mode
    refresh("")  # it has read the environment when it was imported
    try:
        yield
    finally:
        os.environ.pop(_AUTH, None)
        refresh("")


@contextmanager
def _kept_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM, which ``ray.init`` replaces by one that exits."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _heard_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process: Ray's compiled code may wait for ever, and calls no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _muted() -> Iterator[None]:
    """Let what Ray reports go to the log "zoo.ray", not to the user's terminal.

    Ray has no switch for it: with ``log_to_driver=False`` its driver still prints paragraphs on
    every worker that dies.
    """
    import ray._private.worker as internals

    logger = logging.getLogger("ray")
    level, printed = logger.level, getattr(internals, "print_to_stdstream", None)
    logger.setLevel(logging.CRITICAL)
    if printed is not None:
        internals.print_to_stdstream = _logged
    try:
        yield
    finally:
        logger.setLevel(level)
        if printed is not None:
            internals.print_to_stdstream = printed


def _logged(data: dict[str, Any], *_: Any, **__: Any) -> None:
    for line in data.get("lines", ()):
        _log.debug("%s", line)
