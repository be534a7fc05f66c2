"""Damaged bytes give a Backbone or a ProtokError, never anything else and never a hang."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protok.errors import ProtokError
from protok.structure.io.read import read
from tests.helpers.io_files import chain, cif_rows, cif_text, residue
from tools.fuzz_edits import EXTREMES, PIECES

LETTERS = set("ACDEFGHIKLMNPQRSTVWYXUOBZ")
LINES = [
    "MODEL        1",
    *chain("GLY MSE", record="HETATM"),
    *residue("SER", 3, alt="A", occupancy="0.40"),
    *residue("THR", 3, alt="B", occupancy="0.60"),
    *chain("ALA VAL", 4),
    "TER",
    *chain("TRP TYR", chain="B"),
    "ENDMDL",
    "END",
]


def sources(shared_file):
    yield "pdb", ("\n".join(LINES) + "\n").encode()
    yield "cif", cif_text(cif_rows(), head="data_x\n#\n", tail="#\n").encode()
    yield "gz", gzip.compress("\n".join(LINES).encode())
    if shared_file:
        yield "bcif", shared_file.read_bytes()


@pytest.mark.parametrize("kind", ["pdb", "cif", "gz", "bcif"])
def test_mutations(request, tmp_path, kind):
    file = None
    if kind == "bcif":
        file = request.getfixturevalue("shared")("parsing/real/molstar__1cbs_full.bcif")
    data = dict(sources(file))[kind]
    assert len(check(tmp_path, data)) > 0
    edit = st.tuples(
        st.integers(0, len(data)),
        st.sampled_from([0, 0, 1, 1, 2, 7, 80, 500]),
        st.one_of(st.sampled_from([*PIECES, *EXTREMES]), st.binary(min_size=1, max_size=4)),
    )

    @settings(
        max_examples=150,
        deadline=5000,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(edit, min_size=1, max_size=6), st.sampled_from(["error", "keep"]))
    def mutate(edits, truncated):
        mutant = bytearray(data)
        for at, length, piece in edits:
            mutant[at : at + length] = piece
        check(tmp_path, bytes(mutant), truncated=truncated)

    mutate()


@pytest.mark.parametrize("kind", ["pdb", "cif", "gz"])
def test_every_cut(tmp_path, kind):
    data = dict(sources(None))[kind]
    for end in range(0, len(data), 7):
        check(tmp_path, data[:end])


def check(folder, data, **options):
    path = folder / "x.pdb"
    path.write_bytes(data)
    try:
        s = read(path, **options)
    except ProtokError as error:
        assert error.cause and str(path) in str(error)
        return ""
    assert len(s) > 0 and set(s.sequence) <= LETTERS
    assert np.isfinite(s.coords).any() and np.isfinite(s.coords[s.mask][:, :3]).all()
    return s.sequence
