"""What samples of a prior are worth, as one dictionary of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from protok.errors import CodebookMismatch, ProtokError
from protok.prior.corpus import Corpus, read_corpus
from protok.prior.model import Prior
from protok.prior.sampling import Request
from protok.quantize.usage import perplexity, share_used

if TYPE_CHECKING:
    from protok.image.tokenizer import ImageTokenizer
    from protok.prior.judge import Likelihood
    from protok.structure.backbone import Backbone
    from protok.tokenizers.protocol import Decodes
    from protok.tokens.tokens import Tokens

Chain = TypeVar("Chain", "Backbone", "Tokens")
#: Controls have lengths within this share of those of the samples.
NEAR = 0.1


def _learned(prior: Prior, learned: str | Path) -> Corpus:
    layout = prior.layout
    around = bool(layout.environments)
    corpus = read_corpus(learned, layout.longest, layout.arrangement, environments=around)
    words = None if layout.grid else layout.vocabulary
    if corpus.codebook != layout.codebook or corpus.vocabulary != words:
        raise CodebookMismatch(
            f"holds codes of {corpus.vocabulary or corpus.codebook}, the prior is over "
            f"{words or layout.codebook}",
            "give the file that the prior was trained on",
            file=str(learned),
        )
    return corpus


def code_use(codes: Sequence[np.ndarray], size: int) -> dict[str, float]:
    """Share of the codes in use and exp(entropy), over all levels together."""
    flat = np.concatenate([ids.ravel() for ids in codes])
    counts = np.bincount(flat[flat >= 0], minlength=size)
    return {"usage": share_used(counts), "perplexity": perplexity(counts)}


def _alike(chains: Sequence[Chain], asked: Sequence[int]) -> list[Chain]:
    """Of unbroken chains the nearest of each asked length that was not taken yet, if it is near."""
    pool = [chain for chain in chains if _whole(chain)]
    there, left = np.array([len(chain) for chain in pool]), np.ones(len(pool), bool)
    picked = []
    for length in asked if pool else ():
        off = np.where(left, np.abs(there - length), np.inf)
        best = int(off.argmin())
        if off[best] <= NEAR * length:
            left[best] = False
            picked.append(pool[best])
    if not picked:
        raise ProtokError(
            f"no unbroken chain of {min(asked)} to {max(asked)} residues to compare samples with",
            "give more structures, or ask for lengths that chains have",
        )
    return picked


def _whole(chain: Backbone | Tokens) -> bool:
    """Whether nothing is missing inside, as in samples."""
    from protok.structure.backbone import SURE_BOND, Backbone, bond_lengths

    if isinstance(chain, Backbone):
        return bool(chain.mask.all() and (bond_lengths(chain.coords) < SURE_BOND).all())
    return bool((chain.ids >= 0).all() and (chain.keyframes is None or len(chain.keyframes.start) == 1))


def shuffled(tokens: Tokens, seed: Sequence[int]) -> Tokens:
    """The blocks of a chain in another order, each with its keyframe; the first and the last stay."""
    frames = tokens.keyframes
    spacing = frames.spacing if frames is not None else 8
    blocks = len(tokens) // spacing
    order = np.arange(blocks)
    order[1:-1] = 1 + np.random.default_rng(seed).permutation(max(blocks - 2, 0))
    rows = (order[:, None] * spacing + np.arange(spacing)).ravel()
    ids = np.concatenate([tokens.ids[rows], tokens.ids[len(rows) :]])
    if frames is not None:
        frames = replace(frames, code=np.concatenate([frames.code[order], frames.code[blocks:]]))
    return replace(tokens, ids=ids, keyframes=frames)


def controls(
    corpus: Corpus,
    tokenizer: Decodes,
    lengths: Sequence[int],
    natives: Sequence[Backbone] = (),
    seed: int = 0,
) -> tuple[dict[str, list[Tokens]], list[Backbone]]:
    """Tokens of what samples are compared with, of lengths like theirs, and the native chains.

    Parameters
    ----------
    corpus
        Training chains; where there are no native chains, some of them stand for these.
    lengths
        Of the samples.
    natives
        Chains that the prior has not learned.

    Returns
    -------
    dict
        ``decoded``, tokens of native chains; ``shuffled``, the same with their blocks in another order; and
        ``markov``, of `protok.prior.markov`.
    list of Backbone
        The native chains themselves.
    """
    from protok.prior.markov import Markov
    from protok.tokenizers.protocol import HasKeyframes, encode_each

    learned = [corpus.tokens(i) for i in range(len(corpus))]
    native = _alike(natives, lengths) if natives else []
    spacing = corpus.vocabulary.spacing if corpus.vocabulary else 0
    options = {"keyframes": spacing} if isinstance(tokenizer, HasKeyframes) else {}
    decoded = encode_each(tokenizer, native, **options) if native else _alike(learned, lengths)
    markov = Markov.of(learned)
    drawn = [markov.draw(length, (seed, i)) for i, length in enumerate(lengths)]
    mixed = [shuffled(chain, (seed, i)) for i, chain in enumerate(decoded)]
    return {"decoded": decoded, "shuffled": mixed, "markov": drawn}, native


def score_chains(
    prior: Prior,
    tokenizer: Decodes,
    wanted: Sequence[Request],
    codes: Sequence[np.ndarray],
    learned: str | Path,
    *,
    natives: Sequence[Backbone] = (),
    likelihood: Likelihood | None = None,
    measured: Mapping[str, Any] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Sampled chains and controls by `protok.prior.judge`, and the bars.

    Parameters
    ----------
    prior, tokenizer
        Of one codebook.
    wanted, codes
        Requests and what was sampled for them.
    learned
        The training file, from which samples should differ.
    natives, likelihood
        See `controls` and `protok.prior.judge.summary`.
    measured
        ``sets`` of other samples of as many and the same lengths: their controls are those of these.
    jobs
        Processes that measure.

    Returns
    -------
    dict
        ``sets``, by name the measures of samples and controls, with ``diversity``, use of ``codes``, and of
        samples and decoded native chains ``novelty``; and ``bars``.
    """
    from protok.analysis.database import Database
    from protok.analysis.substitution import default_matrix
    from protok.prior.judge import bars, diversity, novelty, summary
    from protok.prior.proteins import as_tokens, built
    from protok.tokens.files import load

    corpus = _learned(prior, learned)
    sampled = as_tokens(prior.layout, codes, wanted)
    others, native = {}, []
    if not measured:
        others, native = controls(corpus, tokenizer, [len(chain) for chain in sampled], natives)
    tokens = {"samples": sampled, **others}
    backbones = {name: built(tokenizer, chains) for name, chains in tokens.items()}
    if native:
        backbones["native"] = native
    # With the keyframes of their file, also where the prior has learned letters alone: as they really are.
    database = Database(chain for chain in load(learned) if len(chain) <= prior.layout.longest)
    matrix = default_matrix(tokenizer, database.usage())
    sets: dict[str, Any] = {}
    for name, chains in backbones.items():
        sets[name] = summary(chains, likelihood, jobs) | {"diversity": diversity(chains, jobs)}
        if name in tokens:
            sets[name]["codes"] = code_use([chain.ids for chain in tokens[name]], corpus.size)
        if name == "samples" or (name == "decoded" and native):
            sets[name]["novelty"] = novelty(tokens[name], chains, database, matrix, tokenizer, jobs)
    sets = {**(measured or {}), **sets}
    return {"sets": sets, "bars": bars(sets)}


def score_images(
    prior: Prior,
    tokenizer: ImageTokenizer,
    wanted: Sequence[Request],
    codes: Sequence[np.ndarray],
    learned: str | Path,
    *,
    images: str | Path | None = None,
    inception: str | Path | None = None,
) -> dict[str, Any]:
    """How like real images samples are, and how much of them was learned by heart.

    Parameters
    ----------
    prior, tokenizer, wanted, codes, learned
        As for `score_chains`.
    images
        Real images for the Fréchet distance (see `protok.prior.images.likeness`); none is
        measured without.
    inception
        File of Inception weights: the distance is gFID then.
    """
    from protok.image.dataset import held_out
    from protok.prior.images import as_tokens, likeness, repetition

    corpus = _learned(prior, learned)
    result: dict[str, Any] = {}
    if images is not None:
        pixels = np.stack(tokenizer.decode_batch(as_tokens(prior.layout, codes, wanted)))
        result["likeness"] = likeness(pixels, held_out(images), tokenizer, inception)
    return {
        **result,
        "repetition": repetition(codes, corpus),
        "codes": code_use(codes, corpus.size),
        "codes_of_training_images": code_use(corpus.some(len(codes)).codes, corpus.size),
    }
