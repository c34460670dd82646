"""The privacy of synthetic tables: accounting, noise, selection, the ledger, and an audit."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evolve.gsd import noise
from evolve.gsd.ledger import Ledger
from evolve.gsd.noise import gaussian, gaussian_rho, measure, sigma_for
from evolve.gsd.privacy import (
    NEIGHBOURS,
    check_budget,
    delta_of,
    epsilon_of,
    rho_of,
    sensitivity,
)
from evolve.gsd.selection import choose, epsilon_for, select, selection_rho
from zoo.errors import InputError, RunError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def opendp():
    return pytest.importorskip("opendp")


needs_opendp = pytest.mark.usefixtures("opendp")


# Accounting


@pytest.mark.parametrize(
    ("epsilon", "printed"),
    [
        (0.07, "8.89868e-05"),
        (0.23, "8.84376e-04"),
        (0.52, "4.26330e-03"),
        (0.74, "8.40321e-03"),
        (1, "1.497306e-02"),
        (3, "1.205824e-01"),
        (10, "1.0907857e+00"),
    ],
)
def test_reference_values(epsilon, printed):
    digits = len(printed.split("e")[0]) - 2
    assert f"{rho_of(epsilon, 1e-9):.{digits}e}" == printed


def test_reference_values_elsewhere():
    assert f"{rho_of(1, 1 / 48842**2):.7f}" == "0.0142703"
    assert f"{rho_of(10000, 1e-5):.0f}" == "9348"
    assert f"{rho_of(9990, 1e-5):.1f}" == "9338.6"


GRID = [(e, d) for e in (1e-6, 1e-3, 0.1, 1, 10, 1e3, 1e5) for d in (1e-30, 1e-9, 1e-2, 0.3)]


def exact_log_delta(rho, epsilon, a):
    """The condition of the paper, to fifty digits; any a > 1 gives a valid bound."""
    rho, epsilon, a = Decimal(rho), Decimal(epsilon), Decimal(a)
    power = (a - 1) * (a * rho - epsilon) + a * (1 - 1 / a).ln()
    return power - (a - 1).ln()


def best_order(rho, epsilon):
    """Where the derivative of the bound's logarithm, (2a-1) rho - epsilon + log(1-1/a), is zero."""
    low, high = 1e-18, 1e18  # a - 1
    for _ in range(300):
        s = math.sqrt(low * high)
        slope = (2 * s + 1) * rho - epsilon - math.log1p(1 / s)
        low, high = (s, high) if slope < 0 else (low, s)
    return Decimal(s) + 1


@pytest.mark.parametrize(("epsilon", "delta"), GRID)
def test_conversion_is_valid_and_tight(epsilon, delta):
    rho = rho_of(epsilon, delta)
    with localcontext() as context:
        context.prec = 50
        wanted = Decimal(delta).ln()
        a = best_order(rho, epsilon)
        assert exact_log_delta(rho, epsilon, a) <= wanted  # a proof for this rho
        more = rho * (1 + 1e-6)
        assert exact_log_delta(more, epsilon, best_order(more, epsilon)) > wanted
        upper = epsilon_of(rho, delta)
        assert exact_log_delta(rho, upper, best_order(rho, upper)) <= wanted
        proven = delta_of(rho, epsilon)
        assert exact_log_delta(rho, epsilon, a) <= Decimal(proven).ln()


@pytest.mark.parametrize(("epsilon", "delta"), GRID)
def test_conversion_round_trips_and_is_monotonic(epsilon, delta):
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) == pytest.approx(epsilon, rel=1e-6)
    assert delta_of(rho, epsilon) == pytest.approx(delta, rel=1e-8)
    assert rho_of(epsilon * 1.01, delta) > rho
    assert rho_of(epsilon, delta * 1.01) > rho
    assert delta_of(rho * 1.01, epsilon) > delta_of(rho, epsilon)
    assert epsilon_of(rho * 1.01, delta) > epsilon_of(rho, delta)


@pytest.mark.parametrize("epsilon", [0.1, 1, 10])
@pytest.mark.parametrize("delta", [1e-12, 1e-9, 1e-5])
def test_conversion_lies_between_closed_forms(epsilon, delta):
    log = math.log(1 / delta)
    simple = (math.sqrt(log + epsilon) - math.sqrt(log)) ** 2  # Bun and Steinke, Proposition 1.3
    rho = rho_of(epsilon, delta)
    assert simple < rho
    mu = math.sqrt(2 * rho)  # the Gaussian mechanism of this rho, exactly (Balle, Wang 2018)
    tight = stats.norm.cdf(mu / 2 - epsilon / mu)
    tight -= math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
    assert delta / 30 < tight < delta


def test_ends_of_the_conversion():
    assert rho_of(math.inf, 1e-9) == math.inf
    assert epsilon_of(math.inf, 1e-9) == math.inf
    assert epsilon_of(0, 1e-9) == 0
    assert epsilon_of(1e-30, 0.5) == 0
    assert delta_of(0, 1) == 0
    assert delta_of(1, math.inf) == 0
    assert delta_of(math.inf, 1) == 1
    assert 0.99 < delta_of(1e3, 0.1) <= 1


@pytest.mark.parametrize("epsilon", [0, -1, math.nan])
def test_epsilon_refused(epsilon):
    with pytest.raises(InputError, match="epsilon must be > 0"):
        rho_of(epsilon, 1e-9)


@pytest.mark.parametrize("delta", [0, 1, -1e-9, 1.5, math.nan, math.inf])
def test_delta_refused(delta):
    for call in (lambda: rho_of(1, delta), lambda: epsilon_of(1, delta)):
        with pytest.raises(InputError, match="delta must be > 0 and < 1"):
            call()


def test_other_arguments_refused():
    with pytest.raises(InputError, match="rho must be >= 0"):
        epsilon_of(-1, 1e-9)
    with pytest.raises(InputError, match="rho must be >= 0"):
        delta_of(math.nan, 1)
    with pytest.raises(InputError, match="epsilon must be >= 0"):
        delta_of(1, -1)
    with pytest.raises(InputError, match="rows must be >= 1"):
        check_budget(1, 1e-9, 0)


def test_delta_against_rows():
    assert check_budget(1, 1e-9) is None
    assert check_budget(1, 1 / 48842**2, 48842) is None
    assert check_budget(math.inf, 1e-9, 100) is None
    assert "above 1/N^2" in check_budget(1, 1e-9, 48842)
    assert "above 1/N^2" in check_budget(1, 1 / 48842, 48842)
    with pytest.raises(InputError, match=r"delta must be at most 1/N = 0\.01 "):
        check_budget(1, 0.0101, 100)


# Neighbours


def test_sensitivity_names():
    assert sensitivity("add-remove") == 1
    assert Fraction(sensitivity("replace-one")) ** 2 >= 2  # rounded up
    with pytest.raises(InputError, match=r"add-remove \| replace-one, got 'swap'"):
        sensitivity("swap")


def test_sensitivity_covers_neighbouring_tables():
    generator = np.random.default_rng(1)
    reached = dict.fromkeys(NEIGHBOURS, 0.0)
    for _ in range(300):
        sizes = generator.integers(1, 5, 3)
        rows = int(generator.integers(1, 20))
        table = generator.integers(0, sizes, (rows, 3))
        row = int(generator.integers(rows))
        other = table.copy()
        other[row] = generator.integers(0, sizes)
        near = {"replace-one": other, "add-remove": np.delete(table, row, axis=0)}
        for neighbours, neighbour in near.items():
            for pair in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
                counts = [
                    np.bincount(
                        np.ravel_multi_index(tuple(t[:, pair].T), sizes[list(pair)]),
                        minlength=int(np.prod(sizes[list(pair)])),
                    )
                    for t in (table, neighbour)
                ]
                change = float(np.linalg.norm(counts[0] - counts[1]))
                assert change <= sensitivity(neighbours)
                reached[neighbours] = max(reached[neighbours], change)
    assert reached == pytest.approx(dict(NEIGHBOURS))


# Noise


def chi_square(noisy, sigma):
    """p-value of the draws against the discrete Gaussian."""
    reach = math.ceil(12 * sigma) + 2
    x = np.arange(-reach, reach + 1)
    p = np.exp(-(x**2) / (2 * sigma**2))
    expected = p / p.sum() * len(noisy)
    observed = np.bincount(noisy + reach, minlength=len(x))
    assert observed.sum() == len(noisy)
    low = int(np.argmax(np.cumsum(expected) >= 10))
    middle = slice(low + 1, len(x) - low - 1)
    pooled = [
        np.r_[v[: low + 1].sum(), v[middle], v[len(x) - low - 1 :].sum()]
        for v in (observed, expected)
    ]
    return stats.chisquare(*pooled).pvalue


@needs_opendp
@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("sigma", [0.5, 3, 78])
def test_noise_is_the_discrete_gaussian(sigma, insecure):
    draws = 60_000
    seed = np.random.default_rng(7) if insecure else None
    noisy = gaussian(np.zeros(draws, np.int64), sigma, insecure_seed=seed)
    assert noisy.dtype == np.int64
    assert chi_square(noisy, sigma) > 1e-6  # fails once in a million runs
    x = np.arange(-1000, 1001)
    p = np.exp(-(x**2) / (2 * sigma**2))
    variance = (x**2 * p).sum() / p.sum()
    assert abs(noisy.mean()) < 5.5 * math.sqrt(variance / draws)
    spread = math.sqrt(((x**4 * p).sum() / p.sum() - variance**2) / draws)
    assert abs((noisy**2).mean() - variance) < 5.5 * spread


@needs_opendp
def test_the_chi_square_sees_a_wrong_sigma_and_rounded_normals():
    noisy = gaussian(np.zeros(60_000, np.int64), 3.2)
    assert chi_square(noisy, 3) < 1e-6
    rounded = np.rint(np.random.default_rng(1).normal(0, 0.5, 60_000)).astype(np.int64)
    assert chi_square(rounded, 0.5) < 1e-6


@needs_opendp
def test_noise_is_added_and_the_shape_kept():
    counts = np.arange(12).reshape(3, 4) * 10**15
    noisy = gaussian(counts, 3)
    assert noisy.shape == (3, 4)
    assert noisy.dtype == np.int64
    assert np.abs(noisy - counts).max() < 60
    assert (counts == np.arange(12).reshape(3, 4) * 10**15).all()
    assert gaussian(np.zeros(0, np.int64), 3).shape == (0,)
    assert gaussian(np.array([2], np.uint8), 1e-6)[0] == 2


@needs_opendp
def test_seeds_do_not_repeat_the_noise():
    draws = []
    for _ in range(2):
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        scores = np.linspace(0, 1, 200)
        draws.append((gaussian(np.zeros(50, np.int64), 100), select(scores, 1, 0.1, 50)))
    assert (draws[0][0] != draws[1][0]).sum() > 40
    assert (draws[0][1] != draws[1][1]).sum() > 40


@needs_opendp
def test_forks_and_threads_do_not_repeat_the_noise():
    zeros = np.zeros(20, np.int64)
    seen = [tuple(gaussian(zeros, 1e6))]
    for _ in range(2):
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.write(theirs, json.dumps(gaussian(zeros, 1e6).tolist()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        seen.append(tuple(json.loads(os.read(ours, 10_000))))
        os.close(ours)
        os.close(theirs)
    threads = [
        threading.Thread(target=lambda: seen.append(tuple(gaussian(zeros, 1e6)))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 6


@needs_opendp
def test_the_insecure_seed_repeats():
    zeros = np.zeros(50, np.int64)
    first, second = (gaussian(zeros, 10, insecure_seed=np.random.default_rng(3)) for _ in range(2))
    assert (first == second).all()


@needs_opendp
def test_noise_is_fast():
    started = time.perf_counter()
    gaussian(np.zeros(10_000, np.int64), 78)
    assert time.perf_counter() - started < 1


@needs_opendp
@pytest.mark.parametrize("neighbours", list(NEIGHBOURS))
@pytest.mark.parametrize("sigma", [1e-3, 0.5, 3, 55.1, 78, 1e4, 1e9])
def test_cost_of_noise_is_rounded_up(sigma, neighbours):
    exact = (1 if neighbours == "add-remove" else 2) / (2 * Fraction(sigma) ** 2)
    rho = gaussian_rho(sigma, sensitivity(neighbours))
    assert Fraction(rho) >= exact
    assert rho == pytest.approx(float(exact), rel=1e-14)


@needs_opendp
@pytest.mark.parametrize("neighbours", list(NEIGHBOURS))
def test_sigma_for_a_share(neighbours):
    for rho in (1e-12, 1.6454e-4, 0.0149731, 1 / 3, 7.0, 9348.24):
        sigma = sigma_for(rho, sensitivity(neighbours))
        cost = gaussian_rho(sigma, sensitivity(neighbours))
        assert rho * (1 - 1e-13) < cost <= rho
    adult = rho_of(1, 1e-9) / 91
    assert sigma_for(adult, sensitivity(neighbours)) == pytest.approx(
        55.1 if neighbours == "add-remove" else 78.0, abs=0.1
    )


@needs_opendp
def test_bad_noise_is_refused_without_telling_the_data():
    for sigma in (0, -1, math.nan, math.inf, 1e-300):
        with pytest.raises(InputError, match="sigma must be >= 1e-06 and <= 1e"):
            gaussian([1], sigma)
    with pytest.raises(InputError, match="counts must be whole numbers, got float64"):
        gaussian([31337.5], 1)
    with pytest.raises(InputError, match="counts must be within") as error:
        gaussian(np.array([2**62 + 31337]), 1)
    assert str(2**62 + 31337) not in str(error.value)
    with pytest.raises(InputError, match="sensitivity must be"):
        gaussian_rho(1, 0)
    for rho in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="rho must be"):
            sigma_for(rho, 1)


def test_missing_opendp_is_told_before_anything_is_charged(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    monkeypatch.setitem(sys.modules, "opendp", None)
    ledger = Ledger.open(tmp_path / "ledger", 1, 1e-9, "add-remove")
    for call in (
        lambda: gaussian([1], 3),
        lambda: measure(ledger, "age", [1], 100),
        lambda: select([1, 2], 1, 0.1),
        lambda: choose(ledger, "which", [1, 2], 1, 0.1),
    ):
        with pytest.raises(InputError, match=r"pip install 'zoo-engine\[gsd\]'"):
            call()
    assert ledger.entries() == ()


# Selection


def ordered_pairs(p):
    """Probability of choosing i, then j among those left."""
    pairs = {}
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                pairs[i, j] = p[i] * p[j] / (1 - p[i])
    return pairs


@needs_opendp
@pytest.mark.parametrize("insecure", [False, True])
def test_selection_is_the_exponential_mechanism(insecure):
    seed = np.random.default_rng(5) if insecure else None
    scores, bound, epsilon, draws = np.array([0.0, 4.0, 1.5, 3.0, -2.0]), 2.0, 1.3, 6_000
    p = np.exp(epsilon * scores / (2 * bound))
    p /= p.sum()
    chosen = [int(select(scores, bound, epsilon, insecure_seed=seed)[0]) for _ in range(draws)]
    assert stats.chisquare(np.bincount(chosen, minlength=5), p * draws).pvalue > 1e-6
    top = [tuple(select(scores, bound, epsilon, 2, insecure_seed=seed)) for _ in range(draws)]
    pairs = ordered_pairs(p)
    observed = [top.count(pair) for pair in pairs]
    assert stats.chisquare(observed, np.array(list(pairs.values())) * draws).pvalue > 1e-6


@needs_opendp
def test_selection_is_without_replacement():
    for scores in (np.zeros(30), np.linspace(0, 9, 30)):
        for many in (1, 7, 30):
            chosen = select(scores, 1, 0.5, many)
            assert chosen.dtype == np.int64
            assert len(set(chosen.tolist())) == many
            assert set(chosen.tolist()) <= set(range(30))
    assert select([0.0, 1e6, 5e5], 1, 1, 2).tolist() == [1, 2]
    assert select([3.0], 1, 1).tolist() == [0]


def test_cost_of_selection():
    assert selection_rho(1) == 0.125
    assert selection_rho(0.5, 8) == 0.25
    for rho in (1e-9, 0.01, 0.3, 5.0):
        for many in (1, 3, 50):
            epsilon = epsilon_for(rho, many)
            assert Fraction(epsilon) ** 2 * many / 8 <= Fraction(rho)
            assert rho * (1 - 1e-14) < selection_rho(epsilon, many) <= rho


@needs_opendp
@pytest.mark.parametrize(("bound", "epsilon"), [(1, 1), (2, 0.3), (1 / 3, 0.07), (100, 9)])
def test_opendp_agrees_on_the_cost_of_selection(bound, epsilon):
    dp = noise.opendp()
    mechanism = dp.m.make_noisy_top_k(
        dp.vector_domain(dp.atom_domain(T="f64", nan=False)),
        dp.linf_distance(T="f64"),
        dp.zero_concentrated_divergence(),
        k=3,
        scale=2 * bound / epsilon,
    )
    assert mechanism.map(float(bound)) == pytest.approx(selection_rho(epsilon, 3), rel=1e-14)


@needs_opendp
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 1), "many must be >= 1 and <= the 0 scores"),
        (([1, 2], 1, 1, 3), "many must be >= 1 and <= the 2 scores, got 3"),
        (([1, 2], 1, 1, 0), "many must be"),
        (([1, math.nan], 1, 1), "finite numbers"),
        (([1, math.inf], 1, 1), "finite numbers"),
        (([[1, 2]], 1, 1), "finite numbers"),
        (([1, 2], 0, 1), "sensitivity must be"),
        (([1, 2], 1, 0), "epsilon must be"),
        (([1, 2], 1, math.inf), "epsilon must be"),
    ],
)
def test_bad_selections_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        select(*arguments)


# The ledger


def open_ledger(path, **changes):
    stated = {"epsilon": 1, "delta": 1e-9, "neighbours": "add-remove", "data": "census"}
    return Ledger.open(path, **(stated | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def in_process(code, *arguments, **options):
    start = "import sys\nfrom evolve.gsd.ledger import Ledger\n"
    start += "ledger = Ledger.open(sys.argv[1], 1, 1e-9, 'add-remove', 'census')\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)


def test_ledger_over_several_runs(path):
    ledger = open_ledger(path)
    assert ledger.rho == ledger.remaining == rho_of(1, 1e-9)
    assert ledger.spent == 0
    entry = ledger.charge("age", 0.005, sigma=np.float64(10), cells=np.int64(85))
    assert ledger.entries() == (entry,)
    again = open_ledger(path)
    assert again == ledger
    again.charge("sex x income", 0.002, sigma=math.inf, names=["sex", "income"])
    assert [e.what for e in ledger.entries()] == ["age", "sex x income"]
    assert ledger.entries()[0].details == {"sigma": 10.0, "cells": 85}
    assert ledger.spent == pytest.approx(0.007, rel=1e-15)
    assert ledger.remaining == pytest.approx(ledger.rho - 0.007, rel=1e-15)
    assert Ledger.read(path) == ledger
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["neighbours"] == "add-remove"
    assert lines[0]["data"] == "census"
    assert next(iter(lines[1])) == "rho"
    assert lines[1]["time"].endswith("+00:00")


def test_ledger_refuses_to_overspend(path):
    ledger = open_ledger(path)
    ledger.charge("age", 0.01)
    before = path.read_bytes()
    for rho in (0.00498, 1.0, ledger.remaining * (1 + 1e-9)):
        with pytest.raises(InputError, match=r"the budget is spent: 'sex' costs .* 0.00497306 is"):
            ledger.charge("sex", rho)
    for rho in (0, -0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="a charge must be > 0 and finite"):
            ledger.charge("sex", rho)
    assert path.read_bytes() == before
    ledger.charge("sex", ledger.remaining)
    with pytest.raises(InputError, match="the budget is spent"):
        ledger.charge("race", ledger.rho * 1e-12)


@pytest.mark.parametrize("shares", [3, 7, 91, 364])
def test_shares_add_up_to_the_budget(path, shares):
    ledger = open_ledger(path)
    for share in range(shares):
        ledger.charge(str(share), ledger.rho / shares)
    assert ledger.spent == pytest.approx(ledger.rho, rel=1e-9)
    assert ledger.remaining <= 1e-9 * ledger.rho
    with pytest.raises(InputError, match="the budget is spent"):
        ledger.charge("more", ledger.rho / shares)


@needs_opendp
def test_shares_of_measuring_and_choosing_add_up(path):
    ledger = open_ledger(path, neighbours="replace-one")
    first, rounds = 0.2 * ledger.rho, 0.8 * ledger.rho / 10
    for name in range(14):
        measure(ledger, str(name), [3, 4], sigma_for(first / 14, sensitivity("replace-one")))
    for _ in range(10):
        choose(ledger, "which", np.arange(9), 1, epsilon_for(0.4 * rounds, 3), 3)
        for _ in range(3):
            measure(ledger, "x", [1], sigma_for(0.6 * rounds / 3, sensitivity("replace-one")))
    assert ledger.spent == pytest.approx(ledger.rho, rel=1e-9)
    assert delta_of(ledger.spent, 1) <= 1e-9 * (1 + 1e-9)
    entries = ledger.entries()
    assert len(entries) == 14 + 10 + 30
    assert entries[0].details["mechanism"] == "discrete gaussian"
    assert entries[0].details["sensitivity"] == sensitivity("replace-one")
    assert entries[14].details["mechanism"] == "exponential"


@needs_opendp
def test_what_cannot_be_measured_is_not_charged(path):
    ledger = open_ledger(path)
    for call in (
        lambda: measure(ledger, "age", [1.5], 100),
        lambda: measure(ledger, "age", [1], 0),
        lambda: measure(ledger, "age", [1], 0.01),
        lambda: measure(ledger, "age", [1], 100, insecure_seed=np.random.default_rng(1)),
        lambda: choose(ledger, "which", [1], 1, 0.1, 2),
        lambda: choose(ledger, "which", [1], 0, 0.1),
        lambda: choose(ledger, "which", [1], 1, 10),
    ):
        with pytest.raises(InputError):
            call()
    assert ledger.entries() == ()


@needs_opendp
def test_a_ledger_of_insecure_noise_says_so(path):
    ledger = open_ledger(path, private=False)
    draws = [
        measure(ledger, "age", np.zeros(20, int), 100, insecure_seed=np.random.default_rng(1))
        for _ in range(2)
    ]
    assert (draws[0] == draws[1]).all()
    assert not Ledger.read(path).private
    with pytest.raises(InputError, match="insecure_seed goes with"):
        measure(ledger, "age", [1], 100)
    with pytest.raises(InputError, match="private False, not True"):
        open_ledger(path)


@needs_opendp
def test_noise_is_drawn_after_the_charge_is_on_the_disk(path, monkeypatch):
    ledger = open_ledger(path)
    steps = []
    sync, draw = os.fsync, noise.gaussian

    def synced(file):
        sync(file)
        steps.append("synced")

    def drawn(*arguments, **options):
        steps.append("drawn")
        return draw(*arguments, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(noise, "gaussian", drawn)
    measure(ledger, "age", [1], 100)
    assert steps == ["synced", "drawn"]

    def broken(file):
        raise OSError(5, "Input/output error")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RunError, match=r"cannot write .*Input/output error"):
        measure(ledger, "sex", [1], 100)
    assert steps == ["synced", "drawn"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 2}, r"epsilon 1.0, not 2.0$"),
        ({"delta": 1e-8}, "delta 1e-09, not 1e-08"),
        ({"neighbours": "replace-one"}, "neighbours 'add-remove', not 'replace-one'"),
        ({"data": "survey"}, "data 'census', not 'survey'"),
        ({"private": False}, "private True, not False"),
        ({"epsilon": -1}, "epsilon must be > 0"),
        ({"delta": 2}, "delta must be"),
        ({"neighbours": "other"}, "neighbours must be"),
        ({"epsilon": math.inf}, "finite epsilon"),
    ],
)
def test_a_second_run_states_the_same(path, changes, message):
    open_ledger(path).charge("age", 0.001)
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        open_ledger(path, **changes)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"age,sex\n1,2\n",
        b"\x93NUMPY\xff\xfe\x00",
        b"[1, 2]\n",
        b"{}\n",
        b"\n",
        b'{"ledger": "zoo gsd ledger 1", "epsilon": 1.0}\n',
        b'{"ledger": "zoo gsd ledger 1", "time": "", "eps',
        b'{"ledger": "zoo gsd ledger 2", "time": ""}\n',
    ],
)
def test_not_a_ledger(path, content):
    path.write_bytes(content)
    for call in (lambda: open_ledger(path), lambda: Ledger.read(path)):
        with pytest.raises(InputError, match="is not a ledger"):
            call()
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["rho", "epsilon", "delta"])
def test_a_raised_budget_is_noticed(path, name):
    ledger = open_ledger(path)
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {name: row[name] * 1.01}) + "\n")
    with pytest.raises(InputError, match=r"not a ledger|is the ledger of another"):
        open_ledger(path)
    with pytest.raises(InputError, match=r"not a ledger|another ledger"):
        ledger.charge("age", 0.001)


def test_unusable_places(tmp_path, path):
    open_ledger(path)
    for place in (path / "ledger", tmp_path / "missing" / "ledger", tmp_path):
        with pytest.raises(InputError, match="cannot open ledger"):
            open_ledger(place)
    with pytest.raises(InputError, match="cannot open ledger"):
        Ledger.read(tmp_path / "none")
    with pytest.raises(InputError, match="not a file"):
        open_ledger("/dev/null")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.geteuid():  # root may write anywhere
        with pytest.raises(InputError, match="Permission denied"):
            open_ledger(locked / "ledger")


def test_a_ledger_that_went_away_is_not_started_again(path):
    ledger = open_ledger(path)
    path.unlink()
    with pytest.raises(InputError, match="cannot open ledger"):
        ledger.charge("age", 0.001)
    assert not path.exists()


def test_an_empty_file_becomes_a_ledger(path):
    path.touch()  # what a crash between creating and writing leaves
    open_ledger(path).charge("age", 0.001)
    assert open_ledger(path).spent == 0.001


def test_every_cut_of_the_last_line_counts_in_full(path):
    ledger = open_ledger(path)
    ledger.charge("age", 0.001)
    kept = path.read_bytes()
    ledger.charge("sex", 0.002, sigma=15.8)
    whole = path.read_bytes()
    for cut in range(len(kept) + 1, len(whole)):
        path.write_bytes(whole[:cut])
        readable = b'{"rho": 0.002,' in whole[len(kept) : cut]
        spent = ledger.spent
        assert spent == pytest.approx(0.003 if readable else ledger.rho, rel=1e-15)
        entries = ledger.entries()
        assert len(entries) == 2
        if cut < len(whole) - 1:
            assert entries[1].what == "line 3, cut short"
            assert entries[1].details == {"damaged": True}
        if readable:
            ledger.charge("race", 0.004)
            assert ledger.spent == pytest.approx(0.007, rel=1e-15)
            assert [e.rho for e in open_ledger(path).entries()] == [0.001, 0.002, 0.004]
        else:
            with pytest.raises(InputError, match=r"the budget is spent: .* 0 is left"):
                ledger.charge("race", 1e-9)


@pytest.mark.parametrize(
    "line",
    [
        "\0" * 40,
        "null",
        '{"rho": -1, "a',
        '{"rho": 0.1.2, "wh',
        '{"rho": NaN, "what": "", "time": "", "details": {}}',
        '{"rho": 1e999, "what": "", "time": "", "details": {}}',
    ],
)
def test_a_damaged_line_spends_all_that_was_left(path, line):
    ledger = open_ledger(path)
    ledger.charge("age", 0.001)
    with path.open("a") as file:
        file.write(line)
    assert ledger.spent == pytest.approx(ledger.rho, rel=1e-15)
    with pytest.raises(InputError, match=r"the budget is spent.* where 1 damaged lines count"):
        ledger.charge("sex", 1e-6)


def test_two_processes_at_once_share_one_budget(path):
    code = """
from zoo.errors import InputError
done = 0
print("ready", flush=True)
try:
    while True:
        ledger.charge(sys.argv[2], ledger.rho / 60)
        done += 1
except InputError:
    print(done)
"""
    runs = [in_process(code, path, name) for name in ("first", "second")]
    done = [int(run.communicate(timeout=60)[0].split()[1]) for run in runs]
    ledger = open_ledger(path)
    assert sum(done) == len(ledger.entries()) == 60
    assert [sum(e.what == name for e in ledger.entries()) for name in ("first", "second")] == done
    assert ledger.spent == pytest.approx(ledger.rho, rel=1e-9)


def test_threads_share_one_budget(path):
    ledger = open_ledger(path)
    refused = []

    def spend():
        for _ in range(10):
            try:
                ledger.charge("x", ledger.rho / 25)
            except InputError as error:
                refused.append(error)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.entries()) == 25
    assert len(refused) == 15


def test_a_killed_process_has_spent_its_charge(path):
    code = """
import time
ledger.charge("age", 0.014, sigma=6.0)
print("charged", flush=True)
time.sleep(60)  # the noise was to be drawn here
"""
    with in_process(code, path) as run:
        assert run.stdout.readline() == "charged\n"
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    ledger = open_ledger(path)
    assert [(e.what, e.rho) for e in ledger.entries()] == [("age", 0.014)]
    with pytest.raises(InputError, match="the budget is spent"):
        ledger.charge("age", 0.014)
    ledger.charge("sex", 0.0009)


def test_kills_at_any_time_leave_whole_charges(path):
    code = "print('ready', flush=True)\nwhile True: ledger.charge('x', ledger.rho / 1e5)"
    seen = 0
    for delay in (0.0, 0.01, 0.02):
        with in_process(code, path) as run:
            run.stdout.readline()
            time.sleep(delay)
            run.kill()
        entries = open_ledger(path).entries()
        assert len(entries) >= seen
        assert all(entry.what == "x" for entry in entries)
        seen = len(entries)


def test_a_full_disk_charges_nothing(path):
    code = """
import resource, signal
from zoo.errors import RunError
ledger.charge("age", 0.001)
size = ledger.path.stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
try:
    ledger.charge("sex", 0.002)
except RunError as error:
    print(error)
assert ledger.path.stat().st_size == size
"""
    with in_process(code, path) as run:
        told, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert told.startswith("cannot write ")
    assert [entry.rho for entry in open_ledger(path).entries()] == [0.001]


# The audit


def audit(epsilon, delta, neighbours, runs=1000, planted=1.0):
    """Lower bound, of 95 % confidence, for the epsilon at ``delta`` of measuring all pairs.

    A table of nine equal rows, and its worst neighbour: with one outlier more, or in place of one.
    The attacker knows both tables and sigma, and says "outlier" when the likelihood ratio of the
    noisy counts is above a threshold set beforehand, so that what its rates of right and wrong
    prove (Clopper, Pearson 1934) is (true - delta) / false. ``planted`` multiplies the noise.
    """
    common, outlier = (0, 0, 0), (1, 1, 1)
    rows = {"add-remove": [common] * 9 + [outlier], "replace-one": [common] * 8 + [outlier]}
    pairs = [(0, 1), (0, 2), (1, 2)]
    counts = np.zeros((2, len(pairs), 4), np.int64)
    for world, table in enumerate(([common] * 9, rows[neighbours])):
        for k, (i, j) in enumerate(pairs):
            for row in table:
                counts[world, k, 2 * row[i] + row[j]] += 1
    change = counts[1] - counts[0]
    sigma = planted * sigma_for(rho_of(epsilon, delta) / len(pairs), sensitivity(neighbours))
    threshold = 2.4 * sigma * np.linalg.norm(change)
    said = [
        sum(((gaussian(world, sigma) - counts[0]) * change).sum() > threshold for _ in range(runs))
        for world in counts
    ]
    false = stats.beta.ppf(0.975, said[0] + 1, runs - said[0])
    true = stats.beta.ppf(0.025, said[1], runs - said[1] + 1) if said[1] else 0.0
    return max(0.0, math.log((true - delta) / false)) if true > delta else 0.0


@needs_opendp
@pytest.mark.parametrize("neighbours", list(NEIGHBOURS))
def test_audit_stays_below_the_claim_and_sees_halved_noise(neighbours):
    # Where 1,000 runs can tell: for delta = 1e-9 they would have to see events of that rarity.
    epsilon, delta = 2.0, 0.1
    assert audit(epsilon, delta, neighbours) <= epsilon
    assert audit(epsilon, delta, neighbours, planted=0.5) > epsilon
