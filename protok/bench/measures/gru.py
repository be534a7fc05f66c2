"""A small language model that is the same for every tokenizer: what it cannot foretell of codes, in bits.

One GRU layer reads rows of ids (`protok.tokens.vocabulary.Vocabulary`) and foretells each code from all
before it, among the codes of its kind: whether a letter, a keyframe or a link comes next follows from where
residues lie, and marks are not foretold. It is no good model of proteins. It says what of a code is there to
learn for a fixed and small effort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protok.common.trainer import half_is_faster, scheduled_adamw

#: Each residue is read so many times at least: of a large store a part is taken.
TIMES = 8


@dataclass(frozen=True)
class GruSettings:
    """The protocol; part of the cache key and of every result.

    Attributes
    ----------
    steps, rows, letters
        Optimiser steps, each on so many rows of so many ids.
    width
        Of embeddings and of the layer.
    lr, lr_warmup_steps, weight_decay, clip
        Of AdamW, whose rate falls as a cosine, and the largest norm of a gradient.
    seed
        Of weights and draws.
    """

    steps: int = 2000
    rows: int = 64
    letters: int = 256
    width: int = 256
    lr: float = 3e-3
    lr_warmup_steps: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, with the precision of training on this machine."""
        return asdict(self) | {"precision": "bf16" if half_is_faster() else "32"}

    @property
    def label(self) -> str:
        """What results of a shortened form are called by; empty of the full one."""
        return "" if self.steps >= FULL.steps else f", {self.steps} steps"

    @property
    def residues(self) -> int:
        """Residues that are learned from, at most."""
        return self.steps * self.rows * self.letters // TIMES


FULL = GruSettings()
#: For a first look; results say so.
QUICK = GruSettings(steps=200)


class Gru(nn.Module):
    """One layer, and a head for each kind of codes.

    Parameters
    ----------
    size
        Number of ids, marks too.
    kinds
        Ids of each kind of code.
    width
        Of embeddings and of the layer.
    """

    def __init__(self, size: int, kinds: Sequence[range], width: int):
        super().__init__()
        self.kinds = tuple(kinds)
        self.read = nn.Embedding(size, width)
        self.layer = nn.GRU(width, width, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(width, len(kind)) for kind in kinds)

    def forward(self, ids: Tensor) -> Tensor:
        """Nats of each id but the first of a row, (rows, m + 1) to (rows, m); 0 of marks."""
        hidden, ids = self.layer(self.read(ids[:, :-1]))[0], ids[:, 1:]
        nats = hidden.new_zeros(ids.shape, dtype=torch.float32)
        for kind, head in zip(self.kinds, self.heads, strict=True):
            mine = (ids >= kind.start) & (ids < kind.stop)
            off = nn.functional.cross_entropy(
                head(hidden[mine]).float(), ids[mine] - kind.start, reduction="none"
            )
            nats = nats.masked_scatter(mine, off)
        return nats

    @torch.no_grad()
    def bits(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Bits of all codes of each row together."""
        total = [float(self(torch.from_numpy(row).long()[None]).double().sum()) for row in rows]
        return np.array(total) / np.log(2)


def learn(
    rows: Sequence[np.ndarray],
    kinds: Sequence[range],
    settings: GruSettings,
    weight: np.ndarray | None = None,
) -> Gru:
    """Train the model on rows of ids.

    Parameters
    ----------
    rows
        (m,) ids of a structure each, the first of which is a mark.
    kinds
        Ids of each kind of code; all others are marks.
    weight
        How often a residue of each row is drawn, relative to others; alike by default.

    Raises
    ------
    ValueError
        If no row has a code.
    """
    ids = np.concatenate([np.zeros(0, np.int32), *rows])
    is_code = torch.zeros(max(int(ids.max(initial=0)) + 1, *(kind.stop for kind in kinds)), dtype=torch.bool)
    for kind in kinds:
        is_code[kind.start : kind.stop] = True
    if not is_code[torch.from_numpy(ids).long()].any():
        raise ValueError("no codes to learn from")
    each = np.ones(len(rows)) if weight is None else weight
    drawn = np.cumsum(np.repeat(each, [len(row) for row in rows]))
    place = np.arange(settings.letters + 1)
    random = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Gru(len(is_code), kinds, settings.width)
    optimiser, rate = scheduled_adamw(model, settings)
    half = half_is_faster()
    for _ in range(settings.steps):
        begin = np.searchsorted(drawn, random.random(settings.rows) * drawn[-1], side="right")
        # A row goes on with the next structures, behind their marks.
        batch = torch.from_numpy(ids[(begin[:, None] + place) % len(ids)]).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            nats = model(batch)
        loss = nats.sum() / is_code[batch[:, 1:]].sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()
        rate.step()
    return model.eval()
