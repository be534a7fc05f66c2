"""Clusters: each chain in one, members like their representatives, the same in any order; and the command."""

from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.analysis.alignment import Aligner
from protok.analysis.cluster import cluster
from protok.analysis.database import Database
from protok.analysis.substitution import Matrix
from protok.cli.main import main
from protok.errors import CodebookMismatch
from protok.structure.backbone import AMINO_ACIDS
from protok.tokens.files import save
from protok.tokens.tokens import Tokens
from tests.helpers.models import BOTH, small
from tests.helpers.toy import AROUND, toy_chain, toy_matrix


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return toy_matrix()


@pytest.fixture(scope="module")
def families() -> list[Tokens]:
    """Ten chains with five relatives each, in which some codes are others and some are missing."""
    rng, chains = np.random.default_rng(1), []
    for family in range(10):
        ancestor = rng.integers(0, 20, rng.integers(60, 140))
        for member in range(6):
            ids = np.where(rng.random(len(ancestor)) < 0.05, rng.integers(0, 20, len(ancestor)), ancestor)
            cut = ids[: len(ids) - rng.integers(0, 4)].copy()
            cut[rng.random(len(cut)) < 0.03] = -1
            chains.append(toy_chain(cut, f"f{family}m{member}"))
    return chains


def test_relatives_are_together_and_each_chain_is_in_one_cluster(matrix, families):
    clusters = cluster(Database(families), matrix)
    members = [member for own in clusters.values() for member in own]
    assert sorted(members) == sorted(tokens.label for tokens in families)
    assert all(own[0] == head for head, own in clusters.items())
    assert sorted(map(len, clusters.values())) == [6] * 10
    assert all(len({member[:2] for member in own}) == 1 for own in clusters.values())


@pytest.mark.parametrize(("coverage", "score"), [(0.8, 0.25), (0.95, 0.25), (0.8, 0.7), (0.5, 0.0)])
def test_members_are_as_like_their_representative_as_was_asked_and_not_longer(
    matrix, families, coverage, score
):
    rng = np.random.default_rng(2)
    parts = [family.ids[: rng.integers(20, len(family))] for family in families[::3]]
    chains = [*families, *(toy_chain(part, f"p{n}") for n, part in enumerate(parts))]
    named = {tokens.label: tokens for tokens in chains}
    clusters = cluster(Database(chains), matrix, coverage=coverage, score=score)
    assert sum(map(len, clusters.values())) == len(chains) > len(clusters)
    for head, own in clusters.items():
        for member in own[1:]:
            aligner = Aligner(named[head], [matrix])
            points, rows = aligner.align(named[member])
            pairs = rows[rows.min(axis=1) >= 0]
            spans = pairs[-1] - pairs[0] + 1
            assert aligner.normalised(points, named[member]) >= score
            assert spans[0] >= coverage * len(named[head]) and spans[1] >= coverage * len(named[member])
            assert len(named[member]) <= len(named[head])
    # Representatives that were compared are not like one another.
    everything = cluster(Database(chains), matrix, coverage=coverage, score=score, candidates=None)
    heads = [named[head] for head in everything]
    for n, head in enumerate(heads):
        aligner = Aligner(head, [matrix])
        for other in heads[:n]:
            points, rows = aligner.align(other)
            pairs = rows[rows.min(axis=1) >= 0]
            short = (np.ptp(pairs, axis=0) + 1 < coverage * np.array([len(head), len(other)])).any()
            assert short or aligner.normalised(points, other) < score


def test_the_order_of_the_chains_does_not_matter(matrix, families):
    first = cluster(Database(families), matrix, score=0.6)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(families))
        again = cluster(Database([families[n] for n in order]), matrix, score=0.6)
        assert list(again.items()) == list(first.items())


def test_copies_alone_are_one_cluster(matrix, families):
    copies = [replace(families[0], name=name) for name in ("b", "a")]
    assert cluster(Database(copies), matrix) == {"a_A": ["a_A", "b_A"]}
    twice = [families[0], families[0]]
    assert cluster(Database(twice), matrix) == {"f0m0_A": ["f0m0_A", "f0m0_A#2"]}


def test_a_chain_is_aligned_with_few_others(matrix, monkeypatch):
    rng, counted, align = np.random.default_rng(4), [], Aligner.align
    monkeypatch.setattr(Aligner, "align", lambda self, other: counted.append(1) or align(self, other))
    strangers = Database([toy_chain(rng.integers(0, 20, 60), f"s{n:02d}") for n in range(40)])
    assert len(cluster(strangers, matrix, candidates=2)) == 40 and len(counted) <= 2 * 40
    counted.clear()
    assert len(cluster(strangers, matrix, candidates=None)) == 40 and len(counted) == 40 * 39 / 2


def test_chains_without_codes_and_of_two_residues_are_clusters_of_their_own(matrix, families):
    bare = [toy_chain(np.full(30, -1), "bare"), toy_chain(np.full(30, -1), "bare")]
    clusters = cluster(Database([*bare, *families[:2], toy_chain([1, 2], "two")]), matrix)
    assert clusters["bare_A"] == ["bare_A"] and clusters["bare_A#2"] == ["bare_A#2"]
    assert clusters["two_A"] == ["two_A"] and len(clusters) == 4


SHARES = np.linspace(0, 0.6, 13)


def test_more_is_asked_of_alphabets_with_letters(matrix):
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 20, 200)
    noisy = [np.where(rng.random(200) < share, rng.integers(0, 20, 200), ids) for share in SHARES]
    plain = [toy_chain(codes, f"c{n}") for n, codes in enumerate(noisy)]
    lettered = [replace(tokens, alphabet=AMINO_ACIDS[:20]) for tokens in plain]
    few, many = (cluster(Database(plain), matrix, coverage=0, score=score) for score in (0.25, 0.5))
    assert few != many
    assert cluster(Database(plain), matrix, coverage=0) == few
    assert cluster(Database(lettered), matrix, coverage=0) == many
    book = "toy:environment@1"
    alone = Database([replace(tokens, codebook=book) for tokens in plain])
    matrix = replace(matrix, codebook=book)
    assert cluster(alone, matrix, coverage=0) == cluster(alone, matrix, coverage=0, score=0.4)
    assert cluster(alone, matrix, coverage=0) != cluster(alone, matrix, coverage=0, score=0.25)


def test_environments_are_compared_alone_and_beside_codes(matrix):
    rng = np.random.default_rng(3)
    other = replace(matrix, codebook=AROUND)
    same, around = rng.integers(0, 20, (2, 80))
    chains = [toy_chain(same, "a", around), toy_chain(rng.integers(0, 20, 80), "b", around)]
    chains += [toy_chain(same, "c", rng.integers(0, 20, 80))]
    database = Database(chains)
    assert cluster(database, matrix) == {"a_A": ["a_A", "c_A"], "b_A": ["b_A"]}
    assert cluster(database, other) == {"a_A": ["a_A", "b_A"], "c_A": ["c_A"]}
    assert len(cluster(database, [matrix, other], coverage=0, score=0.1)) == 1
    assert len(cluster(database, [matrix, other], score=0.9)) == 3
    with pytest.raises(CodebookMismatch, match="the matrix of other@1"):
        cluster(database, replace(matrix, codebook="other@1"))


def test_command(examples, tmp_path, capsys):
    tokens = [protok.load("protok-1").encode(path) for path in sorted(examples.glob("7*"))]
    bare = replace(tokens[0], ids=np.full(len(tokens[0]), -1), name="bare", keyframes=None)
    tokens += [replace(tokens[0], name="a copy"), bare]
    save(tokens, tmp_path / "t.parquet")
    assert main(["cluster", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "c.tsv")]) == 0
    err = capsys.readouterr().err
    assert "1 chain without any code each a cluster of its own: bare_A" in err
    assert "5 clusters of 6 chains, 4 of one alone, the largest of 2 (protok-1@" in err
    lines = (tmp_path / "c.tsv").read_text().splitlines()
    copies = ["7soo.A_A\t7soo.A_A", "7soo.A_A\ta%20copy_A"]
    assert (
        len(lines) == 6 and "bare_A\tbare_A" in lines and [line for line in lines if "soo" in line] == copies
    )
    assert main(["cluster", str(tmp_path / "t.parquet"), "--score", "0", "--coverage", "0", "-q"]) == 0
    out, err = capsys.readouterr()
    assert len({line.split("\t")[0] for line in out.splitlines()}) < 5 and not err
    assert main(["cluster", str(tmp_path / "t.parquet"), "--chain", "A"]) == 2
    assert "holds tokens, not structures" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cluster", str(tmp_path / "t.parquet"), "--score", "2"])
    assert "'2' is no number from 0 to 1" in capsys.readouterr().err


def test_command_on_structures_with_both_alphabets(examples, tmp_path, capsys):
    folder = tmp_path / "structures"
    folder.mkdir()
    for name in ("a.pdb", "b.pdb"):
        (folder / name).write_bytes((examples / "7soo.A.pdb").read_bytes())
    (folder / "broken.pdb").write_text("ATOM      1  N   MET A   1\n")
    model = small(BOTH).save_pretrained(tmp_path / "model")
    assert main(["cluster", str(folder), "--model", str(model)]) == 1
    out, err = capsys.readouterr()
    assert out == "a_A\ta_A\na_A\tb_A\n"
    assert "broken.pdb" in err and "small@" in err and "small:environment@" in err
    assert main(["cluster", str(folder), "--model", str(model), "--range", "1-1"]) == 2
    assert "no residue is numbered 1-1" in capsys.readouterr().err
