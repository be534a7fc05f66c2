"""The learned tokenizer: two verbs, encode and decode, around a trained network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protok.common.checkpoint import TRANSIENT
from protok.common.grouping import packed
from protok.errors import ProtokError, Unsupported
from protok.model.config import ModelConfig
from protok.model.encoder import Encoder
from protok.model.features import Batch
from protok.model.network import Network
from protok.model.refine import add_oxygen, relax
from protok.quantize import ProVQ
from protok.structure.backbone import Backbone
from protok.structure.geometry import residue_atoms
from protok.structure.io.interop import as_backbone
from protok.tokenizers.coded import CodedTokenizer
from protok.tokenizers.native import COMPUTE, NativeEncoder
from protok.tokens.tokens import Tokens

#: Residues that are encoded at once; small batches suit a CPU's caches, large ones a GPU.
RESIDUES, GPU_RESIDUES = 1024, 2**15
#: From a batch to a row for each residue.
Encode = Callable[[Batch], Tensor]


class StructureTokenizer(CodedTokenizer):
    """Backbones to codes and back.

    Parameters
    ----------
    network
        In eval mode, except inside its own training.
    steps
        Of relaxation after decoding; 0 leaves the decoded frames as they are.
    provenance
        What is known of the weights' origin; kept in the saved configuration.
    compute
        How codes are computed, see `protok.load`.

    Raises
    ------
    ProtokError
        If codes cannot be computed so.
    """

    network: Network
    kinds, half = (ModelConfig, Network), "decoder."
    crosses_chains = True

    def __init__(
        self,
        network: Network,
        *,
        steps: int = 60,
        provenance: Mapping[str, Any] | None = None,
        compute: str = "torch",
    ):
        if compute not in COMPUTE:
            raise ProtokError(f"no way to compute called {compute!r}", f"one of {', '.join(COMPUTE)}")
        self.network, self._asked = network, compute
        self.steps = steps
        self.provenance = dict(provenance or {})
        self.name = network.config.name
        self.size = 0 if network.quantizer is None else network.config.quantizer.size
        self.codebook = f"{self.name}@{self._fingerprint()}"
        if compute == "native" and self.compute == "torch":
            raise Unsupported(f"{self.codebook} cannot be computed natively", "compute with torch")

    def __getstate__(self) -> dict[str, Any]:
        # A library is of one process. Those that this goes to look for their own, and find it made.
        compiled = self.compute == "native"
        return {key: value for key, value in self.__dict__.items() if not (compiled and key == "_native")}

    @property
    def compute(self) -> str:
        """How codes are computed: ``native``, by `protok.tokenizers.native`, or ``torch``."""
        return "torch" if self._encoder is self.network.encoder else "native"

    @property
    def _encoder(self) -> Encoder | NativeEncoder:
        encoder = self.network.encoder
        weight = encoder.inputs.weight
        fits = weight.device.type == "cpu" and weight.dtype == torch.float32
        if self._asked == "torch" or self.network.quantizer is None or not fits:
            return encoder
        return self._native or encoder

    @cached_property
    def _native(self) -> NativeEncoder | None:
        """The compiled encoder; None where there cannot be one and it need not be."""
        try:
            return NativeEncoder(self.network.encoder)
        except ProtokError:
            if self._asked == "native":
                raise
            return None

    def __repr__(self) -> str:
        return f"StructureTokenizer({self.codebook}, {self.size} codes)"

    def _fingerprint(self) -> str:
        if self.network.quantizer is None:
            return "continuous"
        return hashlib.sha256(self.code_vectors().astype("<f4").tobytes()).hexdigest()[:8]

    @property
    def batch_residues(self) -> int:
        """Residues that `encode_batch` is best given at once: four times what it works on."""
        return 4 * self._residues

    @property
    def _residues(self) -> int:
        return RESIDUES if self.device.type == "cpu" else GPU_RESIDUES

    @cached_property
    def encoder_fingerprint(self) -> str:
        """What makes codes beside the codebook: a digest of the encoder's weights."""
        self.check_precision()
        digest = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            if not key.startswith("decoder.") and not key.endswith(TRANSIENT):
                digest.update(f"{key} {tuple(value.shape)}".encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]

    def encode(self, structure: Any, *, across_chains: bool = False) -> Tokens:
        """Codes of a structure, one a residue.

        Parameters
        ----------
        structure
            A `Backbone`, or anything that `protok.as_backbone` takes: a path, a
            biotite array, a Bio.PDB structure or chain, a PyG object.
        across_chains
            Let neighbourhoods cross chains. By default each chain is tokenized
            alone, as in training.

        Raises
        ------
        ProtokError
            If the structure cannot be read, or the model has no codebook.
        """
        return self.encode_batch([as_backbone(structure)], across_chains=across_chains)[0]

    def encode_batch(self, structures: Sequence[Backbone], *, across_chains: bool = False) -> list[Tokens]:
        """Codes of several structures; the same as one by one, and faster for short chains."""
        quantizer, tokens, structures = self._quantizer, [], [as_backbone(s) for s in structures]
        latents = self._encoded(structures, across_chains, self._encoder, self.network.config.quantizer.dim)
        for structure, z in zip(structures, latents, strict=True):
            ids = quantizer.assign(z).cpu().numpy().astype(np.int32)
            ids[~structure.mask] = -1
            tokens.append(Tokens.like(structure, ids, self.size, self.codebook))
        return tokens

    def embed(self, structure: Any, *, quantized: bool = False, across_chains: bool = False) -> np.ndarray:
        """Latents of a structure, (L, d) float32; NaN where a residue is incomplete.

        Parameters
        ----------
        structure, across_chains
            As for `encode`.
        quantized
            Give the vector of each residue's code instead.
        """
        backbone = as_backbone(structure)
        z = self._latents(backbone, across_chains)
        if quantized:
            z = self._quantizer.lookup(self._quantizer.assign(z))
        out = z.cpu().numpy().astype(np.float32)
        out[~backbone.mask] = np.nan
        return out

    def states(
        self, structure_or_tokens: Backbone | Tokens | Any, *, across_chains: bool = False
    ) -> np.ndarray:
        """Hidden states of residues, (L, w) float32: features for a model on top.

        Of a structure: the encoder's, before they are projected to latents. Of `Tokens`: the
        decoder's, which knows the codes of the chain and nothing else. NaN where a residue is
        incomplete or has no token. They are wider than latents, and cannot be written as codes.

        Parameters
        ----------
        structure_or_tokens, across_chains
            Tokens, or what `encode` takes.

        Raises
        ------
        CodebookMismatch
            If the tokens were made with another codebook.
        """
        if isinstance(structure_or_tokens, Tokens):
            tokens = structure_or_tokens
            z, present = self._vectors(tokens), tokens.ids >= 0
            out = np.full((len(tokens), self.network.decoder.width), np.nan, np.float32)
            for rows, here in _by_chain(tokens, present):
                out[rows] = self._read(z[rows], here).cpu().numpy()
        else:
            backbone, encoder = as_backbone(structure_or_tokens), self.network.encoder
            width, present = self.network.config.encoder.hidden, backbone.mask
            (h,) = self._encoded([backbone], across_chains, lambda b: encoder.states(encoder.graph(b)), width)
            out = h.cpu().numpy()
        out[~present] = np.nan
        return out

    def _latents(self, backbone: Backbone, across_chains: bool = False) -> Tensor:
        width = self.network.config.quantizer.dim
        return self._encoded([backbone], across_chains, self.network.encoder, width)[0]

    @torch.no_grad()
    def _encoded(
        self, structures: Sequence[Backbone], across_chains: bool, encode: Encode, width: int
    ) -> list[Tensor]:
        """What `encode` gives for the residues of each structure, in rows of this width."""
        self.check_precision()
        device = self.device
        out = [torch.zeros(len(s), width, dtype=torch.float32, device=device) for s in structures]
        # Residues of one neighbourhood: the number of a structure, and its rows.
        wholes = (
            (i, rows)
            for i, s in enumerate(structures)
            for rows in ([np.arange(len(s))] if across_chains else _chains(s))
        )
        for group in packed(wholes, lambda whole: len(whole[1]), self._residues):
            batch = Batch.of([structures[i][rows] for i, rows in group]).to(device)
            # Codes must not depend on a caller's autocast.
            with torch.autocast(device.type, enabled=False):
                z = encode(batch)
            for (i, rows), part in zip(group, z.split(batch.sizes), strict=True):
                out[i][torch.from_numpy(rows).to(device)] = part
        return out

    def decode(self, tokens: Tokens) -> Backbone:
        """Backbone of tokens: N, CA, C, O in Å, with a confidence in `bfactor`.

        The confidence, 0..100, is the CA lDDT that the decoder expects. Chains are decoded
        one by one, each about its own origin: codes of a chain do not say where other
        chains lie. Residues without a token are NaN.

        Raises
        ------
        CodebookMismatch
            If the tokens were made with another codebook.
        """
        return self._build(tokens, self._vectors(tokens), tokens.ids >= 0)

    def _vectors(self, tokens: Tokens) -> Tensor:
        """Code vectors of tokens of this codebook; those of missing ones mean nothing."""
        with torch.no_grad():
            return self._quantizer.lookup(self._ids(tokens))

    def reconstruct(self, structure: Any) -> Backbone:
        """Encode and decode without quantizing: what the codebook costs is the difference."""
        backbone = as_backbone(structure)
        return self._build(backbone, self._latents(backbone), backbone.mask)

    def _build(self, like: Backbone | Tokens, z: Tensor, present: np.ndarray) -> Backbone:
        coords = np.full((len(like), 4, 3), np.nan, np.float32)
        confidence = np.full(len(like), np.nan, np.float32)
        for rows, here in _by_chain(like, present):
            built, sure = self._build_chain(z[rows], here.to(z.device))
            coords[rows], confidence[rows] = built.cpu().numpy(), sure.cpu().numpy()
        coords[~present], confidence[~present] = np.nan, np.nan
        return Backbone(coords, like.sequence, like.chain, like.index, like.icode, confidence, like.name)

    @torch.no_grad()
    def _read(self, z: Tensor, present: Tensor) -> Tensor:
        """States of the residues of a chain in the decoder."""
        with torch.autocast(z.device.type, enabled=False):
            present = present.to(z.device)[None]
            return self.network.decoder.trunk(z[None], present, torch.ones_like(present))[0]

    def _build_chain(self, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        decoder, h = self.network.decoder, self._read(z, present)
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            torsion, bond = decoder.backbone(h)
            bonded = (bond[:-1] > 0) & present[:-1] & present[1:]
            trace = decoder.trace(h)
        ca, rotation = trace.ca, trace.rotation
        if self.steps and len(ca) > 1:
            ca, rotation = relax(trace, torsion, bonded, self.steps)
        return add_oxygen(residue_atoms(rotation, ca), torsion, bonded), trace.confidence


def _by_chain(like: Backbone | Tokens, present: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows of each chain that has any residue, and which of them have one."""
    for rows in _chains(like):
        if present[rows].any():
            yield rows, torch.from_numpy(present[rows])


def _chains(like: Backbone | Tokens) -> Iterator[np.ndarray]:
    for chain in dict.fromkeys(like.chain.tolist()):
        yield np.flatnonzero(like.chain == chain)


def is_settled(network: Network) -> bool:
    """Whether the codes of a network mean something: its curriculum has reached the codebook."""
    return not isinstance(network.quantizer, ProVQ) or bool(network.quantizer.initialised)
