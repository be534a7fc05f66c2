"""Training: a recipe, a Lightning module, and the run that ties them together.

Everything random in a step follows from the seed and the step's number, so a run
that is killed and resumed goes on as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from protok.data import Store, Stream, open_store
from protok.encoder import Batch
from protok.metrics import compare
from protok.model import Network
from protok.quantize import ProVQ, effective_dimension
from protok.recipe import Recipe, RecipeError, ValidConfig, read_recipe
from protok.tokenizer import StructureTokenizer, is_settled


class Steps(IterableDataset):
    """Batches from the module's present step to the last; each rank has batches of its own."""

    def __init__(self, stream: Stream, module: Training, steps: int):
        self.stream, self.module, self.steps = stream, module, steps

    def __iter__(self) -> Iterator[Batch]:
        world, rank = 1, 0
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        for step in range(self.module.global_step, self.steps):
            crops = self.stream.batch(step * world + rank, self.steps * world)
            coords = [self.stream.store.coords(c.chain, c.begin, c.stop) for c in crops]
            yield Batch.from_coords(
                torch.from_numpy(np.concatenate(coords)), [len(c) for c in coords]
            )


class Training(lightning.LightningModule):
    """The network in training: loss, optimiser, curriculum, validation."""

    def __init__(self, recipe: Recipe, held_out: list):
        super().__init__()
        self.recipe, self.held_out = recipe, held_out
        self.network = Network(recipe.model)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Move a `Batch`, which Lightning does not know."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Loss of one batch of crops, at the hardness that the progress demands."""
        optim = self.recipe.optim
        torch.manual_seed(optim.seed * 1_000_003 + self.global_step)
        progress = self.global_step / optim.steps
        quantizer = self.network.quantizer
        if isinstance(quantizer, ProVQ):
            self.log("hardness", quantizer.progress(progress), prog_bar=True)
        seen = None
        if optim.noise:
            # Each chain has noise of its own strength, from none to the most.
            size = torch.cat([torch.rand(1).expand(n) for n in batch.sizes]).to(batch.coords)
            shift = optim.noise * (size * batch.mask)[:, None, None]
            noise = shift * torch.randn_like(batch.coords)
            seen = dataclasses.replace(batch, coords=batch.coords + noise)
        losses = self.network(batch, optim.rows, seen, optim.steady)
        self.log("loss", losses.total, prog_bar=True)
        self.log("view_error", losses.error, prog_bar=True)
        self.log("torsion", losses.torsion)
        self.log("lr", self.lr_schedulers().get_last_lr()[0])
        if losses.quantized is not None:
            self.log("commitment", losses.quantized.loss)
            self.log("relative_error", losses.quantized.error)
            self.log("perplexity", quantizer.perplexity())
        return losses.total

    def validation_step(self, batch: list[int], index: int) -> None:
        """Round trip of held-out chains: mean CA RMSD, TM-score, lDDT, and the codes used."""
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
            found = compare(again, backbone)
            for key, values in mean.items():
                values.append(getattr(found, key))
        size = len(self.held_out)
        for key, values in mean.items():
            self.log(
                f"valid_{key}", float(np.nanmean(values)), prog_bar=key == "rmsd", batch_size=size
            )
        self.log("valid_rmsd_median", float(np.nanmedian(mean["rmsd"])), batch_size=size)
        dimension = effective_dimension(torch.from_numpy(np.concatenate(latents)))
        self.log("valid_dimension", dimension, batch_size=size)
        if codes:
            p = np.bincount(np.concatenate(codes), minlength=self.network.quantizer.size)
            p = p / p.sum()
            self.log("valid_usage", float((p > 0).mean()), batch_size=size)
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            self.log("valid_perplexity", float(np.exp(entropy)), batch_size=size)

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optim = self.recipe.optim
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
            lr=optim.lr, weight_decay=optim.weight_decay, betas=(0.9, 0.98),
        )  # fmt: skip

        def rate(step: int) -> float:
            rest = (step - optim.warmup) / max(1, optim.steps - optim.warmup)
            return min(
                (step + 1) / optim.warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, rest))))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(
    recipe: str | Path | None = None,
    *,
    structures: str | Path | None = None,
    init: str | Path | None = None,
    out: str | Path = "runs/protok",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Train a tokenizer; returns the folder of the finished model.

    Parameters
    ----------
    recipe
        TOML file; defaults throughout without one.
    structures
        Store or folder of structures; goes before ``data.train``.
    init
        Name or folder of a model to start from; its shape goes before the recipe's.
    out
        Folder for the recipe as resolved, checkpoints, metrics and the model.
    overrides
        Dotted keys and values.
    resume
        Go on from the last checkpoint in `out`, if there is one.
    """
    plan = read_recipe(recipe, overrides)
    out = Path(out)
    if structures is not None:
        plan = dataclasses.replace(plan, data=dataclasses.replace(plan.data, train=str(structures)))
    if not plan.data.train:
        raise RecipeError(
            "nothing to train on", "give --structures FOLDER or data.train in the recipe"
        )
    if init is not None:
        start = StructureTokenizer.from_pretrained(init)
        plan = dataclasses.replace(plan, model=start.network.config)
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise RecipeError("holds a run already", "give --resume or another --out", file=str(out))
    out.mkdir(parents=True, exist_ok=True)
    train, valid = _stores(plan, out)
    (out / "recipe.json").write_text(json.dumps(asdict(plan), indent=1))

    lightning.seed_everything(plan.optim.seed, verbose=False)
    module = Training(plan, _held_out(valid, plan.valid))
    if init is not None:
        module.network.load_state_dict(start.network.state_dict())
    stream = Stream(train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    trainer = _trainer(plan, out)
    began = time.time()
    trainer.fit(
        module,
        DataLoader(Steps(stream, module, plan.optim.steps), batch_size=None),
        DataLoader([0], batch_size=None),
        ckpt_path=str(last) if resume and last.exists() else None,
        weights_only=True,
    )
    provenance = {
        "seed": plan.optim.seed,
        "steps": trainer.global_step,
        "train_sha256": train.digest,
        "train_chains": len(train),
        "valid_sha256": valid.digest,
        "torch": torch.__version__,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "seconds_of_last_start": round(time.time() - began),
        "validation": {
            k: round(float(v), 4) for k, v in trainer.callback_metrics.items() if "valid" in k
        },
        "recipe": asdict(plan),
    }
    StructureTokenizer(module.network).save_pretrained(out / "model", provenance=provenance)
    return out / "model"


def _stores(plan: Recipe, out: Path) -> tuple[Store, Store]:
    train = open_store(plan.data.train, out / "train.parquet")
    if plan.data.valid:
        return train, open_store(plan.data.valid, out / "valid.parquet")
    held = np.arange(len(train)) % 20 == 19
    if not held.any():
        held[-1] = True
    weight = np.where(held, 0.0, train.weight)
    if weight.sum() == 0:
        raise RecipeError("too few chains to hold any out", "give at least two structures")
    valid = dataclasses.replace(train, weight=held / held.sum())
    return dataclasses.replace(train, weight=weight / weight.sum()), valid


def _held_out(store: Store, valid: ValidConfig) -> list:
    fits = np.flatnonzero((store.lengths() <= valid.longest) & (store.weight > 0))
    rng = np.random.default_rng(0)
    picked = np.sort(rng.permutation(fits)[: valid.chains])
    return [store.backbone(int(i)) for i in picked]


def _trainer(plan: Recipe, out: Path) -> lightning.Trainer:
    import logging
    import sys
    import warnings

    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    # The loader makes a batch in milliseconds and has no length; a resumed run finds its folder.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*IterableDataset.*")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    every = max(1, min(plan.valid.every, plan.optim.steps))
    return lightning.Trainer(
        max_steps=plan.optim.steps,
        precision=plan.optim.precision,
        gradient_clip_val=plan.optim.clip,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        log_every_n_steps=20,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=CSVLogger(out, name="metrics", flush_logs_every_n_steps=20),
        callbacks=[
            ModelCheckpoint(
                out / "checkpoints",
                filename="checkpoint",
                every_n_train_steps=max(1, every // 5),
                save_last=True,
                enable_version_counter=False,
            )
        ],
    )  # fmt: skip
