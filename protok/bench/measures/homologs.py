"""What codes of a residue tell of those of the residue in its place in a homolog."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from protok.analysis.substitution import BIT, of_alignments, tm_alignment
from protok.bench.data.source import Domain, LabelledStructures
from protok.bench.measures.scores import Score, mean_of
from protok.bench.representations.representation import Representation
from protok.errors import Unsupported

#: Pairs of a superfamily, and of all; TM-score from which on two domains are compared.
EACH, ALL, LEAST = 12, 400, 0.5
#: TM-scores that tell far relatives from near ones.
ALIKE = (LEAST, 0.65, 0.8, 1.01)
#: Parts that superfamilies are dealt into: pairs of one are scored by what is counted in the others.
PARTS = 4


def homologs(
    representation: Representation, folder: LabelledStructures, domains: Sequence[Domain]
) -> tuple[dict[str, Score], dict]:
    """Bits that the code of a residue saves of that of the residue aligned to it in a homolog.

    That is the mean of log2 p(b | a) / p(b) over aligned residues, of pairs of one superfamily that TM-align
    superposes, with p counted in other superfamilies (`protok.analysis.substitution.of_alignments`).

    Returns
    -------
    scores
        `bits` of domains cut out and encoded alone, `bits_inside` of domains in their chains, and the share
        of aligned codes that are equal, beyond what their frequencies give (`agreement`, `agreement_inside`);
        of domains cut out also by the TM-score of the pair (`agreement_tm_0.5_to_0.65`).
    points
        Number of `pairs`, and of each the TM-score (`tm`) and the share of equal codes (`equal`).

    Raises
    ------
    Unsupported
        If the representation has no codes, or too few pairs of domains superpose.
    """
    if representation.continuous:
        raise Unsupported(f"{representation.name} has no codes", "measure its codes")
    chains = [folder.structure(domain.id) for domain in domains]
    alone = [chain[slice(*domain.rows)] for chain, domain in zip(chains, domains, strict=True)]
    aligned, alike = [], []
    for i, j in _pairs(domains):
        score, rows = tm_alignment(alone[i], alone[j])
        if score >= LEAST:
            aligned.append((i, j, rows))
            alike.append(score)
    parts = [zlib.crc32(domains[i].superfamily.encode()) % PARTS for i, _, _ in aligned]
    if len(set(parts)) < 2:
        raise Unsupported(f"{len(aligned)} pairs of domains of one superfamily superpose", "add domains")
    whole = representation.outputs(chains)
    inside = [codes[slice(*domain.rows)] for codes, domain in zip(whole, domains, strict=True)]
    out: dict[str, Score] = {}
    tm, equal = np.array(alike), np.zeros(0)
    for suffix, codes in (("", representation.outputs(alone)), ("_inside", inside)):
        columns = [(codes[i][rows[:, 0]], codes[j][rows[:, 1]]) for i, j, rows in aligned]
        out[f"bits{suffix}"] = mean_of(_saved(representation, columns, parts))
        first, second = (np.concatenate(column) for column in zip(*columns, strict=True))
        both = (first >= 0) & (second >= 0)
        share = np.bincount(np.r_[first[both], second[both]], minlength=representation.size) / (
            2 * both.sum()
        )
        chance = float((share**2).sum())
        same = np.array([(a == b)[(a >= 0) & (b >= 0)].mean() for a, b in columns])
        above = (same - chance) / (1 - chance)
        out[f"agreement{suffix}"] = mean_of(above)
        if not suffix:
            equal = same
            for low, high in pairwise(ALIKE):
                name = f"agreement_tm_{low:g}_to_{min(high, 1):g}"
                out[name] = mean_of(above[(tm >= low) & (tm < high)])
    points = {"pairs": len(aligned), "tm": tm.round(4).tolist(), "equal": equal.round(4).tolist()}
    return out, points


def _pairs(domains: Sequence[Domain]) -> list[tuple[int, int]]:
    """Pairs of one superfamily, in random order, at most so many of each."""
    groups: dict[str, list[int]] = {}
    for number, domain in enumerate(domains):
        if domain.superfamily:
            groups.setdefault(domain.superfamily, []).append(number)
    random = np.random.default_rng(0)
    chosen: list[tuple[int, int]] = []
    for group in groups.values():
        pairs = list(combinations(group, 2))
        chosen += [pairs[k] for k in random.permutation(len(pairs))[:EACH]]
    return [chosen[k] for k in random.permutation(len(chosen))[:ALL]]


def _saved(
    representation: Representation, columns: Sequence[tuple[np.ndarray, np.ndarray]], parts: Sequence[int]
) -> list[float]:
    """Bits of each pair of domains."""
    out = [float("nan")] * len(columns)
    for part in sorted(set(parts)):
        others = [pair for pair, own in zip(columns, parts, strict=True) if own != part]
        vectors = None if representation.layer == "ids" else representation.vectors
        table = of_alignments(others, representation.codebook, representation.size, vectors).scores / BIT
        for number, (first, second) in enumerate(columns):
            both = (first >= 0) & (second >= 0)
            if parts[number] == part and both.any():
                out[number] = float(table[first[both], second[both]].mean())
    return out
