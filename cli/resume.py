"""zoo resume RUN: continue an interrupted run."""

from __future__ import annotations

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
    from cli.stored import read_result, read_run
    from cli.summary import printed
    from zoo import methods
    from zoo.minimization import known_minimum, stored_problem
    from zoo.runtime.folder import RunFolder
    from zoo.runtime.launch import launch, taken_up

    if threads is not None:
        build(Output, {"threads": threads})
    placement = build(Placement, {k: v for k, v in given.items() if v is not None})
    placement.check(threads)
    folder = RunFolder(run)
    stored = read_run(folder)
    result = read_result(folder)
    found: list[Any] = [] if result is None else [result]
    with printed(found, bool(json), lambda: known_minimum(stored_problem(stored))):
        if result is not None:
            return
        with stdout_for_results(), ray_unheard(placement.distributed):
            study = methods.get(stored["method"]).study_module()
            snapshot = taken_up(folder)
            try:
                prepared = study.reopen(stored, folder, objective)
            except BaseException:
                folder.unlock()
                raise
            for warning in () if quiet else prepared.warnings:
                say(f"warning: {warning}")
            result = executed(
                lambda listeners, cancelled: launch(
                    prepared,
                    threads=threads,
                    placement=placement,
                    listeners=listeners,
                    folder=folder,
                    snapshot=snapshot,
                    cancelled=cancelled,
                ),
                quiet=bool(quiet),
                folder=run,
                objective=prepared.method.problem and prepared.method.problem.objective,
                report=found.append,
            )
            found.append(result)


resume = _command()
