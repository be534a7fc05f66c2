"""Round trip of whole folders through a tokenizer: reconstruction, codes, invariances.

    python -m benchmarks.accuracy.reconstruction --model protok-512 \\
        --set casp14=../shared/files/casp14 --set cameo2022=../shared/files/cameo2022

Every chain is read from its file, encoded, decoded from its codes alone and compared
with the file. Besides: codes used, codes changed by a random rotation and translation,
by reflection, and by coordinate noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import protok
from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import digest, provenance
from protok.bench.measures.locality import noisy
from protok.structure.backbone import Backbone
from protok.structure.io.sources.paths import iter_files
from protok.testing import mirrored, moved, random_rotation

NOISE = (0.1, 0.2, 0.5)


def changed(a: protok.Tokens, b: protok.Tokens) -> tuple[int, int]:
    """Residues whose code differs, of those that have one in both."""
    both = (a.ids >= 0) & (b.ids >= 0)
    return int((a.ids[both] != b.ids[both]).sum()), int(both.sum())


def geometry(backbone: Backbone) -> dict[str, np.ndarray]:
    """Bond lengths, angles and phi of one chain, for the spread of built and real ones."""
    import torch

    from protok.structure.geometry import linked, torsions

    coords = torch.from_numpy(backbone.coords)
    mask = torch.from_numpy(backbone.mask)
    bond = linked(coords, mask)
    angles, defined = torsions(torch.nan_to_num(coords), bond)
    n, ca, c = backbone.coords[:, 0], backbone.coords[:, 1], backbone.coords[:, 2]
    bond = bond.numpy()

    def angle(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        u, v = p - q, r - q
        cos = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
        return np.degrees(np.arccos(np.clip(cos, -1, 1)))

    return {
        "C-N": np.linalg.norm(c[:-1] - n[1:], axis=-1)[bond],
        "CA-CA": np.linalg.norm(ca[:-1] - ca[1:], axis=-1)[bond],
        "CA-C-N": angle(ca[:-1], c[:-1], n[1:])[bond],
        "C-N-CA": angle(c[:-1], n[1:], ca[1:])[bond],
        "phi>0": (angles[:, 0].numpy() > 0)[defined[:, 0].numpy()].astype(float),
        "phi, psi": np.degrees(angles[:, :2].numpy())[defined[:, :2].all(1).numpy()],
    }


def plausible(built: np.ndarray, real: np.ndarray, share: float = 0.98) -> float:
    """Share of built (phi, psi) in the densest cells of 10° that hold `share` of the real ones."""
    cells = [np.clip((angles + 180) // 10, 0, 35).astype(int) @ (36, 1) for angles in (built, real)]
    count = np.bincount(cells[1], minlength=1296)
    order = np.argsort(-count, kind="stable")
    kept = np.cumsum(count[order]) <= share * count.sum()
    return float(np.isin(cells[0], order[kept]).mean())


def round_trip(tokenizer, folder: Path) -> dict:
    """Figures of a folder for a model without a codebook."""
    files = list(iter_files([folder]))
    targets = []
    for file in files:
        for chain in protok.read(file).by_chain():
            scores = protok.compare(tokenizer.reconstruct(chain), chain)
            targets.append(
                {
                    "name": chain.name,
                    "chain": chain.chains[0],
                    "length": len(chain),
                    "rmsd": round(scores.rmsd, 6),
                    "tm_score": round(scores.tm_score, 6),
                    "lddt": round(scores.lddt, 6),
                }
            )
    result: dict = {"folder": folder.name, "data_sha256": digest(files), "files": len(files)}
    for name, average in (("mean", np.mean), ("median", np.median)):
        result[name] = {
            key: round(float(average([t[key] for t in targets])), 6)
            for key in ("length", "rmsd", "tm_score", "lddt")
        }
    return result | {"targets": targets}


def measure(tokenizer, folder: Path, seed: int) -> dict:
    """All figures of one folder."""
    if tokenizer.codebook.endswith("@continuous"):
        return round_trip(tokenizer, folder)
    rng = np.random.default_rng(seed)
    files = list(iter_files([folder]))
    targets, counts = [], np.zeros(tokenizer.size)
    shifted, flipped = np.zeros(2, int), np.zeros(2, int)
    noise = {sigma: np.zeros(2, int) for sigma in NOISE}
    shapes: dict[str, dict[str, list]] = {"built": {}, "real": {}}
    seconds = {"encode": 0.0, "decode": 0.0}
    for file in files:
        for chain in protok.read(file).by_chain():
            began = time.process_time()
            tokens = tokenizer.encode(chain)
            seconds["encode"] += time.process_time() - began
            counts += np.bincount(tokens.ids[tokens.ids >= 0], minlength=tokenizer.size)
            shifted += changed(
                tokens,
                tokenizer.encode(moved(chain, random_rotation(len(targets)), rng.uniform(-100, 100, 3))),
            )
            flipped += changed(tokens, tokenizer.encode(mirrored(chain)))
            for sigma in NOISE:
                noise[sigma] += changed(tokens, tokenizer.encode(noisy(chain, sigma, rng)))
            try:
                began = time.process_time()
                again = tokenizer.decode(tokens)
                seconds["decode"] += time.process_time() - began
            except protok.ProtokError:
                continue
            scores = protok.compare(again, chain)
            continuous = protok.compare(tokenizer.reconstruct(chain), chain)
            sure = float(np.nanmean(again.bfactor))
            targets.append(
                {
                    "name": chain.name,
                    "chain": chain.chains[0],
                    "length": len(chain),
                    "rmsd": round(scores.rmsd, 6),
                    "tm_score": round(scores.tm_score, 6),
                    "lddt": round(scores.lddt, 6),
                    "confidence": round(sure, 2),
                    "rmsd_continuous": round(continuous.rmsd, 6),
                }
            )
            for kind, backbone in (("built", again), ("real", chain)):
                for key, values in geometry(backbone).items():
                    shapes[kind].setdefault(key, []).append(values)
    p = counts / counts.sum()
    result = {
        "folder": folder.name,
        "data_sha256": digest(files),
        "files": len(files),
        "residues": int(counts.sum()),
        "codes_used": round(float((p > 0).mean()), 4),
        "perplexity": round(float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum())), 1),
        "changed_by_motion": round(shifted[0] / shifted[1], 5),
        "changed_by_mirror": round(flipped[0] / flipped[1], 4),
        "kept_under_noise": {str(s): round(1 - n[0] / n[1], 4) for s, n in noise.items()},
        "cpu_seconds": {k: round(v, 1) for k, v in seconds.items()},
    }
    if targets:
        columns = {k: np.array([t[k] for t in targets]) for k in targets[0] if k not in ("name", "chain")}
        result["mean"] = {k: round(float(np.mean(v)), 6) for k, v in columns.items()}
        result["median"] = {k: round(float(np.median(v)), 6) for k, v in columns.items()}
        result["confidence_correlates_with_lddt"] = round(
            float(np.corrcoef(columns["confidence"], columns["lddt"])[0, 1]), 3
        )
        joined = {kind: {k: np.concatenate(v) for k, v in facts.items()} for kind, facts in shapes.items()}
        real = joined["real"].pop("phi, psi")
        result["phi_psi_in_98%_of_real"] = {
            "built": round(plausible(joined["built"].pop("phi, psi"), real), 4),
            "real": round(plausible(real, real), 4),
        }
        result["geometry"] = {
            kind: {
                key: {"mean": round(float(x.mean()), 3), "sd": round(float(x.std()), 3)}
                for key, x in facts.items()
            }
            for kind, facts in joined.items()
        }
        result["targets"] = targets
    return result


def main(arguments: list[str] | None = None) -> None:
    """Measure one tokenizer on the sets given; its result is that of its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-512")
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "reconstruction.parquet")
    options = parser.parse_args(arguments)
    tokenizer = protok.load(options.model)
    sets = dict(entry.split("=", 1) for entry in options.set)
    measured = {name: measure(tokenizer, Path(folder), options.seed) for name, folder in sets.items()}
    result = provenance(
        "python -m benchmarks.accuracy.reconstruction " + " ".join(sys.argv[1:]),
        model=tokenizer.name,
        codebook=tokenizer.codebook,
        size=tokenizer.size,
        seed=options.seed,
        sets=measured,
    )
    for name, figures in result["sets"].items():
        print(name, {k: v for k, v in figures.items() if k not in ("targets", "geometry")})
    records.put(options.out, tokenizer.name, result)


if __name__ == "__main__":
    main()
