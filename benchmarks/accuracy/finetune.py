"""Fine-tuning on one narrow family that the base model never saw: what it gives, and costs.

    python -m benchmarks.accuracy.finetune --model protok-1                         # ten minutes of a core
    python -m benchmarks.accuracy.finetune --steps 6 --chains 8 --codebook frozen   # a look

The family is a cluster of chains at 30 % sequence identity (``cluster30`` of the manifest) that are
in neither store of the manifest, and to which hardly any of the base model's training chains is
alike at 30 % (at most one for each hundred members; those that share most words of three residues with a
member are clustered with them). The largest family is taken that still has something to hold out:
its members are clustered again, at --identity, and at least a fifth must lie outside the largest
of these clusters, which is trained on. What is held out is thus no closer to what is trained
on than that. Forgetting is measured on the validation set of the base model.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import records
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, RUNS, SHARED
from benchmarks.tables.provenance import digest, provenance

#: Chains that no table of ours reports on; many are alike to some that one does.
POOL = "test_related.parquet"
#: Training chains that are compared with each kind of member of a family.
NEAREST = 30


def families(structures: Path) -> dict[str, list[str]]:
    """Clusters without a member in training or validation, with their chains in the pool."""
    members: dict[str, dict[str, None]] = defaultdict(dict)
    seen = set()
    with (structures / "manifest.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            if row["split"] in ("train", "valid"):
                seen.add(row["cluster30"])
            elif row["split"] == "test_related":
                members[row["cluster30"]][row["id"]] = None
    unseen = {key: list(ids) for key, ids in members.items() if key not in seen}
    return dict(sorted(unseen.items(), key=lambda item: -len(item[1])))


def words(sequence: str) -> set[str]:
    """All stretches of three residues."""
    return {sequence[i : i + 3] for i in range(len(sequence) - 2)}


def alike(members: list[str], trained: dict[str, set[str]]) -> int:
    """How many of the training chains (with their `words`) are in a cluster with members at 30 %."""
    from protok.structure.clustering import cluster

    near: dict[str, None] = {}
    for member in map(words, members):
        ranked = sorted(trained, key=lambda s: -len(member & trained[s]) / (len(trained[s]) or 1) ** 0.5)
        near |= dict.fromkeys(ranked[:NEAREST])
    labels, _ = cluster([*members, *near], 0.3, "kmers")
    return int(np.isin(labels[len(members) :], labels[: len(members)]).sum())


def pick(options: argparse.Namespace, table, trained: list[str]) -> tuple[str, list[str], int, int]:
    """A family: its cluster, its chains, how many can be held out, and training chains alike to them."""
    from protok.structure.clustering import cluster

    known = {sequence: words(sequence) for sequence in trained}
    sequence = dict(zip(table["id"].to_pylist(), table["seq"].to_pylist(), strict=True))
    for key, ids in families(options.structures).items():
        there = [i for i in ids if i in sequence]
        if options.family not in ("", key):
            continue
        labels, _ = cluster([sequence[i] for i in there], options.identity, "kmers")
        outside = len(there) - int(np.bincount(labels).max())
        kinds = [sequence[there[i]] for i in np.unique(labels, return_index=True)[1]]
        if not options.family and outside < len(there) / 5:
            continue
        near = alike(kinds, known)
        print(f"family {key}: {len(there)} chains, {outside} to hold out, {near} training chains alike")
        if near <= len(there) // 100 or options.family:
            return key, there, outside, near
    raise SystemExit(f"no family {options.family} without a member in training")


def tune(options: argparse.Namespace, store: Path, mode: str, out: Path) -> dict:
    """Fine-tune one way; the report, and what it took."""
    from protok.training.run import run

    overrides = {
        "finetune.codebook": mode,
        "finetune.chains": options.chains,
        "finetune.longest": options.longest,
        "data.valid": str(options.structures / "valid.parquet"),
        "split.identity": options.identity,
        "split.method": "kmers",
        "split.valid": 0.1,
        "split.test": 0.2,
    }
    for setting in options.set:
        key, _, value = setting.partition("=")
        overrides[key] = json.loads(value)
    if options.steps:
        overrides |= {"optim.steps": options.steps, "valid.every": max(1, options.steps // 6)}
    began, cpu = time.time(), time.process_time()
    run(structures=store, init=options.model, out=out, overrides=overrides)
    report = json.loads((out / "report.json").read_text())
    rows = report["recipe"]
    kept = {k: rows[k] for k in ("data", "optim", "valid", "split", "finetune")}
    kept["data"] |= {"train": store.name, "valid": "valid.parquet"}
    kept["finetune"] |= {"init": report["before"]}
    for chains in report["sets"]:
        chains["about"] = chains["about"].replace(overrides["data.valid"], "valid.parquet")
    return report | {
        "recipe": kept,
        "seconds": round(time.time() - began),
        "cpu_seconds": round(time.process_time() - cpu),
    }


def command(options: argparse.Namespace, name: str) -> str:
    """The command of a run, without where this machine keeps things."""
    flags = [f"--model {name}", f"--codebook {' '.join(options.codebook)}"]
    for key in ("family", "identity", "steps", "chains", "longest"):
        if getattr(options, key):
            flags.append(f"--{key} {getattr(options, key)}")
    return " ".join(["python -m benchmarks.accuracy.finetune", *flags, *(f"--set {s}" for s in options.set)])


def main(arguments: list[str] | None = None) -> None:
    """Fine-tune in each way and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-1")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--train", type=Path, default=RUNS / "data" / "train.parquet", help="of the model")
    parser.add_argument("--family", default="", help="cluster30 (default: see above)")
    parser.add_argument("--identity", type=float, default=0.7, help="of held-out to trained chains")
    parser.add_argument("--codebook", nargs="+", default=["frozen", "adapted", "new"], metavar="FATE")
    parser.add_argument("--steps", type=int, help="default: by the number of chains")
    parser.add_argument("--chains", type=int, default=64, help="of each set in the report")
    parser.add_argument("--longest", type=int, default=512, help="residues of a chain in the report")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON")
    parser.add_argument("--runs", type=Path, help="folder for the runs (default: a temporary one)")
    parser.add_argument("--name", help="of the result (default: the model's)")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "finetune.parquet")
    options = parser.parse_args(arguments)
    options.structures = options.data / "structures"

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    import protok
    from protok.structure.store import read_store
    from protok.training.report import markdown

    columns = ["id", "seq", "xyz"]
    table = pq.read_table(options.structures / POOL, columns=columns)
    base, trained = protok.load(options.model), read_store(options.train)
    if trained.digest != base.provenance["train_sha256"]:
        raise SystemExit(f"{base.codebook} was not trained on {options.train}")
    key, ids, outside, near = pick(options, table, trained.sequence)
    modes = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = options.runs or Path(folder)
        runs.mkdir(parents=True, exist_ok=True)
        store = runs / "family.parquet"
        pq.write_table(table.filter(pc.is_in(table["id"], pa.array(ids))), store)
        for mode in options.codebook:
            modes[mode] = tune(options, store, mode, runs / mode)
            print(markdown(modes[mode]), flush=True)
    sources = [options.structures / name for name in (POOL, "valid.parquet", "manifest.csv")]
    result = provenance(
        command(options, base.name),
        model=base.name,
        codebook=base.codebook,
        seed=0,
        data_sha256={path.name: digest([path]) for path in sources} | {"train.parquet": trained.digest},
        family={
            "cluster30": key,
            "chains": len(ids),
            "outside_the_largest_cluster": outside,
            "identity": options.identity,
            "ids": ids,
            "chosen": "named" if options.family else "the largest unseen with a fifth to hold out",
            "training_chains_alike": near,
        },
        modes=modes,
    )
    records.put(options.out, options.name or base.name, result)


if __name__ == "__main__":
    without_traceback(main)
