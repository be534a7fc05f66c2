"""What chains are worth that nobody has seen: the tests of the field, and the bars that samples have to pass.

Everything is measured in the same way of samples and of controls, of which `protok.prior.evaluate` makes
the sets. Nothing is relaxed. No folding model is asked: what stands for designability is how likely
ProteinMPNN finds the sequence that it writes for a backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from protok.analysis.alignment import tm_align
from protok.analysis.database import Database
from protok.analysis.search import search
from protok.analysis.substitution import Matrix
from protok.common.workers import each
from protok.prior.proteins import built, is_valid, soundness
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Decodes
from protok.tokens.tokens import Tokens

#: TM-scores from which on two chains have one fold, and a sample is a copy.
FOLD, COPY = 0.5, 0.8
#: Pairs whose mean TM-score is told; training chains by search that TM-align looks at.
PAIRS, NEAREST = 300, 3
#: Training chains that the search aligns.
CANDIDATES = 100
#: Share of samples that are to be valid, by their length.
VALID = {100: 0.6, 250: 0.3}

Likelihood = Callable[[Backbone], float]


def summary(
    backbones: Sequence[Backbone], likelihood: Likelihood | None = None, jobs: int = 1
) -> dict[str, Any]:
    """Number of chains, share of valid ones, and of each measure mean, spread and median.

    Parameters
    ----------
    likelihood
        Of a backbone, by `protok.bench.representations.proteinmpnn_design`; without it there is no
        ``mpnn``.
    jobs
        Processes that ask for it.

    Returns
    -------
    dict
        ``chains``, ``valid``, and by the names of `protok.prior.proteins.soundness` and ``mpnn`` a
        dictionary of ``mean``, ``spread`` (standard deviation) and ``median``.
    """
    rows = [soundness(backbone) for backbone in backbones]
    if likelihood is not None:
        likely = each(likelihood, backbones, jobs)
        rows = [row | {"mpnn": value} for row, value in zip(rows, likely, strict=True)]
    result: dict[str, Any] = {"chains": len(rows), "valid": float(np.mean([is_valid(row) for row in rows]))}
    for key in rows[0]:
        values = np.array([row[key] for row in rows], float)
        values = values[np.isfinite(values)]
        kinds = {"mean": np.mean, "spread": np.std, "median": np.median}
        result[key] = {name: float(of(values)) if len(values) else None for name, of in kinds.items()}
    return result


def diversity(backbones: Sequence[Backbone], jobs: int = 1) -> dict[str, float]:
    """How unlike chains are to one another.

    Parameters
    ----------
    jobs
        Processes that align.

    Returns
    -------
    dict
        ``tm_score``, mean of TM-align's two normalisations over pairs, some 300 where there are more; and
        ``clusters``, number of single-linkage clusters at a TM-score of .5 among the valid ones.
    """
    first, second = np.triu_indices(len(backbones), 1)
    valid = np.array([is_valid(soundness(backbone)) for backbone in backbones], bool)
    some = np.zeros(len(first), bool)
    some[np.random.default_rng(0).permutation(len(first))[:PAIRS]] = True
    both = valid[first] & valid[second]
    wanted = some | both
    pairs = [*zip(first[wanted].tolist(), second[wanted].tolist(), strict=True)]
    tm = np.zeros(len(first))
    tm[wanted] = each(partial(_tm_of_pair, backbones), pairs, jobs)
    linked = both & (tm > FOLD)
    graph = coo_array((linked[linked], (first[linked], second[linked])), shape=(len(valid), len(valid)))
    clusters = connected_components(graph, directed=False)[1][valid]
    scores = {"tm_score": float(tm[some].mean())} if some.any() else {}
    return scores | {"clusters": len(set(clusters.tolist()))}


def _tm_of_pair(backbones: Sequence[Backbone], pair: tuple[int, int]) -> float:
    return tm_align(*(backbones[i] for i in pair))


def novelty(
    chains: Sequence[Tokens],
    backbones: Sequence[Backbone],
    database: Database,
    matrix: Matrix,
    tokenizer: Decodes,
    jobs: int = 1,
) -> dict[str, Any]:
    """How like each chain is to the training chain that it is likest to.

    `protok.analysis.search` finds training chains by their letters; those with the best alignments are
    decoded, and the best TM-score of them is that of the chain: a lower bound of the best over all.

    Parameters
    ----------
    chains, backbones
        The same ones, as tokens and as they are built.
    database, matrix
        Training chains, and scores of aligned letters.
    tokenizer
        Of their codes.
    jobs
        Processes that search and align.

    Returns
    -------
    dict
        ``tm_score``: mean over chains; ``novel`` and ``copies``: shares of chains below .5, and from .8 on;
        ``nearest``: name of each one's likest training chain.
    """
    pairs = [*zip(chains, backbones, strict=True)]
    likest = each(partial(_likest, database, matrix, tokenizer), pairs, jobs)
    tm = np.array([score for score, _ in likest])
    shares = {"novel": float(np.mean(tm < FOLD)), "copies": float(np.mean(tm >= COPY))}
    nearest = [label for _, label in likest]
    return {"library": len(database), "tm_score": float(tm.mean()), **shares, "nearest": nearest}


def _likest(
    database: Database, matrix: Matrix, tokenizer: Decodes, chain: tuple[Tokens, Backbone]
) -> tuple[float, str]:
    """TM-score and name of the training chain that a chain is likest to."""
    hits = search(chain[0], database, matrix, candidates=CANDIDATES, top=NEAREST)
    there = built(tokenizer, [database.chains[database.labels.index(hit.target)] for hit in hits])
    scores = [(tm_align(chain[1], other), hit.target) for other, hit in zip(there, hits, strict=True)]
    return max(scores, default=(0.0, ""))


@dataclass(frozen=True)
class Bar:
    """What samples have to reach, and what they reach; None where it was not measured."""

    bar: str
    wanted: str
    got: float | None
    met: bool | None


def bars(sets: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The bars of samples, beside the controls of one call of `protok.prior.evaluate.score_chains`.

    Parameters
    ----------
    sets
        By name: ``samples``, ``decoded`` (native chains through the codes), ``shuffled``, and ``native`` if
        there are some.
    """
    samples, decoded, shuffled = (sets[name] for name in ("samples", "decoded", "shuffled"))
    native = sets.get("native", decoded)
    valid = VALID[min(VALID, key=lambda length: abs(length - samples["length"]["mean"]))]
    rows: list[Bar] = []

    def add(bar: str, wanted: str, got: float | None, met: Callable[[float], bool]) -> None:
        got = None if got is None or not np.isfinite(got) else got
        rows.append(Bar(bar, wanted, got, None if got is None else bool(met(got))))

    def value(of: dict[str, Any], key: str, kind: str = "mean") -> float:
        return float("nan") if (held := of.get(key, {}).get(kind)) is None else held

    def over(key: str, kind: str) -> float:
        return float(np.float64(value(samples, key, kind)) / value(native, key, kind))

    with np.errstate(divide="ignore", invalid="ignore"):
        add("share without clash, break or unsound bonds", f">= {valid:.2f}", samples["valid"], valid.__le__)
        more = value(samples, "outliers") - value(decoded, "outliers")
        add(
            "Ramachandran outliers, beside decoded native chains",
            "within .02",
            more,
            lambda x: abs(x) <= 0.02,
        )
        names = {"compactness": "median radius of gyration", "helix": "mean helix share"}
        names |= {"strand": "mean strand share", "contact_order": "mean relative contact order"}
        for key, name in names.items():
            kind = "median" if key == "compactness" else "mean"
            add(f"{name} over native", ".90 to 1.10", over(key, kind), lambda x: abs(x - 1) <= 0.1)
        for key in ("helix", "strand", "contact_order"):
            name = names[key].replace("mean", "spread of")
            add(f"{name} over native", ">= .50", over(key, "spread"), lambda x: x >= 0.5)
        clusters = samples.get("diversity", {}).get("clusters")
        add("clusters at TM .5 among the valid ones", ">= 50", clusters, lambda x: x >= 50)
        add(
            "copies of training chains (TM .8)",
            "<= .20",
            samples.get("novelty", {}).get("copies"),
            lambda x: x <= 0.2,
        )
        low, high = value(shuffled, "mpnn"), value(native, "mpnn")
        way = np.float64(value(samples, "mpnn") - low) / (high - low)
        add("ProteinMPNN likelihood: way from shuffled to native", ">= .50", way, lambda x: x >= 0.5)
    return [asdict(row) for row in rows]
