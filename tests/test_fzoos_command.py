"""``zoo run fzoos``: what it prints, keeps and refuses."""

import json
import os
import signal

import numpy as np
import pytest
from commands import called, ran, refused

from zoo.fzoos.method import Federation
from zoo.runtime import loop

SMALL = ["--dim", "10", "--clients", "3", "--rounds", "4", "--seed", "1"]
CLIENTS = """
import zoo

def bowl(centre):
    def distance(x):
        return float(((x - centre) ** 2).sum())
    return distance

def three():
    return [zoo.Client(bowl(c), bounds=[(-5, 5)] * 3, name=str(c)) for c in (-1.0, 0.0, 4.0)]

some = three()
no = [1, 2]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CLIENTS)
    return tmp_path


def fzoos(capsys, *arguments):
    return ran(capsys, "run", "fzoos", *arguments)


def test_fields_of_the_result(here, capsys):
    result = fzoos(capsys, *SMALL, "--out", "run")
    assert result["method"] == "fzoos"
    assert result["algorithm"] == "shared"
    assert result["objective"] == "quadratic"
    assert (result["dim"], result["clients"], result["rounds"]) == (10, 3, 4)
    assert result["queries"] == sum(result["queries_each"]) == 3 * 5 * 51
    assert result["gap"] >= 0.0
    assert result["bytes_up"] == 3 * 5 * 51 * 8
    rows = [json.loads(line) for line in (here / "run" / "history.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[-1]["queries"] == result["queries"]
    assert rows[-1]["gap"] == result["gap"]
    keys = ("round", "queries", "fun")
    assert result["history"] == [{key: row[key] for key in keys} for row in rows]


def test_what_people_see(here, capsys):
    code, out, _ = called(capsys, "run", "fzoos", *SMALL, "--quiet", "--out", "run")
    assert code == 0
    assert out.splitlines()[0] == "quadratic (dim 10, 3 clients): shared, seed 1"
    assert "above the minimum" in out
    assert "4 rounds, 765 queries of all clients" in out
    assert "kB up" in out
    code, shown, _ = called(capsys, "show", "run")
    assert code == 0
    assert out.splitlines()[1] in shown


@pytest.mark.parametrize("objective", ["ackley", "levy", "Rastrigin"])
def test_test_functions_are_split(objective, here, capsys):
    """Whatever the clients differ by, their mean is the function itself."""
    from zoo.fzoos.config import FederatedProblem
    from zoo.fzoos.problems import problem_of
    from zoo.objectives.registry import get

    given = FederatedProblem(objective=objective, dim=6, clients=4, heterogeneity=3.0)
    problem = problem_of(given, 5)
    x = np.random.default_rng(0).uniform(problem.lower, problem.upper, (20, 6))
    each = np.array([client.objective.evaluate(x) for client in problem.clients])
    whole = np.array([get(objective).function()(point) for point in x])
    np.testing.assert_allclose(each.mean(0), whole, rtol=1e-9, atol=1e-9)
    assert np.ptp(each, 0).min() > 1e-3
    result = fzoos(capsys, "--objective", objective, *SMALL)
    assert result["gap"] == pytest.approx(result["fun"] - get(objective).minimum(10), abs=1e-6)


@pytest.mark.parametrize("more", [[], ["--condition", "50"], ["--condition", "50", "--rotate"]])
def test_the_quadratics_are_the_papers(more):
    from zoo.config import build
    from zoo.fzoos.config import FederatedProblem
    from zoo.fzoos.problems import split

    given = {"dim": 8, "clients": 4, "heterogeneity": 50.0}
    if more:
        given |= {"condition": 50.0, "rotate": "--rotate" in more}
    problem = split(build(FederatedProblem, given), 2)
    random = np.random.default_rng(1)
    x = random.uniform(-10, 10, (50, 8))
    each = np.array([client.objective.evaluate(x) for client in problem.clients])
    np.testing.assert_allclose(each.mean(0), problem.whole(x), rtol=1e-9)
    if not more:
        np.testing.assert_allclose(problem.whole(x), ((x**2 + x).sum(1) + 1) / 80, rtol=1e-12)
        assert problem.minimum == pytest.approx((-8 / 4 + 1) / 80)
        a = [client.objective.squares * 80 for client in problem.clients]
        shares = (np.array(a) - 1) / 50 + 1 / 4  # a_ij, which sum to one
        np.testing.assert_allclose(shares.sum(0), 1.0)
        assert shares.min() > -1e-12
    near = problem.whole(random.normal(-0.5, 0.01, (50, 8)))
    assert (problem.whole(x) > problem.minimum).all()
    if "--rotate" not in more:
        assert near.min() < problem.minimum + 1e-3
    hessian = np.array(
        [
            [
                sum(
                    s * t * problem.whole((a * s + b * t)[None])[0]
                    for s in (-1, 1)
                    for t in (-1, 1)
                )
                for a in np.eye(8)
            ]
            for b in np.eye(8)
        ]
    )
    spectrum = np.linalg.eigvalsh(hessian)
    assert spectrum[-1] / spectrum[0] == pytest.approx(50.0 if more else 1.0)


@pytest.mark.parametrize("name", ["three", "some"])
def test_clients_of_a_file(name, here, capsys):
    arguments = ["--objective", f"mine.py:{name}", "--rounds", "12", "--survey", "3", "--seed", "1"]
    result = fzoos(capsys, *arguments)
    np.testing.assert_allclose(result["x"], 1.0, atol=1e-2)
    assert result["objective"] == f"mine.py:{name}"
    assert "gap" not in result or result["gap"] is None


def test_interrupted_shown_and_resumed(here, capsys, monkeypatch):
    monkeypatch.setattr(loop, "_TELLING", 0.0)
    monkeypatch.setattr(loop, "_KEEPING", 1e9)
    arguments = ["--algorithm", "fzoos", "--features", "100", "--survey", "5", *SMALL]
    whole = fzoos(capsys, *arguments)
    merge = Federation.merge

    def merged(self, reports):
        merge(self, reports)
        if self._round == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Federation, "merge", merged)
    code, _, err = called(capsys, "run", "fzoos", *arguments, "--out", "run", "--quiet")
    assert code == 130
    assert "'zoo resume run' continues it" in err
    monkeypatch.setattr(Federation, "merge", merge)
    result = ran(capsys, "resume", "run")
    assert result["x"] == whole["x"]
    assert result["queries_each"] == whole["queries_each"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--algorithm", "fzoo"], "algorithm must be .* (did you mean 'fzoos'?)"),
        (["--objective", "ackle"], "unknown objective 'ackle': did you mean 'ackley'"),
        (["--objective", "branin"], "branin has dimension 2"),
        (["--objective", "mine.py:none"], "mine.py has no function 'none'"),
        (["--objective", "mine.py:no"], "must be a list of zoo.Client"),
        (["--objective", "other.py:x"], "does not exist"),
        (["--objective", "mine.py:three", "--dim", "3"], "dim is for test problems"),
        (["--objective", "ackley", "--rotate"], "rotate is for quadratic"),
        (["--participation", "0"], "participation must be > 0"),
        (["--gamma", "x", "--algorithm", "fzoos"], "gamma must be a finite number, or 1/t, got"),
        (["--gamma", "1/t", "--algorithm", "fedprox"], "gamma must be a finite number, got '1/t'"),
        (["--lr", "0.1"], "lr is for decomfl, fedkseed, and not for shared"),
        (["--min-clients", "7"], "min_clients must be at most the 5 clients"),
        (["--rounds", "many"], "rounds"),
        (["--round", "3"], "--round"),
    ],
)
def test_bad_input_is_one_line(given, said, here, capsys):
    import re

    assert re.search(said.replace("(did", r"\(did").replace("?)", r"\?\)"), refused(
        capsys, "run", "fzoos", *given
    ))  # fmt: skip


def test_a_picture(here, capsys):
    fzoos(capsys, *SMALL, "--out", "run")
    code, _, err = called(capsys, "show", "run", "--plot", "run.png")
    assert (code, err) == (0, "")
    assert (here / "run.png").read_bytes()[:4] == b"\x89PNG"
