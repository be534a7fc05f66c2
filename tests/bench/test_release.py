"""The official release: a small tree in its layout, with official labels, gives them back."""

import json
import pickle
import re
import sys
import types

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import protok
from protok import bench, testing
from protok.bench import open_data, results
from protok.bench.data import release as layout
from protok.bench.data.folder import Folder
from protok.bench.data.release_chains import Chains
from protok.bench.data.release_lists import Left
from protok.bench.data.source import LabelledStructures
from protok.bench.evaluation import available
from protok.errors import CorruptFile, FormatError
from protok.testing import random_backbone

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
    protein = kind()
    protein.id, protein.sequence, protein.chain_id = backbone.name, backbone.sequence, str(backbone.chain[0])
    protein.residue_index, protein.insertion_code = backbone.index, backbone.icode
    protein.atom37_positions = np.full((len(backbone), 37, 3), np.nan, np.float32)
    protein.atom37_positions[:, [0, 1, 2, 4]] = backbone.coords
    protein.atom37_mask = np.isfinite(protein.atom37_positions[..., 0])
    return protein


def save(items, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(items, path)


def left_out(folder, name):
    """What a table leaves out, save lists that these small trees do not have."""
    release = open_data(folder)
    release.table(name)
    return [reason for reason in release.left_out[name] if "there is no list" not in reason]


@pytest.fixture
def here(shared):
    return Folder(shared("structtokenbench"))


def official(shared, task, split, most=6):
    """Official examples of a split whose structures are here: rows with labels a residue."""
    table = pq.read_table(shared(f"structtokenbench/stb_matched/{task}.parquet"))
    return [row for row in table.to_pylist() if row["split"] == split and row["n"] <= 600][:most]


PLACES = {
    "BindInt": ("functional/local/interpro", "binding_label", "fold_test"),
    "CatBio": ("functional/local/biolip2", "catalytic_label", "superfamily_test"),
    "FlexRMSF": ("physicochemical/atlas", "rmsf_score", "fold_test"),
    "Homo": ("structural/remote_homology", "fold_label", "test_family_holdout"),
}


def test_official_labels_come_out_equal(shared, here, esm, tmp_path, monkeypatch):
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
                label = [{"0": 0, "1": 1, "x": -100}[letter] for letter in label]
            item = {"pdb_id": row["pdb"], "chain_id": row["chain"], field: label}
            item["residue_range"] = [row["residue_range"] or ""]
            items.append(item | {"pdb_chain": protein_chain(esm, backbone)})
        wanted[task] = (items, [here.structure(row["id"]) for row in rows])
        name = f"processed_structured_{split}" if task == "FlexRMSF" else None
        for word in ("train", "validation", split):
            file = name.replace(split, word) if name else f"processed_structured_{field}_{word}"
            save(items, root / place / file)
    monkeypatch.undo()  # the class is not there when they are read
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


def test_interpro_ranges_become_labels_with_the_mmcif_dump(shared, here, tmp_path):
    ranges = pq.read_table(shared("structtokenbench/stb_labels/CatInt.parquet")).to_pylist()
    ranges = {(r["pdb"], r["chain"], r["fragment"]): r for r in ranges if r["fragment"]}
    root = tmp_path / "data"
    dump = tmp_path / "pdb_data" / "mmcif_files" / "mmcif_files"
    dump.mkdir(parents=True)
    items, wanted = [], []
    for key in ranges:
        id = f"{key[0]}_{key[1]}"
        if id not in here.ids() or len(wanted) == 3:
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
    save(
        [*items, items[0] | {"fragments": "90000-90001"}],
        root / "functional" / "local" / "interpro" / "activesite_label_train",
    )
    table = open_data(tmp_path).table("CatInt")
    # The example without a positive residue is left out, and that is said.
    assert len(left_out(tmp_path, "CatInt")) == 1
    for entry, label in zip(table.split("train"), wanted, strict=True):
        np.testing.assert_array_equal(entry.target, label)


@pytest.fixture
def dump(tmp_path):
    """Write chains as the mmCIF files of the dump."""
    folder = tmp_path / "pdb_data" / "mmcif_files" / "mmcif_files"
    folder.mkdir(parents=True)

    def put(structure, entry, chain):
        structure.chain[:] = chain
        protok.write(structure, folder / f"{entry}.cif")

    return put


def numbered(structure):
    return not (structure.icode != "").any() and structure.mask.all()


def listed(tmp_path, task, items):
    place, field = layout.PLACES[task]
    name = "train" if place == layout.ATLAS else f"{field}_train"
    save(items, tmp_path / "data" / place / name)
    return open_data(tmp_path).table(task)


def vector(label):
    return np.array([{"0": 0, "1": 1, "x": np.nan}[letter] for letter in label], np.float32)


def test_lists_of_biolip_before_structures_give_the_official_labels(shared, here, dump, tmp_path):
    rows = official(shared, "BindBio", "superfamily_test", most=40)
    raw = pq.read_table(shared("structtokenbench/stb_labels/BindBio.parquet")).to_pylist()
    items, wanted = [], []
    for row in rows:
        structure = here.structure(row["id"])
        key = (row["pdb"], row["chain"], row["extra"])
        sites = [r["sites"] for r in raw if (r["pdb"], r["chain"], r["ligand"]) == key]
        # One example a site: rows of one chain and ligand cannot be told apart here.
        if len(sites) != 1 or not numbered(structure) or any(r["pdb_id"] == row["pdb"] for r in items):
            continue
        dump(structure, row["pdb"], row["chain"])
        items.append({"pdb_id": row["pdb"], "receptor_chain": row["chain"]})
        items[-1]["binding_site_residues_pdb_numbered"] = sites[0]
        wanted.append(vector(row["label"]))
    assert len(items) > 3
    missing = items[0] | {"binding_site_residues_pdb_numbered": "?"}
    table = listed(tmp_path, "BindBio", [*items, missing])
    assert len(left_out(tmp_path, "BindBio")) == 1
    for entry, label in zip(table.split("train"), wanted, strict=True):
        np.testing.assert_array_equal(entry.target, label)
        assert label.any()


def test_lists_of_proteinshake_need_the_same_coordinates(shared, here, dump, tmp_path):
    items, wanted = [], []
    for row in official(shared, "BindShake", "test", most=42)[:20]:
        structure = here.structure(row["id"])
        if not numbered(structure) or "x" in row["label"]:
            continue
        dump(structure, row["pdb"], row["chain"])
        item = {"pdb_id": row["pdb"], "chain_id": [row["chain"]] * len(structure)}
        item |= {
            f"residue_coord_{axis}": structure.coords[:, 1, i].astype(float) for i, axis in enumerate("xyz")
        }
        item["residue_index"] = structure.index.tolist()
        items.append(item | {"binding_site": [int(letter) for letter in row["label"]]})
        wanted.append(vector(row["label"]))
    assert items
    moved = items[0] | {"residue_coord_x": items[0]["residue_coord_x"] + 0.01}
    table = listed(tmp_path, "BindShake", [*items, moved])
    assert "coordinates" in left_out(tmp_path, "BindShake")[0]
    for entry, label in zip(table.split("train"), wanted, strict=True):
        np.testing.assert_array_equal(entry.target, label)


def test_lists_of_proteinglue_are_aligned(shared, here, dump, tmp_path):
    row = official(shared, "Ept", "fold_test", most=1)[0]
    structure = here.structure(row["id"])
    dump(structure, row["pdb"], row["chain"])
    label = np.nan_to_num(vector(row["label"]))
    # The annotated sequence has a tail that the structure lacks, and lacks the structure's head.
    item = {
        "pdb_id": row["pdb"],
        "chain_id": row["chain"],
        "annot_seq": structure.sequence[7:] + "GSHHHHHH",
        "annot_label": [*label[7:].astype(int), *[1] * 8],
    }
    (entry,) = listed(tmp_path, "Ept", [item]).split("train")
    label[:7] = 0
    np.testing.assert_array_equal(entry.target, label)


def test_lists_of_atlas_take_its_own_files(shared, here, tmp_path):
    pd = pytest.importorskip("pandas")
    items, wanted = [], []
    for row in official(shared, "FlexRMSF", "fold_test", most=3):
        name, structure = f"{row['pdb']}_{row['chain']}", here.structure(row["id"])
        folder = tmp_path / "data" / "physicochemical" / "atlas" / "analysis" / name
        folder.mkdir(parents=True)
        protok.write(structure, folder / f"{name}.pdb")
        values = np.array([np.nan if v is None else v for v in row["label"]], np.float32)
        frame = pd.DataFrame({"seq": list(structure.sequence), "RMSF": values, "Neq": 1.0, "Bfactor": 20.0})
        frame.to_csv(folder / f"{name}_per_residue_labels.csv")
        items.append({"pdb_id_chain_id": name, "annot_df": frame})
        wanted.append(values)
    table = listed(tmp_path, "FlexRMSF", items)
    for entry, values in zip(table.split("train"), wanted, strict=True):
        np.testing.assert_allclose(entry.target, values, rtol=1e-6)
    (first, *_) = open_data(tmp_path).table("FlexNEQ").split("train")
    np.testing.assert_allclose(first.target, 0.1)


def test_lists_of_tape_find_their_domains_in_scop(shared, here, dump, tmp_path):
    rows = [r for r in official(shared, "Homo", "test_family_holdout", 60) if r["residue_range"]]
    row = next(r for r in rows if "," not in r["residue_range"])
    structure = here.structure(row["id"])
    dump(structure, row["pdb"], row["chain"])
    place = tmp_path / "data" / "structural" / "remote_homology"
    place.mkdir(parents=True)
    (place / "dir.cla.scop.1.75.txt").write_text(
        "# a comment\n"
        f"d1old__\t1old\t{row['chain']}:{row['residue_range']}\tb.1.1.1\t1\tx\n"
        f"d2new__\t{row['pdb']}\t{row['chain']}:\tb.1.1.1\t2\tx\n"
    )
    (tmp_path / "pdb_data" / "mmcif_files" / "obsolete.dat").write_text(
        f" LIST OF OBSOLETE\nOBSLTE    31-JUL-94 1OLD     {row['pdb'].upper()}\n"
    )
    domain, whole = ({"id": name, "fold_label": 7} for name in (b"d1old__", "d2new__"))
    rare, lost = {"id": "d2new__", "fold_label": 900}, {"id": "d9zzz__", "fold_label": 7}
    table = listed(tmp_path, "Homo", [domain, *[whole] * 50, rare, lost])
    assert table.classes == ("7",)  # 900 has fewer than 50 training proteins
    assert len(left_out(tmp_path, "Homo")) == 1
    first, second, *_ = table.split("train")
    low, high = map(int, row["residue_range"].split("-"))
    inside = (structure.index >= low) & (structure.index <= high)
    np.testing.assert_array_equal(first.rows, np.flatnonzero(inside))
    assert second.rows is None and len(table.split("train")) == 51


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    path = tmp_path / "functional" / "local" / "interpro" / "processed_structured_binding_label_train"
    save([{"pdb_id": Evil()}], path)
    with pytest.raises(FormatError, match=r"print"):
        open_data(tmp_path).table("BindInt")
    path.write_bytes(pickle.dumps({"no": "list"}))
    with pytest.raises(FormatError):
        open_data(tmp_path).table("BindInt")


def test_another_folder_is_no_release(tmp_path):
    with pytest.raises(FormatError, match="prepare"):
        open_data(tmp_path)


# Damage, and what is read how often


def interpro(folder, chains):
    """Lists of InterPro before structures, for two of its tasks, that name these chains."""
    items = [{"pdb_id": entry, "chain_id": chain, "fragments": "2-9"} for entry, chain in chains]
    for field in ("binding_label", "activesite_label"):
        for split in ("train", "validation", "fold_test"):
            save(items, folder / "data/functional/local/interpro" / f"{field}_{split}")


def casp(folder, keys):
    """CASP14 with these chains; files are to be put into the folder returned."""
    files = folder / "data" / "utility" / "casp14"
    files.mkdir(parents=True)
    (files / "chain_data_cache.json").write_text(json.dumps(dict.fromkeys(keys, 0)))
    return files


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda text: text[: len(text) // 2], "the last atom_site row is cut"),
        (lambda text: re.sub(r"\d+\.\d{3}", "abc", text, count=1), "abc"),
        (lambda text: "", "is empty"),
        (lambda text: "<html>404</html>", "a web page"),
        (lambda text: "data_1bad\n_entry.id 1bad\n", "no _atom_site"),
        (lambda text: text.replace("ATOM 5 ", "ATOM '5 "), "different lengths"),
    ],
)
def test_a_damaged_file_is_named_with_its_chain(dump, tmp_path, harm, message):
    casp_files = casp(tmp_path, ["1bad_A"])
    for entry in ("1abc", "1bad"):
        dump(random_backbone(30, 1), entry, "A")
    bad = tmp_path / "pdb_data" / "mmcif_files" / "mmcif_files" / "1bad.cif"
    text = bad.read_text()
    for path in (bad, casp_files / "1bad.cif"):
        path.write_text(harm(text))
    interpro(tmp_path, [("1abc", "A"), ("1bad", "A")])
    release = open_data(tmp_path)
    rows = list(bench.evaluate("random-code", ["BindInt", "utilization"], release))
    for row, path in zip(rows, (bad, casp_files / "1bad.cif"), strict=True):
        assert row.status == results.FAILED
        assert row.error.startswith(f"CorruptFile: {path}, chain A: ")
        assert message in row.error and "fetch it again" in row.error
    # A file that was mended is read without opening the folder anew.
    for path in (bad, casp_files / "1bad.cif"):
        path.write_text(text)
    assert len(release.table("BindInt").split("train")) == 2
    assert release.sets() == {"casp14": ["1bad_A"]}


def test_a_chain_without_a_backbone_and_a_damaged_cache_are_named(dump, tmp_path):
    structure = random_backbone(30, 1)
    structure.coords[:, [0, 2, 3]] = structure.coords[:, 1:2] = 0
    dump(structure, "1abc", "A")
    interpro(tmp_path, [("1abc", "A")])
    with pytest.raises(CorruptFile, match=r"1abc\.cif, chain A: all atoms lie at the origin"):
        open_data(tmp_path).table("BindInt")
    cache = casp(tmp_path, []) / "chain_data_cache.json"
    cache.write_text('{"1abc_A": ')
    with pytest.raises(CorruptFile, match=r"chain_data_cache\.json: no list of chains"):
        open_data(tmp_path).sets()


@pytest.fixture
def parsed(monkeypatch):
    """Names of mmCIF files in the order in which they are parsed."""
    from biotite.structure.io import pdbx

    names, real = [], pdbx.CIFFile.read
    monkeypatch.setattr(pdbx.CIFFile, "read", lambda path: names.append(path.name) or real(path))
    return names


def test_each_chain_is_parsed_once(dump, tmp_path, parsed):
    casp_files = casp(tmp_path, ["t1_A", "t2_A"])
    for i in range(3):
        dump(random_backbone(30, i), f"{i}abc", "A")
    for name in ("t1", "t2"):
        protok.write(random_backbone(30, 7), casp_files / f"{name}.cif")
    # Every chain three times, one that is not in its file among them.
    interpro(tmp_path, [*[(f"{i}abc", "A") for i in range(3)], ("0abc", "B")] * 3)
    release = open_data(tmp_path)
    assert {"BindInt", "CatInt", "utilization"} <= set(available(release)) and not parsed
    for task in ("BindInt", "CatInt"):
        assert len(release.table(task).split("fold_test")) == 9
        assert release.left_out[task].count("0abc: no chain B") == 9
    rows = bench.evaluate("random-code", ["utilization", "mirror", "rotation"], release)
    assert all(row.status == results.OK for row in rows)
    assert sorted(parsed) == ["0abc.cif", "0abc.cif", "1abc.cif", "2abc.cif", "t1.cif", "t2.cif"]
    testing.check_source(release)
    assert isinstance(release, LabelledStructures)


def test_chains_are_held_up_to_a_bound(tmp_path, parsed):
    for name in "abc":
        protok.write(random_backbone(30, 1), tmp_path / f"{name}.cif")
    chains = Chains(held=70)
    for name in "ababcab":
        assert len(chains.get(tmp_path / f"{name}.cif", "A")) == 30
    # c takes the place of a, a that of b, b that of c.
    assert [name[0] for name in parsed] == list("abcab")
    for name in ("Z", "", "Z", ""):
        with pytest.raises(Left, match=f"no chain {name}$"):
            chains.get(tmp_path / "b.cif", name)
    assert len(parsed) == 7
    assert len(chains.get(tmp_path / "b.cif")) == 30 and len(parsed) == 7


def test_a_release_may_have_only_some_of_its_folders(tmp_path):
    protok.write(random_backbone(30, 1), casp(tmp_path, ["t1_A"]) / "t1.cif")
    pairs = tmp_path / "data" / "sensitivity" / "conformational"
    pairs.mkdir(parents=True)
    for root in (tmp_path, tmp_path / "data"):
        assert "utilization" in available(open_data(root))
        assert not {"sensitivity", "BindInt"} & set(available(open_data(root)))
    with pytest.raises(FormatError, match="no task 'BindInt' .*its data is not there"):
        bench.evaluate("random-code", ["BindInt"], tmp_path)
    # A list of pairs without the dump is a task that fails, and says what it lacks.
    (pairs / "apo.csv").write_text("one,two\n1aaa.A.pdb,2bbb.A.pdb\n")
    rows = {row.task["name"]: row for row in bench.evaluate("random-code", data=tmp_path)}
    assert rows["utilization"].status == results.OK
    assert rows["sensitivity"].status == results.FAILED
    assert "there is no mmCIF dump; put it at pdb_data" in rows["sensitivity"].error
    for line in ("", "1aaa.A.pdb", "1aaa,2bbb.A.pdb"):
        (pairs / "apo.csv").write_text(f"one,two\n{line}\n")
        (row,) = bench.evaluate("random-code", ["sensitivity"], tmp_path)
        assert row.status == results.FAILED and f"line 2 is '{line}'" in row.error


def test_a_release_without_any_list_is_said(tmp_path):
    (tmp_path / "utility" / "casp14").mkdir(parents=True)
    with pytest.raises(FormatError, match="no list of any task"):
        bench.evaluate("random-code", data=tmp_path)
