"""Protein backbones out of a prior: tokens, structure files, and whether they could be proteins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from protok.errors import Unsupported
from protok.prior.layout import Layout
from protok.prior.sampling import Request
from protok.structure.backbone import SURE_BOND, Backbone, bond_lengths
from protok.structure.descriptors import backbone_torsions, secondary_structure
from protok.structure.ramachandran import regions
from protok.tokenizers.protocol import Decodes, HasKeyframes, Tokenizer, decoding
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.tokens import Tokens

#: CA atoms in Å that are too close, of residues at least so far apart in the chain.
CLASH, APART = 3.6, 3
#: Lengths and angles across a peptide bond (Engh & Huber 1991), and what still counts as sound.
BOND = {"C-N": (1.329, 0.05), "CA-C-N": (116.6, 10.0), "C-N-CA": (121.7, 10.0)}
#: Share of sound bonds in a chain that is valid.
SOUND = 0.95
#: CA atoms in Å that are in contact, of residues at least `APART` apart in the chain.
CONTACT = 8.0


def as_tokens(layout: Layout, codes: Sequence[np.ndarray], wanted: Sequence[Request]) -> list[Tokens]:
    """Tokens of sampled codes, named sample-0001 and so on, one chain A each.

    Residues are those of the request where the condition is a sequence, else unknown.

    Raises
    ------
    Unsupported
        If the codes are of images.
    """
    if layout.grid:
        raise Unsupported(f"{layout.codebook} codes images", "give a prior over chains")
    tokens = []
    for i, (ids, request) in enumerate(zip(codes, wanted, strict=True)):
        chain = layout.tokens(ids, f"sample-{i + 1:04d}")
        if isinstance(request.condition, str) and len(request.condition) == len(chain):
            chain = replace(chain, sequence=request.condition)
        tokens.append(chain)
    return tokens


def decoder(name: Tokenizer | str | Path, layout: Layout) -> Decodes:
    """The tokenizer of a prior's codes: a given one, or a name or folder.

    Raises
    ------
    CodebookMismatch
        If it has another codebook.
    Unsupported
        If it has no decoder.
    """
    tokenizer = decoding(as_tokenizer(name))
    layout.check(tokenizer.codebook)
    return tokenizer


def built(tokenizer: Decodes, tokens: Tokens) -> Backbone:
    """The backbone of a chain; of letters alone where the prior has learnt no more."""
    if isinstance(tokenizer, HasKeyframes) and tokens.keyframes is None:
        return tokenizer.decode(tokens, letters_alone=True)
    return tokenizer.decode(tokens)


def soundness(backbone: Backbone) -> dict[str, float]:
    """Whether one chain could be a protein's: geometry only, no energy and no folding.

    Returns
    -------
    dict
        ``length`` in residues; ``breaks``, bonds longer than 2 Å; ``bonds``, share of peptide
        bonds of sound C-N length, and ``angles``, of both its angles; ``clashes``, pairs of CA
        closer than 3.6 Å and at least 3 residues apart, for each residue; ``outliers`` and ``favoured``,
        shares of residues by `protok.structure.ramachandran`; ``left_handed``, of residues with phi > 0,
        which only glycine likes; ``helix`` and ``strand``, by P-SEA (Labesse et al. 1997, in biotite);
        ``radius`` of gyration in Å, and ``compactness``, that over 2.2 n^0.38 Å, which folded domains
        have; ``contact_order``, relative: the mean of how far residues in contact (CA within 8 Å, at least 3
        apart) are apart in the chain, over the length (Plaxco et al. 1998); ``confidence`` of the
        decoder, 0..100.
    """
    x = backbone.coords[backbone.mask].astype(np.float64)
    n, ca, c = x[:, 0], x[:, 1], x[:, 2]
    gap = bond_lengths(x)
    bonded = gap < SURE_BOND
    measured = {"C-N": gap, "CA-C-N": _angle(ca[:-1], c[:-1], n[1:]), "C-N-CA": _angle(c[:-1], n[1:], ca[1:])}
    sound = {key: np.abs(measured[key] - ideal)[bonded] <= room for key, (ideal, room) in BOND.items()}
    distance = np.linalg.norm(ca[:, None] - ca, axis=-1)
    pairs = np.triu(distance < CLASH, APART).sum()
    contacts = np.subtract(*np.nonzero(np.tril(distance < CONTACT, -APART)))
    phi = backbone_torsions(backbone)[:, 0]
    marks = regions(backbone)
    elements = secondary_structure(backbone[backbone.mask])
    spread = np.sqrt(((ca - ca.mean(0)) ** 2).sum(-1).mean())
    return {
        "length": len(x),
        "breaks": int((~bonded).sum()),
        "bonds": _mean(sound["C-N"]),
        "angles": _mean(sound["CA-C-N"] & sound["C-N-CA"]),
        "clashes": float(pairs / len(x)),
        "outliers": _mean(marks == "."),
        "favoured": _mean(marks == "#"),
        "left_handed": _mean(phi[np.isfinite(phi)] > 0),
        "helix": _mean(elements == "a"),
        "strand": _mean(elements == "b"),
        "radius": float(spread),
        "compactness": float(spread / (2.2 * len(x) ** 0.38)),
        "contact_order": _mean(contacts) / len(x),
        "confidence": _mean(backbone.bfactor[backbone.mask]),
    }


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    u, v = a - b, c - b
    cosine = (u * v).sum(-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def is_valid(measures: dict[str, float]) -> bool:
    """No break, no clash, 95 % of the bonds sound."""
    bonds = measures["length"] < 2 or min(measures["bonds"], measures["angles"]) >= SOUND
    return measures["breaks"] == 0 and measures["clashes"] == 0 and bonds
