"""Command-line options from config dataclasses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from zoo.config import Option, option, options_of


@dataclass(frozen=True)
class Output:
    """How a run is started and reported; nothing here changes its result but the seed."""

    seed: int = option(
        0, "Seed of all random numbers, but for noise that protects people.", least=0
    )
    threads: int | None = option(None, "Threads; by default all, where they can help.", least=1)
    out: str | None = option(
        None, "Run folder to write: history, snapshots, result (for zoo resume and zoo show)."
    )
    snapshot_every: float = option(10.0, "Seconds between snapshots.", above=0)
    json: bool = option(False, "Print one JSON object, and nothing else, on stdout.")
    quiet: bool = option(False, "No progress line and no warnings.")


class Value(click.ParamType):
    """Text of one parameter to its Python value; the range is checked where the config is built."""

    def __init__(self, kind: type, choices: tuple[str, ...] | None) -> None:
        self.kind = kind
        self.choices = choices
        self.name = {int: "integer", float: "number"}.get(kind, "text")

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Show the choices, or the kind of value."""
        return f"[{'|'.join(self.choices)}]" if self.choices else self.name.upper()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Python value of a text; whole numbers may be written 1e6."""
        if not isinstance(value, str) or self.kind is str:
            return value
        try:
            if self.kind is int:
                return _whole(value)
            return float(value)
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            self.fail(f"must be {wanted}, got {value!r}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete choices."""
        return [CompletionItem(c) for c in self.choices or () if c.startswith(incomplete)]


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        real = float(text)
        if not (real.is_integer() and abs(real) <= 2**53):
            raise ValueError(text) from None
        number = int(real)
    if abs(number) >= 2**64:
        raise ValueError(text)
    return number


class SectionedOption(click.Option):
    """An option that knows its section of the help."""

    section = "Other"


class SectionedCommand(click.Command):
    """A command whose help shows its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order in which the options were declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Other"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class SuggestingGroup(click.Group):
    """A group of commands that are imported when used, and suggested when misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; an unknown name becomes a suggestion."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f": did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            if name.startswith("-"):
                raise click.NoSuchOption(name, ctx=ctx)
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def options_from(
    config: type, section: str, defaults: Mapping[str, Any] | None = None
) -> list[SectionedOption]:
    """Command-line options of a config dataclass; the value of one not given is None.

    Parameters
    ----------
    config : type
        A dataclass of :func:`zoo.config.option` fields.
    section : str
        Title in the help.
    defaults : mapping, optional
        Defaults to show in place of the dataclass's own.
    """
    made = []
    for name, (field, declared, hint) in options_of(config).items():
        kinds = getattr(hint, "__args__", (hint,))
        kind = next(k for k in kinds if k is not type(None))
        flag = "--" + name.replace("_", "-")
        default = (defaults or {}).get(name, field.default)
        text = _help(declared, default)
        if kind is bool:
            one = SectionedOption([f"{flag}/--no-{flag[2:]}", name], default=None, help=text)
        else:
            value = Value(kind, declared.choices)
            one = SectionedOption([flag, name], type=value, default=None, help=text)
        one.section = section
        made.append(one)
    return made


def _help(declared: Option, default: Any) -> str:
    notes = [] if declared.choices or not declared.accepted() else [declared.accepted()]
    if isinstance(default, bool):
        notes.append(f"default {'on' if default else 'off'}")
    elif default is not None:
        notes.append(f"default {default:g}" if isinstance(default, float) else f"default {default}")
    return declared.help + (f"  [{'; '.join(notes)}]" if notes else "")
