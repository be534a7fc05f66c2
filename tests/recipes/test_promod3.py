"""Chains of ProMod3's data, from a piece of the real file: its first two short chains that are used."""

import io
import lzma
import tarfile

import numpy as np
import pytest

from protok.structure.store import read_store
from recipes.promod3 import EXTRAS, MEMBER, StructureDB, build, chains, unpacked
from tests.helpers.paths import ROOT

PIECE = ROOT / "tests" / "golden" / "structure_db.dat"


@pytest.fixture(scope="module")
def db():
    return StructureDB.parse(unpacked(PIECE))


def test_the_chains_are_those_of_the_pdb(db):
    assert [entry.id for entry in db.entries] == ["1BHP_A_1", "1F9F_B_2"]
    # UniProt P01545, alpha-purothionin.
    assert db.letters[db.entries[0].rows] == "KSCCKSTLGRNCYNLCRARGAQKLCANVCRCKLTSGLSCPKDFPK"
    assert set(b"".join(db.arrays["dssp"].ravel().tolist())) <= set(b"HBEGITSC")
    assert np.allclose(db.arrays["profile"].sum(1), 10_000, atol=12)


def test_dihedrals_are_those_that_promod3_has_computed(db):
    for entry in db.entries:
        n, ca, c, _ = (db.coords(entry) / 100).transpose(1, 0, 2)
        phi = dihedral(c[:-1], n[1:], ca[1:], c[1:])
        psi = dihedral(n[:-1], ca[:-1], c[:-1], n[1:])
        theirs = db.arrays["dihedrals"][entry.rows] / 1000
        for mine, other in ((phi, theirs[1:, 0]), (psi, theirs[:-1, 1])):
            # Coordinates are rounded to hundredths of an Å.
            assert np.abs(np.angle(np.exp(1j * (mine - other)))).max() < 0.03


def dihedral(a, b, c, d):
    """In radians, of four points (n, 3)."""
    axis = (c - b) / np.linalg.norm(c - b, axis=1, keepdims=True)
    v, w = (x - (x * axis).sum(1, keepdims=True) * axis for x in (a - b, d - c))
    return np.arctan2((np.cross(axis, v) * w).sum(1), (v * w).sum(1))


def test_a_store_with_extras_beside_it(db, tmp_path):
    build(db, tmp_path)
    store = read_store(tmp_path / "train.parquet")
    assert store.ids == ["1BHP_A_1", "1F9F_B_2"] and store.lengths().tolist() == [45, 40]
    assert all(store.cluster)
    steps = np.linalg.norm(np.diff(store.coords(0)[:, 1], axis=0), axis=1)
    assert np.abs(steps - 3.8).max() < 0.1
    extras = np.load(tmp_path / "train.extras.npz")
    assert extras["length"].tolist() == [45, 40] and extras["id"].tolist() == store.ids
    for name in EXTRAS:
        assert (extras[name] == db.arrays[name].squeeze()).all()


def test_chains_that_are_alike_to_tested_ones_are_left_out():
    used = chains("promod3")
    assert len(used) == 12_175 and len(chains("train")) == 3_678
    # Of `../shared/structures/exclude.tsv`: alike to folds that search is tested on.
    assert not {"16VP_A_1", "1A59_A_2", "1A5Z_A_82", "1A78_A_1"} & set(used)


def test_a_debian_package_is_unpacked(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.add(PIECE, f"./usr/share/promod3/loop_data/{MEMBER}")
    data = lzma.compress(raw.getvalue())
    package = tmp_path / "x.deb"
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        head = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        parts += [head.encode(), content, b"\n" * (len(content) % 2)]
    package.write_bytes(b"".join(parts))
    assert unpacked(package) == PIECE.read_bytes()


def test_another_version_and_a_cut_file_are_refused():
    data = PIECE.read_bytes()
    with pytest.raises(ValueError, match="version 2"):
        StructureDB.parse(data[:4] + b"\3" + data[5:])
    with pytest.raises(ValueError):
        StructureDB.parse(data[:-10])
    with pytest.raises(ValueError, match="10 bytes too many"):
        StructureDB.parse(data + bytes(10))
