"""Other ways to compute the encoder give the same codes; large inputs in little memory."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import protok
from protok.cli import main
from protok.common import trainer
from protok.errors import ProtokError, Unsupported
from protok.fast import COMPUTE, accelerate
from protok.model.config import EncoderConfig, ModelConfig, QuantizerConfig
from protok.model.features import NODE, Batch, featurize
from protok.model.network import Network
from protok.pipeline.encode import encode_all
from protok.structure import geometry as g
from protok.testing import packed_chain
from protok.tokenizers import native
from protok.tokenizers.learned import StructureTokenizer
from protok.tokens.files import load
from tests.helpers.models import small
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def chains(examples) -> list[protok.Backbone]:
    """Real chains; one has gaps, one is shorter than a neighbourhood, one is empty."""
    whole = [protok.read(path) for path in sorted(examples.glob("*.pdb"))]
    gaps = whole[0][:40]
    gaps.coords[5:9] = np.nan
    return [*whole, gaps, whole[1][:4], whole[1][:0]]


def needs(compute: str) -> None:
    """Skip where a way to compute is not installed."""
    if compute == "onnx":
        pytest.importorskip("onnx", reason="needs onnx")
        pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    if compute in ("native", "fast"):
        try:
            native.compiler()
        except ProtokError:
            pytest.skip("needs a C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("compute", ["onnx", "native", "bf16", "fast"])
def test_codes_agree(chains, placed, compute, monkeypatch):
    needs(compute)
    monkeypatch.setattr(trainer, "half_is_faster", lambda: True)
    exact = compute in ("onnx", "native")
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
    assert np.nanmax(np.abs(z - other)) < (1e-4 if exact else 0.2)
    assert same == total if exact else same / total > 0.9
    assert tokenizer.compute == "torch" and fast.compute == compute


@pytest.mark.parametrize("compute", ["onnx", "native", "bf16", "fast"])
def test_shipped_codes_agree(chains, compute, monkeypatch):
    needs(compute)
    monkeypatch.setattr(trainer, "half_is_faster", lambda: True)
    tokenizer = protok.load("protok-512")
    fast = accelerate(tokenizer, compute)
    one, other = (
        np.concatenate([tokens.ids for tokens in way.encode_batch(chains)]) for way in (tokenizer, fast)
    )
    least = {"onnx": 1.0, "native": 1.0}.get(compute, 0.99)
    assert (one == other).mean() >= least


def test_fast_is_exact_where_bfloat16_is_slow(chains, monkeypatch):
    needs("fast")
    monkeypatch.setattr(trainer, "half_is_faster", lambda: False)
    tokenizer = small(True)
    exact, fast = (accelerate(tokenizer, way).embed(chains[0]) for way in ("native", "fast"))
    np.testing.assert_array_equal(exact, fast)


def test_native_features_are_those_of_torch():
    """Lone residues, gaps, several chains in one neighbourhood, blocks far from each other."""
    needs("native")
    chain = packed_chain(900, chains=3)
    chain.coords[:60] += 30 * np.arange(60, dtype=np.float32)[::-1, None, None]
    chain.coords[200:240] = np.nan
    batch = Batch.of([chain, chain[:5], chain[:1], chain[210:220], chain[:0]])
    for k, placed in ((16, True), (60, False)):
        graph = featurize(batch, k, placed)
        node, (edge, separation, index) = native.featurize(batch, k, placed)
        away = (node - graph.node).abs().amax(0)
        if placed:  # positions in a chain of 1,800 Å, in float32
            assert away[NODE : NODE + 3].max() < 2e-3
            away[NODE : NODE + 3] = 0
        assert away.max() < 2e-5
        assert torch.equal(index >= 0, graph.valid)
        there, other = (batch.coords[rows, 1] for rows in (graph.index, index.clamp(min=0).long()))
        away, far = ((x - batch.coords[:, None, 1]).norm(dim=-1) for x in (there, other))
        assert torch.allclose(away[graph.valid], far[graph.valid], atol=1e-3)
        alike = (index == graph.index) & graph.valid
        assert alike.sum() > 0.99 * graph.valid.sum()  # but for ties
        assert torch.equal(separation[alike].long(), graph.separation[alike])
        assert torch.allclose(edge[alike], graph.edge[alike], atol=1e-4)


def test_without_a_compiler_it_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for compute in ("native", "fast", "compile"):
        with pytest.raises(ProtokError, match=r"no C\+\+ compiler.*onnx"):
            accelerate(small(False), compute)


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    tool = tmp_path / "c++"
    tool.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("CXX", str(tool))
    monkeypatch.setenv("PROTOK_CACHE", str(tmp_path))
    native.library.cache_clear()
    with pytest.raises(ProtokError, match="cannot compile the encoder .it is broken."):
        native.library()
    assert list(tmp_path.iterdir()) == [tool]


def test_the_library_is_kept(monkeypatch, tmp_path):
    needs("native")
    monkeypatch.setenv("PROTOK_CACHE", str(tmp_path / "new"))
    native.library.cache_clear()
    native.library()
    (kept,) = (tmp_path / "new").iterdir()
    before = kept.stat().st_mtime_ns
    native.library.cache_clear()
    native.library()
    assert kept.stat().st_mtime_ns == before


def test_widths_that_do_not_fit_are_refused():
    network = Network(ModelConfig("odd", EncoderConfig(hidden=48), QuantizerConfig(dim=5)))
    with pytest.raises(Unsupported, match="width 48"):
        accelerate(StructureTokenizer(network.eval()), "native")


def test_gradients_or_not_is_the_same(chains):
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
        found = g.near(points, points[rows], 7.0)
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
    one, other = (g.density_moments(ca, turn, mask, (10.0, 18.0, 30.0), group=size) for size in (5000, 512))
    assert torch.allclose(one, other, atol=1e-5)


SCRIPT = """
import resource, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r})
from tests.helpers.models import small
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


@pytest.mark.slow
@pytest.mark.parametrize(("length", "chains"), [(5000, 1), (20000, 40)])
def test_memory_is_linear(length, chains):
    """One table of all pairs would take 100 MB and 1.6 GB in float32; there are several."""
    script = SCRIPT.format(root=str(ROOT), length=length, chains=chains)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    encoded, decoded = map(float, done.stdout.split())
    assert encoded < 20 + length * 0.02, "MB to encode"
    assert decoded < 60 + length * 0.03, "MB to encode and decode"


def test_batches_of_a_gpu_give_the_same_codes(monkeypatch, examples):
    """Their sizes, on the CPU."""
    tokenizer = protok.load("protok-512")
    chains = [protok.read(path) for path in sorted(examples.glob("*.pdb"))] * 4
    few = tokenizer.encode_batch(chains)
    calls = []
    monkeypatch.setattr("protok.model.features.ROWS", protok.model.features.GPU_ROWS)
    monkeypatch.setattr("protok.tokenizers.learned.RESIDUES", protok.tokenizers.learned.GPU_RESIDUES)
    encode = tokenizer.encoder.forward
    monkeypatch.setattr(
        tokenizer.encoder, "forward", lambda batch: calls.append(len(batch.sizes)) or encode(batch)
    )
    many = tokenizer.encode_batch(chains)
    assert calls == [len(chains)]
    assert tokenizer.batch_residues == 4 * protok.tokenizers.learned.GPU_RESIDUES
    assert all((one.ids == two.ids).all() for one, two in zip(few, many, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_said(examples, tmp_path, capsys):
    file, out = str(examples / "7w89.A.pdb"), str(tmp_path / "t.parquet")
    for device in ("cuda", "nonsense"):
        assert main.main(["encode", file, "-o", out, "--device", device]) == main.USAGE
        assert f"no device '{device}'" in capsys.readouterr().err
    assert main.main(["encode", file, "-o", out, "--device", "cuda", "--jobs", "2"]) == main.USAGE
    assert main.main(["encode", file, "-o", out, "--device", "cuda", "--model", "3di"]) == main.USAGE
    assert not (tmp_path / "t.parquet").exists()
