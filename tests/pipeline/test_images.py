"""Folders of photographs to codes: resumed, with a table of errors and a sheet."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="images are an extra")

from PIL import Image

from protok.cli import main
from protok.errors import FormatError, Unsupported
from protok.image import load_codes
from protok.image.pixels import read_pixels, write_pixels
from protok.pipeline.encode import Stopped
from protok.pipeline.images import ImageOptions, encode_images
from tests.image.test_tokenizer import images, tokenizer

SHAPES = {"a": (16, 16), "b": (9, 30), "c/d": (40, 21)}


@pytest.fixture
def folder(tmp_path):
    """Three photographs and a file that is none, `b2.jpg`, which comes after two of them."""
    for i, (name, shape) in enumerate(SHAPES.items()):
        write_pixels(images(1, *shape, seed=i)[0], tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "b2.jpg").write_bytes(b"no image")
    return tmp_path / "in"


def test_photographs_of_any_size_become_codes_and_the_rest_rows_of_a_table(folder, tmp_path):
    tok, out = tokenizer(), tmp_path / "c.npz"
    summary = encode_images(folder, tok, out)
    assert (summary.files, summary.chains, summary.failed, summary.resumed) == (4, 3, 1, 0)
    assert [(i.name, i.height, i.width) for i in load_codes(out)] == [(n, *s) for n, s in SHAPES.items()]
    for image in load_codes(out):
        assert np.array_equal(image.ids, tok.encode(folder / f"{image.name}.png").ids)
    (header, row) = (tmp_path / "c.npz.errors.tsv").read_text().splitlines()
    assert row.split("\t")[0] == str(folder / "b2.jpg") and "is not an image" in row
    assert not (tmp_path / "c.npz.parts").exists()
    assert encode_images(folder, tok, out).resumed == 4, "a finished file knows what it was made of"


def test_a_job_goes_on_where_it_stopped(folder, tmp_path):
    tok, out = tokenizer(), tmp_path / "c.npz"
    with pytest.raises(Stopped, match="b2.jpg: is not an image"):
        encode_images(folder, tok, out, on_error="stop")
    assert not out.exists()
    write_pixels(images(1)[0], folder / "b2.jpg")
    summary = encode_images(folder, tok, out)
    assert (summary.resumed, summary.chains, summary.failed) == (2, 4, 0)
    encode_images(folder, tok, tmp_path / "at-once.npz")
    both = [load_codes(path) for path in (out, tmp_path / "at-once.npz")]
    assert all(a.name == b.name and np.array_equal(a.ids, b.ids) for a, b in zip(*both, strict=True))


def test_options_are_part_of_a_job(folder, tmp_path):
    tok, out = tokenizer(), tmp_path / "c.npz"
    options = ImageOptions(size=12, square=True, mirror=True, levels=2)
    assert encode_images(folder, tok, out, options=options).chains == 6
    codes = load_codes(out)
    assert [i.name for i in codes[:2]] == ["a", "a-mirrored"]
    assert {i.ids.shape for i in codes} == {(3, 3, 2)}
    with pytest.raises(ValueError, match="made otherwise: size 12, now not given"):
        encode_images(folder, tok, out)
    assert encode_images(folder, tok, out, overwrite=True).chains == 3
    with pytest.raises(Unsupported, match="the codes have 3 levels"):
        encode_images(folder, tok, out, options=ImageOptions(levels=4), overwrite=True)
    with pytest.raises(FormatError, match=r"written to .npz files"):
        encode_images(folder, tok, tmp_path / "c.parquet")


def test_an_image_in_an_array_file_is_an_input(tmp_path):
    np.savez(tmp_path / "x.npz", x=images(3))
    out = tmp_path / "c.npz"
    assert encode_images(tmp_path / "x.npz", tokenizer(), out).files == 3
    assert [i.name for i in load_codes(out)] == [f"x-train-0000{i}" for i in range(3)]


@pytest.mark.slow
def test_several_processes_say_the_same(folder, tmp_path):
    tok = tokenizer()
    encode_images(folder, tok, tmp_path / "one.npz")
    encode_images(folder, tok, tmp_path / "two.npz", jobs=2, timeout=100)
    both = [load_codes(tmp_path / f"{name}.npz") for name in ("one", "two")]
    assert all(a.name == b.name and np.array_equal(a.ids, b.ids) for a, b in zip(*both, strict=True))


def test_the_command_says_what_was_lost_and_draws_every_level(folder, tmp_path, capsys):
    model = str(tokenizer().save_pretrained(tmp_path / "m"))
    photo = Image.fromarray(images(1)[0])
    photo.putalpha(90)
    photo.save(folder / "clear.png")
    sheet = tmp_path / "sheet.png"
    command = ["image", "encode", str(folder), "-o", str(tmp_path / "c.npz"), "--model", model, "-v"]
    assert main.main([*command, "--sheet", str(sheet)]) == 1
    messages = capsys.readouterr().err
    assert "encoding: 5 of 5, 1 failed" in messages and "4 images" in messages
    assert "clear.png: transparent parts were laid over white" in messages
    assert "b2.jpg: is not an image" in messages
    # Originals and three levels of four images, the longest of them 96 pixels long and high.
    assert read_pixels(sheet).shape == (4 * 98 - 2, 4 * 98 - 2, 3)
