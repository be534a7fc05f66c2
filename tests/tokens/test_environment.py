"""Environment letters of tokens: kept by slices, chains and files, refused where they cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from protok.errors import CorruptFile
from protok.tokens.environment import Environment
from protok.tokens.files import load, save
from protok.tokens.tokens import join
from tests.helpers.token_files import FORMATS, make
from tests.tokens.test_keyframes import framed


def around(n, seed=0, size=128, codebook="toy-environment@1;2"):
    return Environment(np.random.default_rng(seed).integers(-1, size, n), size, codebook)


def same(first, other):
    kinds = [(around.size, around.codebook) for around in (first, other)]
    return kinds[0] == kinds[1] and np.array_equal(first.ids, other.ids)


def test_slices_and_chains_keep_them():
    tokens = replace(framed(), environment=around(len(framed())))
    assert same(tokens[5:20].environment, replace(tokens.environment, ids=tokens.environment.ids[5:20]))
    assert same(join(list(tokens.by_chain())).environment, tokens.environment)
    chains = [*tokens.by_chain()]
    assert join([chains[0], replace(chains[1], environment=None)]).environment is None
    assert list(tokens.to_pandas().environment) == tokens.environment.ids.tolist()
    with pytest.raises(ValueError, match="different codebooks"):
        join([chains[0], replace(chains[1], environment=around(len(chains[1]), codebook="b"))])


def test_letters_have_bits_of_their_own():
    tokens = make(40)
    both = replace(tokens, environment=Environment(np.r_[np.zeros(30, int), -np.ones(10, int)], 128, "a@1"))
    assert both.bits == tokens.bits and both.environment.bits == 30 * 7


@FORMATS
def test_files_keep_them(tmp_path, suffix):
    chains = [
        replace(framed(), environment=around(len(framed()))),
        replace(make(40), environment=around(40, 1)),
    ]
    save([*chains, make(30), framed()], tmp_path / f"t{suffix}")
    wanted = [part for tokens in chains for part in tokens.by_chain()]
    back = load(tmp_path / f"t{suffix}")
    assert len(back) == len(wanted) + 3
    for first, other in zip(wanted, back, strict=False):
        assert same(first.environment, other.environment) and (first.keyframes is None) == (
            other.keyframes is None
        )
    assert all(chain.environment is None for chain in back[len(wanted) :])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda a: replace(a, ids=a.ids + 128), "outside"),
        (lambda a: replace(a, ids=a.ids * 1.0), "integers"),
        (lambda a: replace(a, ids=a.ids[:, None]), "one a residue"),
        (lambda a: replace(a, codebook=""), "no name"),
    ],
)
def test_those_that_cannot_be_are_refused(change, cause):
    with pytest.raises(ValueError, match=cause):
        change(around(20))
    with pytest.raises(ValueError, match="20 environment letters for 30 residues"):
        replace(make(30), environment=around(20))


@pytest.mark.parametrize(
    "text", ["a@1;4;1,2", "a@1;4;1,2,3,9", "a@1;4", "a@1;x;1,2,3,3", "a@1;99999999;1,2,3,3"]
)
def test_a_damaged_header_is_refused(tmp_path, text):
    file = tmp_path / "t.fasta"
    file.write_text(f">x_A codebook=a@1 size=64 sequence=AAAA environment={text}\n1,2,3,4\n")
    with pytest.raises(CorruptFile, match="t.fasta"):
        load(file)
