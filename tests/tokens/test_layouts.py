"""Rows of ids with letters, keyframes and links: there and back, and nothing else is written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from protok.errors import CodebookMismatch, FormatError
from protok.tokens.environment import Environment
from protok.tokens.export import write_corpus
from protok.tokens.keyframes import LINK, LINK_SIZE, Keyframes
from protok.tokens.layouts import BLOCKS, BOS, EOS, FIRST, LETTERS, MASK, PAD, SPECIALS, UNK
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import Vocabulary

SIZE, MOTIONS, AROUND = 7, 11, 5


def make(ids, chain, breaks=(), spacing=4, links=True, seed=0):
    """Tokens with random keyframes where they belong."""
    rng, ids, chain = np.random.default_rng(seed), np.array(ids), np.array(list(chain))
    n = len(ids)
    starts = (ids >= 0) & np.r_[True, (ids[:-1] < 0) | (chain[1:] != chain[:-1])]
    runs = len(set(np.flatnonzero(starts).tolist()) | set(breaks))
    for count in range(n):
        try:
            codes = rng.integers(MOTIONS, size=count)
            drawn = rng.integers(LINK_SIZE, size=(max(runs - 1, 0), LINK)) if links else ()
            frames = Keyframes.laid(ids, chain, spacing, MOTIONS, codes, breaks=breaks, links=drawn)
            break
        except ValueError:
            continue
    letters = "".join(rng.choice(list("ACDX"), size=n))
    around = Environment(np.where(ids < 0, -1, rng.integers(AROUND, size=n)), AROUND, "tiny:environment@0")
    numbers, blank = np.arange(1, n + 1), np.full(n, "")
    tokens = Tokens(ids, SIZE, "tiny@0", letters, chain, numbers, blank, "t", keyframes=frames)
    return replace(tokens, environment=around)


STRUCTURES = {
    "one residue": make([3], "A"),
    "a chain": make(np.arange(13) % SIZE, "A" * 13),
    "whole blocks": make(np.arange(8) % SIZE, "A" * 8),
    "missing ends": make([-1, -1, 1, 2, 3, 4, 5, -1], "A" * 8),
    "a hole": make([1, 2, 3, 4, 5, -1, 1, 2], "A" * 8),
    "a gap": make(np.arange(11) % SIZE, "A" * 11, breaks=[6]),
    "chains": make(np.arange(12) % SIZE, "AAAAABBBBBBC"),
    "no links": make(np.arange(12) % SIZE, "AAAAABBBBBBC", links=False),
    "nothing": make([-1, -1], "AA"),
    "a chain of nothing": make([1, 2, -1, -1], "AABB"),
    "each second": make(np.arange(9) % SIZE, "AAAAAAABB", breaks=[3], spacing=2),
    "each": make(np.arange(5) % SIZE, "AAABB", spacing=1),
    "all": make([1, 2, 3, 4, 5, -1, -1, 6, 1, 2, 3, 4, 5, 6, 0, 1], "AAAAAAAABBBBBBBB", breaks=[12]),
}


def alike(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("place", "code", "start", "link"))


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("layout", [BLOCKS, FIRST])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("around", [False, True])
def test_rows_come_back_and_follow_the_grammar(name, layout, pairs, around):
    tokens = STRUCTURES[name]
    vocabulary = Vocabulary.of(tokens, layout, pairs=pairs, environments=around)
    ids = vocabulary.encode(tokens)
    assert max(ids) < len(vocabulary) == len(vocabulary.names) == len(set(vocabulary.names))
    again = vocabulary.decode(ids)
    assert np.array_equal(again.ids, tokens.ids) and alike(again.keyframes, tokens.keyframes)
    assert again.chain.tolist() == tokens.chain.tolist()
    assert not pairs or again.sequence == tokens.sequence
    assert (again.environment is not None) == around
    assert not around or np.array_equal(again.environment.ids, tokens.environment.ids)
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
    around = Vocabulary.of(tokens, LETTERS, environments=True)
    second = [f"<s{i + 1}> <e{e}>" for i, e in enumerate(tokens.environment.ids)]
    assert around.text(tokens) == " ".join([*second[:5], "<break>", second[5]])
    assert around.names[: len(Vocabulary.of(tokens, LETTERS))] == Vocabulary.of(tokens, LETTERS).names
    pairs = Vocabulary.of(tokens, LETTERS, pairs=True)
    assert pairs.text(tokens) == "<{}1> <{}2> <{}3> <{}4> <{}5> <break> <{}6>".format(*tokens.sequence)
    assert pairs.decode(pairs.encode(tokens)).sequence == tokens.sequence


@pytest.mark.parametrize("layout", [LETTERS, BLOCKS, FIRST])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("around", [False, True])
def test_whatever_the_grammar_writes_can_be_read(layout, pairs, around):
    tokens = STRUCTURES["all"]
    vocabulary = Vocabulary.of(tokens, layout, pairs=pairs, environments=around)
    end = vocabulary.grammar().ids.around
    rng, runs, ended = np.random.default_rng(0), 0, 0
    for _ in range(60):
        grammar, ids = vocabulary.grammar(), [BOS]
        while ids[-1] != EOS and len(ids) < 250:
            may = np.flatnonzero(grammar.allowed())
            # Kinds of ids alike, however many there are of each.
            edges = [6, end - LINK_SIZE - MOTIONS - 2, end - LINK_SIZE, end]
            kind = np.searchsorted(edges if layout != LETTERS else [6, end], may, side="right")
            may = may[kind == rng.choice(np.unique(kind))]
            ids.append(int(rng.choice(may)))
            grammar.push(ids[-1])
        if ids[-1] == EOS:
            ended += 1
            read = vocabulary.decode(ids)
            assert len(read) == grammar.residues
            assert not around or np.array_equal(read.environment.ids < 0, read.ids < 0)
            if layout != LETTERS:
                runs += len(read.keyframes.start)
                assert vocabulary.encode(read) == ids
    assert ended > 40 and (layout == LETTERS or runs > 30)


@pytest.mark.parametrize("layout", [BLOCKS, FIRST])
@pytest.mark.parametrize("around", [False, True])
def test_damaged_rows_are_refused_or_read(layout, around):
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.of(STRUCTURES["all"], layout, environments=around)
    refused = 0
    for tokens in STRUCTURES.values():
        if tokens.keyframes.spacing != vocabulary.spacing:
            continue
        good = vocabulary.encode(tokens)
        for _ in range(30):
            ids, at = list(good), int(rng.integers(1, len(good)))
            ids[at : at + int(rng.integers(2))] = rng.integers(len(vocabulary), size=rng.integers(3)).tolist()
            try:
                read = vocabulary.decode(ids)
            except FormatError:
                refused += 1
            else:
                kept = [UNK if number == MASK else number for number in [*ids, EOS] if number != PAD]
                assert vocabulary.encode(read) == kept[: kept.index(EOS) + 1]
    assert refused > 100


def test_keyframes_that_do_not_fit_are_refused():
    tokens = STRUCTURES["a chain"]
    vocabulary = Vocabulary.of(tokens)
    with pytest.raises(FormatError, match="do not lie where those of whole chains do"):
        vocabulary.encode(tokens[3:])
    with pytest.raises(CodebookMismatch, match="no keyframes for a vocabulary with keyframes each 4 of 11"):
        vocabulary.encode(replace(tokens, keyframes=None))
    with pytest.raises(ValueError, match="keyframes each -4 of 5"):
        Vocabulary("t@0", 7, BLOCKS, -4, 5)
    with pytest.raises(ValueError, match="layout 'both' is not one of letters"):
        Vocabulary.of(tokens, "both")
    with pytest.raises(ValueError, match="no keyframes for the layout blocks"):
        Vocabulary.of(replace(tokens, keyframes=None), BLOCKS)
    for ids in ([SPECIALS.index("<unk>"), 6, len(vocabulary) - 1], [6] * 5, [6, 6 + SIZE + 2]):
        with pytest.raises(FormatError):
            vocabulary.decode(ids)


def test_a_masked_letter_is_a_missing_one_with_pairs_too():
    tokens = STRUCTURES["one residue"]
    pairs = Vocabulary.of(tokens, pairs=True)
    for number in (MASK, UNK):
        read = pairs.decode([BOS, *pairs.encode(tokens)[1:-1], number, EOS])
        assert read.ids.tolist() == [3, -1]


def test_a_chain_of_a_complex_is_a_row_of_its_own():
    first, second, _ = STRUCTURES["chains"].by_chain()
    vocabulary = Vocabulary.of(first)
    assert second.keyframes.hangs_on == "A" and second.keyframes.link[0, 0] >= 0
    read = vocabulary.decode(vocabulary.encode(second))
    assert np.array_equal(read.ids, second.ids) and read.keyframes.link[0, 0] == -1


def test_a_corpus_has_complexes_in_one_line(tmp_path):
    chains = list(STRUCTURES["chains"].by_chain())
    assert write_corpus([*chains, replace(chains[0], name="other")], tmp_path) == 2
    lines = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert lines[0]["text"] == Vocabulary.of(chains[0]).text(STRUCTURES["chains"])
    assert lines[1]["name"] == "other" and "<break>" not in lines[1]["text"]
    with pytest.raises(CodebookMismatch, match="has keyframes, and those before it have none"):
        write_corpus([replace(chains[0], keyframes=None), chains[1]], tmp_path)
    bare = [replace(chain, keyframes=None) for chain in chains]
    assert write_corpus(bare, tmp_path) == 1
    assert json.loads((tmp_path / "corpus.jsonl").read_text())["text"].count("<break>") == 2
    for keyed in (chains, bare):
        assert write_corpus(keyed, tmp_path, chains=True) == 3
        rows = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
        assert [row["chain"] for row in rows] == ["A", "B", "C"]


@pytest.mark.parametrize("layout", [LETTERS, BLOCKS, FIRST])
@pytest.mark.parametrize("name", STRUCTURES)
def test_each_id_knows_its_residue(name, layout):
    tokens = STRUCTURES[name]
    vocabulary = Vocabulary.of(tokens, layout, pairs=True)
    row = vocabulary.placed(tokens)
    assert row.ids == vocabulary.encode(tokens)
    numbers, frames = vocabulary.grammar().ids, tokens.keyframes
    places = dict(zip(frames.place.tolist(), frames.code.tolist(), strict=True))
    letters, codes = [], {}
    for number, residue in zip(row.ids, row.residues, strict=True):
        letter = numbers.letter(number)
        if letter is not None:
            letters.append(residue)
            assert letter == (tokens.ids[residue], tokens.sequence[residue])
        elif layout != LETTERS and number >= numbers.link:
            assert places[residue] == -1, "a link stands with the first keyframe of its run"
        elif layout != LETTERS and number >= numbers.key:
            codes[residue] = number - numbers.key
        else:
            assert residue == -1
    assert letters == list(range(len(tokens)))
    assert layout == LETTERS or codes == {place: code for place, code in places.items() if code >= 0}


def test_residues_of_mixed_chains_are_those_of_the_tokens():
    tokens = replace(STRUCTURES["chains"], keyframes=None, chain=np.array(list("ABABABABABAB")))
    row = Vocabulary.of(tokens, pairs=True).placed(tokens)
    assert [i for i in row.residues if i >= 0] == [*range(0, 12, 2), *range(1, 12, 2)]


def test_a_corpus_with_positions(tmp_path):
    tokens = replace(make([1, 2, 3, 4, 5, 6], "AAAAAB"), icode=np.array(["", "", "B", "", "", ""]))
    write_corpus([tokens], tmp_path, positions=True)
    line = json.loads((tmp_path / "corpus.jsonl").read_text())
    assert line["numbers"] == ["1", "2", "3B", "4", "5", "6"]
    where = dict(zip(line["text"].split(), line["residues"], strict=True))
    assert where["<s3>"] == 2 and where["<break>"] == -1 and where[f"<k{tokens.keyframes.code[1]}>"] == 4


def test_environments_that_do_not_fit_are_refused():
    tokens = STRUCTURES["a chain"]
    vocabulary = Vocabulary.of(tokens, LETTERS, environments=True)
    with pytest.raises(CodebookMismatch, match="no environment letters for .* those of tiny:env"):
        vocabulary.encode(replace(tokens, environment=None))
    other = replace(tokens, environment=replace(tokens.environment, codebook="other@1"))
    with pytest.raises(CodebookMismatch, match="environments of other@1 for"):
        vocabulary.encode(other)
    with pytest.raises(ValueError, match="no environment letters"):
        Vocabulary.of(replace(tokens, environment=None), environments=True)
    first = vocabulary.grammar().ids.around
    for ids in ([BOS, first], [BOS, UNK, first], [BOS, 6, first, first + 1]):
        with pytest.raises(FormatError, match="does not follow a letter"):
            vocabulary.decode(ids)


def test_saved_with_its_layout(tmp_path):
    vocabulary = Vocabulary.of(STRUCTURES["all"], FIRST, pairs=True, environments=True)
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path) == vocabulary
