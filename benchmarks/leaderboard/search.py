"""Search with codes on SCOP domains: does the chain of the same superfamily rank before strangers?

python -m benchmarks.leaderboard.search --data ../shared/structtokenbench

Domains are one a sequence cluster. Folds are dealt into two halves: alignments of homologs in one
half make the counted matrices, the other half is searched, each domain with all others. Hits of the
query's superfamily are right, hits of another fold wrong, others do not count. TM-align ranks the
same pairs as the standard. Rows of tokenizers that are gone stay in the result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

import protok
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import PACKAGES, provenance, write
from benchmarks.tables.speed import BEFORE
from protok.analysis.database import Database
from protok.analysis.search import search
from protok.analysis.substitution import Matrix, default_matrix, of_alignments, tm_alignment
from protok.bench.data.folder import Folder
from protok.bench.data.source import digest
from protok.bench.measures.scores import spearman
from protok.tokenizers.protocol import HasCodeVectors, codes_alone, ids_of
from protok.tokens.tokens import Tokens

TOKENIZERS = ("protok-1", "3di", "protein-blocks")
SHORTEST, LONGEST = 40, 400


def domains(folder: Folder, size: int) -> tuple[list, list]:
    """Domains of superfamilies with at least two: those to learn from, and those to search."""
    first = {}
    for domain in sorted(folder.domains(), key=lambda d: (d.id, d.rows)):
        if domain.superfamily and SHORTEST <= domain.rows[1] - domain.rows[0] <= LONGEST:
            first.setdefault((domain.cluster, domain.fold), domain)
    halves: tuple[list, list] = [], []
    for domain in first.values():
        halves[hashlib.sha256(domain.fold.encode()).digest()[0] % 2].append(domain)
    return tuple(paired(half, size) for half in halves)


def paired(half: list, size: int) -> list:
    """Whole superfamilies in random order until there are `size` domains."""
    groups = defaultdict(list)
    for domain in half:
        groups[domain.superfamily].append(domain)
    groups = {key: group for key, group in groups.items() if len(group) > 1}
    out: list = []
    for key in np.random.default_rng(0).permutation(sorted(groups)):
        out += groups[key][:6]  # no superfamily decides
        if len(out) >= size:
            break
    return out


def cut(folder: Folder, domain) -> protok.Backbone:
    """The domain as a structure of its own."""
    return folder.structure(domain.id)[np.arange(*domain.rows)]


def named(tokens: Tokens, number: int) -> Tokens:
    """The tokens under a name that no other domain has."""
    return replace(tokens, name=f"d{number:04d}", chain=np.full(len(tokens), "A"))


def counted(folder: Folder, learn: list, tokenizer, aligned: list) -> Matrix:
    """Matrix of the aligned homologs of one half."""
    codes = ids_of(tokenizer, [cut(folder, domain) for domain in learn])
    vectors = tokenizer.code_vectors() if isinstance(tokenizer, HasCodeVectors) else None
    pairs = ((codes[i][at[:, 0]], codes[j][at[:, 1]]) for i, j, at in aligned)
    return of_alignments(pairs, tokenizer.codebook, tokenizer.size, vectors)


def rank(scores: np.ndarray, half: list) -> dict:
    """Measures of a (query, target) table of scores; higher is better, -inf is no hit."""
    superfamily, fold = (np.array([getattr(d, key) for d in half]) for key in ("superfamily", "fold"))
    top, sensitivity, precision = [], [], []
    for i, row in enumerate(scores):
        right = superfamily == superfamily[i]
        counts = right | (fold != fold[i])
        counts[i] = right[i] = False
        order = np.flatnonzero(counts)
        order = order[np.argsort(-row[order], kind="stable")]
        hits = right[order] & np.isfinite(row[order])
        wrong = ~right[order] & np.isfinite(row[order])
        before = hits[: int(np.argmax(wrong)) if wrong.any() else len(hits)]
        top.append(float(hits[0]))
        sensitivity.append(before.sum() / right.sum())
        ranks = np.flatnonzero(hits) + 1
        precision.append((np.arange(1, len(ranks) + 1) / ranks).sum() / right.sum())
    return {
        key: {"value": float(np.mean(v)), "se": float(np.std(v, ddof=1) / math.sqrt(len(v)))}
        for key, v in (("top1", top), ("sensitivity", sensitivity), ("precision", precision))
    }


def searched(half: list, tokens: list[Tokens], matrix: Matrix, tm: np.ndarray) -> dict:
    """Search each domain among all."""
    database = Database(tokens)
    place = {chain.label: i for i, chain in enumerate(database.chains)}
    n = len(half)
    expect, similar = np.full((n, n), -np.inf), np.zeros((n, n))
    begin = time.process_time()
    for i, query in enumerate(tokens):
        for hit in search(query, database, matrix, candidates=n):
            j = place[hit.target]
            # Beyond the range of floats, the score decides.
            expect[i, j] = -math.log(max(hit.evalue, 1e-300)) + 1e-6 * hit.score
            similar[i, j] = hit.normalised
    seconds = time.process_time() - begin
    fold = np.array([d.fold for d in half])
    strangers = fold[:, None] != fold
    return rank(expect, half) | {
        "spearman_tm": float(spearman(similar[np.triu_indices(n, 1)], tm[np.triu_indices(n, 1)])),
        "strangers_at_1": float((strangers & (expect >= 0)).sum() / n),
        "cpu_seconds": round(seconds, 1),
        "matrix": matrix.origin,
    }


def timed(tokens: list[Tokens], matrix: Matrix, chains: int) -> dict:
    """One search in a database of that many chains, the domains over and over."""
    many = [replace(tokens[i % len(tokens)], name=f"c{i}") for i in range(chains)]
    database = Database(many)
    query = sorted(tokens, key=len)[len(tokens) // 2]
    begin = time.process_time()
    search(query, database, matrix)
    return {
        "chains": chains,
        "residues": int(sum(map(len, many))),
        "query": len(query),
        "cpu_seconds": round(time.process_time() - begin, 2),
    }


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "structtokenbench")
    parser.add_argument("--model", action="append", help=f"default: {', '.join(TOKENIZERS)}")
    parser.add_argument("--size", type=int, default=40, help="domains of each half, about")
    parser.add_argument("--chains", type=int, default=10_000, help="of the database for the time")
    parser.add_argument("--out", type=Path, default=RESULTS / "search.json")
    arguments = parser.parse_args()
    folder = Folder(arguments.data)
    learn, test = domains(folder, arguments.size)
    structures = [cut(folder, domain) for domain in learn]
    aligned = []
    for i, j in combinations(range(len(learn)), 2):
        if learn[i].superfamily == learn[j].superfamily:
            score, at = tm_alignment(structures[i], structures[j])
            if score >= 0.5:
                aligned.append((i, j, at))
    print(f"{len(learn)} domains to learn from, {len(aligned)} pairs; {len(test)} to search")
    structures = [cut(folder, domain) for domain in test]
    tm = np.eye(len(test))
    for i, j in combinations(range(len(test)), 2):
        tm[i, j] = tm[j, i] = tm_alignment(structures[i], structures[j])[0]
    old = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    rows = [{"tokenizer": "TM-align", **rank(tm, test)}, *(row for row in old if row["tokenizer"] in BEFORE)]
    print(rows[0], flush=True)
    for name in arguments.model or TOKENIZERS:
        tokenizer = protok.load(name)
        pieces = codes_alone(tokenizer, [cut(folder, d) for d in test])
        alone = [named(tokens, i) for i, tokens in enumerate(pieces)]
        ids = list({d.id: None for d in test})
        chains = dict(zip(ids, codes_alone(tokenizer, [folder.structure(id) for id in ids]), strict=True))
        whole = [named(chains[d.id][slice(*d.rows)], i) for i, d in enumerate(test)]
        usage = Database(alone).usage()
        matrices = {
            "default": default_matrix(tokenizer, usage),
            "counted": counted(folder, learn, tokenizer, aligned),
        }
        for kind, matrix in matrices.items():
            for setting, tokens in (("cut out", alone), ("in their chains", whole)):
                if kind == "counted" and setting != "cut out":
                    continue
                row = {"tokenizer": tokenizer.codebook, "kind": kind, "domains": setting}
                row |= searched(test, tokens, matrix, tm)
                if kind == "default" and setting == "cut out":
                    row["time"] = timed(alone, matrix, arguments.chains)
                rows.append(row)
                print(row, flush=True)
    write(
        arguments.out,
        provenance(
            "python -m benchmarks.leaderboard.search",
            packages=(*PACKAGES, "tmtools"),
            data={
                "name": "SCOP 2 domains, one a sequence cluster",
                "sha256": digest(folder, learn + test, sorted({d.id for d in learn + test})),
                "learned_from": {"domains": len(learn), "pairs": len(aligned)},
                "searched": {
                    "domains": len(test),
                    "superfamilies": len({d.superfamily for d in test}),
                    "folds": len({d.fold for d in test}),
                },
            },
            seed=0,
            rows=rows,
        ),
    )


if __name__ == "__main__":
    without_traceback(main)
