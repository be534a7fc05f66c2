"""What trainings of images and priors share: the optimiser, its rate, Lightning's trainer."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from protok.settings import RecipeError


def adamw(network: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that shrinks matrices and leaves biases and gains alone."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98),
    )  # fmt: skip


def rise_and_fall(steps: int, warmup: int) -> Callable[[int], float]:
    """Share of the rate at a step: it rises over the warm-up and falls to zero as a cosine."""

    def rate(step: int) -> float:
        rest = (step - warmup) / max(1, steps - warmup)
        return min(
            (step + 1) / max(1, warmup), 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, rest))))
        )

    return rate


def last_checkpoint(out: Path, resume: bool) -> Path | None:
    """Checkpoint of a run to go on from; None where there is none.

    Raises
    ------
    RecipeError
        If there is one and the run was not to be resumed.
    """
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise RecipeError("holds a run already", "give --resume or another --out", file=str(out))
    return last if last.exists() else None


def make_trainer(out: Path, *, steps: int, every: int, precision: str, **more: Any) -> Any:
    """Lightning's trainer of a run: metrics as CSV, a checkpoint twice as often as validation.

    Parameters
    ----------
    out
        Folder of the run.
    steps, precision
        Of the optimiser; ``bf16-mixed`` or ``32``.
    every
        Steps from one validation to the next.
    more
        Further arguments of ``lightning.Trainer``.
    """
    # How many workers to use is the recipe's choice; a resumed run finds its folder.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*IterableDataset.*")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    # A checkpoint holds the state after its step, which is where a resumed run goes on.
    warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    every = max(1, min(every, steps))
    checkpoints = ModelCheckpoint(
        out / "checkpoints", filename="checkpoint", every_n_train_steps=max(1, every // 2),
        save_last=True, enable_version_counter=False,
    )  # fmt: skip
    return lightning.Trainer(
        max_steps=steps,
        precision=precision,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        log_every_n_steps=20,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=CSVLogger(out, name="metrics", flush_logs_every_n_steps=20),
        callbacks=[checkpoints],
        **more,
    )
