"""Search and clusters on SCOPe domains: relatives by families, shares before the first stranger, halves."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.leaderboard import clusters, search
from protok.testing import random_backbone


@pytest.mark.parametrize(
    ("families", "level"),
    [
        (["a.1.1.2"], 0),
        (["a.1.1.3"], 1),
        (["a.1.2.2"], 2),
        (["a.2.1.2"], 3),
        (["b.1.1.2"], 3),
        (["b.1.1.2", "a.1.1.7"], 1),
    ],
)
def test_the_nearest_domain_of_a_chain_says_how_it_is_related(families, level):
    assert search.Chain(random_backbone(5), tuple(families)).related("a.1.1.2") == level


def test_shares_end_at_the_first_stranger():
    relation = np.array([-1, 0, 0, 1, 1, 2, 3, 3])
    assert search.shares([1, 3, 6, 2, 4, 5, 7], relation) == [0.5, 0.5, 0.0]
    assert search.shares([1, 2, 3, 4, 5], relation) == [1.0, 1.0, 1.0]
    assert search.shares([6, 1], relation) == [0.0, 0.0, 0.0]
    assert math.isnan(search.shares([3], np.array([-1, 1, 1, 1]))[0])


def test_folds_are_dealt_into_two_halves():
    lines = search.FOLDS.read_text().splitlines()
    halves = dict(line.split("\t") for line in lines[1:])
    assert lines[0] == "fold\thalf" and len(halves) == len(lines) - 1
    counts = [list(halves.values()).count(half) for half in "AB"]
    assert abs(counts[0] - counts[1]) <= 1


@pytest.fixture
def table(tmp_path):
    """Two families with two domains each, a stranger, a chain with two domains, one of the other half."""
    lines = search.FOLDS.read_text().splitlines()[1:]
    mine = [fold for fold, half in (line.split("\t") for line in lines) if half == "A"]
    other = next(fold for fold, half in (line.split("\t") for line in lines) if half == "B")
    base = [random_backbone(60, seed=n) for n in range(3)]
    families = [f"{mine[0]}.1.1", f"{mine[0]}.1.1", f"{mine[1]}.1.1", f"{mine[1]}.1.2", f"{mine[2]}.1.1"]
    noise = np.random.default_rng(0).normal(0, 0.02, (60, 4, 3)).astype(np.float32)
    shaken = [replace(b, coords=b.coords + noise) for b in base]
    structures = [base[0], shaken[0], base[1], shaken[1], base[2]]
    rows = [(b, [f], True) for b, f in zip(structures, families, strict=True)]
    rows += [(shaken[0], [families[0], families[4]], False), (base[2], [f"{other}.1.1"], True)]
    columns = {
        "id": [f"d{n}" for n in range(len(rows))],
        "seq": [b.sequence for b, _, _ in rows],
        "xyz": [np.round(b.coords * 100).astype(np.int16).ravel() for b, _, _ in rows],
        "family": [f for _, f, _ in rows],
        "whole": [w for _, _, w in rows],
    }
    pq.write_table(pa.table(columns), tmp_path / "domains.parquet")
    return tmp_path / "domains.parquet"


def test_a_row_of_domains_that_are_copies(table):
    held = search.chains(table, "A")
    assert [len(held[kind]) for kind in (search.WHOLE, search.WITHIN)] == [5, 1]
    picked = search.queries(held[search.WHOLE], 10)
    assert sorted(picked) == [0, 1, 2, 3]
    row = search.searched("protok-1+3di", held, picked)
    assert row[search.WHOLE]["family"]["value"] == row[search.WHOLE]["superfamily"]["value"] == 1
    assert row[search.WHOLE]["family"]["queries"] == 2 and len(row["codebooks"]) == 2
    assert row[search.WITHIN]["family"]["value"] == 1
    assert {"strangers_at_1", "cpu_seconds_a_query"} < row[search.WHOLE].keys() and "reversed_at_1" in row


def test_clusters_of_domains_that_are_copies(table):
    domains = search.chains(table, "A")[search.WHOLE]
    copies = [replace(random_backbone(60, seed=5), name=name, sequence="ACDEFGHIKLMN" * 5) for name in "ab"]
    row = clusters.measured(
        "3di", domains, {clusters.VALID: [*copies, replace(random_backbone(60), name="c")]}
    )
    assert row["default"]["clusters"] == row["all representatives"]["clusters"] == 3
    scores = row["scores"]["0.50"]
    assert scores["pairs"] == 2 and scores["of one superfamily"] == scores["of families"] == 1
    assert scores["of one family"] == 0.5
    assert row[clusters.VALID] == {"pairs": 1, "together": 1.0}
