"""Training chains that are like chains that are tested on.

    python -m recipes.exclude ../shared/structures/train.parquet -o exclude.tsv --jobs 2 \
        --tested tables=../shared/structtokenbench --tested search=../shared/search/scope40_dev.parquet

What is tested is a store, or a folder of task tables: the chains of their test splits.

Writes store, id and what it is like of each chain of the stores that has an alignment with a tested chain of
30 % identity over half of the shorter. Equal names or equal texts do not say that: what was found by them let
a third of the tested chains keep a relative in training. A training leaves them out with
`--set data.exclude=exclude.tsv`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.command import without_traceback
from protok.bench.evaluation import open_data
from protok.common.files import atomic
from protok.common.workers import Lost, run
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.sequence_search import WordIndex

IDENTITY, COVERED = 0.3, 0.5
#: Tested chains of a task of a worker.
TASK = 50


class Search:
    """What a worker does with tested chains: it names the trained ones that are like them.

    Parameters
    ----------
    trained, tested
        Sequences.
    """

    def __init__(self, trained: Sequence[str], tested: Sequence[str]):
        self.trained = len(trained)
        # An index finds what stands before a sequence.
        self.index = WordIndex([*map(_known, trained), *map(_known, tested)])
        self.lengths = [*map(len, trained), *map(len, tested)]

    def __call__(self, numbers: Sequence[int]) -> list[list[int]]:
        """Trained chains that are like each of these."""
        return [self.like(self.trained + number) for number in numbers]

    def like(self, n: int) -> list[int]:
        """Trained chains like the sequence n."""
        out = []
        for other, diagonal in self.index.near(n, skip=lambda other: other >= self.trained):
            match = self.index.align(n, other, diagonal)
            shorter = match.covered[self.lengths[other] < self.lengths[n]]
            if match.identity >= IDENTITY and shorter >= COVERED:
                out.append(other)
        return out


def _known(sequence: str) -> str:
    return "".join(r if r in AMINO_ACIDS else "X" for r in sequence.upper())


def sequences(path: Path) -> dict[str, str]:
    """Sequences of a store by id."""
    table = pq.read_table(path, columns=["id", "seq"]).to_pydict()
    return dict(zip(table["id"], table["seq"], strict=True))


def sequences_of(path: Path) -> list[str]:
    """Sequences of a store, or of the test splits of a folder of task tables."""
    if not path.is_dir():
        return [*sequences(path).values()]
    folder = open_data(path)
    tables = [folder.table(name) for name in folder.tables()]
    ids = {entry.id for table in tables for split in table.tests for entry in table.split(split)}
    return [folder.structure(id).sequence for id in sorted(ids)]


def alike(trained: Sequence[str], tested: Sequence[str], jobs: int = 1) -> set[int]:
    """Numbers of the trained sequences that are like a tested one.

    Raises
    ------
    RuntimeError
        If a worker was lost, and with it what is like a chain.
    """
    tested = [*dict.fromkeys(tested)]
    tasks = [range(n, min(n + TASK, len(tested))) for n in range(0, len(tested), TASK)]
    out: set[int] = set()
    for number, numbers in run(Search, (trained, tested), tasks, jobs=jobs):
        if isinstance(numbers, Lost):
            raise RuntimeError(f"tested chain {number} was lost: {numbers.reason}")
        out.update(numbers)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+", help="Parquet files of training chains")
    parser.add_argument(
        "--tested", action="append", required=True, metavar="WHAT=PATH", help="may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    trained = [(path.stem, *item) for path in options.stores for item in sequences(path).items()]
    reasons: dict[int, list[str]] = {}
    for what, _, path in (text.partition("=") for text in options.tested):
        texts = sequences_of(Path(path))
        numbers = alike([sequence for _, _, sequence in trained], texts, options.jobs)
        print(f"{what}: {len(numbers)} of {len(trained)} training chains are like one of {len(texts)}")
        for number in numbers:
            reasons.setdefault(number, []).append(what)
    with atomic(options.out, newline="") as handle:
        rows = csv.writer(handle, delimiter="\t", lineterminator="\n")
        rows.writerow(("store", "id", "alike_to"))
        rows.writerows((*trained[n][:2], ",".join(reasons[n])) for n in sorted(reasons))
    print(f"{options.out}: {len(reasons)} chains")


if __name__ == "__main__":
    without_traceback(main)
