"""A data folder that is damaged, made twice, or labelled wrongly: it is said, with the file."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protok import bench
from protok.bench.data.folder import Folder
from protok.bench.data.prepare import write_table
from protok.bench.representations.load import representation
from protok.cli.main import main
from protok.errors import FormatError
from tests.helpers.labelled import chains, csv_of, labels


def cut(path):
    path.write_bytes(path.read_bytes()[:300])


# Files


def test_a_damaged_table_is_a_row(copy, tmp_path, capsys):
    cut(copy / "tasks" / "sites.parquet")
    sites, flex = bench.evaluate("random-code", ["sites", "flex_bfactor"], copy, probe="linear")
    assert sites.status == "failed" and flex.status == "ok"
    assert "sites.parquet" in sites.error and "Parquet" in sites.error
    assert main(["bench", "--list", "--data", str(copy)]) == 0
    assert "sites" in capsys.readouterr().out


def test_damaged_structures_are_named(copy):
    cut(copy / "structures.parquet")
    with pytest.raises(FormatError, match=r"structures\.parquet"):
        Folder(copy)


def test_a_stray_damaged_file_is_told_and_left_out(copy, capsys):
    (copy / "extra.parquet").write_bytes(b"PAR1 and no more")
    command = ["bench", "--model", "random-code", "--data", str(copy), "--tasks", "utilization"]
    assert main(command) == 1
    output = capsys.readouterr()
    assert "extra.parquet" in output.err and "utilization: ok" in output.err


def test_a_damaged_output_in_the_cache_is_computed_again(tmp_path):
    (chain,) = chains(1)
    who = representation("random-code", store=tmp_path)
    first = who.outputs([chain])[0]
    (kept,) = tmp_path.rglob("*.npy")
    kept.write_bytes(kept.read_bytes()[:20])
    who.forget()
    np.testing.assert_array_equal(who.outputs([chain])[0], first)
    np.testing.assert_array_equal(np.load(kept), first)


# Preparing twice


def test_what_was_made_before_is_replaced(files, tmp_path):
    out = tmp_path / "out"
    pairs = csv_of(tmp_path / "pairs.csv", "id1,id2,tm", ["x0_A,x1_A,0.5"])
    bench.prepare([files], out, labels=[labels(tmp_path / "sites.csv")], pairs=pairs)
    assert (out / "pairs.parquet").exists()
    bench.prepare([files / f"x{i}.pdb" for i in range(6)], out)
    assert Folder(out).tables() == ["flex_bfactor"] and not Folder(out).pairs()


def test_a_bad_csv_leaves_what_was_there(files, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "out")
    bad = csv_of(tmp_path / "bad.csv", "id,label", ["x0_A,01"])
    with pytest.raises(FormatError, match="bad"):
        bench.prepare([files], out, labels=[bad])
    assert Folder(out).tables() == Folder(data).tables()
    with pytest.raises(FormatError, match="bad"):
        bench.prepare([files], tmp_path / "new", labels=[bad])
    assert not (tmp_path / "new").exists()


def test_files_of_others_are_not_written_over(files, tmp_path):
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "out" / "mine.parquet")
    with pytest.raises(FormatError, match=r"mine\.parquet"):
        bench.prepare([files], tmp_path / "out")


# Labels


@pytest.mark.parametrize("label", ["1.0 0.0 " * 20, "1 0 " * 20, "10" * 20])
def test_zeros_and_ones_are_sites_however_written(files, tmp_path, label):
    made = bench.prepare([files], tmp_path / "out", labels=[labels(tmp_path / "sites.csv", label)])
    table = Folder(made.out).table("sites")
    assert table.kind == "site" and table.entries[0].target[:4].tolist() == [1, 0, 1, 0]


def test_sites_of_pandas_are_sites(files, tmp_path):
    table = csv_of(tmp_path / "s.csv", "id,residue,label", ["x0_A,1,1.0", "x0_A,2,0.0", "x1_A,3,1"])
    bench.prepare([files], tmp_path / "out", labels=[table])
    table = Folder(tmp_path / "out").table("s")
    assert table.kind == "site" and sum(np.nansum(entry.target) for entry in table.entries) == 2


def test_sites_without_a_positive_fail(files, tmp_path):
    bench.prepare([files], tmp_path / "out", labels=[labels(tmp_path / "none.csv", "0" * 40)])
    (row,) = bench.evaluate("random-code", ["none"], tmp_path / "out", probe="linear")
    assert row.status == "failed" and "not both labels" in row.error


def test_folds_that_are_too_small_are_told(files, tmp_path):
    table = csv_of(tmp_path / "fold.csv", "id,fold", [f"x{i}_A,{'ab'[i % 2]}" for i in range(12)])
    bench.prepare([files], tmp_path / "out", labels=[table])
    (row,) = bench.evaluate("random-code", ["fold"], tmp_path / "out", probe="linear")
    assert row.status == "failed" and "no fold has 10 domains" in row.error


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"start": 5, "end": 60, "fold": "a"}, "a domain from 5 to 60, of 40"),
        ({"label": None}, "label is None"),
    ],
)
def test_tables_that_do_not_fit(copy, row, message):
    ids = [f"x{i}_A" for i in range(12)]
    write_table([{"id": id, "split": "train"} | row for id in ids], copy / "tasks" / "odd.parquet", {})
    (done,) = bench.evaluate("random-code", ["odd"], copy, probe="linear")
    assert done.status == "failed" and message in done.error and "odd.parquet" in done.error


# Precomputed tokens


def test_precomputed_tokens_of_other_structures_fail(data, tmp_path):
    names = [f"x{i}_A" for i in range(10)]
    ids = [np.arange(40) % 4] * 10
    bench.save_precomputed(tmp_path / "mine.npz", names, ids=ids, vectors=np.eye(4))
    command = ["bench", "--model", str(tmp_path / "mine.npz"), "--data", str(data)]
    assert main([*command, "--tasks", "sites, utilization"]) == 1
    (row,) = bench.evaluate(str(tmp_path / "mine.npz"), ["utilization"], data)
    assert row.status == "failed" and "2 of 12 structures" in row.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": np.array(["x0_A", "x0_A"])}, "'x0_A' twice"),
        ({"names": np.array(["x0_A"])}, "1 names and 2 lengths"),
        ({"vectors": np.arange(4)}, r"vectors of shape \(4,\)"),
        ({"ids": np.arange(4.0)}, r"ids of type float64 and shape \(4,\)"),
        ({"vectors": np.eye(3)}, "code 3 of 3; vectors has one row a code"),
        ({"ids": np.full(4, 1 << 40)}, "code 1099511627776 of 4; vectors has one row"),
    ],
)
def test_files_of_precomputed_tokens_that_do_not_fit(tmp_path, change, message):
    held = {"names": np.array(["x0_A", "x1_A"]), "lengths": np.array([2, 2])}
    held |= {"ids": np.arange(4), "vectors": np.eye(4)}
    np.savez(tmp_path / "odd.npz", **held | change)
    with pytest.raises(FormatError, match=message):
        representation(str(tmp_path / "odd.npz"))
    del held["vectors"]
    np.savez(tmp_path / "odd.npz", **held | {"ids": np.full(4, 1 << 40)})
    with pytest.raises(FormatError, match="code 1099511627776 of 1099511627777; .* at most 262,144"):
        representation(str(tmp_path / "odd.npz"))


@pytest.mark.parametrize("name", ["3di,protein-blocks", "protok-1:kmeans0"])
def test_names_that_are_none(name):
    with pytest.raises(FormatError, match="is no tokenizer"):
        representation(name)


# What is said of a table


def test_a_served_result_says_what_is_said_of_its_task_now(data, tmp_path):
    def measured(**about):
        folder = Folder(data)
        folder.about["sites"] = about
        out = tmp_path / "r"
        (row,) = bench.evaluate("random-code", ["sites"], folder, probe="linear", out=out)
        return row

    first, again = measured(), measured(labels="by hand", citation="me")
    assert first.seconds == again.seconds  # it was not computed again
    assert first.task["citation"] == "" and again.task["citation"] == "me"
    (kept,) = bench.load_results(tmp_path / "r")
    assert kept.task == again.task and kept.scores == first.scores


def test_what_tables_are_is_said_of_all():
    from benchmarks.leaderboard import run as leaderboard

    text = leaderboard.described()
    assert all({"what", "labels"} <= about.keys() for about in text.values())
    if not leaderboard.DATA.exists():
        pytest.skip("the tables are not here")
    assert text.keys() >= set(Folder(leaderboard.DATA).tables())
