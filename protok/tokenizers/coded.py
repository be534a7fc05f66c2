"""What tokenizers with a trained network share: their codebook, and the folder they are saved in."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.common.checkpoint import DeviceMixin, load_network, read_card, read_model, save_model
from protok.common.hub import folder_of, upload
from protok.common.settings import from_dict
from protok.errors import CodebookMismatch, Unsupported
from protok.quantize import Quantizer
from protok.structure.backbone import Backbone
from protok.structure.io.interop import as_backbone
from protok.tokenizers.alphabets import ALPHABETS
from protok.tokens.tokens import Tokens


class CodedTokenizer(DeviceMixin, ABC):
    """A tokenizer around a network that has a `quantizer` and a `config`.

    A subclass says which in `kinds`, its configuration and its network, and in `half` how the names of
    weights begin that no code follows from: they are saved in float16.
    """

    kinds: ClassVar[tuple[type, type[nn.Module]]]
    half: ClassVar[str]
    network: Any
    name: str
    size: int
    codebook: str
    provenance: dict[str, Any]

    @property
    def _quantizer(self) -> Quantizer:
        if self.network.quantizer is None:
            raise Unsupported(f"{self.name} is continuous and has no codes", "use embed")
        return self.network.quantizer

    def code_vectors(self) -> np.ndarray:
        """The codebook, (size, d) float32.

        Raises
        ------
        Unsupported
            If the model is continuous.
        """
        with torch.no_grad():
            return self._quantizer.lookup(torch.arange(self.size, device=self.device)).cpu().numpy()

    @cached_property
    def encoder_fingerprint(self) -> str:
        """What makes letters beside the codebook: 8 hex digits over the encoder's weights."""
        digest = hashlib.sha256()
        add_weights(digest, self.network.encoder.state_dict())
        return digest.hexdigest()[:8]

    def embed(self, structure: Any, *, quantized: bool = False) -> np.ndarray:
        """Latents of a structure, (L, d) float32; NaN where a residue is incomplete.

        Parameters
        ----------
        structure
            As for `encode`.
        quantized
            Give the vector of each residue's letter instead.
        """
        backbone = as_backbone(structure)
        z = self._latents(backbone)
        if quantized:
            z = self._quantizer.lookup(self._quantizer.assign(z))
        return hollow(z, backbone.mask)

    @abstractmethod
    def _latents(self, backbone: Backbone) -> Float[Tensor, "n d"]:
        """Latents of all residues; those of incomplete residues mean nothing."""

    def _ids(self, tokens: Tokens) -> Int[Tensor, "n"]:
        """Codes of tokens of this codebook, -1 for a missing one, as torch has them."""
        self.check_precision()
        self._check(tokens)
        return torch.from_numpy(tokens.ids.astype(np.int64)).to(self.device)

    def _check(self, tokens: Tokens) -> None:
        """Refuse tokens that are not of this codebook."""
        if tokens.codebook != self.codebook:
            raise CodebookMismatch(
                f"the tokens are of {tokens.codebook}, the decoder of {self.codebook}",
                "decode with the model that made them",
                file=tokens.name,
            )
        if len(tokens) and not -1 <= tokens.ids.min() <= tokens.ids.max() < self.size:
            raise CodebookMismatch(
                f"ids span {tokens.ids.min()}..{tokens.ids.max()} of {self.size} codes",
                "give ids in 0..size-1, or -1 for a missing token",
                file=tokens.name,
            )

    def save_pretrained(self, folder: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write ``config.json`` and ``model.safetensors``, which need nothing else, and the card, if any.

        What codes follow from is kept in float32, since rounding would change them; the rest in
        float16.
        """
        self.check_precision()
        config = {
            "codebook": self.codebook,
            "model": asdict(self.network.config),
            "provenance": {**self.provenance, **(provenance or {})},
        }
        return save_model(folder, self.network, config, card=self.card, half=self.half)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the model to the Hugging Face Hub; see `protok.common.hub.upload`."""
        return upload(self, name, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Load a model by the name of one that protok ships, from a folder, or from a hub.

        Parameters
        ----------
        name
            As for `protok.load`; ``hf:owner/name@revision`` is downloaded by `huggingface_hub`.
        options
            Further arguments of the class.

        Raises
        ------
        FormatError
            If there is no such model, or the folder is not one.
        Unsupported
            For ``hf:`` where `huggingface_hub` is not installed or cannot give the model.
        """
        folder, (config_type, network_type) = folder_of(name, others=list(ALPHABETS)), cls.kinds

        def parse(document: dict[str, Any], _: Any) -> tuple[Any, Any]:
            return from_dict(config_type, document["model"], str(folder)), document.get("provenance")

        (config, provenance), state = read_model(folder, "a protok model", parse)
        network = load_network(lambda: network_type(config), state, folder)
        tokenizer = cls(network, provenance=provenance, **options)  # pyright: ignore[reportCallIssue]
        tokenizer.card = read_card(folder)
        return tokenizer


def hollow(x: Tensor | np.ndarray, present: np.ndarray) -> np.ndarray:
    """Numbers of residues as float32, NaN where one is not present."""
    out = (x.detach().cpu().numpy() if isinstance(x, Tensor) else x).astype(np.float32)
    out[~present] = np.nan
    return out


def add_weights(digest: Any, state: Mapping[str, Tensor]) -> None:
    """Add names, shapes and bytes of weights to a digest."""
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
