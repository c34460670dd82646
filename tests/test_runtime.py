"""Run folders, events and the loop."""

import itertools
import json
import time

import numpy as np
import pytest

import zoo
from zoo.errors import RunError
from zoo.runtime import events
from zoo.runtime.folder import PARTIAL, PREVIOUS, SNAPSHOT, RunFolder, to_json

BOUNDS = [(-2.0, 2.0)] * 3


def sphere(x):
    return float(x @ x)


def breaking():
    """An objective that fails after 200 evaluations."""
    calls = itertools.count(1)

    def breaks(x):
        if next(calls) > 200:
            raise OSError("disk full")
        return sphere(x)

    return breaks


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create({"method": "cbo"})
    return folder


def state(value):
    return {"x": np.full((2, 3), value), "n": np.array(7)}


def test_snapshots_come_back_as_they_were(folder):
    assert folder.snapshot() is None
    folder.save(state(1.0), [state(2.0), state(3.0)], 4.5)
    snapshot = folder.snapshot()
    np.testing.assert_array_equal(snapshot.method["x"], state(1.0)["x"])
    np.testing.assert_array_equal(snapshot.shards[1]["x"], state(3.0)["x"])
    assert (snapshot.seconds, snapshot.rows) == (4.5, 0)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_snapshot_falls_back_to_the_one_before(folder, damage):
    folder.save(state(1.0), [state(1.0)], 1.0)
    folder.save(state(2.0), [state(2.0)], 2.0)
    path = folder.path / SNAPSHOT
    content = bytearray(path.read_bytes())
    if damage == "flip":
        at = content.find(np.full((2, 3), 2.0).tobytes())
        content[at + 3] ^= 1
    path.write_bytes({"cut": content[:200], "flip": content, "empty": b""}[damage])
    assert folder.snapshot().seconds == 1.0
    (folder.path / PREVIOUS).write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        folder.snapshot()


def test_a_folder_is_used_once(folder):
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder(folder.path).create({})


def test_unwritable_and_damaged_folders(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").create({})
    with pytest.raises(RunError, match="holds no run"):
        RunFolder(tmp_path / "nothing").config()
    (folder.path / "config.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="format 99"):
        folder.config()
    (folder.path / "config.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        folder.config()


def test_history_survives_a_row_cut_short(folder):
    rows = [{"step": i, "best": 1.0 / (i + 1)} for i in range(5)]
    folder.listen(events.Event(events.PROGRESS, {"rows": rows}))
    with (folder.path / "history.jsonl").open("a") as file:
        file.write('{"step": 5, "be')
    assert folder.history() == rows
    folder.rewind(3)
    assert folder.history() == rows[:3]


def test_json_has_no_nan():
    content = {"a": np.float64("nan"), "b": [np.inf, 1], "c": np.arange(2), "d": True, "e": None}
    assert json.loads(json.dumps(to_json(content), allow_nan=False)) == {
        "a": None,
        "b": [None, 1],
        "c": [0, 1],
        "d": True,
        "e": None,
    }


def test_events_tell_the_run(tmp_path):
    seen = []
    zoo.minimize(
        sphere, BOUNDS, steps=30, particles=10, listeners=[seen.append], out=tmp_path / "run"
    )
    kinds = [event.kind for event in seen]
    assert kinds[0] == events.STARTED
    assert kinds[-1] == events.FINISHED
    assert events.IMPROVED in kinds
    last = [event for event in seen if event.kind == events.PROGRESS][-1].data["progress"]
    assert (last.step, last.done, last.of) == (30, 30, 30)
    history = RunFolder(tmp_path / "run").history()
    assert [row["step"] for row in history] == sorted(row["step"] for row in history)
    assert history[-1]["step"] == 30
    stored = RunFolder(tmp_path / "run").result()
    assert stored["nfev"] == 10 + 300 + 1


def test_a_finished_run_resumes_to_its_result(tmp_path):
    first = zoo.minimize(sphere, BOUNDS, steps=30, particles=10, out=tmp_path / "run")
    again = zoo.resume(tmp_path / "run", sphere, BOUNDS)
    assert again.fun == first.fun
    np.testing.assert_array_equal(again.x, first.x)


def test_one_process_at_a_time(folder):
    with pytest.raises(RunError, match="run already"):
        RunFolder(folder.path).lock()
    folder.unlock()
    other = RunFolder(folder.path)
    other.lock()
    other.unlock()


def test_a_deadline_holds_within_a_step():
    def slow(x):
        time.sleep(0.02)
        return sphere(x)

    started = time.perf_counter()
    result = zoo.minimize(slow, BOUNDS, particles=40, seconds=1.2, steps=1000)
    assert time.perf_counter() - started < 1.6  # a step takes 0.8
    assert result.status == "seconds"
    assert np.isfinite(result.consensus_fun)


def test_a_deadline_that_has_passed_still_gives_a_point():
    result = zoo.minimize(sphere, BOUNDS, seconds=1e-9)
    assert result.status == "seconds"
    assert np.isfinite(result.fun)


def test_what_a_failing_run_had_found_goes_with_the_error(tmp_path):
    with pytest.raises(zoo.ObjectiveError) as error:
        zoo.minimize(breaking(), BOUNDS, particles=10, out=tmp_path / "run")
    assert error.value.result.status == "running"
    assert error.value.result.fun == sphere(error.value.result.x)
    assert RunFolder(tmp_path / "run").result(PARTIAL)["fun"] == error.value.result.fun


def test_a_failure_loses_nothing(tmp_path):
    options = {"steps": 60, "particles": 10, "seed": 5}
    with pytest.raises(zoo.ObjectiveError, match="disk full"):
        zoo.minimize(breaking(), BOUNDS, out=tmp_path / "run", **options)
    mended = zoo.resume(tmp_path / "run", sphere, BOUNDS)
    assert mended.fun == zoo.minimize(sphere, BOUNDS, **options).fun
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(zoo.InputError, match="needs its function"):
        zoo.resume(tmp_path / "run")
