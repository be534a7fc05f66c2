"""What of codes a small language model cannot foretell: of letters, and of all that rebuilds chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from protok.bench.data.opening import Training
from protok.bench.measures.gru import GruSettings, learn
from protok.bench.measures.locality import chains_of, decoder_of
from protok.bench.measures.scores import Score, mean_of, ratio_of
from protok.bench.representations.representation import Representation
from protok.errors import Unsupported
from protok.structure.backbone import Backbone
from protok.structure.metrics import compare
from protok.tokenizers.environments import JointTokenizer
from protok.tokenizers.protocol import HasEnvironments, HasKeyframes, Tokenizer, encode_each
from protok.tokens.layouts import BLOCKS, LETTERS
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary

#: Scores and points of each row: what its name has behind that of the set.
Measured = dict[str, tuple[dict[str, Score], dict]]


@dataclass(frozen=True)
class Lesson:
    """What the small language model learns from, and how."""

    training: Training
    settings: GruSettings


@dataclass(frozen=True)
class Foretold:
    """Bits of the codes of each structure, (n,).

    Attributes
    ----------
    bits
        That the model cannot foretell.
    unigram
        By the frequencies of each kind of code in what the model learned from.
    nominal
        log2 of the number of codes there are.
    """

    bits: np.ndarray
    unigram: np.ndarray
    nominal: np.ndarray


def foretold(
    tokenizer: Tokenizer,
    tokens: Sequence[Tokens],
    lesson: Lesson,
    options: dict[str, Any],
    layout: str = LETTERS,
    environments: bool = False,
) -> Foretold:
    """Teach the model, and read tokens with it.

    Parameters
    ----------
    options
        Of `encode`, by which the tokens were made.
    layout, environments
        Which of their codes are read, see `protok.tokens.vocabulary.Vocabulary.of`.
    """
    words = Vocabulary.of(tokens[0], layout, environments=environments)

    def row(each: Tokens) -> np.ndarray:
        return np.array(words.encode(each)[:-1], np.int32)

    chains = lesson.training.some(lesson.settings.residues)
    read = [row(each) for each in lesson.training.tokens(tokenizer, chains, **options)]
    model = learn(read, [*words.kinds.values()], lesson.settings, lesson.training.weight[chains])
    rows = [row(each) for each in tokens]
    counts = np.bincount(np.concatenate(read), minlength=len(words))
    rare, nominal = np.zeros(len(words)), np.zeros(len(words))
    for kind in words.kinds.values():
        mine = slice(kind.start, kind.stop)
        rare[mine] = np.log2((counts[mine].sum() + len(kind) / 2) / (counts[mine] + 0.5))
        nominal[mine] = np.log2(len(kind))
    sums = (np.array([table[ids].sum() for ids in rows]) for table in (rare, nominal))
    return Foretold(model.bits(rows), *sums)


def learnability(representation: Representation, structures: Sequence[Backbone], lesson: Lesson) -> Measured:
    """Bits a residue that the model cannot foretell of letters.

    Of the letters of two alphabets (`NAME:both`) one follows the other: there are too many pairs to learn.

    Returns
    -------
    scores
        `bits`; `unigram_bits`, without context; `nominal_bits`, log2 of the number of letters; `share`, bits
        over nominal bits. Errors are over structures; another seed is not in them.
    points
        `learned_from`, the number of chains.

    Raises
    ------
    Unsupported
        If the representation has no codes.
    """
    tokenizer = representation.tokenizer
    if representation.continuous or not isinstance(tokenizer, Tokenizer):
        raise Unsupported(f"{representation.name} has no codes", "measure its codes")
    both = isinstance(tokenizer, JointTokenizer)
    tokenizer = cast(Tokenizer, tokenizer.shapes) if isinstance(tokenizer, JointTokenizer) else tokenizer
    bare: dict[str, Any] = {"keyframes": 0} if isinstance(tokenizer, HasKeyframes) else {}
    bare |= {"environments": both} if isinstance(tokenizer, HasEnvironments) else {}
    tokens = [each for each in encode_each(tokenizer, structures, **bare) if not each.uncoded]
    residues = [int((each.ids >= 0).sum()) for each in tokens]
    told = foretold(tokenizer, tokens, lesson, bare, environments=both)
    scores = {
        "bits": ratio_of(told.bits, residues),
        "unigram_bits": ratio_of(told.unigram, residues),
        "nominal_bits": ratio_of(told.nominal, residues),
        "share": ratio_of(told.bits, told.nominal),
    }
    return {"": (scores, {"learned_from": len(lesson.training.some(lesson.settings.residues))})}


def rate(representation: Representation, structures: Sequence[Backbone], lesson: Lesson) -> Measured:
    """Bits a residue of all that is stored, nominal and as the model foretells them, and what they rebuild.

    Returns
    -------
    A row a spacing of keyframes, where there are several, with the scores `rmsd`, `lddt` (means over chains),
    `bits_a_residue` and `foretold_bits`: of letters, keyframes and links, and of the places of breaks, which
    the model is not asked for.

    Raises
    ------
    Unsupported
        If the tokenizer does not decode.
    """
    tokenizer, chains = decoder_of(representation), chains_of(structures)
    spacings = tokenizer.spacings if isinstance(tokenizer, HasKeyframes) else (0,)
    rows: Measured = {}
    for spacing in spacings:
        options: dict[str, Any] = {"keyframes": spacing} if spacing else {}
        options |= {"environments": False} if isinstance(tokenizer, HasEnvironments) else {}
        tokens = encode_each(tokenizer, chains, **options)
        compared = [compare(tokenizer.decode(own), chain) for own, chain in zip(tokens, chains, strict=True)]
        frames = tokens[0].keyframes
        # The reference codec has links, but no keyframes to choose among.
        layout = LETTERS if frames is None or frames.size == 1 else BLOCKS
        told = foretold(tokenizer, tokens, lesson, options, layout)
        stored = np.array([each.bits for each in tokens])
        residues = [int((each.ids >= 0).sum()) for each in tokens]
        scores = {
            "rmsd": mean_of([each.rmsd for each in compared]),
            "lddt": mean_of([each.lddt for each in compared]),
            "bits_a_residue": ratio_of(stored, residues),
            "foretold_bits": ratio_of(told.bits + stored - told.nominal, residues),
        }
        rows[f", keyframes each {spacing}" if len(spacings) > 1 else ""] = scores, {}
    return rows


MEASURES = {measure.__name__: measure for measure in (learnability, rate)}
