"""Decoding of token files: right files, right scores, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import protok
from protok.errors import CodebookMismatch, ProtokError, Unsupported
from protok.pipeline.decode import decode_all, file_names
from protok.structure.io.sources.paths import iter_files
from protok.tokens.files import save
from tests.helpers.tiny import Tiny


@pytest.fixture
def tiny(examples) -> Tiny:
    return Tiny(originals=examples)


@pytest.fixture
def tokens(examples, tiny, tmp_path) -> Path:
    path = tmp_path / "tokens.parquet"
    save([tiny.encode(protok.read(file)) for file in sorted(iter_files([examples]))], path)
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_scores_and_files(examples, tokens, tiny, tmp_path, jobs):
    result = decode_all(tokens, tmp_path / "out", tiny, compare=examples, jobs=jobs)
    assert [chain.name for chain in result.chains] == ["7soo.A", "7vmf.A", "7w89.A", "7wf8.B"]
    for chain in result.chains:
        # The model is the original moved by 1 Å along each axis.
        assert chain.rmsd == pytest.approx(0, abs=2e-3)
        assert chain.tm_score == pytest.approx(1, abs=1e-4)
        assert chain.lddt == 1
        assert chain.confidence == 50
        assert chain.file == str(tmp_path / "out" / f"{chain.name}_{chain.chain}.pdb")
        written = protok.read(chain.file)
        original = protok.read(*examples.glob(f"{chain.name}.*"))
        np.testing.assert_allclose(written.coords, original.coords + 1, atol=2e-3)
        np.testing.assert_array_equal(written.index, original.index)
    assert result.means() == pytest.approx({"chains": 4, "rmsd": 0, "tm_score": 1, "lddt": 1}, abs=2e-3)
    assert result.errors == ()


def test_scores_are_those_of_a_bad_model(examples, tokens, tiny, tmp_path):
    class Straight(Tiny):
        def decode(self, tokens):
            backbone = super().decode(tokens)
            line = np.arange(len(backbone))[:, None, None] * np.array([3.8, 0, 0])
            backbone.coords[...] = line + np.arange(4)[:, None] * 0.3
            return backbone

    result = decode_all(tokens, tmp_path, Straight(originals=examples), compare=examples)
    for chain in result.chains:
        model = protok.read(chain.file)
        expected = protok.compare(model, protok.read(*examples.glob(f"{chain.name}.*")))
        assert chain.rmsd == pytest.approx(expected.rmsd, abs=1e-2)
        assert chain.tm_score == pytest.approx(expected.tm_score, abs=1e-3)
        assert chain.rmsd > 10
        assert chain.tm_score < 0.3
    assert result.means()["rmsd"] == pytest.approx(np.mean([chain.rmsd for chain in result.chains]))


def test_without_originals(tokens, tiny, tmp_path):
    result = decode_all(tokens, tmp_path / "out", tiny, suffix=".cif")
    assert len(list((tmp_path / "out").glob("*.cif"))) == 4
    assert all(np.isnan(chain.rmsd) for chain in result.chains)
    assert result.means()["chains"] == 0


def test_one_original_needs_no_name(examples, tiny, tmp_path):
    original = examples / "7soo.A.pdb"
    (tmp_path / "renamed.pdb").write_bytes(original.read_bytes())
    tokens = tiny.encode(protok.read(original))
    result = decode_all([tokens], tmp_path / "out", tiny, compare=tmp_path / "renamed.pdb")
    assert result.chains[0].tm_score == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_compared_is_said(examples, tiny, tmp_path):
    backbone = protok.read(examples / "7soo.A.pdb")
    batch = [
        tiny.encode(backbone),
        tiny.encode(backbone[:50]),
        tiny.encode(replace(backbone, name="7w89.A")),
        tiny.encode(replace(backbone, name="7vmf.A", coords=backbone.coords * np.nan)),
        replace(tiny.encode(backbone), name="nobody"),
    ]
    # Files that are there, so that decoding itself works.
    names = [tokens.name for tokens in batch]
    assert names.count("7soo.A") == 2
    result = decode_all(batch, tmp_path, tiny, compare=examples)
    assert [(chain.name, chain.length) for chain in result.chains] == [("7soo.A", 89)]
    reasons = {(name, reason.split(";")[0]) for name, _, reason in result.errors}
    assert ("7vmf.A", "no residue has a token") in reasons
    assert len(result.errors) == 4
    assert any(name == "7soo.A" and "50 tokens, but 89 residues" in reason for name, reason in reasons)
    assert any(name == "7w89.A" and "not the structure" in reason for name, reason in reasons)


def test_original_is_found_by_path_where_stems_agree(examples, tiny, tmp_path):
    for folder, name in (("x", "7soo.A"), ("y", "7w89.A")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.pdb").write_bytes((examples / f"{name}.pdb").read_bytes())
    local = Tiny(originals=tmp_path)

    class Folders(Tiny):
        def decode(self, tokens):
            return local.decode(replace(tokens, name=tokens.name.removesuffix(".pdb")))

    out = tmp_path / "tokens.parquet"
    protok.encode_all([tmp_path / "x", tmp_path / "y"], Tiny(), out)
    result = decode_all(out, tmp_path / "out", Folders(), compare=[tmp_path / "x", tmp_path / "y"])
    assert [chain.name for chain in result.chains] == ["x/same.pdb", "y/same.pdb"]
    assert result.errors == ()
    assert (tmp_path / "out" / "x" / "same.pdb_A.pdb").exists()


def test_refusals(examples, tokens, tiny, tmp_path):
    with pytest.raises(CodebookMismatch, match="tiny@00000001.*tiny@00000002"):
        decode_all(tokens, tmp_path, Tiny(version="00000002"))
    with pytest.raises(CodebookMismatch, match="no model of that name"):
        decode_all(tokens, tmp_path)
    letters = protok.load("3di").encode(protok.read(examples / "7soo.A.pdb"))
    with pytest.raises(Unsupported):
        decode_all([letters], tmp_path)
    with pytest.raises(CodebookMismatch, match="3di@"):
        decode_all([tiny.encode(protok.read(examples / "7soo.A.pdb")), letters], tmp_path, tiny)
    with pytest.raises(ProtokError, match="no tokens"):
        decode_all([], tmp_path, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.parquet"]


def test_file_names_stay_in_the_folder(examples, tiny):
    tokens = tiny.encode(protok.read(examples / "7soo.A.pdb")[:3])

    def named(*pairs):
        return file_names([replace(tokens, name=name, chain=np.full(3, chain)) for name, chain in pairs])

    assert named(("1aki", "A"), ("1aki", "B"), ("1aki", " ")) == ["1aki_A", "1aki_B", "1aki"]
    assert named(("../../etc/x", "A"), ("/tmp/y", "../A")) == ["etc/x_A", "tmp/y_..-A"]
    assert named(("a", "A"), ("a", "a"), ("A", "A")) == ["a_A", "a_a-2", "A_A-3"]
    assert named(("", "A"), ("a b?", "*")) == ["unnamed_A", "a-b-_-"]
