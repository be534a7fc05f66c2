"""Relatives among training chains, and which of their residues correspond.

    python -m recipes.environments.relatives runs/data --jobs 2

A letter should say of a residue what it says of the residue in the same place of a relative. Relatives are
found by sequence: where a profile is known, by its likeliest residues, of which distant ones share more than
of their own. TM-align then says which residues correspond. Writes `relatives.npz` into the folder of
`recipes.promod3`, if no other file is asked for.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import without_traceback
from protok.analysis.substitution import tm_alignment
from protok.common.grouping import packed
from protok.common.workers import Lost, run
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.sequence_search import WordIndex
from protok.structure.store import Store, read_store

NAME = "relatives.npz"
#: Of an alignment of consensus sequences: least identity, share of the shorter, residues.
IDENTITY, COVERED, SHORTEST = 0.25, 0.5, 40
#: Words of so many residues, which likely residues share more of than residues do.
WORD = 4
#: Sequences that are compared with one, and relatives that are kept of it.
CANDIDATES, HITS = 40, 8
#: Chains are paired with at most so many others, those of a cluster with so many together.
EACH, CLUSTER = 3, 10
LONGEST = 450
#: Pairs of which more residues are equal teach nothing, those with a lower TM-score are no relatives.
EQUAL, TM_SCORE = 0.9, 0.5


@dataclass(frozen=True, eq=False)
class Relatives:
    """Pairs of chains of a store.

    Attributes
    ----------
    chains : (pairs, 2)
        Numbers of the chains.
    start : (pairs + 1,)
        Where the rows of each pair begin.
    rows : (n, 2)
        Residues that correspond, of each chain from 0.
    weight : (pairs,)
        Of drawing a pair; they sum to 1.
    """

    chains: np.ndarray
    start: np.ndarray
    rows: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.chains)

    @classmethod
    def read(cls, path: Path, ids: Sequence[str]) -> Relatives:
        """Pairs of a store with these chains.

        Raises
        ------
        ValueError
            If they are of another store.
        """
        with np.load(path) as file:
            if file["ids"].tolist() != list(ids):
                raise ValueError(
                    f"{path} is of another store: make it again (recipes.environments.relatives)"
                )
            return cls(*(file[key] for key in ("chains", "start", "rows", "weight")))


def consensus(store: Store, extras: Path) -> list[str]:
    """The likeliest residues of each chain by its profile; its own residues where it has none."""
    texts = ["".join(r if r in AMINO_ACIDS else "X" for r in s.upper()) for s in store.sequence]
    with np.load(extras) as file:
        profile, ends = file["profile"], np.cumsum(file["length"])
        number = {id: n for n, id in enumerate(store.ids)}
        likeliest = np.array(list(AMINO_ACIDS))[profile.argmax(1)]  # the order of a profile
        likeliest[profile.sum(1) == 0] = "X"
        for id, length, end in zip(file["id"].tolist(), file["length"].tolist(), ends.tolist(), strict=True):
            texts[number[id]] = "".join(likeliest[end - length : end])
    return texts


def alike(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of texts with an alignment as above, the later first."""
    index = WordIndex(texts, word=WORD, candidates=CANDIDATES)
    for n in range(len(texts)):
        hits = 0
        for other, diagonal in index.near(n):
            match = index.align(n, other, diagonal)
            enough = max(match.covered) >= COVERED and len(match.pairs) >= SHORTEST
            if enough and match.identity >= IDENTITY:
                yield n, other
                if (hits := hits + 1) == HITS:
                    break


def chosen(pairs: Sequence[tuple[int, int]], store: Store, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs in random order, so many of a chain and of a cluster."""
    lengths, order = store.lengths(), np.random.default_rng(seed).permutation(len(pairs))
    each, together, out = Counter(), Counter(), []
    for first, second in (pairs[n] for n in order):
        if max(lengths[first], lengths[second]) > LONGEST or min(lengths[first], lengths[second]) < SHORTEST:
            continue
        if max(each[first], each[second]) >= EACH or together[store.cluster[first]] >= CLUSTER:
            continue
        each.update((first, second))
        together[store.cluster[first]] += 1
        out.append((first, second))
    return out


class Aligner:
    """What a worker does with pairs of chains."""

    def __init__(self, path: str):
        self.store = read_store(path)

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Rows that correspond, for each pair; none where they are no relatives, or all but equal."""
        return [self.align(*pair) for pair in pairs]

    def align(self, first: int, second: int) -> np.ndarray:
        """Rows that correspond."""
        a, b = self.store.backbone(first), self.store.backbone(second)
        none = np.zeros((0, 2), np.int32)
        if min(a.mask.sum(), b.mask.sum()) < SHORTEST:
            return none
        score, rows = tm_alignment(a, b)
        rows = rows[a.mask[rows[:, 0]] & b.mask[rows[:, 1]]]
        if score < TM_SCORE or len(rows) < SHORTEST:
            return none
        equal = np.mean([a.sequence[i] == b.sequence[j] for i, j in rows])
        return none if equal > EQUAL else rows.astype(np.int32)


def find(folder: Path, path: Path, jobs: int, most: int) -> Relatives:
    """Find and align relatives in a folder of `recipes.promod3`, and write them to a path."""
    chains = folder / "train.parquet"
    store = read_store(chains)
    pairs = list(alike(consensus(store, folder / "train.extras.npz")))
    kept = chosen(pairs, store)[:most]
    print(f"{len(pairs)} pairs by sequence, {len(kept)} of them to align", flush=True)
    aligned: dict[tuple[int, int], np.ndarray] = {}
    for pair, rows in run(Aligner, (str(chains),), packed(kept, lambda _: 1, 64), jobs=jobs):
        if isinstance(rows, Lost):
            print(f"{store.ids[pair[0]]} and {store.ids[pair[1]]} left out: {rows.reason}")
        elif len(rows):
            aligned[pair] = rows
    order = [pair for pair in kept if pair in aligned]
    rows = [aligned[pair] for pair in order]
    cluster = [store.cluster[first] for first, _ in order]
    size = Counter(cluster)
    # Between drawing each pair alike and each cluster alike.
    weight = np.array([size[name] ** -0.5 for name in cluster])
    out = Relatives(
        np.array(order, np.int32).reshape(-1, 2),
        np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
        np.concatenate(rows) if rows else np.zeros((0, 2), np.int32),
        weight / weight.sum(),
    )
    np.savez_compressed(path, ids=np.array(store.ids), **vars(out))
    print(f"{path}: {len(out)} pairs of {len(size)} clusters, {len(out.rows)} residues")
    return out


def main() -> None:
    """Write the relatives of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of recipes.promod3")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--most", type=int, default=20000, metavar="N", help="pairs to align")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=f"default: FOLDER/{NAME}")
    options = parser.parse_args()
    find(options.folder, options.out or options.folder / NAME, options.jobs, options.most)


if __name__ == "__main__":
    without_traceback(main)
