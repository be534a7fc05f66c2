"""Images of any size through a network, a part at a time: tiles of a local one, else overlapping windows.

What a local network makes of a place hangs on nothing farther off than its convolutions reach, so a tile that
is cut out with so much around it gives what the whole image gives: there is nothing to be seen of tiles.

What another network makes of a place hangs on how far the borders are, and on means over the image, which
normalisation takes; both are other than in training where an image has another size. Windows of the size of
training lie half over one another, and no border of theirs is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

#: Pixels along the side of a tile, without what lies around it.
TILE = 512


def reach(part: nn.Module, scale: int) -> int:
    """How many pixels beyond its own square a place can hang on: the sum over convolutions in a row.

    Parameters
    ----------
    part
        Encoder or decoder of a local network.
    scale
        Pixels along the side of what goes in: 1 of pixels, the factor of latents.
    """
    pixels, side = 0.0, float(scale)
    for module in part.modules():
        if isinstance(module, nn.PixelUnshuffle):
            side *= module.downscale_factor
        elif isinstance(module, nn.PixelShuffle):
            side /= module.upscale_factor
        elif isinstance(module, nn.Upsample):
            side /= float(module.scale_factor)  # pyright: ignore[reportArgumentType]
        elif isinstance(module, nn.Conv2d):
            pixels += module.kernel_size[0] // 2 * side
            side *= module.stride[0]
    return int(pixels)


def through_tiles(
    network: Callable[[Tensor], Tensor], x: Tensor, around: int, inward: int, outward: int
) -> Tensor:
    """What a local network makes of images, a tile at a time: what it makes of the whole.

    Parameters
    ----------
    network
        Takes images of any size.
    x : (b, c, h, w)
    around
        Places that are cut out around a tile, where the image has them.
    inward, outward
        As for `through_windows`.
    """
    sides = [side // inward for side in x.shape[2:]]
    tile = max(1, TILE // max(inward, outward))
    rows = []
    for top in range(0, sides[0], tile):
        row = []
        for left in range(0, sides[1], tile):
            spans = [
                (max(0, a - around), min(side, a + tile + around))
                for a, side in zip((top, left), sides, strict=True)
            ]
            (y0, y1), (x0, x1) = spans
            part = network(x[:, :, inward * y0 : inward * y1, inward * x0 : inward * x1])
            part = part[:, :, outward * (top - y0) :, outward * (left - x0) :]
            row.append(part[:, :, : outward * tile, : outward * tile])
        rows.append(torch.cat(row, -1))
    return torch.cat(rows, -2)


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
    near = torch.arange(far, device=x.device) + 0.5
    near = torch.minimum(near, far - near)
    weight = near[:, None] * near
    whole, weights = x.new_zeros(()), x.new_zeros([outward * side for side in grid])
    at_once = max(1, most // b)
    for first in range(0, len(corners), at_once):
        group = corners[first : first + at_once]
        squares = [x[:, :, inward * i :, inward * j :][:, :, :size, :size] for i, j in group]
        parts = torch.cat([network(part) for part in torch.cat(squares).split(most)])
        if len(corners) == 1:
            whole = parts
            break
        if not whole.ndim:
            whole = parts.new_zeros(b, parts.shape[1], *weights.shape)
        for (i, j), part in zip(group, parts.split(b), strict=True):
            whole[:, :, outward * i :, outward * j :][:, :, :far, :far] += part * weight
            weights[outward * i :, outward * j :][:far, :far] += weight
    if len(corners) > 1:
        whole = whole / weights
    return whole[:, :, : outward * sides[0], : outward * sides[1]]
