"""Whether codes are as good in long chains as in those that most models learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protok.bench.measures.locality import chains_of
from protok.bench.measures.scores import Score, bootstrap, mean_of
from protok.bench.representations.representation import Representation
from protok.errors import Unsupported
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Decodes

#: Residues of the chains of a class: from, and below.
CLASSES = ((0, 100), (100, 200), (200, 300), (300, 500), (500, 1000), (1000, 1 << 20))
#: Chains that others are held against, and those that are long.
USUAL, LONG = (100, 300), (500, 1 << 20)


def length(representation: Representation, structures: Sequence[Backbone]) -> tuple[dict[str, Score], dict]:
    """Errors and letters of chains by their length.

    Returns
    -------
    scores
        `lddt_lost`: mean lDDT of chains of `USUAL` length less that of `LONG` ones; `letters_lost`: of their
        letters, log2 of the perplexity of usual chains less that of long ones. Of each class `rmsd`, `lddt`
        and `perplexity` with its bounds, `rmsd_100_to_200`. What decoding tells is left out of a tokenizer
        that does not decode.
    points
        `chains` of each class.

    Raises
    ------
    Unsupported
        If the representation has no codes.
    """
    from protok.structure.metrics import compare

    if representation.continuous:
        raise Unsupported(f"{representation.name} has no codes", "measure its codes")
    chains, tokenizer = chains_of(structures), representation.tokenizer
    sizes = np.array([len(chain) for chain in chains])
    counts = np.stack(
        [np.bincount(ids[ids >= 0], minlength=representation.size) for ids in representation.outputs(chains)]
    )
    columns: dict[str, np.ndarray] = {}
    if isinstance(tokenizer, Decodes) and not representation.precomputed:
        compared = [compare(tokenizer.decode(tokenizer.encode(chain)), chain) for chain in chains]
        columns = {key: np.array([getattr(each, key) for each in compared]) for key in ("rmsd", "lddt")}

    def of(bounds: tuple[int, int]) -> np.ndarray:
        return (sizes >= bounds[0]) & (sizes < bounds[1])

    scores: dict[str, Score] = {}
    if columns:
        usual, far = (mean_of(columns["lddt"][of(bounds)]) for bounds in (USUAL, LONG))
        scores["lddt_lost"] = Score(usual.value - far.value, float(np.hypot(usual.se, far.se)))
    usual, far = (_bits(counts[of(bounds)]) for bounds in (USUAL, LONG))
    scores["letters_lost"] = Score(usual.value - far.value, float(np.hypot(usual.se, far.se)))
    for low, high in CLASSES:
        mine = of((low, high))
        if mine.any():
            name = f"{low}_to_{high}" if high < CLASSES[-1][1] else f"from_{low}"
            scores |= {f"{key}_{name}": mean_of(values[mine]) for key, values in columns.items()}
            scores[f"perplexity_{name}"] = _perplexity(counts[mine])
    return scores, {"chains": {f"{low}": int(of((low, high)).sum()) for low, high in CLASSES}}


def _perplexity(counts: np.ndarray) -> Score:
    """Of all codes of chains together, (chains, K)."""

    def value(weight: np.ndarray) -> float:
        return perplexity(weight @ counts)

    every = np.ones(len(counts))
    return Score(value(every) if counts.any() else float("nan"), bootstrap(value, len(counts)))


def _bits(counts: np.ndarray) -> Score:
    of_all = _perplexity(counts)
    return Score(float(np.log2(of_all.value)), of_all.se / of_all.value / float(np.log(2)))
