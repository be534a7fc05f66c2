"""Images of other sizes than that of training: windows that lie half over one another."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from protok.image import ImageTokenizer
from protok.image.pixels import read_pixels
from protok.image.windows import starts, through_windows
from tests.helpers.paths import ROOT
from tests.image.test_tokenizer import SMALL, images, tokenizer


@pytest.mark.parametrize("length", range(1, 41))
def test_windows_cover_a_side_and_lie_half_over_one_another(length):
    at = starts(length, 8)
    assert at[0] == 0 and at[-1] == max(0, length - 8)
    assert all(0 < b - a <= 4 for a, b in zip(at, at[1:], strict=False))


@pytest.mark.parametrize("shape", [(4, 4), (2, 6), (5, 3), (8, 11), (13, 4)])
def test_what_each_window_keeps_comes_back(shape):
    x = torch.rand(2, 3, *shape)
    seen = []

    def network(part):
        seen.append(part.shape)
        return part.repeat_interleave(3, 2).repeat_interleave(3, 3)

    y = through_windows(network, x, window=4, inward=1, outward=3, most=5)
    assert torch.allclose(y, x.repeat_interleave(3, 2).repeat_interleave(3, 3), atol=1e-6)
    assert all(part[0] <= 5 and part[2:] == (4, 4) for part in seen)


def test_any_size_comes_back_as_it_was_alone_and_in_a_batch():
    tok = tokenizer(shape=SMALL | {"window": 16})
    whole = tokenizer()
    x = [*images(2, 13, 18), *images(1, 5, 3), *images(1, 16, 16), *images(1, 40, 21)]
    for image, tokens in zip(x, tok.encode_batch(x), strict=True):
        assert np.array_equal(tok.encode(image).ids, tokens.ids)
        assert tok.decode(tokens).shape == tok.reconstruct(image).shape == image.shape
        same = np.array_equal(tokens.ids, whole.encode(image).ids)
        assert same == (image.shape == (16, 16, 3)), "of the size of training there is one window, the image"


@pytest.fixture(scope="module")
def pictures():
    """Held-out pictures of the first row of a figure, four times as large."""
    sheet = read_pixels(ROOT / "docs" / "figures" / "protok-image-imagenette.png")
    rows = [sheet[:64, left : left + 64] for left in range(0, sheet.shape[1], 66)]
    return [np.asarray(Image.fromarray(x).resize((256, 256), Image.BICUBIC)) for x in rows]


def test_the_shipped_model_knows_no_size_better_than_others(pictures):
    tok = ImageTokenizer.from_pretrained("protok-image")

    def errors(height, width):
        pairs = [(x[:height, :width], tok.decode(tok.encode(x[:height, :width]))) for x in pictures]
        return np.mean([(y.astype(float) - x) ** 2 for x, y in pairs], axis=(0, 3))

    usual = errors(64, 64).mean()
    for shape in ((256, 256), (150, 191), (67, 65), (60, 61), (40, 24), (20, 20)):
        error = errors(*shape)
        assert error.shape == shape and error.mean() < 2 * usual, shape
        # There is no stripe, at the right and lower edge or where windows meet.
        for lines in (error.mean(0), error.mean(1)):
            assert lines[-8:].mean() < 2 * error.mean() and lines.max() < 5 * error.mean(), shape


def test_the_model_says_the_size_of_its_windows(tmp_path):
    tok = tokenizer(shape=SMALL | {"window": 16})
    config = json.loads((tok.save_pretrained(tmp_path / "m") / "config.json").read_text())
    assert config["model"]["window"] == 16
    again = ImageTokenizer.from_pretrained(tmp_path / "m")
    assert np.array_equal(again.encode(images(1, 30, 30)[0]).ids, tok.encode(images(1, 30, 30)[0]).ids)
    for window in (9, -4, 1 << 20):
        with pytest.raises(ValueError, match=f"window {window} is no multiple of factor 4 up to 2048"):
            tokenizer(shape=SMALL | {"window": window})
