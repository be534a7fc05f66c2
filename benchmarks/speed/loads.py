"""What lengths, workers and archives cost an encoder: parts of `benchmarks.speed.encoding`."""

from __future__ import annotations

import io
import os
import resource
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import protok
import protok.testing
from benchmarks.speed.other_tools import options_of
from protok.pipeline.batches import BATCH_RESIDUES

LENGTHS = (100, 300, 1000, 3000, 10000)
#: Residues of a chain of the archive.
SHORT = 40


def peak(who: int) -> float:
    """Largest resident memory in MiB, of this process or of a child that has ended."""
    return resource.getrusage(who).ru_maxrss / 1024


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


def scaling(model: str, files: list[Path], name: str) -> list[dict]:
    """Cost per residue and peak memory over length, in this process, shortest first.

    Chains go through as a job gives them to the encoder: as many at a time as are 4,096
    residues, or one.
    """
    tokenizer, options = protok.load(model), options_of(name)
    rows = []
    for n in LENGTHS:
        chains = [packed(files, n)] * max(1, BATCH_RESIDUES // n)
        tokenizer.encode_batch(chains, **options)
        seconds = []
        for _ in range(4):
            clock = time.process_time()
            tokenizer.encode_batch(chains, **options)
            seconds.append((time.process_time() - clock) / len(chains))
        rows.append(
            {
                "residues": n,
                "microseconds_per_residue": round(1e6 * min(seconds) / n, 2),
                "peak_mib": round(peak(resource.RUSAGE_SELF)),
            }
        )
    return rows


def workers(model: str, files: list[Path], name: str) -> dict:
    """All files by two worker processes: wall time, start of the workers included."""
    tokenizer = protok.load(model)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "t.parquet")
        clock, parent = time.monotonic(), time.process_time()
        summary = protok.encode_all(files, tokenizer, out, jobs=2, progress=False, **options_of(name))
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


def endurance(model: str, files: list[Path], chains: int) -> list[dict]:
    """Resident memory of this process on its way through an archive of many short chains."""
    from protok.pipeline.journal import Journal

    tokenizer = protok.load(model)
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
