"""Reading mmCIF, case by case: columns, layouts, what is polymer."""

import numpy as np
import pytest

from protok import errors
from protok.structure.io.read import read
from tests.helpers.io_files import cif_rows, cif_text


@pytest.fixture
def cif(tmp_path):
    def make(text, name="x.cif", **options):
        path = tmp_path / name
        path.write_text(text)
        return read(path, **options)

    return make


def test_numbers_and_chains(cif):
    s = cif(cif_text(cif_rows()))
    assert (s.sequence, s.chains, s.index.tolist()) == ("GAS", ["X"], [11, 12, 13])
    assert s.mask.all() and s.bfactor.tolist() == [12.5] * 3
    assert cif(cif_text(cif_rows()), chain_ids="label").chains == ["A"]


@pytest.mark.parametrize(
    "column",
    [
        "pdbx_PDB_ins_code",
        "pdbx_PDB_model_num",
        "occupancy",
        "B_iso_or_equiv",
        "label_alt_id",
        "id",
        "auth_seq_id",
        "auth_asym_id",
        "label_asym_id",
        "label_seq_id",
        "group_PDB",
    ],
)
def test_without_a_column(cif, column):
    s = cif(cif_text(cif_rows(), drop=[column]))
    assert s.sequence == "GAS" and s.mask.all()
    assert s.index.tolist() == ([1, 2, 3] if column == "auth_seq_id" else [11, 12, 13])
    assert s.chains == (["A"] if column == "auth_asym_id" else ["X"])
    assert np.isnan(s.bfactor).all() == (column == "B_iso_or_equiv")


@pytest.mark.parametrize("column", ["Cartn_y", "label_atom_id", "label_comp_id"])
def test_that_lacks_what_is_needed(cif, column):
    with pytest.raises(errors.ProtokError):
        cif(cif_text(cif_rows(), drop=[column]))


def odd_layouts():
    rows = cif_rows()
    text = cif_text(rows)
    head, first, rest = text.partition("ATOM 1 ")
    yield "rows over two lines", head + (first + rest).replace(" ? ", " ?\n", 99)
    yield "comment between rows", text.replace("ATOM 5 ", "# five\nATOM 5 ")
    yield "comment in a row", text.replace(" 12.50 11 ", " 12.50 # B\n 11 ")
    yield "blank in quotes", text.replace("ATOM 2 ", "ATOM 'two 2' ")
    yield "text field", text.replace("ATOM 2 ", "ATOM\n;two\n2\n; ")
    yield "capitals", text.replace("_atom_site", "_ATOM_SITE").replace("loop_", "LOOP_")
    yield "indented", text.replace("_atom_site", "  _atom_site")
    yield "quotes", text.replace(" CA ", " 'CA' ").replace(" GLY ", ' "GLY" ')
    yield "no data block", text.replace("data_x\n", "")
    field = "data_x\n_a.b\n;\n_atom_site.id\nloop_\n;\n"
    yield "text field before", text.replace("data_x\n", field)
    yield "other tables", text.replace("data_x\n", "data_x\n_a.b 1\nloop_\n_c.d\n_c.e\n1 2 3 4\n")
    yield "after it", text + "loop_\n_c.d\n_c.e\n1 2 3 4\n_atom_sites.x 3\n"
    yield "trailing blanks", text.replace("\n", "  \n")


@pytest.mark.parametrize("layout", [name for name, _ in odd_layouts()])
def test_odd_layouts(cif, layout):
    plain, s = cif(cif_text(cif_rows())), cif(dict(odd_layouts())[layout])
    assert s.sequence == "GAS" and s.index.tolist() == [11, 12, 13] and s.chains == ["X"]
    np.testing.assert_array_equal(s.coords, plain.coords)


def test_one_atom_without_a_loop(cif):
    row = cif_rows()[1]
    pairs = "".join(f"_atom_site.{k} {v}\n" for k, v in row.items())
    for text in (pairs, f"loop_\n_a.b\n_a.c\n1 2\n{pairs}", f"{pairs}_a.b 1\nloop_\n_a.c\n1\n"):
        s = cif("data_x\n" + text)
        assert s.sequence == "G" and np.isfinite(s.coords[0, 1]).all()


def test_fast_and_slow_ways_agree(shared, tmp_path):
    """A comment in the table sends a real entry the slow way."""
    for entry in ("3o5r", "5ugo"):
        text = shared(f"parsing/cross_format/{entry}.cif").read_text()
        at = text.index("\n", text.index("\nATOM   ") + 10)
        (tmp_path / f"{entry}.cif").write_text(f"{text[:at]}\n# comment{text[at:]}")
        fast = read(shared(f"parsing/cross_format/{entry}.cif"))
        slow = read(tmp_path / f"{entry}.cif")
        assert fast.sequence == slow.sequence and fast.notes == slow.notes
        np.testing.assert_array_equal(fast.coords, slow.coords)
        np.testing.assert_array_equal(fast.bfactor, slow.bfactor)


def test_blocks_of_rows_join(cif, monkeypatch):
    from protok.structure.io.formats import mmcif

    text = cif_text(cif_rows("GLY ALA SER VAL " * 5))
    whole = cif(text)
    for size in (1, 100, 1000):
        monkeypatch.setattr(mmcif, "_BLOCK", size)
        parts = cif(text)
        assert parts.sequence == whole.sequence == "GASV" * 5
        np.testing.assert_array_equal(parts.coords, whole.coords)


def test_ligands_and_free_amino_acids(cif):
    rows = cif_rows()
    for row in cif_rows("GLU HOH", asym="B", first=90):
        rows.append(row | {"group_PDB": "HETATM", "label_seq_id": "."})
    assert cif(cif_text(rows)).sequence == "GAS"
    for row in rows[:4]:
        row.update(group_PDB="HETATM", label_comp_id="MSE")
    assert cif(cif_text(rows)).sequence == "MAS"


def test_that_numbers_water_too(cif):
    """PyMOL gives every residue a label_seq_id: it then says nothing of polymers."""
    rows = cif_rows()
    for row in cif_rows("GLU HOH", first=90):
        row.update(group_PDB="HETATM", Cartn_y="90.000")
        row["label_seq_id"] = row["auth_seq_id"]
        rows.append(row)
    text = "# generated by PyMOL\n#\n" + cif_text(rows, head="data_x\n_entry.id x\n#\n")
    s = cif(text)
    assert s.sequence == "GAS"
    assert s.notes == ("unbonded HETATM amino acids left out: 1 GLU",)


def test_coordinates_of_any_form(cif):
    rows = cif_rows("GLY ALA")
    for row, x in zip(rows, ("1", "1.5", "-1.25", "1.125", "1.0625", "?", ".", "1.5e1"), strict=True):
        row["Cartn_x"] = x
    s = cif(cif_text(rows))
    assert s.coords[0, :, 0].tolist() == [1, 1.5, -1.25, 1.125]
    np.testing.assert_array_equal(s.coords[1, :, 0], np.float32([1.0625, np.nan, np.nan, 15]))
    assert np.isnan(s.coords[1, 1:3]).all()  # the whole atom
    assert s.notes == ("2 backbone atoms without readable coordinates",)
    rows[0]["Cartn_x"] = "one"
    with pytest.raises(errors.CorruptFile, match="'one' stands where a coordinate should"):
        cif(cif_text(rows))


def test_truncation(cif):
    text = cif_text(cif_rows(), head="data_x\n#\n", tail="#\n")
    assert cif(text).notes == ()
    with pytest.raises(errors.TruncatedFile):
        cif(text[:-10])
    assert cif(text[:-10], truncated="keep").notes[-1].startswith("truncated")
    for whole in (text[:-2], text[: text.index("ATOM 7 ")]):  # the end of the file ends a loop
        for stop in ("", "stop_\n", " STOP_", "stop_\n#\n"):  # and so does STAR's word for it
            assert cif(whole + stop).notes == ()


def test_models_and_blocks(cif):
    models = [("GLY", "5"), ("ALA", "7"), ("SER", "9")]
    text = cif_text([row for name, model in models for row in cif_rows(name, model=model)])
    assert [cif(text, model=i).sequence for i in (1, 2, 3)] == ["G", "A", "S"]
    with pytest.raises(errors.ChainNotFound, match="has 3 models"):
        cif(text, model=4)
    two = cif(cif_text(cif_rows()) + cif_text(cif_rows("TRP"), head="data_y\n"))
    assert two.sequence == "GAS" and two.notes == ("first data block read, others left out",)
