"""What codes cost with an entropy coder, and streams of them."""

import numpy as np
import pytest

from protok.errors import CodebookMismatch, CorruptFile, Unsupported
from protok.image import ImageTokenizer, ImageTokens
from protok.image.coding import code_lengths, compress, decompress, learn_contexts
from tests.image.test_tokenizer import SMALL, tokenizer

CONTEXT = SMALL | {"context": 12}


def striped(tok, n=60, h=6, w=8, levels=3, seed=0):
    """Codes that follow from the place before them, but for one in ten; the levels from one another."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        ids = np.zeros((h, w, levels), np.int32)
        ids[..., 0] = (rng.integers(16, size=(h, 1)) + np.arange(w)) % 16
        ids[..., 1] = (ids[..., 0] * 3 + 1) % 16
        ids[..., 2] = rng.integers(16, size=(h, w))
        noise = rng.random(ids.shape) < 0.1
        ids[noise] = rng.integers(16, size=noise.sum())
        out.append(ImageTokens(ids, 16, tok.codebook, 4 * h, 4 * w, 4, str(k)))
    return out


@pytest.fixture(scope="module")
def learnt():
    tok = tokenizer(shape=CONTEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protok.image.coding.STEPS", 200)
        learn_contexts(tok, striped(tok))
    return tok


def test_contexts_spare_the_bits_of_what_can_be_foreseen(learnt):
    codes = striped(learnt, 20, seed=1)
    bits = np.array(code_lengths(learnt, codes)).sum() / (20 * 6 * 8)
    # Of 12 bits without contexts; a level that is noise has 4 in any case.
    assert 5 < bits < 10.5
    first = np.array(code_lengths(learnt, [image.prefix(1) for image in codes])).sum() / (20 * 6 * 8)
    assert first < 3.6


def test_bits_are_those_of_a_stream(learnt):
    pytest.importorskip("constriction", reason="streams are an extra")
    codes = striped(learnt, 12, seed=2) + striped(learnt, 3, h=2, w=5, seed=3)
    codes += [image.prefix(2) for image in striped(learnt, 2, seed=4)]
    codes = [codes[i] for i in np.random.default_rng(0).permutation(len(codes))]
    data = compress(learnt, codes)
    head = len(compress(learnt, codes[:0])) + sum(len(image.name) + 8 for image in codes)
    assert abs(8 * len(data) - sum(code_lengths(learnt, codes))) < 64 + 8 * head
    for image, again in zip(codes, decompress(learnt, data), strict=True):
        assert np.array_equal(image.ids, again.ids) and repr(image) == repr(again)


def test_what_is_no_stream_of_this_model_is_refused(learnt):
    pytest.importorskip("constriction", reason="streams are an extra")
    other = tokenizer(1, shape=CONTEXT)
    codes = striped(learnt, 2)
    with pytest.raises(CodebookMismatch, match="0: its codes are not of"):
        compress(other, codes)
    with pytest.raises(CodebookMismatch, match="decode with the model that made them"):
        decompress(other, compress(learnt, codes))
    with pytest.raises(CorruptFile, match="no stream of codes"):
        decompress(learnt, b"PNG")
    with pytest.raises(Unsupported, match=r"model.context above 0"):
        code_lengths(tokenizer(), codes)


def test_chances_stay_with_the_model(learnt, tmp_path):
    again = ImageTokenizer.from_pretrained(learnt.save_pretrained(tmp_path / "m"))
    assert again.codebook == learnt.codebook == tokenizer(shape=CONTEXT).codebook
    codes = striped(learnt, 3)
    assert code_lengths(again, codes) == pytest.approx(code_lengths(learnt, codes))
