"""Fine-tuning on one narrow family that the base model never saw: what it gives, and costs.

    python -m benchmarks.accuracy.finetune --model protok-512                       # full length
    python -m benchmarks.accuracy.finetune --steps 60 --chains 8 --codebook frozen  # a look

The family is a cluster of chains at 30 % sequence identity (``cluster30`` of the manifest) no
member of which is in the base model's training set, so no chain that is reported on, nor a relative
of it at 30 %, was trained on before. The largest is taken that still has something to hold out:
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
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance

#: Chains that the base models were not trained on, and that no table of ours reports on.
POOL = "test_related.parquet"


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


def pick(structures: Path, table, identity: float, asked: str) -> tuple[str, list[str], int]:
    """A family: its cluster, the chains there are of it, and how many of them can be held out."""
    from protok.structure.clustering import cluster

    sequence = dict(zip(table["id"].to_pylist(), table["seq"].to_pylist(), strict=True))
    for key, ids in families(structures).items():
        there = [i for i in ids if i in sequence]
        if asked not in ("", key):
            continue
        labels, _ = cluster([sequence[i] for i in there], identity, "kmers")
        outside = len(there) - int(np.bincount(labels).max())
        if asked or outside >= len(there) / 5:
            return key, there, outside
    raise SystemExit(f"no family {asked} without a member in training")


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
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--data", type=Path, default=SHARED)
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
    from protok.training.report import markdown

    columns = ["id", "seq", "xyz"]
    table = pq.read_table(options.structures / POOL, columns=columns)
    key, ids, outside = pick(options.structures, table, options.identity, options.family)
    base = protok.load(options.model)
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
        data_sha256={path.name: digest([path]) for path in sources},
        family={
            "cluster30": key,
            "chains": len(ids),
            "outside_the_largest_cluster": outside,
            "identity": options.identity,
            "ids": ids,
            "chosen": "named" if options.family else "the largest unseen with a fifth to hold out",
            "trained_on_by_the_base": False,
        },
        modes=modes,
    )
    records.put(options.out, options.name or base.name, result)


if __name__ == "__main__":
    main()
