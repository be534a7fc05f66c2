"""What a file holds beside its protein: the same from every format, of one conformer, near what is shown."""

import numpy as np
import pytest

import protok
from protok.errors import CorruptFile
from protok.structure.io.ligands import read_ligands


@pytest.mark.parametrize(("name", "count"), [("1k6p", 10), ("3o5r", 1), ("5h73", 9), ("5ugo", 26)])
def test_formats_agree(shared, name, count):
    files = [shared(f"parsing/cross_format/{name}.{suffix}") for suffix in ("pdb", "cif", "bcif")]
    first, *others = [read_ligands(file, protok.read(file)) for file in files]
    assert len(set(first.label.tolist())) == count
    for other in others:
        assert other.label.tolist() == first.label.tolist()
        assert other.element.tolist() == first.element.tolist()
        np.testing.assert_allclose(other.coords, first.coords, atol=1e-3)


ALA = "ATOM  {:5d} {:<4s} ALA A   1    {:8.3f}   0.000   0.000  1.00 10.00           {}"
HET = "HETATM{:5d} {:<4s}{}{:>3s} A{:4d}    {:8.3f}   0.000   0.000  1.00 10.00          {:>2s}"


def test_what_is_no_ligand(tmp_path):
    """Water, caps, modified residues, and what is far away."""
    lines = [
        ALA.format(i, atom, x, atom.strip()[0])
        for i, (atom, x) in enumerate([(" N", 0), (" CA", 1.5), (" C", 2.5)])
    ]  # noqa: E501
    lines += [HET.format(9, " N", " ", "MSE", 2, 3.8, "N"), HET.format(10, " CA", " ", "MSE", 2, 5, "C")]
    lines += [HET.format(11, " C", " ", "MSE", 2, 6.4, "C"), HET.format(12, "SE", " ", "MSE", 2, 7, "SE")]
    lines += [HET.format(20, " O", " ", "HOH", 3, 4, "O"), HET.format(21, " N", " ", "NH2", 4, 8, "N")]
    lines += [HET.format(22, "ZN", "A", "ZN", 5, 9, "ZN"), HET.format(23, "ZN", "B", "ZN", 5, 9.5, "ZN")]
    lines += [HET.format(24, "ZN", " ", "ZN", 6, 40, "ZN"), HET.format(25, " C1", " ", "LIG", 7, 16, "C")]
    lines += [HET.format(26, " C2", " ", "LIG", 7, 40, "C"), "END"]
    file = tmp_path / "x.pdb"
    file.write_text("\n".join(lines) + "\n")
    structure = protok.read(file)
    assert structure.sequence == "AM"
    ligands = read_ligands(file, structure)
    # Of a ligand that is near all atoms come, of two conformers one.
    assert list(zip(ligands.label.tolist(), ligands.atom.tolist(), strict=True)) == [
        ("ZN A 5", "ZN"), ("LIG A 7", "C1"), ("LIG A 7", "C2"),
    ]  # fmt: skip
    assert ligands.coords[0, 0] == 9


def test_what_biotite_cannot_read(shared):
    file = shared("parsing/reported/num_letter.cif")
    with pytest.raises(CorruptFile, match="its ligands cannot be read"):
        read_ligands(file, protok.read(file))
