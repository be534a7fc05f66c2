"""Time from a structure file to backbone arrays: protok beside other readers.

    python -m benchmarks.speed.reading --structures ../shared/files \\
        --entries ../shared/parsing/cross_format -o benchmarks/results/reading.json

Every reader gives the N, CA, C and O coordinates (L, 4, 3) of the protein residues of the
first model. Two sets of files, unpacked: `chains`, PDB files from --structures and their
conversions to mmCIF (by gemmi) and BinaryCIF (by biotite, compressed encodings), made in a
temporary folder; `entries`, whole entries in all three formats from --entries, as they are.
Readers take turns, pass by pass; a figure is residues with a CA per CPU-second (of all
threads), the median of the passes, over the files that the reader reads.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import biotite.structure as struc
import fastpdb
import gemmi
import numpy as np
from biotite.structure.io import pdb, pdbx

import protok
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS
from benchmarks.tables.provenance import digest, provenance, write
from protok.structure.backbone import ATOMS
from protok.structure.io.sources.paths import iter_files

PACKAGES = ("numpy", "biotite", "gemmi", "biopython", "fastpdb", "msgpack")
FORMATS = {"pdb": ".pdb", "mmcif": ".cif", "bcif": ".bcif"}
Reader = Callable[[Path], np.ndarray]


def by_protok(path: Path) -> np.ndarray:
    return protok.read(path).coords


def from_atoms(atoms: struc.AtomArray) -> np.ndarray:
    """Backbone of the amino acids of a biotite array."""
    atoms = atoms[struc.filter_amino_acids(atoms)]
    starts = struc.get_residue_starts(atoms)
    coords = np.full((len(starts), 4, 3), np.nan, np.float32)
    for slot, name in enumerate(ATOMS):
        rows = np.flatnonzero(atoms.atom_name == name)
        coords[np.searchsorted(starts, rows, side="right") - 1, slot] = atoms.coord[rows]
    return coords


def by_biotite_pdb(path: Path) -> np.ndarray:
    return from_atoms(pdb.PDBFile.read(str(path)).get_structure(model=1))


def by_fastpdb(path: Path) -> np.ndarray:
    return from_atoms(fastpdb.PDBFile.read(str(path)).get_structure(model=1))


def by_biotite_mmcif(path: Path) -> np.ndarray:
    return from_atoms(pdbx.get_structure(pdbx.CIFFile.read(str(path)), model=1, use_author_fields=True))


def by_biotite_bcif(path: Path) -> np.ndarray:
    return from_atoms(pdbx.get_structure(pdbx.BinaryCIFFile.read(str(path)), model=1, use_author_fields=True))


def by_gemmi(path: Path) -> np.ndarray:
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    residues = [
        residue
        for chain in structure[0]
        for residue in chain.get_polymer().first_conformer()
        if gemmi.find_tabulated_residue(residue.name).is_amino_acid()
    ]
    coords = np.full((len(residues), 4, 3), np.nan, np.float32)
    for row, residue in zip(coords, residues, strict=True):
        for slot, name in enumerate(ATOMS):
            atom = residue.find_atom(name, "*")
            if atom:
                row[slot] = atom.pos.tolist()
    return coords


def from_biopython(structure) -> np.ndarray:
    """Backbone of the amino acids of a Bio.PDB structure."""
    from Bio.PDB.Polypeptide import is_aa

    residues = [r for r in structure[0].get_residues() if is_aa(r)]
    coords = np.full((len(residues), 4, 3), np.nan, np.float32)
    for row, residue in zip(coords, residues, strict=True):
        for slot, name in enumerate(ATOMS):
            if name in residue:
                row[slot] = residue[name].coord
    return coords


def by_biopython(parser: str) -> Reader:
    import Bio.PDB
    from Bio.PDB.binary_cif import BinaryCIFParser

    kinds = {"BinaryCIFParser": BinaryCIFParser}
    build = kinds[parser] if parser in kinds else lambda: getattr(Bio.PDB, parser)(QUIET=True)

    def read(path: Path) -> np.ndarray:
        structure = build().get_structure("x", str(path))
        # Models are numbered from the file by one parser, from 0 by the others.
        return from_biopython([next(iter(structure))])

    return read


def readers() -> dict[str, dict[str, Reader]]:
    """Readers of each format, by name."""
    return {
        "pdb": {
            "protok": by_protok,
            "fastpdb": by_fastpdb,
            "gemmi": by_gemmi,
            "biotite": by_biotite_pdb,
            "Bio.PDB": by_biopython("PDBParser"),
        },
        "mmcif": {
            "protok": by_protok,
            "gemmi": by_gemmi,
            "biotite": by_biotite_mmcif,
            "Bio.PDB (fast)": by_biopython("FastMMCIFParser"),
        },
        "bcif": {"protok": by_protok, "biotite": by_biotite_bcif, "Bio.PDB": by_biopython("BinaryCIFParser")},
    }


def convert(source: Path, folder: Path) -> None:
    """Write a PDB file as it is and as mmCIF and BinaryCIF."""
    name = protok.structure.io.sources.paths.stem(source)
    plain = folder / f"{name}.pdb"
    data = source.read_bytes()
    plain.write_bytes(gzip.decompress(data) if source.suffix == ".gz" else data)
    structure = gemmi.read_structure(str(plain))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(folder / f"{name}.cif"))
    atoms = pdb.PDBFile.read(str(plain)).get_structure(model=1, extra_fields=["b_factor", "occupancy"])
    binary = pdbx.BinaryCIFFile()
    pdbx.set_structure(binary, atoms, data_block=name)
    # Bio.PDB asks for an entry id.
    binary[name]["entry"] = pdbx.BinaryCIFCategory({"id": name})
    pdbx.compress(binary).write(str(folder / f"{name}.bcif"))


def survey(read: Reader, files: list[Path]) -> tuple[list[Path], int, dict[str, str]]:
    """Files that a reader reads, their residues with a CA, and its failures."""
    good, residues, failures = [], 0, {}
    for path in files:
        try:
            coords = read(path)
        except Exception as error:  # whatever the peer raises is what is recorded
            failures[path.name] = f"{type(error).__name__}: {error}"[:120]
            continue
        good.append(path)
        residues += int(np.isfinite(coords[:, 1]).all(axis=1).sum())
    return good, residues, failures


def measure(kinds: dict[str, Reader], files: list[Path], repeat: int) -> dict[str, dict]:
    """Residues per CPU-second of each reader over the files of one format."""
    surveys = {name: survey(read, files) for name, read in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeat):
        for name, read in kinds.items():
            start = time.process_time()
            for path in surveys[name][0]:
                read(path)
            seconds[name].append(time.process_time() - start)
    results = {}
    for name, (good, residues, failures) in surveys.items():
        median = statistics.median(seconds[name])
        results[name] = {
            "residues_per_cpu_second": round(residues / median) if good else None,
            "residues": residues,
            "files": len(good),
            "failed": len(failures),
            "milliseconds_per_file": round(1000 * median / len(good), 3) if good else None,
            "seconds": [round(s, 4) for s in seconds[name]],
            "failures": dict(list(failures.items())[:3]),
        }
    return results


def sets(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, list[Path], str]]:
    """Yield name, digest of the source, files and origin of each set."""
    sources = [p for p in iter_files(options.structures) if ".pdb" in p.suffixes]
    if not sources:
        sys.exit(f"{options.structures} holds no .pdb or .pdb.gz file")
    sources = random.Random(0).sample(sources, min(options.files, len(sources)))
    for source in sources:
        convert(source, folder)
    origin = "PDB files; mmCIF written from them by gemmi, BinaryCIF by biotite"
    yield "chains", digest(sources), sorted(folder.iterdir()), origin
    if options.entries:
        # Entries that hold protein: a riboswitch has nothing to time.
        names = {p.stem for p in iter_files(options.entries) if p.suffix == ".bcif"} - {"4gxy"}
        files = [p for p in iter_files(options.entries) if p.stem in names]
        yield "entries", digest(files), files, "whole entries as they are"


def main() -> None:
    """Measure all formats and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, required=True, help="folder of PDB files")
    parser.add_argument("--entries", type=Path, help="folder of entries in all three formats")
    parser.add_argument("--files", type=int, default=40, help="PDB files to take (40)")
    parser.add_argument("--repeat", type=int, default=5, help="passes (5)")
    parser.add_argument("-o", "--out", default=RESULTS / "reading.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    results, data = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sha256, files, origin in sets(options, Path(folder)):
            results[name] = {}
            for kind, suffix in FORMATS.items():
                chosen = [path for path in files if path.suffix == suffix]
                results[name][kind] = measure(readers()[kind], chosen, options.repeat)
                line = "  ".join(
                    f"{who} {r['residues_per_cpu_second'] or 'fails'}"
                    for who, r in results[name][kind].items()
                )
                print(f"{name} {kind}: {line}")
            data[name] = {"origin": origin, "sha256": sha256, "files": len(files) // len(FORMATS)}
    command = "python -m benchmarks.speed.reading " + " ".join(sys.argv[1:])
    more = {
        "unit": "residues with a CA per CPU-second of all threads, median of the passes",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),  # above 1 others ran: figures are low, ratios hold
        "passes": options.repeat,
        "data": data,
        "results": results,
    }
    write(options.out, provenance(command, PACKAGES, **more))


if __name__ == "__main__":
    without_traceback(main)
