"""The comparison with other readers: what differs has a rule or is reported."""

import dataclasses
import gzip
import sys

import numpy as np
import pytest

import protok
from protok.errors import CorruptFile
from tests.helpers.io_files import chain, cif_rows, residue

pytest.importorskip("gemmi")

from benchmarks.accuracy import readers  # noqa: E402

LINES = [
    *chain("GLY ALA"),
    *residue("SER", 3, alt="A", occupancy="0.40"),
    *residue("SER", 3, alt="B", occupancy="0.60", shift=0.5),
    *residue("THR", 4, alt="A", occupancy="0.70"),
    *residue("VAL", 4, alt="B", occupancy="0.30", shift=0.5),
    *residue("MSE", 5, record="HETATM"),
    *chain("TRP TYR", 6),
    *residue("HID", 8),
    "TER",
    *residue("HOH", 101, record="HETATM", atoms=["O"]),
    *residue(" CA", 102, record="HETATM", atoms=["CA"]),
    *residue("PHE", 103, at=200, record="HETATM"),
    "END",
]
RULES = {
    "conformer: most occupied alternate location of the whole residue",
    "left out: less occupied of several kinds in one place",
    "left out: water",
    "left out: no amino acid (ion, ligand, lipid)",
    "left out: HETATM that no peptide bond joins",
    "letter: protonation state of a force field",
}


@pytest.fixture
def pdb(tmp_path):
    path = tmp_path / "x.pdb"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_every_difference_of_a_file_has_its_rule(pdb):
    result = readers.compare(pdb)
    assert not result.unexplained
    assert set(result.rules) == RULES and result.residues == 8


def change(field, value):
    """A reader that is wrong in one field of its third residue."""

    def read(path, *, real=protok.read):
        backbone = real(path)
        values = getattr(backbone, field)
        values = list(values) if isinstance(values, str) else values.copy()
        values[2] = value
        return dataclasses.replace(backbone, **{field: "".join(values) if field == "sequence" else values})

    return read


@pytest.mark.parametrize(
    "field, value",
    [("index", 77), ("icode", "B"), ("chain", "Q"), ("sequence", "K"), ("coords", 1.0), ("coords", np.nan)],
)
def test_a_wrong_reader_is_found_out(pdb, monkeypatch, capsys, field, value):
    monkeypatch.setattr(protok, "read", change(field, value))
    monkeypatch.setattr(sys, "argv", ["readers", str(pdb.parent)])
    with pytest.raises(SystemExit) as stop:
        readers.main()
    assert stop.value.code == 1
    assert f"{pdb}: unexplained: " in capsys.readouterr().out


def test_residues_that_are_lost_or_refused_without_reason(pdb, monkeypatch):
    real = protok.read
    monkeypatch.setattr(protok, "read", lambda path: real(path)[1:])
    assert readers.compare(pdb).unexplained == ["A 1 GLY: left out"]

    def refuse(path):
        raise CorruptFile("too beautiful")

    monkeypatch.setattr(protok, "read", refuse)
    assert readers.compare(pdb).unexplained == ["refused: too beautiful"]


def test_all_formats_and_refusals(tmp_path, monkeypatch, capsys):
    biotite = pytest.importorskip("biotite.structure.io.pdbx")
    rows = [row | {"type_symbol": row["label_atom_id"][0]} for row in cif_rows()]
    lines = [
        "data_x",
        "loop_",
        *(f"_atom_site.{name}" for name in rows[0]),
        *map(" ".join, map(dict.values, rows)),
    ]
    text = "\n".join(lines) + "\n"
    (tmp_path / "x.cif").write_text(text)
    (tmp_path / "x.cif.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "cut.pdb").write_text("\n".join(LINES)[:300])
    (tmp_path / "not.pdb").write_text("no structure\n")
    binary = biotite.BinaryCIFFile()
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns |= {name: columns[name].astype(float) for name in ("Cartn_x", "Cartn_y", "Cartn_z")}
    columns |= {name: columns[name].astype(int) for name in ("label_seq_id", "auth_seq_id")}
    binary["x"] = biotite.BinaryCIFBlock({"atom_site": biotite.BinaryCIFCategory(columns)})
    biotite.compress(binary).write(tmp_path / "x.bcif")
    monkeypatch.setattr(sys, "argv", ["readers", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        readers.main()
    out = capsys.readouterr().out
    assert stop.value.code == 0, out
    assert "refused: cut short" in out and "refused by all" in out
    assert "5 files, 9 residues read, 0 differences unexplained" in out
