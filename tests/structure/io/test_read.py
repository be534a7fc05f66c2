"""Reading real and broken files: what others find in them, or a refusal that says why."""

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from protok import errors
from protok.structure.backbone import Backbone
from protok.structure.io.read import read
from protok.structure.io.sources.paths import iter_files, stem
from tests.helpers import paths

GOLDEN = json.loads((paths.GOLDEN / "io_parsing.json").read_text())
# 4gxy is a riboswitch: all three of its files must say that it holds no protein.
ENTRIES = ("1dix", "1k6p", "3o5r", "5h73", "5ugo")


def assert_equal(a: Backbone, b: Backbone):
    assert a.sequence == b.sequence
    for key in ("chain", "index", "icode"):
        assert getattr(a, key).tolist() == getattr(b, key).tolist(), key
    for key in ("coords", "bfactor"):
        np.testing.assert_array_equal(getattr(a, key), getattr(b, key), err_msg=key)


def test_every_file_of_the_golden_table_is_there(shared):
    base = shared("parsing")
    here = {str(p.relative_to(base)) for p in base.glob("*/*")}
    assert set(GOLDEN) <= here, "the folder may grow, but nothing that is tested may go"


@pytest.mark.parametrize("file", sorted(GOLDEN))
def test_nasty_files(shared, file):
    """Each file gives the residues that others find in it, or its typed refusal.

    The table says who was asked: gemmi or biotite where they read the file (for
    1k6p.bcif gemmi's reading of the .cif, since biotite drops residues with equal
    altlocs), by hand where neither does.
    """
    path, expected = shared(f"parsing/{file}"), GOLDEN[file]
    if "needs" in expected and not find_spec(expected["needs"]):
        expected = expected["without"]
    if "error" in expected:
        with pytest.raises(errors.ProtokError) as caught:
            read(path)
        error = caught.value
        assert type(error).__name__ == expected["error"]
        assert error.cause == expected["says"] and error.remedy
        assert str(path) in str(error)
        return
    s = read(path)
    assert s.sequence == expected["sequence"] and len(s) == expected["residues"]
    assert ",".join(s.chains) == expected["chains"]
    assert f"{s.index[0]}{s.icode[0]}" == expected["first"]
    assert f"{s.index[-1]}{s.icode[-1]}" == expected["last"]
    assert int(s.mask.sum()) == expected["complete"]
    assert s.coords.dtype == s.bfactor.dtype == np.float32 and s.index.dtype == np.int32


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("suffix", [".cif", ".bcif"])
def test_formats_agree(shared, entry, suffix):
    pdb = read(shared(f"parsing/cross_format/{entry}.pdb"))
    other = read(shared(f"parsing/cross_format/{entry}{suffix}"))
    assert_equal(pdb, other)
    assert pdb.notes == other.notes


def test_author_and_label_ids(shared):
    """In 5ugo the author calls the protein A and the DNA T, P and D; by label it is D."""
    for suffix in (".cif", ".bcif"):
        path = shared(f"parsing/cross_format/5ugo{suffix}")
        author, label = read(path), read(path, chain_ids="label")
        assert author.chains == ["A"] and label.chains == ["D"]
        assert author.index.tolist() == label.index.tolist()
        assert len(read(path, chain="D", chain_ids="label")) == len(author)
        assert any("3 nucleic chains skipped" in note for note in author.notes)
    pdb = read(shared("parsing/cross_format/5ugo.pdb"), chain_ids="label")
    assert any("no label ids" in note for note in pdb.notes)


@pytest.mark.parametrize(
    ("file", "residues"), [("truncated.pdb.gz", 8), ("truncated_midline.pdb", 8), ("truncated_loop.cif", 14)]
)
def test_truncated_files_can_be_kept(shared, file, residues):
    whole = read(shared("parsing/synthetic/good.pdb.gz"))
    s = read(shared(f"parsing/synthetic/{file}"), truncated="keep")
    assert any(note.startswith("truncated") for note in s.notes)
    assert len(s) == residues and whole.sequence.startswith(s.sequence)
    np.testing.assert_array_equal(s.coords[:-1], whole.coords[: len(s) - 1])


def test_models(shared):
    path = shared("parsing/synthetic/two_models_differ.pdb")
    first, second = read(path), read(path, model=2)
    assert len(second) < len(first) == 20
    assert "model 2 read, others left out" in second.notes
    with pytest.raises(errors.ChainNotFound, match="has 2 models, no model 3"):
        read(path, model=3)
    ensemble = shared("parsing/real/biopython__2OFG.cif")
    models = [read(ensemble, model=i) for i in (1, 2, 3)]
    assert [len(s) for s in models] == [106, 76, 71]  # by gemmi
    assert not np.array_equal(models[0].coords[:71], models[2].coords)
    with pytest.raises(errors.ChainNotFound, match="has 3 models, no model 4"):
        read(ensemble, model=4)
    with pytest.raises(errors.ChainNotFound):
        read(ensemble, model=0)


def test_altloc_by_occupancy(shared):
    s = read(shared("parsing/synthetic/altloc_half.pdb"))
    lines = shared("parsing/synthetic/altloc_half.pdb").read_text().splitlines()
    b = [line for line in lines if line[12:17] == " CA B" and int(line[22:26]) == 10]
    wanted = [float(b[0][i : i + 8]) for i in (30, 38, 46)]
    np.testing.assert_allclose(s.coords[9, 1], wanted, atol=1e-3)


def gemmi_residues(path: Path):
    """(chain, number, insertion code, letter, CA) of the polymer residues by gemmi."""
    gemmi = pytest.importorskip("gemmi")
    structure = gemmi.read_pdb_string(gzip.decompress(path.read_bytes()))
    structure.setup_entities()
    residues = {}
    for chain in structure[0]:
        for residue in chain.get_polymer():
            place = chain.name, residue.seqid.num, residue.seqid.icode.strip()
            letter = gemmi.find_tabulated_residue(residue.name).one_letter_code.upper()
            alpha = [tuple(atom.pos) for atom in residue if atom.name == "CA"]
            residues.setdefault(place, (letter.strip() or "X", alpha))
    return residues


def test_a_sample_agrees_with_gemmi(shared):
    paths = list(iter_files(shared("files")))[::15]
    assert len(paths) == 41
    for path in paths:
        s, theirs = read(path), gemmi_residues(path)
        places = zip(s.chain.tolist(), s.index.tolist(), s.icode.tolist(), strict=True)
        assert list(places) == list(theirs), path.name
        assert s.sequence == "".join(letter for letter, _ in theirs.values()), path.name
        for xyz, (_, alpha) in zip(s.coords[:, 1], theirs.values(), strict=True):
            assert any(np.allclose(xyz, place, atol=1e-3) for place in alpha)


def test_all_real_files_are_read(shared):
    paths = list(iter_files(shared("files")))
    assert len(paths) == 614
    read_ones = [read(path) for path in paths]
    assert sum(map(len, read_ones)) == 152_563  # as gemmi counts
    assert all(s.mask.mean() > 0.8 for s in read_ones)
    assert [s.name for s in read_ones] == [stem(path) for path in paths]
