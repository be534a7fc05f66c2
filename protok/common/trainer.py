"""What all trainings share: the optimiser, its rate, its precision, what is held out.

Knows no model in particular.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from protok.common.settings import RecipeError

#: Steps between rows of training metrics.
LOG = 20


def rise_and_fall(steps: int, warmup: int, encoder_warmup_steps: int = 0) -> Callable[[int], float]:
    """Share of the rate at a step: it rises over the warm-up and falls to zero as a cosine.

    It does so twice where the first steps train the encoder alone.
    """
    if encoder_warmup_steps:
        first = rise_and_fall(encoder_warmup_steps, warmup)
        then = rise_and_fall(steps - encoder_warmup_steps, warmup)
        return lambda step: first(step) if step < encoder_warmup_steps else then(step - encoder_warmup_steps)

    def rate(step: int) -> float:
        rest = (step - warmup) / max(1, steps - warmup)
        return min((step + 1) / max(1, warmup), 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, rest)))))

    return rate


def scheduled_adamw(
    network: nn.Module, optim: Any, encoder_warmup_steps: int = 0
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW that leaves biases and gains alone, and `rise_and_fall`, of a section ``optim``."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay}
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    optimiser = torch.optim.AdamW([matrices, others], lr=optim.lr, betas=(0.9, 0.98))
    rate = rise_and_fall(optim.steps, optim.lr_warmup_steps, encoder_warmup_steps)
    return optimiser, LambdaLR(optimiser, rate)


def world_and_rank() -> tuple[int, int]:
    """How many train together, and the number of this one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def every_twentieth(n: int, what: str, file: str) -> np.ndarray:
    """(n,) bool: which of the training set is held out where nothing else is given; at least one.

    Raises a `RecipeError` if there are fewer than two.
    """
    if n < 2:
        raise RecipeError(f"too few {what} to hold any out", "give at least two", file=file)
    return np.arange(n) % 20 == min(19, n - 1)


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
        precision = json.loads(before.read_text(encoding="utf-8"))["optim"]["precision"]
    else:
        gpu = torch.cuda.is_available()
        faster = torch.cuda.is_bf16_supported(False) if gpu else half_is_faster()
        precision = "bf16-mixed" if faster else "32"
    return replace(plan, optim=replace(plan.optim, precision=precision))


#: Instructions that multiply matrices of bfloat16, as processors name them.
HALF = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}


def half_is_faster() -> bool:
    """Whether the processor has instructions that multiply matrices of bfloat16.

    With them that is several times as fast as in float32, without them many times slower. What the
    processor says it has decides, never a measurement: that would depend on what else runs.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").lower().splitlines()
    except OSError:  # no Linux: what torch knows, which is float32 where it knows nothing
        known = getattr(torch.cpu, "get_capabilities", dict)()
        return any(known.get(name) for name in HALF)
    flags = next((line for line in lines if line.startswith(("flags", "features"))), "")
    return not HALF.isdisjoint(flags.split())
