"""Train a smaller encoder to give the latents of a tokenizer; its codebook and decoder are kept.

    python -m recipes.distil RECIPE --teacher protok-512 --out runs/distilled

RECIPE (`recipes/protein/protok-512-lite.toml`) says the shape of the new encoder and the data; quantizer
and decoder must have the shape of the teacher's. `--resume` goes on after an interruption. The loss
is the mean squared difference of latents (Hinton et al. 2015, arXiv 1503.02531, who distil the
outputs of classifiers).
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from protok.cli.options import run_arguments, settings
from protok.common.run import TrainingModule, TrainingRun
from protok.common.trainer import scheduled_adamw
from protok.model.features import Batch
from protok.model.network import Network
from protok.structure.store import read_store
from protok.tokenizers.learned import StructureTokenizer
from protok.training.batches import Stream, TrainingBatch, TrainingBatches
from protok.training.config import Recipe, read_recipe
from protok.training.splits import held_out


class Distilling(TrainingModule):
    """An encoder in training on the latents of another one."""

    def __init__(self, recipe: Recipe, teacher: StructureTokenizer, held: Batch):
        super().__init__()
        self.optim, self.held = recipe.optim, held
        self.network = Network(recipe.model)
        self.network.quantizer.load_state_dict(teacher.network.quantizer.state_dict())
        self.network.decoder.load_state_dict(teacher.network.decoder.state_dict())
        for part in (self.network.quantizer, self.network.decoder):
            part.requires_grad_(False)
        # A list keeps the teacher out of the checkpoints.
        self.teacher = [teacher.network.encoder.requires_grad_(False).eval()]

    def training_step(self, training_batch: TrainingBatch, index: int) -> Tensor:
        """Mean squared difference of latents."""
        batch = training_batch.batch
        with torch.no_grad():
            wanted = self.teacher[0](batch).float()
        loss = (self.network.encoder(batch).float() - wanted)[batch.mask].square().mean()
        self.record(self.global_step + 1, {"loss": loss})
        return loss

    def validation_step(self, batch: list[int], index: int) -> None:
        """The same on held-out chains, and the share of equal codes."""
        self.record_validation(self.measure(), 1)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Squared difference of latents and share of equal codes on held-out chains."""
        with torch.autocast("cpu", enabled=False):
            wanted, got = self.teacher[0](self.held), self.network.encoder(self.held)
        quantizer, mask = self.network.quantizer, self.held.mask
        same = quantizer.assign(wanted) == quantizer.assign(got)
        validation = {
            "valid_error": float((wanted - got)[mask].square().mean()),
            "valid_same_codes": float(same[mask].float().mean()),
        }
        print(self.global_step, {k: round(v, 4) for k, v in validation.items()}, flush=True)
        return validation

    def configure_optimizers(self) -> dict:
        """AdamW; the rate rises over the warm-up and falls to zero as a cosine."""
        optimiser, rate = scheduled_adamw(self.network.encoder, self.optim)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def main() -> None:
    """Train, and write OUT/model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_arguments(parser)
    parser.add_argument("--teacher", required=True, help="a model that protok ships, or a folder")
    arguments = parser.parse_args()
    run = TrainingRun(arguments.out, arguments.resume)
    recipe = read_recipe(arguments.recipe, settings(arguments.overrides), run.settings)
    train, valid = read_store(recipe.data.train), read_store(recipe.data.valid)
    recipe = run.begin(recipe, train.digest)
    teacher = StructureTokenizer.from_pretrained(arguments.teacher)
    module = Distilling(recipe, teacher, Batch.of(held_out(valid, recipe.valid)))
    stream = Stream(train, recipe.data.residues, recipe.data.curriculum, recipe.optim.seed)
    batches = DataLoader(TrainingBatches(stream, module, recipe.optim.steps), batch_size=None)
    run.fit(module, batches, devices=1, accelerator="cpu", gradient_clip_val=recipe.optim.clip)
    provenance = run.provenance(
        teacher={"codebook": teacher.codebook, "encoder": teacher.encoder_fingerprint},
        train_chains=len(train),
        valid_sha256=valid.digest,
        validation=module.measure(),
    )
    tokenizer = StructureTokenizer(module.network.eval())
    print(f"wrote {run.write(lambda folder: tokenizer.save_pretrained(folder, provenance=provenance))}")


if __name__ == "__main__":
    main()
