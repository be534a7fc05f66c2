"""Keyframes of tokens: places that follow from the runs, slices, chains, files, and what cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from protok.errors import CorruptFile
from protok.tokens.files import load, save
from protok.tokens.keyframes import LINK, Keyframes
from protok.tokens.tokens import Tokens, join
from tests.helpers.token_files import FORMATS, make

ARRAYS = ("place", "code", "start", "link")


def framed(n=23, chains="AB", missing=(5,), breaks=(30,), spacing=4, seed=0) -> Tokens:
    """Tokens of two chains with a missing one, a break, and keyframes at their places."""
    rng = np.random.default_rng(seed)
    tokens = make(n * len(chains), size=64)
    ids = rng.integers(0, 64, len(tokens))
    ids[list(missing)] = -1
    chain = np.repeat(list(chains), n)
    probe = np.flatnonzero(ids >= 0)
    empty = Keyframes.laid  # places are counted by trying
    runs = 1 + len(missing) + len(breaks) + len(chains) - 1
    for count in range(len(probe)):
        try:
            links = rng.integers(0, 4096, (runs - 1, LINK)).tolist()
            codes = rng.integers(0, 4096, count)
            frames = empty(ids, chain, spacing, 4096, codes, breaks=list(breaks), links=links)
        except ValueError:
            continue
        return replace(tokens, ids=ids, chain=chain, keyframes=frames)
    raise AssertionError("no number of keyframes fits")


def same(a: Keyframes | None, b: Keyframes | None) -> bool:
    if a is None or b is None:
        return a is b
    ends = (a.spacing, a.size, a.hangs_on) == (b.spacing, b.size, b.hangs_on)
    return ends and all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ARRAYS)


def test_each_block_of_a_run_has_one_in_its_middle_or_at_its_end():
    frames = framed().keyframes
    assert frames.start.tolist() == [0, 6, 23, 30]
    assert frames.place.tolist() == [2, 4, 8, 12, 16, 20, 22, 25, 29, 32, 36, 40, 44]
    assert frames.code[[0, 2, 7, 9]].tolist() == [-1] * 4 and (frames.link[0] == -1).all()
    assert (np.delete(frames.code, [0, 2, 7, 9]) >= 0).all()


def test_bits_count_every_code_and_the_break_that_nothing_shows():
    tokens = framed()
    expected = 45 * 6 + 9 * 12 + 3 * LINK * 12 + np.log2(46)
    assert tokens.bits == pytest.approx(expected)
    assert replace(tokens, keyframes=None).bits == 45 * 6


def test_text_comes_back_whatever_a_chain_is_called():
    for hangs_on in ("", "A", "a;b/c,d:e"):
        frames = replace(framed().keyframes, hangs_on=hangs_on)
        assert same(Keyframes.from_text(frames.text), frames)


def test_a_slice_keeps_its_keyframes_and_begins_anew():
    tokens = framed()
    part = tokens[10:34]
    frames = part.keyframes
    assert len(part) == 24 and frames.start.tolist() == [0, 13, 20]
    assert frames.place.tolist() == [2, 6, 10, 12, 15, 19, 22]
    assert frames.code[0] == -1 and frames.code[1] == tokens.keyframes.code[4]
    assert (frames.link[0] == -1).all()
    assert np.array_equal(frames.link[1:], tokens.keyframes.link[2:])
    assert same(tokens[:].keyframes, tokens.keyframes)


def test_a_link_goes_with_the_keyframe_that_it_hangs_on():
    frames = framed()[21:30].keyframes
    assert frames.start.tolist() == [0, 2] and frames.link[1, 0] >= 0  # residue 22 has a keyframe
    frames = framed()[np.r_[21, 23:30]].keyframes
    assert frames.start.tolist() == [0, 1] and (frames.link == -1).all()
    frames = framed()[::2].keyframes
    assert len(frames.start) == len(framed()[::2].ids[framed()[::2].ids >= 0])


def test_chains_part_and_join_in_any_order():
    tokens = framed(chains="ABC", missing=(5,), breaks=(30,))
    parts = list(tokens.by_chain())
    assert [part.keyframes.hangs_on for part in parts] == ["", "A", "B"]
    assert all(part.keyframes.link[0, 0] >= 0 for part in parts[1:])
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        again = join([parts[i] for i in order])
        assert same(again.keyframes, tokens.keyframes) and np.array_equal(again.ids, tokens.ids)
    alone = join([parts[2], parts[0]])
    assert (alone.keyframes.link[0] == -1).all() and alone.chain[0] == "C" and alone.chain[-1] == "A"


@FORMATS
def test_files_keep_them(suffix, tmp_path):
    tokens = framed()
    save([tokens, framed(n=9, chains="X", missing=(), breaks=(4,), spacing=2)], tmp_path / f"t{suffix}")
    *parts, last = load(tmp_path / f"t{suffix}")
    for part, wanted in zip(parts, tokens.by_chain(), strict=True):
        assert same(part.keyframes, wanted.keyframes)
    assert same(join(parts).keyframes, tokens.keyframes) and last.keyframes.spacing == 2


@FORMATS
def test_files_may_hold_tokens_with_and_without(suffix, tmp_path):
    save([framed(), replace(framed(), keyframes=None)], tmp_path / f"t{suffix}")
    assert [part.keyframes is None for part in load(tmp_path / f"t{suffix}")] == [False, False, True, True]


WRONG = {
    "place 46 is": lambda f: replace(f, place=f.place + 20),
    "no token": lambda f: replace(f, place=np.r_[5, f.place[1:]]),
    "goes on over": lambda f: replace(f, start=np.r_[f.start[:1], 7, f.start[2:]]),
    "order": lambda f: replace(f, place=f.place[[1, 0, *range(2, len(f))]]),
    "every keyframe": lambda f: replace(f, code=np.zeros_like(f.code)),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_keyframes_that_cannot_be_are_refused(change):
    tokens = framed()
    with pytest.raises(ValueError, match="keyframe|run"):
        replace(tokens, keyframes=change(tokens.keyframes))


@pytest.mark.parametrize(
    "change",
    [
        {"code": np.full(13, 4096)},
        {"link": np.full((4, LINK), 1 << 12)},
        {"link": np.zeros((3, LINK), int)},
        {"place": np.arange(4)},
        {"spacing": 0},
        {"code": np.full(13, 0.5)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="keyframe|link|codes"):
        replace(framed().keyframes, **change)


WRITTEN = (
    "",
    "4",
    "4/4096",
    "x/4096;0/;2:;",
    "4/4096;0/;2:",
    "4/4096;0/1.2;2:;",
    "4/4096;0/;2;",
    "4/4096;0/;2:9:9;",
    "4/9;0/;2:,3:;",
    "4/9;0;2:;",
)


@pytest.mark.parametrize("text", WRITTEN)
def test_text_that_is_none_is_a_typed_error(text, tmp_path):
    file = tmp_path / "t.fasta"
    file.write_text(f">x_A codebook=a@1 size=64 sequence=AAAA keyframes={text or '%20'}\n1,2,3,4\n")
    with pytest.raises(CorruptFile):
        load(file)


def test_too_few_or_too_many_codes_and_links_are_refused():
    ids, chain = np.zeros(9, int), np.repeat("A", 9)
    assert Keyframes.laid(ids, chain, 4, 10, [3, 4]).text == "4/10;0/;2:,6:3,8:4;"
    with pytest.raises(ValueError, match="1 keyframes for 2 places"):
        Keyframes.laid(ids, chain, 4, 10, [3])
    with pytest.raises(ValueError, match="links for 1 runs"):
        Keyframes.laid(ids, chain, 4, 10, [3, 4], links=[[1, 2, 3, 4]])
