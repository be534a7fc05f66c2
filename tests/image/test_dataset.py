"""Reading images as users have them, collections of them, and the scores."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="images are an extra")

from PIL import Image

from protok.errors import CorruptFile, FormatError, ProtokError
from protok.image import Scorer, as_pixels, contact_sheet, open_pictures
from protok.image.dataset import find_images, has_part
from protok.image.metrics import Gist
from protok.image.pixels import fitted, read_pixels, write_pixels


def noise(h=12, w=10, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def jpeg(pixels):
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG")
    return held.getvalue()


def test_everything_that_holds_an_image_gives_its_pixels(tmp_path):
    x = noise()
    path = write_pixels(x, tmp_path / "a" / "x.png")
    tensor = torch.from_numpy(x).movedim(-1, 0)
    for source in (path, str(path), Image.fromarray(x), x, x / 255, tensor, tensor / 255):
        assert np.array_equal(as_pixels(source), x), type(source)
    grey = as_pixels(x[..., 0])
    assert grey.shape == x.shape and np.array_equal(grey[..., 2], x[..., 0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 3, 4, 3)), "is not one image"),
        (np.zeros((3, 4, 5), np.uint8), "is not one image"),
        (np.full((4, 4, 3), 2.0), "lie in 0..1"),
        (np.full((4, 4, 3), np.nan), "lie in 0..1"),
        (np.zeros((4, 4, 3), int), "of type int64"),
        (np.zeros((0, 4, 3), np.uint8), "is not one image"),
    ],
)
def test_arrays_that_are_no_image_are_refused(wrong, message):
    with pytest.raises(FormatError, match=message):
        as_pixels(wrong)


def test_files_are_read_as_they_are_seen(tmp_path):
    x = noise()
    turned = Image.fromarray(x)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_pixels(tmp_path / "turned.png"), np.rot90(x, -1))

    clear = np.concatenate([x, np.zeros((12, 10, 1), np.uint8)], -1)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (read_pixels(tmp_path / "clear.png") == 255).all()

    deep = (np.arange(120).reshape(12, 10) * 540).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.abs(read_pixels(tmp_path / "deep.png")[..., 0] - deep / 257).max() <= 0.5

    Image.fromarray(x).convert("CMYK").save(tmp_path / "print.jpg")
    assert read_pixels(tmp_path / "print.jpg").shape == x.shape


def deep_png(pixels):
    """A PNG of 16 bits a channel, which Pillow does not write."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    h, w, _ = pixels.shape
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_what_pixels_do_not_have_of_a_file_is_said(tmp_path):
    x = noise()
    clear = Image.fromarray(np.concatenate([x, np.full((12, 10, 1), 90, np.uint8)], -1))
    clear.save(tmp_path / "clear.png")
    clear.putalpha(255)
    clear.save(tmp_path / "opaque.png")
    Image.fromarray(x[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey.png")
    (tmp_path / "colour.png").write_bytes(deep_png(x))
    Image.fromarray(x).save(tmp_path / "film.gif", save_all=True, append_images=[Image.fromarray(255 - x)])
    told = {
        "clear.png": ["transparent parts were laid over white"],
        "opaque.png": [],
        "grey.png": ["16 bits a channel were scaled to 8"],
        "colour.png": ["16 bits a channel were scaled to 8"],
        "film.gif": ["the first of 2 frames was taken"],
    }
    for name, expected in told.items():
        notes = []
        read_pixels(tmp_path / name, notes=notes)
        assert notes == expected, name
    assert np.array_equal(read_pixels(tmp_path / "colour.png"), x)


def test_size_is_that_of_the_shorter_side(tmp_path):
    path = write_pixels(noise(40, 64), tmp_path / "x.jpg")
    assert read_pixels(path, size=20).shape == (20, 32, 3)
    assert as_pixels(noise(10, 40), size=20).shape == (20, 80, 3)


def test_bad_files_are_named_errors(tmp_path, monkeypatch):
    whole = jpeg(noise(64, 64))
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, error in (("cut", CorruptFile), ("text", FormatError), ("empty", FormatError)):
        (path,) = tmp_path.glob(f"{name}.*")
        with pytest.raises(error, match=path.name):
            read_pixels(path)
    with pytest.raises(FormatError, match="nowhere.png: no such file"):
        read_pixels(tmp_path / "nowhere.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "floats.tif")
    with pytest.raises(FormatError, match="floats.tif.*no range"):
        read_pixels(tmp_path / "floats.tif")
    monkeypatch.setattr("protok.image.pixels.LARGEST", 100)
    large = write_pixels(noise(12, 10), tmp_path / "large.png")
    with pytest.raises(FormatError, match="10 x 12 pixels.*--size"):
        read_pixels(large)
    assert read_pixels(large, size=5).shape == (6, 5, 3)


@pytest.fixture
def imagenet(tmp_path):
    """Three classes in ImageNet's layout; the red of an image is its number."""
    number = 0
    for part, each in (("train", 3), ("val", 2)):
        for wnid in ("n03", "n01", "n02"):
            for i in range(each):
                x = np.full((8, 12, 3), number, np.uint8)
                write_pixels(x, tmp_path / "in" / part / wnid / f"{wnid}_{i}.png")
                number += 1
    (tmp_path / "in" / "train" / "n01" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def test_imagenets_layout(imagenet):
    train, valid = open_pictures(imagenet), open_pictures(imagenet, "valid")
    assert (len(train), len(valid)) == (9, 6) and has_part(imagenet, "valid")
    assert train.classes == valid.classes == ("n01", "n02", "n03")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert train.names[0] == "n01/n01_0.png" and train.pixels(0)[0, 0, 0] == 3
    assert np.array_equal(train[6:].labels, [2, 2, 2]) and train[6:].pixels(0)[0, 0, 0] == 0
    assert train.squares(8).shape == (9, 8, 8, 3) and train.squares(4, most=2).shape[0] == 2


def test_a_list_of_classes_keeps_those(imagenet, tmp_path):
    listed = tmp_path / "two.txt"
    listed.write_text("n03 a dog\n# a comment\n\nn02\n")
    kept = open_pictures(imagenet, "valid", classes=listed)
    assert kept.classes == ("n03", "n02") and kept.labels.tolist() == [1, 1, 0, 0]
    listed.write_text("n03\nn77\n")
    with pytest.raises(FormatError, match="1 of 2 classes are not among the images: n77"):
        open_pictures(imagenet, classes=listed)
    with pytest.raises(FormatError, match="cannot read the list"):
        open_pictures(imagenet, classes=tmp_path / "none.txt")


def test_flat_folders_single_files_and_nothing(tmp_path):
    for i in range(3):
        write_pixels(noise(seed=i), tmp_path / "flat" / f"{i}.png")
    flat = open_pictures(tmp_path / "flat")
    assert len(flat) == 3 and flat.classes == () and (flat.labels == -1).all()
    assert not has_part(tmp_path / "flat", "valid")
    assert len(open_pictures(tmp_path / "flat" / "1.png")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="holds no images"):
        open_pictures(tmp_path / "empty")
    with pytest.raises(FormatError, match="no such file or folder"):
        open_pictures(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="no such file or folder"):
        find_images([tmp_path / "nowhere"])
    images = find_images([tmp_path / "flat", tmp_path / "flat" / "1.png"])
    assert [image.name for image in images] == ["0", "1", "2", "1-2"]


def test_npz_files(tmp_path):
    x = np.stack([noise(seed=i) for i in range(4)])
    np.savez(tmp_path / "x.npz", x=x)
    held = open_pictures(tmp_path / "x.npz")
    assert len(held) == 4 and np.array_equal(held.pixels(2), x[2])

    files = [jpeg(pixels) for pixels in x]
    ends = np.cumsum([0, *map(len, files)])
    raw = np.frombuffer(b"".join(files), np.uint8)
    table = {"train_bytes": raw, "train_off": ends, "train_y": [1, 0, 1, 0], "wnids": ["n1", "n2"]}
    np.savez(tmp_path / "j.npz", **table)
    held = open_pictures(tmp_path / "j.npz")
    assert held.labels.tolist() == [1, 0, 1, 0] and held.classes == ("n1", "n2")
    expected = np.asarray(Image.open(io.BytesIO(files[3])))
    assert np.array_equal(held.pixels(3), expected)
    assert not has_part(tmp_path / "j.npz", "valid")
    cut = dict(table, train_off=np.minimum(ends, ends[-1] - 40))
    np.savez(tmp_path / "cut.npz", **cut)
    with pytest.raises(ProtokError, match=r"cut.npz\[3\]"):
        open_pictures(tmp_path / "cut.npz").pixels(3)
    np.savez(tmp_path / "odd.npz", y=x)
    with pytest.raises(FormatError, match="holds y, no images"):
        open_pictures(tmp_path / "odd.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK no")
    with pytest.raises(FormatError, match="bad.npz"):
        open_pictures(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_off": np.array([0, 4, 0], np.uint64)},
        {"train_off": np.array([0.0, 4.0])},
        {"train_off": np.array(["0", "4"])},
        {"train_off": np.zeros((2, 2), int)},
        {"x": np.array(3)},
    ],
)
def test_npz_files_whose_parts_mean_nothing_are_refused(tmp_path, arrays):
    parts = {} if "x" in arrays else {"train_bytes": np.zeros(4, np.uint8)}
    np.savez(tmp_path / "a.npz", **parts, **arrays)
    with pytest.raises(FormatError, match="a.npz: cannot be read"):
        open_pictures(tmp_path / "a.npz")


def test_the_projects_images(shared):
    held = open_pictures(shared("images/imagenette_64_jpeg.npz"), "valid")
    assert len(held) == 3925 and len(held.classes) == 10
    assert held.squares(64, 2).shape == (2, 64, 64, 3)
    assert len(open_pictures(shared("images/imagenet1k_64.npz"))) == 1000


def test_a_digest_sees_changed_images(tmp_path):
    x = np.stack([noise(seed=i) for i in range(2)])
    np.savez(tmp_path / "a.npz", x=x)
    digest = open_pictures(tmp_path / "a.npz").digest()
    x[1, 0, 0, 0] ^= 1
    np.savez(tmp_path / "a.npz", x=x)
    assert open_pictures(tmp_path / "a.npz").digest() != digest


def test_crops_lie_inside_and_move(imagenet):
    held = open_pictures(imagenet)
    ramp = np.tile(np.arange(16, dtype=np.uint8)[None, :, None], (8, 1, 3))
    held = type(held)([ramp], ["r"], np.array([-1]))
    assert held.square(0, 8)[0, 0, 0] == 4
    starts = {int(held.square(0, 8, np.random.default_rng(i))[0, 0, 0]) for i in range(60)}
    assert starts == set(range(9))


def test_a_sheet_holds_its_images():
    x = noise(4, 4)
    sheet = contact_sheet([[x, x], [x]], gap=1, zoom=2)
    assert sheet.shape == (17, 17, 3) and (sheet[9:, 9:] == 255).all()
    assert np.array_equal(sheet[:8:2, :8:2], x)
    wide = contact_sheet([[x, noise(2, 6)]], gap=1)
    assert wide.shape == (4, 13, 3) and np.array_equal(wide[:, 1:5], x)
    assert np.array_equal(wide[1:3, 7:], noise(2, 6)) and (wide[3, 7:] == 255).all()
    with pytest.raises(ValueError, match="needs images"):
        contact_sheet([])


def test_images_on_a_sheet_are_about_as_long():
    assert fitted(noise(10, 30), 100).shape == (30, 90, 3)
    assert fitted(noise(100, 400), 100).shape == (25, 100, 3)


def smooth(n, side=32, seed=0):
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (4, 4, 3)).astype(np.uint8) for _ in range(n)]
    return np.stack([np.asarray(Image.fromarray(s).resize((side, side))) for s in small])


def test_scores_are_those_of_their_definitions():
    x = smooth(6)
    y = np.clip(x.astype(int) + np.random.default_rng(0).integers(-9, 10, x.shape), 0, 255)
    y = y.astype(np.uint8)
    whole, parts = Scorer(), Scorer()
    whole.add(y, x)
    parts.add(y[:4], x[:4])
    parts.add(y[4:], x[4:])
    scores = whole.result()
    each = ((x.astype(float) - y) ** 2).mean((1, 2, 3))
    assert scores["mse"] == pytest.approx(each.mean() / 255**2, rel=1e-5)
    assert scores["psnr"] == pytest.approx((10 * np.log10(255**2 / each)).mean(), rel=1e-5)
    assert 0.3 < scores["ssim"] < 1
    assert "rfid" not in scores and scores["evaluator"].endswith("Gist; reference: 6 originals")
    for key, value in parts.result().items():
        assert value == pytest.approx(scores[key], rel=1e-3) if isinstance(value, float) else True
    copy = Scorer()
    copy.add(x, x)
    perfect = copy.result()
    assert perfect["psnr"] == 100 and perfect["mse"] == 0 and perfect["ssim"] == pytest.approx(1)
    assert perfect["frechet_gist"] < 1e-3 * scores["frechet_gist"]


def test_the_frechet_distance_is_the_closed_form():
    x, y = smooth(400, seed=1), smooth(400, seed=2)
    y = (y // 2 + 40).astype(np.uint8)
    scorer = Scorer()
    scorer.add(y, x)
    features = Gist()
    a, b = (features(torch.from_numpy(i).movedim(-1, 1)).double().numpy() for i in (x, y))
    ca, cb = np.cov(a.T), np.cov(b.T)
    values = np.sqrt(np.linalg.eigvals(ca @ cb).astype(complex)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb) - 2 * values.sum()
    assert scorer.result()["frechet_gist"] == pytest.approx(expected, rel=1e-3)


def test_gist_sees_blur_colour_and_orientation():
    assert Gist()(torch.zeros(1, 3, 20, 20, dtype=torch.uint8)).shape == (1, Gist.num_features)
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert Gist()(flat)[:, 24:].abs().max() < 1e-3
    stripes = (torch.arange(32) // 2 % 2 * 200).byte()
    across = stripes.expand(1, 3, 32, 32).contiguous()
    down = across.transpose(-1, -2).contiguous()
    a, b = Gist()(across)[0], Gist()(down)[0]
    # Orientation 0 varies along x, orientation 3 along y; 2 x 2 cells each.
    assert a[24:28].min() > 10 * a[36:40].max() and b[36:40].min() > 10 * b[24:28].max()
    with pytest.raises(ValueError, match="at least 20"):
        Gist()(flat[..., :19])


def test_scores_refuse_what_they_cannot_compare(tmp_path):
    scorer = Scorer(frechet=False)
    with pytest.raises(ValueError, match="no images"):
        scorer.result()
    with pytest.raises(ValueError, match="not alike"):
        scorer.add(noise()[None], noise(6)[None])
    scorer.add(noise(8, 8)[None], noise(8, 8, 1)[None])
    assert np.isnan(scorer.result()["ssim"]) and "evaluator" not in scorer.result()
    small = Scorer()
    small.add(noise(12, 12)[None], noise(12, 12, 1)[None])
    assert np.isnan(small.result()["frechet_gist"]) and "reference: 0" in small.result()["evaluator"]
    with pytest.raises(ProtokError, match="no such file of Inception weights"):
        Scorer(inception=tmp_path / "none.pth")
    (tmp_path / "odd.pth").write_bytes(b"nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ProtokError, match="torch-fidelity"):
            Scorer(inception=tmp_path / "odd.pth")
