"""Private-GSD on workers: the same table on any number of them, and nothing private sent there."""

import shutil
import signal

import numpy as np
import pytest
from commands import ran, some_of, start, until
from test_gsd_run import (
    FEW,
    KINDS,
    MORE,
    ONE,
    SEEDED,
    again,
    furnish,
    gsd,
    interrupted,
    measurements,
)
from test_ray import at_step, kill

from evolve.gsd import study
from evolve.gsd.table import read_table
from zoo.runtime.distributed import shards
from zoo.runtime.folder import RunFolder
from zoo.runtime.launch import launch, taken_up

pytest.importorskip("opendp")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path)
    return tmp_path


def on(crew, folder, **options):
    """Result of going on with a run, on workers; it writes the table beside the folder."""
    folder = RunFolder(folder)
    prepared = study.reopen(folder.config(), folder, None)
    snapshot = taken_up(folder)
    return launch(
        prepared,
        crew=crew,
        placement=crew.placement,
        folder=folder,
        snapshot=snapshot,
        **options,
    )


@pytest.mark.parametrize("kind", some_of(KINDS))
def test_the_same_measurements_give_the_same_table(kind, here, capsys, crews):
    first = gsd(capsys, *KINDS[kind], *FEW, "--seed", "5", "--out", "first.csv")
    spent = (here / "people.csv.ledger").read_bytes()
    if "--adaptive" not in KINDS[kind]:
        (here / "people.csv").unlink()
    for count, crew in crews.items():
        to = again(here / "first.run", here / f"on{count}")
        result = on(crew, to)
        for name in ("fun", "rows", "generations", "candidates", "rounds", "error", "status"):
            assert result[name] == first[name], name
        assert to.with_suffix(".csv").read_bytes() == (here / "first.csv").read_bytes()
        assert RunFolder(to).history() == RunFolder("first.run").history()
    assert (here / "people.csv.ledger").read_bytes() == spent


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param(ONE, 0.5, marks=pytest.mark.slow),
        pytest.param(MORE, 0.3, marks=pytest.mark.slow),
        (MORE, 0.8),
    ],
)
def test_a_worker_killed_in_the_middle(kind, part, here, capsys, crews):
    first = gsd(capsys, *kind, *FEW, "--out", "first.csv")
    to = again(here / "first.run", here / "killed")
    callback = at_step(int(part * first["generations"]), lambda: kill(crews[2], 1))
    result = on(crews[2], to, callback=callback)
    assert callback.done
    assert callback.done[0] < first["generations"]
    assert result.workers["lost"] == 1
    assert result.workers["replayed"] == 1
    assert to.with_suffix(".csv").read_bytes() == (here / "first.csv").read_bytes()


@pytest.mark.parametrize("kind", [ONE, MORE])
def test_interrupted_here_and_resumed_on_workers(kind, here, monkeypatch, capsys, crews):
    gsd(capsys, *kind, "--ledger", "whole", "--out", "whole.csv", data=SEEDED)
    interrupted(capsys, monkeypatch, 12, *SEEDED, *kind, "--ledger", "cut", "--out", "cut.csv")
    on(crews[3], "cut.run")
    assert (here / "cut.csv").read_bytes() == (here / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_the_driver_ended_in_a_round(end, here, capsys, cluster, crews):
    search = ["--batch", "32", "--tolerance", "0", "--below-noise", "0", "--candidates", "200000"]
    given = [*SEEDED, *search] if end == signal.SIGINT else [*SEEDED, *MORE, "--batch", "8"]
    there = ["--ray-address", cluster.address, "--cpus-per-worker", "0.2", "--workers", "2"]
    begun = ["run", "gsd", *given, "--ledger", "cut", "--out", "cut.csv"]
    process = start(*begun, *there, "--snapshot-every", "0.05")
    until(lambda: (here / "cut.run" / "snapshot.npz").exists())
    until(lambda: any(row["step"] > 20 for row in RunFolder("cut.run").history()))
    process.send_signal(end)
    process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert RunFolder("cut.run").result() is None
    spent = (here / "cut").read_bytes()
    shutil.copytree("cut.run", "here.run")
    gsd(capsys, "--ledger", "whole", "--out", "whole.csv", data=given)
    on(crews[1], "cut.run")
    assert (here / "cut").read_bytes().startswith(spent)
    assert (here / "cut.csv").read_bytes() == (here / "whole.csv").read_bytes()
    for name, other in zip(measurements("cut.run"), measurements("whole.run"), strict=True):
        np.testing.assert_array_equal(name, other)
    if end == signal.SIGINT:
        (here / "cut.csv").unlink()
        ran(capsys, "resume", "here.run", "--threads", "2")
        assert (here / "cut.csv").read_bytes() == (here / "whole.csv").read_bytes()


@pytest.mark.parametrize("kind", [ONE, MORE])
def test_no_table_of_people_is_sent(kind, here, monkeypatch, crews):
    sent = []

    def recorded(function, content):
        def other(thing):
            found = function(thing)
            sent.append(content(found))
            return found

        return other

    monkeypatch.setattr(shards, "pack", recorded(shards.pack, bytes))
    monkeypatch.setattr(shards, "packed", recorded(shards.packed, lambda found: bytes(found[0])))
    values = {"data": "people.csv", "schema": "people.json", "rows": "300", "batch": 200}
    values |= {"adaptive": True, "rounds": 3} if "--adaptive" in kind else {}
    prepared = study.prepare("gsd", values, 0)
    folder = RunFolder(prepared.folder)
    folder.create(prepared.described)
    launch(prepared, crew=crews[2], placement=crews[2].placement, folder=folder)
    private = read_table("people.csv", study.read_schema("people.json"))
    assert len(sent) > 5

    def found(table):
        """Whether a table is in what was sent, by rows or by columns, as whole numbers."""
        for kind in (np.int16, np.int32, np.int64):
            for part in (table.astype(kind), table.T.astype(kind)):
                if any(np.ascontiguousarray(part).tobytes()[:120] in content for content in sent):
                    return True
        return False

    assert found(prepared.method._initial())  # the search would see it
    assert not found(private)
    assert not any(b"people.csv" in content for content in sent)
