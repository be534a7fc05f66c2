"""Gains of one row of the leaderboard over another, against what is known."""

import numpy as np
import pytest

from benchmarks.leaderboard.compare import differences, holm, mean_of


def test_steps_of_holm():
    # Three p-values by hand: 3 x .01, 2 x .03, and the last not below the one before.
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])


def test_chains_of_several_tables_are_drawn_once_for_all():
    random = np.random.default_rng(0)
    gain = random.normal(0.1, 1.0, 400)
    zero = {f"c{i}": 0.0 for i in range(1600)}

    def table(first):
        return {f"c{first + i}": value for i, value in enumerate(gain)}

    # The same chains in four tables say as much as one of them does; others say more.
    same = differences({str(k): table(0) for k in range(4)}, {str(k): zero for k in range(4)}, 2000)
    apart = differences({str(k): table(400 * k) for k in range(4)}, {str(k): zero for k in range(4)}, 2000)
    width = [np.diff(of["interval"])[0] / 3.92 for of in (same, apart)]
    assert width == pytest.approx([gain.std() / 20, gain.std() / 40], rel=0.1)
    assert same["gain"] == apart["gain"] == pytest.approx(gain.mean(), abs=1e-4)
    assert (same["chains"], apart["chains"]) == (400, 1600)


def test_a_table_is_told_where_all_its_proteins_gain():
    sure, unsure = [1.0, 1.1] * 10, [1.0, -1.0] * 10
    first = {"sure": dict(enumerate(sure)), "unsure": dict(enumerate(unsure)), "only": {0: 1.0}}
    second = {name: dict.fromkeys(range(20), 0.0) for name in ("sure", "unsure")}
    each = differences(first, second, 1000)["each"]
    assert list(each) == ["sure", "unsure"]
    assert each["sure"]["p"] < 0.01 and each["unsure"]["p"] > 0.5


def test_several_trainings_are_their_mean_where_all_have_a_value():
    rows = [{"t": {"a": 0.0, "b": 1.0}, "u": {"a": 1.0}}, {"t": {"a": 1.0}}]
    assert mean_of(rows) == {"t": {"a": 0.5}}
