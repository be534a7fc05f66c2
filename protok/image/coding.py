"""What codes cost with an entropy coder: the chances of each, and streams of the bits themselves.

Codes come place by place, row by row, and at a place level by level. The chances of a code follow from the
vectors of the four places before it that touch its own, from the coarser codes of its own, and from how often
it is used: a small network says them, which is learnt when a tokenizer has been trained and is kept with it.
A range coder (`constriction`) makes bits of them. Its reader must compute the same chances to the last digit:
both sides compute them in float64 and in the same order, on one kind of machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.common.extras import Extra
from protok.common.grouping import alike
from protok.errors import CodebookMismatch, CorruptFile, Unsupported
from protok.image.config import ImageConfig
from protok.image.tokens import ImageTokens

if TYPE_CHECKING:
    from protok.image.tokenizer import ImageTokenizer

#: Where the neighbours that come before a place lie: rows and columns.
BEFORE = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
#: Images that a training has a context model learn from; its steps, and places a step.
LEARNT_FROM, STEPS, PLACES = 4000, 400, 2048
#: Least chance of a code, so that each can be written.
LEAST = 1e-7


class ContextModel(nn.Module):
    """Says the chances of each code at a place, level by level.

    What is known goes through two layers to a vector, and a code is the likelier, the better its own vector
    and its squares agree with that: the codebook itself says which codes are alike.
    """

    def __init__(self, config: ImageConfig):
        super().__init__()
        quantizer = config.quantizer
        self.levels = quantizer.levels if "residual" in (quantizer.kind, quantizer.inner) else 1
        known = len(BEFORE) * (quantizer.dim + 1) + quantizer.dim + self.levels
        width = config.context
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(known, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 2 * quantizer.dim),
            )
            for _ in range(self.levels)
        )
        self.usual = nn.Parameter(torch.zeros(self.levels, quantizer.size))
        # It is learnt after the rest of a network, and by itself.
        self.requires_grad_(False)

    def forward(
        self, level: int, known: Float[Tensor, "n k"], codes: Float[Tensor, "size d"]
    ) -> Float[Tensor, "n size"]:
        """Logits of the codes of a level; `codes` are their vectors, `known` is of `known_of`."""
        features = torch.cat([codes, codes.square()], -1)
        return self.parts[level](known) @ features.T + self.usual[level]


def known_of(
    before: Float[Tensor, "n p e"], coarser: Float[Tensor, "n d"], sent: int, levels: int
) -> Float[Tensor, "n k"]:
    """What is known of places: vectors before them, each with a one where there is such a place, the sum of
    their own coarser codes, and how many levels are `sent`."""
    flags = F.one_hot(torch.full((len(coarser),), sent - 1), levels).to(coarser)
    return torch.cat([before.flatten(1), coarser, flags], -1)


class _Codes:
    """A copy of the context model, and the vectors of the codes in units of their spread, on the CPU."""

    def __init__(self, tokenizer: ImageTokenizer, dtype: torch.dtype):
        context = tokenizer.network.context
        if context is None:
            raise Unsupported(
                f"{tokenizer.name} does not know the chances of its codes",
                "train it with model.context above 0",
            )
        self.model = deepcopy(context).cpu().to(dtype)
        every = torch.arange(tokenizer.size, device=tokenizer.device)
        with torch.no_grad():
            vectors = [table.lookup(every).cpu().to(dtype) for table in tokenizer.tables]
        scale = vectors[0].square().mean().sqrt()
        self.vectors = [part / scale for part in vectors]

    def sums(self, ids: Int[Tensor, "*b l"]) -> list[Tensor]:
        """Sum of the vectors of no level, of the first, of the first two and so on."""
        out = [torch.zeros(*ids.shape[:-1], self.vectors[0].shape[1], dtype=self.vectors[0].dtype)]
        for level in range(ids.shape[-1]):
            out.append(out[-1] + self.vectors[level][ids[..., level]])
        return out

    def logits(self, ids: Int[Tensor, "n h w l"]) -> Iterator[tuple[int, Float[Tensor, "p size"]]]:
        """Level by level, the logits of all places of images."""
        sums, sent = self.sums(ids), ids.shape[-1]
        before = _before(sums[-1]).flatten(0, 2)
        for level in range(sent):
            known = known_of(before, sums[level].flatten(0, 2), sent, self.model.levels)
            yield level, self.model(level, known, self.vectors[level])


def _before(whole: Float[Tensor, "n h w d"]) -> Float[Tensor, "n h w p e"]:
    """Of each place the vectors of the places before it; zeros, with a zero at the end, beyond the border."""
    _, h, w, _ = whole.shape
    there = torch.cat([whole, torch.ones_like(whole[..., :1])], -1)
    wide = F.pad(there, (0, 0, 1, 1, 1, 0))
    return torch.stack([wide[:, 1 + i : 1 + i + h, 1 + j : 1 + j + w] for i, j in BEFORE], -2)


def _ids(tokens: Sequence[ImageTokens]) -> Int[Tensor, "n h w l"]:
    """Codes of images of one size, with a dimension of levels."""
    ids = torch.from_numpy(np.stack([image.ids for image in tokens]).astype(np.int64))
    return ids if ids.ndim == 4 else ids[..., None]


@torch.no_grad()
def code_lengths(tokenizer: ImageTokenizer, tokens: Sequence[ImageTokens]) -> list[float]:
    """Bits that the codes of each image take by their chances, as a coder comes to within a thousandth.

    Raises
    ------
    Unsupported
        If the tokenizer has no context model.
    """
    codes, bits = _Codes(tokenizer, torch.float32), [0.0] * len(tokens)
    for rows in alike((image.ids.shape for image in tokens), 64):
        ids = _ids([tokens[row] for row in rows])
        for level, logits in codes.logits(ids):
            took = F.cross_entropy(logits, ids[..., level].flatten(), reduction="none").double()
            for row, own in zip(rows, took.reshape(len(rows), -1).sum(1).tolist(), strict=True):
                bits[row] += own / math.log(2)
    return bits


def learn_contexts(tokenizer: ImageTokenizer, tokens: Sequence[ImageTokens], seed: int = 0) -> float:
    """Fit the context model of a tokenizer to codes of images of one size; returns its bits a code.

    Every number of levels is learnt, as prefixes are codes too.
    """
    codes, ids = _Codes(tokenizer, torch.float32), _ids(tokens)
    model, levels = codes.model.train().requires_grad_(), ids.shape[-1]
    with torch.no_grad():
        for level in range(levels):
            counts = torch.bincount(ids[..., level].flatten(), minlength=tokenizer.size)
            model.usual[level] = (counts + 0.5).log()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    images, bits = max(1, PLACES // ids[0, ..., 0].numel()), math.nan
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        sent = levels if rng.random() < 0.5 else int(rng.integers(levels)) + 1
        some = ids[torch.from_numpy(rng.permutation(len(ids))[:images])][..., :sent]
        losses = [F.cross_entropy(x, some[..., level].flatten()) for level, x in codes.logits(some)]
        loss = torch.stack(losses).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        bits = float(loss.detach()) / math.log(2)
    assert tokenizer.network.context is not None
    tokenizer.network.context.load_state_dict(model.state_dict())
    return bits


def _chances(
    codes: _Codes, shape: tuple[int, ...]
) -> Iterator[tuple[tuple[int, int, int], Any, Int[Tensor, "n h w l"]]]:
    """Yield each place and level with the chances of its codes, and the array that these are to be put in."""
    n, h, w, levels = shape
    ids = torch.zeros(shape, dtype=torch.int64)
    dim = codes.vectors[0].shape[1]
    # With a border, so that all neighbours are there to be asked.
    wide = torch.zeros(n, h + 1, w + 2, dim + 1, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            before = torch.stack([wide[:, 1 + i + a, 1 + j + b] for a, b in BEFORE], 1)
            own = torch.zeros(n, dim, dtype=torch.float64)
            for level in range(levels):
                known = known_of(before, own, levels, codes.model.levels)
                chance = codes.model(level, known, codes.vectors[level]).softmax(-1).clamp(min=LEAST)
                yield (i, j, level), chance.numpy(), ids
                own = own + codes.vectors[level][ids[:, i, j, level]]
            wide[:, 1 + i, 1 + j] = torch.cat([own, torch.ones(n, 1, dtype=torch.float64)], 1)


def _constriction() -> Any:
    with Extra("image", "streams of codes"):
        # Its submodules are of Rust, which type checkers do not see.
        return import_module("constriction").stream


@torch.no_grad()
def compress(tokenizer: ImageTokenizer, tokens: Sequence[ImageTokens]) -> bytes:
    """Codes of images as one stream of bits, after a head that names the images, their sizes and the model.

    Raises
    ------
    Unsupported
        If the tokenizer has no context model.
    CodebookMismatch
        If the codes are not all of it.
    MissingExtra
        If `constriction` is not installed.
    """
    stream = _constriction()
    if odd := [image.name for image in tokens if image.codebook != tokenizer.codebook]:
        cause = f"its codes are not of {tokenizer.codebook}"
        raise CodebookMismatch(cause, "encode it again", file=odd[0])
    coder, kind = stream.queue.RangeEncoder(), stream.model.Categorical(perfect=False)
    codes = _Codes(tokenizer, torch.float64)
    for rows in alike((image.ids.shape for image in tokens), len(tokens)):
        own = _ids([tokens[row] for row in rows])
        for (i, j, level), chance, ids in _chances(codes, tuple(own.shape)):
            ids[:, i, j, level] = own[:, i, j, level]
            coder.encode(own[:, i, j, level].numpy().astype(np.int32), kind, chance)
    head = {
        "codebook": tokenizer.codebook,
        "images": [(image.name, image.height, image.width, image.ids.shape[2:]) for image in tokens],
    }
    words = coder.get_compressed().astype("<u4").tobytes()
    return bytes(msgpack.packb([head, words]) or b"")


@torch.no_grad()
def decompress(tokenizer: ImageTokenizer, data: bytes) -> list[ImageTokens]:
    """The codes in a stream of `compress`.

    Raises
    ------
    CodebookMismatch
        If they are of another codebook.
    CorruptFile
        If it is no such stream.
    """
    stream = _constriction()
    try:
        head, words = msgpack.unpackb(data)
        shapes = [
            (-(-h // tokenizer.factor), -(-w // tokenizer.factor), *levels)
            for _, h, w, levels in head["images"]
        ]
        named = head["codebook"]
        coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    except Exception as error:  # msgpack raises a dozen kinds
        raise CorruptFile(f"is no stream of codes ({error})", "write it again") from error
    if named != tokenizer.codebook:
        cause = f"the codes are of {named}, the decoder of {tokenizer.codebook}"
        raise CodebookMismatch(cause, "decode with the model that made them")
    kind, out = stream.model.Categorical(perfect=False), [np.zeros(0, np.int32)] * len(shapes)
    codes = _Codes(tokenizer, torch.float64)
    for rows in alike(shapes, len(shapes)):
        shape = shapes[rows[0]]
        whole: np.ndarray = np.zeros((len(rows), *shape[:2], shape[2] if len(shape) == 3 else 1), np.int32)
        for (i, j, level), chance, ids in _chances(codes, whole.shape):
            own = coder.decode(kind, chance)
            whole[:, i, j, level] = own
            ids[:, i, j, level] = torch.from_numpy(own.astype(np.int64))
        for row, image in zip(rows, whole, strict=True):
            out[row] = image.reshape(shape)
    return [
        ImageTokens(own, tokenizer.size, named, h, w, tokenizer.factor, name)
        for own, (name, h, w, _) in zip(out, head["images"], strict=True)
    ]
