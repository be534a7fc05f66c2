"""Other ways to compute the encoder give the same codes; large inputs in little memory."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import protok
from protok import geometry as g
from protok.config import DecoderConfig, EncoderConfig, ModelConfig, QuantizerConfig
from protok.errors import ProtokError
from protok.fast import COMPUTE, accelerate
from protok.model import Network
from protok.scale import encode_all
from protok.testing import packed_chain
from protok.tokenizer import StructureTokenizer
from protok.tokens import load

ROOT = Path(protok.__file__).parents[1]


def small(placed: bool) -> StructureTokenizer:
    """An untrained tokenizer with a codebook, small enough for tests."""
    torch.manual_seed(0)
    network = Network(
        ModelConfig(
            "small",
            EncoderConfig(hidden=32, layers=2, neighbours=8, placed=placed),
            QuantizerConfig(kind="simvq", size=64, dim=5),
            DecoderConfig(width=32, layers=1, heads=2, placed=True),
        )
    )
    return StructureTokenizer(network.eval())


@pytest.fixture(scope="module")
def chains(examples) -> list[protok.Backbone]:
    """Real chains; one has gaps, one is shorter than a neighbourhood, one is empty."""
    whole = [protok.read(path) for path in sorted(examples.glob("*.pdb"))]
    gaps = whole[0][:40]
    gaps.coords[5:9] = np.nan
    return [*whole, gaps, whole[1][:4], whole[1][:0]]


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("compute", ["onnx", "bf16"])
def test_codes_agree(chains, placed, compute):
    if compute == "onnx":
        pytest.importorskip("onnx", reason="needs onnx")
        pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    tokenizer = small(placed)
    fast = accelerate(tokenizer, compute)
    fast.encode(chains[0])  # has made its session: pickles must do without
    fast = pickle.loads(pickle.dumps(fast))
    same = total = 0
    for one, other in zip(tokenizer.encode_batch(chains), fast.encode_batch(chains), strict=True):
        assert one.codebook == other.codebook
        assert ((one.ids < 0) == (other.ids < 0)).all()
        same += (one.ids == other.ids).sum()
        total += len(one)
    z, other = tokenizer.embed(chains[0]), fast.embed(chains[0])
    assert np.abs(z - other).max() < (1e-4 if compute == "onnx" else 0.2)
    assert same == total if compute == "onnx" else same / total > 0.9
    assert tokenizer.compute == "torch" and fast.compute == compute


def test_shipped_codes_agree(chains):
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    tokenizer = protok.load("protok-512")
    fast = accelerate(tokenizer, "onnx")
    for one, other in zip(tokenizer.encode_batch(chains), fast.encode_batch(chains), strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)


def test_gradients_or_not_is_the_same(chains):
    from protok.encoder import Batch

    for placed in (False, True):
        encoder, batch = small(placed).network.encoder, Batch.of(chains)
        with torch.no_grad():
            one = encoder(batch)
        assert torch.allclose(encoder(batch).detach(), one, atol=1e-5)


def test_jobs_know_how_codes_were_computed(examples, tmp_path):
    tokenizer = small(True)
    path, out = examples / "7w89.A.pdb", tmp_path / "t.parquet"
    encode_all(path, accelerate(tokenizer, "bf16"), out)
    with pytest.raises(ProtokError, match="compute 'bf16', now 'torch'"):
        encode_all(path, tokenizer, out)
    assert load(out)[0].codebook == tokenizer.codebook


def test_unknown_ways_and_tokenizers_are_refused():
    with pytest.raises(ProtokError, match=f"one of {', '.join(COMPUTE)}"):
        accelerate(small(False), "magic")
    with pytest.raises(ProtokError, match="no encoder network"):
        accelerate(protok.load("3di"), "bf16")


def test_groups_cover_all_and_near_forgets_nobody():
    points = torch.randn(1000, 3) * torch.tensor([30.0, 10.0, 5.0])
    parts = g.groups(points, 64)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1000))
    assert max(map(len, parts)) <= 64
    for rows in parts[:4]:
        found = g.near(points, rows, 7.0)
        close = (torch.cdist(points[rows], points) <= 7.0).any(0).nonzero()[:, 0]
        assert set(close.tolist()) <= set(found.tolist()) and len(found) < 900


def test_large_chains_have_the_features_of_small_ones():
    """Groups of residues see what all pairs give, stretched parts and lone residues included."""
    chain = torch.from_numpy(packed_chain(1500).coords)
    chain[:60, :] += torch.arange(60).flip(0)[:, None, None] * torch.tensor([30.0, 0, 0])
    ca, turn = chain[:, 1], g.frames(*chain[:, :3].unbind(1))
    mask = torch.ones(len(ca), dtype=torch.bool)
    mask[100:140] = False
    for k in (16, 60):
        one, other = (g.neighbours(ca, mask, k, group=size) for size in (5000, 512))
        assert torch.equal(one[1], other[1])
        there = (ca[one[0]] - ca[:, None]).norm(dim=-1)
        assert torch.equal(there, (ca[other[0]] - ca[:, None]).norm(dim=-1))
    one, other = (
        g.density_moments(ca, turn, mask, (10.0, 18.0, 30.0), group=size) for size in (5000, 512)
    )
    assert torch.allclose(one, other, atol=1e-5)


SCRIPT = """
import resource, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_fast import small
from protok.testing import packed_chain
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
tokenizer = small(True)
chain = packed_chain({length}, chains={chains})
tokenizer.decode(tokenizer.encode(chain[:50]))
before = peak()
tokens = tokenizer.encode(chain, across_chains=True)
encoded = peak() - before
tokenizer.steps = 3
assert len(tokenizer.decode(tokens)) == {length}
print(encoded, peak() - before)
"""


@pytest.mark.parametrize(("length", "chains"), [(5000, 1), (20000, 40)])
def test_memory_is_linear(length, chains):
    """One table of all pairs would take 100 MB and 1.6 GB in float32; there are several."""
    script = SCRIPT.format(tests=str(Path(__file__).resolve().parent), length=length, chains=chains)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    encoded, decoded = map(float, done.stdout.split())
    assert encoded < 20 + length * 0.02, "MB to encode"
    assert decoded < 60 + length * 0.03, "MB to encode and decode"
