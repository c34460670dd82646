"""zoo show RUN: what is in a run folder, as text, JSON or a picture."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

_ROWS = 10


@click.command(short_help="Show a run: table, or a picture with --plot.")
@click.argument("run", metavar="RUN")
@click.option(
    "--plot",
    metavar="FILE.png",
    help="Draw the convergence, and particles in two dimensions; of programs the front.",
)
@click.option(
    "--emit", metavar="LANGUAGE", help="Print a program of its front: c, python, numba or latex."
)
@click.option(
    "--ops", type=int, metavar="N", help="With --emit, --plot: the program of N operations."
)
@click.option("--json", is_flag=True, help="Print one JSON object.")
def show(run: str, plot: str | None, emit: str | None, ops: int | None, json: bool) -> None:
    """Show the run in the folder RUN: its parameters, its result, its last rows of history."""
    from cli.stored import read_result, read_run
    from cli.summary import as_json, lines, print_json
    from zoo.errors import InputError
    from zoo.minimization import known_minimum, stored_problem
    from zoo.runtime.folder import PARTIAL, RunFolder

    folder = RunFolder(run)
    stored = read_run(folder)
    config = stored_problem(stored)
    result = read_result(folder)
    if emit is not None and (plot is not None or json):
        raise InputError("--emit goes without --plot and --json")
    if emit is not None or (ops is not None and plot is None):
        print(_code(stored, result, emit, ops), end="")
        return
    rows = [row for row in folder.history() if isinstance(row, dict)]
    minimum = known_minimum(config)
    if plot is not None and not _picture(stored, result, plot, ops):
        from cli.plot import draw

        draw(plot, stored["problem"].get("name") or stored["method"], config, rows, result, minimum)
    if json:
        print_json(
            {
                "run": run,
                "finished": result is not None,
                "parameters": stored,
                "result": None if result is None else as_json(result, minimum),
                "history": rows,
                "workers": folder.workers(),
            }
        )
        return
    printed = [_state(folder.path, result is not None), *_parameters(stored)]
    found = result or folder.result(PARTIAL)
    if found is not None:
        printed += ["", *lines(found, minimum)]
    crew = _crew(folder.workers())
    if crew:
        printed += ["", *crew]
    if rows:
        printed += ["", *_history(rows)]
    print("\n".join(printed))


def _code(stored: Any, result: Any, language: str | None, ops: int | None) -> str:
    """A program that a run has found.

    Raises
    ------
    InputError
        If it has found none, or does not look for programs.
    """
    from zoo import methods
    from zoo.errors import InputError

    study = methods.get(stored["method"]).study_module()
    if not hasattr(study, "code"):
        raise InputError(f"--emit and --ops are for runs of autonumerics, not {stored['method']}")
    if language is None:
        raise InputError("--ops goes with --emit or --plot")
    if result is None:
        raise InputError("the run has no result yet")
    return str(study.code(result, language, ops))


def _picture(stored: Any, result: Any, path: str, ops: int | None) -> bool:
    """Draw what is special to a method into a file; False: there is no such thing.

    Raises
    ------
    InputError
        If it cannot be drawn.
    """
    from zoo import methods
    from zoo.errors import InputError

    study = methods.get(stored["method"]).study_module()
    if not hasattr(study, "picture") or result is None:
        if ops is not None:
            raise InputError("--ops is for finished runs of autonumerics")
        return False
    from cli.execution import stdout_for_results
    from cli.figure import empty_figure
    from cli.plot import save

    figure = empty_figure(11.0, 4.6, 150, "plot")
    with stdout_for_results():  # a target may print
        study.picture(figure, stored, result, ops)
    save(figure, path)
    return True


def _state(path: Path, finished: bool) -> str:
    if finished:
        return f"{path}: finished"
    written = [file.stat().st_mtime for file in path.iterdir() if file.is_file()]
    age = max(0.0, time.time() - max(written, default=0.0))
    return (
        f"{path}: not finished, last written {age:.0f} s ago; "
        f"'zoo resume {path}' continues it unless it is running"
    )


def _parameters(stored: dict[str, Any]) -> list[str]:
    from cli.table import columns
    from zoo import methods
    from zoo.config import options_of

    defaults: dict[str, Any] = {}
    if stored["method"] in methods.METHODS:
        config = methods.get(stored["method"]).config_class()
        defaults = {name: str(field.default) for name, (field, _, _) in options_of(config).items()}
    changed = _words(
        {k: v for k, v in stored["config"].items() if str(v) != defaults.get(k, "None")}
    )
    problem = {k: v for k, v in stored["problem"].items() if v not in (None, False)}
    rows = [
        ("problem", _words(problem)),
        ("budget", _words({k: v for k, v in stored["budget"].items() if v is not None})),
        ("method", f"{stored['method']}, seed {stored['seed']}"),
        ("options", f"{changed}; the others have their defaults" if changed else "all defaults"),
    ]
    return [f"  {line}" for line in columns([row for row in rows if row[1]])]


def _crew(events: list[dict[str, Any]]) -> list[str]:
    """Who worked, who was lost, what was replayed; the last ones of many."""
    from cli.table import columns

    names: dict[int, str] = {}
    cells = []
    for event in events:
        names[event["worker"]] = event.get("name", names.get(event["worker"], "?"))
        what = {
            "joined": lambda e: f"on node {e['node']}",
            "lost": lambda e: f"{e['why']}, with shards {_listed(e['shards'])}".removesuffix(
                ", with shards none"
            ),
            "replayed": lambda e: f"shards {_listed(e['shards'])}, {e['messages']:,} messages",
        }[event["event"]](event)
        clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        cells.append([clock, "worker", names[event["worker"]], event["event"], what])
    kinds = Counter(event["event"] for event in events)
    shown = [f"  {line}" for line in columns(cells[-2 * _ROWS :])]
    if len(cells) > len(shown):
        shown.insert(0, f"  ... of {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")
    return shown


def _listed(shards: list[int]) -> str:
    text = ", ".join(map(str, shards[:8]))
    return (text + ", ..." * (len(shards) > 8)) or "none"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _history(rows: list[dict[str, Any]]) -> list[str]:
    from cli.summary import number
    from cli.table import columns

    heads = list(rows[-1])
    cells = [[number(row.get(head)) for head in heads] for row in rows[-_ROWS:]]
    return [f"  {line}" for line in columns(cells, heads=heads, right=True)]
