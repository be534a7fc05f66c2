"""Make metrics_scores.json and metrics_pairs.npz: scores by other programs, to compare with.

    python tests/golden/metrics_make.py ../shared

TM-score by TM-align (tmtools), kept only where its alignment is the identity, so that it is
the score of the known correspondence; RMSD by Bio.SVDSuperimposer; CA lDDT by
biotite.structure.lddt. Pairs: chains of StructTokenBench's apo/holo set (PDB entries, CC0),
and models made of them by noise and by a bend in the middle.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tmtools
from Bio.SVDSuperimposer import SVDSuperimposer
from biotite.structure import AtomArray, lddt

HERE = Path(__file__).parent
SEED = 20


def chains(shared: Path) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    base = shared / "structtokenbench"
    table = pd.read_parquet(base / "sensitivity.parquet").set_index("id")
    pairs = pd.read_parquet(base / "sensitivity_pairs.parquet")

    def ca(key: str) -> np.ndarray:
        xyz = np.array(table.xyz[key], np.float32).reshape(-1, 4, 3)[:, 1]
        return np.where(xyz == -32768, np.nan, xyz / 100).astype(np.float32)

    chosen = []
    for row in pairs.itertuples():
        if row.file1 in table.index and row.file2 in table.index:
            sequence = table.seq[row.file1]
            if sequence == table.seq[row.file2]:
                chosen.append((f"{row.id1}-{row.id2}", ca(row.file1), ca(row.file2), sequence))
    return chosen


def bent(x: np.ndarray, degrees: float) -> np.ndarray:
    """The second half turned about its first atom."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    half = len(x) // 2
    y = x.copy()
    y[half:] = (x[half:] - x[half]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + x[half]
    return y.astype(np.float32)


def atoms(x: np.ndarray) -> AtomArray:
    array = AtomArray(len(x))
    array.coord = x
    array.res_id = np.arange(len(x))
    array.atom_name[:] = "CA"
    return array


def main(shared: Path) -> None:
    rng = np.random.default_rng(SEED)
    real = [pair for pair in chains(shared) if np.isfinite(pair[1]).all() and len(pair[1]) < 260]
    candidates = list(real)
    for name, x, _, sequence in real[:6]:
        for sigma in (0.5, 2.0):
            noisy = (x + rng.normal(0, sigma, x.shape)).astype(np.float32)
            candidates.append((f"{name[:6]}-noise-{sigma}", noisy, x, sequence))
        candidates.append((f"{name[:6]}-bent-20", bent(x, 20.0), x, sequence))
    scores, arrays = {}, {}
    for name, x, y, sequence in candidates:
        result = tmtools.tm_align(x.astype(float), y.astype(float), sequence, sequence)
        if "-" in result.seqxA + result.seqyA:
            continue
        kind = name.split("-")[1] if "noise" in name or "bent" in name else "real"
        if sum(entry["kind"] == kind for entry in scores.values()) >= 3:
            continue
        superimposer = SVDSuperimposer()
        superimposer.set(y.astype(float), x.astype(float))
        superimposer.run()
        scores[name] = {
            "kind": kind,
            "n": len(x),
            "tm_align": round(result.tm_norm_chain2, 6),
            "rmsd": round(float(superimposer.get_rms()), 6),
            "lddt": round(float(lddt(atoms(y), x)), 6),
            "lddt_of_residues": lddt(atoms(y), x, aggregation="residue").round(5).tolist(),
        }
        arrays[f"{name}/model"], arrays[f"{name}/reference"] = x, y
    np.savez_compressed(HERE / "metrics_pairs.npz", **arrays)
    (HERE / "metrics_scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    for name, entry in scores.items():
        print(name, {key: entry[key] for key in ("n", "tm_align", "rmsd", "lddt")})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
