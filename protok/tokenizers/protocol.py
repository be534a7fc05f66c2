"""What a tokenizer is: the one interface, and what one can do besides.

`Tokenizer` is all that is needed. Every other protocol is an ability that some tokenizers have;
whoever needs it asks ``isinstance(tokenizer, Decodes)``, which looks whether the names are there.
Nothing is inherited: a class of yours with these names is a tokenizer. An ability may still be
refused for one object, by `Unsupported`, as a continuous model refuses `code_vectors`.

| protocol | ability |
|---|---|
| `Tokenizer` | needed: codes of a structure |
| `EncodesBatches` | codes of several structures at once |
| `HasKeyframes` | keyframes that say where residues lie |
| `HasEnvironments` | a second alphabet, for what lies around residues |
| `Decodes` | codes to a backbone |
| `DecodesBatches` | codes of several structures to backbones at once |
| `HasCodeVectors` | a vector for each code |
| `HasAlphabet` | a letter for each code |
| `HasScores` | what aligned codes score, counted in homologs |
| `HasEncoder` | a digest of what makes codes beside the codebook |
| `Embeds` | vectors of residues; needs no codes |
| `HasStates` | hidden states of residues |
| `RanksCodes` | the codes nearest to each residue |
| `HasNetwork` | a network of torch |
| `Movable` | goes to another device |
| `Fingerprinted` | says itself by what its outputs are known |
| `LooksUp` | knows the outputs of some structures only, by name |

What has weights that can be written is `protok.common.checkpoint.SavesPretrained`, as images and
priors have too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from protok.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np
    import torch

    from protok.structure.backbone import Backbone
    from protok.tokenizers.soft import Alternatives
    from protok.tokens.tokens import Tokens


@runtime_checkable
class Named(Protocol):
    """What any model here says of itself."""

    @property
    def name(self) -> str:
        """As in results and messages."""
        ...

    @property
    def size(self) -> int:
        """Number of codes; 0 of a model that only embeds."""
        ...

    @property
    def codebook(self) -> str:
        """`name@fingerprint`; codes of different codebooks are never mixed."""
        ...


@runtime_checkable
class Tokenizer(Named, Protocol):
    """Structures to codes."""

    def encode(self, structure: Backbone, /) -> Tokens:
        """Codes of a structure, one a residue; -1 where it has none."""
        ...


@runtime_checkable
class EncodesBatches(Tokenizer, Protocol):
    """Several structures at once, faster than one by one, with the same codes."""

    @property
    def batch_residues(self) -> int:
        """Residues that `encode_batch` is best given at once."""
        ...

    def encode_batch(self, structures: Sequence[Backbone], /) -> list[Tokens]:
        """Codes of each structure, in their order."""
        ...


@runtime_checkable
class HasKeyframes(Tokenizer, Protocol):
    """Codes of residues, and keyframes that say where they lie: chains of a structure are encoded together.

    The codes of a chain are the same alone.
    """

    @property
    def spacings(self) -> tuple[int, ...]:
        """Residues a keyframe that can be asked for."""
        ...

    def encode(self, structure: Backbone, /, *, keyframes: int | None = None) -> Tokens:
        """Tokens with a keyframe for each so many residues, 0 for none, None as the tokenizer likes."""
        ...

    def decode(self, tokens: Tokens, /, *, letters_alone: bool = False) -> Backbone:
        """The backbone; of tokens without keyframes only with `letters_alone`."""
        ...


@runtime_checkable
class HasEnvironments(Tokenizer, Protocol):
    """Environment letters beside the codes; some models of a kind may have none."""

    @property
    def environment(self) -> Tokenizer | None:
        """The tokenizer of these letters alone; None of a model without them."""
        ...

    def encode(self, structure: Backbone, /, *, environments: bool | None = None) -> Tokens:
        """Tokens with environment letters, without, or, for None, as the tokenizer has them."""
        ...


@runtime_checkable
class Decodes(Tokenizer, Protocol):
    """Codes back to structures."""

    def decode(self, tokens: Tokens, /) -> Backbone:
        """The backbone of tokens of this codebook, with a confidence 0..100 in `bfactor`."""
        ...


@runtime_checkable
class DecodesBatches(Decodes, Protocol):
    """Codes of several structures back at once."""

    def decode_batch(self, tokens: Sequence[Tokens], /) -> list[Backbone]:
        """What `decode` gives for each."""
        ...


@runtime_checkable
class HasCodeVectors(Tokenizer, Protocol):
    """A codebook of vectors."""

    def code_vectors(self) -> np.ndarray:
        """(size, d) float32."""
        ...


@runtime_checkable
class HasAlphabet(Tokenizer, Protocol):
    """Codes with letters, one in `alphabet` for each, so that they can be written as a sequence."""

    @property
    def alphabet(self) -> str: ...


@runtime_checkable
class HasScores(Tokenizer, Protocol):
    """A substitution matrix of its codes; some models of a kind may have none."""

    @property
    def scores(self) -> np.ndarray | None:
        """(size, size) int16, symmetric, in quarters of a bit; None if nobody counted."""
        ...


@runtime_checkable
class HasEncoder(Tokenizer, Protocol):
    """Codes that depend on more than the codebook, so that a job goes on with the same only.

    `encoder_fingerprint` is a digest of the encoder's weights.
    """

    @property
    def encoder_fingerprint(self) -> str: ...


@runtime_checkable
class Embeds(Named, Protocol):
    """Vectors of residues, before quantization if there is any."""

    def embed(self, structure: Backbone, /) -> np.ndarray:
        """(L, d) float32; NaN where a residue has no vector."""
        ...


@runtime_checkable
class HasStates(Named, Protocol):
    """Hidden states: wider than embeddings; of tokens those that the decoder has, where there is one."""

    def states(self, structure_or_tokens: Backbone | Tokens, /) -> np.ndarray:
        """(L, w) float32; NaN where a residue is incomplete or has no token."""
        ...


@runtime_checkable
class RanksCodes(Named, Protocol):
    """Codes that lie at distances from the vectors of residues."""

    def alternatives(self, structure: Backbone, /, k: int = 4) -> Alternatives:
        """The k codes nearest to each residue, and how far they are."""
        ...


@runtime_checkable
class HasNetwork(Named, Protocol):
    """A network, whose weights say what it is: all of them."""

    @property
    def network(self) -> torch.nn.Module: ...


Moved = TypeVar("Moved", covariant=True)


@runtime_checkable
class Movable(Protocol[Moved]):
    """Runs on other devices too."""

    def to(self, device: str, /) -> Moved:
        """The same object, brought to a device."""
        ...


@runtime_checkable
class Fingerprinted(Named, Protocol):
    """Outputs that follow from what `fingerprint` is taken of: models with other ones have another."""

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class LooksUp(Named, Protocol):
    """Outputs from a file, by the names of structures: changed coordinates change nothing."""

    def require(self, structures: Sequence[Backbone], /) -> None:
        """Raise FormatError unless all of these are known."""
        ...


def decoding(tokenizer: Tokenizer) -> Decodes:
    """The same tokenizer, if it decodes.

    Raises
    ------
    Unsupported
        If it does not.
    """
    if isinstance(tokenizer, Decodes):
        return tokenizer
    kind = "an alphabet" if isinstance(tokenizer, HasAlphabet) else "a tokenizer"
    raise Unsupported(f"{tokenizer.name} is {kind} without a decoder", "decode tokens of a learned tokenizer")


def ids_of(tokenizer: Tokenizer, structures: Sequence[Backbone]) -> list[np.ndarray]:
    """(L,) codes of the residues of each structure."""
    return [tokens.ids for tokens in codes_alone(tokenizer, structures)]


def codes_alone(tokenizer: Tokenizer, structures: Sequence[Backbone]) -> list[Tokens]:
    """Codes of the residues of each structure, without keyframes and environments, which take longer."""
    options: dict[str, Any] = {"keyframes": 0} if isinstance(tokenizer, HasKeyframes) else {}
    options |= {"environments": False} if isinstance(tokenizer, HasEnvironments) else {}
    return encode_each(tokenizer, structures, **options)


def encode_each(tokenizer: Tokenizer, structures: Sequence[Backbone], **options: Any) -> list[Tokens]:
    """Tokens of each structure, by options of `encode`: together where the tokenizer can, else one by one."""
    if isinstance(tokenizer, EncodesBatches):
        return tokenizer.encode_batch(structures, **options)
    return [tokenizer.encode(structure, **options) for structure in structures]
