"""Images of other sizes than that of training: windows that lie half over one another."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from protok.image import ImageTokenizer
from protok.image.pixels import read_pixels
from protok.image.tokenizer import to_unit
from protok.image.windows import reach, starts, through_tiles, through_windows
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


LOCAL = SMALL | {"norm": "place", "linear": True}


@pytest.mark.parametrize(
    "shape", [{}, {"factor": 8, "multiples": (1, 1, 2)}, {"patch": 4, "multiples": (1,)}]
)
def test_a_local_network_reaches_as_far_as_is_counted(shape):
    network = tokenizer(shape=LOCAL | shape).network
    factor, middle = network.config.factor, 12
    x = torch.zeros(1, 3, 25 * factor, 25 * factor)
    x[..., middle * factor, middle * factor] = torch.nan
    z = torch.zeros(1, 4, 25, 25)
    z[..., middle, middle] = torch.nan
    with torch.no_grad():
        seen = network.latents(x)[0, :, :, 0].isnan().any(0).nonzero().flatten()
        drawn = network.pixels(z.movedim(1, -1))[0, 0].isnan().any(0).nonzero().flatten()
    # In places and in pixels: what is counted is enough, and no more than a place too much.
    counted = reach(network.encoder, 1) / factor
    assert counted - 1 < max(middle - seen[0], seen[-1] - middle) <= counted + 1
    counted = reach(network.decoder, factor)
    far = max(middle * factor - drawn[0], drawn[-1] + 1 - (middle + 1) * factor)
    assert counted - factor < far <= counted


def test_tiles_of_a_local_network_are_the_whole_image(monkeypatch):
    monkeypatch.setattr("protok.image.windows.TILE", 24)
    tok = tokenizer(shape=LOCAL)
    (x,) = images(1, 100, 67)
    with torch.no_grad():
        z = tok.network.latents(torch.nn.functional.pad(to_unit(x[None]), (0, 1, 0, 0), mode="replicate"))
        whole = tok.network.pixels(z)[0, :, :, :67].movedim(0, -1)
    assert np.abs(tok.embed(x) - z[0].numpy()).max() < 1e-5
    again = tok.reconstruct(x)
    assert np.abs(again - ((whole.clamp(-1, 1) + 1) * 127.5).numpy()).max() <= 0.51
    # With too little around them, tiles are seen.
    latents = lambda part: tok.network.latents(part).movedim(-1, 1)  # noqa: E731
    with torch.no_grad():
        cut = through_tiles(latents, to_unit(x[None, :, :64]), 1, inward=4, outward=1)
    assert (cut[0].movedim(0, -1) - z[0, :, :16]).abs().max() > 1e-3


def test_a_crop_has_the_codes_of_the_whole():
    """Of a local network, away from the borders: shifted by whole squares of pixels, nothing changes."""
    tok = tokenizer(shape=LOCAL)
    (x,) = images(1, 120, 120)
    whole, crop = tok.encode(x), tok.encode(x[16:112, 24:112])
    around = -(-reach(tok.network.encoder, 1) // 4)
    inside = crop.ids[around : 24 - around, around : 22 - around]
    assert inside.size
    assert np.array_equal(inside, whole.ids[4 + around : 28 - around, 6 + around : 28 - around])
    far = 4 * -(-reach(tok.network.decoder, 4) // 4)
    part = tok.decode(whole.ids[4:28, 6:28])[far : 96 - far, far : 88 - far].astype(int)
    assert part.size
    assert np.abs(part - tok.decode(whole)[16 + far : 112 - far, 24 + far : 112 - far]).max() <= 1


def test_a_linear_path_starts_from_principal_components():
    tok = tokenizer(shape=LOCAL)
    smooth = np.stack([np.asarray(Image.fromarray(x).resize((16, 16))) for x in images(40, 4, 4)])
    tok.network.begin(to_unit(smooth))
    squares = smooth.reshape(40, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 48) / 127.5 - 1.0
    rest = np.linalg.svd(squares - squares.mean(0), compute_uv=False)[4:]
    again = np.stack([tok.reconstruct(x) for x in smooth]).astype(float)
    assert ((again - smooth) ** 2).sum() / 127.5**2 == pytest.approx((rest**2).sum(), rel=0.01)


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
