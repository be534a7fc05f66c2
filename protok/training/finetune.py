"""Fine-tuning: a trained model goes on with a user's structures.

``frozen``
    Letters, step network and keyframes stay, so tokens are the same to the byte; refiner and confidence
    learn on: tokens of before are decoded by the model after.
``adapted``
    All go on learning from where they are, discrete throughout; keyframes follow in closed loop.
``new``
    Letters and keyframes are placed anew after a short continuous phase, around networks that begin where
    they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from protok.model.config import ShapesConfig
from protok.model.network import ShapeNetwork
from protok.quantize import Quantizer
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.config import Recipe, RecipeError

CODEBOOKS = ("frozen", "adapted", "new")
#: Settings of a quantizer that are not its shape: they may change from run to run.
FREE = ("beta", "schedule", "continuous_share", "ramp", "estimator", "init_and_revive")
#: Settings of the optimiser that a model is best trained on with.
KEPT = ("coordinate_noise", "consistency_weight", "spacing_odds")
#: Settings of keyframes that may change from run to run.
PHASES = ("continuous_share", "ramp")
#: What codes follow from.
CODES = ("encoder", "trunk", "step")


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


def defaults(start: ShapeTokenizer, codebook: str, lengths: np.ndarray) -> dict[str, Any]:
    """Settings for fine-tuning on chains of these lengths, as nested tables of a recipe; see `Extent`."""
    known = start.provenance.get("recipe", {})
    extent = Extent.of(lengths, known, codebook == "new")
    model = asdict(start.network.config)
    if codebook != "frozen":
        model["name"] = ""  # that of the run
    if codebook == "new":
        model["quantizer"] |= {"continuous_share": 0.05, "ramp": 0.3}
        model["keyframes"] |= {"continuous_share": 0.35, "ramp": 0.15}
    kept = known.get("optim", {})
    return {
        "model": model,
        "data": {"residues": 1024, "curriculum": [[0.0, extent.crop]]},
        "optim": {
            "steps": extent.steps,
            "lr": extent.lr,
            "lr_warmup_steps": max(10, extent.steps // 20),
            **{key: kept[key] for key in KEPT if key in kept},
        },
        "valid": {"every": max(20, extent.steps // 6), "longest": max(256, extent.crop), "chains": 16},
    }


def check(plan: Recipe, start: ShapeTokenizer) -> None:
    """Whether a plan fits the model that it starts from.

    Raises
    ------
    RecipeError
        If it asks for another form, an unknown kind of codebook, or another name with frozen codes, or if
        the model is continuous.
    """
    plan.check_odds()
    if start.network.quantizer is None:
        raise RecipeError(f"{start.name} has no letters to keep, adapt or renew", "train it from scratch")
    mode = plan.finetune.codebook
    if mode not in CODEBOOKS:
        raise RecipeError(f"codebook {mode!r}", f"it is one of {', '.join(CODEBOOKS)}")
    share = plan.finetune.weight_interpolation
    if not 0 < share <= 1 or (mode != "frozen" and share < 1):
        cause = f"finetune.weight_interpolation = {share} with {mode} codes"
        raise RecipeError(cause, "it is above 0 and at most 1, and 1 where codes move")
    if _form(plan.model) != _form(start.network.config):
        cause = f"another form of the model than that of {start.name}"
        raise RecipeError(cause, "leave [model] out, or train from scratch")
    if mode == "frozen" and plan.model.name != start.name:
        raise RecipeError(
            f"model.name = {plan.model.name!r}, but frozen codes are those of {start.name}",
            "leave it out, or use another --codebook",
        )


def _form(config: ShapesConfig) -> dict[str, Any]:
    """All that weights depend on: neither the name nor a curriculum."""
    tables = asdict(config)
    form = {table: tables[table] for table in ("encoder", "steps", "refiner")}
    for table in ("quantizer", "keyframes"):
        form[table] = {key: value for key, value in tables[table].items() if key not in FREE + PHASES}
    return form


def begin(network: ShapeNetwork, start: ShapeTokenizer, mode: str) -> list[FrozenCodes]:
    """Give a network the weights that it starts from; returns the keepers of frozen codebooks."""
    quantizers = ("quantizer.", "keyframes.")
    known = start.network.state_dict()
    state = network.state_dict() | {
        key: value for key, value in known.items() if mode != "new" or not key.startswith(quantizers)
    }
    network.load_state_dict(state)
    if mode != "frozen":
        return []
    assert network.quantizer is not None  # see `check`
    for name in CODES:
        network.get_submodule(name).requires_grad_(False)
    books = [network.quantizer_of(spacing) for spacing in network.config.keyframes.spacings]
    return [FrozenCodes(network.quantizer), *map(FrozenCodes, books)]


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


def interpolate_weights(network: nn.Module, start: nn.Module, share: float) -> None:
    """Leave a network that share of the way from the weights of another to its own."""
    state = network.state_dict()
    for key, old in start.state_dict().items():
        if key in state and old.is_floating_point():
            state[key] = torch.lerp(old.to(state[key]), state[key], share)
    network.load_state_dict(state)
