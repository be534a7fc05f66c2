"""How alike two structures are, or the tokens of two, that do not have the same residues.

Residues correspond by their numbers, as in two files of one protein, or by an alignment of the
amino acid sequences, as in homologs and in files that count differently.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np

from protok.errors import CodebookMismatch, FormatError, Unsupported
from protok.structure import metrics
from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.io.interop import as_backbone
from protok.tokens.tokens import Tokens

By = Literal["number", "alignment"]
#: Of BLOSUM62: opening a gap (with its first residue), and each further residue. Gaps at ends are free.
GAP = (-11, -1)
#: Pairs of residues that an alignment may weigh, which takes some 15 bytes for each.
MOST = 1 << 27
#: Share of equal amino acids below which pairs are doubted aloud: the twilight zone of sequence
#: alignments (Rost 1999, doi:10.1093/protein/12.2.85).
DOUBTED = 0.25
#: Share of the shorter sequence that an alignment must pair, or it is doubted too.
COVERED = 0.5


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which residues of two structures correspond.

    Attributes
    ----------
    rows : (n, 2) int
        Residues of the first and of the second, counted from 0; in the order of the second.
    by : str
        ``number`` or ``alignment``.
    lengths : (int, int)
        Residues of both.
    identity : float
        Share of pairs with the same amino acid among those where both are known; NaN if there is none.
    """

    rows: np.ndarray
    by: str
    lengths: tuple[int, int]
    identity: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def doubt(self) -> str:
        """Advice where so few amino acids agree or align that other residues may correspond; else empty."""
        by_number, agree = self.by == "number", f"only {self.identity:.0%} of the amino acids agree"
        if by_number and self.identity < DOUBTED:
            return f"{agree}: where the files count differently, compare by alignment (--by alignment)"
        few = len(self) < COVERED * min(self.lengths)
        if by_number or not (few or self.identity < DOUBTED):
            return ""
        reason = "less than half of the shorter sequence aligns" if few else agree
        return f"{reason}: sequences hardly tell what corresponds (protok.analysis.alignment.tm_align does)"

    def __str__(self) -> str:
        text = f"{len(self)} residues of {self.lengths[0]} and {self.lengths[1]} by {self.by}"
        return f"{text}; {self.doubt}" if self.doubt else text


@dataclass(frozen=True, eq=False)
class TokenComparison:
    """The codes of residues that correspond.

    Attributes
    ----------
    pairs : Pairs
        Which do.
    codes : (n, 2) int32
        Of each pair; -1 where a residue has none.
    """

    pairs: Pairs
    codes: np.ndarray

    @property
    def coded(self) -> np.ndarray:
        """(n,) bool: both residues have a code."""
        return np.all(self.codes >= 0, axis=1)

    @property
    def differs(self) -> np.ndarray:
        """(n,) bool: both residues have a code, and not the same."""
        return self.coded & (self.codes[:, 0] != self.codes[:, 1])

    @property
    def same(self) -> float:
        """Share of pairs with the same code among those where both have one; NaN if there is none."""
        coded = int(self.coded.sum())
        return 1 - float(self.differs.sum()) / coded if coded else float("nan")

    def __str__(self) -> str:
        return f"{self.same:.1%} of {int(self.coded.sum())} codes are the same: {self.pairs}"


@dataclass(frozen=True, kw_only=True)
class StructureComparison(metrics.Comparison):
    """Scores of residues that correspond; the TM-score counts all residues of the second structure.

    Attributes
    ----------
    pairs : Pairs
        Which do.
    """

    pairs: Pairs = field(compare=False)

    def __str__(self) -> str:
        text = super().__str__()
        whole = self.pairs.lengths == (len(self.pairs), len(self.pairs)) and not self.pairs.doubt
        return text if whole else f"{text}: {self.pairs}"


@overload
def compare(first: Tokens, second: Tokens, by: By = "number") -> TokenComparison: ...


@overload
def compare(
    first: Any, second: Any, by: By = "number", *, each_chain: bool = False
) -> StructureComparison: ...


def compare(
    first: Any, second: Any, by: By = "number", *, each_chain: bool = False
) -> TokenComparison | StructureComparison:
    """Compare tokens with tokens, or a structure with its reference, over the residues that correspond.

    Parameters
    ----------
    first, second
        Two `Tokens` of one codebook, or two structures: Backbones, or whatever `protok.as_backbone` takes.
    by : {"number", "alignment"}
        See `pair_residues`.
    each_chain
        Of structures: superpose chains one by one, not all together.

    Raises
    ------
    ProtokError
        If tokens are compared with a structure, or no residues correspond; if a structure cannot be read.
    CodebookMismatch
        If the tokens are of different codebooks.

    Examples
    --------
    >>> comparison = compare(structure, structure[10:])
    >>> comparison.n == len(comparison.pairs) == len(structure) - 10
    True
    >>> compare(tokens, tokens[:50], by="alignment").same
    1.0
    """
    if isinstance(first, Tokens) != isinstance(second, Tokens):
        raise Unsupported(
            "tokens and a structure are not compared", "encode the structure, or decode the tokens"
        )
    if isinstance(first, Tokens):
        if first.codebook != second.codebook:
            raise CodebookMismatch(
                f"the first tokens are of {first.codebook}, the second of {second.codebook}",
                "encode both with one model",
                file=_names(first, second),
            )
        pairs = pair_residues(first, second, by)
        return TokenComparison(
            pairs, np.stack([first.ids[pairs.rows[:, 0]], second.ids[pairs.rows[:, 1]]], 1)
        )
    model, reference = as_backbone(first), as_backbone(second)
    pairs = pair_residues(model, reference, by)
    # Residues of the reference that nothing corresponds to are missing in the model.
    coords = np.full(reference.coords.shape, np.nan, model.coords.dtype)
    coords[pairs.rows[:, 1]] = model.coords[pairs.rows[:, 0]]
    scores = metrics.compare(replace(reference, coords=coords), reference, each_chain=each_chain)
    return StructureComparison(**vars(scores), pairs=pairs)


def pair_residues(first: Backbone | Tokens, second: Backbone | Tokens, by: By = "number") -> Pairs:
    """Tell which residues of two structures correspond.

    Parameters
    ----------
    first, second
        Structures, or the tokens of some.
    by : {"number", "alignment"}
        Residues of one number and insertion code, or those that a global alignment of the amino acid
        sequences puts side by side (Needleman & Wunsch with BLOSUM62, affine gaps, free at the ends).
        Chains correspond by their ids; where both structures have one chain, these do.

    Raises
    ------
    FormatError
        If no residues correspond, or two of a structure have one number; the message says what to do.
    """
    if by not in ("number", "alignment"):
        raise FormatError(f"residues do not correspond by {by!r}", "give 'number' or 'alignment'")
    chains = [list(dict.fromkeys(each.chain.tolist())) for each in (first, second)]
    alone = len(chains[0]) == len(chains[1]) == 1
    if not alone and not {*chains[0]} & {*chains[1]}:
        names = " and ".join(", ".join(own) or "none" for own in chains)
        raise FormatError(
            f"no chain has the same id in both (chains {names})",
            "compare one chain of each, as of read(path, chain='A')",
            file=_names(first, second),
        )
    pair = _by_number if by == "number" else _by_alignment
    rows = pair(first, second, alone)
    letters = [np.array(list(each.sequence), "U1")[rows[:, k]] for k, each in enumerate((first, second))]
    known = np.isin(letters[0], list(AMINO_ACIDS)) & np.isin(letters[1], list(AMINO_ACIDS))
    identity = float((letters[0] == letters[1])[known].mean()) if known.any() else float("nan")
    return Pairs(rows, by, (len(first), len(second)), identity)


def _names(first: Backbone | Tokens, second: Backbone | Tokens) -> str:
    """Where an error lies that is of both."""
    return " and ".join(filter(None, (first.name, second.name)))


def _by_number(first: Backbone | Tokens, second: Backbone | Tokens, alone: bool) -> np.ndarray:
    """(n, 2) residues of one chain, number and insertion code."""
    labels = []
    for each in (first, second):
        chain = [""] * len(each) if alone else each.chain.tolist()
        labels.append(list(zip(chain, each.index.tolist(), each.icode.tolist(), strict=True)))
    for each, own in zip((first, second), labels, strict=True):
        if len(set(own)) < len(own):
            (_, number, icode), times = Counter(own).most_common(1)[0]
            raise FormatError(
                f"number {number}{icode} stands at {times} residues of a chain",
                "compare by alignment (--by alignment)",
                file=each.name,
            )
    row = {label: i for i, label in enumerate(labels[0])}
    rows = [(row[label], j) for j, label in enumerate(labels[1]) if label in row]
    if not rows:
        spans = " and ".join(f"{own[0][1]} to {own[-1][1]}" if own else "none" for own in labels)
        raise FormatError(
            f"no residue has the same number in both ({spans})",
            "compare by alignment (--by alignment)",
            file=_names(first, second),
        )
    return np.array(rows)


def _by_alignment(first: Backbone | Tokens, second: Backbone | Tokens, alone: bool) -> np.ndarray:
    """(n, 2) residues that an alignment of their sequences puts side by side."""
    rows = []
    for chain in dict.fromkeys(second.chain.tolist()):
        own, other = (np.flatnonzero((each.chain == chain) | alone).astype(int) for each in (first, second))
        letters = ["".join(each.sequence[i] for i in part) for each, part in ((first, own), (second, other))]
        if len(own) * len(other) > MOST:
            raise Unsupported(
                f"chains of {len(own)} and {len(other)} residues are too long to align",
                "compare by number",
                file=_names(first, second),
                chain=chain,
            )
        trace = _aligned(*letters)
        rows.append(np.stack([own[trace[:, 0]], other[trace[:, 1]]], 1))
    pairs = np.concatenate(rows)
    if not len(pairs):
        raise FormatError(
            "no amino acids are known to align",
            "compare by number, or give sequences",
            file=_names(first, second),
        )
    return pairs[np.argsort(pairs[:, 1], kind="stable")]


def _aligned(first: str, second: str) -> np.ndarray:
    """(n, 2) positions that a global alignment with free ends puts side by side."""
    import biotite.sequence as seq
    import biotite.sequence.align as align

    if not all({*text} & {*AMINO_ACIDS} for text in (first, second)):
        return np.zeros((0, 2), int)
    sequences = (
        seq.ProteinSequence("".join(letter if letter in AMINO_ACIDS else "X" for letter in text))
        for text in (first, second)
    )
    best = align.align_optimal(  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stub)
        *sequences,
        align.SubstitutionMatrix.std_protein_matrix(),
        gap_penalty=GAP,
        terminal_penalty=False,
        max_number=1,
    )
    trace = best[0].trace
    return trace[(trace >= 0).all(axis=1)]
