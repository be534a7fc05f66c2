"""The folder of a trained model: ``config.json`` and ``model.safetensors``, nothing else needed; and a card.

Knows no model in particular: tokenizers of proteins and of images and priors are saved by it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

from protok.common.files import atomic, finite
from protok.common.settings import RecipeError
from protok.errors import CodebookMismatch, FormatError, ProtokError, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Net = TypeVar("Net", bound="nn.Module")

#: Ends of names of buffers of a `protok.quantize.ProVQ` that only training needs.
TRANSIENT = (".recent", ".seen", ".watch")
#: What a model consists of.
FILES = ("config.json", "model.safetensors")
#: What is said of it, which nothing reads but people and the Hugging Face Hub.
CARD = "README.md"
#: Which commands read models of which kind.
READERS = {"": "protok encode and decode", "image-tokenizer": "protok image", "prior": "protok prior"}
#: Numbers that a network may have beyond twice those of its weights (a reservoir of latents, tables that
#: are computed), and those that a tensor counts for, however small it is.
SPARE, TENSOR = 1 << 25, 1 << 14
#: Where the models lie that protok brings.
WEIGHTS = Path(__file__).parents[1] / "weights"


def shipped(kind: str = "") -> list[str]:
    """Names of the models that protok brings, of one kind."""
    configs = WEIGHTS.glob("*/config.json")
    return sorted(p.parent.name for p in configs if json.loads(p.read_text("utf-8")).get("kind", "") == kind)


def find_model(name: str | Path, kind: str = "", others: Sequence[str] = ()) -> Path:
    """Folder of a shipped model or of a model on disk.

    Parameters
    ----------
    name
        Of a shipped model, or a folder: a path, or text with a separator, as in ``./mine``. A folder
        that happens to lie in the working directory never stands in for a name.
    kind
        As in ``config.json``: empty for tokenizers of proteins.
    others
        Names that are no folders and can be given too, for the message.

    Raises
    ------
    FormatError
        If there is neither, naming the models that are shipped.
    """
    text, folder = str(name), Path(name)
    bare = not any(sign in text for sign in (os.sep, "/")) and text not in (".", "..")
    if bare and (WEIGHTS / text / "config.json").exists():
        return WEIGHTS / text
    there = (folder / "config.json").exists()
    if there and (isinstance(name, Path) or not bare):
        return folder
    names = ", ".join([*shipped(kind), *others])
    example = f".{os.sep}{text} for the folder here" if there else "a folder with config.json"
    raise FormatError(f"no model {text!r}", f"give {example}" + (f", or one of {names}" if names else ""))


def named_in(codebook: str, kind: str = "", others: Sequence[str] = (), file: str | Path = "") -> str:
    """The shipped model that a file names: a name inside a file is no path and no address.

    Parameters
    ----------
    codebook
        ``name@fingerprint``, as it stands in `file`.
    kind, others
        As for `find_model`.

    Raises
    ------
    CodebookMismatch
        If protok brings no model of that name.
    """
    name = codebook.rpartition("@")[0]
    if name not in (*shipped(kind), *others):
        raise CodebookMismatch(
            f"the codes are of {codebook}, and no model of that name is known",
            "give the folder of the model that made them",
            file=file,
        )
    return name


@runtime_checkable
class SavesPretrained(Protocol):
    """A model that writes a folder from which it can be loaded again."""

    @property
    def codebook(self) -> str:
        """`name@fingerprint`."""
        ...

    def save_pretrained(self, folder: str | Path, /) -> Path:
        """Write ``config.json`` and ``model.safetensors``; returns the folder."""
        ...


class DeviceMixin:
    """What has a network of torch, and goes where that goes.

    Attributes
    ----------
    card : str
        What is said of the model, in Markdown; it is saved and uploaded with it. Empty if nothing is.
    """

    network: nn.Module
    card: str = ""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """The same object, its network brought to a device.

        Raises
        ------
        Unsupported
            If torch has no such device.
        """
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise Unsupported(f"no device {str(device)!r} ({reason})", "use cpu") from error
        return self

    def check_precision(self) -> None:
        """Refuse weights that somebody brought to another precision: they make other codes.

        Raises
        ------
        Unsupported
            If one is not in float32.
        """
        kinds = {str(weight.dtype).removeprefix("torch.") for weight in self.network.parameters()}
        if odd := kinds - {"float32"}:
            raise Unsupported(f"weights in {', '.join(sorted(odd))}", "load the model again, in float32")


def save_model(
    folder: str | Path,
    network: nn.Module,
    content: Mapping[str, Any],
    *,
    card: str = "",
    half: str | tuple[str, ...] = "",
    exclude: tuple[str, ...] = TRANSIENT,
) -> Path:
    """Write the weights of a network, and what is said of it.

    Parameters
    ----------
    folder
        Made if it is not there.
    network
        Its weights are kept exactly, in the order of its state.
    content
        Of ``config.json``; of the files that the recipe in its ``provenance`` names only the names are kept.
    card
        Of ``README.md``; empty for none.
    half
        Weights whose names begin so are kept in float16; empty for none.
    exclude
        Ends of names that are left out.

    Raises
    ------
    FormatError
        If a weight is not a number, as after a training that has diverged: nothing could load it.
    """
    from safetensors.torch import save

    folder, state = Path(folder), {}
    for key, value in network.state_dict().items():
        if not key.endswith(exclude):
            rounded = half and key.startswith(half) and value.is_floating_point()
            state[key] = (value.half() if rounded else value).contiguous().cpu()
    if bad := _not_finite(state):
        raise FormatError(f"{bad} is not finite", "train again with a lower rate")
    folder.mkdir(parents=True, exist_ok=True)
    if recipe := content.get("provenance", {}).get("recipe"):
        content = {**content, "provenance": {**content["provenance"], "recipe": without_folders(recipe)}}
    config, weights = (folder / name for name in FILES)
    # Both are whole before either gets its name: weights of one model beside the configuration
    # of another may be read without an error.
    with atomic(weights, "wb") as first, atomic(config) as second:
        # Without a format older releases of transformers refuse the file.
        first.write(save(state, {"format": "pt"}))
        second.write(json.dumps(finite(content), indent=1) + "\n")
    if card:
        with atomic(folder / CARD) as handle:
            handle.write(card)
    return folder


def without_folders(recipe: Any) -> Any:
    """A recipe whose paths are names of files: where they lay on one machine helps nobody on another."""
    if isinstance(recipe, Mapping):
        return {key: without_folders(value) for key, value in recipe.items()}
    if not isinstance(recipe, str) or recipe.startswith("hf:"):
        return recipe
    return re.split(r"[/\\]", recipe.rstrip("/\\"))[-1]


def read_card(folder: Path) -> str:
    """What the folder of a model says of it; empty if nothing, or nothing that can be read."""
    try:
        return (folder / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def read_model(
    folder: Path, what: str, parse: Callable[[dict[str, Any], dict[str, Tensor]], Any], kind: str = ""
) -> tuple[Any, dict[str, Tensor]]:
    """What `parse` makes of ``config.json`` and the weights, and the weights.

    Parameters
    ----------
    what
        What the folder should be, for the message.
    kind
        That ``config.json`` must name; empty for the models that name none.

    Raises
    ------
    FormatError
        Whatever is wrong with the folder.
    """
    from safetensors.torch import load_file

    config, weights = (folder / name for name in FILES)
    remedy = f"its folder holds {' and '.join(FILES)}"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        named = content.get("kind", "")
        if named != kind:
            remedy = f"it is for {READERS[named]}" if named in READERS else remedy
            raise ValueError(f"config.json says kind {named!r}")
        if not isinstance(content.get("provenance") or {}, dict):
            raise ValueError("its provenance is no table")
        state = load_file(weights)
        return parse(content, state), state
    except Exception as error:
        # safetensors has an error class of its own, for which a cut file is enough.
        raise FormatError(f"not {what} ({error})", remedy, file=str(folder)) from error


def load_network(
    make: Callable[[], Net], state: Mapping[str, Tensor], folder: Path, exclude: tuple[str, ...] = TRANSIENT
) -> Net:
    """Make a network that is no larger than its weights and load them, in its own precision; in eval mode.

    Raises
    ------
    FormatError
        If it would be larger, if names, shapes or types of the weights are not the network's, but for
        names that end as in `exclude`, which may be missing, or if a weight is not a number.
    """
    try:
        with _at_most(2 * sum(value.numel() for value in state.values()) + SPARE):
            network = make()
        missing, odd = network.load_state_dict(state, strict=False)
        odd += [key for key in missing if not key.endswith(exclude)]
        odd += [key for key, own in network.state_dict().items() if key in state and _other(state[key], own)]
        if odd:
            raise ValueError(odd[0])
    # Sizes that make no network are found out by whatever meets them first.
    except Exception as error:
        if isinstance(error, ProtokError) and not isinstance(error, RecipeError):
            error.file = error.file or str(folder)
            raise  # of a module that is missing
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"weights do not fit config.json ({lines[-1].strip()})"
        raise FormatError(problem, "save the model again", file=str(folder)) from error
    if bad := _not_finite(network.state_dict()):
        raise FormatError(f"{bad} is not finite", "get the model again, or train it again", file=str(folder))
    return network.eval()


def _other(value: Tensor, own: Tensor) -> bool:
    return value.is_complex() or value.is_floating_point() != own.is_floating_point()


def _not_finite(state: Mapping[str, Tensor]) -> str:
    """The first of these weights that are not all numbers; empty if there is none."""
    return next((key for key, value in state.items() if not value.isfinite().all()), "")


def _at_most(numbers: int) -> AbstractContextManager[Any]:
    """Refuse to make tensors of more numbers in all, before there is memory for them."""
    import torch
    from torch.overrides import TorchFunctionMode

    makers = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}

    class Budget(TorchFunctionMode):
        left = numbers

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in makers:
                size = args[0] if args and isinstance(args[0], list | tuple) else args
                self.left -= math.prod(size) + TENSOR
                if self.left < 0:
                    raise ValueError("the network is larger than what the weights hold")
            return func(*args, **(kwargs or {}))

    return Budget()
