"""Search with codes: matrices, alignment, the command, and what it refuses."""

import csv
import math
from dataclasses import fields, replace

import numpy as np
import pytest

import protok
from protok.analysis.alignment import Aligner
from protok.analysis.database import END, UNKNOWN, Database, Profile
from protok.analysis.hits import Hit, alignment, m8
from protok.analysis.search import search
from protok.analysis.substitution import (
    HELD,
    Matrix,
    default_matrices,
    default_matrix,
    of_alignments,
    of_codebook,
    summands,
    tm_alignment,
)
from protok.cli.main import main
from protok.errors import CodebookMismatch, CorruptFile, FormatError, NoProtein
from protok.tokens.environment import Environment
from protok.tokens.files import save
from protok.tokens.tokens import Tokens
from tests.helpers.models import BOTH, small
from tests.helpers.toy import AROUND, TOY, toy_chain


def chain(ids, name, book="toy@1", size=20):
    n = len(ids)
    return Tokens(
        np.asarray(ids), size, book, "A" * n, np.full(n, "A"), np.arange(11, n + 11), np.full(n, ""), name
    )


@pytest.fixture(scope="module")
def toy():
    """Random chains of 20 codes, and a matrix of a codebook of points."""
    rng = np.random.default_rng(0)
    matrix = of_codebook(rng.normal(size=(20, 4)), "toy@1")
    chains = [chain(rng.integers(0, 20, rng.integers(40, 160)), f"c{i}") for i in range(200)]
    return matrix, chains, rng


def test_a_matrix_rewards_equal_codes_and_near_ones():
    vectors = np.array([[0.0], [0.1], [5.0], [9.0]])
    matrix = of_codebook(vectors, "x@1")
    scores = matrix.scores
    assert (np.diag(scores) > 0).all() and (scores == scores.T).all()
    assert scores[0, 1] > scores[0, 2] > scores[0, 3] or scores[0, 2] == scores[0, 3] < 0
    rare = of_codebook(vectors, "x@1", usage=np.array([1000, 1000, 1000, 10])).scores
    assert rare[3, 3] > rare[2, 2], "agreement in a rare code is worth more"


def test_counted_pairs_make_scores():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, 20_000)
    aligned = np.where(rng.random(20_000) < 0.7, codes, rng.integers(0, 4, 20_000))
    swapped = np.where(aligned == 2, 3, np.where(aligned == 3, 2, aligned))  # 2 and 3 stand for each other
    scores = of_alignments([(codes, swapped)], "x@1", 4).scores
    assert scores[0, 0] > 0 > scores[0, 1] and scores[2, 3] > 0 > scores[2, 2]
    # Twice as likely as by chance is one bit, four units.
    want = 4 * np.log2((0.7 + 0.3 / 4) / 0.25)
    assert abs(scores[0, 0] - want) <= 1
    with pytest.raises(FormatError, match="no two codes"):
        of_alignments([(np.array([-1]), np.array([2]))], "x@1", 4)


def test_published_matrices_have_the_order_of_the_letters():
    for name in ("3di", "protein-blocks"):
        tokenizer = protok.load(name)
        matrix = default_matrix(tokenizer)
        assert matrix.size == tokenizer.size
    d, v = (protok.load("3di").alphabet.index(x) for x in "DV")
    assert default_matrix(protok.load("3di")).scores[d, v] == -3  # as in Foldseek's mat3di.out
    assert default_matrix(protok.load("3di")).scores[v, v] == 3


def test_alphabets_add_up_in_quarters_of_a_bit_with_the_dearest_gap(toy):
    matrix, chains, rng = toy
    halves = Matrix(np.rint(matrix.scores / 2).astype(int), (-10, -3), TOY, bit=2)
    around = replace(matrix, codebook=AROUND)
    first, second = summands([halves, around])
    assert (first.scores == 2 * halves.scores).all() and (second.scores == around.scores).all()
    assert first.gap == second.gap == (-40, -6) and first.bit == second.bit == 4
    assert summands([halves]) == [halves]
    coarse, _ = summands([Matrix(300 * np.eye(20, dtype=int), (-300, -1), TOY, bit=1), around])
    assert coarse.scores.max() == 1000 and coarse.gap == (-1000, -4)
    a, b = (toy_chain(c.ids, "x", rng.integers(0, 20, len(c.ids))) for c in chains[:2])
    hit = search(a, Database([b]), [halves, around])[0]
    assert hit.score == Aligner(a, [first, second]).align(b)[0]


def test_shapes_count_half_beside_environments():
    tokenizer = protok.load("protok-1")
    alone, half = (
        default_matrices(t, [None] * len(t)) for t in ([tokenizer], [tokenizer, tokenizer.environment])
    )
    assert (alone[0].scores == default_matrix(tokenizer).scores).all()
    assert (half[0].scores == np.rint(alone[0].scores / 2)).all() and alone[0].scores.any()
    assert (half[1].scores == tokenizer.environment.scores).all()


def test_matrix_files(toy, tmp_path):
    matrix = toy[0]
    matrix.save(tmp_path / "m.npz")
    again = Matrix.load(tmp_path / "m.npz")
    assert (again.scores == matrix.scores).all()
    assert (again.gap, again.codebook, again.bit) == (matrix.gap, matrix.codebook, matrix.bit)
    for held in (
        {"scores": np.ones((2, 3), int)},
        {"scores": np.ones((2, 2))},
        {"scores": np.array([[1, 2], [3, 1]])},
        {"scores": np.array([{}])},  # would need pickle
        {"gap": np.array([1, 1])},
        {"bit": 0},
    ):
        good = {name: getattr(matrix, name) for name in HELD}
        np.savez(tmp_path / "bad.npz", **(good | held))
        with pytest.raises(CorruptFile, match="not a substitution matrix"):
            Matrix.load(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(CorruptFile):
        Matrix.load(tmp_path / "bad.npz")


def test_gapless_scores_are_those_of_a_plain_loop(toy, monkeypatch):
    matrix, chains, rng = toy
    monkeypatch.setattr("protok.analysis.database.BLOCK", 300)  # several blocks
    chains = [*chains[:20], replace(chains[3], ids=np.where(chains[3].ids > 9, -1, chains[3].ids))]
    database = Database(chains)
    query = chains[5].ids[10:40]
    table = np.pad(matrix.scores, (0, 1), constant_values=UNKNOWN)
    table = np.pad(table, (0, 1), constant_values=END)
    for entry, got in zip(chains, database.gapless([Profile(query, matrix)]), strict=True):
        ids = np.where(entry.ids < 0, 20, entry.ids)
        best, grid = 0, np.zeros((len(query) + 1, len(ids) + 1), int)
        for i, a in enumerate(query):
            for j, b in enumerate(ids):
                grid[i + 1, j + 1] = max(0, grid[i, j] + table[a, b])
                best = max(best, grid[i + 1, j + 1])
        assert got == best


def test_a_planted_stretch_is_found_with_its_place(toy):
    matrix, chains, rng = toy
    stretch = rng.integers(0, 20, 40)
    ids = np.concatenate([rng.integers(0, 20, 30), stretch[:20], [1, 2, 3], stretch[20:]])
    planted = [*chains, chain(ids, "planted")]
    hits = search(chain(stretch, "query"), Database(planted), matrix)
    assert hits[0].target == "planted_A" and hits[0].evalue < 1e-3 < hits[1].evalue
    assert (hits[0].query_start, hits[0].query_end) == (1, 40)
    assert (hits[0].target_start, hits[0].target_end, hits[0].gaps) == (31, 73, 1)
    assert (hits[0].identity, hits[0].aligned) == (1, 40)
    assert hits[0].target_numbers == "41-83"
    assert search(planted[-1], Database(planted), matrix)[0].normalised == 1
    assert len(search(chain(stretch, "query"), Database(planted), matrix, top=3)) == 3


def test_expectations_are_what_chance_gives(toy):
    matrix, chains, rng = toy
    database = Database(chains)
    counted = []
    for _ in range(6):
        hits = search(chain(rng.integers(0, 20, 100), "q"), database, matrix, candidates=200)
        counted.append(sum(hit.evalue <= 5 for hit in hits))
    assert 2.5 < np.mean(counted) < 10, "about five strangers at E = 5"


def test_relatives_in_a_database_do_not_hide_one_another(toy):
    """Expectations come from strangers, though a fifth of the chains are relatives of the query."""
    matrix, chains, rng = toy
    stretch = rng.integers(0, 20, 60)
    relatives = [
        chain(np.where(rng.random(60) < 0.25, rng.integers(0, 20, 60), stretch), f"r{i}") for i in range(40)
    ]
    hits = search(chain(stretch, "q"), Database([*relatives, *chains[:160]]), matrix)
    assert {hit.target for hit in hits[:40]} == {tokens.label for tokens in relatives}
    assert hits[39].evalue < 1e-3 < 0.05 < hits[40].evalue
    assert all(abs(2.0**-hit.bits * 60 * 60 * 200 / hit.evalue - 1) < 0.2 for hit in hits[:40])


def both(ids, around, name):
    tokens = chain(ids, name)
    return replace(tokens, environment=Environment(np.asarray(around), 20, "around@1"))


def test_alphabets_add_up(toy):
    matrix, _, rng = toy
    other = replace(matrix, codebook="around@1")
    chains = [both(*rng.integers(0, 20, (2, 80)), f"c{i}") for i in range(60)]
    first, second = rng.integers(0, 20, (2, 50))
    chains += [both(first, rng.integers(0, 20, 50), "one"), both(rng.integers(0, 20, 50), second, "two")]
    chains += [both(first, second, "all")]
    database, query = Database(chains), both(first, second, "q")
    assert database.sizes == {"toy@1": 20, "around@1": 20}

    def score(*matrices):
        hits = {hit.target: hit.score for hit in search(query, database, matrices)}
        return [hits.get(f"{name}_A", 0) for name in ("one", "two", "all")]

    alone, around, together = score(matrix), score(other), score(matrix, other)
    assert alone[0] == alone[2] > 3 * alone[1] and around[1] == around[2] > 3 * around[0]
    assert together[2] == alone[2] + around[2] > max(together[:2])
    with pytest.raises(CodebookMismatch, match="the matrix of around@1"):
        search(query, Database([replace(c, environment=None) for c in chains]), other)
    with pytest.raises(CodebookMismatch, match="the query is of toy@1, the database of around@1"):
        search(replace(query, environment=None), database, other)


def test_gapless_scores_of_two_alphabets_end_with_the_chain(toy):
    matrix, _, rng = toy
    other = replace(matrix, codebook="around@1")
    ids, around = rng.integers(0, 20, (2, 90))
    parts = [both(ids[:45], around[:45], "a"), both(ids[45:], around[45:], "b")]
    profiles = [Profile(ids, matrix), Profile(around, other)]
    whole = Database([both(ids, around, "whole")]).gapless(profiles)[0]
    apart = Database(parts).gapless(profiles)
    assert sum(profile.own for profile in profiles) == whole == apart.sum()


def test_a_hit_says_how_residues_are_aligned(toy):
    matrix, chains, rng = toy
    stretch = rng.integers(0, 20, 40)
    ids = np.concatenate([rng.integers(0, 20, 30), stretch[:20], [1, 2, 3], stretch[20:]])
    query, target = chain(stretch, "query"), chain(ids, "planted")
    hit = search(query, Database([target]), matrix)[0]
    assert hit.cigar == "20M3D20M" and hit.same_residues == 1
    rows = hit.rows
    assert rows[:20].tolist() == [[i, 30 + i] for i in range(20)]
    assert rows[20:23].tolist() == [[-1, 50], [-1, 51], [-1, 52]] and rows[-1].tolist() == [39, 72]
    assert m8(replace(hit, evalue=1e-9, bits=50.2)).split("\t") == [
        *("query_A", "planted_A", "1.000", "43", "0", "1", "1", "40", "31", "73", "1.000E-09", "50\n")
    ]
    assert m8(hit).split("\t")[-2:] == ["nan", "nan\n"]
    text = alignment(hit, query, target, [matrix]).splitlines()
    assert text[0].startswith(">query_A planted_A E=nan score=")
    assert text[1] == f"     1 {'A' * 20}---{'A' * 20} 40"
    assert text[2] == f"       {'|' * 20}   {'|' * 20}" and text[3] == f"    31 {'A' * 43} 73"
    worse = np.argsort(matrix.scores[stretch[5]])
    changed = np.where(np.arange(40) == 5, worse[0], np.where(np.arange(40) == 7, worse[-2], stretch))
    near = matrix.scores[stretch[7], worse[-2]] > 0
    marks = alignment(
        search(chain(changed, "q"), Database([query]), matrix)[0], chain(changed, "q"), query, [matrix]
    )
    assert marks.splitlines()[2][7:17] == "||||| |" + ("+" if near else " ") + "||"


def test_what_is_not_of_one_codebook_is_refused(toy, tmp_path):
    matrix, chains, _ = toy
    other = replace(chains[0], codebook="toy@2")
    with pytest.raises(CodebookMismatch, match="toy@2.*toy@1"):
        search(other, Database(chains), matrix)
    with pytest.raises(CodebookMismatch, match="2 codebooks: toy@1, toy@2"):
        Database([*chains, other])
    with pytest.raises(CodebookMismatch, match="the matrix of toy@1"):
        search(other, Database([other]), matrix)
    with pytest.raises(NoProtein, match="no residue has a code"):
        Database([replace(chains[0], ids=np.full(len(chains[0]), -1))])
    two = replace(chains[0], chain=np.array(["A"] * 5 + ["B"] * (len(chains[0]) - 5)))
    with pytest.raises(FormatError, match="not one chain"):
        search(two, Database(chains), matrix)


def test_command(examples, tmp_path, capsys):
    database = tmp_path / "db.parquet"
    assert main(["encode", str(examples), "-o", str(database)]) == 0
    assert (
        main(["search", str(examples / "7w89.A.pdb"), str(database), "-o", str(tmp_path / "hits.tsv")]) == 0
    )
    with open(tmp_path / "hits.tsv", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert list(rows[0]) == [field.name for field in fields(Hit)]
    assert rows[0]["target"].startswith("7w89.A") and float(rows[0]["identity"]) == 1
    assert rows[0]["evalue"] == "", "five chains do not make a distribution"
    capsys.readouterr()
    # A token file as query gives the same.
    save(protok.load("protok-1").encode(examples / "7w89.A.pdb"), tmp_path / "q.fasta")
    assert main(["search", str(tmp_path / "q.fasta"), str(database)]) == 0
    assert capsys.readouterr().out == (tmp_path / "hits.tsv").read_text()
    # Other codebooks.
    save(protok.load("3di").encode(examples / "7w89.A.pdb"), tmp_path / "q.fasta")
    assert main(["search", str(tmp_path / "q.fasta"), str(database)]) == 2
    assert "the query is of 3di@" in capsys.readouterr().err
    assert main(["search", str(examples / "7w89.A.pdb"), str(database), "--model", "3di"]) == 2
    assert "the model is 3di@" in capsys.readouterr().err


def test_command_on_structures_with_alignments(examples, tmp_path, capsys):
    query, out = str(examples / "7w89.A.pdb"), tmp_path / "hits.m8"
    folder = tmp_path / "structures"
    folder.mkdir()
    for name in ("7w89.A.pdb", "7soo.A.pdb"):
        (folder / name).write_bytes((examples / name).read_bytes())
    model = small(BOTH).save_pretrained(tmp_path / "model")
    options = ["--model", str(model), "--format", "m8", "--alignments", str(tmp_path / "hits.txt")]
    assert main(["search", query, str(folder), "-o", str(out), *options]) == 0
    assert "small@" in (err := capsys.readouterr().err) and "small:environment@" in err
    first = out.read_text().splitlines()[0].split("\t")
    assert len(first) == 12 and first[0] == first[1] == "7w89.A_A" and first[2] == "1.000"
    assert (tmp_path / "hits.txt").read_text().startswith(">7w89.A_A 7w89.A_A E=nan")
    for by, books in (("shapes", 1), ("environments", 1), ("both", 2)):
        assert main(["search", query, str(folder), "--model", str(model), "--by", by]) == 0
        assert capsys.readouterr().err.count("@") == books
    assert main(["search", query, str(folder), "--model", str(model), "--evalue", "1"]) == 2
    assert "no E-values among 2 chains; leave --evalue out, or search 30 and more" in capsys.readouterr().err
    (folder / "broken.pdb").write_text("ATOM      1  N   MET A   1\n")
    assert main(["search", query, str(folder), "--model", str(model)]) == 1
    assert "broken.pdb" in capsys.readouterr().err
    bare = small().save_pretrained(tmp_path / "bare")
    assert main(["search", query, str(examples / "7soo.A.pdb"), "--model", str(bare), "--by", "both"]) == 2
    assert "has no environment letters" in capsys.readouterr().err


def test_names_in_a_token_file_are_no_paths(examples, tmp_path, capsys, monkeypatch):
    protok.load("protok-1").save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    tokens = protok.load("protok-1").encode(examples / "7w89.A.pdb")
    for name in ("model", "./model", str(tmp_path / "model"), "hf:someone/model", "../model"):
        save(replace(tokens, codebook=f"{name}@00000000"), "db.npz")
        assert main(["search", str(examples / "7w89.A.pdb"), "db.npz"]) == 2
        assert main(["decode", "db.npz", "-o", "out"]) == 2
        assert capsys.readouterr().err.count("no model of that name is known") == 2


def test_matrix_command(examples, tmp_path, capsys):
    pytest.importorskip("tmtools", reason="TM-align is not installed")
    out = tmp_path / "m.npz"
    pairs = tmp_path / "pairs.txt"
    original = examples / "7soo.A.pdb"
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("a.pdb", "b.pdb"):
        (copies / name).write_bytes(original.read_bytes())
    assert main(["matrix", str(copies), "-o", str(out), "--model", "3di"]) == 0
    assert "1 pair of chains, 89 aligned residues" in capsys.readouterr().err
    assert Matrix.load(out).codebook == protok.load("3di").codebook
    pairs.write_text("a_A nobody_A\n")
    assert main(["matrix", str(copies), "-o", str(out), "--pairs", str(pairs)]) == 2
    assert "does not name two chains" in capsys.readouterr().err


def test_tm_alignment_gives_rows(examples):
    pytest.importorskip("tmtools", reason="TM-align is not installed")
    whole = protok.read(examples / "7w89.A.pdb")
    score, pairs = tm_alignment(whole, whole[np.arange(20, 90)])
    assert (pairs[:, 0] - pairs[:, 1] == 20).all() and len(pairs) == 70
    assert math.isclose(score, (1 + 70 / len(whole)) / 2, abs_tol=0.02)
