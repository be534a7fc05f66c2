"""The image tokenizer without training: networks, codes, files, and what it imports."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from protok.cli import main
from protok.common.settings import RecipeError
from protok.errors import CodebookMismatch, CorruptFile, FormatError, Unsupported
from protok.image import ImageConfig, ImageTokenizer, ImageTokens, load_codes, save_codes
from protok.image.config import CodebookConfig
from protok.image.dataset import find_images, open_pictures
from protok.image.losses import Perceptual, balance, discriminator_loss
from protok.image.network import Attention, ImageNetwork
from protok.image.pixels import write_pixels
from protok.quantize import ProVQ
from tests.helpers.models import vgg
from tests.helpers.paths import ROOT

SMALL = {"factor": 4, "patch": 2, "width": 8, "decoder_width": 8, "multiples": (1, 2)}


def tokenizer(seed=0, shape=None, **codebook):
    torch.manual_seed(seed)
    codebook = {"inner": "residual", "size": 16, "dim": 4, "levels": 3} | codebook
    config = ImageConfig(**(shape or SMALL), quantizer=CodebookConfig(**codebook))
    return ImageTokenizer(ImageNetwork(config).eval())


def images(n=3, h=16, w=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3)).astype(np.uint8)


@pytest.mark.slow
def test_importing_images_loads_no_protein_module():
    script = """
import sys, protok.image, protok.cli.image
assert "torch" not in sys.modules
import protok.image.tokenizer, protok.image.dataset, protok.image.metrics, protok.image.evaluate
import protok.image.training
of_proteins = ("structure", "tokens", "model", "tokenizers", "training", "pipeline", "analysis", "viz")
print(*[m for m in sys.modules if m.startswith(tuple(f"protok.{p}" for p in of_proteins))])
print(*[m for m in ("biotite", "gemmi", "pyarrow") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_both_tokenizers_hold_the_same_quantizer():
    from protok.model.config import ShapesConfig
    from protok.model.network import ShapeNetwork

    protein, image = ShapeNetwork(ShapesConfig()).quantizer, ImageNetwork(ImageConfig()).quantizer
    assert type(protein) is type(image) is ProVQ
    assert type(protein.inner) is type(image.inner)
    state = {key: value.shape for key, value in protein.state_dict().items()}
    assert state.keys() == image.state_dict().keys()


@pytest.mark.parametrize(
    ("factor", "patch", "multiples"), [(4, 1, (1, 1, 2)), (4, 4, (1,)), (8, 2, (1, 1, 2)), (16, 4, (1, 2, 2))]
)
def test_a_token_covers_factor_by_factor_pixels(factor, patch, multiples):
    shape = {"width": 8, "decoder_width": 16, "attention": True}
    tok = tokenizer(shape={"factor": factor, "patch": patch, "multiples": multiples, **shape})
    x = images(1, 32, 48)[0]
    tokens = tok.encode(x)
    assert tokens.ids.shape == (32 // factor, 48 // factor, 3)
    assert tok.decode(tokens).shape == x.shape
    assert tok.embed(x).shape == (32 // factor, 48 // factor, 4)


@pytest.mark.parametrize(
    "wrong", [{"factor": 6}, {"patch": 8, "factor": 4}, {"multiples": (1, 2, 2)}, {"patch": 3}]
)
def test_shapes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(RecipeError):
        ImageConfig(**{**SMALL, **wrong})


@pytest.mark.parametrize("kind", ["vq", "simvq", "fsq", "lfq", "residual", "provq"])
def test_every_quantizer_works_and_trains(kind):
    torch.manual_seed(0)
    config = ImageConfig(**SMALL, quantizer=CodebookConfig(kind=kind, size=16, dim=4, levels=2))
    network = ImageNetwork(config).train()
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    out = network(x)
    ((out.x - x).square().mean() + out.quantized.loss).backward()
    assert network.encoder[1].weight.grad.abs().sum() > 0
    tok = ImageTokenizer(network.eval())
    tokens = tok.encode(images(1)[0])
    assert tokens.levels == (2 if kind == "residual" else 1)
    assert tok.decode(tokens).shape == (16, 16, 3)


def test_unknown_kinds_are_named():
    with pytest.raises(ValueError, match="'vqq' is not one of provq, vq.*residual"):
        ImageNetwork(ImageConfig(quantizer=CodebookConfig(kind="vqq")))
    with pytest.raises(ValueError, match="update"):
        ImageNetwork(ImageConfig(quantizer=CodebookConfig(update="much")))


def test_a_batch_gives_what_single_images_give():
    tok = tokenizer()
    x = [*images(3), *images(2, 12, 20, seed=1)]
    together = tok.encode_batch(x, names=list("abcde"))
    for image, tokens in zip(x, together, strict=True):
        assert np.array_equal(tok.encode(image).ids, tokens.ids)
    assert [t.name for t in together] == list("abcde")
    decoded = tok.decode_batch(together)
    for tokens, pixels in zip(together, decoded, strict=True):
        assert np.abs(tok.decode(tokens).astype(int) - pixels).max() <= 1
    # Rows of pixels fall to their own images: another image has other codes.
    assert not np.array_equal(together[0].ids, together[1].ids)


def test_latents_lie_where_their_pixels_do():
    tok = tokenizer()
    grey = np.full((64, 64, 3), 90, np.uint8)

    def strongest(row, column):
        x = grey.copy()
        x[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
        moved = np.abs(tok.embed(x) - tok.embed(grey)).max(-1)
        return np.array(np.unravel_index(moved.argmax(), moved.shape))

    first = strongest(6, 8)
    assert np.abs(first - (6, 8)).max() <= 2
    assert np.array_equal(strongest(9, 7) - first, (3, -1))


def test_odd_sizes_come_back_as_they_were():
    tok = tokenizer()
    x = images(1, 13, 18)[0]
    tokens = tok.encode(x)
    assert tokens.ids.shape == (4, 5, 3) and (tokens.height, tokens.width) == (13, 18)
    assert tok.decode(tokens).shape == x.shape == tok.reconstruct(x).shape
    assert tokens.bits_per_pixel == pytest.approx(4 * 5 * 3 * 4 / (13 * 18))
    assert tokens.prefix(1).bits_per_pixel == pytest.approx(tokens.bits_per_pixel / 3)
    with pytest.raises(ValueError, match="4 of 3 levels"):
        tokens.prefix(4)


def test_a_prefix_decodes_like_the_sum_of_its_levels():
    tok = tokenizer()
    tokens = tok.encode(images(1)[0])
    coarse = tok.decode(tokens.prefix(1))
    assert np.array_equal(coarse, tok.decode(tokens, levels=1))
    assert not np.array_equal(coarse, tok.decode(tokens))


def test_saved_and_loaded_models_agree(tmp_path):
    tok = tokenizer()
    x = images(1)[0]
    folder = tok.save_pretrained(tmp_path / "m", provenance={"steps": 3})
    again = ImageTokenizer.from_pretrained(folder)
    assert again.codebook == tok.codebook and again.provenance == {"steps": 3}
    tokens = tok.encode(x)
    assert np.array_equal(again.encode(x).ids, tokens.ids)
    assert np.abs(again.decode(tokens).astype(int) - tok.decode(tokens)).max() <= 1
    third = ImageTokenizer.from_pretrained(again.save_pretrained(tmp_path / "n"))
    assert np.array_equal(third.decode(tokens), again.decode(tokens))


def test_the_network_of_the_recipe_fits_in_the_wheel(tmp_path):
    from protok.image.config import read_image_recipe

    recipe = read_image_recipe(ROOT / "recipes" / "image" / "protok-image.toml")
    tok = ImageTokenizer(ImageNetwork(recipe.model).eval())
    tok.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 6e6


def test_other_codebooks_are_refused():
    tok, other = tokenizer(0), tokenizer(1)
    assert tok.codebook != other.codebook
    with pytest.raises(CodebookMismatch, match="decode with the model that made them"):
        other.decode(tok.encode(images(1)[0]))
    tokens = tok.encode(images(1)[0])
    with pytest.raises(CodebookMismatch, match="0..15"):
        tok.decode(ImageTokens(tokens.ids + 16, 16, tok.codebook, 16, 16, 4))


def test_the_fingerprint_follows_what_the_ids_depend_on():
    tok = tokenizer(inner="fsq", size=64, dim=2)
    with torch.no_grad():
        tok.network.decoder[0].weight.mul_(2)
        same = ImageTokenizer(tok.network).codebook
        tok.network.encoder[1].weight.mul_(2)
    assert same == tok.codebook != ImageTokenizer(tok.network).codebook


def test_other_precisions_are_refused(tmp_path):
    tok, (image,) = tokenizer(), images(1)
    codes = tok.encode(image)
    tok.network.bfloat16()
    for use in (lambda: tok.encode(image), lambda: tok.decode(codes), lambda: tok.save_pretrained(tmp_path)):
        with pytest.raises(Unsupported, match="weights in bfloat16; load the model again"):
            use()


def test_a_continuous_model_says_so():
    tok = tokenizer(kind="none")
    x = images(1)[0]
    assert tok.reconstruct(x).shape == x.shape and tok.codebook.endswith("@continuous")
    with pytest.raises(Unsupported, match="continuous"):
        tok.encode(x)


def test_models_that_are_not_there_name_the_remedy(tmp_path):
    with pytest.raises(FormatError, match="no model 'nothing'.*one of protok-image"):
        ImageTokenizer.from_pretrained("nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match="says kind .*it is for protok encode"):
        ImageTokenizer.from_pretrained(tmp_path)
    tok = tokenizer()
    folder = tok.save_pretrained(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["width"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="do not fit"):
        ImageTokenizer.from_pretrained(folder)


def test_codes_come_back_from_their_file(tmp_path):
    residual, flat = tokenizer(), tokenizer(inner="vq")
    tokens = residual.encode_batch([*images(2), images(1, 9, 14)[0]], names=["a", "b", "é/c"])
    tokens += flat.encode_batch(images(1))
    back = load_codes(save_codes(tokens, tmp_path / "x" / "c.npz"))
    assert [repr(image) for image in back] == [repr(image) for image in tokens]
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(back, tokens, strict=True))
    assert load_codes(save_codes([], tmp_path / "none.npz")) == []


def test_files_without_codes_are_refused(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(FormatError, match="no such file"):
        load_codes(path)
    path.write_bytes(b"no archive")
    with pytest.raises(FormatError, match="protok image encode"):
        load_codes(path)
    save_codes(tokenizer().encode_batch(images(2)), path)
    with np.load(path) as held:
        table = dict(held)
    np.savez(path, **{**table, "ids": table["ids"][:-1]})
    with pytest.raises(CorruptFile, match="c.npz.*do not fit"):
        load_codes(path)
    np.savez(path, **{**table, "ids": table["ids"] + 99})
    with pytest.raises(CorruptFile, match="not in 0..15"):
        load_codes(path)
    for name, odd in [("ids", table["ids"].astype("S3")), ("size", table["size"][:, None])]:
        np.savez(path, **{**table, name: odd})
        with pytest.raises(CorruptFile, match="c.npz.*do not fit"):
            load_codes(path)


def test_attention_reaches_the_whole_image():
    torch.manual_seed(0)
    layer = Attention(8, "group")
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_perceptual_distance_needs_its_weights(tmp_path):
    loss = Perceptual(vgg(tmp_path / "vgg.safetensors"))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    near, far = x + 0.01 * torch.randn_like(x), -x
    assert loss(x, x) == 0 < loss(near, x) < loss(far, x)
    assert not any(p.requires_grad for p in loss.parameters())
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    for name, message in (("odd.pth", "not the weights of a VGG"), ("none.pth", "cannot be read")):
        with pytest.raises(FormatError, match=message):
            Perceptual(tmp_path / name)


def test_losses_of_the_contest():
    real, fake = torch.full((4,), 2.0), torch.full((4,), -2.0)
    assert discriminator_loss(real, fake) == 0 < discriminator_loss(fake, real)
    last = torch.ones(3, requires_grad=True)
    assert float(balance(6 * last.sum(), 2 * last.sum(), last)) == pytest.approx(3, rel=1e-3)


def test_a_file_cut_off_says_what_to_do(tmp_path):
    x = np.zeros((2, 16, 16, 3), np.uint8)
    files = {
        load_codes: save_codes(
            [ImageTokens(np.zeros((2, 2), np.int32), 8, "m@1", 16, 16, 8)], tmp_path / "c.npz"
        )
    }
    np.savez(tmp_path / "x.npz", x=x)
    files[open_pictures] = tmp_path / "x.npz"
    for read, path in files.items():
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(FormatError, match=path.name):
            read(path)


def test_codes_that_cannot_be_written_spare_the_file_that_is_there(tmp_path, monkeypatch):
    image = ImageTokens(np.zeros((2, 2), np.int32), 8, "m@1", 16, 16, 8, "one")
    path = save_codes([image], tmp_path / "c.npz")

    def stopped(handle, **_):
        handle.write(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_codes([image, image], path)
    assert [t.name for t in load_codes(path)] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


def test_images_of_one_name_are_not_written_over_each_other(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow")
    model = str(tokenizer().save_pretrained(tmp_path / "m"))
    shades = {"a.png": 0, "a.bmp": 90, "a-2.png": 180, "a-mirrored.png": 255}
    for name, shade in shades.items():
        write_pixels(np.full((8, 8, 3), shade, np.uint8), tmp_path / "in" / name)
    assert len({image.name for image in find_images([tmp_path / "in"])}) == 4
    codes, out = str(tmp_path / "c.npz"), tmp_path / "out"
    encode = ["image", "encode", str(tmp_path / "in"), "-o", codes, "--model", model, "--mirror"]
    assert main.main(encode) == 0
    assert main.main(["image", "decode", codes, "-o", str(out), "--model", model]) == 0
    assert len(list(out.iterdir())) == 8


def test_ids_alone_decode_to_the_whole_squares():
    model = tokenizer()
    codes = model.encode(images(n=1)[0])
    for ids in (codes.ids, codes.ids.tolist(), torch.from_numpy(codes.ids)):
        assert np.array_equal(model.decode(ids), model.decode(codes))
    assert np.array_equal(model.decode_batch(codes.ids[None])[0], model.decode(codes))
    assert np.array_equal(model.decode(codes.ids, levels=2), model.decode(codes, levels=2))
    cropped = model.encode(images(n=1, h=15)[0])
    assert model.decode(cropped).shape == (15, 16, 3) and model.decode(cropped.ids).shape == (16, 16, 3)
    with pytest.raises(CodebookMismatch, match="give ids in 0..15, with at most 3 levels"):
        model.decode(codes.ids + 16)
