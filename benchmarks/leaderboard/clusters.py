"""Clusters of chains by their letters: are those of a cluster relatives, and are relatives in one?

    python -m benchmarks.leaderboard.clusters

SCOPe domains of half A of the folds that were kept aside (`benchmarks.leaderboard.search`), at most 40 %
alike: the share of the pairs in clusters that are of one family, and of one superfamily, and the share of the
pairs of one family that are in a cluster, over the least score; beside it, at the score that `protok cluster`
takes, what aligning each chain with all representatives gives. Near copies are pairs of chains that are 90 %
identical over 80 % of both, among the chains of `valid.parquet` and among human chains: the share in one
cluster.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import without_traceback
from benchmarks.leaderboard.search import WHOLE, Chain, chains, encoded
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance, write
from protok.analysis.cluster import CANDIDATES, COVERAGE, cluster
from protok.analysis.database import Database
from protok.analysis.substitution import Matrix
from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.io.read import read_all
from protok.structure.io.sources.paths import iter_files
from protok.structure.sequence_search import WordIndex
from protok.structure.store import read_store
from protok.tokens.tokens import Tokens

MODELS = ("protok-1", "protok-1+protok-1:environment", "protok-1:environment", "3di")
SCORES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
#: Least identity of near copies.
IDENTITY = 0.9
VALID, HUMAN = "valid", "human"


def clustered(tokens: Sequence[Tokens], matrices: list[Matrix], **options: Any) -> np.ndarray:
    """Number of its cluster of each chain, whose names differ."""
    clusters = cluster(Database(tokens), matrices, **options)
    number = {member: n for n, members in enumerate(clusters.values()) for member in members}
    return np.array([number[chain.label] for chain in tokens])


def relatives(labels: np.ndarray, families: Sequence[str]) -> dict[str, Any]:
    """What clusters of domains are worth, by their families, `a.1.1.2`."""
    upper = np.triu_indices(len(labels), 1)
    together = (labels[:, None] == labels)[upper]
    family, superfamily = (
        (names[:, None] == names)[upper]
        for names in (np.array(families), np.array([name.rsplit(".", 1)[0] for name in families]))
    )
    return {
        "clusters": len(set(labels.tolist())),
        "largest": int(np.unique(labels, return_counts=True)[1].max()),
        "pairs": int(together.sum()),
        "of one superfamily": float(superfamily[together].mean()),
        "of one family": float(family[together].mean()),
        "of families": float(together[family].mean()),
    }


def copies(structures: Sequence[Backbone]) -> list[tuple[int, int]]:
    """Pairs of structures that are nearly identical in sequence."""
    known = ["".join(r if r in AMINO_ACIDS else "X" for r in s.sequence) for s in structures]
    index, pairs = WordIndex(known), []
    for n in range(len(known)):
        for other, diagonal in index.near(n):
            match = index.align(n, other, diagonal)
            if match.identity >= IDENTITY and min(match.covered) >= COVERAGE:
                pairs.append((other, n))
    return pairs


def measured(name: str, domains: Sequence[Chain], others: dict[str, list[Backbone]]) -> dict[str, Any]:
    """A row."""
    tokens, matrices = encoded(name, [domain.backbone for domain in domains])
    families = [domain.families[0] for domain in domains]
    row: dict[str, Any] = {"tokenizer": name, "codebooks": [m.codebook for m in matrices], "scores": {}}
    for score in SCORES:
        row["scores"][f"{score:.2f}"] = relatives(clustered(tokens, matrices, score=score), families)
    for what, candidates in (("default", CANDIDATES), ("all representatives", None)):
        began = time.process_time()
        scores = relatives(clustered(tokens, matrices, candidates=candidates), families)
        row[what] = scores | {"cpu_seconds": round(time.process_time() - began, 1)}
    for kind, structures in others.items():
        pairs, labels = copies(structures), clustered(*encoded(name, structures))
        together = [bool(labels[first] == labels[second]) for first, second in pairs]
        row[kind] = {"pairs": len(pairs), "together": float(np.mean(together))}
    return row


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="project data")
    parser.add_argument("--model", action="append", help=f"instead of {', '.join(MODELS)}")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "clusters.json")
    options = parser.parse_args()
    path, store = (
        options.data / "search" / "scope40_dev.parquet",
        options.data / "structures" / "valid.parquet",
    )
    domains = chains(path, "A")[WHOLE]
    valid = read_store(store)
    files = list(iter_files(options.data / "files" / "chains"))
    human = [chain for _, backbone in read_all(files, []) for chain in backbone.by_chain()]
    others = {VALID: [valid.backbone(n) for n in range(len(valid))], HUMAN: human}
    for structures in others.values():
        structures[:] = [replace(chain, name=f"c{n:05d}") for n, chain in enumerate(structures)]
    old = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows = {row["tokenizer"]: row for row in old}
    for name in options.model or MODELS:
        rows[name] = measured(name, domains, others)
        print(rows[name], flush=True)
    sizes = {"domains": len(domains)} | {kind: len(of) for kind, of in others.items()}
    about = provenance(
        "python -m benchmarks.leaderboard.clusters",
        data={"sha256": digest([path, store, *files])} | sizes,
        rows=list(rows.values()),
    )
    write(options.out, about)


if __name__ == "__main__":
    without_traceback(main)
