"""A reader: a small transformer over the codes of a chain, trained for each table.

What a string of codes says to who reads it, where the other probes see one code at a time: two layers of
attention within a chain, with vectors of codes (or embeddings) in and an answer a residue out, or one for
the mean of a domain. Each head has learned what a residue's distance along the chain counts (Raffel et al.
2020, https://arxiv.org/abs/1910.10683). No vector says the place in the chain; what can be told of it from
the ends is not hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from protok.bench.measures.mlp_probe import loss_of, schedule, validity
from protok.bench.measures.samples import Fit, Samples, Settings, mean_score, scored

WIDTH = 64
LAYERS = 2
HEADS = 4
#: Residues along the chain up to which distances are told apart.
FAR = 32
#: Residues that are answered together.
AT_ONCE = 1024


class _Reader(nn.Module):
    def __init__(self, dim: int, outputs: int, dropout: float):
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, WIDTH), nn.Dropout(dropout))
        # With GELU or ReLU torch 2.13 takes a short cut in evaluation that gives NaN with masks of numbers.
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout, F.silu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.apart = nn.Embedding(2 * FAR + 1, HEADS)
        nn.init.zeros_(self.apart.weight)
        self.leave = nn.Linear(WIDTH, outputs)

    def forward(self, x: Float[Tensor, "n d"], sizes: list[int]) -> Float[Tensor, "n width"]:
        """States of residues of whole chains of these lengths, end to end."""
        padded = nn.utils.rnn.pad_sequence(list(self.enter(x).split(sizes)), batch_first=True)
        along = torch.arange(padded.shape[1])
        there = along < torch.tensor(sizes)[:, None]
        apart = self.apart((along[None] - along[:, None]).clamp(-FAR, FAR) + FAR).permute(2, 0, 1)
        bias = apart.masked_fill(~there[:, None, None], -torch.inf)
        return self.layers(padded, mask=bias.flatten(0, 1))[there]


def fit(
    kind: str, train: Samples, valid: Samples, tests: dict[str, Samples], classes: int, settings: Settings
) -> Fit:
    """Train on one split, choose rate and checkpoint on another, score on the rest (see `mlp_probe.fit`)."""
    if kind == "value":
        known = train.y[torch.isfinite(train.y)]
        train = replace(train, y=(train.y - known.mean()) / (known.std() + 1e-8))
    outputs = classes if kind == "class" else 1
    runs = []
    for seed in settings.seeds:
        done = [_train(kind, train, valid, outputs, rate, seed, settings) for rate in settings.rates]
        if not np.isfinite([value for value, *_ in done]).any():
            raise ValueError("no learning rate has a validation score")
        value, step, rate, reader = max(done, key=lambda run: run[0])
        each = {name: scored(kind, _answers(kind, reader, of), of) for name, of in tests.items()}
        runs.append((value, step, rate, each))
    merged = {name: mean_score([run[3][name] for run in runs]) for name in tests}
    return Fit(merged, runs[0][2], runs[0][1], float(np.mean([run[0] for run in runs])))


def _train(
    kind: str, train: Samples, valid: Samples, outputs: int, rate: float, seed: int, settings: Settings
) -> tuple[float, int, float, _Reader]:
    """The best score on validation, its step, the rate, and the reader of that step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = _Reader(train.dim, outputs, settings.dropout)
        optimiser = torch.optim.AdamW(reader.parameters(), rate, weight_decay=settings.decay)
        best, kept, at, stale, step = -np.inf, copy.deepcopy(reader), 0, 0, 0
        random = np.random.default_rng(seed)
        while step < settings.steps and stale < settings.patience:
            for proteins in _groups(train, random, settings.residues):
                for group in optimiser.param_groups:
                    group["lr"] = rate * schedule(step + 1, settings)
                out, y = _asked(kind, reader, train, proteins)
                known = torch.isfinite(y)
                if not known.any():
                    continue
                loss = loss_of(kind, out[known][None], y[known]).sum()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(reader.parameters(), settings.clip)
                optimiser.step()
                step += 1
                if step % settings.every == 0 or step == settings.steps:
                    value = validity(kind, _answers(kind, reader, valid), valid, settings.select)
                    stale = 0 if value > best else stale + 1
                    if value > best:
                        best, kept, at = value, copy.deepcopy(reader), step
                if step == settings.steps or stale == settings.patience:
                    break
    return float(best), at, rate, kept


def _groups(samples: Samples, random: np.random.Generator | None, residues: int) -> Iterable[list[int]]:
    """Proteins with about so many residues together."""
    sizes = _sizes(samples)
    order = range(len(sizes)) if random is None else random.permutation(len(sizes)).tolist()
    group: list[int] = []
    for i in order:
        if group and sum(sizes[j] for j in group) + sizes[i] > residues:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _sizes(samples: Samples) -> list[int]:
    return torch.bincount(samples.owner, minlength=samples.proteins).tolist()


def _asked(kind: str, reader: _Reader, samples: Samples, group: list[int]) -> tuple[Tensor, Tensor]:
    """Answers (m, outputs) to residues of some proteins, or to domains, and their labels."""
    sizes = _sizes(samples)
    ends = np.cumsum([0, *sizes]).tolist()
    rows = torch.cat([torch.arange(ends[i], ends[i + 1]) for i in group])
    states = reader(samples.input(rows), own := [sizes[i] for i in group])
    if kind == "class":
        means = torch.stack([part.mean(0) for part in states.split(own)])
        return reader.leave(means), samples.y[torch.tensor(group)]
    return reader.leave(states), samples.y[rows]


@torch.no_grad()
def _answers(kind: str, reader: _Reader, samples: Samples) -> np.ndarray:
    """Answers to all residues, (n, 1), or domains, (n, classes)."""
    reader.eval()
    out = [_asked(kind, reader, samples, group)[0] for group in _groups(samples, None, AT_ONCE)]
    reader.train()
    return torch.cat(out).numpy()
