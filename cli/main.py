"""The console command: subcommands by name, and one place where failures become exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from cli.failure import DONE, FAILED, explain, say, traceback_wanted
from cli.options import SuggestingGroup
from zoo import __version__

_COMMANDS = {
    "run": "cli.run:run",
    "resume": "cli.resume:resume",
    "show": "cli.show:show",
    "evaluate": "cli.evaluate:evaluate",
    "list": "cli.listing:listing",
}


class _Commands(SuggestingGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


zoo = _Commands(
    "zoo",
    help="Derivative-free optimization.",
    epilog="For example: zoo run cbo --objective rastrigin",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[],
)
click.version_option(__version__, prog_name="zoo", message="%(prog)s %(version)s")(zoo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, io.StringIO())
    try:
        code = zoo.main(given or ["--help"], prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # who read stdout has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except SystemExit:
        raise
    except BaseException as error:
        if traceback_wanted():
            raise
        message, code = explain(error)
        say(message)
        return code
    return code if isinstance(code, int) else DONE


if __name__ == "__main__":
    sys.exit(main())
