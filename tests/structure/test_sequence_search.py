"""Which sequences are alike."""

import numpy as np

from protok.structure.sequence_search import WordIndex

# Of hen and of man (UniProt P00698, P61626).
LYSOZYME = (
    "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCSALLSSDITASVNCAKKIVSDGN"
    "GMNAWVAWRNRCKGTDVQAWIRGCRL"
)
HUMAN = (
    "KVFERCELARTLKRLGMDGYRGISLANWMCLAKWESGYNTRATNYNAGDRSTDYGIFQINSRYWCNDGKTPGAVNACHLSCSALLQDNIADAVACAKRVVRDP"
    "QGIRAWVAWRNRCQNRDVRQYVQGCGV"
)
PURO = "KSCCKSTLGRNCYNLCRARGAQKLCANVCRCKLTSGLSCPKDFPK"


def test_a_relative_is_found_and_aligned():
    index = WordIndex([LYSOZYME, PURO, HUMAN, "", "KX"])
    ((other, diagonal),) = index.near(2)
    match = index.align(2, other, diagonal)
    assert other == 0
    # Human and hen lysozyme have 59 % of their residues in common, and one residue of gap.
    assert 0.57 < match.identity < 0.62 and min(match.covered) > 0.98
    motif = [(HUMAN[i], LYSOZYME[j]) for i, j in match.pairs if 110 <= i < 116]
    assert motif == [(r, r) for r in "AWRNRC"]
    assert np.diff(match.pairs, axis=0).min() >= 1


def test_what_is_later_skipped_or_short_is_not():
    index = WordIndex([LYSOZYME, HUMAN, LYSOZYME, "KV", ""])
    assert index.near(0) == index.near(3) == index.near(4) == []
    assert [other for other, _ in index.near(2)] == [0, 1]
    assert [other for other, _ in index.near(2, skip=lambda other: other == 0)] == [1]


def test_longer_words_find_less():
    changed = "".join("W" if i % 4 == 0 else r for i, r in enumerate(LYSOZYME))
    assert WordIndex([LYSOZYME, changed], word=3).near(1)
    assert not WordIndex([LYSOZYME, changed], word=5).near(1)
