"""Ends the programs that a process has started, should it die without doing so.

It runs by itself, as an orphan: what ends the children of a process does not find it. Its input
says which process groups there are, and ends when the one that writes it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Take in lines of +GROUP and -GROUP; at the end of input, kill the groups left."""
    if os.fork():
        os._exit(0)
    os.setsid()
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        (groups.add if line.startswith(b"+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
