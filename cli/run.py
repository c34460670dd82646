"""zoo run METHOD: minimize an objective."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import click

from cli.configfile import read_parameters
from cli.failure import say
from cli.options import Output, SectionedCommand, SectionedOption, SuggestingGroup, options_from
from zoo import methods
from zoo.config import build, options_of
from zoo.errors import InputError
from zoo.objectives.load import ProblemConfig, load, located, source_digest
from zoo.runtime.budget import Budget
from zoo.runtime.distributed.placement import Placement


class _Methods(SuggestingGroup):
    """One command a method of the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(methods.METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(cmd_name) if cmd_name in methods.METHODS else None


run = _Methods(
    "run",
    help="Minimize an objective with METHOD.",
    short_help="Minimize an objective.",
    no_args_is_help=False,
    subcommand_metavar="METHOD [OPTIONS]",
    epilog="For example: zoo run cbo --objective rastrigin",
)


def _command(name: str) -> click.Command:
    entry = methods.get(name)
    config_file = SectionedOption(
        ["--config", "config_file"],
        metavar="FILE.toml",
        help="Read parameters of these names from a file; those given here go first.",
    )
    config_file.section = "Output"
    return SectionedCommand(
        name,
        callback=lambda **given: run_method(name, **given),
        params=[
            *options_from(ProblemConfig, "Problem"),
            *options_from(Budget, "Budget (the first limit reached ends the run)", entry.budget),
            *options_from(entry.config_class(), "Method"),
            *options_from(Placement, "Workers"),
            *options_from(Output, "Output"),
            config_file,
        ],
        help=f"{entry.summary[0].upper()}{entry.summary[1:]}.",
        short_help=entry.summary,
        epilog=f"For example: zoo run {name} --objective ackley --dim 10 --seed 1 --out RUN",
    )


def run_method(name: str, config_file: str | None = None, **given: Any) -> None:
    """Run a method with parameters by name; None is one not given."""
    parts = (ProblemConfig, Budget, methods.get(name).config_class(), Placement, Output)
    values = {key: value for key, value in given.items() if value is not None}
    if config_file is not None:
        known = [key for part in parts for key in options_of(part)]
        tables = ("problem", "budget", "method", name, "workers", "output")
        values = read_parameters(config_file, known, tables) | values

    def part(config: Any) -> Any:
        names = {f.name for f in fields(config)}
        return build(config, {key: values.pop(key) for key in names & values.keys()})

    output, placement = part(Output), part(Placement)
    placement.check(output.threads)
    _start(name, located(part(ProblemConfig)), values, placement, output)


def _start(
    name: str,
    problem_config: ProblemConfig,
    values: dict[str, Any],
    placement: Placement,
    output: Output,
) -> None:
    from cli.execution import executed, ray_unheard, stdout_for_results
    from cli.summary import printed
    from zoo.optimize import as_seed, describe, launch, split_options
    from zoo.runtime.folder import RunFolder

    config, budget = split_options(name, values)
    seed = as_seed(output.seed)
    found: list[Any] = []
    with printed(found, output.json, lambda: problem.minimum), stdout_for_results():
        problem = load(problem_config)
        if not output.quiet and hasattr(config, "warnings"):
            for warning in config.warnings(problem.dimension):
                say(f"warning: {warning}")
        # Refuses what does not fit together before a folder is made for it.
        try:
            methods.get(name).method_class()(problem, config, budget, seed)
        except OverflowError:
            raise InputError("a whole number is too large: 2**63 - 1 is the largest") from None
        folder = None
        if output.out is not None:
            folder = RunFolder(output.out, output.snapshot_every)
            described = describe(name, asdict(problem_config), config, budget, seed)
            folder.create(described | {"source": source_digest(problem_config.objective)})
        with ray_unheard(placement.distributed):
            result = executed(
                lambda listeners, cancelled: launch(
                    problem,
                    name,
                    config,
                    budget,
                    seed,
                    threads=output.threads,
                    placement=placement,
                    listeners=listeners,
                    folder=folder,
                    cancelled=cancelled,
                ),
                quiet=output.quiet,
                folder=output.out,
                seconds=budget.seconds,
                objective=problem.objective,
                report=found.append,
            )
        found.append(result)
