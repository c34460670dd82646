"""What ends a command early: one line on stderr, and an exit code."""

from __future__ import annotations

import os
import sys

import click

from zoo.errors import InputError, Interrupted, ObjectiveError, RunError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Ended(Exception):
    """A command ends with this line and exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """Write one line to stderr."""
    line = " ".join(message.split())
    print(f"zoo: {line}", file=sys.stderr)


def explain(error: BaseException) -> tuple[str, int]:
    """Line and exit code for what ended a command."""
    if isinstance(error, Ended):
        return str(error), error.code
    if isinstance(error, click.UsageError):
        return _usage(error), USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), USAGE
    if isinstance(error, InputError | RunError):
        return str(error), USAGE
    if isinstance(error, ObjectiveError):
        return str(error), FAILED
    if isinstance(error, KeyboardInterrupt | Interrupted | click.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory", FAILED
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}", FAILED
    return (
        f"{type(error).__name__}: {error}; this is a fault in zoo, ZOO_TRACEBACK=1 shows where",
        FAILED,
    )


def traceback_wanted() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get("ZOO_TRACEBACK", "") not in ("", "0")


def _usage(error: click.UsageError) -> str:
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        message = f"no option {error.option_name}"
        if error.possibilities:
            message += f": did you mean {error.possibilities[0]}?"
    elif isinstance(error, click.MissingParameter) and error.param is not None:
        message = f"{error.param.make_metavar(error.ctx)} is missing"  # type: ignore[arg-type]
    elif isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        message = f"{error.param.opts[0]} {error.message}"
    if error.ctx is not None:
        message = f"{message.rstrip('.')} ('{error.ctx.command_path} --help' shows what there is)"
    return message
