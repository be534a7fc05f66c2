"""Multiple alignment: rows are the chains, relatives lie below each other, lDDT by hand; and the command."""

import csv
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from biotite.sequence.phylo import Tree

import protok
from benchmarks.leaderboard.search import WHOLE, chains
from protok.analysis.database import Database
from protok.analysis.multiple import MultipleAlignment, align, lddt
from protok.analysis.substitution import Matrix, default_matrix, tm_alignment
from protok.cli.main import main
from protok.errors import FormatError
from protok.structure.metrics import lddt as lddt_of
from protok.testing import random_backbone
from protok.tokens.files import save
from tests.helpers.models import BOTH, small
from tests.helpers.toy import AROUND, TOY, toy_chain, toy_matrix


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return toy_matrix()


def test_planted_gaps_are_found_and_rows_are_the_chains(matrix):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 20, 60)
    extra = np.concatenate([ids[:30], rng.integers(0, 20, 5), ids[30:]])
    relatives = [
        toy_chain(ids, "whole"),
        toy_chain(extra, "more"),
        toy_chain(ids[8:], "cut"),
        toy_chain(ids[:-6], "end (1)"),
    ]
    unknown = replace(relatives[0], ids=np.where(np.arange(60) % 9 == 0, -1, ids), name="some")
    alignment = align(Database([*relatives, unknown]), matrix)
    assert alignment.rows.shape == (65, 5)
    for text, tokens in zip(alignment.sequences, alignment.chains, strict=True):
        assert text.replace("-", "") == tokens.sequence and len(text) == 65
    for n, row in enumerate(alignment.rows.T):
        assert (row[row >= 0] == np.arange(len(alignment.chains[n]))).all()
    whole, more, cut, end, _ = alignment.rows.T
    assert (more[whole >= 0] == np.r_[:30, 35:65]).all() and (cut[whole >= 8] == np.arange(52)).all()
    assert (end[(whole >= 0) & (whole < 54)] == np.arange(54)).all()
    first = alignment.letters(TOY)[4].split(",")
    assert [code for code in first if code != "-"] == ["X" if c < 0 else str(c) for c in unknown.ids.tolist()]
    assert alignment.labels == ["whole_A", "more_A", "cut_A", "end%20%281%29_A", "some_A"]
    tree = Tree.from_newick(alignment.newick, alignment.labels)
    assert sorted(leaf.index for leaf in tree.leaves) == list(range(5))
    # Copies are nearer than what lacks a part.
    assert tree.get_distance(0, 4) < tree.get_distance(0, 1)


def test_alphabets_add_up(matrix):
    """Codes are the same in one half, environments in the other: only both align the whole."""
    rng = np.random.default_rng(2)
    other = replace(matrix, codebook=AROUND)
    ids, around, noise, more = rng.integers(0, 20, (4, 80))
    first = toy_chain(ids, "a", around)
    second = toy_chain(np.r_[ids[:40], noise[:10], noise[40:]], "b", np.r_[more[:40], more[70:], around[40:]])
    database = Database([first, second])

    def right(*matrices):
        rows = align(database, matrices).rows
        pairs = set(map(tuple, rows.tolist()))
        return [
            len(pairs & {(i, i + shift) for i in where})
            for shift, where in ((0, range(40)), (10, range(40, 80)))
        ]

    together = right(matrix, other)
    assert min(together) > 30 and right(matrix)[1] < together[1] and right(other)[0] < together[0]


def test_lddt_is_the_mean_over_pairs_of_aligned_residues(matrix):
    tokens = [toy_chain(np.arange(12) % 20, name) for name in "abc"]
    rows = np.full((14, 3), -1)
    rows[:12, :2] = np.arange(12)[:, None]
    rows[np.r_[:10, 12, 13], 2] = np.arange(12)
    alignment = MultipleAlignment(["a", "b", "c"], tokens, rows, "")
    same, other = random_backbone(12, seed=0), random_backbone(12, seed=1)
    # The last residues of the third chain lie alone.
    assert lddt(alignment, [same, same, same]) == pytest.approx(np.r_[np.ones(12), 0, 0])
    scores = lddt(alignment, [same, other, same])
    both = [lddt_of(m, r, per_residue=True)[10] for m, r in ((same, other), (other, same))]
    assert scores[10] == pytest.approx(np.mean(both)) and 0 < scores[10] < scores[5] < 1
    with pytest.raises(ValueError, match="residue for residue"):
        lddt(alignment, [same, same, same[:11]])


def test_one_chain_is_refused(matrix):
    with pytest.raises(FormatError, match="holds one chain"):
        align(Database([toy_chain([1, 2, 3, 4], "a")]), matrix)


@pytest.mark.slow
def test_domains_of_a_family_lie_as_their_structures_do(shared):
    """Pairs of an alignment by letters are mostly those of TM-align; residues by number are not."""
    pytest.importorskip("tmtools", reason="TM-align is not installed")
    by_family = defaultdict(list)
    for domain in chains(shared("search/scope40_dev.parquet"), "A")[WHOLE]:
        by_family[domain.families[0]].append(domain.backbone)
    families = [own for _, own in sorted(by_family.items()) if len(own) == 4][:5]
    tokenizer, agree, chance = protok.load("protok-1"), [], []
    for structures in families:
        database = Database(tokenizer.encode_batch(structures))
        alignment = align(database, default_matrix(tokenizer, database.usage()))
        for i, j in combinations(range(4), 2):
            score, pairs = tm_alignment(structures[i], structures[j])
            if score > 0.5:
                right = set(map(tuple, pairs.tolist()))
                ours = set(map(tuple, alignment.rows[:, [i, j]].tolist()))
                agree.append(len(right & ours) / len(right))
                chance.append(len(right & {(n, n) for n in range(len(structures[i]))}) / len(right))
    assert len(agree) > 20 and np.mean(agree) > 0.5 > 3 * np.mean(chance)
    # Decoded structures say nearly what the true ones say.
    true = lddt(alignment, structures).mean()
    decoded = lddt(alignment, [tokenizer.decode(tokens) for tokens in database.chains]).mean()
    assert 0.2 < true < 0.9 and abs(true - decoded) < 0.05


@pytest.fixture
def copies(examples, tmp_path):
    """Two structures that are the same, a part of them, and one without codes."""
    folder = tmp_path / "structures"
    folder.mkdir()
    whole = protok.read(examples / "7soo.A.pdb")
    for name, structure in (("a", whole), ("b", whole), ("c", whole[10:60])):
        protok.write(structure, folder / f"{name}.pdb")
    bare = "".join(
        line for line in (folder / "a.pdb").read_text().splitlines(True) if line[12:16].strip() in ("CA",)
    )
    (folder / "bare.pdb").write_text(bare + "END\n")
    return folder


def records(path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return {head[1:]: text for head, text in zip(lines[::2], lines[1::2], strict=True)}


def test_command(copies, tmp_path, capsys):
    model = small(BOTH).save_pretrained(tmp_path / "model")
    names = {key: tmp_path / f"{key}.txt" for key in ("tree", "columns", "shapes", "environments")}
    options = [word for key, path in names.items() for word in (f"--{key}", str(path))]
    out = tmp_path / "msa.fasta"
    assert main(["align", str(copies), "--model", str(model), "-o", str(out), *options]) == 0
    err = capsys.readouterr().err
    assert "1 chain without any code not aligned: bare_A" in err
    assert "lDDT 1.000 of read structures (small@" in err and "small:environment@" in err
    texts = records(out)
    assert list(texts) == ["a_A", "b_A", "c_A"] and texts["a_A"] == texts["b_A"]
    assert texts["c_A"].replace("-", "") == texts["a_A"][10:60]
    assert texts["c_A"][:10] == "-" * 10
    shapes, around = records(names["shapes"]), records(names["environments"])
    assert len(shapes["c_A"].split(",")) == len(texts["c_A"]) == len(around["c_A"].split(","))
    with names["columns"].open() as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["residues"] for row in rows] == ["2"] * 10 + ["3"] * 50 + ["2"] * (len(rows) - 60)
    assert {row["lddt"] for row in rows} == {"1.0000"}
    assert names["tree"].read_text().count("_A:") == 3


def test_command_on_tokens(copies, tmp_path, capsys):
    assert main(["encode", str(copies), "-o", str(tmp_path / "t.parquet"), "-q", "--shapes-only"]) == 0
    assert main(["align", str(tmp_path / "t.parquet")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(">a_A\n") and "3 chains in " in err and "of decoded structures" in err
    assert main(["align", str(tmp_path / "t.parquet"), "--environments", str(tmp_path / "e")]) == 2
    assert "has no environment letters; leave --environments out" in capsys.readouterr().err
    columns = tmp_path / "columns.tsv"
    for name, keyframes, reason in (
        ("protok-1", ["--keyframes", "0"], "no lDDT: "),
        ("3di", [], "no lDDT: 3di is an alphabet without a decoder"),
    ):
        tokens = tmp_path / f"{name}.fasta"
        assert main(["encode", str(copies), "--model", name, "-o", str(tokens), "-q", *keyframes]) == 0
        assert main(["align", str(tokens), "--columns", str(columns), "--shapes", str(tmp_path / "s")]) == 0
        assert reason in capsys.readouterr().err
        assert columns.read_text().splitlines()[11] == "11\t3\t"
    assert set(records(tmp_path / "s")["c_A"]) <= {*protok.load("3di").alphabet, "-", "X"}
    save([protok.load("3di").encode(copies / "a.pdb")], tmp_path / "one.npz")
    assert main(["align", str(tmp_path / "one.npz")]) == 2
    assert "holds one chain; give two or more" in capsys.readouterr().err
