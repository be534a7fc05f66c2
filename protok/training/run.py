"""Training: a recipe, a Lightning module, and the run that ties them together.

Everything random in a step follows from the seed and the step's number, so a run
that is killed and resumed goes on as if nothing had happened (see `protok.common.callbacks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from protok.common.checkpoint import CARD
from protok.common.extras import Extra
from protok.common.files import atomic
from protok.quantize.own import import_own
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training import finetune
from protok.training.batches import Stream, TrainingBatches
from protok.training.card import card
from protok.training.config import Recipe, RecipeError, read_recipe
from protok.training.module import MONITOR, Training
from protok.training.report import report_tuning
from protok.training.splits import Splits, held_out, make_splits

with Extra("train", "training"):
    from protok.common import callbacks
    from protok.common.callbacks import OutOfMemory
    from protok.common.run import TrainingRun

#: Å by which a run must get better to count as better.
GAIN = 0.01


@dataclass(frozen=True)
class Prepared:
    """All that there is before the first step.

    ``start``: the model to fine-tune, if there is one, and ``frozen`` what keeps its codes.
    """

    run: TrainingRun
    recipe: Recipe
    splits: Splits
    start: ShapeTokenizer | None
    module: Training
    frozen: list[finetune.FrozenCodes]


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
        Store or folder of structures; goes before ``data.train``, and without the recipe's ``data.valid``.
    init
        Name or folder of a model to fine-tune; goes before ``finetune.init``. Its shape is
        kept, and what neither recipe nor overrides say comes from `protok.training.finetune.defaults`.
    out
        Folder of the run. It gets ``recipe.json`` (as resolved), ``split.csv`` (which chains are
        held out), ``train.errors.tsv`` (files that could not be read), ``metrics.csv``,
        ``training.svg``, ``checkpoints/``, ``model/`` and, of fine-tuning, ``report.md``,
        ``report.json`` and ``report.svg``, and ``letters.csv`` where codes move; ``tensorboard/`` where
        that is installed.
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
    training = TrainingRun(out, resume)
    options = training.options(overrides, structures)
    if init is not None:
        options["finetune.init"] = str(init)
    prepared = prepare(training, recipe, options)
    fit(prepared)
    if not training.first:
        return training.model
    return write(prepared, *choose_weights(prepared))


def prepare(run: TrainingRun, recipe: str | Path | None, options: Mapping[str, Any]) -> Prepared:
    """Read the recipe, split the chains, make the network that is trained."""
    plan = read_recipe(recipe, options, run.settings)
    if not plan.data.train:
        raise RecipeError("nothing to train on", "give --structures FOLDER or data.train in the recipe")
    if not (Path(plan.data.train).exists() or has_magic(plan.data.train)):
        remedy = "give --structures FOLDER of yours; for a store of recipes.promod3 see the page Train"
        raise RecipeError("data.train is not there", remedy, file=plan.data.train)
    kinds = plan.model.encoder.kind, plan.model.quantizer.kind, plan.model.quantizer.inner
    import_own(kind for kind in kinds if ":" in kind)
    odd = [key for key in options if key.startswith("finetune.")]
    if odd and not plan.finetune.init:
        raise RecipeError(f"{odd[0]} without a model to fine-tune", "give --init MODEL")
    start = ShapeTokenizer.from_pretrained(plan.finetune.init) if plan.finetune.init else None
    run.out.mkdir(parents=True, exist_ok=True)
    splits = make_splits(plan, run.out, resumed=run.checkpoint is not None, write=run.first)
    if start is not None:
        lengths = splits.train.lengths()[splits.train.weight > 0]
        settings = run.settings or finetune.defaults(start, plan.finetune.codebook, lengths)
        plan = read_recipe(recipe, options, settings)
        finetune.check(plan, start)
    plan = run.begin(plan, splits.train.digest)
    module = Training(plan, held_out(splits.valid, plan.valid))
    frozen = [] if start is None else finetune.begin(module.network, start, plan.finetune.codebook)
    return Prepared(run, plan, splits, start, module, frozen)


def fit(prepared: Prepared) -> None:
    """Train to the end, or until the held-out RMSD no longer improves."""
    plan, module = prepared.recipe, prepared.module
    patience = plan.valid.patience
    stream = Stream(prepared.splits.train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    steps = TrainingBatches(stream, module, plan.optim.steps)
    try:
        prepared.run.fit(
            module,
            DataLoader(steps, batch_size=None, num_workers=plan.data.workers),
            monitor=callbacks.Monitor(MONITOR, GAIN, patience) if patience else None,
            draw=draw_if_possible,
            devices=plan.optim.devices,
            gradient_clip_val=plan.optim.clip,
        )
    except (MemoryError, RuntimeError) as error:
        if not callbacks.is_out_of_memory(error):
            raise
        raise memory_advice(plan, module.measuring) from error


def choose_weights(prepared: Prepared) -> tuple[int, dict[str, float]]:
    """Give the network the weights to keep; returns how many steps they saw, and their validation.

    They may be those that fine-tuning started from, or lie between these and the best.
    """
    run, plan, module, start = prepared.run, prepared.recipe, prepared.module, prepared.start
    step, share = run.steps, plan.finetune.weight_interpolation
    if plan.valid.patience and (best := run.best()) is not None:
        step = int(best["global_step"])
        module.load_state_dict(best["state_dict"])
    for codes in prepared.frozen:
        codes.finish()
    module.network.eval()
    measured = run.validation(step)
    if start is not None and share < 1:
        finetune.interpolate_weights(module.network, start.network, share)
        measured = {}
    measured = measured or module.measure()
    before = run.validation(0)
    if start is not None and before and before[MONITOR] <= measured[MONITOR]:
        # It has learnt nothing that holds: the model is what it was.
        module.network.load_state_dict(start.network.state_dict())
        step, measured = 0, before
    return step, measured


def write(prepared: Prepared, step: int, measured: Mapping[str, float]) -> Path:
    """Write the model with its card and, of fine-tuning, the report; returns the folder of the model."""
    run, splits, start = prepared.run, prepared.splits, prepared.start
    provenance = run.provenance(
        best_step=step,
        train_chains=int((splits.train.weight > 0).sum()),
        valid_sha256=splits.valid.digest,
        validation={key: round(value, 4) for key, value in measured.items()},
    )
    if start is not None:
        digest = start.provenance.get("train_sha256")
        provenance["init"] = {"codebook": start.codebook, "train_sha256": digest}
    tokenizer, report = ShapeTokenizer(prepared.module.network.eval()), None
    run.write(lambda folder: tokenizer.save_pretrained(folder, provenance=provenance))
    if start is not None:
        device = run.trainer.strategy.root_device
        report = report_tuning(start, prepared.recipe, run.out, splits, provenance, device)
    with atomic(run.model / CARD) as handle:
        handle.write(card(tokenizer.codebook, tokenizer.size, provenance, report))
    return run.model


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
        f"longest crop in data.curriculum (now {longest}); --resume goes on from the last checkpoint",
    )


def draw_if_possible(rows: list[dict[str, float]], path: Path) -> None:
    """`protok.viz.plots.draw_training`; without matplotlib the metrics file alone must do."""
    if find_spec("matplotlib") is not None:
        from protok.viz.plots import draw_training

        draw_training(rows, path)
