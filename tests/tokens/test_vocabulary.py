"""The vocabulary of a language model: there and back, and as Hugging Face tokenizers sees it."""

import json

import numpy as np
import pytest

from protok.errors import CodebookMismatch, FormatError
from protok.tokens.tokens import Tokens
from protok.tokens.vocabulary import SPECIALS, Vocabulary

CODEBOOK = "toy@3f2a91c0"
VOCABULARY = Vocabulary(CODEBOOK, 512)


def make(ids=(3, -1, 511, 0, 7), chain="AAABB", size=512, codebook=CODEBOOK):
    n = len(ids)
    return Tokens(
        ids=list(ids),
        size=size,
        codebook=codebook,
        sequence="K" * n,
        chain=list(chain),
        index=np.arange(n),
        icode=[""] * n,
        name="1aki",
    )


def test_ids_and_names():
    assert len(VOCABULARY) == 518 == len(VOCABULARY.names) == len(set(VOCABULARY.names))
    assert VOCABULARY.names[:8] == ["<pad>", "<bos>", "<eos>", "<break>", "<mask>", "<unk>", "<s0>", "<s1>"]
    assert VOCABULARY.names[-1] == "<s511>"
    assert VOCABULARY.encode(make()) == [1, 9, 5, 517, 3, 6, 13, 2]
    assert VOCABULARY.text(make()) == "<s3> <unk> <s511> <break> <s0> <s7>"
    assert Vocabulary.of(make()) == VOCABULARY
    assert all(isinstance(i, int) for i in VOCABULARY.encode(make()))


def test_decode_undoes_encode():
    tokens = VOCABULARY.decode(VOCABULARY.encode(make()), name="new")
    assert tokens.ids.tolist() == make().ids.tolist()
    assert tokens.chain.tolist() == list("AAABB")
    assert tokens.index.tolist() == [1, 2, 3, 1, 2]
    assert (tokens.sequence, tokens.codebook, tokens.name) == ("XXXXX", CODEBOOK, "new")


def test_chains_are_kept_apart_whatever_their_order():
    mixed = make(chain="ABABA")
    assert VOCABULARY.encode(mixed) == [1, 9, 517, 13, 3, 5, 6, 2]


@pytest.mark.parametrize(
    ("ids", "codes", "chains"),
    [
        ([1, 6, 7, 2], [0, 1], "AA"),
        ([6, 7], [0, 1], "AA"),
        ([0, 0, 1, 6, 7, 2, 0, 0], [0, 1], "AA"),
        ([1, 6, 2, 7, 1, 8], [0], "A"),
        ([1, 4, 5, 2], [-1, -1], "AA"),
        ([1, 3, 6, 3, 3, 7, 3, 2], [0, 1], "AB"),
        ([1, 2], [], ""),
        ([], [], ""),
    ],
)
def test_decode_takes_what_a_model_may_write(ids, codes, chains):
    for sequence in (ids, np.array(ids, int)):
        tokens = VOCABULARY.decode(sequence)
        assert tokens.ids.tolist() == codes and "".join(tokens.chain) == chains


def test_more_chains_than_letters():
    ids = [1] + [6, 3] * 60 + [2]
    chains = VOCABULARY.decode(ids).chain.tolist()
    assert len(set(chains)) == 60 and chains[25:28] == ["Z", "AA", "AB"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 518, 2], r"id 518 at position 1 is outside 0\.\.517"),
        ([1, -1, 2], "id -1 at position 1"),
        ([1, 6, 1, 2], "<bos> stands in the middle"),
    ],
)
def test_decode_refuses_what_is_no_structure(ids, message):
    with pytest.raises(FormatError, match=message):
        VOCABULARY.decode(ids)


@pytest.mark.parametrize("other", [{"codebook": "toy@00000000"}, {"size": 600}])
def test_tokens_of_another_codebook_are_refused_naming_both(other):
    for method in (VOCABULARY.encode, VOCABULARY.text):
        with pytest.raises(CodebookMismatch, match=r"1aki.*for the vocabulary of toy@3f2a"):
            method(make(**other))


def test_hugging_face_tokenizers_gives_the_same_ids(tmp_path):
    hugging = pytest.importorskip("tokenizers")
    VOCABULARY.write_tokenizer_json(tmp_path / "tokenizer.json")
    tokenizer = hugging.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == len(VOCABULARY)
    assert [tokenizer.id_to_token(i) for i in range(len(VOCABULARY))] == VOCABULARY.names

    tokens = make()
    text = VOCABULARY.text(tokens)
    assert tokenizer.encode(text).ids == VOCABULARY.encode(tokens)
    assert tokenizer.encode(text, add_special_tokens=False).ids == VOCABULARY.encode(tokens)[1:-1]
    assert tokenizer.encode(text, text).type_ids == [0] * 8 + [1] * 7
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == (f"<bos> {text} <eos>")
    assert tokenizer.encode("<s3> <s512>").ids == [1, 9, SPECIALS.index("<unk>"), 2]


def test_save_and_load(tmp_path):
    VOCABULARY.save(tmp_path / "lm")
    assert Vocabulary.load(tmp_path / "lm") == VOCABULARY
    config = json.loads((tmp_path / "lm/tokenizer_config.json").read_text())
    assert config["pad_token"] == "<pad>" and config["bos_token"] == "<bos>"
    config.pop("codebook")
    (tmp_path / "lm/tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"tokenizer_config\.json: .* names no codebook"):
        Vocabulary.load(tmp_path / "lm")
