"""What is measured of shapes and keyframes beside `protok.bench.measures.locality`: what they rebuild.

Functions from a tokenizer and chains to plain numbers; `benchmarks.accuracy.shapes` and the search call them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protok.bench.measures import codebook, locality
from protok.bench.measures.scores import spearman, values
from protok.bench.representations.representation import Representation
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare, lddt
from protok.tokenizers.protocol import Decodes, HasKeyframes
from protok.tokenizers.shapes import ShapeTokenizer

#: Of all draws.
SEED = 0
#: Residues of the chains that each mean is of.
BINS = ((0, 100), (100, 200), (200, 300), (300, 1000), (1000, 100_000))


def reconstruction(tokenizer: Decodes, chains: Sequence[Backbone], spacing: int = 0) -> dict:
    """Mean scores of chains decoded from their codes, by length, and all bits that are stored.

    With keyframes each `spacing` residues; 0: of a tokenizer that has none.
    """
    rows, bits, residues = [], 0.0, 0
    sure, true, built, real = [], [], [], []
    for chain in chains:
        keyed = spacing and isinstance(tokenizer, HasKeyframes)
        tokens = tokenizer.encode(chain, keyframes=spacing) if keyed else tokenizer.encode(chain)
        again = tokenizer.decode(tokens)
        scores = compare(again, chain)
        rows.append((len(chain), scores.rmsd, scores.tm_score, scores.lddt))
        bits, residues = bits + tokens.bits, residues + int((tokens.ids >= 0).sum())
        sure.append(again.bfactor)
        true.append(lddt(again, chain, per_residue=True))
        built.append(geometry(again))
        real.append(geometry(chain))
    table = np.array(rows)
    good, claimed = np.concatenate(true), np.concatenate(sure)
    known = np.isfinite(good) & np.isfinite(claimed)
    out = {
        "chains": len(rows),
        "bits_a_residue": bits / residues,
        **means(table),
        "by_length": {
            f"{low}-{high}": {"chains": int(inside.sum()), **means(table[inside])}
            for low, high in BINS
            if (inside := (table[:, 0] >= low) & (table[:, 0] < high)).any()
        },
        "confidence_rank_correlation": spearman(claimed[known], good[known]),
        "rmsd_each": [round(float(x), 3) for x in table[:, 1]],
    }
    for key in ("C-N", "CA-C-N", "C-N-CA", "phi>0"):
        pair = [np.concatenate([chain[key] for chain in side]) for side in (built, real)]
        out[key] = {
            side: {"mean": float(x.mean()), "spread": float(x.std())}
            for side, x in zip(("built", "real"), pair, strict=True)
        }
    return out


def geometry(backbone: Backbone) -> dict[str, np.ndarray]:
    """Bond lengths, angles and the sign of phi of one chain, for the spread of built and real ones."""
    import torch

    from protok.structure.geometry import linked, torsions

    coords = torch.from_numpy(backbone.coords)
    mask = torch.from_numpy(backbone.mask)
    bond = linked(coords, mask)
    angles, defined = torsions(torch.nan_to_num(coords), bond)
    n, ca, c = backbone.coords[:, 0], backbone.coords[:, 1], backbone.coords[:, 2]
    bond = bond.numpy()

    def angle(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        u, v = p - q, r - q
        cos = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
        return np.degrees(np.arccos(np.clip(cos, -1, 1)))

    return {
        "C-N": np.linalg.norm(c[:-1] - n[1:], axis=-1)[bond],
        "CA-C-N": angle(ca[:-1], c[:-1], n[1:])[bond],
        "C-N-CA": angle(c[:-1], n[1:], ca[1:])[bond],
        "phi>0": (angles[:, 0].numpy() > 0)[defined[:, 0].numpy()].astype(float),
    }


def means(table: np.ndarray) -> dict[str, float]:
    """Of rows (length, RMSD, TM-score, lDDT)."""
    return {
        "rmsd": float(table[:, 1].mean()),
        "rmsd_median": float(np.median(table[:, 1])),
        "tm_score": float(table[:, 2].mean()),
        "lddt": float(table[:, 3].mean()),
    }


def of_letters(tokenizer: Decodes, chains: Sequence[Backbone], some: Sequence[Backbone]) -> dict:
    """How many letters are in use on all chains, and what some keep under cuts, noise and reflection."""
    who = Representation(tokenizer)
    window = tokenizer.network.config.encoder.window if isinstance(tokenizer, ShapeTokenizer) else 0
    return {
        "perplexity": codebook.utilization(who, chains)[0]["pooled_perplexity"].value,
        "cut": values(locality.kept_when_cut(tokenizer, some, window)),
        "noise_0.2": values(locality.kept_under_noise(tokenizer, some, 0.2, SEED)),
        "mirror": codebook.mirror(who, some)[0]["changed"].value,
        "motion": 1 - codebook.rotation(who, some)[0]["same"].value,
    }
