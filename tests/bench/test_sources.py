"""What comes to the harness from outside: bad input is said, and nothing is mixed or lost."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import protok
from protok import bench, testing
from protok.analysis import alignment
from protok.bench import packing, results
from protok.bench.data import release as official
from protok.bench.data import release_chains
from protok.bench.data.prepare import write_table
from protok.bench.data.source import LabelledStructures
from protok.bench.evaluation import available, open_data
from protok.bench.measures import codebook as codes
from protok.bench.report import _table
from protok.bench.representations.kmeans import KMeans
from protok.bench.representations.load import representation
from protok.bench.representations.representation import Representation
from protok.cli.main import main
from protok.errors import FormatError, ProtokError, Unsupported
from protok.pipeline.encode import encode_all
from protok.tokens.files import save
from tests.helpers.labelled import chains


class Numbers:
    """Embeddings that say a residue's number, and codes."""

    name, size, codebook = "numbers", 8, "numbers@0"

    def embed(self, structure):
        index = structure.index.astype(np.float32)
        return np.stack([index, np.sin(index)], 1)

    def encode(self, structure):
        ids = np.arange(len(structure)) % 8
        return protok.Tokens.like(structure, ids, 8, self.codebook)


# Outputs


def test_a_renumbered_chain_is_another_chain(tmp_path):
    who = representation(Numbers(), store=tmp_path)
    who.layer, who.continuous = "continuous", True
    (chain,) = chains(1)
    for other in (
        chain,
        replace(chain, index=chain.index + 7),
        replace(chain, icode=np.where(chain.index == 3, "A", chain.icode)),
    ):
        np.testing.assert_array_equal(who.outputs([other])[0], Numbers().embed(other))
    assert len(list(tmp_path.rglob("*.npy"))) == 3


@pytest.mark.slow
def test_codes_by_kmeans_are_not_faster_than_their_embeddings():
    class Slow(Numbers):
        def embed(self, structure):
            for _ in range(50):
                np.linalg.svd(np.ones((60, 60)))
            return super().embed(structure)

    some = chains(6)
    who = Representation(KMeans(Representation(Slow(), "continuous"), 4, some))
    inner = who.tokenizer.representation
    who.outputs(some)  # of embeddings that are remembered
    assert 0 < who.residues_per_second <= inner.residues_per_second
    assert who.seconds >= inner.seconds > 0
    kept = inner._bytes
    codes.rotation(who, some)
    assert inner._bytes == kept  # nobody asks for a rotated chain twice


def test_precomputed_embeddings_are_not_invariant_as_kmeans_codes_either(tmp_path):
    some = chains(3)
    names = [structure.name for structure in some]
    path = tmp_path / "mine.npz"
    bench.save_precomputed(path, names, embeddings=[Numbers().embed(structure) for structure in some])
    who = representation(f"{path}:kmeans4", some)
    assert len(np.unique(np.concatenate(who.outputs(some)))) == 4
    for measure in (codes.rotation, codes.mirror, codes.stability):
        with pytest.raises(Unsupported, match="precomputed"):
            measure(who, some)
    bench.save_precomputed(path, names, ids=[structure.index % 4 for structure in some], vectors=np.eye(4))
    with pytest.raises(Unsupported, match="mine holds codes, no embeddings"):
        representation(f"{path}:kmeans4", some)


# Sources


def test_every_source_keeps_the_contract(data):
    for source in (bench.Folder(data), open_data("mini")):
        assert isinstance(source, LabelledStructures)
        testing.check_source(source)


def test_a_broken_source_is_caught(data):
    folder = bench.Folder(data)
    table = folder.table("sites")
    first, *rest = table.entries

    def broken(words, entry):
        folder._known["sites"] = replace(table, entries=[*rest, entry])
        with pytest.raises(AssertionError, match=words):
            testing.check_source(folder)

    broken("have shape \\(39,\\) for 40 residues", replace(first, target=first.target[1:]))
    broken("hold \\[0.5\\], not 0 and 1", replace(first, target=first.target / 2))
    broken("1 rows of .* are outside its 40 residues", replace(first, rows=np.arange(1, 41)))
    with pytest.raises(FormatError, match="no structure 'nobody'"):
        folder._known["sites"] = replace(table, entries=[replace(first, id="nobody")])
        testing.check_source(folder)
    folder._known["sites"] = table
    folder.has_sets = lambda: False
    with pytest.raises(AssertionError, match="has_sets says that there are none"):
        testing.check_source(folder)


# Runs


def test_nothing_is_measured_if_a_tokenizer_is_not_there(data, tmp_path):
    with pytest.raises(ProtokError):
        bench.evaluate(["3di", "protok-51"], ["utilization"], data, out=tmp_path)
    with pytest.raises(Unsupported):
        bench.evaluate(["3di", "3di:states"], ["utilization"], data, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_tokenizers_of_one_name_are_refused(data):
    class Others(Numbers):
        def encode(self, structure):
            return protok.Tokens.like(structure, 0 * structure.index, 8, self.codebook)

    with pytest.raises(FormatError, match="two tokenizers are named numbers"):
        bench.evaluate([Numbers(), Others()], ["utilization"], data)
    assert len(bench.evaluate([Numbers(), Numbers()], ["utilization"], data)) == 2


def test_the_linear_probe_has_no_seeds(data):
    with pytest.raises(FormatError, match="draws nothing"):
        bench.evaluate("3di", ["sites"], data, probe="linear", seeds=[1, 2])


def test_values_of_zeros_and_ones_are_no_sites(data, copy, tmp_path):
    rows = pq.read_table(data / "tasks" / "sites.parquet").to_pylist()
    for row in rows:
        row["label"] = [float(letter) for letter in row["label"]]
    write_table(rows, copy / "tasks" / "sites.parquet", {})
    got = [
        next(iter(bench.evaluate("random-code", ["sites"], of, probe="linear", out=tmp_path / "r")))
        for of in (data, copy)
    ]
    assert [row.task["kind"] for row in got] == ["site", "value"]


def test_what_cannot_stand_side_by_side_is_refused(data, files, tmp_path):
    out, other = tmp_path / "results", tmp_path / "other"
    bench.evaluate(["3di", "random-code"], ["sites"], data, out=out, probe="linear")
    assert len(packing.load_results(out)) == 2
    path = out / "3di" / "sites.json"
    held = json.loads(path.read_text())
    for changes in ({"data": held["data"] | {"sha256": "0"}}, {"settings": {"name": "fast"}}):
        path.write_text(json.dumps(held | changes))
        with pytest.raises(FormatError, match="3di on sites and random-code on sites.*different"):
            packing.load_results(out)
    path.write_text(json.dumps(held))
    bench.evaluate("3di", ["utilization"], data, out=out)
    older = held | {"tokenizer": held["tokenizer"] | {"fingerprint": "0"}}
    path.write_text(json.dumps(older))
    with pytest.raises(FormatError, match="different models of one name"):
        packing.load_results(out)
    assert main(["bench", "report", str(out), "-o", str(other)]) == 2


@pytest.mark.slow
def test_packed_results_are_those_of_the_files(data, tmp_path, capsys):
    folder, packed = tmp_path / "results", tmp_path / "results.parquet"
    bench.evaluate(["3di", "random-code"], ["sites"], data, out=folder / "one", probe="linear")
    about = {"command": "this test", "hardware": {"cpu": "any"}}
    bench.evaluate(["3di", "random-code"], data=data, out=folder / "two", about=about)
    assert main(["bench", "pack", str(folder), "-o", str(packed)]) == 0
    for group in ("one", "two"):
        files = sorted((folder / group).glob("*/*.json"))
        rows = [json.loads(path.read_text()) for path in files]
        assert [row.to_dict() for row in packing.load_results(packed, group)] == rows and rows
        assert packing.load_results(folder, group) == packing.load_results(packed, group)
    assert {row["status"] for row in rows} == {"ok", "unsupported"}
    packing.unpack(packed, tmp_path / "again")
    for path in files:
        assert (tmp_path / "again" / "two" / path.parent.name / path.name).read_text() == path.read_text()
    for group, message in (("", "several groups.*one of one, two"), ("three", "no group 'three'")):
        with pytest.raises(FormatError, match=f"(?s){message}"):
            packing.load_results(packed, group)
    assert main(["bench", "report", str(packed), "-o", str(tmp_path / "r.html")]) == 2
    page = tmp_path / "r.html"
    assert main(["bench", "report", str(packed), "--group", "one", "-o", str(page)]) == 0 and page.exists()
    (tmp_path / "odd.parquet").write_bytes(b"no Parquet")
    with pytest.raises(FormatError, match=r"odd\.parquet"):
        packing.load_results(tmp_path / "odd.parquet")
    with pytest.raises(FormatError, match="no results"):
        packing.pack(tmp_path / "again" / "two" / "3di", packed)


def test_a_task_that_failed_before_it_was_known_is_still_a_hole():
    def row(who, task, value=None):
        known = {"kind": "site", "metric": "auroc", "better": "higher"} if value else {}
        return results.Result(
            {"name": who, "layer": "codes", "size": 4, "fingerprint": who},
            {"name": task, "kind": "", "metric": "", **known},
            results.OK if value else results.FAILED,
            scores={"test": {"auroc": {"value": value, "se": 0.01}}} if value else {},
        )

    rows = [row("a", "one", 0.7), row("a", "two", 0.6), row("b", "one"), row("b", "two", 0.7)]
    got = results.Results(tuple(rows))
    assert got.means()["site"] == {"a": pytest.approx(0.65), "b": None}
    assert "0.700" in _table(got, "site") and "failed" in _table(got, "site")
    only = results.Results((row("b", "one"),))
    assert only.means() == {} and "failed" in str(only)


# Sources


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stability", "id,label\nx0_A," + "01" * 20, "table or task stability already"),
        ("flex_bfactor", "id,label\nx0_A," + "01" * 20, "table or task flex_bfactor already"),
        ("mine", "id,fold,split\nx0_A,a,test\nx1_A,a,", "1 of 2 rows without a split"),
        ("mine", "id,fold,region\nx0_A,a,900-950", "no residue in 900-950"),
        ("mine", "id,fold\nx0_A,a\nx1_A", "line 3 has not as many fields"),
        ("mine", "id,fold\nx0_A,a,b", "line 2 has not as many fields"),
        ("mine", "id,fold\n\n\nx0_A,a\nx1_A\n", "line 5 has not as many fields"),
        ("mine", "id,fold,region\nx0_A,a,abc", "'abc' is no range"),
        ("mine", "id,residue,label,split\nx0_A,1,1,train\nx0_A,2,0,test", "different things of split"),
        ("mine", "id,residue,label\nx0_A,999,1\n", "no residue '999'"),
        ("mine", "id,residue,label\nx0_A,1,1\nx0_A,1,0", "residue 1 has labels 1 and 0"),
        ("mine", "id,residue,label\nnobody,1,1\n", "nobody"),
        ("mine", "id,label\nx0_A,0101\n", "4 labels for 40"),
        ("mine", "id,label\nx0_A,é\n", "UTF-8"),
        ("mine", "id,residue,label\nx0_A,1,maybe\n", "maybe"),
        ("mine", "who\nx\n", "who"),
        *(
            ("mine", f"id,label,split\nx0_A,{'01' * 20},{split}", f"split '{split}'")
            for split in ("val", "Train", "validation", "training")
        ),
    ],
)
def test_tables_that_would_be_lost_or_mixed_are_refused(files, tmp_path, name, text, message):
    (tmp_path / f"{name}.csv").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=message) as error:
        bench.prepare([files], tmp_path / "out", labels=[tmp_path / f"{name}.csv"])
    assert f"{name}.csv" in str(error.value)


def test_a_table_is_not_taken_for_a_task_on_structures(copy):
    (copy / "tasks" / "sites.parquet").rename(copy / "tasks" / "mirror.parquet")
    with pytest.raises(FormatError, match="a table named mirror"):
        available(open_data(copy))


def test_files_that_cannot_be_read_are_said(files, tmp_path, capsys):
    for path in sorted(files.glob("x?.pdb"))[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.pdb").write_text("ATOM  nonsense\n" * 3)
    arguments = ["bench", "--model", "3di", "--data", str(tmp_path), "--tasks", "utilization"]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert "broken.pdb" in output.err and "perplexity" in output.out
    (tmp_path / "broken.pdb").unlink()
    chain = protok.read(tmp_path / "x0.pdb")
    protok.write(chain, tmp_path / "x0.cif")  # the same chain in another format is no error
    assert main(arguments) == 0
    protok.write(replace(chain, coords=chain.coords + 1), tmp_path / "x0.cif")
    assert main(arguments) == 1 and "second chain with the id x0_A" in capsys.readouterr().err


def test_what_cannot_be_read_fails_as_a_row(data):
    folder = bench.Folder(data)

    def broken():
        raise OSError("cannot")

    folder.sets = broken
    assert "utilization" in available(folder)
    got = bench.evaluate("3di", ["utilization", "sites"], folder, probe="linear")
    assert [row.status for row in got] == [results.FAILED, results.OK]
    # The centres come from the table, so the sets are not missed.
    got = bench.evaluate("protok-1:kmeans4", ["sites"], folder, probe="linear")
    assert [row.status for row in got] == [results.OK]


def test_pairs_need_tm_align(files, tmp_path, monkeypatch):
    (tmp_path / "pairs.csv").write_text("id1,id2\nx0_A,x1_A\n")
    monkeypatch.setitem(__import__("sys").modules, "tmtools", None)
    with pytest.raises(ProtokError, match="needs tmtools; pip install 'protok.prior.'"):
        bench.prepare([files], tmp_path / "out", pairs=tmp_path / "pairs.csv")


def test_outputs_are_let_go_of_but_for_subjects_that_were_given(data, monkeypatch):
    mine, seen, real = representation("3di"), [], Representation.forget
    monkeypatch.setattr(Representation, "forget", lambda self: seen.append(self.name) or real(self))
    bench.evaluate([mine, "random-code", "protok-1:kmeans4"], ["utilization"], data)
    assert seen == ["random-code", "protok-1:kmeans4", "protok-1:continuous"]
    assert mine._bytes > 0


# The official release


@pytest.fixture
def release(tmp_path):
    """Pairs, and CASP14, of two chains; a third is named but not there."""
    pytest.importorskip("tmtools", reason="TM-align is not installed")
    dump = tmp_path / "pdb_data" / "mmcif_files" / "mmcif_files"
    casp = tmp_path / "data" / "utility" / "casp14"
    pairs = tmp_path / "data" / "sensitivity" / "conformational"
    for folder in (dump, casp / "files", pairs, tmp_path / "data" / "physicochemical" / "atlas"):
        folder.mkdir(parents=True)
    for chain, entry in zip(chains(2), ("1aaa", "2bbb"), strict=True):
        protok.write(chain, dump / f"{entry}.cif")
        protok.write(chain, casp / "files" / f"{entry}.cif")
    rows = "one,two\n1aaa.A.pdb,2bbb.A.pdb\n1aaa.A.pdb,9zzz.A.pdb\n"
    (pairs / official.PAIRS["fold_switching_test"]).write_text(rows)
    held = {"1aaa_A": 0, "2bbb_B": 0, "9zzz_A": 0}
    (casp / "files" / "chain_data_cache.json").write_text(json.dumps(held))
    return open_data(tmp_path)


def test_pairs_and_sets_of_the_release(release, monkeypatch):
    calls, real = [], alignment.tm_align
    monkeypatch.setattr(alignment, "tm_align", lambda first, second: calls.append(1) or real(first, second))
    assert {"sensitivity", "utilization"} <= set(available(release)) and not calls
    ((first, second, tm),) = next(iter(release.pairs().values()))
    assert (first, second) == ("1aaa.A", "2bbb.A") and 0 < tm < 0.6
    assert release.sets() == {"casp14": ["1aaa_A"]}
    got = {row.task["name"]: row for row in bench.evaluate("3di", ["sensitivity", "utilization"], release)}
    assert len(calls) == 1  # once for all tokenizers
    assert all(row.status == results.OK for row in got.values())
    assert got["sensitivity"].data["left_out"] == 1
    assert "9zzz" in got["sensitivity"].data["first_left_out"][0]
    missing = got["utilization"].data["first_left_out"]
    assert ["2bbb_B" in missing[0], "9zzz_A" in missing[1]] == [True, True]


def test_a_release_of_which_no_pair_is_there_fails_as_a_row(release):
    for path in release.path.rglob("*.cif"):
        path.unlink()
    got = list(bench.evaluate("3di", ["sensitivity"], release))
    assert [row.status for row in got] == [results.FAILED]
    assert "not in the mmCIF dump" in got[0].error


def test_a_chain_by_its_label_has_the_authors_numbers(tmp_path):
    from biotite.structure.io import pdbx

    (chain,) = chains(1)
    chain = replace(chain, index=chain.index + 100)
    chain.chain[:] = "X"
    protok.write(chain, tmp_path / "1abc.cif")
    file = pdbx.CIFFile.read(tmp_path / "1abc.cif")
    atoms = file.block["atom_site"]
    n = atoms.row_count
    atoms["label_asym_id"] = np.full(n, "B")
    atoms["label_seq_id"] = (np.arange(n) // 4 + 1).astype(str)
    file.write(tmp_path / "1abc.cif")
    for name in ("X", "B"):
        read = release_chains.from_mmcif(tmp_path / "1abc.cif", name)
        np.testing.assert_array_equal(read.index, chain.index)
    with pytest.raises(official.Left, match="no chain C"):
        release_chains.from_mmcif(tmp_path / "1abc.cif", "C")


def test_gains_are_paired_by_protein(data, tmp_path, capsys):
    from benchmarks import records
    from benchmarks.leaderboard import compare

    bench.evaluate(["3di", "residue-type"], ["sites"], data, out=tmp_path / "cells", probe="linear")
    out = tmp_path / "gains.parquet"
    compare.main(["3di", "residue-type", "--cells", str(tmp_path / "cells"), "-o", str(out)])
    (gain,) = records.read(out).values()
    names = ("3di", "residue-type")
    cells = [json.loads((tmp_path / f"cells/{name}/sites.json").read_text()) for name in names]
    scores = [cell["scores"]["test"]["auroc_within_alone"] for cell in cells]
    assert [gain["first"], gain["second"]] == [round(score["value"], 4) for score in scores]
    apart = [a - b for a, b in zip(*(score["each"] for score in scores), strict=True) if a is not None]
    assert gain["each"]["sites"]["chains"] == gain["chains"] == len(apart) > 1
    assert gain["gain"] == pytest.approx(np.mean(apart), abs=1e-4)
    assert "95 % interval" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="proteinmpnn has no site table"):
        compare.main(["3di", "proteinmpnn", "--cells", str(tmp_path / "cells"), "-o", str(out)])


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".fasta"])
def test_tokens_of_protok_encode_are_precomputed_ones(tmp_path, suffix):
    structures = [replace(testing.random_complex([40, 30], seed=n), name=f"s{n}") for n in range(3)]
    (tmp_path / "pdbs").mkdir()
    for structure in structures:
        protok.write(structure, tmp_path / "pdbs" / f"{structure.name}.pdb")
    out = tmp_path / f"mine{suffix}"
    encode_all(tmp_path / "pdbs", "3di", out)
    mine, own = representation(str(out)), representation("3di")
    read = [protok.read(tmp_path / "pdbs" / f"s{n}.pdb") for n in range(3)]
    for a, b in zip(mine.outputs(read), own.outputs(read), strict=True):
        assert np.array_equal(a, b)
    assert (mine.size, mine.name, mine.precomputed) == (20, "mine", True)
    mixed = [own.tokenizer.encode(read[0]), protok.load("protein-blocks").encode(read[1])]
    save(mixed, tmp_path / "mixed.parquet")
    with pytest.raises(FormatError, match="several codebooks"):
        representation(str(tmp_path / "mixed.parquet"))
