"""Fine-tuning of shapes and keyframes on a user's structures.

``frozen``
    Letters, step network and keyframes stay, so tokens are the same to the byte; refiner and confidence
    learn, and tokens of before decode better with the model after.
``adapted``
    All go on learning from where they are, discrete throughout; keyframes follow in closed loop.
``new``
    Letters and keyframes are placed anew after a short continuous phase, around networks that begin where
    they were.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.settings import RecipeError
from protok.model.shape_config import ShapesConfig
from protok.model.shape_network import ShapeNetwork
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training.finetune import CODEBOOKS, FREE, Extent, FrozenCodes, name_of

#: Settings of the optimiser that a model is best trained on with.
KEPT = ("coordinate_noise", "consistency_weight", "spacing_odds")
#: Settings of keyframes that may change from run to run.
PHASES = ("continuous_share", "ramp")
#: What codes follow from.
CODES = ("encoder", "trunk", "step")


def defaults(start: ShapeTokenizer, codebook: str, lengths: np.ndarray, out: Path) -> dict[str, Any]:
    """Settings for fine-tuning on chains of these lengths, as nested tables of a recipe; see `Extent`."""
    known = start.provenance.get("recipe", {})
    extent = Extent.of(lengths, known, codebook == "new")
    model = asdict(start.network.config)
    if codebook != "frozen":
        model["name"] = name_of(out)
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
        "finetune": {"encoder": codebook != "frozen"},
        "valid": {"every": max(20, extent.steps // 6), "longest": max(256, extent.crop)},
    }


def check(plan: Any, start: ShapeTokenizer) -> None:
    """Whether a plan fits the model that it starts from.

    Raises
    ------
    RecipeError
        If it asks for another form, an unknown kind of codebook, or another name with frozen codes.
    """
    mode = plan.finetune.codebook
    if mode not in CODEBOOKS:
        raise RecipeError(f"codebook {mode!r}", f"it is one of {', '.join(CODEBOOKS)}")
    share = plan.finetune.weight_interpolation
    if not 0 < share <= 1 or (mode != "frozen" and share < 1):
        cause = f"finetune.weight_interpolation = {share} with {mode} codes"
        raise RecipeError(cause, "it is above 0 and at most 1, and 1 where codes move")
    if plan.finetune.encoder != (mode != "frozen"):
        cause = f"finetune.encoder = {plan.finetune.encoder} with {mode} codes"
        raise RecipeError(cause, "leave it out: the encoder learns where codes do")
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
    if mode != "frozen" or network.quantizer is None:
        return []
    for name in CODES:
        network.get_submodule(name).requires_grad_(False)
    books = [network.quantizer_of(spacing) for spacing in network.config.keyframes.spacings]
    return [FrozenCodes(network.quantizer), *map(FrozenCodes, books)]
