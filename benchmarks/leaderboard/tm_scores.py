"""TM-scores of the official pairs of conformations, against the targets that StructTokenBench has.

    python -m benchmarks.leaderboard.tm_scores --data ../shared/structtokenbench

Needs `pip install tmtools` and the structures of the pairs with the official targets (a column
`stb_tm` in `sensitivity_pairs.parquet`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance, write
from protok import bench
from protok.analysis.alignment import tm_align


def main() -> None:
    """Align every official pair; one result file."""
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "structtokenbench")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "tm_scores.json")
    options = parser.parse_args()
    path = options.data / "sensitivity_pairs.parquet"
    folder, off = bench.Folder(options.data), defaultdict(list)
    for row in pq.read_table(path).to_pylist():
        if row["stb_tm"] is not None and np.isfinite(row["stb_tm"]):
            first, second = (folder.structure(row[key]) for key in ("file1", "file2"))
            off[row["set"]].append(abs(tm_align(first, second) - row["stb_tm"]))
    every = np.concatenate(list(off.values()))
    sets = {
        name: {"pairs": len(errors), "mean_absolute_error": round(float(np.mean(errors)), 6)}
        for name, errors in off.items()
    }
    about = provenance("python -m benchmarks.leaderboard.tm_scores", ("tmtools", "numpy", "pyarrow"))
    result = {
        "sha256": digest([path]),
        "pairs": len(every),
        "mean_absolute_error": round(float(every.mean()), 6),
        "median_absolute_error": round(float(np.median(every)), 6),
        "largest_error": round(float(every.max()), 6),
        "sets": sets,
    }
    write(options.out, about | result)
    print(result)


if __name__ == "__main__":
    without_traceback(main)
