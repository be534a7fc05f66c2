"""Files that other readers get wrong without a word, each for its kind, and what is right in them."""

import csv

import numpy as np
import pytest

import protok
from protok.errors import CorruptFile, NoProtein, ProtokError, TruncatedFile
from protok.structure.io.sources.paths import is_structure, stem
from tests.helpers.io_files import COLUMNS, chain, cif_rows, cif_text, residue


@pytest.fixture
def read(tmp_path):
    """Read lines of a PDB file, or the text of an mmCIF file."""

    def read(content, **options):
        path = tmp_path / ("x.cif" if isinstance(content, str) else "x.pdb")
        path.write_text(content if isinstance(content, str) else "\n".join([*content, "END", ""]))
        return protok.read(path, **options)

    return read


def places(backbone):
    """Chain, number and insertion code of each residue, in words."""
    rows = zip(backbone.chain, backbone.index, backbone.icode, strict=True)
    return " ".join(f"{chain}{number}{icode}" for chain, number, icode in rows)


def four(lines, name):
    """The lines with a residue name of four letters, which takes column 21 too."""
    return [line[:17] + f"{name:<4}" + line[21:] for line in lines]


@pytest.mark.parametrize(
    "name, letter", [("NALA", "A"), ("CVAL", "V"), ("DALA", "A"), ("SEP1", "S"), ("NHIE", "H")]
)
def test_names_of_four_letters_are_no_chains(read, name, letter):
    lines = [*four(residue("XXX", 1), name), *chain("LEU PRO", 2)]
    assert (read(lines).sequence, places(read(lines))) == (letter + "LP", "A1 A2 A3")


@pytest.mark.parametrize("identifier", ["AA", "LA", "1A", "DA"])
def test_chains_of_two_letters_are_no_names(read, identifier):
    lines = chain("NAL GLY SER ALA", chain=identifier)
    assert places(read(lines)) == " ".join(f"{identifier}{i}" for i in (1, 2, 3, 4))


@pytest.mark.parametrize("name", ["DPPC", "SDPC"])
@pytest.mark.parametrize("column", [" ", "A", "L"])
def test_lipids_with_the_letters_of_an_amino_acid_are_none(read, name, column):
    lipid = [line[:21] + column + line[22:] for line in four(residue("XXX", 9, atoms=["N", "C"]), name)]
    backbone = read([*chain("ALA LEU PRO"), *lipid])
    assert backbone.sequence == "ALP" and any("left out" in note for note in backbone.notes)


def numbered(name, atoms):
    """Rows of a protein and of one more residue, which the writer numbers like the others."""
    rows = cif_rows("ALA LEU PRO")
    for atom in atoms:
        place = {"label_atom_id": atom, "label_comp_id": name, "label_seq_id": "301", "auth_seq_id": "301"}
        rows.append(rows[0] | place | {"group_PDB": "HETATM", "Cartn_x": "40.0", "id": str(len(rows) + 1)})
    return cif_text(rows)


@pytest.mark.parametrize("name, atoms", [("CA", ["CA"]), ("PLM", ["CA", "C1"]), ("LIG", ["N", "CA", "C"])])
def test_ions_and_ligands_with_an_atom_ca_are_no_residues(read, name, atoms):
    backbone = read(numbered(name, atoms))
    assert backbone.sequence == "ALP" and any(name in note for note in backbone.notes)


@pytest.mark.parametrize("blank", [["N"], ["N", "O"], []])
def test_one_place_for_two_kinds_that_share_atoms(read, blank):
    rest = [atom for atom in ("N", "CA", "C", "O") if atom not in blank]
    middle = [*residue("PRO", 2, atoms=blank)] if blank else []
    middle += residue("PRO", 2, alt="A", occupancy="0.40", atoms=rest)
    middle += residue("SER", 2, alt="B", occupancy="0.60", atoms=rest)
    backbone = read([*residue("ALA", 1), *middle, *residue("THR", 3)])
    assert backbone.sequence == "AST" and np.isfinite(backbone.coords).all()


def test_locations_that_complete_each_other_make_one_residue(read):
    halves = residue("LEU", 2, alt="A", atoms=["N", "CA"]) + residue("LEU", 2, alt="B", atoms=["C", "O"])
    backbone = read([*residue("ALA", 1), *halves, *residue("THR", 3)])
    assert np.isfinite(backbone.coords).all() and "taken from another" in " ".join(backbone.notes)


def segment(lines, name):
    return [f"{line[:72]:<72}{name:<4}{line[76:]}" for line in lines]


def test_chains_that_only_ter_tells_apart(read):
    first, second = chain("ALA LEU PRO", chain=" "), chain("VAL ASP ARG", 4, chain=" ", shift=30)
    assert places(read([*first, "TER", *second])) == "A1 A2 A3 B4 B5 B6"
    assert places(read([*first, *second])) == "1 2 3 4 5 6"
    joined = read([*first, "TER", *chain("VAL ASP ARG", 4, chain=" ")])
    assert len(set(joined.chain)) == 1, "a peptide bond joins them"


def test_chains_that_only_segments_tell_apart(read):
    first, second = chain("ALA LEU PRO", chain="P"), chain("ALA LEU PRO", chain="P", shift=30)
    backbone = read([*segment(first, "PROA"), *segment(second, "PROB")])
    assert places(backbone) == "PROA1 PROA2 PROA3 PROB1 PROB2 PROB3"
    assert "PROA, PROB" in " ".join(backbone.notes)


def test_chains_that_only_label_ids_tell_apart(read):
    rows = [*cif_rows(asym="A"), *(row | {"Cartn_y": "40.0"} for row in cif_rows(asym="B", first=21))]
    assert places(read(cif_text(rows))) == "A11 A12 A13 B21 B22 B23"


def test_an_id_that_comes_back_is_another_chain(read):
    lines = [*chain("ALA LEU"), *chain("VAL ASP", chain="B", shift=30), *chain("ALA LEU", shift=60)]
    assert places(read(lines)) == "A1 A2 B1 B2 A-21 A-22"
    assert places(read(lines, chain="A-2")) == "A-21 A-22"


def test_codes_of_a_chain_do_not_depend_on_its_copy(read):
    tokenizer = protok.load("3di")
    source = "data/7w89.A.pdb"
    with open(source) as file:
        lines = [line.rstrip() for line in file if line.startswith("ATOM")]
    moved = [f"{line[:30]}{float(line[30:38]) + 90:8.3f}{line[38:]}" for line in lines]
    ids = tokenizer.encode(read([*lines, "TER", *moved])).ids
    alone = tokenizer.encode(protok.read(source)).ids
    np.testing.assert_array_equal(ids, np.concatenate([alone, alone]))


def test_author_numbers_with_a_letter(read):
    rows = cif_rows("ALA LEU PRO", first=16)
    for row in rows[4:8]:
        row["auth_seq_id"] = "16A"
    assert places(read(cif_text(rows))) == "X16 X16A X18"
    for row in rows[4:8]:
        row["auth_seq_id"] = "16_2"
    with pytest.raises(CorruptFile, match="no numbers"):
        read(cif_text(rows))


@pytest.mark.parametrize("column", ["Cartn_x", "auth_seq_id"])
def test_an_underscore_is_no_part_of_a_number(read, column):
    rows = cif_rows()
    for row in rows:
        row[column] = "1_0"
    with pytest.raises(CorruptFile):
        read(cif_text(rows))
    with pytest.raises(CorruptFile):
        read([line[:22] + " 1_0" + line[26:] for line in residue("ALA", 1)])


@pytest.mark.parametrize(
    "fields, last", [(["9999", "A000", "A001"], 10001), (["A00F", "A010", "A011"], 10017)]
)
def test_numbers_above_9999(read, fields, last):
    lines = [line[:22] + field + line[26:] for i, field in enumerate(fields) for line in residue("ALA", i)]
    assert read(lines).index[-1] == last


@pytest.mark.parametrize("serial", ["100000", "1000000"])
def test_serials_that_push_the_columns_to_the_right(read, serial):
    lines = chain("ALA LEU PRO")
    pushed = [line[:6] + serial + line[11:] if i > 3 else line for i, line in enumerate(lines)]
    np.testing.assert_array_equal(read(pushed).coords, read(lines).coords)
    assert places(read(pushed)) == "A1 A2 A3" and (read(pushed).bfactor == 10).all()


@pytest.mark.parametrize("drop, add", [("pdbx_PDB_ins_code", ""), ("id", ""), ("", "? ")])
def test_rows_of_another_length_are_refused(read, drop, add):
    text = cif_text(cif_rows())
    head, rows = text[: text.index("\nATOM") + 1], text[text.index("\nATOM") + 1 :].splitlines()
    rows = [
        add + " ".join(value for tag, value in zip(COLUMNS, row.split(), strict=True) if tag != drop)
        for row in rows
    ]
    with pytest.raises(CorruptFile, match="do not fit its columns|values in the"):
        read(head + "\n".join(rows) + "\n")


def test_coordinates_far_from_the_origin_stay(read, tmp_path):
    rows = cif_rows()
    for row in rows:
        row["Cartn_x"] = f"{float(row['Cartn_x']) + 10_500:.3f}"
    assert np.isfinite(read(cif_text(rows)).coords).all()
    for row in rows[:4]:
        row |= dict.fromkeys(("Cartn_x", "Cartn_y", "Cartn_z"), "9999.000")
    assert np.isnan(read(cif_text(rows)).coords[0]).all()


def test_a_loop_ends_with_the_file(read):
    whole = cif_text(cif_rows(), head="data_x\n#\n")
    for text in (whole, whole + "#\n", whole.rstrip("\n")):
        assert read(text).sequence == "GAS"
    with pytest.raises(NoProtein, match="no _atom_site"):
        read("data_x\n#\n_entry.id x\n#\nloop_\n_refln.index_h\n_refln.index_k\n1 0\n#END\n")
    with pytest.raises(TruncatedFile):
        read(whole.rstrip("\n").rsplit(" ", 3)[0])
    many = "".join(f"_a{i}.b 1\n#\n" for i in range(4))
    assert "is it whole?" in " ".join(read(cif_text(cif_rows(), head=f"data_x\n#\n{many}")).notes)


def test_standard_uncertainties(read):
    rows = cif_rows()
    plain = read(cif_text(rows)).coords
    for row in rows:
        row["Cartn_x"] += "(5)"
        row["occupancy"] += "(12)"
    np.testing.assert_array_equal(read(cif_text(rows)).coords, plain)


@pytest.mark.parametrize("cap", ["ACE", "NH2", "ETA", "NME"])
def test_caps_are_no_residues_in_any_format(read, cap):
    lines = [*residue(cap, 0, record="HETATM"), *chain("ALA LEU PRO")]
    rows = [
        row | {"label_comp_id": cap} if i < 4 else row for i, row in enumerate(cif_rows("ALA ALA LEU PRO"))
    ]
    assert read(lines).sequence == read(cif_text(rows)).sequence == "ALP"


def test_a_chain_id_may_hold_a_comma(read):
    rows = cif_rows(author="A,B")
    assert read(cif_text(rows), chain="A,B").sequence == "GAS"


def test_files_of_assemblies_are_structures():
    assert is_structure("1abc.pdb1.gz") and stem("1abc.pdb1.gz") == "1abc" and not is_structure("1abc.pdbqt")


REFUSED = {"sf.cif": "no _atom_site", "blank_icode.cif": "do not fit"}
SEQUENCES = {
    "openmm_small.cif": "ALPTV",
    "no_trailing_hash.cif": "ALPTVLALDV",
    "amber_terminal_names.pdb": "ALPTVLALDV",
    "dppc_protein.pdb": "ALPTVLAL",
    "biotite_calcium.cif": "ALPTV",
    "calcium_numbered.cif": "ALPTVLALD",
    "microhet_shared_N.pdb": "ASPT",
    "blank_ter.pdb": "ALPTVL VDRKRL",
    "ids_reused.pdb": "ALPTVL VDRKRL ALPTVL",
    "num_letter.cif": "ALPTVLALDV",
    "su.cif": "ALPTVLALDV",
    "alt_disjoint.pdb": "ALPTVL",
    "chain_two_letters.cif": "ALPTVLALDV",
}


@pytest.mark.data
def test_files_of_public_reports(shared):
    folder = shared("parsing/reported")
    with (folder / "expected.tsv").open() as lines:
        files = [row["file"] for row in csv.DictReader(lines, delimiter="\t")]
    for file in files:
        if file in REFUSED:
            with pytest.raises(ProtokError, match=REFUSED[file]):
                protok.read(folder / file)
        elif file in SEQUENCES:
            backbone = protok.read(folder / file)
            parts = [part.sequence for part in backbone.by_chain()]
            assert " ".join(parts) == SEQUENCES[file] and np.isfinite(backbone.coords).all(), file
    assert protok.read(folder / "num_letter.cif").icode[3] == "A"
    assert protok.read(folder / "su.cif").coords[0, 0, 0] == np.float32(68.844)


@pytest.mark.data
def test_a_chain_of_foldcomp_that_starts_late(shared):
    pytest.importorskip("foldcomp", reason="needs pip install 'protok[interop]'")
    backbone = protok.read(shared("parsing/reported/domain_from_283.fcz"))
    assert len(backbone) == 128 and (backbone.index[0], backbone.index[-1]) == (283, 410)
