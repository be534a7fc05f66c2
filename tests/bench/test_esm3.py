"""The ESM3-like structure encoder equals the original code (golden file, random weights)."""

import numpy as np
import pytest
import torch

from protok.bench.representations.esm3 import StructureEncoder
from protok.bench.representations.load import representation
from protok.errors import FormatError
from protok.structure.backbone import Backbone
from tests.helpers import paths

GOLDEN = paths.GOLDEN / "bench_esm3.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as held:
        return dict(held)


@pytest.fixture(scope="module")
def weights(golden):
    return {k[7:]: torch.from_numpy(v) for k, v in golden.items() if k.startswith("weight:")}


@pytest.fixture
def chain(golden):
    atoms = np.concatenate([golden["coords"], np.full((60, 1, 3), np.nan, np.float32)], axis=1)
    return Backbone.from_arrays(atoms, index=golden["index"])


def of_the_benchmark(weights, *, linear):
    """The same encoder under the names of a StructTokenBench checkpoint."""
    state = {f"model.encoder.{k}": v for k, v in weights.items() if not k.startswith("codebook")}
    state["model.quantizer.codebook.weight"] = weights["codebook.embeddings"]
    state["model.decoder.post_vq_proj.weight"] = torch.zeros(3, 3)  # read by nobody here
    if linear:
        turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
        bias = torch.arange(6.0)
        state["model.quantizer.linear_proj.weight"] = turn
        state["model.quantizer.linear_proj.bias"] = bias
        state["model.quantizer.codebook.weight"] = (weights["codebook.embeddings"] - bias) @ turn
    return {"module": state}


def test_latents_and_codes_are_those_of_the_original(golden, weights, chain):
    model = StructureEncoder(weights)
    z, ids = model.embed(chain), model.encode(chain).ids
    there = np.arange(60) != 20  # the original gives a residue without coordinates a code
    np.testing.assert_allclose(z[there], golden["latents"][there], atol=2e-5)
    np.testing.assert_array_equal(ids[there], golden["ids"][there])
    assert np.isnan(z[20]).all() and ids[20] == -1
    assert len(np.unique(ids)) > 10 and model.size == 24


@pytest.mark.parametrize("linear", [False, True], ids=["vanillavq", "aminoaseed"])
def test_checkpoints_of_the_benchmark_are_read(golden, weights, chain, linear):
    model = StructureEncoder(of_the_benchmark(weights, linear=linear), name="theirs")
    ids = np.delete(model.encode(chain).ids, 20)
    np.testing.assert_array_equal(ids, np.delete(golden["ids"], 20))
    # AminoAseed's code vectors are those after its linear map.
    codes = golden["weight:codebook.embeddings"]
    np.testing.assert_allclose(model.code_vectors(), codes, atol=1e-5)


def test_codes_do_not_depend_on_the_frame_and_do_on_the_hand(weights, chain, frame_and_hand):
    model = StructureEncoder(weights)
    frame_and_hand(model.embed, chain, same=1e-4, apart=0.01)
    np.testing.assert_array_equal(model.embed(chain[:3]).shape, (3, 6))  # fewer than 16 residues


def test_a_file_of_weights_is_a_tokenizer_of_the_command(weights, chain, tmp_path):
    torch.save(of_the_benchmark(weights, linear=True), tmp_path / "theirs.ckpt")
    who = representation(f"aminoaseed={tmp_path / 'theirs.ckpt'}")
    assert who.name == "aminoaseed" and who.size == 24 and who.vectors.shape == (24, 6)
    again = representation(f"aminoaseed={tmp_path / 'theirs.ckpt'}:continuous")
    assert again.name == "aminoaseed:continuous"


def test_what_is_no_checkpoint_is_refused(weights, tmp_path):
    with pytest.raises(FormatError, match="checkpoint"):
        StructureEncoder({"x": torch.zeros(1)})
    broken = {k: v for k, v in weights.items() if "ffn.1" not in k}
    with pytest.raises(FormatError, match=r"ffn\.1"):
        StructureEncoder(broken)
    with pytest.raises(FormatError, match="no such file"):
        representation(f"esm3={tmp_path / 'none.pth'}")
    with pytest.raises(FormatError, match="esm3=FILE"):
        representation("esm3")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(FormatError, match=r"text\.pth"):
        representation(f"esm3={tmp_path / 'text.pth'}")
