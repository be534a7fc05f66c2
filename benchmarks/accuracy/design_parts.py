"""Parts that the design search tries and the package does not have: losses, a decoder form.

Each is a small change of `protok.model.decoder.Decoder` or of the network around it. `built_with` puts
it where the package's own class is, for one training and its scoring.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from protok.model.decoder import SCALE, Decoder, pad
from protok.model.features import Batch
from torch import Tensor, nn

from protok.model.network import Network
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.geometry import IDEAL_RESIDUE
from protok.structure.store import Store
from protok.training.batches import TrainingBatch, TrainingBatches


class NoView(Decoder):
    """Frames regressed directly: nothing is scored from the residues' own frames."""

    def terms(self, h, coords, present, rows):
        return super().terms(h, coords, present, rows) | {"view": h.new_zeros(())}


class NoAxes(Decoder):
    """Directions are taught by the views alone."""

    def terms(self, h, coords, present, rows):
        return super().terms(h, coords, present, rows) | {"axes": h.new_zeros(())}


class Superposed(Decoder):
    """The place of CA is scored after superposition: mean squared error in units of 5 Å."""

    align_before_loss = True


class Distances(Decoder):
    """Besides, distances between all CA, absolute error in units of 5 Å."""

    def terms(self, h, coords, present, rows):
        _, ca = self.placement(h)
        both = present[:, :, None] & present[:, None]
        off = (torch.cdist(ca, ca) - torch.cdist(coords[:, :, 1], coords[:, :, 1])).abs() / 5.0
        mean = (off * both).sum() / both.sum().clamp(min=1)
        return super().terms(h, coords, present, rows) | {"distances": mean}


class Bonds(Decoder):
    """Besides, the distance across each peptide bond, absolute error in units of 1 Å."""

    def terms(self, h, coords, present, rows):
        turn, ca = self.placement(h)
        ideal = torch.tensor(IDEAL_RESIDUE, device=ca.device)
        n, c = (ca + turn @ ideal[atom] for atom in (0, 2))
        true = (coords[:, 1:, 0] - coords[:, :-1, 2]).norm(dim=-1)
        bonded = present[:, 1:] & present[:, :-1] & (true < 2.0)
        off = ((n[:, 1:] - c[:, :-1]).norm(dim=-1) - true).abs()
        mean = (off * bonded).sum() / bonded.sum().clamp(min=1)
        return super().terms(h, coords, present, rows) | {"bonds": mean}


class Recycled(Decoder):
    """The trunk runs a second time and sees where the first put the residues."""

    def __init__(self, *form):
        super().__init__(*form)
        self.again = nn.Linear(12, self.width)

    def trunk(self, z, present, keep):
        first = super().trunk(z, present, keep)
        turn, ca = self.placement(first)
        seen = self.again(torch.cat([ca / SCALE, turn.flatten(-2)], dim=-1))
        x = torch.where(present[..., None], first + seen.float(), first)
        return self.mix(x, keep)


class Sequence(Decoder):
    """Besides, the amino acid of each residue by cross-entropy: inverse folding from codes."""

    kinds: Tensor

    def __init__(self, *form):
        super().__init__(*form)
        self.kind = nn.Linear(self.width, len(AMINO_ACIDS))

    def terms(self, h, coords, present, rows):
        known = present & (self.kinds >= 0)
        loss = F.cross_entropy(self.kind(h.float())[known], self.kinds[known])
        return super().terms(h, coords, present, rows) | {"sequence": loss}


@dataclass
class SequencedBatch(Batch):
    """A batch that knows its amino acids: their place in `AMINO_ACIDS`, -1 for others."""

    kinds: Tensor | None = None

    def to(self, device) -> SequencedBatch:
        return SequencedBatch(**vars(super().to(device)), kinds=self.kinds.to(device))


class SequencedBatches(TrainingBatches):
    """The same batches with their amino acids."""

    def __iter__(self) -> Iterator[TrainingBatch]:
        for plain in super().__iter__():
            batch = SequencedBatch(**vars(plain.batch), kinds=plain.amino_acid)
            yield TrainingBatch(batch, plain.amino_acid)


class SequencedNetwork(Network):
    """Hands the amino acids to the decoder's loss."""

    def forward(self, batch, rows, seen=None, consistency_weight=0.0):
        padded, keep = pad(batch.kinds[:, None], batch.sizes)
        self.decoder.kinds = padded[..., 0].masked_fill(~keep, -1)
        return super().forward(batch, rows, seen, consistency_weight)


PARTS = {
    "no-view": NoView,
    "no-axes": NoAxes,
    "superposed": Superposed,
    "distances": Distances,
    "bonds": Bonds,
    "recycled": Recycled,
    "sequence": Sequence,
}


@contextmanager
def built_with(part: str | None) -> Iterator[None]:
    """Networks built inside have the named part."""
    with ExitStack() as stack:
        if part is not None:
            stack.enter_context(patch("protok.model.network.Decoder", PARTS[part]))
        if part == "sequence":
            stack.enter_context(patch("protok.training.module.Network", SequencedNetwork))
            stack.enter_context(patch("protok.training.run.TrainingBatches", SequencedBatches))
        yield


def recovered(tokenizer, store: Store, chains: list[int]) -> float:
    """Share of amino acids that the head of `Sequence` names from the codes of held-out chains."""
    right = total = 0
    network = tokenizer.network
    for i in chains:
        batch = Batch.of([store.backbone(i)])
        with torch.no_grad():
            z = network.quantizer(network.encoder(batch), batch.mask).z[None]
            present = batch.mask[None]
            h = network.decoder.trunk(z, present, torch.ones_like(present))[0]
        kinds = network.decoder.kind(h).argmax(-1).numpy()
        true = np.array([AMINO_ACIDS.find(letter) for letter in store.sequence[i]])
        known = batch.mask.numpy() & (true >= 0)
        right, total = right + (kinds == true)[known].sum(), total + known.sum()
    return float(right / total)
