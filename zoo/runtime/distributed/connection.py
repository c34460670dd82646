"""The Ray that a run works on: its own, or a cluster's."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import InputError, RunError

#: What Ray would say to the user's terminal, for those who want to see it.
_log = logging.getLogger("zoo.ray")

_FOLDER = "zoo-ray-"


def connect(
    address: str | None, *, cpus: float = 1.0, gpus: float = 0.0, working_dir: str | None = None
) -> Callable[[], None]:
    """Connect to Ray, or start one on this machine; returns what ends that.

    A connection that the process has already is used, and left as it is.

    Parameters
    ----------
    address : str, optional
        "auto", HOST:PORT, or none for a Ray of our own; RAY_ADDRESS stands in for none.
    cpus, gpus : float
        What a Ray of our own is to offer.
    working_dir : str, optional
        Folder that Ray copies to the nodes.

    Raises
    ------
    InputError
        If there is no such cluster, or it cannot be used.
    RunError
        If a Ray of our own does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return lambda: None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    quiet["runtime_env"] = _environment(working_dir)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    _divert()
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "local"):
        _join(address, quiet)
        return ray.shutdown
    return _start(cpus, gpus, quiet)


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


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    if "://" in address:
        raise InputError(
            f"ray_address must be auto or HOST:PORT, got {address!r} (a Ray Client address: "
            "submit a job instead, or give the address that 'ray start' printed)"
        )
    _answers(_running_here() if address == "auto" else address)
    try:
        ray.init(address=address, **quiet)
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


def _running_here() -> str | None:
    """Address of the cluster that was last started here, if Ray has left a note of it."""
    try:
        return (Path("/tmp/ray") / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _answers(address: str | None) -> None:
    """Raise InputError if no one listens: Ray itself would try, and complain, for minutes."""
    if address is None:
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"no Ray cluster answers at {address}: {reason}") from None


def _start(cpus: float, gpus: float, quiet: dict[str, Any]) -> Callable[[], None]:
    import ray

    # Ray never removes its session folders; and its sockets need a short path.
    _sweep()
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir="/tmp")
    offered: dict[str, Any] = {"num_cpus": max(1, math.ceil(cpus))}
    if gpus:
        offered["num_gpus"] = math.ceil(gpus)

    def end() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    for attempt in (1, 2):  # on a busy machine it may miss its own time limits
        try:
            ray.init(address="local", include_dashboard=False, _temp_dir=folder, **offered, **quiet)
            return end
        except Exception as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            if attempt == 2:
                shutil.rmtree(folder, ignore_errors=True)
                raise RunError(f"Ray does not start: {_first_line(error)}") from error
    raise AssertionError


def _sweep() -> None:
    """Remove what processes that were killed have left."""
    for path in Path("/tmp").glob(f"{_FOLDER}*"):
        process = path.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(path, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


_diverting = threading.Lock()


def _divert() -> None:
    """Let what the cluster reports go to the log "zoo.ray", not to the user's terminal.

    Ray has no switch for it: with ``log_to_driver=False`` its driver still prints paragraphs on
    every worker that dies.
    """
    import ray._private.worker as internals

    with _diverting:
        if hasattr(internals, "print_to_stdstream"):
            internals.print_to_stdstream = _logged


def _logged(data: dict[str, Any], *_: Any, **__: Any) -> None:
    for line in data.get("lines", ()):
        _log.debug("%s", line)
