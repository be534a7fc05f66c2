"""Images through codecs, as one picture, and what is said of models beside them."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="images are an extra")

from PIL import Image

from benchmarks.quantizers.codecs import LIST, Codec, apart, gap, tiled
from benchmarks.quantizers.evaluators import frechet
from benchmarks.tables.images import codecs_of


@pytest.fixture
def images():
    """Sixteen smooth images and sixteen of noise, by turns."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 4, 4, 3), dtype=np.uint8)
    made = [np.asarray(Image.fromarray(x).resize((64, 64), Image.BICUBIC)) for x in small]
    made[1::2] = list(rng.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8))
    return np.stack(made)


def test_a_picture_of_images_comes_apart_again(images):
    picture = tiled(images)
    assert picture.shape == (2 * 64, 16 * 64, 3)
    assert np.array_equal(picture[64:, 64:128], images[17])
    assert np.array_equal(apart(picture, 64), images)


def test_no_transform_of_jpeg_lies_over_two_images(images):
    """Beside noise or not, a smooth image comes back as it does alone."""
    made = Codec("jpeg", "JPEG", {}, images).at(20).images
    alone = Codec("jpeg", "JPEG", {}, np.stack([images[0]] * 16)).at(20).images
    # Colours of half the resolution are made smooth across borders when they are shown.
    assert np.abs(made[0, :62, :62].astype(int) - alone[0, :62, :62]).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_codec_comes_as_near_to_the_bits_as_its_qualities_do(images, kind):
    codec = Codec(kind.lower(), kind, {}, images)
    made = codec.near(2.0)
    others = [codec.at(quality).bits for quality in (made.quality - 1, made.quality + 1)]
    assert abs(made.bits - 2) <= min(abs(bits - 2) for bits in others)
    assert made.images.shape == images.shape and made.images.dtype == np.uint8


def test_the_distance_of_features_is_that_of_gaussians():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (50, 3)), rng.normal(0.5, 2, (70, 3))
    first, second = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ second @ root)).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second) - 2 * both
    assert frechet(a, b) == pytest.approx(expected)
    wide = rng.normal(size=(6, 40))
    assert frechet(wide, wide) == pytest.approx(0, abs=1e-9)


def test_what_is_nearer_is_better():
    better = gap([1.0, 2.0, 3.0], [2.0, 3.5, 4.5], more_is_better=False)
    assert better["mean"] == pytest.approx(4 / 3) and 0 < better["low"] < better["mean"] < better["high"]
    assert gap([1.0, 2.0, 3.0], [2.0, 3.5, 4.5], more_is_better=True)["high"] < 0


def test_the_list_of_the_test_and_its_table():
    names = LIST.read_text().splitlines()
    assert len(names) == 257 and len(set(names)) == 257
    scores = {
        "bits": 0.25,
        "psnr": 20.0,
        "ssim": 0.5,
        "stlpips-alex": 0.125,
        "frechet-efficientnet-lite0": 9.0,
    }
    interval = {"mean": 0.5, "low": -0.25, "high": 1.25}
    ours = {"what": "m", "levels": 2, "nominal_bits": 0.375, "entropy_coded": True} | scores
    other = {
        "what": "jpeg",
        "levels": 2,
        "quality": 7,
        "better_than_it": {"psnr": interval, "stlpips-alex": interval},
    }
    text = codecs_of({"rows": [ours, other | scores]})
    assert "| **m, 2 levels** | 0.375 | 0.250 | 20.00 |" in text
    assert "| jpeg, quality 7 |  | 0.250 | 20.00 | +0.50 [-0.25, +1.25] |" in text
