"""Rows of ids with letters, keyframes and links: there and back, and nothing else is written."""

from dataclasses import replace

import numpy as np
import pytest

from protok.errors import CodebookMismatch, FormatError
from protok.tokens.keyframes import LINK, LINK_SIZE, Keyframes
from protok.tokens.layouts import BLOCKS, BOS, EOS, FIRST, LETTERS, SPECIALS
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary

SIZE, MOTIONS = 7, 11


def make(ids, chain, breaks=(), spacing=4, links=True, seed=0):
    """Tokens with random keyframes where they belong."""
    rng, ids, chain = np.random.default_rng(seed), np.array(ids), np.array(list(chain))
    n = len(ids)
    starts = (ids >= 0) & np.r_[True, (ids[:-1] < 0) | (chain[1:] != chain[:-1])]
    runs = len(set(np.flatnonzero(starts).tolist()) | set(breaks))
    for count in range(n):
        try:
            codes = rng.integers(MOTIONS, size=count)
            drawn = rng.integers(LINK_SIZE, size=(runs - 1, LINK)) if links else ()
            frames = Keyframes.laid(ids, chain, spacing, MOTIONS, codes, breaks=breaks, links=drawn)
            break
        except ValueError:
            continue
    letters = "".join(rng.choice(list("ACDX"), size=n))
    return Tokens(
        ids, SIZE, "tiny@0", letters, chain, np.arange(1, n + 1), np.full(n, ""), "t", keyframes=frames
    )


STRUCTURES = {
    "one residue": make([3], "A"),
    "a chain": make(np.arange(13) % SIZE, "A" * 13),
    "whole blocks": make(np.arange(8) % SIZE, "A" * 8),
    "missing ends": make([-1, -1, 1, 2, 3, 4, 5, -1], "A" * 8),
    "a hole": make([1, 2, 3, 4, 5, -1, 1, 2], "A" * 8),
    "a gap": make(np.arange(11) % SIZE, "A" * 11, breaks=[6]),
    "chains": make(np.arange(12) % SIZE, "AAAAABBBBBBC"),
    "no links": make(np.arange(12) % SIZE, "AAAAABBBBBBC", links=False),
    "all": make([1, 2, 3, 4, 5, -1, -1, 6, 1, 2, 3, 4, 5, 6, 0, 1], "AAAAAAAABBBBBBBB", breaks=[12]),
}


def alike(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("place", "code", "start", "link"))


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("layout", [BLOCKS, FIRST])
@pytest.mark.parametrize("pairs", [False, True])
def test_rows_come_back_and_follow_the_grammar(name, layout, pairs):
    tokens = STRUCTURES[name]
    vocabulary = Vocabulary.of(tokens, layout, pairs=pairs)
    ids = vocabulary.encode(tokens)
    assert max(ids) < len(vocabulary) == len(vocabulary.names) == len(set(vocabulary.names))
    again = vocabulary.decode(ids)
    assert np.array_equal(again.ids, tokens.ids) and alike(again.keyframes, tokens.keyframes)
    assert again.chain.tolist() == tokens.chain.tolist()
    assert not pairs or again.sequence == tokens.sequence
    grammar = vocabulary.grammar()
    for number in ids[1:]:
        assert grammar.allowed()[number], (vocabulary.names[number], grammar.last)
        grammar.push(number)


def test_how_rows_look():
    tokens = make([1, 2, 3, 4, 5, 6], "AAAAAB")
    code, link = tokens.keyframes.code[1], tokens.keyframes.link[1]
    links = " ".join(f"<l{number}>" for number in link)
    text = Vocabulary.of(tokens).text(tokens)
    assert text == f"<s1> <s2> <s3> <s4> <s5> <k{code}> <break> <s6> {links}"
    text = Vocabulary.of(tokens, FIRST).text(tokens)
    assert text == f"<k{code}> <gap> {links} <letters> <s1> <s2> <s3> <s4> <s5> <break> <s6>"
    pairs = Vocabulary.of(tokens, LETTERS, pairs=True)
    assert pairs.text(tokens) == "<{}1> <{}2> <{}3> <{}4> <{}5> <break> <{}6>".format(*tokens.sequence)
    assert pairs.decode(pairs.encode(tokens)).sequence == tokens.sequence


@pytest.mark.parametrize("layout", [LETTERS, BLOCKS, FIRST])
@pytest.mark.parametrize("pairs", [False, True])
def test_whatever_the_grammar_writes_can_be_read(layout, pairs):
    tokens = STRUCTURES["all"]
    vocabulary = Vocabulary.of(tokens, layout, pairs=pairs)
    rng, runs = np.random.default_rng(0), 0
    for _ in range(60):
        grammar, ids = vocabulary.grammar(), [BOS]
        while ids[-1] != EOS and len(ids) < 150:
            may = np.flatnonzero(grammar.allowed())
            # Kinds of ids alike, however many there are of each.
            kind = np.searchsorted([6, 6 + SIZE, len(vocabulary) - LINK_SIZE], may, side="right")
            may = may[kind == rng.choice(np.unique(kind))]
            ids.append(int(rng.choice(may)))
            grammar.push(ids[-1])
        if ids[-1] == EOS:
            read = vocabulary.decode(ids)
            assert len(read) == grammar.residues
            if layout != LETTERS:
                runs += len(read.keyframes.start)
                assert vocabulary.encode(read) == ids
    assert layout == LETTERS or runs > 30


@pytest.mark.parametrize("layout", [BLOCKS, FIRST])
def test_damaged_rows_are_refused_or_read(layout):
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.of(STRUCTURES["all"], layout)
    refused = 0
    for tokens in STRUCTURES.values():
        good = vocabulary.encode(tokens)
        for _ in range(30):
            ids, at = list(good), int(rng.integers(1, len(good)))
            ids[at : at + int(rng.integers(2))] = rng.integers(len(vocabulary), size=rng.integers(3)).tolist()
            try:
                read = vocabulary.decode(ids)
            except FormatError:
                refused += 1
            else:
                assert len(read.ids) == len(read.sequence)
    assert refused > 100


def test_keyframes_that_do_not_fit_are_refused():
    tokens = STRUCTURES["a chain"]
    vocabulary = Vocabulary.of(tokens)
    with pytest.raises(FormatError, match="do not lie where those of whole chains do"):
        vocabulary.encode(tokens[3:])
    with pytest.raises(CodebookMismatch, match="no keyframes for a vocabulary with keyframes each 4 of 11"):
        vocabulary.encode(replace(tokens, keyframes=None))
    with pytest.raises(ValueError, match="layout 'both' is not one of letters"):
        Vocabulary.of(tokens, "both")
    with pytest.raises(ValueError, match="no keyframes for the layout blocks"):
        Vocabulary.of(replace(tokens, keyframes=None), BLOCKS)
    for ids in ([SPECIALS.index("<unk>"), 6, len(vocabulary) - 1], [6] * 5, [6, 6 + SIZE + 2]):
        with pytest.raises(FormatError):
            vocabulary.decode(ids)


def test_saved_with_its_layout(tmp_path):
    vocabulary = Vocabulary.of(STRUCTURES["all"], FIRST, pairs=True)
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path) == vocabulary
