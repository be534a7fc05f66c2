"""The contract of tokenizers with keyframes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protok.errors import Unsupported
from protok.structure.backbone import Backbone
from protok.testing.requirement import require
from protok.testing.structures import exclude, random_backbone, random_complex
from protok.tokenizers.protocol import HasKeyframes


def check_keyframes(tokenizer: HasKeyframes, structures: Sequence[Backbone] | None = None) -> None:
    """Codes say nothing of keyframes or of other chains; without keyframes decoding must be asked for."""
    default = [exclude(random_complex([50, 40], seed=4), [20]), random_backbone(30, seed=1)]
    for structure in default if structures is None else structures:
        bare = tokenizer.encode(structure, keyframes=0)
        require(bare.keyframes is None, f"there are keyframes where none were asked for, of {structure!r}")
        for spacing in tokenizer.spacings:
            tokens = tokenizer.encode(structure, keyframes=spacing)
            same = np.array_equal(tokens.ids, bare.ids)
            require(same, f"codes of {structure!r} change with keyframes each {spacing}")
            there = tokens.keyframes is not None and tokens.keyframes.spacing == spacing
            require(there, f"no keyframes each {spacing} of {structure!r}")
            require(tokens.bits >= bare.bits, f"keyframes of {structure!r} cost nothing")
        for chain in structure.by_chain():
            alone = tokenizer.encode(chain).ids
            own = bare.ids[structure.chain == chain.chains[0]]
            changed = int((alone != own).sum())
            require(not changed, f"{changed} of {len(own)} codes of a chain change in a complex")
        try:
            tokenizer.decode(bare)
        except Unsupported:
            pass
        else:
            require(False, "tokens without keyframes are decoded though nobody asked")
        back = tokenizer.decode(bare, letters_alone=True)
        require(len(back) == len(structure), f"{len(back)} of {len(structure)} residues come back")
