"""zoo resume RUN: continue an interrupted run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from cli.options import Output, SectionedCommand, SectionedOption, options_from
from zoo.config import build
from zoo.runtime.distributed.placement import Placement

_OPTIONS = ("threads", "json", "quiet")


def _command() -> click.Command:
    options: list[click.Parameter] = [
        option for option in options_from(Output, "Options") if option.name in _OPTIONS
    ]
    where = SectionedOption(
        ["--objective"],
        metavar="FILE.py:NAME",
        help="Where the objective is now, if its file has been moved.",
    )
    where.section = "Options"
    return SectionedCommand(
        "resume",
        callback=resume_run,
        params=[
            click.Argument(["run"], metavar="RUN"),
            where,
            *options,
            *options_from(Placement, "Workers"),
        ],
        help="Continue the interrupted run in the folder RUN, to the very bits that it would "
        "have reached. One that has ended is only reported.",
        short_help="Continue an interrupted run.",
    )


def resume_run(
    run: str,
    objective: str | None = None,
    threads: int | None = None,
    json: bool | None = None,
    quiet: bool | None = None,
    **given: Any,
) -> None:
    """Continue the run in a folder."""
    from cli.execution import executed, ray_unheard, stdout_for_results
    from cli.failure import say
    from cli.stored import known_minimum, problem_config, read_result, read_run
    from cli.summary import printed
    from zoo import optimize
    from zoo.errors import InputError
    from zoo.objectives.load import load, located, source_digest
    from zoo.runtime.folder import RunFolder

    if threads is not None:
        build(Output, {"threads": threads})
    placed = {name: value for name, value in given.items() if value is not None}
    placement = build(Placement, placed)
    placement.check(threads)
    folder = RunFolder(run)
    stored = read_run(folder)
    config = problem_config(stored)
    if config is not None and objective is not None:
        if None in (source_digest(config.objective), source_digest(objective)):
            raise InputError("--objective is for FILE.py:NAME that has been moved, to FILE.py:NAME")
        config = located(replace(config, objective=objective))
    result = read_result(folder)
    found: list[Any] = [] if result is None else [result]
    with printed(found, bool(json), lambda: known_minimum(config)):
        if result is not None:
            return
        if config is None:
            raise InputError(
                f"{run} was started from Python: zoo.resume({run!r}, function, bounds) "
                "continues it there"
            )
        with stdout_for_results(), ray_unheard(placement.distributed):
            problem = load(config)
            if stored.get("source") not in (None, source_digest(config.objective)):
                say(
                    "warning: the objective's file, or one that it imports, has changed since the "
                    "run was started"
                )
            result = executed(
                lambda listeners, cancelled: optimize.resume(
                    run,
                    problem,
                    threads=threads,
                    listeners=listeners,
                    cancelled=cancelled,
                    **placed,
                ),
                quiet=bool(quiet),
                folder=run,
                objective=problem.objective,
                report=found.append,
            )
            found.append(result)


resume = _command()
