"""Reading PDB, case by case: small files made here, each with one thing to get right."""

import numpy as np
import pytest

from protok import errors
from protok.structure.io.formats.numbers import pad_decimals, thousandths
from protok.structure.io.read import read
from tests.helpers.io_files import SHAPE, chain, residue


@pytest.fixture
def pdb(tmp_path):
    """Write lines (a list of lists too) as a file and read it."""

    def make(*parts, name="x.pdb", end="\n", **options):
        lines = [line for part in parts for line in ([part] if isinstance(part, str) else part)]
        path = tmp_path / name
        path.write_bytes((end.join(lines) + end).encode("latin-1"))
        return read(path, **options)

    return make


def test_coordinates_numbers_and_names(pdb):
    s = pdb(chain("GLY ALA SER", 5), "TER", "END", name="abc.d.pdb")
    assert (s.sequence, s.name, s.chains) == ("GAS", "abc.d", ["A"])
    assert s.index.tolist() == [5, 6, 7] and s.icode.tolist() == ["", "", ""]
    steps = np.array([5, 6, 7])[:, None, None] * [3.8, 0, 0]
    wanted = np.array([list(SHAPE.values())] * 3) + steps
    np.testing.assert_allclose(s.coords, wanted, atol=1e-4)
    assert s.bfactor.tolist() == [10, 10, 10] and s.notes == ()


def test_modified_residues_and_polymer_hetatm(pdb):
    """MSE between, before a TER and at the start; a free glutamate and water after it."""
    s = pdb(
        residue("MSE", 1, record="HETATM"),
        chain("GLY", 2),
        residue("SEP", 3, record="HETATM"),
        chain("DAL", 4),
        residue("MSE", 9, record="HETATM"),  # behind a gap
        "TER      21      MSE A   9",
        residue("GLU", 50, record="HETATM"),
        residue("HOH", 51, record="HETATM", atoms={"O": 0}),
        ["HETATM   22 CA    CA A  52      50.000  50.000  50.000  1.00 10.00          CA"],
    )
    assert s.sequence == "MGSAM" and s.index.tolist() == [1, 2, 3, 4, 9]
    assert s.notes == ("unbonded HETATM amino acids left out: 1 GLU",)


def test_unknown_residue_in_the_chain_is_x(pdb):
    s = pdb(chain("GLY"), residue("ZZ9", 2, record="HETATM"), chain("ALA UNK", 3))
    assert s.sequence == "GXAX"


def test_peptide_of_hetatm_alone(pdb):
    assert pdb(chain("DLE MLE ABA", record="HETATM")).sequence == "LLA"


def test_caps_are_no_residues_and_are_noted(pdb):
    cap = residue("ACE", 1, atoms={"C": 0, "O": 0})
    s = pdb(cap, chain("GLY ALA", 2), residue("NH2", 4, atoms={"N": 0}))
    assert s.sequence == "GA"
    assert s.notes == ("residues that are no amino acids left out: 1 ACE, 1 NH2",)


def test_force_field_names(pdb):
    """HSE is histidine in CHARMM's ATOM records, homoserine in the dictionary."""
    s = pdb(chain("HSE HID CYX ASH GLH LYN"), residue("HSE", 7, record="HETATM"), chain("GLY", 8))
    assert s.sequence == "HHCDEKSG"
    four = [f"{line[:17]}CYSH{line[21:]}" for line in residue("CYS", 1)]
    assert pdb(four).sequence == "C" and pdb(four).chains == ["A"]


def test_incomplete_residues_stay(pdb):
    s = pdb(
        chain("GLY"),
        residue("ALA", 2, atoms={"CA": 0}),
        [line.replace(" CA ", " CB ") for line in residue("SER", 3, atoms={"CA": 0})],
    )
    assert s.sequence == "GAS" and s.mask.tolist() == [True, False, False]
    assert np.isfinite(s.coords[1]).any(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(s.coords[2]).all() and np.isnan(s.bfactor[2])


def test_ter_in_the_middle_is_no_end(pdb):
    s = pdb(chain("GLY ALA"), "TER", chain("SER VAL", 3), "TER", chain("TRP", chain="B"))
    assert s.sequence == "GASVW" and s.chain.tolist() == ["A"] * 4 + ["B"]


def test_insertion_codes_and_negative_numbers(pdb):
    s = pdb(
        residue("GLY", -7, at=0),
        residue("ALA", 52, at=1),
        residue("ALA", 52, at=2, icode="A"),
        residue("ALA", 52, at=3, icode="B"),
        residue("SER", 53, at=4),
    )
    assert s.index.tolist() == [-7, 52, 52, 52, 53]
    assert s.icode.tolist() == ["", "", "A", "B", ""]


def test_hybrid36_and_five_digits(pdb):
    lines = [residue("GLY", 1, at=i) for i in range(5)]
    for part, number in zip(lines, ("9999 ", "A000 ", "A001 ", "a000 ", "10000"), strict=True):
        part[:] = [line[:22] + number + line[27:] for line in part]
    assert pdb(*lines).index.tolist() == [9999, 10000, 10001, 1223056, 10000]
    with pytest.raises(errors.CorruptFile, match="residue numbers"):
        pdb([line[:22] + "****" + line[26:] for line in residue("GLY", 1)])


def test_two_character_chains(pdb):
    s = pdb(chain("GLY", chain="AB"), chain("ALA", 2, chain="B"))
    assert s.chains == ["AB", "B"]


def test_a_number_used_twice_is_two_residues(pdb):
    """Without chain ids, or with numbers that begin anew, nothing may be merged."""
    s = pdb(chain("GLY ALA", chain=" "), "TER", chain("GLY SER", chain=" "))
    assert s.sequence == "GAGS" and s.index.tolist() == [1, 2, 1, 2] and s.chains == ["A", "B"]
    s = pdb(chain("GLY ALA", chain=" "), chain("GLY SER", chain=" "))
    assert s.sequence == "GAGS" and s.chains == [""]


def test_parts_of_a_residue_are_one(pdb):
    """Hydrogens or oxygens at the end of the file do not make a new residue."""
    s = pdb(residue("GLY", 1, atoms=["N", "CA"]), chain("ALA", 2), residue("GLY", 1, atoms=["C", "O"]))
    assert s.sequence == "GA" and s.mask.all()


def test_a_side_chain_at_the_number_of_another(pdb):
    """What has no backbone atom must not take the place of what has."""
    side = [line.replace(" CA ", " CB ") for line in residue("SER", 2, atoms=["CA"])]
    s = pdb(chain("GLY"), side, residue("THR", 2), chain("GLY", 3))
    assert s.sequence == "GTG" and s.mask.all()


def test_absurd_numbers_are_no_warnings(pdb):
    lines = [line[:30] + "  1e+200" * 3 + "1e+200" * 2 for line in residue("SER", 2)]
    s = pdb(chain("GLY"), [line.replace("ATOM  ", "HETATM") for line in lines], chain("GLY", 3))
    assert s.sequence == "GSG" and s.mask.tolist() == [True, False, True]


def test_altlocs_are_consistent(pdb):
    """B has more occupancy on the whole, A more in one atom."""
    a = residue("SER", 2, alt="A", occupancy="0.40")
    b = residue("SER", 2, alt="B", occupancy="0.60", shift=5.0)
    a[1] = a[1][:54] + "  0.80" + a[1][60:]
    b[1] = b[1][:54] + "  0.20" + b[1][60:]
    b[2] = b[2][:54] + "  0.90" + b[2][60:]
    mixed = [line for pair in zip(a, b, strict=True) for line in pair]
    s = pdb(chain("GLY"), mixed, chain("GLY", 3))
    assert s.sequence == "GSG" and (s.coords[1, :, 1] > 3).all()
    assert s.notes == ("1 residue with alternate locations, the most occupied kept",)
    blank = [line[:54] + " " * 12 + line[66:] for line in mixed]
    s = pdb(chain("GLY"), blank)
    assert (s.coords[1, :, 1] < 3).all() and np.isnan(s.bfactor[1])  # equal: the first


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(("occupancy", "letter"), [("0.30", "T"), ("0.70", "S")])
def test_microheterogeneity(pdb, interleaved, occupancy, letter):
    a = residue("SER", 2, alt="A", occupancy=occupancy)
    b = residue("THR", 2, alt="B", occupancy=f"{1 - float(occupancy):.2f}", shift=5.0)
    lines = [x for pair in zip(a, b, strict=True) for x in pair] if interleaved else a + b
    s = pdb(chain("GLY"), lines, chain("GLY", 3))
    assert s.sequence == f"G{letter}G" and s.mask.all()
    assert ((s.coords[1, :, 1] > 3) == (letter == "T")).all()


def test_placeholders(pdb):
    zero = [line[:30] + "   0.000" * 3 + line[54:] for line in residue("ALA", 2)]
    far = [line[:30] + "9999.000" * 3 + line[54:] for line in residue("SER", 3)]
    star = [line[:30] + "********" + line[38:] for line in residue("VAL", 4)]
    s = pdb(chain("GLY"), zero, far, star)
    assert s.sequence == "GASV" and s.mask.tolist() == [True, False, False, False]
    assert s.notes == (
        "4 backbone atoms without readable coordinates",
        "8 backbone atoms at the origin, at 9999 or beyond all measure taken as missing",
    )
    origin = residue("GLY", 0)  # its N lies at the origin, and may
    assert pdb(origin).mask.all()


def test_slipped_columns_are_refused(pdb):
    with pytest.raises(errors.CorruptFile, match="line 1 have slipped"):
        pdb([line[:7] + line[8:] for line in chain("GLY ALA", 100)])
    with pytest.raises(errors.CorruptFile, match="slipped"):
        pdb([line[:27] + line[28:] for line in chain("GLY ALA", -270, shift=-150.0)])
    with pytest.raises(errors.CorruptFile, match="where a coordinate should"):
        pdb([line[:30] + " " + line[30:] for line in chain("GLY ALA", 100)])
    with pytest.raises(errors.CorruptFile, match="line 2 ends before its coordinates"):
        pdb(chain("GLY")[:1], chain("GLY")[1][:40], chain("ALA"))


def test_nucleic_chains_are_counted(pdb):
    rna = [line for i in (1, 2) for line in residue("  U", i, chain="R", atoms={"C": 0})]
    dna = residue(" DA", 1, chain="D", atoms={"C": 0})
    s = pdb(rna, chain("GLY"), dna)
    assert s.sequence == "G" and s.notes == ("2 nucleic chains skipped",)
    with pytest.raises(errors.NoProtein, match="1 nucleic chain skipped"):
        pdb(dna)
    with pytest.raises(errors.NoProtein, match="chain D"):
        pdb(rna, chain("GLY"), dna, chain="D")


def test_choice_of_chains(pdb):
    parts = [chain("GLY ALA", chain=c) for c in "ABC"]
    assert pdb(*parts, chain="B").chains == ["B"]
    assert pdb(*parts, chain="C, A").chains == ["A", "C"]  # the order of the file
    with pytest.raises(errors.ChainNotFound, match="chain Z: no such chain; .*'A', 'B', 'C'"):
        pdb(*parts, chain="A,Z")


def test_models_by_end_records(pdb):
    frames = [chain("GLY"), "END", chain("ALA"), "END"]
    assert pdb(*frames).sequence == "G" and pdb(*frames, model=2).sequence == "A"


def test_truncation_at_a_line_end(pdb):
    """A file of the PDB ends with END; what breaks off inside a chain was cut."""
    remark = "REMARK   4 1ABC COMPLIES WITH FORMAT V. 3.30, 13-JUL-11"
    with pytest.raises(errors.TruncatedFile, match="without END"):
        pdb(remark, chain("GLY ALA"))
    assert "truncated" in pdb(remark, chain("GLY ALA"), truncated="keep").notes[0]
    assert pdb(remark, chain("GLY ALA"), "TER").notes == ()
    assert pdb(chain("GLY ALA"), end="\n").notes == ()


def test_last_line_without_line_end(tmp_path):
    lines = chain("GLY ALA")
    path = tmp_path / "x.pdb"
    path.write_text("\n".join(lines))
    assert read(path).mask.all()
    path.write_text("\n".join(lines)[:-8])
    with pytest.raises(errors.TruncatedFile, match="last line"):
        read(path)
    path.write_text("\n".join(lines) + "\nHETA")
    assert len(read(path, truncated="keep")) == 2


def test_fixed_point_numbers():
    rng = np.random.default_rng(0)
    values = rng.integers(-999_999, 9_999_999, 20_000) / 1000 / 10.0 ** rng.integers(0, 4, 20_000)
    text = [f"{v:8.3f}" for v in values]
    words = np.frombuffer("".join(text).encode(), "<u8")
    np.testing.assert_array_equal(thousandths(words), [float(t) for t in text])
    for bad in ("12.34567", "1 3.456 ", "--12.345", "1-2.345 ", "    .-73", "   a.123", " 1234567"):
        assert thousandths(np.frombuffer(bad.rjust(8).encode(), "<u8")) is None, bad


def test_numbers_of_fewer_decimals():
    rng = np.random.default_rng(0)
    values = rng.uniform(-999, 999, 5000)
    for decimals in range(4):
        text = [f"{v:.{decimals}f}" for v in values]
        text = [t for t in text if len(t) + 3 - decimals + (decimals == 0) <= 8]
        words = np.frombuffer("".join(t.rjust(8) for t in text).encode(), "<u8")
        numbers = thousandths(pad_decimals(words))
        np.testing.assert_array_equal(numbers, [float(t) for t in text])
    for bad in (".", "-.", "?", "1.2345", "1e5", "12345.6", "*****", "1.2.3"):
        words = pad_decimals(np.frombuffer(bad.rjust(8).encode(), "<u8"))
        assert words is None or thousandths(words) is None, bad
