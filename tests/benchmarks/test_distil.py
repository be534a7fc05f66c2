"""A smaller encoder learns the latents of a shipped model (`recipes.distil`)."""

import sys

import pytest
import torch

import protok
from protok.structure.store import write_store
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

pytest.importorskip("lightning", reason="training is an extra")


def test_a_small_encoder_nears_its_teacher(tmp_path, monkeypatch, examples):
    chains = [protok.read(file) for file in sorted(examples.glob("*.pdb"))]
    write_store(chains, tmp_path / "chains.parquet")
    monkeypatch.chdir(tmp_path)
    from recipes import distil

    def run():
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "distil.py",
                str(ROOT / "recipes" / "protein" / "protok-512-lite.toml"),
                "--teacher",
                "protok-512",
                "--out",
                "run",
                "--set",
                "optim.steps=30",
                "--set",
                "optim.lr=5e-3",
                "--set",
                "optim.lr_warmup_steps=3",
                "--set",
                "valid.every=15",
                "--set",
                "data.train=chains.parquet",
                "--set",
                "data.valid=chains.parquet",
                "--set",
                "data.residues=64",
                "--set",
                "data.curriculum=[[0, 32]]",
                "--set",
                "valid.chains=1",
                "--set",
                "valid.longest=100",
            ],
        )
        distil.main()

    run()
    model, teacher = protok.load("run/model"), protok.load("protok-512")
    provenance = model.provenance
    # Latents have unit variance: of two that know nothing of each other the error is 2.
    assert provenance["validation"]["valid_error"] < 1
    assert provenance["teacher"]["codebook"] == teacher.codebook
    shape = model.network.config.encoder
    assert (shape.hidden, shape.layers, shape.neighbours) == (64, 2, 8)
    for part in ("quantizer", "decoder"):
        state = getattr(teacher.network, part).state_dict()
        for key, value in getattr(model.network, part).state_dict().items():
            assert torch.equal(value, state[key]), (part, key)
    with pytest.raises(protok.errors.ProtokError, match="--resume"):
        run()
