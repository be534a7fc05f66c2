"""The tokenizer of shapes and keyframes: letters that are local, keyframes that say where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from protok.common.grouping import alike, packed
from protok.errors import ProtokError, Unsupported
from protok.model.batch import Batch
from protok.model.confidence import among_neighbours
from protok.model.config import ShapesConfig
from protok.model.keyframes import Coded, Grid, code, places
from protok.model.network import ShapeNetwork, stored_steps
from protok.model.runs import Runs
from protok.structure.backbone import Backbone
from protok.structure.io.interop import as_backbone
from protok.structure.poses import Poses
from protok.tokenizers.built import Atoms, Read, atoms_of, by_chain, placed, runs_of
from protok.tokenizers.coded import CodedTokenizer, add_weights, hollow
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.tokenizers.soft import Alternatives, decode_soft, distances, nearest
from protok.tokens.keyframes import Keyframes
from protok.tokens.tokens import Tokens, join

#: Residues that the networks read at once: small batches suit a CPU's caches, large ones a GPU.
RESIDUES, GPU_RESIDUES = 2048, 2**16
#: Residues whose keyframes are found at once, step by step along all chains: the more the faster.
WALKED = 2**17


#: Of what has no keyframes.
LETTERS_ALONE = "built from letters alone: right over some residues, drifting beyond"


class ShapeTokenizer(CodedTokenizer):
    """Backbones to shape letters and keyframes, and back.

    Parameters
    ----------
    network
        In eval mode, except inside its own training.
    provenance
        What is known of the weights' origin; kept in the saved configuration.
    """

    network: ShapeNetwork
    kinds, half = (ShapesConfig, ShapeNetwork), "refiner."

    def __init__(self, network: ShapeNetwork, *, provenance: Mapping[str, Any] | None = None):
        self.network = network
        self.provenance = dict(provenance or {})
        self.name = network.config.name
        self.size = 0 if network.quantizer is None else network.config.quantizer.size
        self.codebook = f"{self.name}@{self._fingerprint()}"

    def __repr__(self) -> str:
        return f"ShapeTokenizer({self.codebook}, {self.size} letters)"

    @cached_property
    def environment(self) -> EnvironmentTokenizer | None:
        """The tokenizer of environment letters alone; None of a model without them."""
        if self.network.environment is None:
            return None
        return EnvironmentTokenizer(self.network.environment, label=f"{self.name}:environment")

    @property
    def spacings(self) -> tuple[int, ...]:
        """Residues a keyframe that can be asked for."""
        return self.network.config.keyframes.spacings

    @property
    def usual_spacing(self) -> int:
        """Residues a keyframe where nobody says: 4, or the first of `spacings` where that is not there."""
        return 4 if 4 in self.spacings else self.spacings[0]

    def _fingerprint(self) -> str:
        """Of all that decoding needs to place keyframes: letters, step network, codebooks of keyframes."""
        if self.network.quantizer is None:
            return "continuous"
        digest = hashlib.sha256(self.code_vectors().astype("<f4").tobytes())
        for name, part in (("trunk", self.network.trunk), ("step", self.network.step)):
            add_weights(digest, {f"{name}.{key}": value for key, value in part.state_dict().items()})
        add_weights(digest, {f"keyframes.{s}": self.network.motions(s).numbers for s in self.spacings})
        return digest.hexdigest()[:8]

    @cached_property
    def encoder_fingerprint(self) -> str:
        """What makes letters of both alphabets beside their codebooks: 8 hex digits over weights."""
        shapes, around = super().encoder_fingerprint, self.environment
        if around is None:
            return shapes
        both = f"{shapes} {around.codebook} {around.encoder_fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()[:8]

    @property
    def batch_residues(self) -> int:
        """Residues that `encode_batch` is best given at once."""
        return WALKED

    @property
    def _residues(self) -> int:
        return RESIDUES if self.device.type == "cpu" else GPU_RESIDUES

    def encode(
        self, structure: Any, *, keyframes: int | None = None, environments: bool | None = None
    ) -> Tokens:
        """Shape letters of a structure, one a residue, its keyframes, and its environment letters.

        Parameters
        ----------
        structure
            A `Backbone`, or anything that `protok.as_backbone` takes: a path, a
            biotite array, a Bio.PDB structure or chain, a PyG object.
        keyframes
            One for each so many residues, of `spacings` (None: `usual_spacing`): fewer cost fewer bits, more
            rebuild better. 0 for letters alone.
        environments
            Whether to give environment letters; by default if the model has them.

        Raises
        ------
        ProtokError
            If the structure cannot be read, there is no such spacing, or no environment letters.
        """
        return self.encode_batch([as_backbone(structure)], keyframes=keyframes, environments=environments)[0]

    @torch.no_grad()
    def encode_batch(
        self,
        structures: Sequence[Backbone],
        *,
        keyframes: int | None = None,
        environments: bool | None = None,
    ) -> list[Tokens]:
        """Tokens of several structures; the same as one by one, and faster for short chains."""
        if environments and self.environment is None:
            raise Unsupported(f"{self.name} has no environment letters", "leave them out")
        spacing = self._spacing(keyframes, none=", or 0 for none")
        self.check_precision()
        tokens: list[Tokens] = []
        backbones = [as_backbone(s) for s in structures]
        for group in packed(backbones, len, WALKED):
            tokens += self._encode_together(group, spacing)
        if self.environment is None or environments is False:
            return tokens
        around = self.environment.environments(backbones)
        return [replace(own, environment=e) for own, e in zip(tokens, around, strict=True)]

    def _spacing(self, keyframes: int | None, none: str = "") -> int:
        """What is asked for, or the usual; `none` says in the error that 0 would do too."""
        spacing = self.usual_spacing if keyframes is None else keyframes
        if spacing not in self.spacings and not (none and spacing == 0):
            known = ", ".join(map(str, self.spacings))
            raise ProtokError(f"no keyframes each {spacing}", f"give one of {known}{none}")
        return spacing

    def _encode_together(self, structures: list[Backbone], spacing: int) -> list[Tokens]:
        orders = [by_chain(s) for s in structures]
        ordered = [s if order is None else s[order] for s, order in zip(structures, orders, strict=True)]
        ids, numbers, whole = [], [], []
        with torch.autocast(self.device.type, enabled=False):
            for group in packed(ordered, len, self._residues):
                batch = Batch.of(group).to(self.device)
                runs = Runs.in_batch(batch)
                ids.append(self._quantizer.assign(self.network.latents(Poses.of(batch.coords), runs)))
                if spacing:
                    numbers.append(self.network.read(self._quantizer.lookup(ids[-1]), runs)[1])
                    whole.append(batch)
            coded = grid = None
            if spacing:
                batch = Batch.joined(whole)
                runs, true = Runs.in_batch(batch), Poses.of(batch.coords)
                grid = Grid.of(runs, places(runs, spacing))
                sizes = torch.tensor(batch.sizes, device=grid.row.device)
                group = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)[runs.first]
                steps, motions = stored_steps(torch.cat(numbers)), self.network.motions(spacing)
                coded = code(grid, steps, true, motions, group)
        out, start = [], 0
        letters = torch.cat(ids).cpu().numpy().astype(np.int32)
        for structure, order in zip(structures, orders, strict=True):
            stop = start + len(structure)
            row = np.arange(len(structure)) if order is None else order
            own = np.empty(len(structure), np.int32)
            own[row] = letters[start:stop]
            own[~structure.mask] = -1
            tokens = Tokens.like(structure, own, self.size, self.codebook)
            if coded is not None and grid is not None:
                frames = self._keyframes(coded, grid, (start, stop), row, spacing)
                tokens = replace(tokens, keyframes=frames)
            out.append(tokens)
            start = stop
        return out

    def _keyframes(
        self, coded: Coded, grid: Grid, span: tuple[int, int], row: np.ndarray, spacing: int
    ) -> Keyframes:
        """Of the residues in a span, which stand in these rows of their structure."""
        start, stop = span
        low, high = torch.searchsorted(grid.row, torch.tensor([start, stop], device=grid.row.device)).tolist()
        mine = slice(low, high)
        opens = grid.first[mine]
        parts = (grid.row[mine], coded.code[mine], coded.link[mine][opens], grid.start[mine][opens])
        place, code, link, first = (part.cpu().numpy() for part in parts)
        size = self.network.config.keyframes.size(spacing)
        return Keyframes(spacing, size, row[place - start], code, row[first - start], link)

    def _latents(self, backbone: Backbone) -> Float[Tensor, "n d"]:
        return self._read(backbone, self.network.latents)

    def alternatives(self, structure: Any, k: int = 4) -> Alternatives:
        """The k codes nearest to each residue's latent, their distances, and by how much the first is nearer.

        Parameters
        ----------
        structure
            As for `encode`.
        k
            2 or more, for a margin, and at most as many as there are codes.
        """
        if not 2 <= k <= self.size:
            raise ProtokError(f"{k} alternatives of {self.size} codes", f"ask for 2 to {self.size}")
        backbone = as_backbone(structure)
        z = self._latents(backbone)
        codes, away = (part.cpu().numpy() for part in nearest(self._quantizer, z, k))
        codes = np.where(backbone.mask[:, None], codes, -1)
        return Alternatives(codes.astype(np.int32), hollow(torch.from_numpy(away), backbone.mask))

    def soft(self, structure: Any, temperature: float = 0.05) -> Tensor:
        """Weights of all letters for each residue, (L, size) with a sum of 1: what `decode_soft` takes.

        The softmax of minus the squared distances of its latent to the codes, over the temperature: the
        lower, the more is the nearest alone. All alike where a residue is incomplete.
        """
        backbone = as_backbone(structure)
        away = distances(self._quantizer, self._read(backbone, self.network.latents))
        weights = (-away.square() / temperature).softmax(-1).float()
        weights[torch.from_numpy(~backbone.mask).to(weights.device)] = 1 / self.size
        return weights

    def decode_soft(self, weights: Tensor, like: Tokens | None = None) -> Atoms:
        """Backbone of weights of letters, through which gradients go.

        A residue has the mean of the code vectors by its weights; from there on all is as in `decode`: steps,
        poses, building, refining, bonds. So one letter a residue gives what `decode` gives, but for the
        rounding of steps. The result is differentiable in the weights (of logits ``logits.softmax(-1)``);
        weights of the networks get no gradient.

        Keyframes are fixed as *codes*: each is still the same correction of where the steps lead, and its
        pose moves with the steps. Which codes a structure has follows from a search in closed loop, which has
        no gradient: of a backbone that has moved far, encode again. They correct the steps of single
        letters, so mixtures of letters decode worse; see the page on vectors for a way around.

        Parameters
        ----------
        weights : (L, size)
            Of each residue, with a sum of 1.
        like
            Tokens whose chains, gaps and keyframes the residues have; of their ids only counts where one is
            missing. None for a chain without gap or keyframe, which drifts, as with `letters_alone`.

        Raises
        ------
        ValueError
            If the weights are not of this shape, or do not sum to 1.
        CodebookMismatch
            If the tokens were made with another codebook, or have keyframes that cannot be theirs.
        """
        if like is None:
            n = len(weights)
            columns = (np.full(n, "A"), np.arange(1, n + 1), np.full(n, ""))
            like = Tokens(np.zeros(n, np.int32), self.size, self.codebook, "X" * n, *columns)
        self._ids(like)
        if (order := by_chain(like)) is None:
            return decode_soft(self.network, self._quantizer, weights.to(self.device), like)
        built, back = self.decode_soft(weights[order], like[order]), np.argsort(order)
        return Atoms(built.coords[back], built.confidence[back])

    def states(self, structure_or_tokens: Backbone | Tokens | Any) -> np.ndarray:
        """Hidden states of residues, (L, w) float32: features for a model on top.

        Of a structure: the encoder's, before they are projected to latents. Of `Tokens`: the
        step network's, which has read the letters around. NaN where a residue is incomplete or
        has no token.

        Raises
        ------
        CodebookMismatch
            If the tokens were made with another codebook.
        """
        if isinstance(structure_or_tokens, Tokens):
            tokens, order = structure_or_tokens, by_chain(structure_or_tokens)
            if order is not None:
                return self.states(tokens[order])[np.argsort(order)]
            ids = self._ids(tokens)
            with torch.no_grad():
                h, _ = self.network.read(self._quantizer.lookup(ids), runs_of(tokens, self.device))
            return hollow(h, tokens.ids >= 0)
        backbone = as_backbone(structure_or_tokens)
        return hollow(self._read(backbone, self.network.encoder.states), backbone.mask)

    @torch.no_grad()
    def _read(self, backbone: Backbone, read) -> Tensor:
        self.check_precision()
        batch = Batch.of([backbone]).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            return read(Poses.of(batch.coords), Runs.in_batch(batch))

    def decode(self, tokens: Tokens | Any, *, letters_alone: bool = False) -> Backbone:
        """Backbone of tokens: N, CA, C, O in Å, with a confidence in `bfactor`.

        The confidence, 0..100, is the CA lDDT that the decoder expects of a residue and of those around it,
        of other chains too. Chains lie to one another as their links say. Residues without a token are NaN.

        Parameters
        ----------
        tokens
            Of this codebook; or letters alone, an array, tensor or list of (L,) ids of one chain, -1 for a
            missing one.
        letters_alone
            Decode tokens without keyframes: each run of residues about its own middle, right over some
            residues and drifting beyond, which a note of the Backbone says.

        Raises
        ------
        CodebookMismatch
            If the tokens were made with another codebook, or have keyframes that cannot be theirs.
        Unsupported
            If they have no keyframes and this was not asked for.
        """
        tokens = tokens if isinstance(tokens, Tokens) else self._of_ids(tokens)
        if (order := by_chain(tokens)) is not None:
            back = np.argsort(order)
            return self.decode(tokens[order], letters_alone=letters_alone)[back]
        return self._decode(tokens, letters_alone, np.zeros(len(tokens), int))

    @torch.no_grad()
    def _decode(self, tokens: Tokens, letters_alone: bool, structure: np.ndarray) -> Backbone:
        """Of several structures end to end, whose numbers the residues have."""
        ids = self._ids(tokens)
        if tokens.keyframes is None and not letters_alone:
            raise Unsupported(
                "letters alone do not say where residues lie: these have no keyframes",
                "encode with keyframes; letters_alone=True (--letters-alone) is right over some residues",
                file=tokens.name,
            )
        runs = runs_of(tokens, self.device)
        with torch.autocast(self.device.type, enabled=False):
            h, numbers = self.network.read(self._quantizer.lookup(ids), runs)
            steps = stored_steps(numbers)
            read = placed(self.network, tokens, runs, h, steps, structure)
            built = self._built(tokens, tokens.ids >= 0, runs, read)
        return built if tokens.keyframes is not None else replace(built, notes=(LETTERS_ALONE,))

    def decode_batch(self, tokens: Iterable[Tokens | Any], *, letters_alone: bool = False) -> list[Backbone]:
        """Backbones of several tokens or rows of ids, as `decode` takes each; -1 fills up a row.

        Those with keyframes of one spacing are decoded together, which is faster for short chains.
        """
        every = [each if isinstance(each, Tokens) else self._of_ids(each) for each in tokens]
        kinds = [(f.spacing, f.size) if (f := t.keyframes) else () for t in every]
        out: dict[int, Backbone] = {}
        for part in alike(kinds, max(len(every), 1)):
            for rows in packed(part, lambda i: len(every[i]), self._residues):
                out |= zip(rows, self._decode_together([every[i] for i in rows], letters_alone), strict=True)
        return [out[i] for i in range(len(every))]

    def _decode_together(self, tokens: list[Tokens], letters_alone: bool) -> list[Backbone]:
        if len(tokens) == 1 or any(by_chain(each) is not None for each in tokens):
            return [self.decode(each, letters_alone=letters_alone) for each in tokens]
        for each in tokens:
            self._check(each)
        renamed = [replace(t, chain=np.char.add(f"{i} ", t.chain)) for i, t in enumerate(tokens)]
        sizes = [len(each) for each in tokens]
        whole = self._decode(join(renamed), letters_alone, np.repeat(np.arange(len(sizes)), sizes))
        ends = np.cumsum(sizes)[:-1]
        parts = zip(tokens, np.split(whole.coords, ends), np.split(whole.bfactor, ends), strict=True)
        return [replace(whole, coords=x, bfactor=b, **_residues(t)) for t, x, b in parts]

    def _of_ids(self, ids: Any) -> Tokens:
        return Tokens.from_ids(ids.cpu() if isinstance(ids, Tensor) else ids, self.size, self.codebook)

    @torch.no_grad()
    def rebuild(self, structure: Any, *, keyframes: int | None = None) -> Backbone:
        """What decoding would give if letters were latents, unquantized: the rest of the error is theirs.

        Parameters
        ----------
        structure, keyframes
            As for `encode`, but not 0: keyframes are coded.

        Raises
        ------
        ProtokError
            If the structure cannot be read, or there is no such spacing.
        """
        spacing = self._spacing(keyframes)
        self.check_precision()
        backbone = as_backbone(structure)
        if (order := by_chain(backbone)) is not None:
            return self.rebuild(backbone[order], keyframes=spacing)[np.argsort(order)]
        batch = Batch.of([backbone]).to(self.device)
        runs, true = Runs.in_batch(batch), Poses.of(batch.coords)
        with torch.autocast(self.device.type, enabled=False):
            h, numbers = self.network.read(self.network.latents(true, runs), runs)
            steps, grid = stored_steps(numbers), Grid.of(runs, places(runs, spacing))
            together = torch.zeros(len(runs), dtype=torch.long, device=self.device)
            coded = code(grid, steps, true, self.network.motions(spacing), together)
            return self._built(backbone, backbone.mask, runs, Read(h, steps, grid, coded.poses, together))

    def _built(self, like: Backbone | Tokens, there: np.ndarray, runs: Runs, read: Read) -> Backbone:
        """The same as a structure, with the confidence of residues among their neighbours."""
        coords = np.full((len(like), 4, 3), np.nan, np.float32)
        confidence = np.full(len(like), np.nan, np.float32)
        if len(runs):
            atoms = atoms_of(self.network, runs, read)
            coords[there] = atoms.coords.cpu().numpy()[there]
            own = atoms.confidence.cpu().numpy()[there]
            group = read.group[runs.run[runs.present]].cpu().numpy()
            confidence[there] = among_neighbours(coords[there, 1], own, group)
        return Backbone(coords, bfactor=confidence, **_residues(like))


def _residues(like: Backbone | Tokens) -> dict[str, Any]:
    """What of residues is not decoded."""
    return {key: getattr(like, key) for key in ("sequence", "chain", "index", "icode", "name")}
