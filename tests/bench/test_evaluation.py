"""The harness from structures and labels to numbers, files, table and page."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import protok
from protok import bench
from protok.analysis import alignment
from protok.bench import results, tasks
from protok.bench.data.ligands import contacts
from protok.bench.data.mini import mini_files
from protok.bench.data.prepare import write_structures
from protok.bench.data.source import Domain, within
from protok.bench.measures import alignment as align
from protok.bench.measures import codebook as codes
from protok.bench.measures import samples
from protok.bench.report import _looks, _name_front, _table
from protok.bench.representations.controls import CONTROLS, SimpleFeatures
from protok.bench.representations.load import representation
from protok.bench.representations.precomputed import Precomputed
from protok.bench.representations.representation import Representation, _own_vectors
from protok.cli.main import main
from protok.errors import FormatError, ProtokError, Unsupported
from protok.testing import random_backbone
from tests.helpers.labelled import chains

TINY = replace(samples.FAST, steps=30, every=10, warmup=3, hidden=8, residues=600, rates=(1e-2, 1e-3))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder by way of `prepare`: 24 random chains, labelled by their 3Di letters."""
    files = tmp_path_factory.mktemp("files")
    tokenizer = protok.load("3di")
    seen, rows, folds, vectors = [], ["id,residue,label"], ["id,fold,superfamily,family"], []
    vectors.append("id,split,label")
    random = np.random.default_rng(0)
    for i, chain in enumerate(chains(24)):
        chain.bfactor[:] = random.normal(30, 5, len(chain))
        protok.write(chain, files / f"x{i}.pdb")
        ids = tokenizer.encode(protok.read(files / f"x{i}.pdb")).ids
        seen.append(ids)
        rows += [f"x{i}_A,{n},1" for n in chain.index[ids < 6]]
        folds.append(f"x{i}_A,f{i % 2},f{i % 2}.{i % 4},f{i % 2}.{i % 4}.{i}")
        split = "train" if i < 14 else "valid" if i < 18 else "hard" if i < 21 else "easy"
        vectors.append(f"x{i}_A,{split},{' '.join(f'{v:.1f}' for v in 1.5 * ids)}")
    (files / "letters.csv").write_text("\n".join(rows))
    (files / "folds.csv").write_text("\n".join(folds))
    (files / "values.csv").write_text("\n".join(vectors))
    (files / "pairs.csv").write_text("id1,id2,tm\nx0_A,x1_A,0.3\nx2_A,x2_A,1\nx3_A,x4_A,0.2\n")
    out = tmp_path_factory.mktemp("data")
    tables = [files / f"{name}.csv" for name in ("letters", "folds", "values")]
    made = bench.prepare([files], out, labels=tables, pairs=files / "pairs.csv")
    assert (made.structures, made.pairs, made.errors) == (24, 3, [])
    return out


# Tasks


def test_the_papers_tasks_are_all_there():
    assert sum(len(task.splits) for task in tasks.SUPERVISED) == 24
    assert len(tasks.SUPERVISED) == 12
    for task in tasks.TASKS.values():
        assert task.labels and task.licence and task.metric and task.version >= 1
        assert task.better in ("higher", "lower")


# The data folder


def test_prepare_keeps_residues_and_labels(data):
    folder = bench.Folder(data)
    assert folder.tables() == ["flex_bfactor", "folds", "letters", "values"]
    letters = folder.table("letters")
    assert letters.kind == "site" and folder.table("values").kind == "value"
    for entry in letters.entries:
        structure = folder.structure(entry.id)
        ids = protok.load("3di").encode(structure).ids
        # Coordinates are kept to 0.01 Å: a letter may change here and there.
        assert np.mean((ids < 6) == entry.target) > 0.95
        np.testing.assert_array_equal(structure.index, np.arange(1, 41))
    assert set(folder.table("values").tests) == {"hard", "easy"}


def test_splits_keep_relatives_together(tmp_path):
    random = np.random.default_rng(0)
    parents = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), 120)) for _ in range(12)]
    family = [list(p) for p in parents for _ in range(3)]
    for member in family:  # about 85 % identity
        for i in random.choice(120, 18, replace=False):
            member[i] = "A"
    members = [
        replace(random_backbone(120, seed=i), sequence="".join(letters), name=f"m{i:02}")
        for i, letters in enumerate(family)
    ]
    for chain in members:
        protok.write(chain, tmp_path / f"{chain.name}.pdb")
    made = bench.prepare(tmp_path, tmp_path / "data", ligands=False)
    entries = bench.Folder(made.out).table("flex_bfactor").entries
    chosen = [entry.split for entry in sorted(entries, key=lambda entry: entry.id)]
    assert all(len(set(chosen[i : i + 3])) == 1 for i in range(0, 36, 3))
    assert set(chosen) == {"train", "valid", "test"}
    assert 0.55 < chosen.count("train") / 36 < 0.8


def test_ligand_contacts_are_those_within_reach(tmp_path):
    chain = chains(1)[0]
    protok.write(chain, tmp_path / "x.pdb")
    centre = chain.coords[20, 1]
    away = [centre + np.float32([0, 0, 0.1 * i]) + np.float32([2.5, 0, 0]) for i in range(7)]
    lines = [
        f"HETATM{900 + i:5}  C{i}  LIG A 900    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 10.00           C  "
        for i, (x, y, z) in enumerate(away)
    ]
    text = (tmp_path / "x.pdb").read_text().replace("END", "")
    (tmp_path / "x.pdb").write_text(text.rstrip() + "\n" + "\n".join(lines) + "\nEND\n")
    read = protok.read(tmp_path / "x.pdb")
    label = contacts(tmp_path / "x.pdb", read)
    apart = np.linalg.norm(read.coords[:, :, None] - np.array(away), axis=-1).min((1, 2))
    np.testing.assert_array_equal(label, apart < 4.5)
    assert 1 <= label.sum() < 40
    small = "\n".join(lines[:6])  # six atoms are no ligand
    (tmp_path / "y.pdb").write_text(text.rstrip() + "\n" + small + "\nEND\n")
    assert contacts(tmp_path / "y.pdb", read) is None


# Tokenizers


def test_fingerprint_sees_any_change_of_weights():
    class Shifted(bench_tokenizer()):
        shift = 1

    first, same, other = (Representation(kind()) for kind in (bench_tokenizer(), bench_tokenizer(), Shifted))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert first.codebook == other.codebook  # the name alone would not have told


def test_a_network_has_one_fingerprint_on_all_processors():
    class Embedding:
        name, size, codebook = "embedding", 0, "embedding"

        def __init__(self, last_digit=0.0, bent=0.0, weight=1.0):
            self.network = torch.nn.Linear(3, 3)
            torch.nn.init.constant_(self.network.weight, weight)
            torch.nn.init.constant_(self.network.bias, 0.0)
            self.last_digit, self.bent = last_digit, bent

        def embed(self, structure):
            z = structure.coords.reshape(len(structure), -1)[:, :9].astype(np.float32)
            noise = np.random.default_rng(1).normal(size=z.shape)
            return z * (1 + self.last_digit * noise) + self.bent * np.abs(z)

    def fingerprint(**options):
        return Representation(Embedding(**options)).fingerprint

    assert fingerprint() == fingerprint(last_digit=1e-6)
    assert fingerprint() != fingerprint(bent=0.05)  # the code around the weights has changed
    assert fingerprint() != fingerprint(weight=1 + 1e-6)

    class Alone(Embedding):
        def __init__(self, **options):
            super().__init__(**options)
            del self.network

    # Nothing but the output tells what it is.
    assert Representation(Alone()).fingerprint != Representation(Alone(last_digit=1e-4)).fingerprint


def bench_tokenizer():
    class Numbers:
        name, size, codebook, shift = "numbers", 8, "numbers@0", 0

        def encode(self, structure):
            ids = (np.arange(len(structure)) + self.shift) % 8
            return protok.Tokens.like(structure, ids, 8, self.codebook)

    return Numbers


def test_precomputed_tokens_are_a_tokenizer(data, tmp_path):
    folder, tokenizer = bench.Folder(data), protok.load("3di")
    ids = [tokenizer.encode(folder.structure(id)).ids for id in folder.ids()]
    bench.save_precomputed(tmp_path / "mine.npz", folder.ids(), ids=ids, vectors=np.eye(20))
    names = ["letters", "sensitivity", "utilization", "rotation"]
    got = bench.evaluate(["3di", str(tmp_path / "mine.npz")], names, data, probe=TINY)
    for name in names[:3]:
        first, second = (row.scores for row in got if row.task["name"] == name)
        assert first == second and first
    # Ids alone are letters that are like no others, as those of 3Di.
    bench.save_precomputed(tmp_path / "alone.npz", folder.ids(), ids=ids, size=20)
    alone = bench.evaluate(str(tmp_path / "alone.npz"), names, data, probe=TINY)
    assert [row.scores for row in alone] == [row.scores for row in got][len(names) :]
    bench.save_precomputed(tmp_path / "few.npz", folder.ids(), ids=ids)
    assert Precomputed(tmp_path / "few.npz").size == 1 + max(row.max() for row in ids)
    # They are looked up by name, so nobody knows what a rotated structure would get.
    assert got.cell("mine", "rotation", "all", "same")[0] == results.UNSUPPORTED
    assert got.cell("3di", "rotation", "all", "same")[1]["value"] > 0.98
    with pytest.raises(Unsupported, match="x0_A"):
        Precomputed(tmp_path / "mine.npz").encode(folder.structure("x0_A")[:10])
    with pytest.raises(FormatError):
        bench.save_precomputed(tmp_path / "bad.npz", ["a"], ids=[np.array([7])], vectors=np.eye(3))
        Precomputed(tmp_path / "bad.npz")


def test_kmeans_codes_of_one_hot_letters_are_the_letters(data):
    folder = bench.Folder(data)
    structures = [folder.structure(id) for id in folder.ids()]
    plain = representation("3di")
    seen = np.unique(np.concatenate(plain.outputs(structures)))
    made = representation(f"3di:kmeans{len(seen)}", structures)
    assert made.name == f"3di:kmeans{len(seen)}" and made.size == len(seen)
    pairs = set()
    for a, b in zip(plain.outputs(structures), made.outputs(structures), strict=True):
        pairs |= set(zip(a.tolist(), b.tolist(), strict=True))
    # Random starts find 9 to 12 of the 13: which, is the luck of the seed.
    assert len({b for _, b in pairs}) >= 9 and len(seen) == 13
    assert len(pairs) == len(seen)  # each letter has one centre


def test_centres_of_means_around_are_of_what_is_near():
    (chain,) = chains(1)
    views = ("simple-features:kmeans3", "simple-features:kmeans3-1A", "simple-features:kmeans3-999A")
    alone, near, every = (representation(view, [chain]) for view in views)
    assert every.name == views[2]
    np.testing.assert_array_equal(alone.outputs([chain])[0], near.outputs([chain])[0])
    # Residues that are all near have one mean.
    mean = np.nanmean(representation("simple-features").outputs([chain])[0], 0)
    np.testing.assert_allclose(every.vectors, np.tile(mean, (3, 1)), atol=1e-4)


def test_a_view_by_id_says_nothing_of_other_codes():
    some = chains(3)
    plain, own = representation("neighbour-count"), representation("neighbour-count:ids")
    assert own.name == "neighbour-count:ids" and own.fingerprint != plain.fingerprint
    for plain_rows, own_rows in zip(plain.outputs(some), own.outputs(some), strict=True):
        np.testing.assert_array_equal(plain_rows, own_rows)
    np.testing.assert_array_equal(own.vectors, np.eye(40))
    large = _own_vectors(3000)
    cosine = large @ large.T
    assert np.abs(cosine - np.eye(3000)).max() < 0.5 and large.shape[1] < 512


@pytest.mark.slow
def test_views_of_hidden_states():
    some = chains(2)
    tok = protok.load("protok-1")
    inner, read = representation("protok-1:states"), representation("protok-1:decoder")
    assert (inner.name, inner.size) == ("protok-1:states", 0)
    assert (read.name, read.size) == ("protok-1:decoder", 64)  # its bits are those of the codes
    assert inner.continuous and read.continuous
    layers = ("", ":ids", ":continuous", ":states", ":decoder")
    assert len({representation(f"protok-1{layer}").fingerprint for layer in layers}) == 5
    for structure, a, b in zip(some, inner.outputs(some), read.outputs(some), strict=True):
        np.testing.assert_array_equal(a, tok.states(structure))
        np.testing.assert_array_equal(b, tok.states(tok.encode(structure)))
    for layer in ("states", "decoder"):
        with pytest.raises(Unsupported, match="hidden"):
            representation(f"3di:{layer}")


def test_outputs_are_kept_between_runs(data, tmp_path):
    calls = []

    class Counting(bench_tokenizer()):
        def encode(self, structure):
            calls.append(structure.name)
            return super().encode(structure)

    first = bench.evaluate(Counting(), ["utilization"], data, cache=tmp_path)
    seen = len(calls)
    again = bench.evaluate(Counting(), ["utilization"], data, cache=tmp_path)
    assert seen >= 24 and len(calls) == seen + 2  # the two structures of the fingerprint
    assert next(iter(first)).scores == next(iter(again)).scores
    Counting.shift = 1  # another model finds nothing of it
    bench.evaluate(Counting(), ["utilization"], data, cache=tmp_path)
    assert len(calls) > seen + 24


def test_simple_features_are_what_they_say():
    chain = chains(1)[0]
    chain.coords[5] = np.nan
    z = SimpleFeatures().embed(chain)
    assert z.shape == (40, 26) and np.isnan(z[5]).all()
    apart = np.linalg.norm(chain.coords[:, None, 1] - chain.coords[:, 1], axis=-1)
    others = (apart < 10).sum(1) - 1  # NaN is not near
    np.testing.assert_allclose(np.delete(10 * z[:, 22], 5), np.delete(others, 5), atol=1e-4)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    assert all(z[i, letters.index(c)] == 1 for i, c in enumerate(chain.sequence) if i != 5)
    assert z[0, 24] == z[39, 24] == 1  # the ends


# Measures


def test_alignment_score_by_hand():
    same = 100 * np.eye(4)
    assert alignment.alignment_score(same) == 400
    assert alignment.alignment_score(same[:, 1:]) == 300 - 10  # one residue without a partner
    assert alignment.alignment_score(np.full((2, 2), -50.0)) == -40  # four gaps beat two mismatches
    assert alignment.alignment_score(same[:, :0]) == -40
    shifted = np.full((3, 5), -100.0)
    shifted[[0, 1, 2], [2, 3, 4]] = 70.4
    assert alignment.alignment_score(shifted, local=True) == 210


def test_official_tm_scores_come_out(shared):
    pytest.importorskip("tmtools")
    import pyarrow.parquet as pq

    folder = bench.Folder(shared("structtokenbench"))
    pairs = pq.read_table(shared("structtokenbench/sensitivity_pairs.parquet")).to_pylist()
    pairs = [row for row in pairs if row["set"].startswith("STB")]
    assert len(pairs) == 164
    # The smallest, for time; `benchmarks` do all.
    pairs = sorted(pairs, key=lambda row: max(row["n1"], row["n2"]))[:25]
    apart = []
    for row in pairs:
        first, second = (folder.structure(row[key]) for key in ("file1", "file2"))
        apart.append(abs(alignment.tm_align(first, second) - row["stb_tm"]))
    assert np.mean(apart) < 1e-3


def test_utilization_by_hand():
    class Two(bench_tokenizer()):
        def encode(self, structure):
            ids = np.zeros(len(structure), int) + (structure.name == "x1_A")
            ids[: len(ids) // 2] = 7
            ids[0] = -1
            return protok.Tokens.like(structure, ids, 8, self.codebook)

    scores, points = codes.utilization(Representation(Two()), chains(2, 41))
    assert scores["use"].value == pytest.approx(2 / 8)
    assert scores["pooled_use"].value == pytest.approx(3 / 8)
    p = np.array([19, 21]) / 40
    assert scores["perplexity"].value == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert scores["compression_ratio"].value == pytest.approx(1 / 72)
    assert points["counts"] == [21, 21, 0, 0, 0, 0, 0, 38]


def test_distinctiveness_by_hand():
    class Three(bench_tokenizer()):
        size = 3

        def code_vectors(self):
            return np.array([[2.0, 0], [0, 1], [-1, 0]])

        def encode(self, structure):
            ids = np.arange(len(structure)) % 2
            return protok.Tokens.like(structure, ids, 3, self.codebook)

    scores, points = codes.distinctiveness(Representation(Three()), chains(1))
    assert scores["mean_cosine"].value == pytest.approx((3 - 2) / 9)
    assert scores["off_diagonal"].value == pytest.approx(-2 / 6)
    assert scores["weighted"].value == pytest.approx(0.5)
    assert sum(points["plain"]) == pytest.approx(1)


def test_robustness_tells_invariant_codes_from_others():
    some = chains(4)
    got = {
        (who, name): measure(representation(who), some)[0]
        for who in ("3di", "random-code")
        for name, measure in (("rotation", codes.rotation), ("mirror", codes.mirror))
    }
    assert got["3di", "rotation"]["same"].value > 0.98
    assert got["random-code", "rotation"]["same"].value < 0.1
    assert got["random-code", "mirror"]["changed"].value > 0.9
    noise = codes.stability(representation("3di"), some)[0]
    values = [noise[f"same_{sigma:g}"].value for sigma in codes.NOISE]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.1


def test_reconstruction_of_a_perfect_decoder_is_perfect():
    some = chains(2)

    class Perfect(bench_tokenizer()):
        def decode(self, tokens):
            return next(structure for structure in some if structure.name == tokens.name)

    scores, _ = codes.reconstruction(Representation(Perfect()), some)
    assert scores["tm_score"].value == pytest.approx(1)
    assert scores["rmsd"].value == pytest.approx(0, abs=1e-3)
    with pytest.raises(Unsupported):
        codes.reconstruction(representation("3di"), some)


def test_retrieval_finds_copies_and_random_codes_do_not():
    some = chains(8, 60)
    # Each fold is a chain and its noisy copy.
    random = np.random.default_rng(0)
    shifts = [random.normal(0, 0.1, c.coords.shape).astype(np.float32) for c in some]
    copies = [replace(c, name=f"{c.name}'", coords=c.coords + x) for c, x in zip(some, shifts, strict=True)]
    held = {c.name: c for c in some + copies}
    folder = type("Held", (), {"structure": lambda self, id: held[id]})()
    folds = {name: f"f{name[1]}" for name in held}
    domains = [Domain(n, (5, 60), f, f"{f}.1", f"{f}.1.{len(n)}", n) for n, f in folds.items()]
    scores, _ = align.retrieval(representation("3di"), folder, domains)
    assert scores["top1"].value > 0.9
    assert scores["chance"].value == pytest.approx(1 / 15)
    lost, _ = align.retrieval(representation("random-code"), folder, domains)
    assert lost["top1"].value < 0.5


# From data to numbers


@pytest.mark.slow
def test_a_label_that_codes_give_is_found_and_its_shuffle_is_not(data, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = replace(TINY, steps=80)
    got = bench.evaluate(["3di", "random-code"], ["letters", "values"], data, probe=settings)
    assert got.cell("3di", "letters", "test", "auroc")[1]["value"] > 0.9
    assert abs(got.cell("random-code", "letters", "test", "auroc")[1]["value"] - 0.5) < 0.12
    assert got.cell("3di", "values", "easy", "spearman")[1]["value"] > 0.7
    # The leak test: labels that are shuffled over all residues are beyond anyone.
    leak = shutil.copytree(data, tmp_path / "leak")
    table = pq.read_table(data / "tasks" / "letters.parquet").to_pylist()
    random = np.random.default_rng(0)
    mixed = random.permutation(list("".join(row["label"] for row in table)))
    for i, row in enumerate(table):
        row["label"] = "".join(mixed[40 * i : 40 * i + 40])
    pq.write_table(pa.Table.from_pylist(table), leak / "tasks" / "letters.parquet")
    for who, probe_ in ((["3di", "3di:continuous"], settings), (["3di", *CONTROLS], "linear")):
        lost = bench.evaluate(who, ["letters"], leak, probe=probe_)
        assert not lost.failed
        for name in lost.representations():
            assert abs(lost.cell(name, "letters", "test", "auroc")[1]["value"] - 0.5) < 0.12


@pytest.mark.slow
def test_results_are_reused_only_while_nothing_changed(data, tmp_path):
    out = tmp_path / "results"
    first = bench.evaluate("3di", ["letters", "utilization"], data, out=out, probe=TINY)
    path = out / "3di" / "letters.json"
    held = json.loads(path.read_text())
    assert held["tokenizer"]["fingerprint"] and held["data"]["sha256"] and held["versions"]["torch"]
    held["scores"]["test"]["auroc"]["value"] = 0.123
    path.write_text(json.dumps(held))

    def value(**options):
        settings = {"data": data, "probe": TINY, "out": out} | options
        got = bench.evaluate("3di", ["letters"], **settings)
        return got.cell("3di", "letters", "test", "auroc")[1]["value"]

    assert value() == 0.123  # served
    assert value(out=None) == first.cell("3di", "letters", "test", "auroc")[1]["value"]
    assert value(probe=replace(TINY, steps=20)) != 0.123
    path.write_text(json.dumps(held))
    moved = shutil.copytree(data, tmp_path / "moved")
    structures = [bench.Folder(data).structure(id) for id in bench.Folder(data).ids()]
    structures[0].coords[3] += 0.5
    write_structures(structures, moved / "structures.parquet")
    assert value(data=moved) != 0.123


def test_a_result_says_what_it_cost_and_where_it_comes_from(data):
    about = {"command": "this test", "status": "never overwritten"}
    (row,) = bench.evaluate("3di", ["letters"], data, probe="linear", about=about)
    assert set(row.cpu_seconds) == {"encoding", "rest"}
    assert all(value >= 0 for value in row.cpu_seconds.values())
    assert row.tokenizer["residues_per_second"] > 0
    assert row.about["command"] == "this test" and row.status == results.OK


def test_leaderboard_goes_on_and_makes_its_tables(data, tmp_path, monkeypatch, capsys):
    from benchmarks.leaderboard import run as leaderboard
    from benchmarks.tables import leaderboard as leaderboard_tables

    out, cells = tmp_path / "leaderboard.parquet", tmp_path / "cells"
    monkeypatch.setattr(leaderboard, "OUT", out)
    assert "No cell" in leaderboard_tables.summary()
    tasks_and_models = "--tasks letters,values,values.z,utilization --model 3di --model random-code"
    where = f"--data {data} -o {out} --cells {cells}"
    arguments = f"leaderboard.py --run --probe linear {where} {tasks_and_models}".split()
    monkeypatch.setattr("sys.argv", [*arguments, "--minutes", "0.0001"])
    with pytest.raises(SystemExit, match="goes on"):
        leaderboard.main()
    (cell,) = cells.glob("linear/*/*.json")
    held = cell.read_text()
    cell.unlink()
    cell.parent.rmdir()
    cell.parents[1].rmdir()
    cells.rmdir()  # what was packed is unpacked, and goes on
    monkeypatch.setattr("sys.argv", arguments)
    leaderboard.main()
    assert len(list(cells.glob("linear/*/*.json"))) == 8 and cell.read_text() == held
    summary = leaderboard_tables.summary()
    first = next(line for line in summary.splitlines() if line.startswith("| `"))
    assert "`3di`" in first
    text = leaderboard_tables.tables()
    assert "letters (test)" in text and "0.500" in text and "**" in text
    assert "| values.z (easy) | spearman |" in text
    assert "`3di`" in leaderboard_tables.costs()
    assert "Too few" in leaderboard_tables.short()  # one table ranks nobody
    monkeypatch.setattr(leaderboard_tables, "ENOUGH", 1)
    assert "`3di`" in leaderboard_tables.short()
    loaded = leaderboard.load("linear")
    assert all(row.about["hardware"] and row.about["command"] for row in loaded)


def test_values_within_a_chain_are_z_scores(data, tmp_path):
    folder = bench.Folder(data)
    plain = folder.table("values")
    made = within(plain)
    assert (made.name, made.kind, made.tests) == ("values.z", "value", plain.tests)
    for relative, other in zip(made.entries, plain.entries, strict=True):
        known = np.isfinite(relative.target)
        assert (known == np.isfinite(other.target)).all()
        assert abs(relative.target[known].mean()) < 1e-5 and abs(relative.target[known].std() - 1) < 1e-5
        assert np.corrcoef(relative.target[known], other.target[known])[0, 1] > 0.9999
    # A constant that float32 cannot hold has a spread, by rounding.
    flat = replace(plain.entries[0], target=np.full(40, 0.1, np.float32))
    short = replace(plain, entries=[flat, *plain.entries[1:]])
    assert len(within(short).entries) == len(plain.entries) - 1

    # Levels of chains, which are no property of a residue, do not matter to it.
    (before,) = bench.evaluate("3di", ["values.z"], folder, probe="linear")
    assert "z-scores in each chain" in before.task["labels"]
    levels = {entry.id: 100 * i for i, entry in enumerate(plain.entries)}
    shifted = [replace(e, target=e.target + levels[e.id]) for e in plain.entries]
    folder._known["values"] = replace(plain, entries=shifted)
    rows = bench.evaluate("3di", ["values", "values.z"], folder, out=tmp_path, probe="linear")
    raw, inside = (row.scores["easy"]["spearman"]["value"] for row in rows)
    assert raw < inside - 0.2
    assert abs(inside - before.scores["easy"]["spearman"]["value"]) < 0.01
    assert {path.stem for path in tmp_path.glob("*/*.json")} == {"values", "values.z"}
    assert "values.z" not in bench.available(folder)
    with pytest.raises(FormatError, match="no task 'nothing.z'"):
        bench.evaluate("3di", ["nothing.z"], folder)
    (row,) = bench.evaluate("3di", ["letters.z"], folder, probe="linear")
    assert row.status == results.FAILED and "no values for z-scores" in row.error


def test_what_fails_stays_as_a_row_and_no_mean_hides_it(data):
    class Failing(bench_tokenizer()):
        name = "failing"

        def encode(self, structure):
            if structure.name == "x20_A":
                raise ProtokError("cannot", "help it", file=structure.name)
            return super().encode(structure)

    got = bench.evaluate([Failing(), "3di"], ["letters", "values"], data, probe=TINY)
    assert len(got) == 4
    assert {row.task["name"] for row in got.failed} == {"letters", "values"}
    assert all("x20_A" in row.error for row in got.failed)
    assert got.means()["site"]["failing"] is None
    assert got.means()["site"]["3di"] == got.cell("3di", "letters", "test", "auroc")[1]["value"]
    assert "failed" in str(got)
    with pytest.raises(FormatError, match="BindInt"):
        bench.evaluate("3di", ["BindInt"], data)


def test_folds_are_learnt_with_their_hold_outs(data):
    got = bench.evaluate(["residue-type"], ["folds"], data, probe="linear")
    row = next(iter(got))
    assert row.status == results.OK, row.error
    assert row.task["metric"] == "macro_f1" and row.scores["test"]["macro_f1"]["value"] >= 0


def test_splits_of_few_domains_are_shown_and_not_counted(tmp_path, monkeypatch):
    def row(who, kind, metric, scores):
        return results.Result(
            {"name": who, "layer": "codes", "size": 4, "fingerprint": who},
            {"name": kind, "kind": kind, "metric": metric, "better": "higher"},
            results.OK,
            cpu_seconds={"rest": 1},
            chosen={"test_proteins": {split: n for split, (_, n) in scores.items()}},
            scores={
                split: {metric: {"value": value, "se": 0.01, "parity": value + 0.1}}
                for split, (value, _) in scores.items()
            },
        )

    enough = results.ENOUGH_DOMAINS
    rows = [
        row("a", "class", "macro_f1", {"test": (0.4, enough), "new": (0.8, enough - 1)}),
        row("neighbour-count", "class", "macro_f1", {"test": (0.5, enough), "new": (0.0, 19)}),
        row("a", "site", "auroc", {"test": (0.7, 3)}),
        row("neighbour-count", "site", "auroc", {"test": (0.6, 3)}),
    ]
    got = results.Results(tuple(rows))
    assert got.few("class", "new") == 19
    assert got.few("class", "test") is None and got.few("site", "test") is None
    means = got.means()
    assert means["class"]["a"] == pytest.approx(0.4) and means["site"]["a"] == pytest.approx(0.7)
    shown = {split: got.cell("a", "class", split, "macro_f1")[1] for split in ("test", "new")}
    assert (shown["test"]["se"], shown["new"]["se"], shown["new"]["value"]) == (0.01, None, 0.8)
    assert got.cell("a", "site", "test", "auroc")[1]["se"] == 0.01
    assert rows[0].scores["new"]["macro_f1"]["se"] == 0.01  # what was read stays as it was

    page = _table(got, "class")
    assert "19 domains: not in the mean" in page and "0.800 <span" in page and "± 0.010" in page
    assert "∥ 0.500" in page and "<th>mean</th><td></td><td></td><td>0.400</td>" in page
    from benchmarks.tables import leaderboard as leaderboard_tables

    table = leaderboard_tables._tables(got)
    assert "class (new, 19 domains) | macro_f1 |  | 0.800 | 0.000 |" in table
    assert "| 0.400 ± 0.010 | **0.500 ± 0.010** |" in table


def test_pareto_names_what_no_other_beats():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    looks = _looks(pyplot, [str(i) for i in range(28)]).values()
    assert len({(look["color"], look["marker"]) for look in looks}) == 28
    points = {"slow": (1, 0.9), "fast": (9, 0.5), "near": (9.1, 0.4999), "beaten": (1, 0.4)}
    for side, front in ((1, {"slow", "fast", "near"}), (-1, {"slow"})):
        figure, axes = pyplot.subplots()
        axes.plot(*zip(*points.values(), strict=True), "o")
        figure.draw_without_rendering()
        _name_front(axes, points, side)
        assert {text.get_text() for text in axes.texts} == front
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)
        pyplot.close(figure)


# The command and the page


@pytest.mark.slow
def test_command_and_report(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, page = tmp_path / "results", tmp_path / "report.html"
    names = "letters,sensitivity,distinctiveness,utilization,reconstruction"
    models = "--model 3di --model neighbour-count --probe linear"
    code = main(f"bench {models} --tasks {names} --data {data} -o {out}".split())
    output = capsys.readouterr().out
    assert code == 0 and "letters" in output and "n/a" in output  # 3di does not decode
    # Of labelled tasks the main metric is printed, of others all.
    assert "average_precision" not in output and "pooled_perplexity" in output
    assert len(list(out.glob("*/*.json"))) == 10
    assert main(["bench", "report", str(out), "-o", str(page)]) == 0
    text = page.read_text()
    assert text.count("<svg") == 5 and "neighbour-count" in text
    titles = "Functional sites, mean|Use of codes|Similarity of code pairs|Change of codes with conformation"
    assert all(title in text for title in f"{titles}|Quality against cost|bits a residue".split("|"))
    named = r"https?://(www\.w3\.org|purl\.org|creativecommons\.org|matplotlib\.org)"
    assert "http" not in re.sub(named, "", text)  # nothing is fetched
    assert main(["bench", "report", str(tmp_path / "none")]) == 2


def test_command_lists_and_refuses(data, capsys):
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "FlexNEQ" in listed and "fold_test" in listed
    assert main(["bench", "--list", "--data", str(data)]) == 0
    listed = capsys.readouterr().out
    assert "letters" in listed and "24 chains: x0_A x10_A" in listed
    assert bench.names(bench.Folder(data)) == sorted(bench.Folder(data).ids())
    assert main(["bench"]) == 2
    assert main(["bench", "--model", "3di", "--tasks", "nothing", "--data", str(data)]) == 2
    assert main(["bench", "--model", "3di", "--data", "nowhere"]) == 2


def test_command_prepares(tmp_path, capsys):
    for chain in chains(4):
        protok.write(chain, tmp_path / f"{chain.name}.pdb")
    (tmp_path / "site.csv").write_text("id,residue,label\nx0_A,3,1\nx1_A,4,1\nx2_A,5,1\n")
    (tmp_path / "broken.pdb").write_text("ATOM  nonsense\n")
    out = tmp_path / "out"
    labels = tmp_path / "site.csv"
    code = main(f"bench prepare {tmp_path} -o {out} --labels {labels} --unlisted x".split())
    output = capsys.readouterr()
    assert code == 1 and "broken.pdb" in output.err  # and the rest was done
    assert "site: 1 " in output.out
    table = bench.Folder(out).table("site")
    assert {entry.split for entry in table.entries} == {"train", "valid", "test"}
    for entry in table.entries:
        assert np.isfinite(entry.target).sum() == 1 and np.nansum(entry.target) == 1


def test_a_folder_of_files_is_data_for_what_needs_no_labels(tmp_path):
    for chain in chains(3):
        protok.write(chain, tmp_path / f"{chain.name}.pdb")
    folder = bench.open_data(tmp_path)
    assert folder.ids() == ["x0_A", "x1_A", "x2_A"]
    got = bench.evaluate("3di", ["utilization", "rotation"], folder)
    assert [row.status for row in got] == ["ok", "ok"] and got.unread == ()
    (tmp_path / "broken.pdb").write_text("ATOM  nonsense\n")
    less = bench.evaluate("3di", "utilization", tmp_path)
    assert [row.status for row in less] == ["ok"]
    ((file, reason),) = less.unread
    assert file.endswith("broken.pdb") and f"not read: {file}: {reason}" in str(less)
    where = folder.path
    del folder
    assert not where.exists()


def test_mini_set_is_complete_and_small():
    folder = bench.open_data("mini")
    wanted = {"bind_hetatm", "flex_bfactor", "sensitivity", "reconstruction"}
    assert wanted <= set(bench.available(folder))
    for name in ("bind_hetatm", "flex_bfactor"):
        splits = {entry.split for entry in folder.table(name).entries}
        assert splits == {"train", "valid", "test"}
    # The retinoid of 1cbs lies in its barrel, behind Arg 132 and Tyr 134 that hold its acid.
    (label,) = (e.target for e in folder.table("bind_hetatm").entries if e.id == "1cbs_A")
    bound = folder.structure("1cbs_A").index[label > 0]
    assert {132, 134} <= set(bound.tolist()) and len(bound) < 40
    assert sum(map(len, folder.pairs().values())) == 10
    assert sum(file.stat().st_size for file in mini_files().iterdir()) < 1_500_000
