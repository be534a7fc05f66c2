"""Clusters of sequences, and sides that no cluster crosses."""

import csv
import os
import stat
import sys
import warnings
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protok.errors import FormatError
from protok.structure.clustering import (
    Split,
    SplitWarning,
    assign,
    by_kmers,
    cluster,
    read_split,
    write_split,
)

RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def random_sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(RESIDUES, length))


def relative(sequence: str, identity: float, seed: int, gap: int = 0) -> str:
    """About so alike, with a piece cut out of the middle."""
    rng = np.random.default_rng(seed)
    out = np.array(list(sequence))
    changed = rng.permutation(len(out))[: round((1 - identity) * len(out))]
    out[changed] = rng.choice(RESIDUES, len(changed))
    half = len(out) // 2
    return "".join([*out[:half], *out[half + gap :]])


def test_relatives_are_one_cluster_and_strangers_are_not():
    first, second = random_sequence(150, 0), random_sequence(140, 1)
    sequences = [
        first,
        second,
        relative(first, 0.5, 2),
        relative(first, 0.6, 3, gap=8),
        first,
        relative(second, 0.5, 4),
        first[:60],
        random_sequence(150, 5),
    ]
    labels, method = cluster(sequences, 0.3, "kmers")
    assert method == "kmers"
    assert labels.tolist() == [0, 1, 0, 0, 0, 1, 2, 3], "a part is no relative of the whole"
    stricter, _ = cluster(sequences, 0.7, "kmers")
    assert stricter[0] == stricter[4] and len(set(stricter[[0, 2, 3]])) == 3


def test_unknown_residues_match_nothing():
    known = random_sequence(80, 0)
    masked = "".join(r if n % 8 else "X" for n, r in enumerate(known))
    labels, _ = cluster(["X" * 50, "X" * 50, known, masked, known.lower(), "U" * 50], 0.3, "kmers")
    assert labels.tolist() == [0, 1, 2, 2, 2, 3]
    assert cluster([], 0.3, "kmers")[0].tolist() == []
    assert cluster(["A", "A", "GG"], 0.3, "kmers")[0].tolist() == [0, 0, 1]


def test_clusters_agree_with_those_of_the_manifest(shared):
    """Known homologs, clustered by others with other settings at 30 % identity."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared("structures/train.parquet"), columns=["id", "seq"]).to_pydict()
    sequence = dict(zip(table["id"], table["seq"], strict=True))
    members = defaultdict(list)
    with shared("structures/manifest.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            if row["split"] == "train":
                members[row["cluster30"]].append(row["id"])
    rng = np.random.default_rng(0)
    families = [key for key in members if len(members[key]) > 2]
    lone = [key for key in members if len(members[key]) == 1]
    chosen = [*rng.permutation(families)[:40], *rng.permutation(lone)[:80]]
    ids = [(i, key) for key in chosen for i in members[key][:4]]
    known = np.unique([key for _, key in ids], return_inverse=True)[1]
    clusters, _ = cluster([sequence[i] for i, _ in ids], 0.3, "kmers")

    def pairs(*labels) -> int:
        counts = np.unique(np.stack(labels), axis=1, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    both = pairs(clusters, known)
    # MMseqs2's easy-cluster agrees to .87 and .88 on a larger sample.
    assert both / pairs(known) > 0.8, "homologs that were missed"
    assert both / pairs(clusters) > 0.8, "strangers that were joined"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        side = assign(clusters, 0.15, 0.15)
    crossing = [key for key in range(clusters.max() + 1) if len(set(side[clusters == key])) > 1]
    assert crossing == []
    related = np.isin(known[side != "train"], known[side == "train"])
    assert related.mean() < 0.1, "held-out chains with a known homolog in training"


@pytest.fixture
def mmseqs(tmp_path, monkeypatch):
    """Put a stand-in for MMseqs2 on the PATH; returns a function that writes its program."""

    def install(body: str):
        program = tmp_path / "bin" / "mmseqs"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def test_mmseqs_is_used_where_it_is(mmseqs):
    mmseqs(
        "command, fasta, out, tmp, *options = sys.argv[1:]\n"
        "values = dict(zip(options[::2], options[1::2]))\n"
        "assert command == 'easy-cluster' and values['--min-seq-id'] == '0.4', sys.argv\n"
        "names = [line[1:].strip() for line in open(fasta) if line[0] == '>']\n"
        "heads = {'0': '0', '1': '0', '2': '2'}\n"
        "open(out + '_cluster.tsv', 'w').writelines(f'{heads[n]}\\t{n}\\n' for n in names)"
    )
    sequences = [random_sequence(60, n) for n in range(3)]
    labels, method = cluster([*sequences, sequences[2]], 0.4)
    assert method == "mmseqs" and labels.tolist() == [0, 0, 1, 1]
    assert cluster(sequences, 0.4, "kmers")[1] == "kmers"


def test_an_mmseqs_that_fails_is_said(mmseqs):
    mmseqs("sys.exit('no memory for the index')")
    sequences = [random_sequence(60, n) for n in range(3)]
    with pytest.warns(SplitWarning, match="no memory for the index.*k-mers instead"):
        assert cluster(sequences, 0.4)[1] == "kmers"
    with pytest.raises(FormatError, match="no memory for the index.*split.method=kmers"):
        cluster(sequences, 0.4, "mmseqs")


def test_a_method_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FormatError, match="no mmseqs on the PATH"):
        cluster(["ACD"], 0.3, "mmseqs")
    with pytest.raises(FormatError, match="'blast'.*auto, mmseqs, kmers"):
        cluster(["ACD"], 0.3, "blast")
    assert cluster(["ACDEF"], 0.3)[1] == "kmers"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=80),
    st.floats(0.05, 0.3),
    st.sampled_from([0.0, 0.1, 0.2]),
    st.integers(0, 3),
)
def test_no_cluster_is_in_training_and_held_out(labels, valid, test, seed):
    clusters = np.array(labels)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        side = assign(clusters, valid, test, seed)
    assert (side == assign_quietly(clusters, valid, test, seed)).all()
    texts = " ".join(str(warning.message) for warning in warned)
    assert (side == "train").any() and (side == "valid").any()
    assert not (side == "test").any() or test > 0
    if "at random" in texts:
        assert len(set(labels)) == 1
        return
    held = side != "train"
    assert not set(clusters[held]) & set(clusters[~held])
    if "share it" not in texts:
        assert not set(clusters[side == "valid"]) & set(clusters[side == "test"])


def assign_quietly(*arguments) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return assign(*arguments)


def test_shares_are_about_what_was_asked_for():
    clusters = np.repeat(np.arange(200), np.random.default_rng(0).integers(1, 8, 200))
    side = assign(clusters, 0.1, 0.2, 5)
    share = {name: (side == name).mean() for name in ("train", "valid", "test")}
    assert share["valid"] == pytest.approx(0.1, abs=0.01)
    assert share["test"] == pytest.approx(0.2, abs=0.01)
    few = assign(np.arange(20), 0.1, 0.1)
    assert ((few == "valid").sum(), (few == "test").sum()) == (4, 4), "of few chains a few more"


def test_one_cluster_is_split_at_random_and_said():
    with pytest.warns(SplitWarning, match="all 30 chains are one cluster.*at random"):
        side = assign(np.zeros(30, int), 0.1, 0.1)
    assert [(side == name).sum() for name in ("train", "valid", "test")] == [22, 4, 4]


def test_a_cluster_that_leaves_little_is_said():
    with pytest.warns(SplitWarning, match="97 of 100 chains are one cluster.*only 3 others"):
        side = assign(np.array([0] * 97 + [1, 2, 3]), 0.1, 0.1)
    assert (side[:97] == "train").all() and set(side[97:]) == {"valid", "test"}
    with pytest.warns(SplitWarning, match="validation and test share it"):
        side = assign(np.array([0] * 10 + [1] * 4), 0.2, 0.2)
    assert (side[:10] == "train").all() and sorted(side[10:]) == ["test"] * 2 + ["valid"] * 2


def test_a_split_is_a_table(tmp_path):
    split = Split(["a_A", "b_A", "c_B"], np.array([0, 1, 0]), np.array(["train", "valid", "train"]), "")
    write_split(split, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().splitlines()[:2] == ["id,cluster,split", "a_A,0,train"]
    again = read_split(tmp_path / "s.csv", ["c_B", "new_A", "b_A"])
    assert again.side.tolist() == ["train", "", "valid"]
    assert again.chains("valid").tolist() == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,split\na_A,training\n", "unknown split 'training'.*train, valid, test"),
        ("id,split\nb_A,train\n", "names none of the chains"),
        ("name,split\na_A,train\n", "not a split table.*columns id and split"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(FormatError, match=message) as error:
        read_split(tmp_path / "s.csv", ["a_A"])
    assert "s.csv" in str(error.value)


def test_one_sequence_is_one_cluster():
    assert by_kmers([random_sequence(40, 0)], 0.3).tolist() == [0]
