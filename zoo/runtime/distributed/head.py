"""The process that starts a Ray of our own, and ends it when the one that asked for it is gone.

It runs by itself, in a session of its own: what is sent to the terminal's or the job's processes
(Ctrl-C, ``timeout``, a batch system's SIGTERM) does not reach Ray before the run has been saved.
Nothing of zoo is imported here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any


def main(folder: str, given: dict[str, Any]) -> None:
    """Start Ray in a folder, print its address, and wait for the end of standard input."""
    told = os.fdopen(os.dup(1), "w")
    with (Path(folder) / "head.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        import ray

        context: Any = ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=folder,
            **given,
        )
        said = {"address": context.address_info["gcs_address"]}
        # Ray starts its own clusters with a token, and others must say that they have one.
        said |= {name: value for name, value in os.environ.items() if name == "RAY_AUTH_MODE"}
        print(json.dumps(said), file=told, flush=True)
        sys.stdin.buffer.read()
        ray.shutdown()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(json.dumps({"error": lines[0] if lines else repr(error)}), file=told, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
