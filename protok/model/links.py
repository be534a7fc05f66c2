"""Links: where a run lies of which no bond tells, after a gap in a chain or in the next chain.

A motion of any kind, up to `REACH` Å along each axis, is a few codes in a row, coarse to fine: each
divides the cell of those before it. Nothing is trained. Positions are companded, so that cells are small
where the next run is near and grow with the distance; keyframes after a link correct what it leaves.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor

from protok.structure.poses import Poses, rotation, rotation_vector

#: Å, farther than which a link does not reach along an axis, and within which cells are alike.
REACH, NEAR = 500.0, 4.0
#: Bits of each code for an axis of the position, and of the rotation vector.
BITS = ((3, 1), (2, 2), (2, 2), (2, 2))
#: Codes of a link, and values of each.
CODES, SIZE = len(BITS), 1 << 12

_WIDEST = math.asinh(REACH / NEAR)


def link(way: Poses) -> Int[Tensor, "*b c"]:
    """Codes of motions."""
    u = (way.shift.double() / NEAR).asinh() / _WIDEST
    r = rotation_vector(way.turn.double()) / torch.pi
    # Each axis as an integer of all its bits, from -1..1.
    wholes = [
        ((x.clamp(-1, 1) + 1) / 2 * (1 << bits)).long().clamp(max=(1 << bits) - 1)
        for x, bits in zip((u, r), map(sum, zip(*BITS, strict=True)), strict=True)
    ]
    codes, left = [], [sum(bits) for bits in zip(*BITS, strict=True)]
    for level in BITS:
        code = torch.zeros_like(wholes[0][..., 0])
        for part, bits in enumerate(level):
            left[part] -= bits
            for axis in range(3):
                code = (code << bits) | ((wholes[part][..., axis] >> left[part]) & ((1 << bits) - 1))
        codes.append(code)
    return torch.stack(codes, -1)


def linked_by(codes: Int[Tensor, "*b c"]) -> Poses:
    """Motions of codes: the middles of their cells."""
    wholes = [[torch.zeros_like(codes[..., 0]) for _ in range(3)] for _ in range(2)]
    for level, code in zip(BITS, codes.unbind(-1), strict=True):
        left = 12
        for part, bits in enumerate(level):
            for axis in range(3):
                left -= bits
                wholes[part][axis] = (wholes[part][axis] << bits) | ((code >> left) & ((1 << bits) - 1))
    u, r = (
        (torch.stack(axes, -1) + 0.5) / (1 << bits) * 2 - 1
        for axes, bits in zip(wholes, map(sum, zip(*BITS, strict=True)), strict=True)
    )
    return Poses(NEAR * (u * _WIDEST).sinh(), rotation(r * torch.pi))
