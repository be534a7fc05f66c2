"""The sweep of schedules: a cell, and paired differences."""

import pytest

from benchmarks.quantizers import run


def test_a_cell_is_trained_and_says_what_it_reached(tmp_path):
    recipe = run.recipe_of("synthetic") | {"steps": 40, "every": 20, "size": 16}
    result = run.measure(run.Cell("synthetic", "step-w20", 0), recipe, tmp_path)
    assert [row["step"] for row in result["rows"]] == [20, 40] and result["unit"] == "share of variance"
    assert result["rows"][1]["quantized"] < result["rows"][0]["quantized"] < 2
    assert result["final"]["continuous"] < result["final"]["quantized"]


def test_differences_are_paired_by_the_seeds_of_both():
    ours, other = {0: 1.0, 1: 2.0, 2: 3.0, 3: 9.0}, {0: 0.0, 1: 0.0, 2: 3.0}
    gap = run.paired(ours, other)
    # 1, 2 and 0: mean 1, standard error .577, and 4.303 of these for 95 % with two degrees of freedom.
    assert gap == {
        "seeds": 3,
        "mean": 1.0,
        "low": pytest.approx(-1.484, abs=1e-3),
        "high": pytest.approx(3.484, abs=1e-3),
    }
    assert run.paired(ours, {0: 1.0}) is None
