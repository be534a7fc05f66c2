"""Homology-aware splits: chains are clustered by sequence, and a cluster stays on one side.

A model that has seen a close homolog of a chain is not tested by that chain. Clusters come
from MMseqs2 (Steinegger & Söding 2017, doi:10.1038/nbt.3988) where its program ``mmseqs`` is
on the PATH, otherwise from `by_kmers`, which needs nothing beyond biotite.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protok.common.files import atomic
from protok.errors import FormatError
from protok.structure.backbone import AMINO_ACIDS
from protok.structure.sequence_search import WordIndex

SIDES = ("train", "valid", "test")
METHODS = ("auto", "mmseqs", "kmers")
#: Both sequences must be covered by the alignment to this extent.
COVERAGE = 0.7


class SplitWarning(UserWarning):
    """A split could not be what was asked for; the message says what it is instead."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which chain is on which side.

    Attributes
    ----------
    ids : list of str
        The chains.
    cluster : (n,) int
        Cluster of each chain.
    side : (n,) str
        ``train``, ``valid`` or ``test``.
    method : str
        Where the clusters come from.
    """

    ids: list[str]
    cluster: np.ndarray
    side: np.ndarray
    method: str

    def chains(self, side: str) -> np.ndarray:
        """Numbers of the chains of a side."""
        return np.flatnonzero(self.side == side)


def cluster(sequences: Sequence[str], identity: float = 0.3, method: str = "auto") -> tuple[np.ndarray, str]:
    """Cluster sequences; returns a label for each, 0, 1, ... by first appearance, and the method.

    Parameters
    ----------
    sequences
        One-letter residues; what is none of the twenty matches nothing. Equal sequences are
        in one cluster, save those without any known residue.
    identity
        Least share of identical residues in an alignment that covers 70 % of both sequences.
    method
        ``mmseqs``, ``kmers`` or ``auto``: the first where it is installed. MMseqs2 runs as
        ``easy-cluster``; its ``easy-linclust`` finds a third of the pairs at 30 % identity.

    Raises
    ------
    FormatError
        For an unknown method, or ``mmseqs`` where it is not installed or fails.
    """
    if method not in METHODS:
        raise FormatError(f"split method {method!r}", f"it is one of {', '.join(METHODS)}")
    clean = ["".join(r if r in AMINO_ACIDS else "X" for r in sequence.upper()) for sequence in sequences]
    # A chain of unknown residues is like no other, even if equal.
    keys = [s if s.strip("X") else f"#{n}" for n, s in enumerate(clean)]
    known = [key for key in dict.fromkeys(keys) if not key.startswith("#")]
    heads = None
    if method != "kmers" and shutil.which("mmseqs"):
        try:
            heads = by_mmseqs(known, identity)
        except subprocess.CalledProcessError as error:
            output = (error.stderr or error.stdout or "").strip().splitlines()
            reason = f"mmseqs failed ({output[-1] if output else error.returncode})"
            if method == "mmseqs":
                raise FormatError(reason, "use split.method=kmers") from error
            warnings.warn(f"{reason}; clustering by k-mers instead", SplitWarning, stacklevel=2)
    elif method == "mmseqs":
        raise FormatError("there is no mmseqs on the PATH", "use split.method=kmers")
    used = "kmers" if heads is None else "mmseqs"
    if heads is None:
        heads = by_kmers(known, identity)
    label = dict(zip(known, heads.tolist(), strict=True))
    return _numbered([label.get(key, key) for key in keys]), used


def _numbered(labels: Sequence[Hashable]) -> np.ndarray:
    order: dict[Hashable, int] = {}
    return np.array([order.setdefault(x, len(order)) for x in labels], dtype=np.int64)


def by_mmseqs(sequences: Sequence[str], identity: float) -> np.ndarray:
    """Clusters by ``mmseqs easy-cluster``, (n,).

    Raises
    ------
    subprocess.CalledProcessError
        If the program fails.
    """
    if not sequences:
        return np.zeros(0, np.int64)
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder, "in.fasta")
        with atomic(fasta) as handle:
            handle.writelines(f">{n}\n{s}\n" for n, s in enumerate(sequences))
        options = f"--min-seq-id {identity} -c {COVERAGE} --cov-mode 0 -v 1 --threads {os.cpu_count() or 1}"
        subprocess.run(
            ["mmseqs", "easy-cluster", fasta, Path(folder, "out"), Path(folder, "tmp"), *options.split()],
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        rows = Path(folder, "out_cluster.tsv").read_text(encoding="utf-8").split()
    head = np.arange(len(sequences))
    head[np.array(rows[1::2], int)] = np.array(rows[0::2], int)
    return head


def by_kmers(sequences: Sequence[str], identity: float) -> np.ndarray:
    """Clusters by shared words and banded alignment, (n,): single linkage.

    Pairs are found and aligned by `protok.structure.sequence_search`, and linked if the alignment
    is identical enough and covers both. It rather joins strangers than parts homologs: on 6,978
    chains of the PDB it joined 99.8 % of the pairs of given 30 % clusters, but 318 in its
    largest cluster where those had 187. 2 minutes for these (17 ms a sequence, 4 ms for 600).
    Sequences of less than about ten residues are linked only if equal.
    """
    root = np.arange(len(sequences))
    index = WordIndex(sequences)

    for n in range(len(sequences)):
        for other, diagonal in index.near(n, lambda other, n=n: _find(root, other) == _find(root, n)):
            mine, theirs = _find(root, n), _find(root, other)
            if mine == theirs:
                continue
            match = index.align(n, other, diagonal)
            if min(match.covered) >= COVERAGE and match.identity >= identity:
                root[mine] = theirs
    return np.array([_find(root, n) for n in range(len(root))])


def _find(root: np.ndarray, n: int) -> int:
    while root[n] != n:
        root[n] = root[root[n]]
        n = root[n]
    return int(n)


def assign(clusters: np.ndarray, valid: float, test: float, seed: int = 0) -> np.ndarray:
    """Sides of chains, (n,): whole clusters in random order, the largest always in training.

    Parameters
    ----------
    clusters
        Label of each chain.
    valid, test
        Shares of the chains to hold out; 0 for none. Of few chains a few more are held out.
    seed
        Of the order.

    Warns
    -----
    SplitWarning
        If all chains are one cluster, which is then split at random; if too few chains are
        outside the largest cluster; if validation and test share a cluster.
    """
    n = len(clusters)
    rng = np.random.default_rng(seed)
    want = {
        side: max(round(share * n), min(4, n // 5), 1)
        for side, share in (("valid", valid), ("test", test))
        if share > 0
    }
    if n <= len(want):
        want = dict(list(want.items())[: n - 1])
    side = np.full(n, "train", dtype="<U5")
    label, size = np.unique(clusters, return_counts=True)
    if not want:
        return side
    if len(label) == 1:
        _warn(
            f"all {n} chains are one cluster of homologs: they are split at random, so held-out "
            "chains have close relatives in training; clusters "
            "of a higher identity (split.identity of a recipe) are smaller"
        )
        return _random(side, np.arange(n), want, rng)
    order = rng.permutation(np.delete(np.arange(len(label)), size.argmax()))
    room = dict(want)
    for c in order:
        to = max(room, key=lambda s: room[s] / want[s])
        if 0 < size[c] <= 1.5 * room[to]:
            side[clusters == label[c]] = to
            room[to] -= int(size[c])
    spare = [c for c in order[size[order].argsort(kind="stable")] if room]
    for to in want:
        left = [c for c in spare if (side[clusters == label[c]] == "train").all()]
        if not (side == to).any() and left:
            side[clusters == label[left[0]]] = to
    held = np.flatnonzero(side != "train")
    if any(not (side == to).any() for to in want):
        if len(held) >= len(want):
            _warn("only one cluster is held out: validation and test share it")
        _random(side, held, {to: max(1, len(held) // len(want)) for to in want}, rng)
    if len(held) < sum(want.values()) / 2:
        _warn(
            f"{size.max()} of {n} chains are one cluster of homologs: only {len(held)} others are "
            "held out; clusters of a higher identity (split.identity of a recipe) are smaller"
        )
    return side


def _warn(text: str) -> None:
    warnings.warn(text, SplitWarning, stacklevel=3)


def _random(side: np.ndarray, chains: np.ndarray, want: dict[str, int], rng) -> np.ndarray:
    """Deal chains out; of too few the first side wanted gets all."""
    chains = rng.permutation(chains)
    if len(chains) < len(want):
        side[chains] = next(iter(want))
        return side
    for to, count in want.items():
        side[chains[:count]] = to
        chains = chains[count:]
    return side


def write_split(split: Split, path: str | Path) -> None:
    """Write a table: id, cluster, split."""
    with atomic(path, newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["id", "cluster", "split"])
        table.writerows(zip(split.ids, split.cluster.tolist(), split.side.tolist(), strict=True))


def read_split(path: str | Path, ids: Sequence[str]) -> Split:
    """Sides of chains from a table with columns id, split and perhaps cluster.

    Chains that the table does not name are left out of all sides (their side is empty).

    Raises
    ------
    FormatError
        If it is not such a table, or a side is unknown, or it names none of the chains.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            rows = {row["id"]: row for row in csv.DictReader(handle)}
        side = np.array([rows[i]["split"] if i in rows else "" for i in ids])
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise FormatError(
            f"not a split table ({error})", "give a CSV with columns id and split", file=str(path)
        ) from error
    odd = sorted(set(side.tolist()) - {*SIDES, ""})
    if odd or not (side != "").any():
        raise FormatError(
            f"unknown split {odd[0]!r}" if odd else "it names none of the chains",
            f"column split holds one of {', '.join(SIDES)}, column id what the store calls a chain",
            file=str(path),
        )
    names = [rows.get(i, {}).get("cluster") or i for i in ids]
    return Split(list(ids), _numbered(names), side, f"table {path}")
