"""Search on SCOPe domains: what share of its relatives does a query rank before the first stranger?

    python -m benchmarks.leaderboard.search --half A            # half A of the folds, on which is tuned
    python -m benchmarks.leaderboard.search --half B            # half B, which is reported
    python -m benchmarks.leaderboard.search --half A --model 3di+protok-1:environment

SCOPe domains, at most 40 % alike, of folds that were kept aside; `folds.tsv` deals these into halves. Each
query is searched among whole chains that are one domain, and among chains that hold domains among others.
As in Foldseek's benchmark (van Kempen et al. 2023) relatives are those of its family, of its superfamily
beyond that, of its fold beyond that, and a stranger is of another fold. All rows go through the same search;
`a+b` adds the scores of two alphabets. TM-align ranks the same chains for some of the queries.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import protok
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import PACKAGES, digest, provenance, write
from protok.analysis.database import Database
from protok.analysis.hits import Hit
from protok.analysis.search import search
from protok.analysis.substitution import Matrix, default_matrices, tm_alignment
from protok.bench.measures.scores import mean_of
from protok.structure.backbone import Backbone
from protok.structure.store import read_store
from protok.tokenizers.protocol import codes_alone
from protok.tokens.environment import Environment
from protok.tokens.tokens import Tokens

MODELS = (
    "protok-1",
    "protok-1:environment",
    "protok-1+protok-1:environment",
    "3di",
    "3di+protok-1:environment",
    "protein-blocks",
)
FOLDS = Path(__file__).with_name("folds.tsv")
#: Relatives, the nearer first; each without those before it.
LEVELS = ("family", "superfamily", "fold")
WHOLE, WITHIN = "whole", "within"
STANDARD = "TM-align"


@dataclass(frozen=True)
class Chain:
    """A chain with the families of its domains, `a.1.1.2`."""

    backbone: Backbone
    families: tuple[str, ...]

    def related(self, family: str) -> int:
        """How nearly it is related to a domain of a family: an index of `LEVELS`, or 3 for a stranger."""
        return min(_apart(family, own) for own in self.families)


@lru_cache(None)
def _apart(first: str, second: str) -> int:
    same = [a == b for a, b in zip(first.split("."), second.split("."), strict=True)]
    return next(level for level, n in enumerate((4, 3, 2, 0)) if all(same[:n]))


def chains(path: Path, half: str) -> dict[str, list[Chain]]:
    """Chains all of whose folds are in a half: those that are one domain, and others."""
    with FOLDS.open(encoding="utf-8", newline="") as lines:
        halves = {row["fold"]: row["half"] for row in csv.DictReader(lines, delimiter="\t")}
    store, table = read_store(path), pq.read_table(path, columns=["family", "whole"]).to_pydict()
    out: dict[str, list[Chain]] = {WHOLE: [], WITHIN: []}
    for number, (families, whole) in enumerate(zip(table["family"], table["whole"], strict=True)):
        if {halves[family.rsplit(".", 2)[0]] for family in families} != {half}:
            continue
        kind = WHOLE if whole and len(families) == 1 else WITHIN
        backbone = replace(store.backbone(number), name=f"{kind}{len(out[kind]):05d}")
        out[kind].append(Chain(backbone, tuple(families)))
    return out


def queries(whole: Sequence[Chain], most: int) -> list[int]:
    """Domains with a relative of their superfamily, drawn at random."""
    size = Counter(chain.families[0].rsplit(".", 1)[0] for chain in whole)
    fit = [n for n, chain in enumerate(whole) if size[chain.families[0].rsplit(".", 1)[0]] > 1]
    return np.random.default_rng(0).permutation(fit)[:most].tolist()


def encoded(name: str, structures: Sequence[Backbone]) -> tuple[list[Tokens], list[Matrix]]:
    """Tokens by one alphabet, or two with the second beside the first, and what their letters score."""
    tokens, usages = [], []
    tokenizers = [protok.load(part) for part in name.split("+")]
    for tokenizer in tokenizers:
        codes = codes_alone(tokenizer, structures)
        letters = np.concatenate([t.ids[t.ids >= 0] for t in codes])
        usages.append(np.bincount(letters, minlength=tokenizer.size))
        if not tokens:
            tokens = codes
            continue
        beside = [Environment(t.ids, t.size, t.codebook) for t in codes]
        tokens = [replace(t, environment=e) for t, e in zip(tokens, beside, strict=True)]
    return tokens, default_matrices(tokenizers, usages)


def shares(ranked: Sequence[int], relation: np.ndarray) -> list[float]:
    """Of a query's relatives of each level the share that ranks before the first stranger; NaN without any.

    Parameters
    ----------
    ranked
        Chains, the best first, without the query.
    relation
        Of each chain to the query, see `Chain.related`.
    """
    order = np.asarray(ranked, int)
    strangers = np.flatnonzero(relation[order] == len(LEVELS))
    before = relation[order[: strangers[0] if len(strangers) else len(order)]]
    counts = [(relation == level).sum() for level in range(len(LEVELS))]
    return [float((before == level).sum() / n) if n else math.nan for level, n in enumerate(counts)]


def means(rows: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Means over queries that have relatives of a level, with their standard errors."""
    columns = zip(LEVELS, np.array(rows, float).T, strict=True)
    known = {level: column[np.isfinite(column)] for level, column in columns}
    scores = {level: mean_of(column) for level, column in known.items() if len(column) > 1}
    return {k: {"value": s.value, "se": s.se, "queries": len(known[k])} for k, s in scores.items()}


def searched(name: str, held: dict[str, list[Chain]], picked: list[int]) -> dict[str, Any]:
    """A row: both sets, strangers at E <= 1, the same among reversed chains, and what it took."""
    began, result = time.process_time(), {"tokenizer": name}
    tokens = {kind: encoded(name, [chain.backbone for chain in held[kind]]) for kind in held}
    result["encoding_cpu_seconds"] = round(time.process_time() - began, 1)
    matrices = tokens[WHOLE][1]
    result |= {"codebooks": [m.codebook for m in matrices], "matrices": [m.origin for m in matrices]}
    for kind, (codes, _) in tokens.items():
        began = time.process_time()
        database = Database(codes)
        number = {chain.label: int(chain.name[len(kind) :]) for chain in database.chains}
        rows, unexpected = [], []
        for query in picked:
            family = held[WHOLE][query].families[0]
            relation = np.array([chain.related(family) for chain in held[kind]])
            hits = [
                h
                for h in _hits(tokens[WHOLE][0][query], database, matrices)
                if (kind, query) != (WHOLE, number[h.target])
            ]
            if kind == WHOLE:
                relation[query] = -1
            ranked = [number[hit.target] for hit in hits]
            rows.append(shares(ranked, relation))
            unexpected.append(
                sum(h.evalue <= 1 for h, n in zip(hits, ranked, strict=True) if relation[n] == len(LEVELS))
            )
        result[kind] = means(rows) | {
            "strangers_at_1": float(np.mean(unexpected)),
            "cpu_seconds_a_query": round((time.process_time() - began) / len(picked), 2),
        }
    backwards = Database([replace(t[::-1], keyframes=None) for t in tokens[WHOLE][0]])
    counts = [
        sum(h.evalue <= 1 for h in _hits(tokens[WHOLE][0][query], backwards, matrices)) for query in picked
    ]
    return result | {"reversed_at_1": float(np.mean(counts))}


def _hits(query: Tokens, database: Database, matrices: list[Matrix]) -> list[Hit]:
    """All that a search gives, by score: E-values of far hits are all 0."""
    return sorted(search(query, database, matrices), key=lambda hit: -hit.score)


def aligned(held: dict[str, list[Chain]], picked: list[int]) -> dict[str, Any]:
    """The row of TM-align, which ranks whole chains by the mean TM-score."""
    rows = []
    for query in picked:
        chain = held[WHOLE][query]
        relation = np.array([other.related(chain.families[0]) for other in held[WHOLE]])
        scores = np.array([tm_alignment(chain.backbone, other.backbone)[0] for other in held[WHOLE]])
        relation[query] = -1
        rows.append(shares([n for n in np.argsort(-scores, kind="stable").tolist() if n != query], relation))
    return {"tokenizer": STANDARD, WHOLE: means(rows)}


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="project data")
    parser.add_argument("--half", choices=("A", "B"), required=True)
    parser.add_argument("--model", action="append", help=f"instead of {', '.join(MODELS)} and {STANDARD}")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--aligned", type=int, default=20, help=f"queries of {STANDARD}")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.name}/search_HALF.json")
    options = parser.parse_args()
    out = options.out or RESULTS / f"search_{options.half}.json"
    path = options.data / "search" / "scope40_dev.parquet"
    held = chains(path, options.half)
    picked = queries(held[WHOLE], options.queries)
    old = json.loads(out.read_text())["rows"] if out.exists() else []
    rows = {row["tokenizer"]: row for row in old}
    for name in options.model or [*MODELS, STANDARD]:
        if name == STANDARD:
            rows[name] = aligned(held, picked[: options.aligned])
        else:
            rows[name] = searched(name, held, picked)
        print(rows[name], flush=True)
    counts = f"--queries {options.queries} --aligned {options.aligned}"
    about = provenance(
        f"python -m benchmarks.leaderboard.search --half {options.half} {counts}",
        packages=(*PACKAGES, "tmtools"),
        data={"sha256": digest([path]), "queries": len(picked)}
        | {kind: len(of) for kind, of in held.items()},
        seed=0,
        rows=list(rows.values()),
    )
    write(out, about)


if __name__ == "__main__":
    without_traceback(main)
