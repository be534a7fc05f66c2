"""The Lightning module of a tokenizer: the loss of a step, validation, the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Any

import lightning
import numpy as np
import torch

from protok.common import callbacks
from protok.common.trainer import LOG, scheduled_adamw, world_and_rank
from protok.model.features import Batch
from protok.model.network import Known, Network
from protok.quantize import ProVQ, effective_dimension
from protok.quantize.usage import perplexity, share_used
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.learned import StructureTokenizer, is_settled
from protok.training import finetune
from protok.training.auxiliary import UNKNOWN, Naming, Teaching, amino_acids
from protok.training.batches import Lesson
from protok.training.config import Recipe
from protok.training.distillation import Teacher


class Training(lightning.LightningModule):
    """The network in training: loss, optimiser, curriculum, validation.

    Attributes
    ----------
    metrics : MetricsFile or None
        Where the first process writes what it measures.
    frozen : FrozenCodes or None
        What keeps the codebook where it is.
    measuring : bool
        Whether it is at a validation; stays true if that fails.
    """

    def __init__(
        self, recipe: Recipe, held_out: list[Backbone], data_sha256: str = "", teacher: Teacher | None = None
    ):
        super().__init__()
        self.recipe, self.held_out, self.data_sha256 = recipe, held_out, data_sha256
        self.network = Network(recipe.model)
        shape, optim = recipe.model, recipe.optim
        self.network.decoder.superposed = optim.superposed
        widths = (shape.encoder.hidden, shape.quantizer.dim, shape.decoder.width)
        self.naming = Naming(widths, optim.naming) if any(optim.naming) else None
        self.teaching = Teaching(widths, optim.taught, teacher.widths) if teacher else None
        self.metrics: callbacks.MetricsFile | None = None
        self.frozen: finetune.FrozenCodes | None = None
        self.measuring = False

    @property
    def hard(self) -> bool:
        """Whether the decoder is trained on codes alone, as it is used."""
        quantizer = self.network.quantizer
        return not self.schooled and (
            not isinstance(quantizer, ProVQ)
            or (bool(quantizer.initialised) and float(quantizer.hardness) == 1)
        )

    @property
    def schooled(self) -> bool:
        """Whether only the encoder learns as yet."""
        return self.global_step < self.recipe.optim.school

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Move a `Lesson`, which Lightning does not know."""
        return batch.to(device) if isinstance(batch, Lesson) else batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint knows its data, which must be the same when it is resumed."""
        checkpoint["data_sha256"] = self.data_sha256

    def on_train_start(self) -> None:
        """Where a model starts from is the first point of its curve."""
        if self.global_step == 0 and self.hard and self.recipe.finetune.init and self.metrics:
            self.network.eval()
            self.metrics.write(0, self.measure())
            self.network.train()

    def training_step(self, batch: Lesson, index: int) -> torch.Tensor:
        """Loss of one batch of crops, at the hardness that the progress demands."""
        optim = self.recipe.optim
        torch.manual_seed(optim.seed * 1_000_003 + self.global_step)
        seen = noisy(batch.batch, optim.noise)
        found = (self._school if self.schooled else self._whole)(batch, seen)
        total = found["loss"]
        found["lr"] = self.lr_schedulers().get_last_lr()[0]
        for key, value in found.items():
            self.log(key, value, prog_bar=key in ("hardness", "loss", "view_error"))
        if self.metrics and (self.global_step + 1) % LOG == 0:
            values = {k: float(torch.as_tensor(v).detach()) for k, v in found.items()}
            self.metrics.write(self.global_step + 1, values)
        return total

    def _school(self, lesson: Lesson, seen: Batch | None) -> dict[str, Any]:
        """Loss, and what is logged, of a step in which the encoder learns the side tasks alone."""
        encoder = self.network.encoder
        states = encoder.states(encoder.graph(lesson.batch if seen is None else seen))
        loss, found = self._side_tasks(Known(states), lesson)
        if world_and_rank()[0] > 1:
            # Data-parallel training wants every parameter to take part in every step.
            loss = loss + sum(0 * p.sum() for p in self.parameters() if p.requires_grad)
        return {"loss": loss, **found}

    def _whole(self, lesson: Lesson, seen: Batch | None) -> dict[str, Any]:
        """Loss, and what is logged, of a step in which all of the network learns."""
        optim, quantizer = self.recipe.optim, self.network.quantizer
        found: dict[str, Any] = {}
        if isinstance(quantizer, ProVQ):
            done = self.global_step - optim.school
            found["hardness"] = quantizer.progress(done / (optim.steps - optim.school))
        # Latents of an encoder that is not trained cannot be made steadier.
        steady = optim.steady if self.recipe.finetune.encoder else 0.0
        losses = self.network(lesson.batch, optim.rows, seen, steady)
        side, answers = self._side_tasks(losses.known, lesson)
        found |= answers
        found |= {"view_error": losses.error, "torsion": losses.torsion}
        found["loss"] = losses.total + side
        if losses.quantized is not None:
            found["commitment"] = losses.quantized.loss
            found["relative_error"] = losses.quantized.error
            found["perplexity"] = quantizer.perplexity()
        return found

    def _side_tasks(self, known: Known, lesson: Lesson) -> tuple[torch.Tensor, dict[str, Any]]:
        """The sum of their losses, and how good the answers were."""
        loss = known.states.new_zeros((), dtype=torch.float32)
        found: dict[str, Any] = {}
        if self.naming is not None:
            named = self.naming(known, lesson.amino_acid.where(lesson.batch.mask, UNKNOWN))
            loss = loss + named.loss
            found |= {f"named_{place}": share for place, share in named.right.items()}
        if self.teaching is not None:
            taught = lesson.taught.where(lesson.batch.mask[:, None], float("nan"))
            learnt = self.teaching(known, taught)
            loss = loss + learnt.loss
            found |= {f"taught_{place}": share for place, share in learnt.right.items()}
        return loss, found

    def measure(self) -> dict[str, float]:
        """Round trip of held-out chains: mean CA RMSD, TM-score, lDDT, and the codes used.

        Also how many of their residues the encoder's states name, where they are asked; nothing
        else while only the encoder learns.
        """
        named = self._named()
        return named if self.schooled else named | self._round_trip()

    @torch.no_grad()
    def _named(self) -> dict[str, float]:
        if self.naming is None or not self.recipe.optim.naming[0]:
            return {}
        encoder, right, asked = self.network.encoder, 0.0, 0
        for backbone in self.held_out:
            batch = Batch.of([backbone]).to(self.device)
            true = amino_acids(backbone.sequence).to(self.device).where(batch.mask, UNKNOWN)
            named = self.naming(Known(encoder.states(encoder.graph(batch))), true)
            count = int((true != UNKNOWN).sum())
            right, asked = right + float(named.right["states"]) * count, asked + count
        return {"valid_named": right / max(asked, 1)}

    def _round_trip(self) -> dict[str, float]:
        self.measuring = True
        tokenizer = StructureTokenizer(self.network, steps=0)
        mean: dict[str, list[float]] = {"rmsd": [], "tm_score": [], "lddt": []}
        codes, latents = [], []
        for backbone in self.held_out:
            if self.network.quantizer is None or not is_settled(self.network):
                again = tokenizer.reconstruct(backbone)
            else:
                tokens = tokenizer.encode(backbone)
                codes.append(tokens.ids[tokens.ids >= 0])
                again = tokenizer.decode(tokens)
            latents.append(tokenizer.embed(backbone)[backbone.mask])
            compared = compare(again, backbone)
            for key, values in mean.items():
                values.append(getattr(compared, key))
        found = {f"valid_{key}": float(np.nanmean(values)) for key, values in mean.items()}
        found["valid_rmsd_median"] = float(np.nanmedian(mean["rmsd"]))
        found["valid_dimension"] = effective_dimension(torch.from_numpy(np.concatenate(latents)))
        if codes:
            counts = np.bincount(np.concatenate(codes), minlength=self.network.quantizer.size)
            found["valid_usage"] = share_used(counts)
            found["valid_perplexity"] = perplexity(counts)
        self.measuring = False
        return found

    def validation_step(self, batch: list[int], index: int) -> None:
        """`measure`; every process finds the same."""
        found = self.measure()
        for key, value in found.items():
            self.log(key, value, prog_bar=key == "valid_rmsd", batch_size=len(self.held_out))
        if self.metrics:
            self.metrics.write(self.global_step, found)

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optim = self.recipe.optim
        optimiser, rate = scheduled_adamw(self, optim, optim.school)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def noisy(batch: Batch, most: float) -> Batch | None:
    """The batch with Gaussian noise on every atom, each chain's of a strength up to `most` Å."""
    if not most:
        return None
    size = [most * torch.rand(1).expand(n) for n in batch.sizes]
    noise = torch.cat(size)[:, None, None].to(batch.coords) * torch.randn_like(batch.coords)
    return dataclasses.replace(batch, coords=batch.coords + noise * batch.mask[:, None, None])
