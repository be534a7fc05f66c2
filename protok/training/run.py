"""Training: a recipe, a Lightning module, and the run that ties them together.

Everything random in a step follows from the seed and the step's number, so a run
that is killed and resumed goes on as if nothing had happened (see `protok.common.callbacks`).
"""

from __future__ import annotations

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
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from protok.common import callbacks
from protok.common.callbacks import OutOfMemory
from protok.common.trainer import fit, made_with, make_trainer, on_this_machine
from protok.structure.store import Store
from protok.tokenizers.learned import StructureTokenizer
from protok.training import finetune
from protok.training.batches import Steps, Stream
from protok.training.config import Recipe, RecipeError, read_recipe
from protok.training.distillation import Teacher, read_teacher
from protok.training.module import Training
from protok.training.report import report_tuning
from protok.training.splits import held_out, sides_of


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
        kept, and what neither recipe nor overrides say comes from `protok.training.finetune.defaults`.
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
    found = callbacks.latest(out / "checkpoints")
    if found and not resume:
        raise RecipeError("holds a run already", "give --resume or another --out", file=str(out))
    before = out / "recipe.json"
    said = json.loads(before.read_text()) if resume and before.exists() else {}
    plan = read_recipe(recipe, given, said)
    if not plan.data.train:
        raise RecipeError("nothing to train on", "give --structures FOLDER or data.train in the recipe")
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
            "restore them, or start again with another --out",
            file=str(out),
        )
    if first:
        partial = before.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(plan), indent=1))
        partial.replace(before)
        if found is None:
            (out / "checkpoints" / callbacks.BEST).unlink(missing_ok=True)

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
        module.metrics = callbacks.MetricsFile(out / "metrics.csv", done)
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
            "codebook": start.codebook,
            "train_sha256": start.provenance.get("train_sha256"),
        }
    tokenizer.save_pretrained(out / "model.partial", provenance=provenance)
    shutil.rmtree(out / "model", ignore_errors=True)
    (out / "model.partial").rename(out / "model")
    if start is not None:
        report_tuning(start, out, sides, provenance, trainer.strategy.root_device)
    return out / "model"


def _fit(
    trainer: lightning.Trainer,
    module: Training,
    train: Store,
    checkpoint: Path | None,
    teacher: Teacher | None,
) -> None:
    plan = module.recipe
    stream = Stream(train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    try:
        steps = Steps(stream, module, plan.optim.steps, plan.optim.school, teacher)
        batches = DataLoader(steps, batch_size=None, num_workers=plan.data.workers)
        fit(trainer, module, batches, checkpoint)
    except (MemoryError, RuntimeError) as error:
        if not callbacks.is_out_of_memory(error):
            raise
        raise memory_advice(plan, module.measuring) from error


def _take_best(module: Training, start: StructureTokenizer | None, out: Path, done: int) -> int:
    """Give the module the weights to keep; returns how many steps they have seen.

    They may be those that fine-tuning started from.
    """
    path = out / "checkpoints" / callbacks.BEST
    if not (module.recipe.valid.patience and path.exists()):
        return done
    best = torch.load(path, map_location="cpu", weights_only=True)
    step, rows = int(best["global_step"]), module.metrics.rows
    lowest, before = (_validation(rows, n).get(callbacks.MONITOR) for n in (step, 0))
    if start is not None and None not in (lowest, before) and before <= lowest:
        finetune.give(module.network, start)
        return 0
    module.load_state_dict(best["state_dict"])
    return step


def _validation(rows: list[dict[str, float]], step: int) -> dict[str, float]:
    """What the validation after so many steps found; empty if there was none."""
    for row in rows:
        if row["step"] == step and callbacks.MONITOR in row:
            return {k: v for k, v in row.items() if k != "step"}
    return {}


def _trainer(plan: Recipe, out: Path, done: int) -> lightning.Trainer:
    loggers = []
    if find_spec("tensorboard") is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(out, "tensorboard", "", purge_step=done or None))
    every = max(1, min(plan.valid.every, plan.optim.steps))
    folder = out / "checkpoints"
    watchers: list[lightning.Callback] = [callbacks.Figures(out / "training.svg", draw_if_possible)]
    if plan.valid.patience:
        watchers += [callbacks.Patience(plan.valid.patience), callbacks.Best(folder)]
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
        plugins=[callbacks.AtomicCheckpoints()],
        callbacks=[*watchers, callbacks.Last(folder, max(1, every // 5), every)],
    )


def memory_advice(plan: Recipe, validating: bool) -> OutOfMemory:
    """What to lower when memory ran out; most effective first."""
    longest = max(length for _, length in plan.data.curriculum)
    if validating:
        return OutOfMemory(
            "memory ran out in validation", f"lower valid.longest (now {plan.valid.longest}), with --set"
        )
    return OutOfMemory(
        "memory ran out in training",
        f"lower, with --set: data.residues (now {plan.data.residues}, memory grows with it), the "
        f"longest crop in data.curriculum (now {longest}, memory grows with its square), "
        f"optim.rows (now {plan.optim.rows}); --resume goes on from the last checkpoint",
    )


def draw_if_possible(rows: list[dict[str, float]], path: Path) -> None:
    """`protok.viz.plots.draw_training`; without matplotlib the metrics file alone must do."""
    try:
        from protok.viz.plots import draw_training
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        return
    draw_training(rows, path)
