"""A store of the bundled examples and a changed copy of one, with what is known of the first."""

import csv

import numpy as np
import pytest

import protok
from protok.structure.backbone import AMINO_ACIDS, Backbone
from protok.structure.io.sources.paths import iter_files
from protok.structure.store import read_store, write_store


@pytest.fixture
def folder(examples, tmp_path):
    chains = [protok.read(path) for path in sorted(iter_files([examples]))]
    longest = max(chains, key=len)
    cut = longest[10:]
    noise = np.random.default_rng(0).normal(0, 0.3, cut.coords.shape).astype(np.float32)
    # A third of the residues changed, so that it is no copy.
    letters = "".join("G" if i % 3 == 0 else letter for i, letter in enumerate(cut.sequence))
    chains.append(Backbone.from_arrays(cut.coords + noise, letters, name="relative"))
    write_store(chains, tmp_path / "train.parquet")
    store = read_store(tmp_path / "train.parquet")
    with (tmp_path / "manifest.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [("id", "split", "cluster30"), *((id, "train", f"c{n}") for n, id in enumerate(store.ids))]
        )
    length = len(store.sequence[0])
    profile = np.zeros((length, 20), np.uint16)
    profile[1:, AMINO_ACIDS.index("W")] = 10_000
    numbers = {"accessibility": np.full(length, 64, np.uint16), "depth": np.full(length, 16, np.uint16)}
    letters = np.full(length, b"H")
    np.savez(
        tmp_path / "train.extras.npz",
        id=store.ids[:1],
        length=[length],
        profile=profile,
        dssp=letters,
        **numbers,
    )
    return tmp_path
