"""protok-1 on the bundled chains: codes do not depend on how they are computed, and rebuild the chains."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import protok
from protok import testing
from protok.cli.main import main
from protok.pipeline.encode import encode_all
from protok.structure.backbone import joined
from protok.structure.io.sources.paths import iter_files
from protok.testing import moved, random_rotation
from protok.tokens.environment import Environment
from protok.tokens.files import load
from protok.tokens.keyframes import Keyframes
from protok.tokens.vocabulary import Vocabulary
from tests.helpers.paths import GOLDEN

MODEL = "protok-1"


@pytest.fixture(scope="module")
def tokenizer():
    return protok.load(MODEL)


@pytest.fixture(scope="module")
def chains(examples):
    return [protok.read(file) for file in sorted(iter_files([examples]))]


def text(tokens) -> tuple:
    return tokens.ids.tolist(), tokens.keyframes.text


@pytest.fixture(scope="module")
def alone(tokenizer, chains):
    return [text(tokenizer.encode(chain)) for chain in chains]


def test_contracts(tokenizer):
    for check in testing.contracts_for(tokenizer):
        check(tokenizer)


def test_shipped_codes_are_those_of_the_golden_file(tokenizer, examples):
    golden = json.loads((GOLDEN / "codes.json").read_text())[tokenizer.name]
    assert (tokenizer.codebook, tokenizer.encoder_fingerprint) == (golden["codebook"], golden["encoder"])
    for file, codes in golden["codes"].items():
        tokens = tokenizer.encode(examples / file)
        ids, frames, around = codes.split(" ")
        # Not all: where two codes are equally near, the last bit of a processor decides.
        assert (tokens.ids == np.array(ids.split(","), int)).mean() > 0.98
        same = tokens.keyframes.code == Keyframes.from_text(frames).code
        assert same.mean() > 0.9
        letters = Environment.from_text(around)
        assert letters.codebook == tokens.environment.codebook
        assert (letters.ids == tokens.environment.ids).mean() > 0.98


def test_codes_are_the_same_in_batches_and_on_several_threads(tokenizer, chains, alone):
    assert [text(tokens) for tokens in tokenizer.encode_batch(chains * 20)] == alone * 20
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert [text(tokens) for tokens in tokenizer.encode_batch(chains)] == alone
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_codes_are_the_same_from_other_processes(examples, alone, chains, tmp_path):
    encode_all(sorted(iter_files([examples])), MODEL, tmp_path / "t.parquet", jobs=2)
    by_name = {tokens.name: text(tokens) for tokens in load(tmp_path / "t.parquet")}
    assert [by_name[chain.name] for chain in chains] == alone


@pytest.mark.slow
def test_codes_are_the_same_from_an_archive(examples, alone, tmp_path):
    with tarfile.open(tmp_path / "chains.tar.gz", "w:gz") as archive:
        for file in sorted(iter_files([examples])):
            archive.add(file, file.name)
    encode_all([tmp_path / "chains.tar.gz"], MODEL, tmp_path / "archive.parquet")
    assert sorted(map(text, load(tmp_path / "archive.parquet"))) == sorted(alone)


def test_unlinked_runs_are_no_neighbours(tokenizer, chains):
    pair = joined([moved(chains[0], np.eye(3), shift) for shift in (0.0, 40.0)])
    tokens = tokenizer.encode(pair)
    alone = tokenizer.decode(tokens[: len(chains[0])])
    broken = replace(
        tokens, keyframes=replace(tokens.keyframes, link=np.full_like(tokens.keyframes.link, -1))
    )
    apart = tokenizer.decode(broken)
    np.testing.assert_allclose(apart.bfactor[: len(alone)], alone.bfactor, atol=1e-3)


def test_motion_changes_nothing_that_is_decoded(tokenizer, chains):
    for number, chain in enumerate(chains):
        turned = moved(chain, random_rotation(number), (40.0, -70.0, 9.0))
        a, b = tokenizer.encode(chain), tokenizer.encode(turned)
        assert np.array_equal(a.ids, b.ids)
        assert protok.rmsd(tokenizer.decode(a), tokenizer.decode(b)) < 0.05


@pytest.mark.parametrize(
    ("spacing", "error", "bits"), [(2, 0.4, 12.2), (4, 0.6, 9.2), (8, 1.2, 7.7), (16, 3.5, 7)]
)
def test_more_keyframes_rebuild_better(tokenizer, chains, spacing, error, bits):
    encoded = [tokenizer.encode(chain, keyframes=spacing) for chain in chains]
    errors = [
        protok.rmsd(tokenizer.decode(tokens), chain) for tokens, chain in zip(encoded, chains, strict=True)
    ]
    assert np.mean(errors) < error
    assert np.mean([tokens.bits / len(tokens) for tokens in encoded]) < bits


def test_latents_in_place_of_letters_rebuild_better(tokenizer, chains):
    decoded = [protok.rmsd(tokenizer.decode(tokenizer.encode(chain)), chain) for chain in chains]
    unquantized = [protok.rmsd(tokenizer.rebuild(chain), chain) for chain in chains]
    assert np.mean(unquantized) < 0.85 * np.mean(decoded)
    with pytest.raises(protok.ProtokError, match="no keyframes each 0"):
        tokenizer.rebuild(chains[0], keyframes=0)


def test_a_complex_is_rebuilt_as_a_whole(tokenizer, chains):
    """Chains that touch nothing still lie where they lay: the links say it."""
    parts = [moved(chain, shift=(45.0 * i, 10.0 * i, 0.0)) for i, chain in enumerate(chains[:3])]
    for name, part in zip("ABC", parts, strict=True):
        part.chain[:] = name
    structure = joined(parts)
    tokens = tokenizer.encode(structure)
    assert protok.compare(tokenizer.decode(tokens), structure).rmsd < 1.0
    for part, own in zip(parts, tokens.by_chain(), strict=True):
        assert np.array_equal(tokenizer.encode(part).ids, own.ids)


def test_a_slice_decodes_alone_as_well_as_in_its_chain(tokenizer, chains):
    alone, inside = [], []
    for chain in chains:
        tokens, part = tokenizer.encode(chain), slice(25, 65)
        alone.append(protok.rmsd(tokenizer.decode(tokens[part]), chain[part]))
        inside.append(protok.rmsd(tokenizer.decode(tokens)[part], chain[part]))
    assert np.mean(alone) < 1.2 * np.mean(inside)


def test_most_letters_stay_when_the_chain_is_cut(tokenizer, chains):
    kept = []
    for chain in chains:
        half = slice(len(chain) // 4, 3 * len(chain) // 4)
        whole, part = tokenizer.encode(chain).ids[half], tokenizer.encode(chain[half]).ids
        window = tokenizer.network.config.encoder.window  # beyond which a letter sees nothing
        assert np.array_equal(whole[window:-window], part[window:-window])
        kept.append((whole == part).mean())
    assert np.mean(kept) > 0.85


def test_letters_alone_are_right_over_some_residues(tokenizer, chains):
    chain = chains[0]
    back = tokenizer.decode(tokenizer.encode(chain, keyframes=0), letters_alone=True)
    pieces = [protok.rmsd(back[i : i + 8], chain[i : i + 8]) for i in range(0, len(chain) - 8, 8)]
    assert np.median(pieces) < 1.0 < protok.rmsd(back, chain)


@pytest.mark.parametrize("layout", ["blocks", "keyframes-first"])
def test_corpora_hold_what_decodes(tokenizer, examples, tmp_path, layout):
    encode_all(sorted(iter_files([examples])), MODEL, tmp_path / "t.parquet", keyframes=8)
    command = ["export", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "lm"), "--layout", layout]
    assert main(command) == 0
    vocabulary = Vocabulary.load(tmp_path / "lm")
    numbers = {name: i for i, name in enumerate(vocabulary.names)}
    lines = (tmp_path / "lm" / "corpus.jsonl").read_text().splitlines()
    for line, tokens in zip(map(json.loads, lines), load(tmp_path / "t.parquet"), strict=True):
        read = vocabulary.decode([numbers[word] for word in line["text"].split()])
        assert protok.rmsd(tokenizer.decode(read), tokenizer.decode(tokens)) < 1e-3
