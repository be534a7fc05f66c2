"""Comparison over the residues that correspond, by number or by alignment, and what it refuses."""

import re
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.analysis.compare import pair_residues
from protok.errors import CodebookMismatch, ProtokError
from protok.structure import metrics
from protok.structure.backbone import joined


@pytest.fixture(scope="module")
def chain(examples):
    return protok.read(examples / "7w89.A.pdb")


@pytest.fixture(scope="module")
def tokens(chain):
    return protok.load("3di").encode(chain)


def counted_otherwise(chain, by=500):
    return replace(chain, index=chain.index + by)


def test_residues_of_one_number_correspond(chain):
    gap = np.delete(np.arange(100), [40, 41, 42])
    model, reference = replace(chain[gap], chain=np.full(97, "B")), chain[20:]
    pairs = pair_residues(model, reference)
    assert np.array_equal(gap[pairs.rows[:, 0]], pairs.rows[:, 1] + 20)
    assert (len(pairs), pairs.lengths, pairs.identity, pairs.doubt) == (77, (97, 103), 1.0, "")
    scores = protok.compare(model, reference)
    assert scores.n == 77 and scores.rmsd < 1e-3 and scores.lddt == 1.0
    assert scores.tm_score == pytest.approx(77 / 103, abs=1e-3), "all residues of the reference count"
    assert str(scores).endswith(": 77 residues of 97 and 103 by number")


def test_an_alignment_finds_what_numbers_hide(chain):
    sequence = list(chain.sequence)
    sequence[30], sequence[70] = "W", "X"
    model = replace(counted_otherwise(chain), sequence="".join(sequence))
    model = model[np.delete(np.arange(110), np.arange(50, 58))]
    pairs = pair_residues(model, chain[15:], "alignment")
    by_number = pair_residues(counted_otherwise(model, -500), chain[15:])
    assert np.array_equal(pairs.rows, by_number.rows) and len(pairs) == 87
    assert pairs.identity == pytest.approx(85 / 86), "X is unknown, W another"
    with pytest.raises(ProtokError, match="no residue has the same number in both.*; compare by alignment"):
        protok.compare(model, chain)


def test_equal_residues_are_compared_as_row_by_row(chain):
    model = replace(chain, coords=chain.coords + np.random.default_rng(0).normal(size=chain.coords.shape))
    for apart in (False, True):
        scores, plain = (
            compare(model, chain, each_chain=apart) for compare in (protok.compare, metrics.compare)
        )
        assert str(scores) == str(plain) and vars(scores).items() >= vars(plain).items()


def test_codes_that_differ_are_told_from_those_that_are_missing(tokens):
    ids = tokens.ids.copy()
    ids[[20, 30]] = (ids[[20, 30]] + 1) % tokens.size
    ids[40] = -1
    comparison = protok.compare(replace(tokens, ids=ids)[10:60], tokens)
    assert comparison.pairs.rows[comparison.differs, 1].tolist() == [20, 30]
    assert comparison.coded.sum() == 49 and comparison.same == pytest.approx(47 / 49)
    assert str(comparison) == "95.9% of 49 codes are the same: 50 residues of 50 and 123 by number"
    none = protok.compare(replace(tokens, ids=np.full(len(tokens), -1)), tokens)
    assert np.isnan(none.same) and not none.differs.any()


@pytest.mark.parametrize("by", ["number", "alignment"])
def test_chains_correspond_by_their_ids(chain, by):
    first, second = (
        replace(part, chain=np.full(len(part), i)) for part, i in ((chain[:50], "A"), (chain[30:], "B"))
    )
    pairs = pair_residues(joined([first, second]), joined([second[4:], first]), by)
    want = [*range(54, 143), *range(50)]
    assert pairs.rows.tolist() == [[i, j] for j, i in enumerate(want)]
    assert (
        pair_residues(joined([first, second]), replace(first, chain=second.chain[:50]), by).rows[0, 0] >= 50
    )
    with pytest.raises(ProtokError, match=re.escape("(chains A, B and C); compare one chain of each")):
        protok.compare(joined([first, second]), replace(first, chain=np.full(50, "C")), by)


def test_unlike_sequences_are_compared_with_doubt(chain, examples):
    other = protok.read(examples / "7soo.A.pdb")
    other = replace(other, index=np.arange(20, 20 + len(other)))
    assert "compare by alignment" in str(protok.compare(chain, other))
    assert "tm_align" in str(protok.compare(chain, other, "alignment"))
    # The end of one is the beginning of the other, and that is all.
    first = replace(chain[:100], sequence="G" * 90 + chain.sequence[:10])
    second = replace(chain[:100], sequence=chain.sequence[:10] + "W" * 90)
    pairs = pair_residues(first, second, "alignment")
    assert (pairs.identity, len(pairs)) == (1.0, 10)
    assert pairs.doubt.startswith("less than half of the shorter sequence aligns")


def test_what_cannot_be_compared_says_what_can(chain, tokens):
    unknown = protok.Backbone.from_arrays(chain.coords)
    for first, second, by, message in (
        (chain, tokens, "number", "encode the structure, or decode the tokens"),
        (chain, chain, "name", "give 'number' or 'alignment'"),
        (unknown, chain, "alignment", "no amino acids are known to align; compare by number"),
        (chain[[3, 3, 4]], chain, "number", "stands at 2 residues of a chain; compare by alignment"),
        (chain, chain[:0], "number", re.escape("(chains A and none)")),
    ):
        with pytest.raises(ProtokError, match=message):
            protok.compare(first, second, by)
    with pytest.raises(CodebookMismatch, match="encode both with one model"):
        protok.compare(tokens, replace(tokens, codebook="other@1"))
