"""The compiled encoder gives the same codes, or torch does; large inputs in little memory."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import protok
from protok.cli import main
from protok.errors import ProtokError, Unsupported
from protok.model.config import EncoderConfig, ModelConfig, QuantizerConfig
from protok.model.features import NODE, Batch, featurize
from protok.model.network import Network
from protok.pipeline.encode import Stopped, encode_all
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


@pytest.fixture
def compiled() -> None:
    """Skip where there is no C++ compiler."""
    try:
        native.compiler()
    except ProtokError:
        pytest.skip("needs a C++ compiler")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path) -> Path:
    """An empty folder for the library, which this process forgets before and after."""
    monkeypatch.setenv("PROTOK_CACHE", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path / "cache"
    native.library.cache_clear()


@pytest.mark.parametrize("global_frame", [False, True])
def test_codes_agree(compiled, chains, global_frame):
    tokenizer, compiled = small(global_frame), small(global_frame, "native")
    compiled.encode(chains[0])  # has its library: pickles must do without
    compiled = pickle.loads(pickle.dumps(compiled))
    pairs = zip(tokenizer.encode_batch(chains), compiled.encode_batch(chains), strict=True)
    for expected, tokens in pairs:
        assert expected.codebook == tokens.codebook
        np.testing.assert_array_equal(expected.ids, tokens.ids)
    assert (tokenizer.compute, compiled.compute) == ("torch", "native")
    # What is not rounded to codes must not depend on a compiler.
    np.testing.assert_array_equal(tokenizer.embed(chains[0]), compiled.embed(chains[0]))


@pytest.mark.parametrize("model", ["protok-512", "protok-512-sites"])
def test_shipped_codes_agree(compiled, chains, model):
    expected, ids = (
        np.concatenate([tokens.ids for tokens in protok.load(model, compute=way).encode_batch(chains)])
        for way in ("torch", "native")
    )
    np.testing.assert_array_equal(expected, ids)


def test_native_is_used_by_itself(compiled):
    assert protok.load("protok-512").compute == "native"
    assert protok.load("protok-512", compute="torch").compute == "torch"
    assert StructureTokenizer.from_pretrained("protok-512").compute == "torch"


def test_weights_that_change_are_seen(compiled, chains):
    tokenizer, compiled = small(False), small(False, "native")
    before = compiled.encode(chains[0]).ids
    for network in (tokenizer.network, compiled.network):
        with torch.no_grad():
            network.encoder.messages[0].here.weight.neg_()
    expected, ids = (way.encode(chains[0]).ids for way in (tokenizer, compiled))
    assert (ids == expected).all() and (ids != before).any()


def test_weights_of_other_kinds_are_left_to_torch(compiled, chains):
    tokenizer = small(False, "auto")
    assert tokenizer.compute == "native"
    tokenizer.network.to(torch.bfloat16)
    assert tokenizer.compute == "torch"
    with pytest.raises(Unsupported, match="weights in bfloat16; load the model again"):
        tokenizer.encode(chains[0])
    tokenizer.to("meta")
    assert tokenizer.compute == "torch"


def test_defaults_of_torch_do_not_matter(compiled, chains):
    tokenizer = small(True, "native")
    expected = tokenizer.encode(chains[0]).ids
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            node, _ = native.featurize(Batch.of(chains[:1]), 8, True)
        ids = tokenizer.encode(chains[0]).ids
    finally:
        torch.set_default_dtype(torch.float32)
    assert node.device.type == "cpu" and (ids == expected).all()


@pytest.mark.parametrize("size", [1e9, 1e20, 3e38])
def test_coordinates_beyond_sense_do_no_harm(compiled, chains, size):
    chain = chains[0][:70]
    chain.coords[35:] += np.float32(size)
    ids = small(True, "native").encode(chain).ids
    assert ((ids >= 0) == chain.mask).all()


def test_native_features_are_those_of_torch(compiled):
    """Lone residues, gaps, several chains in one neighbourhood, blocks far from each other."""
    chain = packed_chain(900, chains=3)
    chain.coords[:60] += 30 * np.arange(60, dtype=np.float32)[::-1, None, None]
    chain.coords[200:240] = np.nan
    batch = Batch.of([chain, chain[:5], chain[:1], chain[210:220], chain[:0]])
    for k, global_frame in ((16, True), (60, False)):
        graph = featurize(batch, k, global_frame)
        node, (edge, separation, index) = native.featurize(batch, k, global_frame)
        away = (node - graph.node).abs().amax(0)
        if global_frame:  # positions in a chain of 1,800 Å, in float32
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


def test_without_a_compiler_it_is_torch(monkeypatch, tmp_path, elsewhere, chains):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ProtokError, match=r"no C\+\+ compiler.*torch"):
        small(False, "native")
    tokenizer = small(False, "auto")
    assert tokenizer.compute == "torch" and len(tokenizer.encode(chains[0])) == len(chains[0])
    assert pickle.loads(pickle.dumps(tokenizer)).compute == "torch"


def tool(folder: Path, script: str) -> str:
    """A C++ compiler that is a shell script."""
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo it is broken >&2; exit 1", "cannot compile the encoder .it is broken."),
        # Of its arguments the one after -o is what it should make.
        ('while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"', "cannot keep or load"),
    ],
)
def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path, elsewhere, script, message):
    monkeypatch.setenv("CXX", tool(tmp_path, script))
    with pytest.raises(ProtokError, match=message):
        small(False, "native")
    assert small(False, "auto").compute == "torch"
    assert [path for path in elsewhere.iterdir() if path.suffix != ".so"] == []


@pytest.mark.slow
def test_a_compiler_that_makes_something_else_is_found_out(compiled, monkeypatch, tmp_path, elsewhere):
    wrong = tmp_path / "wrong.cpp"
    source = native.SOURCE.read_text(encoding="utf-8")
    wrong.write_text(source.replace("x * (c * p + 0.5f)", "x * (c * p + 0.6f)"), encoding="utf-8")
    monkeypatch.setattr(native, "SOURCE", wrong)
    with pytest.raises(ProtokError, match="the compiled encoder is off by"):
        small(False, "native")
    assert small(False, "auto").compute == "torch"


def test_nowhere_to_keep_the_library(compiled, monkeypatch, tmp_path, elsewhere):
    elsewhere.write_text("a file", encoding="utf-8")
    with pytest.raises(ProtokError, match="PROTOK_CACHE"):
        small(False, "native")
    assert small(False, "auto").compute == "torch"


@pytest.mark.slow
def test_the_library_is_kept(compiled, elsewhere):
    native.library()
    (kept,) = elsewhere.iterdir()
    before = kept.stat().st_mtime_ns
    native.library.cache_clear()
    native.library()
    assert kept.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["half", "changed"])
def test_a_damaged_library_is_made_anew(compiled, elsewhere, examples, damage):
    """In a process of its own: a library that is cut short ends it when it is called."""
    file = examples / "7w89.A.pdb"
    expected = small(False).encode(protok.read(file)).ids
    native.library()
    (kept,) = elsewhere.iterdir()
    good = kept.read_bytes()
    other = good[:-1] + bytes([good[-1] ^ 1])
    bad = {"half": good[: len(good) // 2], "changed": other}
    # Never in place: this process has it in use.
    kept.unlink()
    kept.write_bytes(bad[damage])
    kept.chmod(0o700)
    script = (
        "import sys, protok; from tests.helpers.models import small; "
        "print(*small(False, 'native').encode(protok.read(sys.argv[1])).ids)"
    )
    command = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(i) for i in expected]
    (kept,) = elsewhere.iterdir()
    assert kept.name == native._name(kept.name.split("-")[1], kept.read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="folders of a user are closed to others")
def test_a_cache_that_others_may_write_is_refused(compiled, elsewhere):
    native.library()
    native.library.cache_clear()
    for mode in (0o777, 0o770, 0o1777, 0o722):
        elsewhere.chmod(mode)
        with pytest.raises(ProtokError, match="others may write to the folder.*chmod go-w"):
            small(False, "native")
        assert small(False, "auto").compute == "torch"
    elsewhere.chmod(0o755)
    assert small(False, "native").compute == "native"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="folders of a user are closed to others")
def test_a_library_that_others_may_change_is_not_loaded(compiled, elsewhere, monkeypatch):
    """One was planted while the folder was open, under a name that fits its bytes."""
    native.library()
    (kept,) = elsewhere.iterdir()
    native.library.cache_clear()
    planted = kept.with_name(native._name(kept.name.split("-")[1], b"planted"))
    kept.unlink()
    planted.write_bytes(b"planted")
    planted.chmod(0o666)
    native.library()
    assert [path.name for path in elsewhere.iterdir()] == [kept.name]
    assert kept.stat().st_mode & 0o777 == 0o700
    native.library.cache_clear()
    # Of another user, in a folder of this one: only the system's user and this one are trusted.
    if os.getuid() == 0:
        os.chown(elsewhere, 12345, -1)
        with pytest.raises(ProtokError, match="another user's"):
            native.library()


def test_widths_that_do_not_fit_are_refused():
    network = Network(ModelConfig("odd", EncoderConfig(hidden=48), QuantizerConfig(dim=5))).eval()
    with pytest.raises(Unsupported, match="width 48"):
        StructureTokenizer(network, compute="native")
    assert StructureTokenizer(network, compute="auto").compute == "torch"


def test_models_without_codes_are_of_torch():
    network = Network(ModelConfig("none", EncoderConfig(hidden=32), QuantizerConfig(kind="none"))).eval()
    with pytest.raises(Unsupported, match="none@continuous cannot be computed natively"):
        StructureTokenizer(network, compute="native")
    assert StructureTokenizer(network, compute="auto").compute == "torch"


def test_gradients_or_not_is_the_same(chains):
    for global_frame in (False, True):
        encoder, batch = small(global_frame).network.encoder, Batch.of(chains)
        with torch.no_grad():
            inferred = encoder(batch)
        assert torch.allclose(encoder(batch).detach(), inferred, atol=1e-5)


def test_a_job_goes_on_where_there_is_no_compiler(compiled, pieces, tmp_path):
    """Half of it was done where there is one; the output is the same call's, either way."""
    folder, out = pieces(6), tmp_path / "t.parquet"
    file = folder / "s3.pdb"
    good = file.read_bytes()
    file.write_bytes(b"not a structure")
    with pytest.raises(Stopped):
        encode_all(folder, small(True, "native"), out, on_error="stop")
    file.write_bytes(good)
    done = encode_all(folder, small(True), out)
    assert 0 < done.resumed < 6
    again = encode_all(folder, small(True, "native"), out)
    assert again.resumed == 6
    expected = small(True).encode_batch([protok.read(path) for path in sorted(folder.iterdir())])
    for tokens, other in zip(load(out), expected, strict=True):
        np.testing.assert_array_equal(tokens.ids, other.ids)


def test_the_command_refuses_the_compiled_encoder(examples, tmp_path, monkeypatch, capsys):
    file, outs = str(examples / "7w89.A.pdb"), [tmp_path / "a.fasta", tmp_path / "b.fasta"]
    assert main.main(["encode", file, "-o", str(outs[0])]) == main.OK

    def never(self, encoder):
        raise AssertionError("it was asked for")

    monkeypatch.setattr("protok.tokenizers.learned.NativeEncoder", never)
    assert main.main(["encode", file, "-o", str(outs[1]), "--compute", "torch"]) == main.OK
    assert outs[0].read_bytes() == outs[1].read_bytes()
    capsys.readouterr()
    assert main.main(["encode", file, "--model", "3di", "--compute", "native"]) == main.USAGE
    assert "3di has no network to compute so; leave --compute out" in capsys.readouterr().err


def test_unknown_ways_are_refused():
    with pytest.raises(ProtokError, match="one of auto, torch, native"):
        small(False, "magic")


def test_groups_cover_all_and_near_forgets_nobody():
    points = torch.randn(1000, 3) * torch.tensor([30.0, 10.0, 5.0])
    parts = g.groups(points, 64)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1000))
    assert max(map(len, parts)) <= 64
    for rows in parts[:4]:
        rows_near = g.near(points, points[rows], 7.0)
        close = (torch.cdist(points[rows], points) <= 7.0).any(0).nonzero()[:, 0]
        assert set(close.tolist()) <= set(rows_near.tolist()) and len(rows_near) < 900


def test_large_chains_have_the_features_of_small_ones():
    """Groups of residues see what all pairs give, stretched parts and lone residues included."""
    chain = torch.from_numpy(packed_chain(1500).coords)
    chain[:60, :] += torch.arange(60).flip(0)[:, None, None] * torch.tensor([30.0, 0, 0])
    ca, turn = chain[:, 1], g.frames(*chain[:, :3].unbind(1))
    mask = torch.ones(len(ca), dtype=torch.bool)
    mask[100:140] = False
    for k in (16, 60):
        whole, grouped = (g.neighbours(ca, mask, k, group=size) for size in (5000, 512))
        assert torch.equal(whole[1], grouped[1])
        there = (ca[whole[0]] - ca[:, None]).norm(dim=-1)
        assert torch.equal(there, (ca[grouped[0]] - ca[:, None]).norm(dim=-1))
    whole, grouped = (
        g.density_moments(ca, turn, mask, (10.0, 18.0, 30.0), group=size) for size in (5000, 512)
    )
    assert torch.allclose(whole, grouped, atol=1e-5)


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
    tokenizer = protok.load("protok-512", compute="torch")
    chains = [protok.read(path) for path in sorted(examples.glob("*.pdb"))] * 4
    few = tokenizer.encode_batch(chains)
    calls = []
    monkeypatch.setattr("protok.model.features.ROWS", protok.model.features.GPU_ROWS)
    monkeypatch.setattr("protok.tokenizers.learned.RESIDUES", protok.tokenizers.learned.GPU_RESIDUES)
    encoder = tokenizer.network.encoder
    encode = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda batch: calls.append(len(batch.sizes)) or encode(batch))
    many = tokenizer.encode_batch(chains)
    assert calls == [len(chains)]
    assert tokenizer.batch_residues == 4 * protok.tokenizers.learned.GPU_RESIDUES
    assert all((a.ids == b.ids).all() for a, b in zip(few, many, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_said(examples, tmp_path, capsys):
    file, out = str(examples / "7w89.A.pdb"), str(tmp_path / "t.parquet")
    for device in ("cuda", "nonsense"):
        assert main.main(["encode", file, "-o", out, "--device", device]) == main.USAGE
        assert f"no device '{device}'" in capsys.readouterr().err
    assert main.main(["encode", file, "-o", out, "--device", "cuda", "--jobs", "2"]) == main.USAGE
    assert main.main(["encode", file, "-o", out, "--device", "cuda", "--model", "3di"]) == main.USAGE
    assert not (tmp_path / "t.parquet").exists()
