"""Whole training runs of tiny image tokenizers, the command line on them, and the recipes."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="images are an extra")

from PIL import Image

from protok.cli import main
from protok.common.callbacks import read_metrics
from protok.common.settings import RecipeError
from protok.image import ImageTokenizer, load_codes, open_pictures, read_image_recipe
from protok.image import training as train
from protok.image.evaluate import progressive, score
from protok.image.network import ImageNetwork
from protok.image.pixels import read_pixels, write_pixels
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

RECIPES = sorted((ROOT / "recipes" / "image").glob("*.toml"))
TINY = {
    "model.name": "tiny",
    "model.factor": 4,
    "model.patch": 2,
    "model.width": 16,
    "model.decoder_width": 16,
    "model.multiples": [1, 1],
    "model.quantizer.inner": "residual",
    "model.quantizer.size": 16,
    "model.quantizer.dim": 8,
    "model.quantizer.levels": 3,
    "loss.pixel": "l2",
    "data.size": 16,
    "optim.steps": 200,
    "optim.batch": 8,
    "optim.lr": 1.5e-2,
    "optim.lr_warmup_steps": 5,
    "optim.precision": "32",
    "valid.every": 100,
    "valid.images": 8,
}
FEW = TINY | {"optim.steps": 16, "valid.every": 8}


def smooth(n, seed=0):
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (3, 3, 3)).astype(np.uint8) for _ in range(n)]
    return [np.asarray(Image.fromarray(s).resize((20, 16), Image.BICUBIC)) for s in small]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, x in enumerate(smooth(56)):
        part = "val" if i >= 48 else "train"
        write_pixels(x, folder / part / f"class{i % 2}" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """Folder of a run of 200 steps."""
    out = tmp_path_factory.mktemp("run") / "image"
    train.run(images=pictures, out=out, overrides=TINY)
    return out


def rows(out):
    return read_metrics(out / "metrics.csv")


def test_reconstruction_improves_over_training(trained, pictures):
    valid = [r for r in rows(trained) if "valid_mse" in r]
    assert len(valid) == 2
    assert all(r[f"valid_{k}"] for r in valid for k in ("usage", "perplexity", "code_dimension"))
    torch.manual_seed(0)
    tok = ImageTokenizer.from_pretrained(trained / "model")
    untrained = ImageTokenizer(ImageNetwork(tok.network.config).eval())
    before, after = (score(t, pictures, size=16) for t in (untrained, tok))
    # Worse than the mean image before, most of the variance explained after.
    variance = open_pictures(pictures, "valid").squares(16).astype(float).var(0).mean() / 255**2
    assert after["mse"] < 0.5 * variance < 0.5 * before["mse"]
    assert after["mse"] == pytest.approx(valid[-1]["valid_mse"], rel=0.02)
    assert after["ssim"] > before["ssim"] and after["n"] == 8 and after["levels"] == 3


def test_more_levels_decode_better(trained, pictures):
    tok = ImageTokenizer.from_pretrained(trained / "model")
    scores = [score(tok, pictures, size=16, levels=m) for m in (1, 2, 3)]
    assert scores[0]["mse"] > scores[1]["mse"] > scores[2]["mse"]
    assert [f["mse"] for f in progressive(tok, pictures, size=16)] == [f["mse"] for f in scores]
    bits = [f["bits_per_pixel"] for f in scores]
    assert bits == pytest.approx([4 / 16, 8 / 16, 12 / 16])


def test_a_run_says_what_it_was(trained):
    config = json.loads((trained / "model" / "config.json").read_text())
    provenance = config["provenance"]
    assert provenance["steps"] == 200 and provenance["train_images"] == 48
    assert provenance["recipe"]["optim"]["lr"] == 1.5e-2 and config["kind"] == "image-tokenizer"
    hardness = [r["hardness"] for r in rows(trained) if "hardness" in r]
    assert hardness[0] < 1 == hardness[-1]


def test_the_discriminator_changes_the_network(pictures, tmp_path):
    last = {}
    for weight in (0.0, 0.5):
        plan = FEW | {
            "loss.adversarial": weight,
            "loss.adversarial_start": 0.0,
            "loss.discriminator_width": 8,
            "loss.discriminator_layers": 2,
            "optim.steps": 4,
        }
        model = train.run(images=pictures, out=tmp_path / str(weight), overrides=plan)
        last[weight] = ImageTokenizer.from_pretrained(model).network.decoder.last
    assert not torch.equal(last[0.0], last[0.5])
    state = torch.load(tmp_path / "0.5" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 4 and len(state["optimizer_states"]) == 2
    assert state["optimizer_states"][1]["state"][0]["step"] == 4


def test_perceptual_loss_is_trained_with_and_not_saved(pictures, tmp_path):
    from tests.helpers.models import vgg

    weights = vgg(tmp_path / "vgg.safetensors")
    plan = FEW | {"optim.steps": 2, "valid.every": 2, "loss.perceptual": 1.0}
    with pytest.raises(RecipeError, match="perceptual_weights.*downloads nothing"):
        train.run(images=pictures, out=tmp_path / "a", overrides=plan)
    plan["loss.perceptual_weights"] = str(weights)
    train.run(images=pictures, out=tmp_path / "a", overrides=plan)
    state = torch.load(tmp_path / "a" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(key.startswith("network.") for key in state["state_dict"])


def test_training_starts_from_a_model(trained, pictures, tmp_path):
    plan = FEW | {"optim.steps": 1, "optim.lr": 1e-9, "valid.every": 1}
    second = train.run(images=pictures, init=trained / "model", out=tmp_path / "b", overrides=plan)
    a, b = (ImageTokenizer.from_pretrained(m).network for m in (trained / "model", second))
    assert torch.allclose(a.encoder[1].weight, b.encoder[1].weight, atol=1e-5)


def test_every_pass_shows_every_image_once(pictures):
    plan = read_image_recipe(None, FEW | {"optim.steps": 12})
    module = train.ImageTraining(plan, np.zeros((1, 16, 16, 3), np.uint8))
    keys = [key for batch in train.Draws(module, 48) for key in batch]
    assert [len({i for i, _ in keys[a : a + 48]}) for a in (0, 48)] == [48, 48]
    assert [i for i, _ in keys[:48]] != [i for i, _ in keys[48:]]
    assert len({seed for _, seed in keys}) == 96


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optim.step": 3}, "unknown key 'step'.*steps"),
        ({"data.size": 18}, "18 is no multiple of model.factor 4"),
        ({"loss.pixel": "l3"}, "'l3' is not l1 or l2"),
        ({"model.factor": 5}, "factor 5 is not one of"),
        ({"loss.adversarial": 1.0}, "too small for the chosen losses"),
        ({"data.train": "nowhere"}, "no such file or folder"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, pictures, wrong, message):
    images = None if "data.train" in wrong else pictures
    with pytest.raises(ValueError, match=message):
        train.run(images=images, out=tmp_path / "x", overrides=TINY | wrong)


def test_a_bad_image_stops_a_run_and_is_named(pictures, tmp_path):
    for i, x in enumerate(smooth(10)):
        write_pixels(x, tmp_path / "p" / f"{i}.png")
    whole = (tmp_path / "p" / "7.png").read_bytes()
    (tmp_path / "p" / "7.png").write_bytes(whole[:200])
    with pytest.raises(ValueError, match="7.png: the image is damaged"):
        train.run(images=tmp_path / "p", out=tmp_path / "x", overrides=FEW)


def test_the_command_line(trained, pictures, tmp_path, capsys):
    model = str(trained / "model")
    (tmp_path / "bad.jpg").write_bytes(b"no")
    codes, out = tmp_path / "codes.npz", tmp_path / "out"
    photo = pictures / "val" / "class0" / "48.png"
    inputs = [str(photo), str(pictures / "val" / "class1")]
    assert main.main(["image", "encode", *inputs, "-o", str(codes), "--model", model]) == 0
    assert "5 images" in capsys.readouterr().err
    assert [t.name for t in load_codes(codes)] == ["48", "49", "51", "53", "55"]
    bad = str(tmp_path / "bad.jpg")
    again = ["image", "encode", bad, *inputs, "-o", str(codes), "--model", model]
    assert main.main(again) == 2
    assert "made of other inputs: 5 files then, 6 now" in capsys.readouterr().err
    assert main.main([*again, "--overwrite"]) == 1
    assert "bad.jpg: is not an image" in capsys.readouterr().err

    assert main.main(["image", "decode", str(codes), "-o", str(out), "--model", model]) == 0
    again, photo = (read_pixels(p).astype(float) for p in (out / "48.png", photo))
    assert again.shape == photo.shape and np.abs(again - photo).mean() < 40
    coarse = ["image", "decode", str(codes), "-o", str(tmp_path / "c"), "--model", model]
    assert main.main([*coarse, "--levels", "1"]) == 0
    assert main.main([*coarse, "--levels", "9"]) == 2
    assert "3 levels" in capsys.readouterr().err

    assert main.main(["image", "info", str(codes), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 5
    assert main.main(["image", "info", model]) == 0
    assert "bits per pixel: 0.75" in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    scoring = ["image", "score", str(pictures), "--model", model, "--size", "20", "--json"]
    assert main.main([*scoring, "--sheet", str(sheet)]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["n"] == 8 and scores["frechet_gist"] > 0 and scores["usage"] > 0.5
    assert "fid" not in json.dumps(scores).lower()
    assert read_pixels(sheet).shape[1] > 8 * 20
    assert main.main([*scoring[:-1], "--progressive", "--sheet", str(sheet)]) == 0
    assert "0.75 bits per pixel: psnr" in capsys.readouterr().out
    assert read_pixels(sheet).shape[0] > 4 * 75


def test_a_score_goes_on_after_a_bad_image(trained, pictures, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(pictures / "val", images)
    (first, *_), bad = sorted((images / "class0").iterdir()), images / "class0" / "0.jpg"
    bad.write_bytes(b"no")
    scoring = ["image", "score", str(images), "--model", str(trained / "model"), "--size", "20"]
    for more in ([], ["--json"], ["--progressive"], ["--progressive", "--json"]):
        assert main.main([*scoring, *more]) == 1, more
        out, messages = capsys.readouterr()
        assert messages.count("error: ") == 1 and f"error: {bad}: is not an image" in messages
        if "--json" in more:
            for row in json.loads(out) if "--progressive" in more else [json.loads(out)]:
                assert row["n"] == 8 and row["failed"][0]["file"] == str(bad)
    bits = row["bits_per_pixel"]
    bad.unlink()
    assert score(ImageTokenizer.from_pretrained(trained / "model"), images, size=20)["bits_per_pixel"] == bits
    first.write_bytes(b"no")
    assert main.main(["image", "score", str(first), *scoring[3:]]) == 2
    assert "none of 1 images can be read" in capsys.readouterr().err


def test_wrong_use_is_said(tmp_path, capsys):
    photo = write_pixels(smooth(1)[0], tmp_path / "photo.jpg")
    assert main.main(["image", "encode", str(photo), "-o", str(tmp_path / "c.npy")]) == 2
    assert ".npz" in capsys.readouterr().err
    shipped = (ROOT / "protok" / "weights" / "protok-image" / "config.json").exists()
    code = main.main(["image", "encode", str(photo), "-o", str(tmp_path / "c.npz")])
    messages = capsys.readouterr().err
    assert code == 0 if shipped else code == 2 and "protok image train RECIPE.toml" in messages
    assert main.main(["image", "train", "--out", str(tmp_path / "r"), "--set", "optim"]) == 2
    assert main.main(["image", "train", "--out", str(tmp_path / "r")]) == 2
    assert "give --images DIR" in capsys.readouterr().err


def test_names_in_codes_stay_inside_the_folder():
    from protok.image.pixels import inside

    for name in ("../../x.png", "/x.png", "a/../../../x.png"):
        assert inside(Path("out"), name).resolve().is_relative_to(Path("out").resolve())


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_have_networks_that_fit(path):
    plan = read_image_recipe(path)
    quantizer, side = plan.model.quantizer, plan.data.size
    # The linear path, whose precision is set for the device, is tried in the dry run.
    continuous = replace(plan.model, linear=False, quantizer=replace(quantizer, kind="none"))
    with torch.device("meta"):
        network = ImageNetwork(continuous)
        z = network.latents(torch.zeros(2, 3, side, side))
        assert z.shape == (2, *[side // plan.model.factor] * 2, quantizer.dim)
        assert network.pixels(z).shape == (2, 3, side, side)
    shipped = ("imagenette-64", "protok-image")
    assert plan.model.name == ("protok-image" if path.stem in shipped else f"image-{path.stem}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_run_dry(path, tmp_path):
    """Two steps from files in ImageNet's layout: all as in the recipe but numbers and widths."""
    plan = read_image_recipe(path)
    side = plan.data.size
    for part in ("train", "val"):
        for wnid in ("n01", "n02"):
            x = np.asarray(Image.fromarray(smooth(1)[0]).resize((side + 9, side)))
            for i in range(2):
                write_pixels(x, tmp_path / "in" / part / wnid / f"{wnid}_{i}.JPEG")
    (tmp_path / "classes.txt").write_text("n02\n")
    small = {
        "model.context": 4 if plan.model.context else 0,
        "model.width": 8,
        "model.decoder_width": 8,
        "model.quantizer.size": 16,
        "data.classes": str(tmp_path / "classes.txt"),
        "data.workers": 0,
        "loss.discriminator_width": 8,
        "optim.steps": 2,
        "optim.batch": 1,
        "optim.precision": "32",
        "optim.lr_warmup_steps": 1,
        "valid.every": 2,
        "valid.images": 1,
    }
    model = train.run(path, images=tmp_path / "in", out=tmp_path / "run", overrides=small)
    tok = ImageTokenizer.from_pretrained(model)
    assert tok.provenance["train_images"] == 2 and tok.provenance["steps"] == 2


def test_the_sweep_measures_and_summarizes(pictures, tmp_path, monkeypatch, capsys):
    from benchmarks import records
    from benchmarks.quantizers import images

    monkeypatch.setattr(sys, "argv", ["images"])
    real = images.tomllib.loads((ROOT / "benchmarks" / "quantizers" / "images.toml").read_text())
    assert set(real["claims"]) <= set(real["settings"])
    base = read_image_recipe(ROOT / "recipes" / real["base"])
    for cell in images.cells(real):
        merged = read_image_recipe(ROOT / "recipes" / real["base"], images.overrides(cell, real))
        assert merged.model.quantizer.size == cell.size and merged.data == base.data
        ImageNetwork(merged.model)
    kept = ("model.quantizer", "model.name", "optim.steps", "valid.every")
    recipe = real | {
        "images": pictures.name,
        "sizes": [8],
        "seeds": [0, 1],
        "steps": 4,
        "scored": 4,
        "claims": ["step", "provq"],
        "claimed_sizes": [8],
        "settings": {k: real["settings"][k] for k in ("fsq", "step", "provq")},
        "overrides": {k: v for k, v in TINY.items() if not k.startswith(kept)},
    }
    out, figures, runs = tmp_path / "results.parquet", tmp_path / "figures", tmp_path / "runs"
    images.sweep(recipe, out, figures, pictures.parent, runs, "provq")
    assert "3 of 5 cells are still to be measured" in capsys.readouterr().out
    images.sweep(recipe, out, figures, pictures.parent, runs, "")
    record = records.read(out)["provq-8-1"]
    assert record["seed"] == 1 and record["final"]["mse"] > 0 and record["rows"][-1]["step"] == 4
    summary = records.read(out)["summary"]
    row = next(r for r in summary["rows"] if r["setting"] == "provq")
    assert row["seeds"] == 2 and row["less_error_than"]["step"]["seeds"] == 2
    assert {f.name for f in figures.iterdir()} == {"images-curves-8.svg", "images-reconstructions-8.png"}


def test_an_image_model_is_scored_at_every_number_of_levels(trained, pictures, tmp_path, monkeypatch):
    from benchmarks import records
    from benchmarks.quantizers import image_model
    from benchmarks.tables.images import levels_of

    monkeypatch.setattr(image_model, "SETS", {"mine": pictures.name})
    options = [str(trained / "model"), "--data", str(pictures.parent), "-o", str(tmp_path / "r.parquet")]
    image_model.main([*options, "--figures", str(tmp_path), "--most", "4"])
    result = records.read(tmp_path / "r.parquet")["tiny"]
    assert [row["levels"] for row in result["sets"]["mine"]] == [1, 2, 3]
    assert "| mine | 4 | 3 | 0.75 |" in levels_of(result)
