"""The tools of notebook 33: against other ways to compute the same, and the ready studies of cost."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import QUICK

from dgdd_nb.cost import buy, components, crossed, front, price_list
from dgdd_nb.files import load_settings
from dgdd_nb.results import paired, read_results
from dgdd_nb.study import Study, candidates

ROOT = Path(__file__).resolve().parents[1] / "benchmarks"
PACK = ROOT / "results" / "controls_street.jsonl"
prices = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


@QUICK
@given(prices)
def test_nothing_cheaper_is_as_good_as_a_row_of_the_front(pairs):
    table = pd.DataFrame(pairs, columns=["seconds", "accuracy"])
    best = front(table)
    assert best.seconds.is_monotonic_increasing and best.accuracy.is_monotonic_increasing
    for s, a in pairs:  # each row is reached by one of the front, and beats none of it
        reached = best[(best.seconds <= s) & (best.accuracy >= a)]
        assert len(reached)
        assert not ((best.seconds > s) & (best.accuracy <= a)).any()


def test_components_are_those_of_the_sums_of_squares():
    "Three levels, against the mean squares of the textbook."
    dice, (a, b, n) = np.random.default_rng(0), (4, 3, 5)
    x = dice.normal(size=(a, 1, 1)) * 2 + dice.normal(size=(a, b, 1)) + dice.normal(size=(a, b, n))
    rows = pd.DataFrame(
        [(i, f"{i}/{j}", k, x[i, j, k]) for i, j, k in product(range(a), range(b), range(n))],
        columns=["start", "set", "network", "accuracy"],
    )
    within = ((x - x.mean(2, keepdims=True)) ** 2).sum() / (a * b * (n - 1))
    sets = n * ((x.mean(2) - x.mean((1, 2))[:, None]) ** 2).sum() / (a * (b - 1))
    starts = b * n * ((x.mean((1, 2)) - x.mean()) ** 2).sum() / (a - 1)
    found = components(rows, ["start", "set", "network"])
    assert list(found) == ["start", "set", "network"]
    wanted = {"start": (starts - sets) / (b * n), "set": (sets - within) / n, "network": within}
    assert found == pytest.approx(wanted)
    with pytest.raises(ValueError, match="not balanced"):
        components(rows.iloc[1:], ["start", "set", "network"])
    with pytest.raises(ValueError, match="not balanced: from 1 to 1"):
        components(rows[rows.network == 0], ["set", "network"])


def test_a_sum_of_rows_and_columns_leaves_no_rest():
    a, b = np.array([1.0, 2, 4]), np.array([0.0, 3, 3, 8])
    rows = [(i, j, a[i] + b[j]) for i, j in product(range(3), range(4))]
    rows = pd.DataFrame(rows, columns=["start", "run", "accuracy"])
    wanted = {"start": a.var(ddof=1), "run": b.var(ddof=1), "rest": 0.0}
    assert crossed(rows, "start", "run") == pytest.approx(wanted, abs=1e-12)
    with pytest.raises(ValueError, match="Not every start meets every run"):
        crossed(rows.iloc[1:], "start", "run")


@pytest.mark.parametrize("budget", [100, 7200])
@pytest.mark.parametrize("sets, network, seconds", [(0.7, 13.0, 30), (4.0, 1.0, 5), (0.0, 9.0, 60)])
def test_no_other_number_of_networks_is_better(sets, network, seconds, budget):
    found = buy(sets, network, seconds, 3.0, budget)
    errors = []
    for n in range(1, 2400):
        count = int(budget / (seconds + 3 * n))
        errors.append(((sets + network / n) / count) ** 0.5 if count else math.inf)
    assert found["error"] == min(errors)
    assert found["sets"] * (seconds + 3 * found["networks"]) <= budget
    with pytest.raises(ValueError, match="do not buy a set and a network: give"):
        buy(sets, network, seconds, 3.0, seconds)


def test_a_price_list_says_what_the_paired_differences_say():
    rows = read_results(PACK)
    table = price_list(rows, "DM")
    assert table.seconds.is_monotonic_increasing and table.loc["DM", "times cheaper"] == 1
    for name in set(table.index) - {"DM"}:
        (d,) = paired(rows, name, "DM").values()
        line = table.loc[name]
        assert (line.difference, line.low, line.high) == pytest.approx((d.mean, d.low, d.high))
        assert line.verdict == (
            "not worse" if d.low > -1 else "worse" if d.high < 0 else "undecided"
        )
    assert set(price_list(rows, "DM", smallest=99).verdict) == {"full price", "not worse"}
    few = rows[rows.distillation_seed < 4]
    few.attrs = rows.attrs
    assert set(price_list(few, "DM").verdict) == {"full price", "too few to say"}


@pytest.mark.parametrize("name", ["cost_look", "cost_mini", "cost_front", "cost_digits"])
def test_every_setting_has_as_many_learning_rates(name):
    study = load_settings(Study, ROOT / "tables" / f"{name}.toml")
    assert {len(candidates(method)) for method in study.methods} == {4}
    assert study.baseline in [method.name for method in study.methods]
