"""Ends the programs that a process has started, should it die without doing so.

It runs by itself, as an orphan: what ends the children of a process does not find it. Its input
says which evaluations are under way, and ends when the one that writes it does. Their processes
have the evaluation's name in their environment, as have those that they start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

#: Environment variable of the programs.
NAME = "ZOO_EVALUATION"


def main() -> None:
    """Take in lines of +EVALUATION and -EVALUATION; at the end of input, kill what is left."""
    if os.fork():
        os._exit(0)
    os.setsid()
    left: set[bytes] = set()
    for line in sys.stdin.buffer:
        (left.add if line.startswith(b"+") else left.discard)(line[1:].strip())
    marks = {f"{NAME}=".encode() + name for name in left}
    found = True
    while marks and found:  # one may have been at starting another
        found = False
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                if marks & {*(path / "environ").read_bytes().split(b"\0")}:
                    os.kill(int(path.name), signal.SIGKILL)
                    found = True


if __name__ == "__main__":
    main()
