"""The Lightning module of a tokenizer: the loss of a step, validation, the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from protok.common.run import TrainingModule
from protok.common.trainer import scheduled_adamw, world_and_rank
from protok.model.decoder import Decoder
from protok.model.features import Batch
from protok.model.network import Activations, Network
from protok.quantize import ProVQ, effective_dimension
from protok.quantize.usage import perplexity, share_used
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.learned import StructureTokenizer, is_settled
from protok.training import finetune
from protok.training.auxiliary import UNKNOWN, DistillationHeads, ResidueTypeHeads, amino_acids
from protok.training.batches import TrainingBatch
from protok.training.config import Recipe
from protok.training.distillation import Teacher


class Training(TrainingModule):
    """The network in training: loss, optimiser, curriculum, validation.

    Attributes
    ----------
    frozen : FrozenCodes or None
        What keeps the codebook where it is.
    measuring : bool
        Whether it is at a validation; stays true if that fails.
    """

    def __init__(self, recipe: Recipe, held_out: list[Backbone], teacher: Teacher | None = None):
        super().__init__()
        self.recipe, self.held_out = recipe, held_out
        self.network = Network(recipe.model)
        shape, optim = recipe.model, recipe.optim
        if isinstance(self.network.decoder, Decoder):
            self.network.decoder.align_before_loss = optim.align_before_loss
        widths = (shape.encoder.hidden, shape.quantizer.dim, shape.decoder.width)
        self.residue_type_heads = (
            ResidueTypeHeads(widths, optim.residue_type_weights) if any(optim.residue_type_weights) else None
        )
        self.distillation_heads = (
            DistillationHeads(widths, optim.distill_weights, teacher.widths) if teacher else None
        )
        self.frozen: finetune.FrozenCodes | None = None
        self.measuring = False

    @property
    def hard(self) -> bool:
        """Whether the decoder is trained on codes alone, as it is used."""
        quantizer = self.network.quantizer
        return not self.encoder_only and (
            not isinstance(quantizer, ProVQ)
            or (bool(quantizer.initialised) and float(quantizer.hardness) == 1)
        )

    @property
    def encoder_only(self) -> bool:
        """Whether only the encoder learns as yet."""
        return self.global_step < self.recipe.optim.encoder_warmup_steps

    def on_train_start(self) -> None:
        """Where a model starts from is the first point of its curve."""
        if self.global_step == 0 and self.hard and self.recipe.finetune.init and self.metrics:
            self.network.eval()
            self.metrics.write(0, self.measure())
            self.network.train()

    def training_step(self, batch: TrainingBatch, index: int) -> torch.Tensor:
        """Loss of one batch of crops, at the hardness that the progress demands."""
        optim = self.recipe.optim
        torch.manual_seed(optim.seed * 1_000_003 + self.global_step)
        seen = noisy(batch.batch, optim.coordinate_noise)
        values = (self._encoder_step if self.encoder_only else self._whole)(batch, seen)
        values["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.record(self.global_step + 1, values, "hardness", "loss", "view_error")
        return values["loss"]

    def _encoder_step(self, batch: TrainingBatch, seen: Batch | None) -> dict[str, Any]:
        """Loss, and what is logged, of a step in which the encoder learns the side tasks alone."""
        encoder = self.network.encoder
        states = encoder.states(encoder.graph(batch.batch if seen is None else seen))
        loss, answers = self._side_tasks(Activations(states), batch)
        if world_and_rank()[0] > 1:
            # Data-parallel training wants every parameter to take part in every step.
            loss = loss + sum(0 * p.sum() for p in self.parameters() if p.requires_grad)
        return {"loss": loss, **answers}

    def _whole(self, batch: TrainingBatch, seen: Batch | None) -> dict[str, Any]:
        """Loss, and what is logged, of a step in which all of the network learns."""
        optim, quantizer = self.recipe.optim, self.network.quantizer
        values: dict[str, Any] = {}
        if isinstance(quantizer, ProVQ):
            done = self.global_step - optim.encoder_warmup_steps
            values["hardness"] = quantizer.progress(done / (optim.steps - optim.encoder_warmup_steps))
        # Latents of an encoder that is not trained cannot be made steadier.
        consistency_weight = optim.consistency_weight if self.recipe.finetune.encoder else 0.0
        losses = self.network(batch.batch, optim.scored_residues, seen, consistency_weight)
        side, answers = self._side_tasks(losses.activations, batch)
        values |= answers
        values |= {"view_error": losses.error, "torsion": losses.torsion, "loss": losses.total + side}
        if quantizer is not None and losses.quantized is not None:
            values["commitment"] = losses.quantized.loss
            values["relative_error"] = losses.quantized.error
            values["perplexity"] = quantizer.perplexity()
        return values

    def _side_tasks(
        self, activations: Activations, batch: TrainingBatch
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """The sum of their losses, and how good the answers were."""
        loss = activations.states.new_zeros((), dtype=torch.float32)
        answers: dict[str, Any] = {}
        if self.residue_type_heads is not None:
            named = self.residue_type_heads(activations, batch.amino_acid.where(batch.batch.mask, UNKNOWN))
            loss = loss + named.loss
            answers |= {f"residue_type_accuracy_{place}": share for place, share in named.right.items()}
        if self.distillation_heads is not None and batch.targets is not None:
            targets = batch.targets.where(batch.batch.mask[:, None], float("nan"))
            learnt = self.distillation_heads(activations, targets)
            loss = loss + learnt.loss
            answers |= {f"distill_r2_{place}": share for place, share in learnt.right.items()}
        return loss, answers

    def measure(self) -> dict[str, float]:
        """Round trip of held-out chains: mean CA RMSD, TM-score, lDDT, and the codes used.

        Also how many of their residues the encoder's states name, where they are asked; nothing
        else while only the encoder learns.
        """
        named = self._named()
        return named if self.encoder_only else named | self._round_trip()

    @torch.no_grad()
    def _named(self) -> dict[str, float]:
        if self.residue_type_heads is None or not self.recipe.optim.residue_type_weights[0]:
            return {}
        encoder, right, asked = self.network.encoder, 0.0, 0
        for backbone in self.held_out:
            batch = Batch.of([backbone]).to(self.device)
            true = amino_acids(backbone.sequence).to(self.device).where(batch.mask, UNKNOWN)
            named = self.residue_type_heads(Activations(encoder.states(encoder.graph(batch))), true)
            count = int((true != UNKNOWN).sum())
            right, asked = right + float(named.right["states"]) * count, asked + count
        return {"valid_residue_type_accuracy": right / max(asked, 1)}

    def _round_trip(self) -> dict[str, float]:
        self.measuring = True
        tokenizer = StructureTokenizer(self.network, steps=0)
        mean: dict[str, list[float]] = {"rmsd": [], "tm_score": [], "lddt": []}
        codes, latents = [], []
        quantizer = self.network.quantizer if is_settled(self.network) else None
        for backbone in self.held_out:
            if quantizer is None:
                again = tokenizer.reconstruct(backbone)
            else:
                tokens = tokenizer.encode(backbone)
                codes.append(tokens.ids[tokens.ids >= 0])
                again = tokenizer.decode(tokens)
            latents.append(tokenizer.embed(backbone)[backbone.mask])
            compared = compare(again, backbone)
            for key, values in mean.items():
                values.append(getattr(compared, key))
        scores = {f"valid_{key}": float(np.nanmean(values)) for key, values in mean.items()}
        scores["valid_rmsd_median"] = float(np.nanmedian(mean["rmsd"]))
        scores["valid_dimension"] = effective_dimension(torch.from_numpy(np.concatenate(latents)))
        if quantizer is not None:
            counts = np.bincount(np.concatenate(codes), minlength=quantizer.size)
            scores["valid_usage"] = share_used(counts)
            scores["valid_perplexity"] = perplexity(counts)
        self.measuring = False
        return scores

    def validation_step(self, batch: list[int], index: int) -> None:
        """`measure`; every process finds the same."""
        self.record_validation(self.measure(), len(self.held_out), "valid_rmsd")

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optim = self.recipe.optim
        optimiser, rate = scheduled_adamw(self, optim, optim.encoder_warmup_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def noisy(batch: Batch, most: float) -> Batch | None:
    """The batch with Gaussian noise on every atom, each chain's of a strength up to `most` Å."""
    if not most:
        return None
    size = [most * torch.rand(1).expand(n) for n in batch.sizes]
    noise = torch.cat(size)[:, None, None].to(batch.coords) * torch.randn_like(batch.coords)
    return dataclasses.replace(batch, coords=batch.coords + noise * batch.mask[:, None, None])
