"""One cell of the experiment: train an arm, and score it on held-out data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.progressive.plan import TUNE, Cell
from benchmarks.progressive.tasks import Task, build_task
from benchmarks.tables.provenance import digest
from protok.quantize import ProVQ, Quantizer, build_quantizer, diagnose, effective_dimension

#: Latents that a codebook is placed on anew, as many as `ProVQ` keeps.
RESERVOIR = 32768
#: Share of the steps that the learning rate rises over.
WARM = 0.02
#: Held-out items whose errors are kept one by one, at most.
ITEMS = 1000


def measure(cell: Cell, plan: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Train one cell; what it reached, and its curve on the half for tuning.

    A training that meets numbers that are not finite ends there, and counts as one that has learnt nothing.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    own = plan["tasks"][cell.task]
    run = Run(cell, plan, build_task(cell.task, own, cell.dim, data, cell.seed))
    result: dict[str, Any] = {}
    try:
        rows = run.train(plan["looks"])
        result |= {"tune": evaluate(run.task, run.quantizer, "tune"), "rows": rows}
    except (ValueError, FloatingPointError, torch.linalg.LinAlgError) as error:
        run.task = build_task(cell.task, own, cell.dim, data, cell.seed)
        run.quantizer = None
        result |= {"diverged": str(error), "tune": evaluate(run.task, None, "tune"), "rows": []}
    if cell.part != TUNE:
        result["test"] = evaluate(run.task, run.quantizer, "test", items=True)
        if run.quantizer is not None:
            torch.manual_seed(cell.seed)
            result["test"] |= run.task.report(run.quantizer, "test")
    return result | {
        "cell": asdict(cell),
        "arm": plan["arms"][cell.arm],
        "task": own,
        "data_sha256": {file.name: digest([file]) for file in run.task.files},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


class Run:
    """An arm in training.

    What is random in a step follows from the seed and the step, before the latents and again after the
    quantizer, which draws as often as it likes: arms of one seed see the same noise.
    """

    def __init__(self, cell: Cell, plan: Mapping[str, Any], task: Task):
        self.cell, self.plan, self.task = cell, plan, task
        settings = dict(plan["arms"][cell.arm])
        self.again = settings.pop("placed_again", None)
        torch.manual_seed(cell.seed)
        self.quantizer: Quantizer | None = build_quantizer(
            **{"kind": "provq", "size": cell.size, "dim": cell.dim, **settings}
        )
        self.parameters = [*task.parts.parameters()]
        if self.quantizer is not None:
            self.parameters += self.quantizer.train().parameters()
        self.optimiser = torch.optim.AdamW(self.parameters, cell.rate, weight_decay=plan["weight_decay"])
        self.recent: list[torch.Tensor] = []

    def train(self, looks: int) -> list[dict[str, float]]:
        """All steps; the scores on the way."""
        rows, steps = [], self.cell.steps
        for step in range(steps):
            self.step(step)
            if (step + 1) % max(1, steps // looks) == 0 and step + 1 < steps:
                rows.append({"step": step + 1, **evaluate(self.task, self.quantizer, "tune")})
        return rows

    def step(self, step: int) -> None:
        """One step of the optimiser."""
        done, quantizer = step / self.cell.steps, self.quantizer
        for group in self.optimiser.param_groups:
            group["lr"] = self.cell.rate * rate_at(done)
        x = self.task.batch(step, self.cell.steps)
        if isinstance(quantizer, ProVQ):
            quantizer.progress(done)
            self.place(quantizer, step)
        torch.manual_seed(2 * (self.cell.seed * 1_000_003 + step))
        z, mask = self.task.encode(x)
        fed, extra = z, torch.zeros(())
        if quantizer is not None:
            if self.again is not None and done < self.again:
                self.remember(quantizer.enter(z.detach(), mask)[0])
            before = bool(quantizer.initialised)
            out = quantizer(z, mask)
            fed, extra = out.z, out.loss
            if bool(quantizer.initialised) and not before:
                # A table that is placed now has no history; zeros in it would make its first steps too long.
                for parameter in quantizer.parameters():
                    self.optimiser.state.pop(parameter, None)
        torch.manual_seed(2 * (self.cell.seed * 1_000_003 + step) + 1)
        loss = self.task.loss(fed, z, x) + extra
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss of step {step} is {float(loss)}")
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.plan["clip"])
        self.optimiser.step()

    @torch.no_grad()
    def remember(self, latents: torch.Tensor) -> None:
        """Keep the most recent latents."""
        self.recent.append(latents)
        while sum(map(len, self.recent[1:])) >= RESERVOIR:
            self.recent.pop(0)

    @torch.no_grad()
    def place(self, quantizer: ProVQ, step: int) -> None:
        """Codes that are hard from the first step on: k-means on the first batches, and again if wanted."""
        if quantizer.schedule.kind != "none":
            return
        if step == 0:
            latents: list[torch.Tensor] = []
            for batch in range(self.cell.steps):
                torch.manual_seed(self.cell.seed)
                z, mask = self.task.encode(self.task.batch(batch, self.cell.steps))
                latents.append(quantizer.enter(z, mask)[0])
                if sum(map(len, latents)) >= self.cell.size:
                    break
            quantizer.anchor(torch.cat(latents))
        elif self.again is not None and step / self.cell.steps >= self.again and self.recent:
            quantizer.anchor(torch.cat(self.recent)[-RESERVOIR:])
            self.recent, self.again = [], None


def rate_at(progress: float) -> float:
    """Share of the learning rate: it rises over the first steps, and falls to zero as a cosine."""
    return min((progress + 1e-6) / WARM, 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def evaluate(task: Task, quantizer: Quantizer | None, half: str, items: bool = False) -> dict[str, Any]:
    """Held-out error from hard codes and from latents as they are, and the state of the codebook."""
    task.parts.eval()
    latents: list[torch.Tensor] = []
    parts: dict[str, list[torch.Tensor]] = {"continuous": [], "quantized": [], "count": []}
    for x in task.held_out(half):
        z, mask = task.encode(x)
        latents.append(z.reshape(-1, z.shape[-1]) if mask is None else z[mask])
        hard = z if quantizer is None else quantizer.eval()(z, mask).z
        for name, fed in (("continuous", z), ("quantized", hard)):
            wrong, count = task.errors(fed, x)
            parts[name].append(wrong)
        parts["count"].append(count)
    task.parts.train()
    whole = {name: torch.cat(part).double() for name, part in parts.items()}
    out: dict[str, Any] = {
        name: float(whole[name].sum() / whole["count"].sum()) for name in ("continuous", "quantized")
    }
    if not all(map(math.isfinite, out.values())):
        raise FloatingPointError(f"the held-out errors are {out}")
    if items and len(whole["count"]) <= ITEMS:
        out["wrong"] = [round(value, 5) for value in whole["quantized"].tolist()]
        out["count"] = whole["count"].long().tolist()
    all_latents = torch.cat(latents)
    if quantizer is None:
        return out | {"latent_dimension": effective_dimension(all_latents)}
    state = asdict(diagnose(quantizer, all_latents))
    quantizer.train()
    return out | state
