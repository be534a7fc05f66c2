"""Fine-tuning: a trained model goes on with a user's structures.

What becomes of the codebook is the user's choice:

``frozen``
    It does not move, and neither does the encoder: the decoder alone is trained, tokens stay the
    very same, with their fingerprint, and those of before decode better with the model after.
    With ``finetune.encoder`` the encoder is trained too. The fingerprint, which is of the codebook
    alone, still stays, but many residues get another code, and the two models decode each other's
    codes worse than their own (the report says by how much).
``adapted``
    It starts where it was and goes on learning, discrete throughout. New fingerprint.
``new``
    A codebook is placed on the latents of the user's chains by k-means after a short continuous
    phase, and phased in. New fingerprint; nothing is kept of the old codes. It may be of another
    size or dimension (``model.quantizer.dim``), or there may be none (``model.quantizer.kind``): of
    the layers at both ends of the latents what fits is kept, and what is more begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from protok.model.config import ModelConfig
from protok.model.network import Network
from protok.quantize import Quantizer
from protok.tokenizers.learned import StructureTokenizer
from protok.training.config import Recipe, RecipeError

CODEBOOKS = ("frozen", "adapted", "new")
#: Settings of a quantizer that are not its shape: they may change from run to run.
FREE = ("beta", "schedule", "continuous_share", "ramp", "estimator", "init_and_revive")
#: Settings of the optimiser that a model is best trained on with.
KEPT = ("coordinate_noise", "consistency_weight", "align_before_loss", "scored_residues")


@dataclass(frozen=True)
class Extent:
    """How long to go on, at which peak rate, on crops of which length."""

    steps: int
    lr: float
    crop: int

    @classmethod
    def of(cls, lengths: np.ndarray, known: Mapping[str, Any], fresh: bool) -> Extent:
        """For training chains of these lengths, and a model trained by a recipe, as nested tables.

        From 20 to 20,000 chains the steps grow from 120 to 6,000 (twice that for a new codebook), and
        the peak learning rate from 1e-4 to 3e-4, below the 1e-3 of training from scratch: on few chains
        more of either gains little more, and costs much elsewhere. Crops are as long as the chains
        from the start, up to the longest that the model was trained on; one that can read whole chains
        need not begin with short ones.
        """
        much = float(np.clip(len(lengths) / 20, 1, 1000))
        longest = max([n for _, n in known.get("data", {}).get("curriculum", [])], default=512)
        return cls(
            steps=int(round(120 * much**0.5663, -1)) * (2 if fresh else 1),
            lr=round(1e-4 * much ** (1 / 6), 6),
            crop=int(min(longest, max(64, np.quantile(lengths, 0.95)))),
        )


def name_of(out: Path) -> str:
    """Of a model with other codes, by the folder of its run."""
    return re.sub(r"[^\w.-]+", "-", out.resolve().name).strip("-") or "tuned"


def defaults(start: StructureTokenizer, codebook: str, lengths: np.ndarray, out: Path) -> dict[str, Any]:
    """Settings for fine-tuning on chains of these lengths (see `Extent`), as nested tables of a recipe.

    Around frozen codes three quarters of the way to the new decoder are gone, which forgets less
    (Wortsman et al. 2022, arXiv 2109.01903).

    Parameters
    ----------
    start
        The model; its shape, and the noise it was trained with, are kept.
    codebook
        ``frozen``, ``adapted`` or ``new``.
    lengths
        Of the training chains.
    out
        Folder of the run; gives a model with other codes its name.
    """
    fresh, known = codebook == "new", start.provenance.get("recipe", {})
    extent = Extent.of(lengths, known, fresh)
    steps, crop = extent.steps, extent.crop
    model = asdict(start.network.config)
    if start.network.quantizer is not None:
        if codebook != "frozen":
            model["name"] = name_of(out)
        phased = {"schedule": "cosine", "continuous_share": 0.05, "ramp": 0.3}
        model["quantizer"] |= phased if fresh else {"schedule": "none"}
    kept = known.get("optim", {})
    moves = codebook != "frozen" or start.network.quantizer is None
    return {
        "model": model,
        "data": {"residues": max(1024, crop), "curriculum": [[0.0, crop]]},
        "optim": {
            "steps": steps,
            "lr": extent.lr,
            "lr_warmup_steps": max(10, steps // 20),
            **{key: kept[key] for key in KEPT if key in kept},
        },
        "finetune": {"encoder": moves, "weight_interpolation": 1.0 if moves else 0.75},
        "valid": {"every": max(20, steps // 12), "longest": max(256, crop), "patience": 5},
    }


def check(plan: Recipe, start: StructureTokenizer) -> None:
    """Whether a plan fits the model that it starts from.

    Raises
    ------
    RecipeError
        If it asks for another shape, an unknown kind of codebook, or what contradicts it.
    """
    if plan.optim.encoder_warmup_steps and not (plan.finetune.codebook == "new" and plan.finetune.encoder):
        # Latents that no longer lie where the codes are must get others.
        raise RecipeError(
            "optim.encoder_warmup_steps, but codes or encoder stay as they are",
            "give 0, or finetune.codebook = new with finetune.encoder",
        )
    if plan.optim.align_before_loss and not start.network.config.decoder.global_frame:
        raise RecipeError(
            f"optim.align_before_loss, but the codes of {start.name} are not placed", "give false"
        )
    mode = plan.finetune.codebook
    if mode not in CODEBOOKS:
        raise RecipeError(f"codebook {mode!r}", f"it is one of {', '.join(CODEBOOKS)}")
    if start.network.quantizer is None and mode != "frozen":
        raise RecipeError(f"{start.name} is continuous", "it has no codebook to adapt or renew")
    weight_interpolation = plan.finetune.weight_interpolation
    if not 0 < weight_interpolation <= 1 or (mode == "new" and weight_interpolation < 1):
        raise RecipeError(
            f"finetune.weight_interpolation = {weight_interpolation} with a {mode} codebook",
            "it is above 0 and at most 1, and 1 with a new codebook",
        )
    wanted, there = _shape(plan.model), _shape(start.network.config)
    for key, value in wanted.items():
        codes = key.startswith("quantizer.")
        if value != there[key] and not (codes and mode == "new"):
            raise RecipeError(
                f"model.{key} = {value!r}, but {start.name} has {there[key]!r}",
                "leave it out, " + "give --codebook new, " * codes + "or train from scratch",
            )
    if start.network.quantizer is not None and mode == "frozen":
        if plan.model.name != start.name:
            raise RecipeError(
                f"model.name = {plan.model.name!r}, but frozen codes are those of {start.name}",
                "leave it out, or use another --codebook",
            )
        if plan.model.quantizer.schedule != "none":
            raise RecipeError(
                "a frozen codebook is discrete throughout", "leave model.quantizer.schedule out"
            )


def _shape(config: ModelConfig) -> dict[str, Any]:
    """Dotted names and values of what the weights depend on."""
    tables = asdict(config)
    return {
        f"{part}.{key}": value
        for part in ("encoder", "quantizer", "decoder")
        for key, value in tables[part].items()
        if part != "quantizer" or key not in FREE
    }


class FrozenCodes:
    """Keeps the codes of a quantizer where they are while it trains around them.

    The quantizer stays in training mode, for its straight-through gradient and the commitment
    loss. All that it goes on learning is how often its codes are used, for the metrics.
    """

    def __init__(self, quantizer: Quantizer):
        quantizer.requires_grad_(False)
        self.quantizer = quantizer
        self.whole = {key: value.clone() for key, value in quantizer.state_dict().items()}
        self.parts = [part for part in quantizer.modules() if isinstance(part, Quantizer)]
        # The update of the base class only counts.
        for part in self.parts:
            part.update = MethodType(Quantizer.update, part)

    def finish(self) -> None:
        """Let it learn again, as it was before."""
        for part in self.parts:
            del part.update
        self.quantizer.load_state_dict(self.whole)


def begin(network: Network, start: StructureTokenizer, plan: Recipe) -> FrozenCodes | None:
    """Give a network the weights it starts from; returns the keeper of a frozen codebook."""
    mode = plan.finetune.codebook
    init_from(network, start, codes=mode != "new")
    if not plan.finetune.encoder:
        network.encoder.requires_grad_(False)
    frozen = network.quantizer if mode == "frozen" else None
    return None if frozen is None else FrozenCodes(frozen)


def init_from(network: Network, start: StructureTokenizer, codes: bool = True) -> None:
    """Give a network the weights of a model, with or without those of the quantizer."""
    state = network.state_dict()
    for key, value in start.network.state_dict().items():
        # The state of an adaptive schedule has no place in another schedule.
        if key in state and (codes or not key.startswith("quantizer.")):
            # Layers at the ends of latents that got another dimension keep what fits.
            both = tuple(slice(min(n)) for n in zip(state[key].shape, value.shape, strict=True))
            state[key] = state[key].clone()
            state[key][both] = value[both].to(state[key])
    network.load_state_dict(state)


def interpolate_weights(network: nn.Module, start: nn.Module, share: float) -> None:
    """Leave a network that share of the way from the weights of another to its own."""
    state = network.state_dict()
    for key, old in start.state_dict().items():
        if key in state and old.is_floating_point():
            state[key] = torch.lerp(old.to(state[key]), state[key], share)
    network.load_state_dict(state)
