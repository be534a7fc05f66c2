"""Training of shapes and keyframes: recipe, Lightning module, run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from protok.common import callbacks
from protok.common.checkpoint import find_model, has_keyframes
from protok.common.run import TrainingModule, TrainingRun
from protok.common.settings import OptimSettings, RecipeError, read_settings
from protok.common.trainer import scheduled_adamw
from protok.model.shape_config import ShapesConfig
from protok.model.shape_loss import losses
from protok.model.shape_network import ShapeNetwork
from protok.quantize import ProVQ
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training import shapes_finetune
from protok.training.batches import Stream, TrainingBatch, TrainingBatches
from protok.training.config import DataConfig, SplitConfig, TuneConfig, ValidConfig
from protok.training.finetune import interpolate_weights
from protok.training.module import noisy
from protok.training.report import report_tuning
from protok.training.splits import held_out, make_splits

#: What tells that a run still gets better, and by how much it must.
MONITOR, GAIN = "valid_rmsd", 0.01


@dataclass(frozen=True)
class ShapesOptim(OptimSettings):
    """How to train.

    ``coordinate_noise``: the encoder sees chains with Gaussian noise of up to so many Å on every atom.
    ``consistency_weight``: of the squared difference between latents with and without that noise, and of a
    stretch inside its chain and alone. ``spacing_odds``: how often each spacing of
    ``model.keyframes`` is drawn, in their order.
    """

    steps: int = 12000
    weight_decay: float = 0.01
    lr_warmup_steps: int = 100
    coordinate_noise: float = 0.2
    consistency_weight: float = 20.0
    spacing_odds: tuple[float, ...] = (0.15, 0.35, 0.3, 0.2)


@dataclass(frozen=True)
class ShapesData(DataConfig):
    """What to train on; see `protok.training.config.DataConfig`."""

    residues: int = 1024
    curriculum: tuple[tuple[float, int], ...] = ((0.0, 256),)


@dataclass(frozen=True)
class ShapesRecipe:
    """A whole training run; reads from and writes to TOML sections of these names."""

    model: ShapesConfig = field(default_factory=ShapesConfig)
    data: ShapesData = field(default_factory=ShapesData)
    optim: ShapesOptim = field(default_factory=ShapesOptim)
    valid: ValidConfig = field(default_factory=lambda: ValidConfig(every=1000, longest=600))
    split: SplitConfig = field(default_factory=SplitConfig)
    finetune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        odds, spacings = self.optim.spacing_odds, self.model.keyframes.spacings
        if len(odds) != len(spacings) or min(odds) < 0 or sum(odds) <= 0:
            raise RecipeError(f"optim.spacing_odds = {list(odds)}", f"give one for each of {list(spacings)}")
        if self.data.teacher:
            raise RecipeError("data.teacher of a model of shapes", "leave it out: letters have no teacher")


def is_of_shapes(
    recipe: str | Path | None, init: str | Path | None = None, out: str | Path | None = None
) -> bool:
    """Whether a recipe, the model to start from, or the run that goes on is of shapes and keyframes."""
    if init is not None and not str(init).startswith("hf:"):
        return has_keyframes(find_model(init))
    if recipe is None and out is not None and (Path(out) / "recipe.json").exists():
        return has_keyframes(Path(out), "recipe.json")
    if recipe is None:
        return False
    try:
        model = tomllib.loads(Path(recipe).read_text("utf-8")).get("model", {})
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(model, dict) and "keyframes" in model


class ShapeTraining(TrainingModule):
    """The network in training: loss, optimiser, curriculum, validation."""

    def __init__(self, recipe: ShapesRecipe, held_out: list[Backbone]):
        super().__init__()
        self.recipe, self.held_out = recipe, held_out
        self.network = ShapeNetwork(recipe.model)
        # What goes on from a model with codes stays discrete.
        self.discrete = bool(recipe.finetune.init) and recipe.finetune.codebook != "new"
        odds = np.array(recipe.optim.spacing_odds)
        self.odds = odds / odds.sum()

    @property
    def hard(self) -> bool:
        """Whether letters and keyframes are as they will be used."""
        quantizers = [self.network.quantizer, *self.network.keyframes.children()]
        return all(
            not isinstance(q, ProVQ) or (bool(q.initialised) and float(q.hardness) == 1) for q in quantizers
        )

    def on_train_start(self) -> None:
        """What a model starts from is the first point of its curve."""
        if self.discrete and self.global_step == 0 and self.metrics:
            self.network.eval()
            self.metrics.write(0, self.measure())
            self.network.train()

    def training_step(self, batch: TrainingBatch, index: int) -> torch.Tensor:
        """Loss of one batch of crops, at the hardness that the progress demands."""
        optim = self.recipe.optim
        torch.manual_seed(optim.seed * 1_000_003 + self.global_step)
        done = 1.0 if self.discrete else self.global_step / optim.steps
        values: dict[str, Any] = {}
        if isinstance(self.network.quantizer, ProVQ):
            values["hardness"] = self.network.quantizer.progress(done)
        for spacing in self.recipe.model.keyframes.spacings:
            values["keyframe_hardness"] = self.network.quantizer_of(spacing).progress(done)
        draw = np.random.default_rng([optim.seed, self.global_step]).choice(len(self.odds), p=self.odds)
        spacing = self.recipe.model.keyframes.spacings[draw]
        seen = noisy(batch.batch, optim.coordinate_noise) or batch.batch
        parts = losses(self.network, batch.batch, seen, spacing, optim.consistency_weight)
        values |= {"loss": parts.total, "step_error": parts.step, "ca_error": parts.place}
        values |= {"bond_error": parts.bond, "drift": parts.drift, "doubt": parts.doubt}
        if self.network.quantizer is not None:
            values["perplexity"] = self.network.quantizer.perplexity()
        values["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.record(self.global_step + 1, values, "hardness", "loss", "ca_error")
        return parts.total

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Round trip of held-out chains at each spacing: mean CA RMSD, TM-score, lDDT; the letters used."""
        tokenizer = ShapeTokenizer(self.network)
        scores: dict[str, float] = {}
        counts = np.zeros(max(tokenizer.size, 1))
        for spacing in self.recipe.model.keyframes.spacings:
            triples = []
            for backbone in self.held_out:
                if self.network.quantizer is None:
                    back = tokenizer.rebuild(backbone, keyframes=spacing)
                else:
                    tokens = tokenizer.encode(backbone, keyframes=spacing)
                    counts += np.bincount(tokens.ids[tokens.ids >= 0], minlength=len(counts))
                    back = tokenizer.decode(tokens)
                compared = compare(back, backbone)
                triples.append((compared.rmsd, compared.tm_score, compared.lddt))
            for key, value in zip(("rmsd", "tm_score", "lddt"), np.nanmean(triples, 0), strict=True):
                scores[f"valid_{key}_{spacing}"] = float(value)
        spacings = self.recipe.model.keyframes.spacings
        scores[MONITOR] = scores[f"valid_rmsd_{4 if 4 in spacings else spacings[0]}"]
        scores["valid_perplexity"] = perplexity(counts)
        return scores

    def validation_step(self, batch: list[int], index: int) -> None:
        """`measure`, once letters and keyframes have codebooks; every process finds the same."""
        if not isinstance(self.network.quantizer, ProVQ) or self.hard:
            self.record_validation(self.measure(), len(self.held_out), MONITOR)

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optimiser, rate = scheduled_adamw(self, self.recipe.optim)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def run(
    recipe: str | Path | None = None,
    *,
    structures: str | Path | None = None,
    init: str | Path | None = None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Train as a recipe says, from scratch or from a model; returns the folder of the model.

    For parameters, what lies in `out`, and errors see `protok.training.run.run`; how a model goes on from
    another, `protok.training.shapes_finetune`.
    """
    options = dict(overrides or {})
    for key, value in (("data.train", structures), ("finetune.init", init)):
        if value is not None:
            options[key] = str(value)
    training = TrainingRun(out, resume)
    plan = read_settings(ShapesRecipe, recipe, options, training.settings)
    if not plan.data.train:
        raise RecipeError("nothing to train on", "give --structures FOLDER or data.train in the recipe")
    start = ShapeTokenizer.from_pretrained(plan.finetune.init) if plan.finetune.init else None
    training.out.mkdir(parents=True, exist_ok=True)
    splits = make_splits(plan, training.out, resumed=training.checkpoint is not None, write=training.first)
    if start is not None:
        lengths = splits.train.lengths()[splits.train.weight > 0]
        known = shapes_finetune.defaults(start, plan.finetune.codebook, lengths, training.out)
        plan = read_settings(ShapesRecipe, recipe, options, training.settings or known)
        shapes_finetune.check(plan, start)
    plan = training.begin(plan, splits.train.digest)
    module = ShapeTraining(plan, held_out(splits.valid, plan.valid))
    frozen = [] if start is None else shapes_finetune.begin(module.network, start, plan.finetune.codebook)
    stream = Stream(splits.train, plan.data.residues, plan.data.curriculum, plan.optim.seed)
    steps = TrainingBatches(stream, module, plan.optim.steps)
    patience = plan.valid.patience
    training.fit(
        module,
        DataLoader(steps, batch_size=None, num_workers=plan.data.workers),
        monitor=callbacks.Monitor(MONITOR, GAIN, patience) if patience else None,
        gradient_clip_val=plan.optim.clip,
    )
    if not training.first:
        return training.model
    step = training.steps
    if patience and (best := training.best()) is not None:
        step = int(best["global_step"])
        module.load_state_dict(best["state_dict"])
    for codes in frozen:
        codes.finish()
    tokenizer = ShapeTokenizer(module.network.eval())
    if start is not None and plan.finetune.weight_interpolation < 1:
        interpolate_weights(module.network, start.network, plan.finetune.weight_interpolation)
    measured = module.measure()
    before = training.validation(0)
    if start is not None and before and before[MONITOR] <= measured[MONITOR]:
        # It has learnt nothing that holds: the model is what it was.
        module.network.load_state_dict(start.network.state_dict())
        step, measured = 0, before
    provenance = training.provenance(
        best_step=step,
        train_chains=int((splits.train.weight > 0).sum()),
        valid_sha256=splits.valid.digest,
        validation={key: round(value, 4) for key, value in measured.items()},
    )
    if start is not None:
        digest = start.provenance.get("train_sha256")
        provenance["init"] = {"codebook": start.codebook, "train_sha256": digest}
    training.write(lambda folder: tokenizer.save_pretrained(folder, provenance=provenance))
    if start is not None:
        report_tuning(start, plan, training.out, splits, provenance)
    return training.model
