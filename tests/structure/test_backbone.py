"""Backbone: what it holds, what it refuses, how it is cut."""

from dataclasses import replace

import numpy as np
import pytest

from protok.structure.backbone import ATOMS, Backbone, joined
from protok.testing import exclude, random_backbone


def fields(n, **changed):
    fields = {
        "coords": np.zeros((n, 4, 3), np.float32),
        "sequence": "G" * n,
        "chain": np.full(n, "A"),
        "index": np.arange(n, dtype=np.int32),
        "icode": np.full(n, ""),
        "bfactor": np.zeros(n, np.float32),
    }
    return fields | changed


def test_atoms_in_order():
    assert ATOMS == ("N", "CA", "C", "O")


def test_from_arrays_defaults():
    coords = np.arange(24.0).reshape(2, 4, 3)
    backbone = Backbone.from_arrays(coords)
    assert backbone.coords.dtype == np.float32 and np.array_equal(backbone.coords, coords)
    assert backbone.sequence == "XX" and backbone.name == ""
    assert backbone.chain.tolist() == ["A", "A"] and backbone.icode.tolist() == ["", ""]
    assert backbone.index.tolist() == [1, 2] and backbone.index.dtype == np.int32
    assert np.isnan(backbone.bfactor).all() and backbone.bfactor.dtype == np.float32


@pytest.mark.parametrize("value", [0.0, np.nan, 9999.0, -9999.0, 9999.999, 1e30, np.inf])
@pytest.mark.parametrize("atoms", [3, 4])
def test_padding_is_missing(value, atoms):
    real = random_backbone(9, seed=4).coords[:, :atoms]
    padded = np.concatenate([real, np.full((5, atoms, 3), value)])
    backbone = Backbone.from_arrays(padded)
    assert backbone.mask.tolist() == [True] * 9 + [False] * 5
    assert np.array_equal(backbone.coords[:9, :atoms], real)
    whole = replace(random_backbone(14, seed=4), coords=np.pad(real, [(0, 5), (0, 4 - atoms), (0, 0)]))
    assert whole.mask.sum() == 9


def test_what_only_looks_like_padding_stays():
    coords = np.arange(36.0).reshape(3, 4, 3)  # its first atom lies at the origin, and may
    coords[0, 0] = 0
    coords[1, 0] = 9999, 9999, 3
    coords[2] += 20_000
    assert np.array_equal(Backbone.from_arrays(coords).coords, coords.astype(np.float32))
    coords[1, 3] = 0  # no two atoms lie in one place
    assert np.isnan(Backbone.from_arrays(coords).coords).all(axis=2).sum() == 2


def test_from_arrays_without_oxygen():
    backbone = Backbone.from_arrays(np.ones((3, 3, 3)), "ACD", chain=np.array(["A", "B", "B"]))
    assert np.isnan(backbone.coords[:, 3]).all() and np.isfinite(backbone.coords[:, :3]).all()
    assert backbone.mask.all()
    assert backbone.chains == ["A", "B"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"coords": np.zeros((3, 3, 3))}, r"coords of 3 residues must have shape \(3, 4, 3\)"),
        ({"coords": np.zeros((2, 4, 3))}, r"not \(2, 4, 3\)"),
        ({"chain": np.full(2, "A")}, "chain has 2 entries for 3 residues"),
        ({"index": np.arange(4)}, "index has 4 entries for 3 residues"),
        ({"icode": np.full(0, "")}, "icode has 0 entries for 3 residues"),
        ({"bfactor": np.zeros(1)}, "bfactor has 1 entries for 3 residues"),
    ],
)
def test_lengths_must_agree(changed, message):
    with pytest.raises(ValueError, match=message):
        Backbone(**fields(3, **changed))


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 2), (5, 5, 3)])
def test_from_arrays_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="shape"):
        Backbone.from_arrays(np.zeros(shape))


def test_mask_needs_n_ca_and_c():
    backbone = random_backbone(6)
    for residue, atom in enumerate((0, 1, 2, 3)):
        backbone = exclude(backbone, residue, atoms=atom)
    assert backbone.mask.tolist() == [False, False, False, True, True, True]


def test_selection_keeps_all_fields_together():
    backbone = joined([random_backbone(4, 1), random_backbone(3, 2, chain="B")])
    for key in (slice(2, 6), np.array([5, 0, 3]), backbone.chain == "B", [1, -1]):
        rows = np.arange(7)[key]
        cut = backbone[key]
        assert len(cut) == len(rows)
        assert cut.sequence == "".join(backbone.sequence[i] for i in rows)
        for name in ("coords", "chain", "index", "icode", "bfactor"):
            assert np.array_equal(getattr(cut, name), getattr(backbone, name)[rows])
        assert cut.name == backbone.name
    assert len(backbone[:0]) == 0 and backbone[:0].chains == []


def test_selection_of_one_residue_by_number_is_refused():
    with pytest.raises(TypeError, match="slice, mask or list"):
        random_backbone(4)[2]


def test_split_gives_chains_in_order_of_appearance():
    backbone = joined([random_backbone(3, 1, chain="B"), random_backbone(2, 2, chain="A")])
    # A residue of the first chain that the file lists last still belongs to it.
    backbone = joined([backbone, random_backbone(1, 3, chain="B")])
    assert backbone.chains == ["B", "A"]
    first, second = backbone.by_chain()
    assert (len(first), len(second)) == (4, 2)
    assert set(first.chain) == {"B"} and set(second.chain) == {"A"}
    assert np.array_equal(first.coords, backbone.coords[[0, 1, 2, 5]])


def test_repr():
    backbone = exclude(joined([random_backbone(3, 1), random_backbone(2, 2, chain="B")]), 1)
    assert repr(backbone) == "Backbone(random1, 5 residues, chains A,B, 1 incomplete)"
    assert repr(Backbone.from_arrays(np.ones((1, 4, 3)))) == ("Backbone(unnamed, 1 residues, chains A)")


def test_is_frozen():
    with pytest.raises(AttributeError):
        random_backbone(2).name = "other"
