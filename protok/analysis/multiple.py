"""Multiple alignment of chains by their codes, and how well it fits their structures.

Progressive alignment along a tree (Feng & Doolittle 1987, biotite's `align_multiple`), as FoldMason has it
for 3Di and amino acids (Gilchrist et al. 2024, doi:10.1101/2024.08.01.606130). The letters that are aligned
are the pairs of codes that occur, with the sum of their scores in both alphabets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from protok.analysis.alignment import Aligner
from protok.analysis.database import Database, Profile, known
from protok.analysis.substitution import Matrix
from protok.common.progress import show_progress
from protok.common.tables import word
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from protok.structure.metrics import lddt as lddt_of
from protok.tokens.tokens import Tokens

#: What means something in Newick.
NEWICK = ",:;()[]'"


@dataclass(frozen=True, eq=False)
class MultipleAlignment:
    """Chains one below the other.

    Attributes
    ----------
    labels : list of str
        Of the chains, each a word without what means something in Newick.
    chains : list of Tokens
        As in the database.
    rows : (columns, chains)
        Residues, from 0, -1 at gaps.
    newick : str
        The guide tree; lengths of branches are of 1 - normalised score.
    """

    labels: list[str]
    chains: list[Tokens]
    rows: Int[np.ndarray, "columns chains"]
    newick: str

    @property
    def sequences(self) -> list[str]:
        """Amino acids of each chain, `-` at gaps."""
        return [self._text(list(chain.sequence), n) for n, chain in enumerate(self.chains)]

    def letters(self, codebook: str) -> list[str]:
        """Codes of an alphabet: letters, or numbers with commas between; X for none, `-` at gaps."""
        texts = []
        for n, chain in enumerate(self.chains):
            alphabet = chain.alphabet if codebook == chain.codebook else ""
            codes = chain.ids_of(codebook).tolist()
            words = ["X" if code < 0 else alphabet[code] if alphabet else str(code) for code in codes]
            texts.append(self._text(words, n, "" if alphabet else ","))
        return texts

    def _text(self, words: list[str], n: int, between: str = "") -> str:
        return between.join("-" if row < 0 else words[row] for row in self.rows[:, n].tolist())


def align(database: Database, matrix: Matrix | Sequence[Matrix]) -> MultipleAlignment:
    """Alignment of all chains of a database, from end to end; gaps at the ends cost nothing.

    Time grows with the square of the number of chains: it is for some hundreds.

    Parameters
    ----------
    database
        Of two chains or more, with the alphabets of the matrices.
    matrix
        Of the codes, or of the environments; several add up, with the dearest gap of them.

    Raises
    ------
    CodebookMismatch
        If the database lacks an alphabet of the matrices.
    FormatError
        If it holds one chain only.

    Examples
    --------
    >>> from protok.analysis.database import Database
    >>> from protok.analysis.multiple import align
    >>> from protok.analysis.substitution import default_matrix
    >>> database = Database([tokens, tokens[5:]])
    >>> alignment = align(database, default_matrix(tokenizer, database.usage()))
    >>> alignment.sequences[1][:8] == "-----" + tokens.sequence[5:8]
    True
    """
    from biotite.sequence import Alphabet, GeneralSequence
    from biotite.sequence.align import SubstitutionMatrix, align_multiple  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

    matrices, chains = database.matrices(matrix), database.chains
    if len(chains) < 2:
        raise FormatError("holds one chain", "give two or more to align", file=database.file)
    codes = [
        np.concatenate([known(chain.ids_of(each.codebook), each.size) for chain in chains])
        for each in matrices
    ]
    occur, letters = np.unique(np.stack(codes, 1), axis=0, return_inverse=True)
    tables = [Profile(np.empty(0, int), each).table for each in matrices]
    scores = sum(table[np.ix_(own, own)].astype(np.int32) for table, own in zip(tables, occur.T, strict=True))
    alphabet = Alphabet(range(len(occur)))
    sequences = []
    for own in np.split(letters.ravel(), np.cumsum([len(chain) for chain in chains])[:-1]):
        sequences.append(GeneralSequence(alphabet))
        sequences[-1].code = own
    alignment, _, tree, _ = align_multiple(
        sequences,
        SubstitutionMatrix(alphabet, alphabet, scores),
        gap_penalty=matrices[0].gap,
        terminal_penalty=False,
        distances=_distances(chains, matrices),
    )
    labels = [word(label, NEWICK) for label in database.labels]
    return MultipleAlignment(labels, chains, alignment.trace, tree.to_newick(labels, round_distance=4))


def _distances(chains: Sequence[Tokens], matrices: Sequence[Matrix]) -> Float[np.ndarray, "n n"]:
    """1 - normalised score of the local alignments of all pairs."""
    distances = np.zeros((len(chains), len(chains)))
    with show_progress("aligning pairs", len(chains)) as advance:
        for i, chain in enumerate(chains):
            aligner = Aligner(chain, matrices)
            for j, other in enumerate(chains[:i]):
                near = aligner.normalised(aligner.align(other)[0], other)
                distances[i, j] = distances[j, i] = 1 - min(near, 1)
            advance(1)
    return distances


def lddt(alignment: MultipleAlignment, structures: Sequence[Backbone]) -> Float[np.ndarray, "columns"]:
    """How well aligned residues agree in their distances, 0 to 1; the mean is that of the alignment.

    The MSA LDDT of FoldMason (Gilchrist et al. 2024): of each pair of chains the CA lDDT over the residues
    that are aligned, of each column its mean over the pairs that have a residue there, 0 where none has, so
    that residues aligned with nothing lower the mean. Unlike there each chain is once the reference.

    Parameters
    ----------
    alignment
        Of the chains.
    structures
        Their backbones, residue for residue.

    Raises
    ------
    ValueError
        If a structure has not the residues of its chain.
    """
    if [len(chain) for chain in alignment.chains] != [len(structure) for structure in structures]:
        raise ValueError("structures are those of the chains, residue for residue")
    total, pairs = np.zeros((2, len(alignment.rows)))
    with show_progress("comparing pairs", len(structures)) as advance:
        for i, j in combinations(range(len(structures)), 2):
            both = np.flatnonzero((alignment.rows[:, [i, j]] >= 0).all(axis=1))
            first, second = (structures[n][alignment.rows[both, n]] for n in (i, j))
            for model, reference in ((first, second), (second, first)):
                score = np.asarray(lddt_of(model, reference, per_residue=True))
                scored = np.isfinite(score)
                total[both[scored]] += score[scored]
                pairs[both[scored]] += 1
            advance(j == len(structures) - 1)
    return total / np.maximum(pairs, 1)
