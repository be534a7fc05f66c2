"""What this machine's processor is fast at."""

from __future__ import annotations

import time

import torch

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
