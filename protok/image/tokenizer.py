"""The image tokenizer: encode and decode around a trained network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from protok.common.checkpoint import DeviceMixin, load_network, read_card, read_model, save_model
from protok.common.grouping import alike
from protok.common.hub import folder_of, upload
from protok.common.settings import from_dict
from protok.errors import CodebookMismatch, Unsupported
from protok.image.config import ImageConfig
from protok.image.network import ImageNetwork
from protok.image.pixels import as_pixels
from protok.image.tokens import ImageTokens
from protok.image.windows import reach, through_tiles, through_windows
from protok.quantize import ProVQ, Quantizer, ResidualVQ

#: Pixels that go through the network at once, unless one image has more.
PIXELS = 1 << 18
KIND = "image-tokenizer"
DEFAULT = "protok-image"


class ImageTokenizer(DeviceMixin):
    """Images to codes and back.

    Parameters
    ----------
    network
        In eval mode, except inside its own training.
    provenance
        What is known of the weights' origin; kept in the saved configuration.
    """

    network: ImageNetwork

    def __init__(self, network: ImageNetwork, *, provenance: Mapping[str, Any] | None = None):
        self.network = network
        self.provenance = dict(provenance or {})
        self.name = network.config.name
        self.size = network.config.quantizer.size
        self.factor = network.config.factor
        self.codebook = f"{self.name}@{self._fingerprint()}"

    def __repr__(self) -> str:
        levels = f"{self.levels} levels of " if self.levels > 1 else ""
        return f"ImageTokenizer({self.codebook}, f={self.factor}, {levels}{self.size} codes)"

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer, out of its curriculum.

        Raises
        ------
        Unsupported
            If the model is continuous.
        """
        quantizer = self.network.quantizer
        if quantizer is None:
            raise Unsupported(f"{self.name} is continuous and has no codes", "use embed")
        return quantizer.inner if isinstance(quantizer, ProVQ) else quantizer

    @property
    def tables(self) -> list[Quantizer]:
        """Of each level the quantizer, coarse first; empty if the model is continuous."""
        if self.network.quantizer is None:
            return []
        quantizer = self.quantizer
        if isinstance(quantizer, ResidualVQ) and len(quantizer.levels) > 1:
            return [cast(Quantizer, level) for level in quantizer.levels]
        return [quantizer]

    @property
    def levels(self) -> int:
        """Ids at each place; 1 but for a residual quantizer."""
        return max(1, len(self.tables))

    def check_levels(self, levels: int) -> None:
        """Refuse more levels than the codes have, before the work.

        Raises
        ------
        Unsupported
            If there are not so many.
        """
        if levels > self.levels:
            raise Unsupported(f"{levels} levels of {self.codebook}", f"the codes have {self.levels} levels")

    def _fingerprint(self) -> str:
        """Of everything that ids depend on: encoder and codebook, both saved exactly."""
        if self.network.quantizer is None:
            return "continuous"
        sha256 = hashlib.sha256()
        with torch.no_grad():
            parts = dict(self.network.encoder.state_dict())
            if self.network.components is not None:
                parts |= self.network.components.into.state_dict(prefix="components.")
            for i, table in enumerate(self.tables):
                every = torch.arange(self.size, device=table.usage.device)
                parts[f"codes.{i}"] = table.lookup(every)
        for key, value in parts.items():
            sha256.update(key.encode())
            sha256.update(value.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return sha256.hexdigest()[:8]

    def encode(self, image: Any, *, name: str = "") -> ImageTokens:
        """Codes of an image.

        Parameters
        ----------
        image
            Whatever `protok.image.as_pixels` takes: a path, a Pillow image, an array or
            tensor. Sides that are no multiple of the factor are filled up by repeating
            the border; decoding cuts that off again. A large image goes through a tile at a time, and
            one that is not of the size that a model was trained on which is not local through windows of
            that size, on both ways (see `protok.image.windows`).
        name
            Kept in the tokens; the file's stem by default.

        Raises
        ------
        ProtokError
            If the image cannot be read, or the model has no codebook.
        """
        if not name and isinstance(image, str | Path):
            name = Path(image).stem
        return self.encode_batch([image], names=[name])[0]

    def encode_batch(self, images: Iterable[Any], *, names: Iterable[str] | None = None) -> list[ImageTokens]:
        """Codes of several images of any sizes; those of one size go through together."""
        quantizer = self.quantizer
        pixels = [as_pixels(image) for image in images]
        called = [""] * len(pixels) if names is None else list(names)
        ids: list[np.ndarray] = [np.zeros(0)] * len(pixels)
        for rows, z in self._latents(pixels):
            assigned = quantizer.assign(z.reshape(-1, z.shape[-1])).cpu().numpy().astype(np.int32)
            assigned = assigned.reshape(*z.shape[:-1], *quantizer.code_shape)
            for row, codes in zip(rows, assigned, strict=True):
                ids[row] = codes
        return [
            ImageTokens(codes, self.size, self.codebook, x.shape[0], x.shape[1], self.factor, name)
            for codes, x, name in zip(ids, pixels, called, strict=True)
        ]

    def decode(self, tokens: ImageTokens | Any, *, levels: int | None = None) -> np.ndarray:
        """Pixels of codes, (height, width, 3) uint8.

        Parameters
        ----------
        tokens
            With all levels or a prefix of them; or ids alone, an array, tensor or list of the shape of
            `ImageTokens.ids`.
        levels
            Use only so many, coarse first.

        Raises
        ------
        CodebookMismatch
            If the tokens were made with another encoder or codebook.
        """
        return self.decode_batch([tokens], levels=levels)[0]

    def decode_batch(
        self, tokens: Iterable[ImageTokens | Any], *, levels: int | None = None
    ) -> list[np.ndarray]:
        """Pixels of several images' codes."""
        tokens = [self._tokens(image).prefix(levels) for image in tokens]
        for image in tokens:
            self._check(image)
        out: list[np.ndarray] = [np.zeros(0)] * len(tokens)
        for rows in alike((image.ids.shape for image in tokens), partial(_most, each=self.factor**2)):
            ids = np.stack([tokens[i].ids for i in rows]).astype(np.int64)
            with torch.no_grad():
                z = self.quantizer.lookup(torch.from_numpy(ids).to(self.device))
            for row, x in zip(rows, self.pixels(z), strict=True):
                out[row] = x[: tokens[row].height, : tokens[row].width]
        return out

    def _tokens(self, ids: ImageTokens | Any) -> ImageTokens:
        if isinstance(ids, ImageTokens):
            return ids
        ids = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
        height, width = (self.factor * side for side in (*ids.shape, 0, 0)[:2])
        return ImageTokens(ids, self.size, self.codebook, height, width, self.factor)

    def _check(self, tokens: ImageTokens) -> None:
        if tokens.codebook != self.codebook:
            raise CodebookMismatch(
                f"the codes are of {tokens.codebook}, the decoder of {self.codebook}",
                "decode with the model that made them",
                file=tokens.name,
            )
        low, high = tokens.ids.min(initial=0), tokens.ids.max(initial=0)
        shaped = tokens.ids.ndim == 2 + len(self.quantizer.code_shape) and tokens.levels <= self.levels
        if not shaped or low < 0 or high >= self.size:
            raise CodebookMismatch(
                f"ids of shape {tokens.ids.shape} in {low}..{high}",
                f"give ids in 0..{self.size - 1}, with at most {self.levels} levels",
                file=tokens.name,
            )

    def embed(self, image: Any, *, quantized: bool = False) -> np.ndarray:
        """Latents of an image, (h, w, d) float32, or the vectors of its codes."""
        ((_, z),) = self._latents([as_pixels(image)])
        if quantized:
            with torch.no_grad():
                z = self.quantizer.lookup(self.quantizer.assign(z.flatten(0, -2))).reshape(z.shape)
        return z[0].cpu().numpy()

    def reconstruct(self, image: Any) -> np.ndarray:
        """Encode and decode without quantizing: what the codebook costs is the difference."""
        x = as_pixels(image)
        ((_, z),) = self._latents([x])
        return self.pixels(z)[0][: x.shape[0], : x.shape[1]]

    @torch.no_grad()
    def pixels(self, z: Tensor) -> np.ndarray:
        """Pixels (n, h, w, 3) uint8 of latents or code vectors (n, i, j, d)."""
        self.check_precision()
        with torch.autocast(z.device.type, enabled=False):
            x = self._through(lambda part: self.network.pixels(part.movedim(1, -1)), z.movedim(-1, 1), 1)
        return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()

    @torch.no_grad()
    def _latents(self, pixels: list[np.ndarray]) -> Iterable[tuple[list[int], Tensor]]:
        self.check_precision()
        for rows in alike((x.shape for x in pixels), _most):
            x = to_unit(np.stack([pixels[i] for i in rows])).to(self.device)
            down, right = (-side % self.factor for side in x.shape[2:])
            if down or right:
                x = F.pad(x, (0, right, 0, down), mode="replicate")
            # Codes must not depend on a caller's autocast.
            with torch.autocast(x.device.type, enabled=False):
                z = self._through(lambda part: self.network.latents(part).movedim(-1, 1), x, self.factor)
            yield rows, z.movedim(1, -1)

    def _through(self, network: Callable[[Tensor], Tensor], x: Tensor, inward: int) -> Tensor:
        """What a network makes of images of any size, or of their latents, one a place: `inward` is 1."""
        config, outward = self.network.config, self.factor // inward
        if config.local:
            part, scale = (self.network.decoder, self.factor) if inward == 1 else (self.network.encoder, 1)
            around = -(-reach(part, scale) // self.factor)
            return through_tiles(network, x.float(), around, inward, outward)
        window = config.window // self.factor
        if not window:
            return network(x.float())
        most = max(1, PIXELS // (window * self.factor) ** 2)
        return through_windows(network, x.float(), window, inward, outward, most)

    def save_pretrained(self, folder: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write ``config.json`` and ``model.safetensors``, which need nothing else, and the card, if any.

        Encoder and codebook are kept in float32, since rounding would change codes;
        the decoder in float16.
        """
        self.check_precision()
        config = {
            "kind": KIND,
            "codebook": self.codebook,
            "model": asdict(self.network.config),
            "provenance": {**self.provenance, **(provenance or {})},
        }
        return save_model(folder, self.network, config, card=self.card, half="decoder.")

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the model to the Hugging Face Hub; see `protok.common.hub.upload`."""
        return upload(self, name, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path = DEFAULT) -> ImageTokenizer:
        """Load a model by the name of one that protok ships, from a folder, or from a hub.

        Raises
        ------
        FormatError
            If there is no such model, or the folder is not one.
        Unsupported
            For ``hf:`` where `huggingface_hub` is not installed or cannot give the model.
        """
        folder = folder_of(name, KIND)

        def parse(settings: dict[str, Any], _: Any) -> tuple[ImageConfig, Any]:
            return from_dict(ImageConfig, settings["model"], str(folder)), settings.get("provenance")

        (config, provenance), state = read_model(folder, "an image tokenizer", parse, KIND)
        network = load_network(lambda: ImageNetwork(config), state, folder)
        tokenizer = cls(network, provenance=provenance)
        tokenizer.card = read_card(folder)
        return tokenizer


def to_unit(x: np.ndarray) -> Tensor:
    """Pixels (n, h, w, 3) uint8 as (n, 3, h, w) in -1..1."""
    return torch.from_numpy(x).movedim(-1, 1).float() / 127.5 - 1


def _most(shape: tuple[int, ...], each: int = 1) -> int:
    """How many images go through at once; `each`: pixels a place of the shape."""
    return max(1, PIXELS // (shape[0] * shape[1] * each))
