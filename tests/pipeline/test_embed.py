"""Vectors of many structures: the job of tokens, with other columns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import protok
from protok.cli import main
from protok.errors import CorruptFile, FormatError, ProtokError, Unsupported
from protok.pipeline.embed import embed_all, read_vectors
from protok.pipeline.encode import Stopped, parts_of
from protok.testing import random_complex
from tests.helpers.models import small
from tests.helpers.tiny import Tiny


@pytest.fixture(scope="module")
def model():
    return small()


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("jobs", [1, 2])
def test_rows_are_what_the_model_gives(model, examples, tmp_path, jobs):
    files = [examples / "7w89.A.pdb", examples / "7wf8.B.pdb"]
    summary = embed_all(files, model, tmp_path / "x.parquet", alternatives=3, jobs=jobs)
    rows = list(read_vectors(tmp_path / "x.parquet"))
    assert [(row.name, str(row.chain[0])) for row in rows] == [("7w89.A", "A"), ("7wf8.B", "B")]
    for file, row in zip(files, rows, strict=True):
        chain = protok.read(file)
        states, nearest = model.states(chain), model.alternatives(chain, 3)
        assert list(row.columns) == ["latents", "states", "mean", "codes", "distances", "margin"]
        np.testing.assert_array_equal(row.columns["latents"], model.embed(chain))
        np.testing.assert_array_equal(row.columns["states"], states)
        np.testing.assert_allclose(row.columns["mean"], np.nanmean(states, axis=0), atol=1e-6)
        np.testing.assert_array_equal(row.columns["codes"], nearest.codes)
        np.testing.assert_array_equal(row.columns["margin"], nearest.margin)
        assert (row.codebook, row.sequence) == (model.codebook, chain.sequence)
        assert row.index.tolist() == chain.index.tolist()
    assert (summary.chains, summary.residues) == (2, sum(map(len, rows)))
    # As any reader of Parquet has it.
    table = pq.read_table(tmp_path / "x.parquet", columns=["mean", "latents"])
    assert np.stack(table["mean"].to_numpy()).shape == (2, 16)
    first = table["latents"][0].values.to_numpy().reshape(len(rows[0]), -1)
    np.testing.assert_array_equal(first, rows[0].columns["latents"])


def test_each_chain_is_a_row_and_holes_stay_holes(model, tmp_path):
    whole = random_complex([30, 20])
    coords = whole.coords.copy()
    coords[[3, *range(30, 50)], 0] = np.nan
    protok.write(replace(whole, coords=coords, name="two"), tmp_path / "two.cif")
    summary = embed_all(tmp_path / "two.cif", model, tmp_path / "x", columns=["mean", "latents"])
    first, second = read_vectors(tmp_path / "x")
    assert list(first.columns) == ["latents", "mean"]
    assert np.isnan(first.columns["latents"]).any(1).tolist() == [i == 3 for i in range(30)]
    assert np.isfinite(first.columns["mean"]).all() and np.isnan(second.columns["mean"]).all()
    assert second.uncoded and not first.uncoded and summary.uncoded == 1
    assert "no residue has a code" in summary.notes[-1][1]


def test_errors_are_rows_and_work_goes_on(pieces, model, tmp_path):
    pdbs, out = pieces(6), tmp_path / "x.parquet"
    content = (pdbs / "s4.pdb").read_text()
    (pdbs / "s4.pdb").write_text("nothing\n")
    with pytest.raises(Stopped, match=r"s4\.pdb"):
        embed_all(pdbs, model, out, on_error="stop")
    with pytest.raises(ProtokError, match="unfinished work of another kind: columns"):
        embed_all(pdbs, model, out, columns=["mean"])
    summary = embed_all(pdbs, model, out)
    assert summary.resumed == 4 and not parts_of(out).exists()
    assert [row.name for row in read_vectors(out)] == ["s0", "s1", "s2", "s3", "s5"]
    ((file, _, reason),) = summary.errors
    assert Path(file).name == "s4.pdb" and reason
    assert "s4.pdb" in (tmp_path / "x.parquet.errors.tsv").read_text()
    before = out.read_bytes()
    assert embed_all(pdbs, model, out).resumed == 6 and out.read_bytes() == before
    (pdbs / "s4.pdb").write_text(content)
    with pytest.raises(ProtokError, match="other content"):
        embed_all(pdbs, model, out)
    assert embed_all(pdbs, model, out, overwrite=True).failed == 0


def test_a_structure_that_the_model_refuses_is_a_row(pieces, model, tmp_path):
    class Half(type(model)):
        def states(self, structure):
            if structure.name == "s1":
                raise KeyError("a fault")
            return super().states(structure)

    summary = embed_all(pieces(3), Half(model.network), tmp_path / "x.parquet")
    assert [row.name for row in read_vectors(tmp_path / "x.parquet")] == ["s0", "s2"]
    ((_, chain, reason),) = summary.errors
    assert chain == "A" and "KeyError" in reason


def test_what_a_model_has_not_is_refused_before_the_work(pieces, model, tmp_path):
    pdbs, out = pieces(1), tmp_path / "x.parquet"
    with pytest.raises(Unsupported, match="tiny has no vectors; take a model that embeds, such as protok-1"):
        embed_all(pdbs, Tiny(), out)
    with pytest.raises(Unsupported, match="3di has no states; ask for latents, mean"):
        embed_all(pdbs, "3di", out, columns=["states"])
    with pytest.raises(Unsupported, match="3di ranks no codes"):
        embed_all(pdbs, "3di", out, alternatives=2)
    with pytest.raises(Unsupported, match="65 alternatives of 64 codes; ask for 2 to 64"):
        embed_all(pdbs, model, out, alternatives=65)
    with pytest.raises(FormatError, match=r"'\.csv' is no format of vectors; use \.parquet"):
        embed_all(pdbs, model, tmp_path / "x.csv")
    assert not out.exists() and not parts_of(out).exists()
    embed_all(pdbs, "3di", out)
    (row,) = read_vectors(out)
    np.testing.assert_allclose(row.columns["mean"], np.nanmean(row.columns["latents"], axis=0), atol=1e-6)


def test_a_file_of_something_else_is_no_vectors(pieces, model, tmp_path):
    protok.encode_all(pieces(1), "3di", tmp_path / "t.parquet")
    with pytest.raises(CorruptFile, match=r"t\.parquet: no vectors of protok"):
        list(read_vectors(tmp_path / "t.parquet"))
    embed_all(tmp_path / "pdbs", model, tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-20])
    with pytest.raises(CorruptFile, match=r"x\.parquet"):
        list(read_vectors(tmp_path / "x.parquet"))


def test_the_command(pieces, model, tmp_path, capsys):
    pdbs, out = pieces(3), tmp_path / "x.parquet"
    folder = model.save_pretrained(tmp_path / "small")
    assert run("embed", pdbs, "-o", out, "--model", folder, "--columns", "mean", "--alternatives", 2) == 0
    assert "3 files, 3 chains, 60 residues in" in capsys.readouterr().err
    assert list(next(read_vectors(out)).columns) == ["mean", "codes", "distances", "margin"]
    assert run("embed", pdbs, "-o", out, "--model", folder) == 2
    assert "exists and was made otherwise: columns ['mean'], now" in capsys.readouterr().err
    (pdbs / "bad.pdb").write_text("nothing\n")
    assert run("embed", pdbs, "-o", tmp_path / "y.parquet", "--model", folder) == 1
    assert "1 file failed, listed in" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("embed", pdbs)
