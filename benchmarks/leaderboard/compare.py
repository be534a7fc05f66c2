"""Two sets of leaderboard cells, table by table: what one model gains over another.

python -m benchmarks.leaderboard.compare benchmarks/results/leaderboard.parquet runs/mine \
    --group linear --rows protok-1 --name mine

Of every row that both have and whose name begins with one of `--rows`, or of the two rows of each
`--pair BEFORE=AFTER` (of one set, given twice): the mean over site tables, before and after, of
the test AUROC and of the probe's score in choosing (cross-validation of the linear probe, which
sees no test split), the gain with its standard error over tables, and in how many tables it is
positive; and how many are above the baseline, of those that both have. One training each: the error
is over tables, not over trainings.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.leaderboard.run import known_floors
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import provenance
from protok.bench import Result, load_results
from protok.bench.results import Results


def gain(before: list[float], after: list[float]) -> dict[str, float | int]:
    """Means and the paired gain."""
    apart = np.subtract(after, before)
    error = apart.std(ddof=1) / len(apart) ** 0.5
    figures = {"before": np.mean(before), "after": np.mean(after), "gain": apart.mean(), "se": error}
    return {k: round(float(v), 4) for k, v in figures.items()} | {"better": int((apart > 0).sum())}


def cells(results: Results) -> dict[str, dict[str, Result]]:
    """Results by tokenizer and task."""
    table: dict[str, dict[str, Result]] = {}
    for row in results:
        table.setdefault(row.tokenizer["name"], {})[row.task["name"]] = row
    return table


def digest(results: Results) -> str:
    """sha256 over the keys of all cells, which cover all that the numbers depend on."""
    return hashlib.sha256("".join(sorted(row.key for row in results)).encode()).hexdigest()


def above(of: dict[str, Result], floors: dict[str, dict], tables: list[str]) -> int:
    """How many of the tables are at or above their baseline."""
    return sum(
        of[name].scores["test"][floor["metric"]]["value"] >= floor["value"]
        for name, floor in floors.items()
        if name in tables
    )


def main(arguments: list[str] | None = None) -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rows", action="append", default=[], help="beginnings of names; all")
    parser.add_argument("--pair", action="append", default=[], help="names of two rows, A=B")
    parser.add_argument("--group", default="", help="of a packed file: its probe")
    parser.add_argument("--name", required=True, help="of the comparison")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "gains.parquet")
    options = parser.parse_args(arguments)
    loaded = [load_results(p, options.group if p.is_file() else "") for p in (options.before, options.after)]
    first, second = map(cells, loaded)
    gains, floors = {}, known_floors()
    rows = tuple(options.rows)
    names = [(n, n) for n in first.keys() & second.keys() if n.startswith(rows or "")]
    for old, new in [pair.split("=") for pair in options.pair] or names:
        before, after = first[old], second[new]
        both = [task for task in before if task in after]
        sites = [t for t in both if before[t].task["kind"] == "site"]
        pairs = [(before[t], after[t]) for t in sites]
        if any(a.data["sha256"] != b.data["sha256"] for a, b in pairs):
            raise SystemExit(f"{new}: cells of different data")
        sides = list(zip(*pairs, strict=True))
        test = [[row.scores["test"]["auroc"]["value"] for row in side] for side in sides]
        chosen = [[row.chosen["valid"] for row in side] for side in sides]
        name = new if old == new else f"{new} over {old}"
        gains[name] = {
            "tables": len(sites),
            "test": gain(*test),
            "choosing": gain(*chosen),
            "floors": sum(task in floors for task in both),
            "above_floor": [above(side, floors, both) for side in (before, after)],
            "fingerprints": [row.tokenizer["fingerprint"] for row in pairs[0]],
        }
        print(name, gains[name])
    about = provenance("python -m benchmarks.leaderboard.compare " + " ".join(arguments or sys.argv[1:]))
    result = about | {"sha256": [digest(side) for side in loaded], "rows": dict(sorted(gains.items()))}
    records.put(options.out, options.name, result)


if __name__ == "__main__":
    without_traceback(main)
