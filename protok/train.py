"""Training: a recipe, a Lightning module, and the run that ties them together.

Everything random in a step follows from the seed and the step's number, so a run
that is killed and resumed goes on as if nothing had happened (see `protok.common.callbacks`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from protok import finetune
from protok.common import callbacks as survive
from protok.common.trainer import (
    LOG,
    fit,
    made_with,
    make_trainer,
    on_this_machine,
    scheduled_adamw,
    world_and_rank,
)
from protok.holdout import held_out, sides_of
from protok.lessons import Lesson, Steps
from protok.model.features import Batch
from protok.model.network import Known, Network
from protok.naming import UNKNOWN, Naming, amino_acids
from protok.quantize import ProVQ, effective_dimension
from protok.recipe import Recipe, RecipeError, read_recipe
from protok.report import report_tuning
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.structure.store import Store, Stream
from protok.teaching import Teacher, Teaching, read_teacher
from protok.tokenizers.learned import StructureTokenizer, is_settled


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
        self, recipe: Recipe, held_out: list[Backbone], data_sha256: str = "",
        teacher: Teacher | None = None,
    ):  # fmt: skip
        super().__init__()
        self.recipe, self.held_out, self.data_sha256 = recipe, held_out, data_sha256
        self.network = Network(recipe.model)
        shape, optim = recipe.model, recipe.optim
        self.network.decoder.superposed = optim.superposed
        widths = (shape.encoder.hidden, shape.quantizer.dim, shape.decoder.width)
        self.naming = Naming(widths, optim.naming) if any(optim.naming) else None
        self.teaching = Teaching(widths, optim.taught, teacher.widths) if teacher else None
        self.metrics: survive.MetricsFile | None = None
        self.frozen: finetune.FrozenCodes | None = None
        self.measuring = False

    @property
    def hard(self) -> bool:
        """Whether the decoder is trained on codes alone, as it is used."""
        quantizer = self.network.quantizer
        return not self.schooled and (not isinstance(quantizer, ProVQ) or (
            bool(quantizer.initialised) and float(quantizer.hardness) == 1
        ))  # fmt: skip

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
            p = np.bincount(np.concatenate(codes), minlength=self.network.quantizer.size)
            p = p / p.sum()
            found["valid_usage"] = float((p > 0).mean())
            found["valid_perplexity"] = float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()))
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


def run(
    recipe: str | Path | None = None,
    *,
    structures: str | Path | None = None,
    init: str | Path | None = None,
    out: str | Path = "runs/protok",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Train a tokenizer, or fine-tune one; returns the folder of the finished model.

    Parameters
    ----------
    recipe
        TOML file; defaults throughout without one.
    structures
        Store or folder of structures; goes before ``data.train``.
    init
        Name or folder of a model to fine-tune; goes before ``finetune.init``. Its shape is
        kept, and what neither recipe nor overrides say comes from `protok.finetune.defaults`.
    out
        Folder of the run. It gets ``recipe.json`` (as resolved), ``split.csv`` (which chains are
        held out), ``train.errors.tsv`` (files that could not be read), ``metrics.csv``,
        ``training.svg``, ``checkpoints/``, ``model/`` and, of fine-tuning, ``report.md``,
        ``report.json`` and ``report.svg``; ``tensorboard/`` where that is installed.
    overrides
        Dotted keys and values.
    resume
        Go on from the last checkpoint in `out`, if there is one, with the settings of
        ``recipe.json`` save those that are given anew.

    Raises
    ------
    RecipeError
        For settings without a meaning, or a run that is in the way.
    OutOfMemory
        If memory runs out; says which settings to lower.
    """
    out, given = Path(out), dict(overrides or {})
    for key, value in (("data.train", structures), ("finetune.init", init)):
        if value is not None:
            given[key] = str(value)
    found = survive.latest(out / "checkpoints")
    if found and not resume:
        raise RecipeError("holds a run already", "give --resume or another --out", file=str(out))
    before = out / "recipe.json"
    said = json.loads(before.read_text()) if resume and before.exists() else {}
    plan = read_recipe(recipe, given, said)
    if not plan.data.train:
        raise RecipeError(
            "nothing to train on", "give --structures FOLDER or data.train in the recipe"
        )
    odd = [key for key in given if key.startswith("finetune.")]
    if odd and not plan.finetune.init:
        raise RecipeError(f"{odd[0]} without a model to fine-tune", "give --init MODEL")
    start = StructureTokenizer.from_pretrained(plan.finetune.init) if plan.finetune.init else None
    out.mkdir(parents=True, exist_ok=True)
    first = rank_zero_only.rank == 0
    sides = sides_of(plan, out, resumed=found is not None, write=first)
    if start is not None:
        lengths = sides.train.lengths()[sides.train.weight > 0]
        said = said or finetune.defaults(start, plan.finetune.codebook, lengths, out)
        plan = read_recipe(recipe, given, said)
        finetune.check(plan, start)
    plan = on_this_machine(plan)
    digest = sides.train.digest
    if found and found[1].get("data_sha256", digest) != digest:
        raise RecipeError(
            "the training structures have changed since the run began",
            "restore them, or start again with another --out", file=str(out),
        )  # fmt: skip
    if first:
        partial = before.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(plan), indent=1))
        partial.replace(before)
        if found is None:
            (out / "checkpoints" / survive.BEST).unlink(missing_ok=True)

    lightning.seed_everything(plan.optim.seed, verbose=False)
    teacher = None
    if any(plan.optim.taught):
        teacher = read_teacher(plan.data.teacher, sides.train, plan.optim.around)
    module = Training(plan, held_out(sides.valid, plan.valid), digest, teacher)
    if start is not None:
        module.frozen = finetune.begin(module.network, start, plan)
    done = int(found[1]["global_step"]) if found else 0
    trainer = _trainer(plan, out, done)
    if trainer.is_global_zero:
        module.metrics = survive.MetricsFile(out / "metrics.csv", done)
    began = time.time()
    _fit(trainer, module, sides.train, found[0] if found else None, teacher)
    if not trainer.is_global_zero:
        return out / "model"
    best = _take_best(module, start, out, trainer.global_step)
    if module.frozen is not None:
        module.frozen.finish()
    measured = _validation(module.metrics.rows, best)
    if start is not None and best and plan.finetune.blend < 1:
        finetune.blend(module.network.eval(), start, plan.finetune.blend)
        measured = module.measure()
    provenance = {
        "seed": plan.optim.seed,
        "steps": trainer.global_step,
        "best_step": best,
        "train_sha256": digest,
        "train_chains": int((sides.train.weight > 0).sum()),
        "valid_sha256": sides.valid.digest,
        **made_with(began),
        "validation": {k: round(v, 4) for k, v in measured.items()},
        "recipe": asdict(plan),
    }
    if teacher is not None:
        provenance["states_of"] = teacher.name
    tokenizer = StructureTokenizer(module.network.eval())
    if start is not None:
        provenance["init"] = {
            "codebook": start.codebook, "train_sha256": start.provenance.get("train_sha256")
        }  # fmt: skip
    tokenizer.save_pretrained(out / "model.partial", provenance=provenance)
    shutil.rmtree(out / "model", ignore_errors=True)
    (out / "model.partial").rename(out / "model")
    if start is not None:
        report_tuning(start, out, sides, provenance, trainer.strategy.root_device)
    return out / "model"


def _fit(
    trainer: lightning.Trainer, module: Training, train: Store, checkpoint: Path | None,
    teacher: Teacher | None,
) -> None:  # fmt: skip
    plan = module.recipe
    stream = Stream(train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    try:
        steps = Steps(stream, module, plan.optim.steps, plan.optim.school, teacher)
        batches = DataLoader(steps, batch_size=None, num_workers=plan.data.workers)
        fit(trainer, module, batches, checkpoint)
    except (MemoryError, RuntimeError) as error:
        if not survive.is_out_of_memory(error):
            raise
        raise survive.memory_advice(plan, module.measuring) from error


def _take_best(module: Training, start: StructureTokenizer | None, out: Path, done: int) -> int:
    """Give the module the weights to keep; returns how many steps they have seen.

    They may be those that fine-tuning started from.
    """
    path = out / "checkpoints" / survive.BEST
    if not (module.recipe.valid.patience and path.exists()):
        return done
    best = torch.load(path, map_location="cpu", weights_only=True)
    step, rows = int(best["global_step"]), module.metrics.rows
    lowest, before = (_validation(rows, n).get(survive.MONITOR) for n in (step, 0))
    if start is not None and None not in (lowest, before) and before <= lowest:
        finetune.give(module.network, start)
        return 0
    module.load_state_dict(best["state_dict"])
    return step


def _validation(rows: list[dict[str, float]], step: int) -> dict[str, float]:
    """What the validation after so many steps found; empty if there was none."""
    for row in rows:
        if row["step"] == step and survive.MONITOR in row:
            return {k: v for k, v in row.items() if k != "step"}
    return {}


def _trainer(plan: Recipe, out: Path, done: int) -> lightning.Trainer:
    loggers = []
    if find_spec("tensorboard") is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(out, "tensorboard", "", purge_step=done or None))
    every = max(1, min(plan.valid.every, plan.optim.steps))
    folder = out / "checkpoints"
    callbacks: list[lightning.Callback] = [survive.Figures(out / "training.svg")]
    if plan.valid.patience:
        callbacks += [survive.Patience(plan.valid.patience), survive.Best(folder)]
    # torchrun says how many processes it has started, on this machine and in all.
    local, world = (int(os.environ.get(key, 0)) for key in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return make_trainer(
        out,
        steps=plan.optim.steps,
        every=every,
        precision=plan.optim.precision,
        devices=plan.optim.devices or local or "auto",
        num_nodes=world // local if local else 1,
        gradient_clip_val=plan.optim.clip,
        logger=loggers,
        plugins=[survive.AtomicCheckpoints()],
        callbacks=[*callbacks, survive.Last(folder, max(1, every // 5), every)],
    )
