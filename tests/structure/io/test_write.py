"""Writing PDB and mmCIF: what is written is read back, by protok and by others."""

from dataclasses import replace

import numpy as np
import pytest

from protok import errors
from protok.structure.backbone import Backbone
from protok.structure.io.read import read
from protok.structure.io.write import write


def structure(n=30, seed=0, chains="AB", index=None, icode=None, bfactor=True):
    rng = np.random.default_rng(seed)
    # Steps of a chain, so that no atoms coincide; two decimals more than PDB keeps.
    coords = np.cumsum(rng.normal(size=(n, 4, 3)), axis=0) * 3
    return Backbone(
        coords=coords.astype(np.float32),
        sequence="".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYXUO"), n)),
        chain=np.array([chains[i * len(chains) // n] for i in range(n)]),
        index=np.arange(-3, n - 3, dtype=np.int32) if index is None else index,
        icode=np.full(n, "") if icode is None else icode,
        bfactor=np.round(rng.uniform(0, 100, n), 2).astype(np.float32) * bfactor,
        name="x",
    )


def assert_same(a: Backbone, b: Backbone):
    assert a.sequence == b.sequence and a.name == b.name
    for key in ("chain", "index", "icode"):
        assert getattr(a, key).tolist() == getattr(b, key).tolist(), key
    np.testing.assert_allclose(a.coords, b.coords, atol=5.1e-4)
    np.testing.assert_allclose(a.bfactor, b.bfactor, atol=5.1e-3)


SUFFIXES = [".pdb", ".ent.gz", ".pdb.zst", ".cif", ".mmcif.gz", ".cif.zst"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    icode = np.array([""] * 10 + ["A", "B"] + [""] * 18)
    s = structure(icode=icode)
    s.coords[4, 3] = s.coords[9, 1:3] = np.nan
    s.bfactor[9] = np.nan  # its CA is missing
    path = tmp_path / f"x{suffix}"
    write(s, path)
    assert_same(read(path), s)
    assert read(path).notes == ()
    first = path.read_bytes()
    write(s, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_many_residues_and_large_numbers(tmp_path, suffix):
    n = 25_100  # more than 99,999 atoms, numbers beyond 9,999
    s = structure(n, index=np.arange(-500, n - 500, dtype=np.int32), chains="A")
    s.coords[:] = (s.coords + 900) % 900 + 1
    write(s, tmp_path / f"x{suffix}")
    assert_same(read(tmp_path / f"x{suffix}"), s)


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_blank_chain_and_what_is_lost(tmp_path, suffix):
    s = structure(chains=[""])
    s.coords[7] = np.nan
    s.bfactor[:] = np.nan
    write(s, tmp_path / f"x{suffix}")
    back = read(tmp_path / f"x{suffix}")
    assert back.chains == [""] and len(back) == len(s) - 1
    assert (back.bfactor == 0).all()


@pytest.mark.parametrize("ids", [["AA", "AAA-2"], ["_x", "it's", "#", '"', "a b", "loop_"], ["ATOM"]])
def test_chain_ids_of_mmcif(tmp_path, ids):
    s = structure(chains=ids)
    write(s, tmp_path / "x.cif")
    assert_same(read(tmp_path / "x.cif"), s)


def test_pdb_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "x.pdb"
    far = structure()
    far.coords[0, 0, 0] = -1000
    for s in (
        structure(chains=["AA"]),
        structure(icode=np.full(30, "AB")),
        structure(index=np.full(30, -1000, np.int32)),
        structure(index=np.full(30, 3_000_000, np.int32)),
        far,
    ):
        with pytest.raises(errors.FormatError, match="mmCIF") as caught:
            write(s, path)
        assert str(path) in str(caught.value) and not path.exists()
        write(s, tmp_path / "x.cif")
        assert_same(read(tmp_path / "x.cif"), s)


ODD = [
    "A B",
    "5' end",
    "it's a",
    "a'b\"c",
    "'",
    '"',
    "''",
    " A",
    ";x",
    "_x",
    "[a]",
    "data_1",
    "a#b",
    ".?",
    "é",
]
UNWRITABLE = ["a\nb", "\n", "\t", '5\' "end" x', "a\u2028b", "\ud800", "?", "."]


@pytest.mark.parametrize("field", ["chain", "icode"])
@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
@pytest.mark.parametrize("text", ODD + UNWRITABLE)
def test_what_is_written_is_read(tmp_path, field, suffix, text):
    s = replace(structure(), **{field: np.full(30, text)})
    path = tmp_path / f"x{suffix}"
    try:
        write(s, path)
    except errors.FormatError as error:
        assert not path.exists() and "\n" not in str(error)
        assert text in UNWRITABLE or suffix == ".pdb"
    else:
        assert getattr(read(path), field).tolist() == [text.strip()] * 30


def test_wrong_paths(tmp_path):
    for name in ("x", "x.bcif", "x.gz", "x.pdb.bz2", "x.txt"):
        with pytest.raises(errors.FormatError, match="cannot write"):
            write(structure(), tmp_path / name)
    with pytest.raises(errors.FormatError, match="no value"):
        write(structure(chains="?"), tmp_path / "x.cif")
    with pytest.raises(errors.ProtokError, match="cannot be written"):
        write(structure(), tmp_path / "no" / "x.pdb")


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_others_read_it(tmp_path, suffix):
    s = structure()
    path = tmp_path / f"x{suffix}"
    write(s, path)
    if suffix == ".pdb":
        from biotite.structure.io.pdb import PDBFile

        atoms = PDBFile.read(str(path)).get_structure(model=1, extra_fields=["b_factor"])
    else:
        from biotite.structure.io.pdbx import CIFFile, get_structure

        file = CIFFile.read(str(path))
        atoms = get_structure(file, model=1, extra_fields=["b_factor"], use_author_fields=True)
    np.testing.assert_allclose(atoms.coord, s.coords.reshape(-1, 3), atol=5.1e-4)
    assert atoms.res_id.tolist() == np.repeat(s.index, 4).tolist()
    assert atoms.chain_id.tolist() == np.repeat(s.chain, 4).tolist()
    assert atoms.element.tolist() == ["N", "C", "C", "O"] * 30
    np.testing.assert_allclose(atoms.b_factor, np.repeat(s.bfactor, 4), atol=5.1e-3)


def test_gemmi_reads_it(tmp_path):
    gemmi = pytest.importorskip("gemmi")
    s = structure()
    for suffix in (".pdb", ".cif"):
        write(s, tmp_path / f"x{suffix}")
        model = gemmi.read_structure(str(tmp_path / f"x{suffix}"))[0]
        assert [c.name for c in model] == ["A", "B"]
        assert [r.seqid.num for c in model for r in c] == s.index.tolist()


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_real_structures_come_back(shared, tmp_path, suffix):
    for file in ("cross_format/1k6p.cif", "real/biojava__1a4w.pdb", "real/atomworks__6mub_new.cif"):
        s = read(shared(f"parsing/{file}"))
        path = tmp_path / f"{s.name}{suffix}"
        write(s, path)
        assert_same(read(path), s[np.isfinite(s.coords).any(axis=(1, 2))])
