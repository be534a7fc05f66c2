"""What is known of the letters of a codebook, in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from protok.errors import Unsupported
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Tokenizer
from protok.viz.atlas import Atlas, make_atlas

#: Of the tokenizers of the package, as `tools/letters.py` measured and wrote them.
KNOWN = Path(__file__).with_name("letters.json")
#: Share of a letter's residues from which on an element is named.
SOME = 0.15
#: Length of the mean resultant from which on an angle is that of most residues.
ALIKE = 0.7
ELEMENTS = ("helix", "strand", "coil")


@dataclass(frozen=True)
class Meanings:
    """Words for each code, empty where nothing is known, and on what they were measured."""

    words: list[str]
    source: str


def describe(atlas: Atlas) -> list[str]:
    """Each code in words: its elements, its angles if most residues have the same, how deep it lies."""
    c, words = atlas.columns, []
    for code in range(len(atlas)):
        if not c["count"][code]:
            words.append("")
            continue
        shares = sorted(((float(c[name][code]), name) for name in ELEMENTS), reverse=True)
        parts = [", ".join(f"{name} {share:.0%}" for share, name in shares if share >= SOME)]
        if min(c["phi_r"][code], c["psi_r"][code]) > ALIKE:
            parts.append(f"phi {c['phi'][code]:.0f}°, psi {c['psi'][code]:.0f}°")
        parts.append(f"{c['neighbours'][code]:.0f} CA within 10 Å")
        words.append("; ".join(parts))
    return words


def meanings(tokenizer: Tokenizer, structure: Backbone) -> Meanings:
    """What is known of the letters of a tokenizer: from its atlas, or else of one structure.

    Parameters
    ----------
    tokenizer
        One of the package is known by its codebook.
    structure
        On which any other is measured.
    """
    known = json.loads(KNOWN.read_text(encoding="utf-8")).get(tokenizer.codebook)
    if known:
        return Meanings(known["words"], known["source"])
    try:
        return Meanings(describe(make_atlas(tokenizer, [structure])), "this structure")
    except Unsupported:
        return Meanings([""] * tokenizer.size, "")
