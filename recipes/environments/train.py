"""Train letters of environments.

    python -m recipes.promod3 promod3-data_*.deb -o runs/data          # the store
    python -m recipes.environments.relatives runs/data --jobs 2        # relatives in it
    python -m recipes.environments.train recipes/environments/protok-1.toml --out runs/environments --resume

A run that was stopped goes on where it was. OUT gets `recipe.json`, `metrics.csv`, `checkpoints/` and
`model/`, the encoder and its codebook; `recipes.environments.join` puts them into a model of shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.command import without_traceback
from protok.bench.measures.locality import kept_under_noise, kept_when_cut
from protok.common.checkpoint import save_model
from protok.common.run import TrainingModule, TrainingRun
from protok.common.settings import read_settings
from protok.common.trainer import scheduled_adamw
from protok.errors import ProtokError
from protok.model.environment import EnvironmentNetwork
from protok.quantize import ProVQ
from protok.quantize.usage import perplexity
from protok.structure.backbone import Backbone
from protok.structure.store import Store, read_store
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.training.batches import Stream
from protok.training.module import noisy
from recipes.environments.examples import Examples, ExampleStream
from recipes.environments.objective import Heads, asked, bits, piece, told
from recipes.environments.recipe import Recipe
from recipes.environments.relatives import Relatives
from recipes.environments.targets import Targets

#: Å of noise on every atom, of which letters should know nothing.
NOISE = 0.2
#: Steps' worth of residues of chains that are kept aside, of which is measured what letters tell.
MEASURED = 60


class Environments(TrainingModule):
    """Encoder, codebook and heads in training."""

    def __init__(self, recipe: Recipe, states: int, held_out: list[Backbone]):
        super().__init__()
        self.recipe, self.held_out = recipe, held_out
        self.aside: ExampleStream | None = None
        self.network = EnvironmentNetwork(recipe.model)
        self.heads = Heads(recipe.model.quantizer.dim, states)

    @property
    def hard(self) -> bool:
        """Whether letters are as they will be used."""
        quantizer = self.network.quantizer
        return not isinstance(quantizer, ProVQ) or (
            bool(quantizer.initialised) and float(quantizer.hardness) == 1
        )

    def training_step(self, examples: Examples, index: int) -> torch.Tensor:
        """Loss of one batch, and its record."""
        loss, values = self.loss(examples, self.global_step)
        self.record(self.global_step + 1, values, "loss", "kind")
        return loss

    def loss(self, examples: Examples, step: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of a step, at the hardness that the progress demands, and what is logged of it."""
        optim, weights = self.recipe.optim, asdict(self.recipe.weights)
        torch.manual_seed(optim.seed * 1_000_003 + step)
        quantizer, values = self.network.quantizer, {}
        if isinstance(quantizer, ProVQ):
            values["hardness"] = quantizer.progress(step / optim.steps)
        batch = examples.batch
        z = self.network.latents(noisy(batch, optim.coordinate_noise))
        total, fed = z.new_zeros(()), z
        if quantizer is not None:
            quantized = quantizer(z, batch.mask)
            total, fed = quantized.loss, quantized.z
            values["perplexity"] = quantizer.perplexity()
        parts = told(self.heads, fed, batch, examples.known, examples.pairs)
        if weights["steady"]:
            other, rows = piece(batch, optim.coordinate_noise, np.random.default_rng([optim.seed, step, 2]))
            drift = (self.network.latents(other) - z[rows])[other.mask]
            parts["steady"] = drift.square().mean()
        for name, part in parts.items():
            total = total + weights[name] * part
        return total, {**values, **parts, "loss": total}

    @torch.no_grad()
    def told(self) -> dict[str, float]:
        """What letters, or latents where there are none, tell of chains that are kept aside."""
        if self.aside is None:
            return {}
        network, answers, targets = self.network.eval(), [], []
        for step in range(MEASURED):
            examples = self.aside.examples(step)
            z = network.latents(examples.batch)
            if network.quantizer is not None:
                z = network.quantizer(z, examples.batch.mask).z
            answers.append(self.heads(z))
            targets.append(asked(examples.batch, examples.known, examples.pairs))
        return {f"bits_{name}": value for name, value in bits(answers, targets).items()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Of held-out chains: letters in use, and shares that stay with noise and in the middle half."""
        if self.network.quantizer is None or not self.held_out:
            return {}
        tokenizer = EnvironmentTokenizer(self.network)
        ids = np.concatenate([tokens.ids for tokens in tokenizer.encode_batch(self.held_out)])
        return {
            "valid_noise": kept_under_noise(tokenizer, self.held_out, NOISE, seed=0)["kept"].value,
            "valid_middle": kept_when_cut(tokenizer, self.held_out)["middle half"].value,
            "valid_perplexity": perplexity(np.bincount(ids[ids >= 0], minlength=tokenizer.size)),
        }

    def validation_step(self, batch: list[int], index: int) -> None:
        """`measure`, once there are codes."""
        if self.hard:
            self.record_validation(self.measure(), len(self.held_out))

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optimiser, rate = scheduled_adamw(self, self.recipe.optim)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def kept_aside(store: Store, relatives: Relatives, share: float) -> np.ndarray:
    """Of each chain whether it is of a cluster of a share of the pairs, drawn at random."""
    drawn = relatives.chains[np.random.default_rng(0).random(len(relatives)) < share].ravel().tolist()
    cluster = store.cluster or store.ids
    return np.isin(cluster, [*{cluster[chain] for chain in drawn}])


def _drawn(weight: np.ndarray, which: np.ndarray) -> np.ndarray:
    kept = weight * which
    return kept / kept.sum()


def train(path: Path | None, out: Path, overrides: dict[str, Any], resume: bool) -> Path:
    """Train as a recipe says; returns the folder of the model."""
    run = TrainingRun(out, resume)
    recipe = read_settings(Recipe, path, overrides, run.settings)
    folder = Path(recipe.data.folder)
    store = read_store(folder / "train.parquet")
    recipe = run.begin(recipe, store.digest)
    states = folder / "states.npz" if recipe.weights.states else None
    targets = Targets(store, folder / "train.extras.npz", states)
    held_out = []
    if recipe.data.valid:
        valid = read_store(recipe.data.valid)
        fit = np.flatnonzero(valid.lengths() <= recipe.valid.longest)
        held_out = [valid.backbone(int(i)) for i in fit[:: max(1, len(fit) // recipe.valid.chains)]]
    module = Environments(recipe, targets.states.shape[1], held_out)
    relatives = Relatives.read(folder / "relatives.npz", store.ids)
    aside = kept_aside(store, relatives, recipe.data.aside)

    def examples(chains: np.ndarray, pairs: np.ndarray) -> ExampleStream:
        drawn = replace(store, weight=_drawn(store.weight, chains))
        stream = Stream(drawn, recipe.data.residues, ((0.0, recipe.data.longest),), recipe.optim.seed)
        related = replace(relatives, weight=_drawn(relatives.weight, pairs))
        return ExampleStream(stream, targets, related, recipe.data, module, recipe.optim.steps)

    both = aside[relatives.chains]
    if both.any(1).all():
        raise ProtokError("every pair of relatives is kept aside", "lower data.aside, or find more relatives")
    steps = examples(~aside, ~both.any(1))
    if aside.any():
        module.aside = examples(aside, both.all(1))
    run.fit(module, DataLoader(steps, batch_size=None), gradient_clip_val=recipe.optim.clip)
    network = module.network.eval()
    config = {
        "model": asdict(network.config),
        "provenance": run.provenance(validation=module.measure() | module.told()),
    }
    return run.write(lambda target: save_model(target, network, config))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    from protok.cli.options import settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", help="TOML")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(train(options.recipe, options.out, settings(options.set), options.resume))


if __name__ == "__main__":
    without_traceback(main)
