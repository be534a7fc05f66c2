"""Protein backbones out of a prior: tokens, structure files, and whether they could be proteins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from protok.errors import ProtokError, Unsupported
from protok.prior.layout import Layout
from protok.prior.sampling import Request
from protok.structure.backbone import SURE_BOND, Backbone, bond_lengths
from protok.structure.descriptors import backbone_torsions, secondary_structure
from protok.structure.ramachandran import regions
from protok.tokenizers.protocol import Decodes, DecodesBatches, HasKeyframes, Tokenizer, decoding
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.environment import Environment
from protok.tokens.keyframes import Keyframes
from protok.tokens.tokens import Tokens

#: CA atoms in Å that are too close, of residues at least so far apart in the chain.
CLASH, APART = 3.6, 3
#: Lengths and angles across a peptide bond (Engh & Huber 1991), and what still counts as sound.
BOND = {"C-N": (1.329, 0.05), "CA-C-N": (116.6, 10.0), "C-N-CA": (121.7, 10.0)}
#: Share of sound bonds in a chain that is valid.
SOUND = 0.95
#: CA atoms in Å that are in contact, of residues at least `APART` apart in the chain.
CONTACT = 8.0


def as_tokens(
    layout: Layout, codes: Sequence[np.ndarray], wanted: Sequence[Request], first: int = 0
) -> list[Tokens]:
    """Tokens of sampled codes, named sample-0001 and so on after the `first`, one chain A each.

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
        chain = layout.tokens(ids, f"sample-{first + i + 1:04d}")
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


def fixed(layout: Layout, piece: Tokens, at: int, length: int) -> dict[int, int]:
    """Places in a record and codes of residues that samples shall keep (`Request.fixed`).

    All letters of a piece are told, and the keyframes of its whole blocks: so it is itself again, and lies
    where the prior puts it.

    Parameters
    ----------
    piece
        Tokens of a chain or part of one, encoded by itself.
    at
        Residues before it.
    length
        Of the samples.

    Raises
    ------
    ProtokError
        If it has gaps, does not lie inside, or begins in the middle of a block.
    """
    spacing, frames = layout.spacing, piece.keyframes
    if (piece.ids < 0).any() or (frames is not None and len(frames.start) > 1):
        raise ProtokError("what samples shall keep has gaps", "give one unbroken stretch", file=piece.name)
    if not 0 <= at <= at + len(piece) <= length:
        raise ProtokError(f"residues {at + 1} to {at + len(piece)} of {length}", "ask for longer chains")
    if spacing and at % spacing:
        near = at - at % spacing + 1
        raise ProtokError(
            f"a block does not begin at residue {at + 1}", f"put it at {near} or {near + spacing}"
        )
    words = layout.vocabulary
    blank = Tokens.from_ids(np.zeros(length, int), words.size, words.codebook)
    if spacing:
        own = (blank.ids, blank.chain, spacing, words.motions, [0] * (-(-length // spacing) - 1))
        blank = replace(blank, keyframes=Keyframes.laid(*own))
    if words.environments:
        blank = replace(blank, environment=Environment(blank.ids, words.environments, words.around))
    row, told = words.placed(blank), {}
    code_at = (
        {} if frames is None else dict(zip((frames.place + at).tolist(), frames.code.tolist(), strict=True))
    )
    letters, motions = words.kinds["letters"], words.kinds.get("keyframes", range(0))
    for place, (number, residue) in enumerate(zip(row.ids[1:-1], row.residues[1:-1], strict=True)):
        if not at <= residue < at + len(piece):
            continue
        if number in letters:
            told[place] = letters.start + int(piece.ids[residue - at])
        elif number in motions and (residue // spacing + 1) * spacing <= at + len(piece):
            if (code := code_at.get(residue, -1)) >= 0:
                told[place] = motions.start + code
    return told


def kind_of(backbone: Backbone) -> str:
    """What the elements of a chain are by P-SEA: ``helix``, ``strand``, ``mixed`` or ``little``.

    Little where fewer than a quarter of the residues are in either; else helix or strand where four fifths
    of those that are, are in that.
    """
    elements = secondary_structure(backbone[backbone.mask])
    helix, strand = (elements == "a").sum(), (elements == "b").sum()
    if 4 * (helix + strand) < len(elements):
        return "little"
    return "helix" if helix > 4 * strand else "strand" if strand > 4 * helix else "mixed"


def built(tokenizer: Decodes, tokens: Sequence[Tokens]) -> list[Backbone]:
    """The backbones of chains; of letters alone where the prior has learnt no more."""
    alone = isinstance(tokenizer, HasKeyframes) and any(chain.keyframes is None for chain in tokens)
    options = {"letters_alone": True} if alone else {}
    if isinstance(tokenizer, DecodesBatches):
        return tokenizer.decode_batch(tokens, **options)
    return [tokenizer.decode(chain, **options) for chain in tokens]


def contacts(ca: np.ndarray, reach: float, apart: int = APART) -> np.ndarray:
    """Residues, at least `apart` apart in the chain, whose CA atoms (n, 3) lie within `reach` Å: (pairs, 2),
    the later one first."""
    pairs = KDTree(ca).query_pairs(reach, output_type="ndarray")
    return pairs[np.subtract(*pairs.T[::-1]) >= apart, ::-1]


def radius_of_gyration(ca: np.ndarray) -> float:
    """Of CA atoms (n, 3), all of one mass, in Å."""
    return float(np.sqrt(((ca - ca.mean(0)) ** 2).sum(-1).mean()))


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
    phi = backbone_torsions(backbone)[:, 0]
    marks = regions(backbone)
    elements = secondary_structure(backbone[backbone.mask])
    spread = radius_of_gyration(ca)
    return {
        "length": len(x),
        "breaks": int((~bonded).sum()),
        "bonds": _mean(sound["C-N"]),
        "angles": _mean(sound["CA-C-N"] & sound["C-N-CA"]),
        "clashes": len(contacts(ca, CLASH)) / len(x),
        "outliers": _mean(marks == "."),
        "favoured": _mean(marks == "#"),
        "left_handed": _mean(phi[np.isfinite(phi)] > 0),
        "helix": _mean(elements == "a"),
        "strand": _mean(elements == "b"),
        "radius": spread,
        "compactness": float(spread / (2.2 * len(x) ** 0.38)),
        "contact_order": _mean(np.subtract(*contacts(ca, CONTACT).T)) / len(x),
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
