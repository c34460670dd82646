"""zoo run METHOD: start a run."""

from __future__ import annotations

from typing import Any

import click

from cli.configfile import read_parameters
from cli.failure import say
from cli.options import Output, SectionedCommand, SectionedOption, SuggestingGroup, options_from
from zoo import methods
from zoo.config import options_of, taken
from zoo.errors import InputError
from zoo.runtime.distributed.placement import Placement


class _Methods(SuggestingGroup):
    """One command a method of the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(methods.METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(cmd_name) if cmd_name in methods.METHODS else None


run = _Methods(
    "run",
    help="Run METHOD: minimize an objective, or what else it is for.",
    short_help="Run a method.",
    no_args_is_help=False,
    subcommand_metavar="METHOD [OPTIONS]",
    epilog="For example: zoo run cbo --objective rastrigin",
)


def _sections(entry: methods.MethodEntry) -> dict[str, type]:
    """Title -> dataclass of all that the command of a method takes."""
    known = entry.input_classes() | {"Method": entry.config_class()}
    return known | {"Workers": Placement, "Output": Output}


def _command(name: str) -> click.Command:
    entry = methods.get(name)
    config_file = SectionedOption(
        ["--config", "config_file"],
        metavar="FILE.toml",
        help="Read parameters of these names from a file; those given here go first.",
    )
    config_file.section = "Output"
    options: dict[str, click.Parameter] = {}
    for title, config in _sections(entry).items():
        for option in options_from(config, title, entry.budget):
            options.setdefault(str(option.name), option)  # the first that has the name, has it
    return SectionedCommand(
        name,
        callback=lambda **given: run_method(name, **given),
        params=[*options.values(), config_file],
        help=f"{entry.summary[0].upper()}{entry.summary[1:]}.",
        short_help=entry.summary,
        epilog=f"For example: zoo run {name} {entry.example}",
    )


def run_method(name: str, config_file: str | None = None, **given: Any) -> None:
    """Run a method with parameters by name; None is one not given."""
    sections = _sections(methods.get(name))
    values = {key: value for key, value in given.items() if value is not None}
    if config_file is not None:
        known = [key for config in sections.values() for key in options_of(config)]
        tables = ("problem", "budget", "method", name, "workers", "output")
        values = read_parameters(config_file, known, tables) | values
    theirs = [options_of(config) for config in methods.get(name).input_classes().values()]
    kept = {key: values.pop(key) for keys in theirs for key in keys if key in values}
    output, placement = taken(Output, values), taken(Placement, values)
    placement.check(output.threads)
    _start(name, values | kept, placement, output)


def _start(name: str, values: dict[str, Any], placement: Placement, output: Output) -> None:
    from cli.execution import executed, ray_unheard, stdout_for_results
    from cli.progress import progress_line
    from cli.summary import printed
    from zoo.optimize import as_seed
    from zoo.runtime.folder import RunFolder
    from zoo.runtime.launch import launch

    seed = as_seed(output.seed)
    found: list[Any] = []
    with printed(found, output.json, lambda: prepared.minimum), stdout_for_results():
        try:
            with progress_line(not output.quiet, lambda: False):  # it may compile, and measure
                prepared = methods.get(name).study_module().prepare(name, values, seed)
        except OverflowError:
            raise InputError("a whole number is too large: 2**63 - 1 is the largest") from None
        folder, out = None, prepared.folder or output.out
        if out is not None:
            folder = RunFolder(out, output.snapshot_every)
            folder.create(prepared.described)
        if not output.quiet:
            for text in [*(f"warning: {w}" for w in prepared.warnings), *prepared.notes]:
                say(text)
        with ray_unheard(placement.distributed):
            result = executed(
                lambda listeners, cancelled: launch(
                    prepared,
                    threads=output.threads,
                    placement=placement,
                    listeners=listeners,
                    folder=folder,
                    cancelled=cancelled,
                ),
                quiet=output.quiet,
                folder=out,
                seconds=prepared.seconds,
                objective=prepared.method.problem and prepared.method.problem.objective,
                report=found.append,
            )
        found.append(result)
