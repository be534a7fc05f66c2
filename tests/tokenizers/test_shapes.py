"""The tokenizer of shapes and keyframes, untrained: places, complexes, files, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import protok
from protok import testing
from protok.common.checkpoint import TRANSIENT
from protok.errors import CodebookMismatch, ProtokError, Unsupported
from protok.model.config import KeyframeConfig
from protok.model.network import ShapeNetwork
from protok.pipeline.decode import decode_all
from protok.pipeline.encode import encode_all
from protok.structure.io.write import write
from protok.tokenizers.shapes import ShapeTokenizer
from protok.tokens.files import load
from protok.tokens.tokens import join
from tests.helpers.models import SMALL, small


@pytest.fixture(scope="module")
def tokenizer():
    return small(replace(SMALL, keyframes=KeyframeConfig(sizes=(256, 256, 256, 512))))


@pytest.fixture
def structure():
    return testing.exclude(testing.random_complex([90, 60, 40], seed=4), [20, 100])


@pytest.mark.parametrize("spacing", [2, 4, 8, 16])
def test_places_are_those_that_follow_from_the_runs(tokenizer, structure, spacing):
    tokens = tokenizer.encode(structure, keyframes=spacing)
    frames = tokens.keyframes
    laid = type(frames).laid(
        tokens.ids,
        tokens.chain,
        spacing,
        256 if spacing < 16 else 512,
        frames.code[frames.code >= 0],
        breaks=frames.start,
        links=frames.link[1:],
    )
    for key in ("place", "code", "start", "link"):
        assert np.array_equal(getattr(laid, key), getattr(frames, key)), key
    assert len(frames.start) == 5 and tokens.bits > replace(tokens, keyframes=None).bits


def test_a_complex_decodes_as_one(tokenizer, structure):
    """And each chain alone is the same as among the others."""
    tokens = tokenizer.encode(structure, keyframes=2)
    back = tokenizer.decode(tokens)
    assert np.array_equal(np.isnan(back.coords[:, 1, 0]), ~structure.mask)
    for part in tokens.by_chain():
        alone = tokenizer.decode(part)
        rows = back.chain == part.chain[0]
        assert protok.rmsd(alone, back[rows]) < 0.05


def test_chains_that_stand_mixed_decode_as_those_that_stand_apart(tokenizer, structure):
    mixed = structure[np.r_[0:30, 90:120, 30:90, 120:190]]
    tokens = tokenizer.encode(mixed)
    back = tokenizer.decode(tokens)
    apart = tokenizer.decode(join(list(tokens.by_chain())))
    for chain in "ABC":
        assert protok.rmsd(back[back.chain == chain], apart[apart.chain == chain]) < 0.05


def test_letters_alone_must_be_asked_for(tokenizer, structure):
    tokens = tokenizer.encode(structure, keyframes=0)
    for letters in (tokens, tokenizer.encode(structure).ids):
        with pytest.raises(Unsupported, match="no keyframes; encode with keyframes; letters_alone=True"):
            tokenizer.decode(letters)
    back = tokenizer.decode(tokens, letters_alone=True)
    assert np.array_equal(np.isfinite(back.coords).all((1, 2)), tokens.ids >= 0)
    assert back.notes == ("built from letters alone: right over some residues, drifting beyond",)
    assert not tokenizer.decode(tokenizer.encode(structure)).notes


def test_ids_alone_decode_as_letters_do(tokenizer, structure):
    chain = structure[structure.chain == structure.chains[0]]
    tokens = tokenizer.encode(chain, keyframes=0)
    back = tokenizer.decode(tokens, letters_alone=True)
    for ids in (
        tokens.ids,
        tokens.ids.tolist(),
        torch.from_numpy(tokens.ids),
        list(tokens),
        tokens.ids.astype(int),
    ):
        alone = tokenizer.decode(ids, letters_alone=True)
        assert np.array_equal(alone.coords, back.coords, equal_nan=True)
        assert set(alone.sequence) == {"X"} and alone.index[0] == 1 and alone.notes
    part = tokens.ids[:20]
    padded = np.stack([tokens.ids[:30], np.r_[part, np.full(10, -1)]])
    first, second = tokenizer.decode_batch(padded, letters_alone=True)
    assert len(first) == len(second) == 30 and np.isnan(second.coords[20:]).all()
    ragged = tokenizer.decode_batch([part.tolist(), tokens], letters_alone=True)
    assert np.array_equal(ragged[0].coords, second.coords[:20]) and ragged[1].name == tokens.name
    for ids, message in (
        (padded, "give several chains to decode_batch"),
        ([[1, 2], [3]], "give several chains to decode_batch"),
        ([tokenizer.size], "outside 0"),
        ([0.5], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            tokenizer.decode(ids, letters_alone=True)


def test_what_cannot_be_decoded_is_refused(tokenizer, structure):
    tokens = tokenizer.encode(structure)
    with pytest.raises(ProtokError, match="no keyframes each 3; give one of 2, 4, 8, 16"):
        tokenizer.encode(structure, keyframes=3)
    with pytest.raises(CodebookMismatch, match="keyframes each 5"):
        tokenizer.decode(replace(tokens, keyframes=replace(tokens.keyframes, spacing=5)))
    with pytest.raises(CodebookMismatch, match="of 512 motions"):
        tokenizer.decode(replace(tokens, keyframes=replace(tokens.keyframes, size=512)))
    with pytest.raises(CodebookMismatch, match="the tokens are of other@1"):
        tokenizer.decode(replace(tokens, codebook="other@1"))


def test_saved_and_loaded_it_says_the_same(tokenizer, structure, tmp_path):
    again = protok.load(tokenizer.save_pretrained(tmp_path / "model"))
    assert isinstance(again, ShapeTokenizer) and again.codebook == tokenizer.codebook
    ours, theirs = tokenizer.encode(structure), again.encode(structure)
    assert ours.keyframes.text == theirs.keyframes.text and np.array_equal(ours.ids, theirs.ids)
    assert protok.rmsd(again.decode(theirs), tokenizer.decode(ours)) < 0.05
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert len(kept) > 50 and not any(name.endswith(TRANSIENT) for name in kept)


def test_the_fingerprint_covers_letters_steps_and_keyframes(tokenizer):
    state = tokenizer.network.state_dict()
    for key in ("quantizer.inner.codebook", "step.bias", "keyframes.4.inner.codebook", "trunk.norm.weight"):
        network = ShapeNetwork(tokenizer.network.config).eval()
        network.load_state_dict({**state, key: state[key] + 1e-3})
        assert ShapeTokenizer(network).codebook != tokenizer.codebook, key
    network = ShapeNetwork(tokenizer.network.config).eval()
    network.load_state_dict({**state, "refiner.move.bias": state["refiner.move.bias"] + 1})
    assert ShapeTokenizer(network).codebook == tokenizer.codebook


def test_a_job_keeps_complexes_together(tokenizer, structure, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(structure, folder / "x.pdb")
    write(next(structure.by_chain()), folder / "y.pdb")
    model = tokenizer.save_pretrained(tmp_path / "model")
    encode_all(folder, model, tmp_path / "t.parquet", keyframes=2)
    rows = load(tmp_path / "t.parquet")
    assert [(t.name, str(t.chain[0]), t.keyframes.hangs_on) for t in rows] == [
        ("x", "A", ""),
        ("x", "B", "A"),
        ("x", "C", "B"),
        ("y", "A", ""),
    ]
    summary = decode_all(reversed(rows), tmp_path / "out", model, compare=folder)
    assert {(c.chain, c.length, c.file.rpartition("/")[2]) for c in summary.chains} == {
        ("A,B,C", 188, "x.pdb"),
        ("A", 89, "y_A.pdb"),
    }
    assert not summary.errors and not summary.notes
    lonely = decode_all([rows[0], rows[2]], tmp_path / "lonely", model)
    assert [note for _, note in lonely.notes] == [
        "chain C lies alone: chain B, beside which it lay, is not there"
    ]
    with pytest.raises(Unsupported, match="no keyframes each 3"):
        encode_all(folder, model, tmp_path / "u.parquet", keyframes=3)
    with pytest.raises(Unsupported, match="3di@.* has no keyframes"):
        encode_all(folder, "3di", tmp_path / "u.parquet", keyframes=2)


def test_nothing_is_encoded_to_nothing(tokenizer, structure):
    nothing = structure[:0]
    for keyframes in (0, 4):
        alone, beside = tokenizer.encode(nothing, keyframes=keyframes), tokenizer.encode_batch([nothing] * 2)
        assert len(alone) == 0 and [len(t) for t in beside] == [0, 0]
    assert len(tokenizer.decode(beside[0])) == 0 and tokenizer.embed(nothing).shape == (0, 5)
