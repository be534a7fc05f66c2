"""What samples of a prior are worth, as one dictionary of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.errors import CodebookMismatch
from protok.prior.corpus import Corpus, read_corpus
from protok.prior.model import Prior
from protok.prior.sampling import Request
from protok.quantize.usage import perplexity, share_used

if TYPE_CHECKING:
    from protok.image.tokenizer import ImageTokenizer
    from protok.tokenizers.protocol import Decodes


def _learned(prior: Prior, learned: str | Path) -> Corpus:
    layout = prior.layout
    corpus = read_corpus(learned, layout.longest, layout.arrangement)
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


def score_chains(
    prior: Prior,
    tokenizer: Decodes,
    wanted: Sequence[Request],
    codes: Sequence[np.ndarray],
    learned: str | Path,
) -> dict[str, Any]:
    """Validity, diversity and novelty of sampled chains, beside training chains through the codes.

    Parameters
    ----------
    prior, tokenizer
        Of one codebook.
    wanted, codes
        Requests and what was sampled for them.
    learned
        The training file. As many of its chains, decoded, are scored for comparison: what the
        decoder does to real chains is not the prior's fault.
    """
    from protok.prior.novelty import Codes, Library, diversity, novelty
    from protok.prior.proteins import as_tokens, built, validity

    corpus = _learned(prior, learned)
    some = corpus.some(len(codes)).codes
    usage = np.bincount(np.concatenate([ids[ids >= 0] for ids in corpus.letters()]), minlength=corpus.size)
    table = Codes.of(tokenizer, usage)
    sampled = as_tokens(prior.layout, codes, wanted)
    learnt = as_tokens(prior.layout, some, [Request()] * len(some))
    backbones, decoded = ([built(tokenizer, t) for t in tokens] for tokens in (sampled, learnt))
    codes, real = ([t.ids for t in tokens] for tokens in (sampled, learnt))
    library = Library(corpus, table)
    return {
        "validity": validity(backbones),
        "validity_of_training_chains": validity(decoded),
        "diversity": diversity(codes, backbones, table),
        "diversity_of_training_chains": diversity(real, decoded, table),
        "novelty": novelty(codes, backbones, library, tokenizer),
        "codes": code_use(codes, corpus.size),
        "codes_of_training_chains": code_use(real, corpus.size),
    }


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
