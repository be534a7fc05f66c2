"""Write baselines_*.npz: atoms of PDB entries (CC0) beside the letters that others published.

    python baselines_make.py PBXPLORE CROSS_FORMAT I3D_FASTA

PBXPLORE      unpacked source archive of pbxplore 1.4.0 (MIT), from PyPI: structures and *.PB.fasta
              of its own regression tests.
CROSS_FORMAT  folder with 1dix.pdb, 3o5r.pdb, 5h73.pdb, 5ugo.pdb.
I3D_FASTA     tests/structure/data/alphabet/i3d.fasta of biotite (BSD-3): letters that Foldseek
              itself gave for those entries. `foldseek createdb` takes real CB atoms, so they are
              stored with N, CA and C; -999999 where there is none.

Both programs take the last alternate location of an atom, so that is stored.
Arrays: name, letters, length (one a chain), xyz (residues of all chains, atoms, 3) in 0.001 Å.
"""

import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def fasta(path):
    records = re.findall(r">(.*)\n([^>]+)", Path(path).read_text())
    return {header.strip(): "".join(body.split()) for header, body in records}


def atoms(path, chain, model, names):
    """Residues (number and insertion code) that have a CA, in file order."""
    residues, current = {}, 1
    for line in Path(path).read_text().splitlines():
        if line.startswith("MODEL"):
            current = int(line.split()[1])
        name = line[12:16].strip()
        protein = line.startswith("ATOM") or line[17:20] == "MSE"
        if protein and line[21] == chain and current == model and name in names:
            residue = residues.setdefault(line[22:27], {})
            residue[name] = [float(line[at : at + 8]) for at in (30, 38, 46)]
    rows = [[r.get(name, [-999.999] * 3) for name in names] for r in residues.values() if "CA" in r]
    return np.rint(np.array(rows) * 1000).astype(np.int32)


def write(path, records):
    names, letters, xyz = zip(*records, strict=True)
    for name, word, chain in records:
        if len(word) != len(chain):
            raise SystemExit(f"{name}: {len(word)} letters for {len(chain)} residues")
    np.savez_compressed(
        path,
        name=np.array(names),
        letters=np.array(letters),
        length=np.array([len(chain) for chain in xyz]),
        xyz=np.concatenate(xyz),
    )


pbxplore, cross_format, i3d = map(Path, sys.argv[1:])
blocks = []
for entry in ("1BTA", "1AY7", "3ICH", "2LFU"):
    file = pbxplore / "pbxplore/tests/test_data" / f"{entry}.pdb"
    for header, word in fasta(f"{file}.PB.fasta").items():
        model = re.search(r"model (\d+)", header)
        number = int(model[1]) if model else 1
        name = f"{entry}_{header[-1]}" + (f"_model{number}" if model else "")
        xyz = atoms(file, header[-1], number, ("N", "CA", "C"))
        blocks.append((name, word, xyz))
write(HERE / "baselines_protein_blocks.npz", blocks)

published = {header.split()[0]: word for header, word in fasta(i3d).items()}
letters = []
for name in ("1dix_A", "3o5r_A", "5h73_A", "5ugo_A"):
    xyz = atoms(cross_format / f"{name[:4]}.pdb", name[-1], 1, ("N", "CA", "C", "CB"))
    letters.append((name, published[name], xyz))
write(HERE / "baselines_3di.npz", letters)
