"""The Lightning module of a tokenizer: the loss of a step, validation, the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from protok.common.extras import Extra
from protok.common.trainer import scheduled_adamw
from protok.model.batch import Batch
from protok.model.loss import losses
from protok.model.network import ShapeNetwork
from protok.quantize import ProVQ
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.config import Recipe

with Extra("train", "training"):
    from protok.common.run import TrainingModule

#: What tells that a run still gets better.
MONITOR = "valid_rmsd"


class Training(TrainingModule):
    """The network in training: loss, optimiser, curriculum, validation.

    Attributes
    ----------
    measuring : bool
        Whether it is at a validation; stays true if that fails.
    """

    def __init__(self, recipe: Recipe, held_out: list[Backbone]):
        super().__init__()
        self.recipe, self.held_out = recipe, held_out
        self.measuring = False
        self.network = ShapeNetwork(recipe.model)
        # What goes on from a model with codes stays discrete.
        self.discrete = bool(recipe.finetune.init) and recipe.finetune.codebook != "new"
        odds = np.array(recipe.optim.spacing_odds)
        self.odds = odds / odds.sum()

    @property
    def hard(self) -> bool:
        """Whether letters and keyframes are as they will be used."""
        quantizers = [self.network.quantizer, *self.network.keyframes.children()]
        return all(
            not isinstance(q, ProVQ) or (bool(q.initialised) and float(q.hardness) == 1) for q in quantizers
        )

    def on_train_start(self) -> None:
        """What a model starts from is the first point of its curve."""
        if self.discrete and self.global_step == 0 and self.metrics:
            self.network.eval()
            self.metrics.write(0, self.measure())
            self.network.train()

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Loss of one batch of crops, and its record."""
        loss, values = self.loss(batch, self.global_step)
        values["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.record(self.global_step + 1, values, "hardness", "loss", "ca_error")
        return loss

    def loss(self, batch: Batch, step: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of a step, at the hardness that the progress demands, and what is logged of it."""
        optim = self.recipe.optim
        torch.manual_seed(optim.seed * 1_000_003 + step)
        done = 1.0 if self.discrete else step / optim.steps
        values: dict[str, Any] = {}
        if isinstance(self.network.quantizer, ProVQ):
            values["hardness"] = self.network.quantizer.progress(done)
        for spacing in self.recipe.model.keyframes.spacings:
            values["keyframe_hardness"] = self.network.quantizer_of(spacing).progress(done)
        draw = np.random.default_rng([optim.seed, step]).choice(len(self.odds), p=self.odds)
        spacing = self.recipe.model.keyframes.spacings[draw]
        seen = noisy(batch, optim.coordinate_noise)
        parts = losses(self.network, batch, seen, spacing, optim.consistency_weight)
        values |= {"loss": parts.total, "step_error": parts.step, "ca_error": parts.place}
        values |= {"bond_error": parts.bond, "drift": parts.drift, "doubt": parts.doubt}
        if self.network.quantizer is not None:
            values["perplexity"] = self.network.quantizer.perplexity()
        return parts.total, values

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Round trip of held-out chains at each spacing: mean CA RMSD, TM-score, lDDT; the letters used."""
        self.measuring = True
        tokenizer = ShapeTokenizer(self.network)
        scores: dict[str, float] = {}
        counts = np.zeros(max(tokenizer.size, 1))
        for spacing in self.recipe.model.keyframes.spacings:
            triples = []
            for backbone in self.held_out:
                if self.network.quantizer is None:
                    back = tokenizer.rebuild(backbone, keyframes=spacing)
                else:
                    tokens = tokenizer.encode(backbone, keyframes=spacing)
                    counts += np.bincount(tokens.ids[tokens.ids >= 0], minlength=len(counts))
                    back = tokenizer.decode(tokens)
                compared = compare(back, backbone)
                triples.append((compared.rmsd, compared.tm_score, compared.lddt))
            for key, value in zip(("rmsd", "tm_score", "lddt"), np.nanmean(triples, 0), strict=True):
                scores[f"valid_{key}_{spacing}"] = float(value)
        scores[MONITOR] = scores[f"valid_rmsd_{tokenizer.usual_spacing}"]
        scores["valid_perplexity"] = perplexity(counts)
        self.measuring = False
        return scores

    def validation_step(self, batch: list[int], index: int) -> None:
        """`measure`, once letters and keyframes have codebooks; every process finds the same."""
        if not isinstance(self.network.quantizer, ProVQ) or self.hard:
            self.record_validation(self.measure(), len(self.held_out), MONITOR)

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optimiser, rate = scheduled_adamw(self, self.recipe.optim)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def noisy(batch: Batch, most: float) -> Batch:
    """The batch with Gaussian noise on every atom, each chain's of a strength up to `most` Å."""
    if not most:
        return batch
    size = [most * torch.rand(1).expand(n) for n in batch.sizes]
    noise = torch.cat(size)[:, None, None].to(batch.coords) * torch.randn_like(batch.coords)
    return dataclasses.replace(batch, coords=batch.coords + noise * batch.mask[:, None, None])
