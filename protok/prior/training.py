"""Training of a prior: a Lightning module, and the run that ties it together.

Everything random in a step follows from the seed and the step's number, so a run that is
killed and resumed goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from protok.common.extras import Extra
from protok.common.settings import RecipeError
from protok.common.trainer import every_twentieth, scheduled_adamw, world_and_rank
from protok.errors import CodebookMismatch
from protok.prior.config import PriorRecipe, read_prior_recipe
from protok.prior.corpus import Batches, Corpus, read_corpus
from protok.prior.layout import Row
from protok.prior.model import Prior, stack, transformers

with Extra("prior", "training"):
    from protok.common.run import TrainingModule, TrainingRun

#: Widths of batches of chains are multiples of it. In bfloat16 a CPU keeps kernels of every shape
#: that it has seen, which took gigabytes where each batch had a shape of its own.
WIDTH = 32


class Steps(IterableDataset):
    """Batches from the module's present step to the last; each rank has batches of its own."""

    def __init__(self, batches: Batches, module: PriorTraining):
        self.batches, self.module = batches, module

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        world, rank = world_and_rank()
        for step in range(self.module.global_step, self.module.recipe.optim.steps):
            # Images are alike and have one width anyway.
            yield stack(self.batches.batch(step * world + rank), 1 if self.batches.layout.grid else WIDTH)


class PriorTraining(TrainingModule):
    """The transformer in training: loss, optimiser, validation."""

    def __init__(self, recipe: PriorRecipe, prior: Prior, held_out: Sequence[Row]):
        super().__init__()
        self.recipe, self.prior, self.held_out = recipe, prior, held_out
        self.network = prior.network

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Mean negative log-likelihood of the codes of a batch."""
        torch.manual_seed(self.recipe.optim.seed * 1_000_003 + self.global_step)
        each, scored = self.prior.losses(batch)
        loss = each.sum() / scored.sum()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        values = {"bits": loss / np.log(2), "lr": rate}
        self.record(self.global_step + 1, values, "bits")
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Bits for a code of held-out records."""
        bits = self.prior.bits(self.held_out)
        self.record_validation({"valid_bits": float(bits.mean())}, len(bits), "valid_bits")

    def configure_optimizers(self) -> dict:
        """AdamW, whose rate rises and falls as a cosine."""
        optimiser, rate = scheduled_adamw(self.network, self.recipe.optim)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def run(
    recipe: str | Path | None = None,
    *,
    tokens: str | Path | None = None,
    out: str | Path = "runs/prior",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Train a prior; returns the folder of the finished model.

    Parameters
    ----------
    recipe, overrides
        TOML file, defaults throughout without one, and dotted keys and values that go before it.
    tokens
        Token file, or codes of images; goes before ``data.train``.
    out, resume
        See `protok.common.run.TrainingRun`; a resumed run keeps the settings of its ``recipe.json``
        save those that are given anew.
    """
    training = TrainingRun(out, resume)
    plan = read_prior_recipe(recipe, training.options(overrides, tokens), training.settings)
    if not plan.data.train:
        raise RecipeError("nothing to learn", "give --tokens FILE or data.train in the recipe")
    train, valid = parts(plan)
    plan = training.begin(plan, train.digest)
    layout = train.layout(plan.data)
    prior = Prior(plan.model, layout)
    prior.network.train()
    some = valid.some(plan.valid.records)
    held_out = [layout.row(codes, some.condition(i, layout.condition)) for i, codes in enumerate(some.codes)]
    module = PriorTraining(plan, prior, held_out)
    batches = Batches(train, layout, plan.optim.batch, plan.data.drop, plan.optim.seed)
    steps = DataLoader(Steps(batches, module), batch_size=None)
    training.fit(module, steps, gradient_clip_val=plan.optim.clip)
    if not training.first:
        return training.model
    prior.network.eval()
    prior.round()
    provenance = training.provenance(
        train_records=len(train),
        valid_sha256=valid.digest,
        valid_records=len(held_out),
        valid_bits=round(float(prior.bits(held_out).mean()), 4),
        parameters=sum(p.numel() for p in prior.network.parameters()),
        transformers=transformers().__version__,
    )
    return training.write(lambda folder: prior.save_pretrained(folder, provenance=provenance))


def parts(plan: PriorRecipe) -> tuple[Corpus, Corpus]:
    """Records to learn from, and records that are held out."""
    data = plan.data
    own = {"environments": data.environments, "classes": data.classes}
    train = read_corpus(data.train, data.longest, data.layout, **own)
    if data.valid:
        valid = read_corpus(data.valid, data.longest, data.layout, **own)
        if (valid.codebook, valid.grid, valid.vocabulary) != (train.codebook, train.grid, train.vocabulary):
            raise CodebookMismatch(
                f"holds codes of {valid.vocabulary or valid.codebook}, the training file of "
                f"{train.vocabulary or train.codebook}",
                "encode both with one model, images at one size",
                file=data.valid,
            )
        return train, valid
    # A mirror image of a training image would be no new one.
    origins = train.origins()
    held = every_twentieth(int(origins.max()) + 1, "records", data.train)[origins]
    return train[~held], train[held]
