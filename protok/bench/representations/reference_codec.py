"""The reference codec: whole frames coded one after the other, without a network.

What a reconstruction is worth is told by what the same number of bits gives without learning anything:
each step is the code, of 2^bits motions placed by k-means on training chains, whose *decoded* pose lies
nearest the true one (closed-loop differential coding). Its codes mean nothing by themselves, hang on all
before them, and one wrong code moves the rest. It is a price list, not a tokenizer to use.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protok.errors import CodebookMismatch
from protok.model.close_bonds import with_oxygen
from protok.model.links import CODES, link, linked_by
from protok.model.runs import Runs
from protok.structure.backbone import Backbone
from protok.structure.geometry import linked, residue_atoms
from protok.structure.poses import Poses, orthonormal
from protok.tokens.keyframes import Keyframes, run_starts
from protok.tokens.tokens import Tokens

#: Å for which a radian of a step counts.
LEVER = 2.0
#: Bits a residue of the codecs that there are, and where their steps lie.
BITS, TABLES = (6, 8, 9, 10), Path(__file__).with_suffix(".npz")
#: What stands for a spacing: there is one keyframe a run, at its first residue.
SPACING = 1 << 20


class ReferenceCodec:
    """Codes of `bits` bits a residue; the first residue of each run is told by a link.

    Attributes
    ----------
    spacings
        What `encode` takes as `keyframes`: nothing else than one a run.
    """

    spacings = (SPACING,)

    def __init__(self, bits: int):
        self.bits, self.size, self.name = bits, 1 << bits, f"reference-codec-{bits}"
        digest = hashlib.sha256(self.code_vectors().astype("<f4").tobytes()).hexdigest()
        self.codebook = f"{self.name}@{digest[:8]}"

    def code_vectors(self) -> np.ndarray:
        """(size, 9) of the steps that there are codes for: shift in Å, and two axes times `LEVER`."""
        with np.load(TABLES) as tables:
            return tables[f"bits_{self.bits}"].astype(np.float32)

    @cached_property
    def _steps(self) -> Poses:
        numbers = torch.from_numpy(self.code_vectors()).double()
        return Poses(numbers[:, :3], orthonormal(numbers[:, 3:]))

    def encode(self, structure: Backbone, *, keyframes: int | None = None) -> Tokens:
        """Codes of a structure, each chosen where decoding will be."""
        coords = torch.from_numpy(np.nan_to_num(structure.coords)).double()
        mask, chain = torch.from_numpy(structure.mask), structure.chain
        bonded = linked(coords, mask) & torch.from_numpy(chain[1:] == chain[:-1])
        runs, true = Runs.of(mask, bonded), Poses.of(coords)
        ids = np.where(structure.mask, 0, -1).astype(np.int32)
        links = np.full((len(runs), CODES), -1, np.int32)
        last: Poses | None = None
        for run, (first, size) in enumerate(zip(runs.first.tolist(), runs.size.tolist(), strict=True)):
            if last is None:
                here = true[first]
            else:
                codes = link(last.to_reach(true[first]))
                here, links[run] = last.then(linked_by(codes)), codes.numpy()
            for i in range(first + 1, first + size):
                nexts = _from(here).then(self._steps)
                away = (nexts.shift - true.shift[i]).square().sum(-1)
                turned = (nexts.turn - true.turn[i]).square().sum((-1, -2)) / 2
                ids[i] = int((away + LEVER**2 * turned).argmin())
                here = nexts[int(ids[i])]
            last = here
        start = runs.first.numpy().astype(np.int32)
        code = np.full(len(start), -1, np.int32)
        tokens = Tokens.like(structure, ids, self.size, self.codebook)
        frames = Keyframes(SPACING, 1, start, code, start, links)
        return replace(tokens, keyframes=None if keyframes == 0 else frames)

    def decode(self, tokens: Tokens, *, letters_alone: bool = False) -> Backbone:
        """The structure that the codes lead through.

        Raises
        ------
        CodebookMismatch
            If they are of another codec, or the first residues of their runs are not told.
        """
        frames = tokens.keyframes
        if tokens.codebook != self.codebook:
            raise CodebookMismatch(f"the tokens are of {tokens.codebook}", f"give those of {self.codebook}")
        if frames is None:
            if not letters_alone:
                raise CodebookMismatch("the tokens do not tell where runs begin", "encode with keyframes")
            start = run_starts(tokens.ids, tokens.chain, np.zeros(0, int))
            none = np.full(len(start), -1)
            frames = Keyframes(SPACING, 1, start, none, start, np.repeat(none[:, None], CODES, 1))
        poses = Poses.still(len(tokens), like=self._steps.shift)
        shift, turn = poses.shift.clone(), poses.turn.clone()
        present, here = tokens.ids >= 0, poses[0] if len(tokens) else poses
        links = torch.from_numpy(frames.link.astype(np.int64))
        starts = dict(zip(frames.start.tolist(), links, strict=True))
        for i in np.flatnonzero(present).tolist():
            if i not in starts:
                here = here.then(self._steps[int(tokens.ids[i])])
            elif starts[i][0] >= 0:
                here = here.then(linked_by(starts[i]))
            shift[i], turn[i] = here.shift, here.turn
        bonded = torch.from_numpy(present[1:] & present[:-1])
        bonded[torch.from_numpy(frames.start[frames.start > 0].astype(np.int64)) - 1] = False
        runs = Runs.of(torch.from_numpy(present), bonded)
        coords = with_oxygen(residue_atoms(turn, shift), runs).float().numpy()
        coords[~present] = np.nan
        bfactor = np.where(present, np.float32(0), np.float32(np.nan))
        labels: dict[str, Any] = {key: getattr(tokens, key) for key in ("chain", "index", "icode")}
        return Backbone(coords, tokens.sequence, bfactor=bfactor, name=tokens.name, **labels)


def _from(pose: Poses) -> Poses:
    """One pose, to be followed by many motions."""
    return Poses(pose.shift[None], pose.turn[None])


def steps_between(coords: Tensor, mask: Tensor) -> Tensor:
    """(n, 9): the steps over the bonds of a chain, in the numbers of `ReferenceCodec.code_vectors`."""
    poses, bonded = Poses.of(torch.nan_to_num(coords)), linked(torch.nan_to_num(coords), mask)
    steps = poses[:-1].to_reach(poses[1:])
    axes = steps.turn[..., :2].transpose(-1, -2).flatten(-2)
    return torch.cat([steps.shift, LEVER * axes], -1)[bonded]


CODECS = {f"reference-codec-{bits}": bits for bits in BITS}
