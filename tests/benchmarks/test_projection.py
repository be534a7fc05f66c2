"""The plan of docs/results/speed.md is arithmetic on measured rates."""

import copy

import pytest

from benchmarks.speed import projection as plan

SPEED = {
    "hardware": {"cpu": "a processor"},
    "tools": {
        "shapes and keyframes": {"residues_per_cpu_second": {"reading": 200_000, "total": 10_000}},
        "shapes alone": {"residues_per_cpu_second": {"reading": 200_000, "total": 40_000}},
    },
    "workers": {
        way: {
            "parquet_bytes_per_residue": 5.0,
            "cpu_seconds_of_workers": seconds,
            "cpu_seconds_of_parent": 2.0,
        }
        for way, seconds in (("shapes and keyframes", 80.0), ("shapes alone", 20.0))
    },
    "routes": {
        "cif.gz": {"residues_per_second": 50_000, "bytes_per_residue": 100.0},
        "fcz": {"residues_per_second": 100_000, "bytes_per_residue": 13.0},
    },
    "memory": [{"chains": 1000, "resident_mib": 300}, {"chains": 10_000, "resident_mib": 309}],
}


def test_hours_follow_from_the_rates():
    assumptions = plan.Assumptions(structures=1e6, length=360, cores=10, price=0.5)
    rows = {(row["route"], row["way"]): row for row in plan.costs(SPEED, assumptions)}
    assert set(rows) == {(r, w) for r in ("cif.gz", "fcz") for w in ("shapes and keyframes", "shapes alone")}
    costs = rows["fcz", "shapes and keyframes"]
    # 10 µs to unpack and read, 100 µs in all less 5 µs to read plain files: 105 µs a residue.
    assert costs["core_hours"] == pytest.approx(1e6 * 360 * 105e-6 / 3600)
    assert costs["days"] == pytest.approx(costs["core_hours"] / 240)
    assert costs["price"] == pytest.approx(costs["core_hours"] / 2)
    assert costs["input_bytes"] == pytest.approx(1e6 * 360 * 13)
    assert costs["output_bytes"] == pytest.approx(1e6 * 360 * 5)
    assert rows["cif.gz", "shapes alone"]["core_hours"] == pytest.approx(1e5 * (20 + 25 - 5) * 1e-6)


def test_limits_of_one_job():
    limits = plan.limits(SPEED, plan.Assumptions(structures=1e8))
    assert limits["bytes_per_input"] == pytest.approx(2**20 / 1000)
    assert limits["memory_of_one_job"] == pytest.approx(2**20 * 1e5)
    assert (limits["workers_of_shapes and keyframes"], limits["workers_of_shapes alone"]) == (40, 10)


def test_the_page_leaves_out_what_was_not_measured():
    speed = copy.deepcopy(SPEED)
    text = plan.page(speed, plan.Assumptions())
    assert text.count("\n| ") == 5 and "Foldcomp" in text and "40 workers" in text
    del speed["routes"]["fcz"], speed["workers"]["shapes alone"]
    speed["memory"] = None
    text = plan.page(speed, plan.Assumptions())
    assert text.count("\n| ") == 2 and "Foldcomp" not in text and "keeps" not in text
