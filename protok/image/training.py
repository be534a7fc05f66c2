"""Training of an image tokenizer: a Lightning module, and the run that ties it together.

Everything random in a step follows from the seed and the step's number, so a run that is
killed and resumed goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler

from protok.common.extras import Extra
from protok.common.settings import RecipeError
from protok.common.trainer import every_twentieth, scheduled_adamw, world_and_rank
from protok.image.coding import LEARNT_FROM, learn_contexts
from protok.image.config import ImageRecipe, read_image_recipe
from protok.image.dataset import Pictures, has_part, open_pictures
from protok.image.losses import Discriminator, Perceptual, balance, discriminator_loss, pixel_loss
from protok.image.metrics import Scorer
from protok.image.network import ImageNetwork
from protok.image.tokenizer import ImageTokenizer, to_unit
from protok.quantize import ProVQ, diagnose
from protok.quantize.own import import_own

with Extra("image", "training"):
    from protok.common.run import TrainingModule, TrainingRun


#: Images whose principal components a linear path starts from.
ANCHORED = 2000


class Crops(Dataset):
    """Squares of training images: place and mirroring follow from the key's second number."""

    def __init__(self, pictures: Pictures, size: int, flip: bool):
        self.pictures, self.size, self.flip = pictures, size, flip

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        rng = np.random.default_rng(key[1])
        x = self.pictures.square(key[0], self.size, rng)
        if self.flip and rng.random() < 0.5:
            x = x[:, ::-1]
        # Pillow's pixels are read-only, a mirror image is no tensor: both are copied.
        return torch.from_numpy(x.copy())


class Draws(Sampler):
    """Keys of the batches from the module's present step to the last, each rank its own.

    Every pass over the images is a new permutation of them.
    """

    def __init__(self, module: ImageTraining, images: int):
        self.module, self.images = module, images

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        world, rank = world_and_rank()
        optim = self.module.recipe.optim
        order: tuple[int, np.ndarray] = (-1, np.zeros(0, int))
        for step in range(self.module.global_step, optim.steps):
            first = (step * world + rank) * optim.batch
            keys = []
            for place in range(first, first + optim.batch):
                turn, at = divmod(place, self.images)
                if turn != order[0]:
                    rng = np.random.default_rng((optim.seed, turn))
                    order = turn, rng.permutation(self.images)
                keys.append((int(order[1][at]), optim.seed * 1_000_003_000 + place))
            yield keys


class ImageTraining(TrainingModule):
    """The network in training: losses, optimisers, curriculum, validation."""

    def __init__(self, recipe: ImageRecipe, held_out: np.ndarray):
        super().__init__()
        # Two optimisers in one step, which Lightning leaves to us.
        self.automatic_optimization = False
        self.recipe, self.held_out = recipe, held_out
        self.network = ImageNetwork(recipe.model)
        loss = recipe.loss
        size = (loss.discriminator_width, loss.discriminator_layers)
        self.discriminator = Discriminator(*size) if loss.adversarial else None
        # Not a submodule: given weights have no place in a checkpoint.
        self._perceptual = [Perceptual(loss.perceptual_weights)] if loss.perceptual else []

    def training_step(self, batch: Tensor, index: int) -> None:
        """One step of the network, then one of the discriminator."""
        optim, loss, done = self.recipe.optim, self.recipe.loss, self.global_step
        torch.manual_seed(optim.seed * 1_000_003 + done)
        progress, values = done / optim.steps, {}
        x = batch.movedim(-1, 1).float() / 127.5 - 1
        quantizer = self.network.quantizer
        if isinstance(quantizer, ProVQ):
            values["hardness"] = quantizer.progress(progress)
        out = self.network(x)
        y = out.x.float()
        values["pixel"] = faithful = pixel_loss(y, x, loss.pixel)
        if self._perceptual:
            values["perceptual"] = self._perceptual[0].to(x.device)(y, x).float()
            faithful = faithful + loss.perceptual * values["perceptual"]
        total = faithful
        critic = self.discriminator if progress >= loss.adversarial_start else None
        if critic is not None:
            values["lifelike"] = lifelike = -critic(y).float().mean()
            weight = balance(faithful, lifelike, self.network.decoder.last)
            total = total + loss.adversarial * weight * lifelike
        if quantizer is not None and out.quantized is not None:
            total = total + out.quantized.loss
            values["commitment"], values["relative_error"] = out.quantized.loss, out.quantized.error
            values["perplexity"] = quantizer.perplexity()
        # Lightning gives one thing for one and a list for several.
        optimisers, rate = self.optimizers(), self.lr_schedulers()
        main = optimisers[0] if isinstance(optimisers, list) else optimisers
        assert isinstance(rate, LambdaLR)
        values |= {"loss": total, "lr": rate.get_last_lr()[0]}
        main.zero_grad()
        self.manual_backward(total)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), optim.clip)
        main.step()
        rate.step()
        if critic is not None:
            values["discriminator"] = contest = discriminator_loss(
                critic(x).float(), critic(y.detach()).float()
            )
            # The bare optimiser: Lightning counts the steps of its wrappers as steps of the run.
            other = self.trainer.optimizers[1]
            other.zero_grad()
            self.manual_backward(contest)
            torch.nn.utils.clip_grad_norm_(critic.parameters(), optim.clip)
            other.step()
        self.record(done + 1, values, "hardness", "pixel")

    def validation_step(self, batch: Any, index: int) -> None:
        """Held-out images: scores from hard codes, what the codes cost, and their use."""
        tokenizer = ImageTokenizer(self.network)
        quantizer = self.network.quantizer
        scorer, plain = Scorer(frechet=False), Scorer(frechet=False)
        latents = []
        for start in range(0, len(self.held_out), 32):
            x = self.held_out[start : start + 32]
            with torch.autocast(self.device.type, enabled=False):
                z = self.network.latents(to_unit(x).to(self.device))
                plain.add(tokenizer.pixels(z), x)
                if quantizer is not None:
                    scorer.add(tokenizer.pixels(quantizer.lookup(quantizer(z).ids)), x)
            latents.append(z.reshape(-1, z.shape[-1]))
        scores = plain.result() if quantizer is None else scorer.result()
        values = {key: scores[key] for key in ("psnr", "ssim", "mse")}
        values["continuous_mse"] = plain.result()["mse"]
        if quantizer is not None:
            values |= asdict(diagnose(quantizer, torch.cat(latents)))
        values = {f"valid_{key}": value for key, value in values.items()}
        self.record_validation(values, len(self.held_out), "valid_psnr")

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """AdamW for the network, whose rate rises and falls as a cosine; Adam for the other."""
        main, rate = scheduled_adamw(self.network, self.recipe.optim)
        if self.discriminator is None:
            return [main], [rate]
        adam = torch.optim.Adam(
            self.discriminator.parameters(), self.recipe.loss.discriminator_lr, (0.5, 0.9)
        )
        return [main, adam], [rate]


def run(
    recipe: str | Path | None = None,
    *,
    images: str | Path | None = None,
    init: str | Path | None = None,
    out: str | Path = "runs/image",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Train an image tokenizer; returns the folder of the finished model.

    Parameters
    ----------
    recipe, overrides
        TOML file, defaults throughout without one, and dotted keys and values that go before it.
    images
        Folder or .npz file of images; goes before ``data.train``.
    init
        Name or folder of a model to start from; its shape goes before the recipe's.
    out, resume
        See `protok.common.run.TrainingRun`; a resumed run keeps the settings of its ``recipe.json``
        save those that are given anew.
    """
    training = TrainingRun(out, resume)
    options = training.options(overrides, images)
    start = None if init is None else ImageTokenizer.from_pretrained(init)
    if start is not None:
        shape = asdict(start.network.config)
        del shape["name"]  # its codes move: another model
        options |= {f"model.{key}": value for key, value in shape.items()}
    plan = read_image_recipe(recipe, options, training.settings)
    if not plan.data.train:
        raise RecipeError("nothing to train on", "give --images DIR or data.train in the recipe")
    import_own(kind for kind in (plan.model.quantizer.kind, plan.model.quantizer.inner) if ":" in kind)
    train, valid = parts(plan)
    plan = replace(plan, model=replace(plan.model, window=0 if plan.model.local else plan.data.size))
    plan = training.begin(plan, train.digest())
    module = ImageTraining(plan, valid.squares(plan.data.size, plan.valid.images))
    if start is None:
        module.network.begin(to_unit(train.squares(plan.data.size, ANCHORED)))
    else:
        module.network.load_state_dict(start.network.state_dict())
    batches = DataLoader(
        Crops(train, plan.data.size, plan.data.flip),
        batch_sampler=Draws(module, len(train)),
        num_workers=plan.data.workers,
        persistent_workers=plan.data.workers > 0,
    )
    # The two losses reach different parameters, which several processes must be told.
    several = torch.cuda.device_count() > 1 and plan.loss.adversarial
    strategy = "ddp_find_unused_parameters_true" if several else "auto"
    training.fit(module, batches, strategy=strategy, use_distributed_sampler=False)
    if not training.first:
        return training.model
    measured = training.validation(training.steps)
    provenance = training.provenance(
        train_images=len(train),
        valid_sha256=valid.digest(),
        validation={key: round(value, 5) for key, value in measured.items()},
    )
    tokenizer = ImageTokenizer(module.network.eval())
    if plan.model.context:
        some = train.some(LEARNT_FROM)
        codes = tokenizer.encode_batch(some.square(i, plan.data.size) for i in range(len(some)))
        learn_contexts(tokenizer, codes, plan.optim.seed)
    return training.write(lambda folder: tokenizer.save_pretrained(folder, provenance=provenance))


def parts(plan: ImageRecipe) -> tuple[Pictures, Pictures]:
    """Images to train on, and images that are held out."""
    data = plan.data
    train = open_pictures(data.train, "train", data.classes)
    valid = data.valid or (data.train if has_part(data.train, "valid") else "")
    if valid:
        return train, open_pictures(valid, "valid", data.classes)
    held = every_twentieth(len(train), "images", data.train)
    return train[~held], train[held]
