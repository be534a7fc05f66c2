"""The official release: a small tree in its layout, with official labels, gives them back."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch

import protok
from protok.bench import open_data
from protok.bench.folder import Folder
from protok.errors import FormatError

ESM = "esm.utils.structure.protein_chain"


@pytest.fixture
def esm(monkeypatch):
    """A class where the reference's pickles have theirs; not there when they are read."""
    for name in ("esm", "esm.utils", "esm.utils.structure", ESM):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    kind = type("ProteinChain", (), {"__module__": ESM})
    sys.modules[ESM].ProteinChain = kind
    return kind


def protein_chain(kind, backbone):
    """As the esm package would hold it: atom37 and its mask."""
    one = kind()
    one.id, one.sequence, one.chain_id = backbone.name, backbone.sequence, str(backbone.chain[0])
    one.residue_index, one.insertion_code = backbone.index, backbone.icode
    one.atom37_positions = np.full((len(backbone), 37, 3), np.nan, np.float32)
    one.atom37_positions[:, [0, 1, 2, 4]] = backbone.coords
    one.atom37_mask = np.isfinite(one.atom37_positions[..., 0])
    return one


def save(items, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(items, path)


def forget_esm(monkeypatch):
    for name in ("esm", "esm.utils", "esm.utils.structure", ESM):
        monkeypatch.delitem(sys.modules, name)


def official(shared, task, split, most=6):
    """Official examples of a split whose structures are here: rows with labels a residue."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared(f"structtokenbench/stb_matched/{task}.parquet"))
    rows = [row for row in table.to_pylist() if row["split"] == split and row["n"] <= 600]
    return rows[:most]


PLACES = {
    "BindInt": ("functional/local/interpro", "binding_label", "fold_test"),
    "CatBio": ("functional/local/biolip2", "catalytic_label", "superfamily_test"),
    "FlexRMSF": ("physicochemical/atlas", "rmsf_score", "fold_test"),
    "Homo": ("structural/remote_homology", "fold_label", "test_family_holdout"),
}


def test_official_labels_come_out_equal(shared, esm, tmp_path, monkeypatch):
    here = Folder(shared("structtokenbench"))
    root = tmp_path / "struct_token_bench_release_data" / "data"
    wanted = {}
    for task, (place, field, split) in PLACES.items():
        rows = official(shared, task, split)
        assert rows, f"no official example of {task}"
        items = []
        for row in rows:
            backbone = here.structure(row["id"])
            label = row["label"]
            if task == "Homo":
                label = int(label)
            elif isinstance(label, str):
                label = [{"0": 0, "1": 1, "x": -100}[one] for one in label]
            items.append(
                {"pdb_id": row["pdb"], "chain_id": row["chain"], field: label,
                 "residue_range": [row["residue_range"]] if row["residue_range"] else [""],
                 "pdb_chain": protein_chain(esm, backbone)}
            )  # fmt: skip
        wanted[task] = (items, [here.structure(row["id"]) for row in rows])
        name = f"processed_structured_{split}" if task == "FlexRMSF" else None
        for one in ("train", "validation", split):
            file = name.replace(split, one) if name else f"processed_structured_{field}_{one}"
            save(items, root / place / file)
    forget_esm(monkeypatch)
    release = open_data(tmp_path)
    ranged = 0
    assert {"BindInt", "CatBio", "FlexRMSF", "Homo"} <= set(release.tables())
    for task, (items, structures) in wanted.items():
        table = release.table(task)
        field, split = PLACES[task][1:]
        got = table.split(split)
        assert len(got) == len(items) and len(table.split("train")) == len(items)
        for entry, item, structure in zip(got, items, structures, strict=True):
            if task == "Homo":
                assert table.classes[entry.target] == str(item[field])
                if not item["residue_range"][0]:
                    assert entry.rows is None
                    continue
                low, high = map(int, item["residue_range"][0].split("-"))
                inside = (structure.index >= low) & (structure.index <= high)
                np.testing.assert_array_equal(entry.rows, np.flatnonzero(inside))
                ranged += 1
            else:
                label = np.float32(item[field])
                np.testing.assert_array_equal(entry.target, np.where(label == -100, np.nan, label))
            read = release.structure(entry.id)
            np.testing.assert_array_equal(read.coords, structure.coords)
            np.testing.assert_array_equal(read.index, structure.index)
    assert ranged


def test_interpro_ranges_become_labels_with_the_mmcif_dump(shared, tmp_path):
    import pyarrow.parquet as pq

    here = Folder(shared("structtokenbench"))
    ranges = pq.read_table(shared("structtokenbench/stb_labels/CatInt.parquet")).to_pylist()
    ranges = {(r["pdb"], r["chain"], r["fragment"]): r for r in ranges if r["fragment"]}
    root = tmp_path / "data"
    dump = tmp_path / "pdb_data" / "mmcif_files" / "mmcif_files"
    dump.mkdir(parents=True)
    items, wanted = [], []
    for key in ranges:
        id = f"{key[0]}_{key[1]}"
        if id not in here or len(wanted) == 3:
            continue
        structure = here.structure(id)
        low, high = map(int, key[2].split(",")[0].split("-"))
        label = (structure.index >= low) & (structure.index <= high)
        if not label.any() or (structure.icode != "").any():
            continue
        structure.chain[:] = key[1]
        protok.write(structure, dump / f"{key[0]}.cif")
        items.append({"pdb_id": key[0], "chain_id": key[1], "fragments": key[2]})
        wanted.append(label)
    assert wanted
    save([*items, items[0] | {"fragments": "90000-90001"}], root / "functional" / "local"
         / "interpro" / "activesite_label_train")  # fmt: skip
    table = open_data(tmp_path).table("CatInt")
    # The example without a positive residue is left out, and that is said.
    assert dict(table.about)["left_out"] == "1"
    for entry, label in zip(table.split("train"), wanted, strict=True):
        np.testing.assert_array_equal(entry.target, label)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    path = (
        tmp_path / "functional" / "local" / "interpro" / "processed_structured_binding_label_train"
    )
    save([{"pdb_id": Evil()}], path)
    with pytest.raises(FormatError, match=r"print"):
        open_data(tmp_path).table("BindInt")
    path.write_bytes(pickle.dumps({"no": "list"}))
    with pytest.raises(FormatError):
        open_data(tmp_path).table("BindInt")


def test_another_folder_is_no_release(tmp_path):
    with pytest.raises(FormatError, match="prepare"):
        open_data(tmp_path)
