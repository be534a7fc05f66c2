"""What all trainings share: the optimiser, its rate, Lightning's trainer, what is held out.

Knows no model in particular.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from protok.common.settings import RecipeError

#: Steps between rows of training metrics.
LOG = 20


def rise_and_fall(steps: int, warmup: int, school: int = 0) -> Callable[[int], float]:
    """Share of the rate at a step: it rises over the warm-up and falls to zero as a cosine.

    It does so twice where the first steps are a `school`.
    """
    if school:
        first, then = rise_and_fall(school, warmup), rise_and_fall(steps - school, warmup)
        return lambda step: first(step) if step < school else then(step - school)

    def rate(step: int) -> float:
        rest = (step - warmup) / max(1, steps - warmup)
        return min((step + 1) / max(1, warmup), 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, rest)))))

    return rate


def scheduled_adamw(network: nn.Module, optim: Any, school: int = 0) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW that leaves biases and gains alone, and `rise_and_fall`, of a section ``optim``."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        betas=(0.9, 0.98),
    )
    return optimiser, LambdaLR(optimiser, rise_and_fall(optim.steps, optim.warmup, school))


def world_and_rank() -> tuple[int, int]:
    """How many train together, and the number of this one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def every_twentieth(n: int, what: str, file: str) -> np.ndarray:
    """(n,) bool: which of the training set is held out where nothing else is given.

    Raises
    ------
    RecipeError
        If there are fewer than two.
    """
    if n < 2:
        raise RecipeError(f"too few {what} to hold any out", "give at least two", file=file)
    return np.arange(n) % 20 == min(19, n - 1)


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


def on_this_machine(plan: Any, before: Path | None = None) -> Any:
    """The plan with a precision: ``auto`` is ``bf16-mixed`` where that is faster, else ``32``.

    Parameters
    ----------
    plan
        A recipe with a section ``optim``.
    before
        ``recipe.json`` of the run that goes on, which stays with what it began in.
    """
    if plan.optim.precision != "auto":
        return plan
    if before is not None and before.exists():
        precision = json.loads(before.read_text())["optim"]["precision"]
    elif torch.cuda.is_available():
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "32"
    else:
        precision = "bf16-mixed" if half_is_faster() else "32"
    return replace(plan, optim=replace(plan.optim, precision=precision))


def make_trainer(
    out: Path,
    *,
    steps: int,
    every: int,
    precision: str,
    logger: Logger | Sequence[Logger] | None = None,
    callbacks: Sequence[lightning.Callback] | None = None,
    **more: Any,
) -> lightning.Trainer:
    """Lightning's trainer of a run.

    Parameters
    ----------
    out
        Folder of the run.
    steps, precision
        Of the optimiser; ``bf16-mixed`` or ``32`` (see `on_this_machine`).
    every
        Steps from one validation to the next.
    logger
        Metrics as CSV unless given.
    callbacks
        A checkpoint twice as often as validation unless given.
    more
        Further arguments of ``lightning.Trainer``.
    """
    # Workers are the recipe's choice, a stream of batches has no length, a resumed run finds its
    # folder with the state after its last step, and processes all validate on the same.
    for text in (
        ".*does not have many workers.*",
        ".*IterableDataset.*",
        "Checkpoint directory .* exists",
        ".*LeafSpec.*",
        "Using ModelCheckpoint with manual",
        ".*recommended to use .*sync_dist.*",
    ):
        warnings.filterwarnings("ignore", text)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    every = max(1, min(every, steps))
    if callbacks is None:
        callbacks = [
            ModelCheckpoint(
                out / "checkpoints",
                filename="checkpoint",
                every_n_train_steps=max(1, every // 2),
                save_last=True,
                enable_version_counter=False,
            )
        ]
    if logger is None:
        logger = CSVLogger(out, name="metrics", flush_logs_every_n_steps=LOG)
    return lightning.Trainer(
        max_steps=steps,
        precision=precision,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        log_every_n_steps=LOG,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=logger,
        callbacks=callbacks,
        **more,
    )


def fit(
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    batches: DataLoader,
    checkpoint: Path | None,
) -> None:
    """Train, from a checkpoint on if there is one; the module knows what it is validated on.

    Raises
    ------
    KeyboardInterrupt
        Of Ctrl-C, which Lightning would make a silent exit.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            module,
            batches,
            DataLoader([0], batch_size=None),
            ckpt_path=None if checkpoint is None else str(checkpoint),
            weights_only=True,
        )
    except SystemExit as error:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, before)  # Lightning has shut it off
        raise KeyboardInterrupt("--resume goes on from the last checkpoint") from error


def made_with(began: float) -> dict[str, Any]:
    """What provenance says of every run; `began`: when it did, in seconds."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "torch": torch.__version__,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}",
        "seconds_of_last_start": round(time.time() - began),
    }


#: So many times as fast bfloat16 must be to be worth what it loses. Processors are on one side of
#: this or the other by far, so that processes which each measure it agree.
CLEARLY = 1.5


def half_is_faster() -> bool:
    """Whether the processor multiplies matrices faster in bfloat16 than in float32.

    Those with units for it are several times faster, others many times slower. Which it is, is
    measured, as names of processors and libraries tell too little.
    """
    return CLEARLY * _seconds(torch.bfloat16) < _seconds(torch.float32)


def _seconds(kind: torch.dtype) -> float:
    """For a product of two matrices, the best of some."""
    a, spent = torch.ones(256, 256, dtype=kind), []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        spent.append(time.perf_counter() - began)
    return min(spent)
