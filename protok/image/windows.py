"""Images of any size through a network that was trained on squares of one: overlapping windows.

What such a network makes of a place hangs on how far the borders are, which convolutions fill with zeros, and
on means over the image, which normalisation takes. Both are other than in training where an image has
another size. Windows of the size of training lie half over one another, and no border of theirs is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def starts(length: int, window: int) -> list[int]:
    """Where windows begin along a side, evenly, half a window apart at most."""
    steps = -(-max(0, length - window) // max(1, window // 2))
    return [round(i * (length - window) / steps) for i in range(steps + 1)] if steps else [0]


def through_windows(
    network: Callable[[Tensor], Tensor], x: Tensor, window: int, inward: int, outward: int, most: int
) -> Tensor:
    """What a network makes of squares, laid together; each counts the more, the nearer its middle is.

    Parameters
    ----------
    network
        Takes squares of a side of `window` places.
    x : (b, c, h, w)
        Repeated where it is smaller than a window.
    inward, outward
        Along the side of a place, numbers that go into the network and that come out.
    most
        Squares that go through at once.
    """
    b, sides = len(x), [side // inward for side in x.shape[2:]]
    grid = [max(side, window) for side in sides]
    # Codes of a picture that is repeated are repeated too: no other way to fill a window can be decoded.
    for axis, (n, side) in enumerate(zip(grid, sides, strict=True), start=2):
        x = x.index_select(axis, torch.arange(inward * n, device=x.device) % (inward * side))
    size, far = window * inward, window * outward
    corners = list(product(*(starts(side, window) for side in grid)))
    squares = [x[:, :, inward * i :, inward * j :][:, :, :size, :size] for i, j in corners]
    parts = torch.cat([network(part) for part in torch.cat(squares).split(most)])
    if len(corners) > 1:
        near = torch.arange(far, device=x.device) + 0.5
        near = torch.minimum(near, far - near)
        weight = near[:, None] * near
        whole = parts.new_zeros(b, parts.shape[1], *(outward * side for side in grid))
        weights = torch.zeros_like(whole[0, 0])
        for (i, j), part in zip(corners, parts.split(b), strict=True):
            whole[:, :, outward * i :, outward * j :][:, :, :far, :far] += part * weight
            weights[outward * i :, outward * j :][:far, :far] += weight
        parts = whole / weights
    return parts[:, :, : outward * sides[0], : outward * sides[1]]
