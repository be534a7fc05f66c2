"""The folder of a trained model: ``config.json`` and ``model.safetensors``, nothing else needed.

Knows no model in particular: tokenizers of proteins and of images and priors are saved by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from protok.common.files import atomic, finite
from protok.errors import FormatError, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Buffers of a `protok.quantize.ProVQ` that only training needs.
TRANSIENT = ("quantizer.recent", "quantizer.seen", "quantizer.watch")
#: What a model consists of.
FILES = ("config.json", "model.safetensors")
#: Which commands read models of which kind.
READERS = {"": "protok encode and decode", "image-tokenizer": "protok image", "prior": "protok prior"}
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
        Of a shipped model, or a folder.
    kind
        As in ``config.json``: empty for tokenizers of proteins.
    others
        Names that are no folders and can be given too, for the message.

    Raises
    ------
    FormatError
        If there is neither, naming the models that are shipped.
    """
    for folder in (Path(name), WEIGHTS / str(name)):
        if (folder / "config.json").exists():
            return folder
    names = ", ".join([*shipped(kind), *others])
    remedy = "give a folder with config.json" + (f", or one of {names}" if names else "")
    raise FormatError(f"no model {str(name)!r}", remedy)


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
    """What has a network of torch, and goes where that goes."""

    network: nn.Module

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
    half: str = "",
    exclude: Sequence[str] = TRANSIENT,
) -> Path:
    """Write the weights of a network, and what is said of it.

    Parameters
    ----------
    folder
        Made if it is not there.
    network
        Its weights are kept exactly, in the order of its state.
    content
        Of ``config.json``.
    half
        Weights whose names begin so are kept in float16; empty for none.
    exclude
        Names that are left out.
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for key, value in network.state_dict().items():
        if key not in exclude:
            rounded = half and key.startswith(half) and value.is_floating_point()
            state[key] = (value.half() if rounded else value).contiguous().cpu()
    config, weights = (folder / name for name in FILES)
    # Both are whole before either gets its name: weights of one model beside the configuration
    # of another may be read without an error.
    with atomic(weights, "wb") as first, atomic(config) as second:
        first.write(save(state))
        second.write(json.dumps(finite(content), indent=1) + "\n")
    return folder


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
        state = load_file(weights)
        return parse(content, state), state
    except Exception as error:
        # safetensors has an error class of its own, for which a cut file is enough.
        raise FormatError(f"not {what} ({error})", remedy, file=str(folder)) from error


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], folder: Path, exclude: Sequence[str] = TRANSIENT
) -> None:
    """Load weights into a network, in its own precision, and put it in eval mode.

    Raises
    ------
    FormatError
        If names or shapes are not the network's, but for `exclude`, which may be missing.
    """
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
        odd = [key for key in missing if key not in exclude] + unexpected
    except RuntimeError as error:
        odd = [str(error).splitlines()[-1].strip()]
    if odd:
        problem = f"weights do not fit config.json ({odd[0]})"
        raise FormatError(problem, "save the model again", file=str(folder))
    network.eval()
