"""Fixtures: where the real data lies, and the skip that says so when it does not."""

import os
import sys
from pathlib import Path

# Of tests that run side by side none takes all cores, and the tensors here are too small for two.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
# For what is not installed: tests.helpers, benchmarks, recipes. Last, so that `protok` is the one
# that is installed, with the files that it then has.
sys.path.append(str(ROOT))

import numpy as np
import pytest
from jaxtyping import install_import_hook

import protok

# Shapes and dtypes in the signatures of tensor code are checked in tests, and only there.
SHAPED = ("structure.geometry", "structure.poses", "quantize", "image.network", "model")
install_import_hook([f"protok.{name}" for name in SHAPED], "beartype.beartype")

from protok import testing  # after the hook, which must see every import


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the project's data folder: `-m "not data"` leaves it out."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)


@pytest.fixture(scope="session")
def shared():
    """Return a function from a relative path to the shared data, or skip."""
    base = ROOT.parent / "shared"

    def find(relative: str = ".") -> Path:
        path = base / relative
        if not path.exists():
            pytest.skip(f"needs the project's data folder: {relative} is not beside the repository")
        return path

    return find


@pytest.fixture(scope="session")
def examples() -> Path:
    """Folder of the bundled example structures."""
    return ROOT / "data"


@pytest.fixture
def pieces(examples, tmp_path):
    """Return a function that writes n structures of 20 residues, s0.pdb (of many s00.pdb) on."""

    def write(n: int) -> Path:
        folder = tmp_path / "pdbs"
        folder.mkdir()
        backbone = protok.read(examples / "7w89.A.pdb")
        for i in range(n):
            name = f"s{i:0{len(str(n - 1))}}.pdb"
            protok.write(backbone[5 * i : 5 * i + 20], folder / name)
        return folder

    return write


@pytest.fixture(scope="session")
def frame_and_hand():
    """Return a check that embeddings do not follow a motion, and do follow the mirror image."""

    def check(embed, chain, *, same: float, apart: float) -> None:
        states = embed(chain)
        rotation = np.eye(3)[[2, 0, 1]]
        turned = embed(testing.moved(chain, rotation, (30.0, 30.0, 30.0)))
        np.testing.assert_allclose(turned, states, atol=same)
        assert np.nanmax(np.abs(embed(testing.mirrored(chain)) - states)) > apart

    return check
