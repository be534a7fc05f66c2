"""An encoder and a quantizer of a user's own, from the recipe to the saved model and back."""

import json
import os
import subprocess
import sys

import pytest

import protok
from protok.cli import main
from protok.errors import FormatError, RecipeError, Unsupported
from protok.model.config import ShapesConfig
from protok.pipeline.embed import embed_all, read_vectors
from protok.quantize import build_quantizer
from protok.quantize.own import import_own
from protok.training.run import run
from tests.helpers.tiny_runs import TINY, write_structures

MODULE = """
import torch
from pathlib import Path
from protok.model.encoder import Encoder, window_features
from protok.quantize import VQ
from protok.quantize.base import Quantizer

Path("imported").touch()


class Near(Encoder):
    def __init__(self, dim, hidden=16):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(40, hidden), torch.nn.Linear(hidden, dim))

    def forward(self, poses, runs):
        return self.layers(window_features(poses, runs, 2))


class Wide(Near):
    def forward(self, poses, runs):
        return super().forward(poses, runs)[:, :-1]


class Table(VQ):
    def __init__(self, size, dim, warm=True):
        super().__init__(size, dim)


class Larger(VQ):
    def __init__(self, size, dim):
        super().__init__(2 * size, dim)


class Stranger(torch.nn.Module):
    def __init__(self, *_):
        raise RuntimeError("is made")
"""
OWN = {"model.encoder.kind": "own_parts:Near", "model.quantizer.inner": "own_parts:Table"}
SETTINGS = TINY | {"optim.steps": 6, "valid.every": 6}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with a module that no other test imports."""
    (tmp_path / "own_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    yield tmp_path
    sys.modules.pop("own_parts", None)


@pytest.mark.slow
def test_a_recipe_trains_them_and_the_model_names_them(desk, capsys):
    pdbs = write_structures(desk / "pdbs", [40, 50, 60, 70])
    options = {"model.encoder.options": {"hidden": 8}, "model.quantizer.options": {"warm": False}}
    model = run(structures=pdbs, out=desk / "run", overrides=SETTINGS | OWN | options)
    saved = json.loads((model / "config.json").read_text())["model"]
    assert saved["encoder"]["kind"] == "own_parts:Near" and saved["encoder"]["options"] == {"hidden": 8}
    assert saved["quantizer"]["inner"] == "own_parts:Table"
    tokenizer = protok.load(model)
    assert type(tokenizer.network.encoder).__name__ == "Near"
    assert tokenizer.network.encoder.layers[0].out_features == 8
    with pytest.raises(Unsupported, match="Near shows no hidden states"):
        tokenizer.states(pdbs / "s00.pdb")
    vectors = desk / "vectors.parquet"
    assert main.main(["embed", str(pdbs), "--model", str(model), "-o", str(vectors)]) == 0
    assert "note: the encoder of tiny shows no hidden states" in capsys.readouterr().err
    assert all(list(row.columns) == ["latents", "mean"] for row in read_vectors(vectors))
    with pytest.raises(Unsupported, match="tiny has no states; ask for latents, mean"):
        embed_all(pdbs, tokenizer, desk / "states.parquet", columns=["states"])
    tuned = run(
        structures=pdbs, init=model, out=desk / "tuned", overrides={"optim.steps": 2, "valid.every": 2}
    )
    assert protok.load(tuned).codebook == tokenizer.codebook

    # Another process has not imported the module, and does not do so for a folder of weights.
    (desk / "imported").unlink()
    command = [
        sys.executable,
        "-m",
        "protok",
        "encode",
        "pdbs",
        "--model",
        str(model),
        "-o",
        "t.csv",
        "--jobs",
    ]
    done = subprocess.run([*command, "1"], capture_output=True, text=True)
    assert done.returncode == 2 and not (desk / "imported").exists()
    assert f"{model}: it has code of its author's in 'own_parts', which is not imported" in done.stderr
    command[3:3] = ["--import", "own_parts"]
    assert subprocess.run([*command, "2"]).returncode == 0 and (desk / "imported").exists()
    assert [t.ids.tolist() for t in protok.tokens.load("t.csv")] == [
        tokenizer.encode(pdbs / f"s{i:02d}.pdb").ids.tolist() for i in range(4)
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.encoder.kind": "no_such:Near"}, "'no_such' cannot be imported .*; name a module that"),
        ({"model.encoder.kind": "own_parts:Neer"}, "own_parts has no 'Neer'; did you mean Near"),
        ({"model.encoder.kind": "Near"}, "encoder kind 'Near'; give window, or module:Class"),
        ({"model.encoder.kind": "own_parts:Table"}, "own_parts:Table is no subclass of protok.model.encoder"),
        ({"model.encoder.options": {"depth": 2}}, r"own_parts:Near\(5, depth=2\) fails \(TypeError.*'depth'"),
        ({"model.encoder.kind": "own_parts:Wide"}, r"own_parts:Wide gives latents of shape \(\d+, 4\), not"),
        ({"model.quantizer.inner": "own_parts:Tabel"}, "own_parts has no 'Tabel'; did you mean Table"),
        ({"model.quantizer.kind": "own_parts:Larger"}, "own_parts:Larger has 64 codes of 5 .*, not 32 of 5"),
        ({"model.quantizer.kind": "own_parts:Near"}, "own_parts:Near is no subclass of protok.quantize.base"),
        (
            {"model.quantizer.kind": "tabel"},
            "quantizer kind 'tabel' is not one of provq, .*, or module:Class",
        ),
    ],
)
def test_what_is_wrong_with_them_is_said(desk, settings, message):
    pdbs = write_structures(desk / "pdbs", [40, 50])
    with pytest.raises(RecipeError, match=message):
        run(structures=pdbs, out=desk / "run", overrides=SETTINGS | OWN | settings)


def test_a_module_that_fails_is_named(desk, capsys):
    (desk / "own_parts.py").write_text("1 / 0")
    with pytest.raises(RecipeError, match=r"'own_parts' cannot be imported \(ZeroDivisionError"):
        import_own(["own_parts:Near"])
    assert main.main(["--import", "own_parts", "info", "3di"]) == 2
    assert "'own_parts' cannot be imported" in capsys.readouterr().err


def test_a_class_that_is_none_of_protok_is_not_made(desk):
    import_own(["own_parts"])
    with pytest.raises(RecipeError, match="Stranger is no subclass of protok.quantize.base.Quantizer"):
        build_quantizer("own_parts:Stranger", 8, 4)
    for name in ("os:system", "torch.hub:load", "builtins:exec"):
        with pytest.raises((RecipeError, Unsupported)):
            build_quantizer(name, 8, 4)


def test_an_edited_configuration_does_not_import(desk):
    from dataclasses import asdict

    assert asdict(ShapesConfig())["encoder"]["kind"] == "window"
    folder = desk / "model"
    protok.load("protok-1").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["encoder"]["kind"] = "own_parts:Near"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match=r"if you trust it: import own_parts, or protok --import own_parts"):
        protok.load(folder)
    assert not os.path.exists("imported")
    import_own(["own_parts"])
    with pytest.raises(FormatError, match="weights do not fit"):
        protok.load(folder)
