"""The second alphabet, untrained: contracts, beside shapes, in files, what is refused."""

import json
from functools import partial

import numpy as np
import pytest

import protok
from protok import testing
from protok.cli.main import main
from protok.errors import FormatError, Unsupported
from protok.pipeline.encode import encode_all
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.tokens.files import load
from tests.helpers.models import BOTH, small

#: Å beyond which no letter hears of a residue: two rounds of neighbours, and the largest sphere.
FAR = 60.0


@pytest.fixture(scope="module")
def tokenizer():
    return small(BOTH)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    return tokenizer.save_pretrained(tmp_path_factory.mktemp("models") / "both")


@pytest.mark.parametrize("alone", [True, False])
def test_contracts(tokenizer, alone):
    whole = tokenizer.environment if alone else tokenizer
    options = {testing.check_missing: {"radius": FAR}}
    if alone:
        options[testing.check_save_load] = {
            "load": partial(EnvironmentTokenizer.from_pretrained, label=whole.name)
        }
    for check in testing.contracts_for(whole):
        check(whole, **options.get(check, {}))


def test_states_are_of_structures_alone(tokenizer):
    whole, chain = tokenizer.environment, testing.packed_chain(40)
    assert whole.states(chain).shape == (40, whole.network.config.encoder.hidden)
    with pytest.raises(Unsupported, match="no states of tokens"):
        whole.states(whole.encode(chain))


def test_letters_are_of_each_chain_alone(tokenizer):
    complex = testing.random_complex([60, 50], seed=3)
    letters = tokenizer.encode(complex).environment.ids
    for chain in complex.chains:
        rows = complex.chain == chain
        assert np.array_equal(letters[rows], tokenizer.encode(complex[rows]).environment.ids)
    mixed = complex[np.r_[0:30, 60:90, 30:60, 90:110]]
    assert np.array_equal(tokenizer.encode(mixed).environment.ids, letters[np.r_[0:30, 60:90, 30:60, 90:110]])


def test_shapes_keyframes_and_fingerprint_are_those_of_a_model_without(tokenizer, examples):
    bare = small()
    assert tokenizer.codebook == bare.codebook and bare.environment is None
    for file in sorted(examples.glob("*.pdb")):
        first, other = tokenizer.encode(file), bare.encode(file)
        assert np.array_equal(first.ids, other.ids) and first.keyframes.text == other.keyframes.text
        assert np.array_equal(tokenizer.decode(first).coords, bare.decode(other).coords, equal_nan=True)
    with pytest.raises(Unsupported, match="no environment letters"):
        bare.encode(file, environments=True)


def test_a_folder_of_files_has_both_alphabets_or_one(saved, tokenizer, examples, tmp_path, capsys):
    wanted = {
        (t.name, t.chain[0]): t
        for f in sorted(examples.glob("*.pdb"))
        for t in tokenizer.encode(f).by_chain()
    }
    encode_all(str(examples), saved, tmp_path / "both.parquet", jobs=2)
    both = load(tmp_path / "both.parquet")
    assert both[0].environment.codebook == tokenizer.environment.codebook
    letters = {(tokens.name, tokens.chain[0]): tokens.environment.ids for tokens in both}
    assert wanted and wanted.keys() <= letters.keys()
    assert all(np.array_equal(letters[key], chain.environment.ids) for key, chain in wanted.items())
    capsys.readouterr()
    assert main(["info", str(tmp_path / "both.parquet"), "--json"]) == 0
    books = json.loads(capsys.readouterr().out)["codebooks"]
    sizes = {tokenizer.codebook: tokenizer.size, tokenizer.environment.codebook: tokenizer.environment.size}
    assert {book: row["codes"] for book, row in books.items()} == sizes
    assert books[tokenizer.environment.codebook]["bits a residue"] == pytest.approx(np.log2(48), abs=0.01)
    out = tmp_path / "shapes.parquet"
    assert main(["encode", str(examples), "--model", str(saved), "--shapes-only", "-o", str(out)]) == 0
    assert all(tokens.environment is None and tokens.keyframes is not None for tokens in load(out))
    refused = [
        "encode",
        str(examples),
        "--model",
        "3di",
        "--shapes-only",
        "-o",
        str(tmp_path / "3di.parquet"),
    ]
    assert main(refused) == 2 or not (tmp_path / "3di.parquet").exists()


def test_each_alphabet_is_loaded_by_name(saved, tokenizer, examples, tmp_path):
    alone, shapes = protok.load(f"{saved}:environment"), protok.load(f"{saved}:shape")
    file = next(iter(sorted(examples.glob("*.pdb"))))
    assert shapes.codebook == tokenizer.codebook and shapes.environment is None
    tokens = shapes.encode(file)
    assert np.array_equal(tokens.ids, tokenizer.encode(file).ids)
    assert tokens.keyframes is not None and tokens.environment is None
    assert protok.load(shapes.save_pretrained(tmp_path / "shape")).encode(file).environment is None
    assert np.array_equal(alone.encode(file).ids, tokenizer.encode(file).environment.ids)
    assert alone.name == "small:environment" and alone.codebook == tokenizer.environment.codebook
    bare = small().save_pretrained(tmp_path / "bare")
    with pytest.raises(FormatError, match="bare has no environment letters"):
        protok.load(f"{bare}:environment")
