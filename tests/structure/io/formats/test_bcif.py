"""Reading BinaryCIF: encodings, masks, damage."""

import biotite.structure.io.pdbx as pdbx
import msgpack
import numpy as np
import pytest
from biotite.structure.io.pdbx import encoding as e

from protok import errors
from protok.structure.io.formats.bcif import _decode
from protok.structure.io.read import read
from tests.helpers.io_files import COLUMNS, cif_rows, cif_text

FLOATS = ("Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "B_iso_or_equiv")
INTEGERS = ("id", "label_seq_id", "auth_seq_id", "pdbx_PDB_model_num")


@pytest.fixture
def bcif(tmp_path):
    """Write rows as BinaryCIF by biotite and read them; `drop` columns, void some by `masks`."""

    def make(rows, drop=(), masks=None, pack=False, edit=None, **options):
        columns = {}
        for name in COLUMNS:
            if name in drop:
                continue
            kind = float if name in FLOATS else int if name in INTEGERS else str
            void = {"?": 0, ".": 0} if kind is not str else {}
            data = np.array([kind(void.get(row[name], row[name])) for row in rows])
            mask = np.array([{".": 1, "?": 2}.get(row[name], 0) for row in rows], np.uint8)
            columns[name] = pdbx.BinaryCIFColumn(data, mask if mask.any() else None)
        category = pdbx.BinaryCIFCategory(columns)
        file = pdbx.BinaryCIFFile({"x": pdbx.BinaryCIFBlock({"atom_site": category})})
        path = tmp_path / "x.bcif"
        (pdbx.compress(file) if pack else file).write(str(path))
        if edit:
            root = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
            edit(root["dataBlocks"][0]["categories"])
            path.write_bytes(msgpack.packb(root))
        return read(path, **options)

    return make


@pytest.mark.parametrize("pack", [False, True])
def test_same_as_text(bcif, tmp_path, pack):
    rows = cif_rows("GLY ALA MSE SER " * 20)
    for i, row in enumerate(rows):
        row["Cartn_z"] = f"{i * 0.037:.3f}"
    for row in cif_rows("GLU HOH", asym="B", first=90):
        rows.append(row | {"group_PDB": "HETATM", "label_seq_id": "."})
    (tmp_path / "x.cif").write_text(cif_text(rows))
    text, binary = read(tmp_path / "x.cif"), bcif(rows, pack=pack)
    assert text.sequence == binary.sequence == "GAMS" * 20
    for key in ("chain", "index", "icode"):
        assert getattr(text, key).tolist() == getattr(binary, key).tolist()
    np.testing.assert_allclose(text.coords, binary.coords, atol=1e-6)
    np.testing.assert_array_equal(text.bfactor, binary.bfactor)


@pytest.mark.parametrize(
    "column",
    [
        "pdbx_PDB_ins_code",
        "pdbx_PDB_model_num",
        "occupancy",
        "B_iso_or_equiv",
        "label_alt_id",
        "auth_seq_id",
        "auth_asym_id",
        "label_asym_id",
        "label_seq_id",
        "group_PDB",
    ],
)
def test_without_a_column(bcif, column):
    s = bcif(cif_rows(), drop=[column])
    assert s.sequence == "GAS" and s.mask.all()
    assert np.isnan(s.bfactor).all() == (column == "B_iso_or_equiv")


def test_models_and_void_values(bcif):
    rows = cif_rows("GLY ALA") + cif_rows("TRP", model="2")
    rows[1].update(B_iso_or_equiv="?", Cartn_x="?")
    s = bcif(rows)
    assert s.sequence == "GA" and s.notes[0] == "model 1 read, others left out"
    assert np.isnan(s.coords[0, 1]).all() and np.isnan(s.bfactor[0])
    assert bcif(rows, model=2).sequence == "W"
    with pytest.raises(errors.ChainNotFound, match="has 2 models"):
        bcif(rows, model=3)


ENCODINGS = [
    ([e.ByteArrayEncoding()], np.array([1.5, -2.25], np.float32)),
    ([e.FixedPointEncoding(1000), e.DeltaEncoding(), e.ByteArrayEncoding()], np.arange(9) / 8),
    ([e.RunLengthEncoding(), e.ByteArrayEncoding()], np.repeat([3, 7, 3], [2, 5, 1])),
    ([e.DeltaEncoding(), e.RunLengthEncoding(), e.ByteArrayEncoding()], np.arange(20)),
    (
        [e.IntegerPackingEncoding(1, is_unsigned=False), e.ByteArrayEncoding()],
        np.array([0, 127, -128, 254, -300, 5]),
    ),
    ([e.IntegerPackingEncoding(2, is_unsigned=True), e.ByteArrayEncoding()], np.array([0, 65535, 131071, 9])),
    ([e.StringArrayEncoding()], np.array(["A", "", "it's", "A", "ÅÅ"])),
]


@pytest.mark.parametrize("steps,values", ENCODINGS, ids=[type(steps[0]).__name__ for steps, _ in ENCODINGS])
def test_encodings(steps, values):
    data = pdbx.BinaryCIFData(values, steps).serialize()
    decoded = _decode(data, 20)
    if decoded.dtype.kind == "S":
        decoded = [word.decode() for word in decoded.tolist()]
    assert list(decoded) == values.tolist()


def test_interval_quantization():
    """Worked by hand after the specification: 0..4 over five steps from 1 to 3."""
    steps = [
        {"kind": "IntervalQuantization", "min": 1.0, "max": 3.0, "numSteps": 5, "srcType": 32},
        {"kind": "ByteArray", "type": 4},
    ]
    decoded = _decode({"data": bytes(range(5)), "encoding": steps}, 5)
    assert decoded.tolist() == [1, 1.5, 2, 2.5, 3]


def test_keys_in_another_order(bcif):
    """Columns may come before the name of their category."""

    def turn(categories):
        categories[0] = dict(reversed(categories[0].items()))

    assert bcif(cif_rows(), edit=turn).sequence == "GAS"


def column_of(categories, name):
    return next(c for c in categories[0]["columns"] if c["name"] == name)


def forge_rows(categories):
    categories[0]["rowCount"] = 10**9


def forge_runs(categories):
    column_of(categories, "Cartn_x")["data"] = {
        "data": np.array([1, 2**30], "<i4").tobytes(),
        "encoding": [{"kind": "RunLength", "srcSize": 12}, {"kind": "ByteArray", "type": 3}],
    }


def forge_kind(categories):
    column_of(categories, "Cartn_x")["data"]["encoding"][0]["kind"] = "Zip"


def forge_length(categories):
    data = column_of(categories, "Cartn_x")["data"]
    data["data"] = data["data"][:-8]


@pytest.mark.parametrize("forge", [forge_rows, forge_runs, forge_kind, forge_length])
def test_damage(bcif, forge):
    with pytest.raises(errors.CorruptFile):
        bcif(cif_rows(), edit=forge)


def test_truncated(shared, tmp_path):
    data = shared("parsing/real/molstar__1cbs_full.bcif").read_bytes()
    at = data.index(b"_atom_site") + 4000
    (tmp_path / "x.bcif").write_bytes(data[:at])
    for keep in ("error", "keep"):  # nothing can be kept of half a table of columns
        with pytest.raises(errors.TruncatedFile):
            read(tmp_path / "x.bcif", truncated=keep)


def test_no_atoms(bcif):
    def rename(categories):
        categories[0]["name"] = "_atom_sites"

    with pytest.raises(errors.NoProtein, match="no _atom_site"):
        bcif(cif_rows(), edit=rename)
