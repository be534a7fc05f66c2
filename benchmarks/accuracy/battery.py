"""The battery of tests of tokenizers, on chains that nobody trained on, with baselines.

    python -m benchmarks.accuracy.battery                              # cells that are not there yet
    python -m benchmarks.accuracy.battery --tasks learnability --model protok-1 3di
    python -m benchmarks.accuracy.battery --test                       # complexes too

What is measured are tasks of `protok bench` (docs/benchmark.md). Cells lie in `--cells`, which begins with
what was packed, and are packed again; a cell that is there is not computed again. Foldcomp stands beside the
task `rate`, where that is among the tasks. `learnability` takes long, and `rate` so for each spacing;
`--quick` is not for the record, and wants `--cells` and `--out` of its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.accuracy import foldcomp
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, RUNS, SHARED
from benchmarks.tables.provenance import provenance
from protok import bench
from protok.bench import results
from protok.bench.data.source import LabelledStructures, digest
from protok.bench.evaluation import LEARNED
from protok.bench.measures.locality import chains_of
from protok.bench.packing import unpack

OUT = RESULTS / "battery.parquet"
#: Baselines first: what knows the sequence, or the place, and nothing else.
ROWS = ("residue-type", "place", "3di", "protein-blocks", "reference-codec-9", "protok-1")
#: Tasks by their group in the file: the place of its data, and which are asked there.
GROUPS = {
    "valid": (
        "structures/valid.parquet",
        ("cut", "stability", "fragments", "length", "learnability", "rate"),
    ),
    "domains": ("structtokenbench", ("domain_in_chain", "homologs")),
    "complexes": ("complexes", ("complexes",)),
}
TEST = "complexes"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=ROWS, help="names or folders")
    parser.add_argument("--tasks", nargs="+", default=sum((of for _, of in GROUPS.values()), ()))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--train", type=Path, default=RUNS / "data" / "train.parquet")
    parser.add_argument("--quick", action="store_true", help="learn for 200 steps, not 2,000")
    parser.add_argument("--test", action="store_true", help="the complexes too: once the design is frozen")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    parser.add_argument("--cells", type=Path, default=RUNS / "battery", help="folder of a file a cell")
    options = parser.parse_args(arguments)
    if options.out.exists() and not options.cells.exists():
        unpack(options.out, options.cells)
    about = provenance("python -m benchmarks.accuracy.battery " + " ".join(sys.argv[1:]))
    for group, (place, tasks) in GROUPS.items():
        asked = [name for name in tasks if name in options.tasks and (group != TEST or options.test)]
        if not asked:
            continue
        if not (options.data / place).exists():
            raise FileNotFoundError(2, "no data", str(options.data / place))
        folder, cells = bench.open_data(options.data / place), options.cells / group
        for task in asked:
            learned = {"train": options.train, "quick": options.quick} if task in LEARNED else {}
            bench.evaluate(options.model, [task], folder, out=cells, about=about, progress=print, **learned)
        if "rate" in asked:
            keep_foldcomp(folder, cells, about)
    bench.pack(options.cells, options.out)


def keep_foldcomp(folder: LabelledStructures, cells: Path, about: dict) -> None:
    """Write the row of Foldcomp beside those of tokenizers, unless it is there."""
    path, (ids,) = results.path_of(cells, "foldcomp", "foldcomp"), folder.sets().values()
    data = digest(folder, (), ids)
    key = results.key_of(data=data)
    if results.cached(path, key):
        return
    scores, failed = foldcomp.measured(chains_of([folder.structure(id) for id in ids]))
    row = results.Result(
        {"name": "foldcomp", "codebook": "", "fingerprint": "", "layer": "", "size": None},
        {"name": "foldcomp", "kind": "structures", "metric": "rmsd", "better": "lower"},
        results.OK,
        scores={"all": {name: asdict(score) for name, score in scores.items()}},
        points={"all": {"failed": failed}},
        key=key,
        data={"sha256": data, "structures": {"all": len(ids)}},
        versions=results.versions(),
        about=about,
    )
    results.save(row, path)
    print("foldcomp", scores, f"{len(failed)} chains failed")


if __name__ == "__main__":
    without_traceback(main)
