"""What one row of the leaderboard gains over another, protein by protein.

    python -m benchmarks.leaderboard.compare protok-1:environment proteinmpnn:kmeans512

The AUROC within each protein of the site tables, differences paired by protein: the mean over the tables
that both rows have, with a 95 % interval by bootstrap over chains, which are drawn for all tables at once,
since many are in several; and each table by itself by a paired t-test, told by Holm's steps over the tables
(corrected p below .05). Where a row is several trainings (`--seeds A,B` names further rows of the first),
their mean is compared. The intervals are over chains, not over trainings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_1samp

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.leaderboard.run import OUT, PROBES
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import provenance
from protok.bench import Result, load_results
from protok.bench.results import Results

METRIC = "auroc_within_alone"
DRAWS = 10_000
LEVEL = 0.05

#: Of each site table: the value of each protein that has one.
Values = dict[str, dict[str, float]]


def values(results: Results, name: str, metric: str) -> Values:
    """Scores of a row by table and protein.

    Raises
    ------
    SystemExit
        If there is no such row.
    """
    rows = [row for row in results if row.tokenizer["name"] == name and row.task["kind"] == "site"]
    of = {row.task["name"]: each for row in rows if (each := _each(row, metric))}
    if not of:
        raise SystemExit(f"{name} has no site table with {metric}")
    return of


def _each(row: Result, metric: str) -> dict[str, float]:
    score = row.scores.get("test", {}).get(metric)
    names = (row.chosen or {}).get("test_names", {}).get("test", [])
    known = (score or {}).get("each") or []
    # Proteins behind the last that has a label are not listed.
    return {name: value for name, value in zip(names, known, strict=False) if value is not None}


def mean_of(rows: Sequence[Values]) -> Values:
    """The mean of several trainings, where all have a value."""
    tables = set.intersection(*(set(row) for row in rows))
    return {
        table: {
            name: float(np.mean([row[table][name] for row in rows]))
            for name in set.intersection(*(set(row[table]) for row in rows))
        }
        for table in tables
    }


def differences(first: Values, second: Values, draws: int = DRAWS) -> dict[str, Any]:
    """The first row's gain over the second: of all tables together, and of each with its corrected p."""
    tables = sorted(first.keys() & second.keys())
    pairs = [(first[table], second[table]) for table in tables]
    apart = [{name: a[name] - b[name] for name in a.keys() & b.keys()} for a, b in pairs]
    chains = sorted({name for own in apart for name in own})
    gain = np.array([[own.get(name, 0.0) for name in chains] for own in apart])
    there = np.array([[name in own for name in chains] for own in apart], float)
    random = np.random.default_rng(0)
    weights = random.multinomial(len(chains), np.full(len(chains), 1 / len(chains)), draws).astype(float)
    drawn = (weights @ gain.T) / np.maximum(weights @ there.T, 1e-9)  # (draws, tables)
    means = gain.sum(1) / there.sum(1)
    p = np.array([ttest_1samp([*own.values()], 0.0).pvalue if len(own) > 2 else 1.0 for own in apart])
    told, order = holm(p), np.argsort(-means)
    over_tables = drawn.mean(1)
    return {
        "tables": len(tables),
        "chains": len(chains),
        "first": round(_mean(first, tables), 4),
        "second": round(_mean(second, tables), 4),
        "gain": round(float(means.mean()), 4),
        "interval": np.quantile(over_tables, [LEVEL / 2, 1 - LEVEL / 2]).round(4).tolist(),
        "each": {
            tables[i]: {
                "gain": round(float(means[i]), 4),
                "chains": int(there[i].sum()),
                "p": round(float(told[i]), 4),
            }
            for i in order
        },
    }


def _mean(row: Values, tables: Sequence[str]) -> float:
    return float(np.mean([np.mean([*row[table].values()]) for table in tables]))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected by Holm's steps."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="name of a row")
    parser.add_argument("second", help="of the row that it is compared with")
    parser.add_argument("--seeds", default="", metavar="A,B", help="more rows of the first, by seeds")
    parser.add_argument("--metric", default=METRIC, help=f"default: {METRIC}")
    parser.add_argument("--probe", choices=PROBES, default="linear", help="default: linear")
    parser.add_argument("--cells", type=Path, default=OUT, help="results; default: those of the repository")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "gains.parquet")
    options = parser.parse_args(arguments)
    results = load_results(options.cells, options.probe if options.cells.is_file() else "")
    seeds = [options.first, *filter(None, options.seeds.split(","))]
    first = mean_of([values(results, name, options.metric) for name in seeds])
    result = differences(first, values(results, options.second, options.metric))
    told = sum(own["p"] < LEVEL for own in result["each"].values())
    low, high = result["interval"]
    print(f"{result['first']} and {result['second']} on {result['tables']} tables: gain {result['gain']}")
    print(f"95 % interval {low} to {high}; {told} tables are told apart by Holm's steps")
    command = "python -m benchmarks.leaderboard.compare " + " ".join(arguments or sys.argv[1:])
    tables = {row.task["name"]: row.data["sha256"] for row in results if row.task["name"] in result["each"]}
    about = provenance(command, seed=0, sha256=tables)
    fingerprints = {
        row.tokenizer["name"]: row.tokenizer["fingerprint"]
        for row in results
        if row.tokenizer["name"] in (*seeds, options.second)
    }
    result |= {"metric": options.metric, "probe": options.probe, "fingerprints": fingerprints, "rows": seeds}
    name = f"{options.first} over {options.second} ({options.probe}, {options.metric})"
    records.put(options.out, name, about | result | {"over": options.second})


if __name__ == "__main__":
    without_traceback(main)
