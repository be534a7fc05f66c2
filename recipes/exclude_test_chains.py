"""Which training chains are, or are alike to, chains that the tables of the leaderboard test on.

    python -m recipes.exclude_test_chains      # writes recipes/protein/test-chains.txt

A training with `data.exclude` set to that file sees no test chain of any table, whatever it learns
from sequences: no chain of the same sequence, none of the same cluster (30 % identity) by the
clusters of the tables, and none in a cluster of the training set that holds one of these.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from protok.structure.store import read_store

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
OUT = ROOT / "recipes" / "protein" / "test-chains.txt"


def tested(folder: Path) -> tuple[set[str], set[str]]:
    """Sequences of the chains in test splits, and of all chains in their clusters."""
    known, ids = {}, set()
    for name in ("chains", "complexes"):
        file = folder / f"{name}.parquet"
        columns = {"id", "seq", "cluster30"} & set(pq.read_schema(file).names)
        known |= {row["id"]: row for row in pq.read_table(file, columns=[*columns]).to_pylist()}
    for file in sorted((folder / "tasks").glob("*.parquet")):
        rows = pq.read_table(file, columns=["id", "split"]).to_pylist()
        ids |= {row["id"] for row in rows if row["split"] not in ("train", "valid")}
    rows = [known[id] for id in ids if id in known]
    clusters = {row.get("cluster30") for row in rows} - {None}
    alike = {row["seq"] for row in known.values() if row.get("cluster30") in clusters}
    return {row["seq"] for row in rows}, alike


def main() -> None:
    """Write the list."""
    same, alike = tested(SHARED / "structtokenbench")
    store = read_store(SHARED / "structures" / "train.parquet")
    seen = {
        cluster
        for cluster, sequence in zip(store.cluster, store.sequence, strict=True)
        if sequence in same or sequence in alike
    }
    out = [id for id, of in zip(store.ids, store.cluster, strict=True) if of in seen]
    OUT.write_text("\n".join(sorted(out)) + "\n")
    exact = sum(sequence in same for sequence in store.sequence)
    print(f"wrote {OUT}: {len(out)} of {len(store)} chains, {exact} of them test chains themselves")


if __name__ == "__main__":
    main()
