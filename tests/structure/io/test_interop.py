"""Backbones to and from biotite, Bio.PDB and PyG, and what as_backbone takes."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from protok.errors import FormatError, NoProtein, Unsupported
from protok.structure.backbone import Backbone, joined
from protok.structure.io import interop
from protok.structure.io.interop import as_backbone
from protok.testing import exclude, random_backbone

# PyG uses torch.jit.script on import, which torch 2.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

FIELDS = ("chain", "index", "icode", "bfactor")


def difficult() -> Backbone:
    """Chains with long ids, gaps, negative numbers, insertion codes and missing atoms."""
    first = replace(
        random_backbone(12, 1),
        index=np.array([-3, -2, 5, 5, 5, 6, 7, 30, 31, 32, 33, 1999], np.int32),
        icode=np.array(["", "", "", "A", "B", "", "", "", "", "", "", "Z"]),
        sequence="MXUOACDEFGHW",
    )
    first = exclude(exclude(exclude(first, 3), 6, atoms=1), 9, atoms=[0, 3])
    # Unknown residues without CA, without anything, at the end of a chain.
    second = exclude(exclude(random_backbone(6, 2, chain="AA-2"), 0, atoms=1), [2, 5])
    return replace(joined([first, replace(second, sequence="XAXCDX")]), name="difficult")


def assert_same(a: Backbone, b: Backbone, coords: float = 0.0) -> None:
    assert a.sequence == b.sequence
    assert np.array_equal(np.isnan(a.coords), np.isnan(b.coords))
    np.testing.assert_allclose(a.coords, b.coords, rtol=0, atol=coords)
    for key in FIELDS:
        np.testing.assert_array_equal(getattr(a, key), getattr(b, key), err_msg=key)
    assert a.coords.dtype == b.coords.dtype == np.float32
    assert a.index.dtype == b.index.dtype == np.int32


def biotite_array(rows, **annotations):
    """An AtomArray of (chain, number, icode, residue, atom, hetero, xyz) rows."""
    from biotite.structure import Atom, array

    atoms = array(
        [
            Atom(xyz, chain_id=c, res_id=n, ins_code=i, res_name=r, atom_name=a, hetero=h)
            for c, n, i, r, a, h, xyz in rows
        ]
    )
    for key, value in annotations.items():
        atoms.set_annotation(key, np.asarray(value))
    return atoms


def residue(name, number, *, chain="A", icode="", hetero=False, atoms=("N", "CA", "C", "O"), at=0):
    return [
        (chain, number, icode, name, atom, hetero, [at + i, 0.5 * i, number]) for i, atom in enumerate(atoms)
    ]


def needs(library: str) -> None:
    """Skip where it is not installed."""
    module = {"biotite": "biotite", "biopython": "Bio", "pyg": "torch_geometric"}[library]
    pytest.importorskip(module, reason="needs the extra: pip install 'protok[interop]'")


# There and back -----------------------------------------------------------------------


@pytest.mark.parametrize("library", ["biotite", "biopython", "pyg"])
@pytest.mark.parametrize("make", [difficult, lambda: random_backbone(30, 3)])
def test_there_and_back(library, make):
    needs(library)
    backbone = make()
    there = getattr(interop, f"to_{library}")(backbone)
    back = getattr(interop, f"from_{library}")(there)
    assert_same(back, backbone)
    # A CA that is missing is NaN in the first two libraries, which the reader remarks upon.
    marked = np.isnan(backbone.coords[:, 1, 0]).any() and library != "pyg"
    assert len(back.notes) == int(marked)
    if library != "biotite":
        assert back.name == backbone.name
    assert_same(as_backbone(there), backbone)


@pytest.mark.parametrize("library", ["biotite", "biopython", "pyg"])
def test_no_bfactors_stay_none(library):
    needs(library)
    backbone = replace(random_backbone(4), bfactor=np.full(4, np.nan, np.float32))
    there = getattr(interop, f"to_{library}")(backbone)
    assert np.isnan(getattr(interop, f"from_{library}")(there).bfactor).all()


def test_to_biotite_gives_what_biotite_expects():
    from biotite.structure import get_chains, to_sequence

    backbone = joined([random_backbone(5, 1), random_backbone(4, 2, chain="B")])
    backbone = exclude(backbone, 2, atoms=3)
    array = interop.to_biotite(backbone)
    assert array.array_length() == 4 * 9 - 1 and np.isfinite(array.coord).all()
    assert get_chains(array).tolist() == ["A", "B"]
    assert "".join(str(s) for s in to_sequence(array)[0]) == backbone.sequence
    assert set(array.element) == {"N", "C", "O"} and not array.hetero.any()
    assert array.b_factor[0] == pytest.approx(float(backbone.bfactor[0]))
    no_bfactor = replace(backbone, bfactor=np.full(9, np.nan, np.float32))
    assert "b_factor" not in interop.to_biotite(no_bfactor).get_annotation_categories()


def test_to_biotite_writes_as_pdb(tmp_path):
    from biotite.structure.io.pdb import PDBFile

    backbone = joined([random_backbone(20, 4), random_backbone(7, 5, chain="B")])
    file = PDBFile()
    file.set_structure(interop.to_biotite(backbone))
    file.write(tmp_path / "x.pdb")
    read = PDBFile.read(tmp_path / "x.pdb").get_structure(model=1, extra_fields=["b_factor"])
    back = interop.from_biotite(read)
    assert back.sequence == backbone.sequence and np.array_equal(back.chain, backbone.chain)
    np.testing.assert_allclose(back.coords, backbone.coords, atol=6e-4)
    np.testing.assert_allclose(back.bfactor, backbone.bfactor, atol=6e-3)


def test_to_biopython_writes_as_pdb(tmp_path):
    needs("biopython")
    from Bio.PDB import PDBIO, PDBParser

    backbone = joined([random_backbone(20, 4), random_backbone(7, 5, chain="B")])
    writer = PDBIO()
    writer.set_structure(interop.to_biopython(backbone))
    writer.save(str(tmp_path / "x.pdb"))
    structure = PDBParser(QUIET=True).get_structure("x", tmp_path / "x.pdb")
    back = interop.from_biopython(structure)
    assert back.sequence == backbone.sequence and back.name == "x"
    np.testing.assert_allclose(back.coords, backbone.coords, atol=6e-4)
    chain = as_backbone(structure[0]["B"])
    assert chain.sequence == backbone.sequence[20:] and chain.chains == ["B"]
    assert chain.name == "x"
    assert_same(as_backbone(structure[0]), back)


def test_coordinates_are_copied():
    needs("biopython")
    needs("pyg")
    backbone = random_backbone(3)
    before = backbone.coords.copy()
    interop.to_biotite(backbone).coord[:] = 0
    for atom in interop.to_biopython(backbone).get_atoms():
        atom.coord[:] = 0
    data = interop.to_pyg(backbone)
    data.pos.zero_()
    data.index[:] = 0
    assert np.array_equal(backbone.coords, before) and backbone.index.tolist() == [1, 2, 3]


@pytest.mark.parametrize("library", ["biotite", "biopython"])
def test_a_number_used_twice_is_refused_not_merged(library):
    needs(library)
    backbone = replace(random_backbone(3), index=np.array([1, 2, 2], np.int32), name="double")
    with pytest.raises(Unsupported, match="double, chain A: two residues .*number 2;.*apart"):
        getattr(interop, f"to_{library}")(backbone)


# What counts as protein ---------------------------------------------------------------


def test_from_biotite_takes_protein_and_says_what_it_left():
    rows = (
        residue("MSE", 1, hetero=True)
        + residue("LYS", 2, atoms=("N", "CA", "C"), at=2)
        + residue("DA", 1, chain="D", atoms=("P", "C1'"))
        + residue("HEM", 200, chain="A", hetero=True, atoms=("FE", "NA"), at=50)
        + residue("CA", 201, chain="A", hetero=True, atoms=("CA",), at=60)
        + residue("HOH", 300, chain="A", hetero=True, atoms=("O",), at=70)
    )
    backbone = interop.from_biotite(biotite_array(rows), name="x")
    assert backbone.sequence == "MK" and backbone.index.tolist() == [1, 2]
    assert backbone.name == "x" and backbone.notes == ("1 nucleic chain skipped",)
    assert backbone.mask.all() and np.isnan(backbone.coords[1, 3]).all()


def test_from_biotite_chooses_conformers_by_occupancy():
    rows = residue("GLY", 1) + residue("SER", 2, at=1) + residue("SER", 2, at=9)
    array = biotite_array(
        rows, altloc_id=[""] * 4 + ["A"] * 4 + ["B"] * 4, occupancy=[1.0] * 4 + [0.3] * 4 + [0.7] * 4
    )
    backbone = interop.from_biotite(array)
    assert backbone.sequence == "GS" and backbone.coords[1, 0, 0] == 9.0
    array.occupancy = 1 - array.occupancy
    assert interop.from_biotite(array).coords[1, 0, 0] == 1.0


def test_from_biotite_insertion_codes_and_neighbours_of_one_name():
    rows = residue("GLY", 7) + residue("GLY", 7, icode="A") + residue("GLY", 8)
    backbone = interop.from_biotite(biotite_array(rows))
    assert backbone.index.tolist() == [7, 7, 8] and backbone.icode.tolist() == ["", "A", ""]


def test_from_biotite_refuses_stacks_and_arrays_without_protein():
    from biotite.structure import stack

    array = biotite_array(residue("GLY", 1))
    with pytest.raises(Unsupported, match=r"AtomArrayStack of 2 models; give .*stack\[0\]"):
        as_backbone(stack([array, array]))
    with pytest.raises(NoProtein, match="x: holds no protein"):
        interop.from_biotite(biotite_array(residue("HOH", 1, atoms=("O",), hetero=True)), "x")
    with pytest.raises(NoProtein):
        interop.from_biotite(array[:0])


PDB = """\
ATOM      1  N   GLY A   1       0.000   1.000   0.000  1.00 10.00           N
ATOM      2  CA AGLY A   1       1.000   0.000   0.000  0.40 11.00           C
ATOM      3  CA BGLY A   1       1.500   0.000   0.000  0.60 12.00           C
ATOM      4  C   GLY A   1       2.000   0.000   0.000  1.00 13.00           C
ATOM      5  N  ASER A   2       3.000   0.000   0.000  0.70 20.00           N
ATOM      6  CA ASER A   2       4.000   0.000   0.000  0.70 21.00           C
ATOM      7  C  ASER A   2       5.000   0.000   0.000  0.70 22.00           C
ATOM      8  N  BTHR A   2       3.000   1.000   0.000  0.30 23.00           N
ATOM      9  CA BTHR A   2       4.000   1.000   0.000  0.30 24.00           C
ATOM     10  C  BTHR A   2       5.000   1.000   0.000  0.30 25.00           C
HETATM   11  N   MSE A   3       6.000   0.000   0.000  1.00 30.00           N
HETATM   12  CA  MSE A   3       7.000   0.000   0.000  1.00 31.00           C
HETATM   13  C   MSE A   3       8.000   0.000   0.000  1.00 32.00           C
HETATM   14 SE   MSE A   3       8.000   3.000   0.000  1.00 33.00          SE
HETATM   15  O   HOH A 101      20.000   3.000   0.000  1.00 33.00           O
"""


def test_from_biopython_alternatives_modified_residues_and_water(tmp_path):
    needs("biopython")
    from Bio.PDB import PDBParser

    path = tmp_path / "alt.pdb"
    path.write_text(f"MODEL        1\n{PDB}ENDMDL\nMODEL        2\n{PDB}ENDMDL\nEND\n")
    structure = PDBParser(QUIET=True).get_structure("alt", path)
    backbone = interop.from_biopython(structure)
    assert backbone.sequence == "GSM" and backbone.index.tolist() == [1, 2, 3]
    assert backbone.coords[:, 1, 0].tolist() == [1.5, 4.0, 7.0]
    assert backbone.bfactor.tolist() == [12.0, 21.0, 31.0]
    assert backbone.notes[0] == "model 1 read, others left out"
    # Bio.PDB ends with the kind that was read last; occupancy decides nevertheless.
    structure[0]["A"][2].disordered_select("THR")
    assert interop.from_biopython(structure).sequence == "GSM"
    assert_same(interop.from_biopython(structure, model=2), backbone)
    with pytest.raises(FormatError, match="alt: holds 2 models, not 3"):
        interop.from_biopython(structure, model=3)


def test_from_biopython_refuses_residues_and_empty_structures():
    needs("biopython")
    from Bio.PDB.Structure import Structure

    structure = interop.to_biopython(random_backbone(3))
    with pytest.raises(TypeError, match="Bio.PDB Residue: give a Structure, Model or Chain"):
        as_backbone(structure[0]["A"][1])
    with pytest.raises(FormatError, match="holds 0 models"):
        as_backbone(Structure("empty"))
    with pytest.raises(NoProtein):
        model = structure[0]
        model.detach_child("A")
        as_backbone(model)


# PyG ----------------------------------------------------------------------------------


def test_pyg_fields():
    needs("pyg")
    import torch

    backbone = exclude(random_backbone(5, 6), 3, atoms=0)
    data = interop.to_pyg(backbone)
    assert data.pos.shape == (5, 4, 3) and data.pos.dtype == torch.float32
    assert data.mask.tolist() == [True, True, True, False, True]
    assert data.num_nodes == 5 and data.sequence == backbone.sequence


def test_pyg_batches_keep_numbers():
    needs("pyg")
    from torch_geometric.data import Batch

    backbones = [random_backbone(5, 1), difficult()]
    batch = Batch.from_data_list([interop.to_pyg(b) for b in backbones])
    assert batch.pos.shape == (5 + len(backbones[1]), 4, 3)
    for data, backbone in zip(batch.to_data_list(), backbones, strict=True):
        assert_same(as_backbone(data), backbone)
    with pytest.raises(Unsupported, match="batch of graphs; give its graphs"):
        as_backbone(batch)


def test_pyg_of_coordinates_only():
    needs("pyg")
    import torch
    from torch_geometric.data import Data

    backbone = as_backbone(Data(pos=torch.ones(4, 3, 3, requires_grad=True)))
    assert backbone.sequence == "XXXX" and backbone.index.tolist() == [1, 2, 3, 4]
    assert backbone.mask.all() and np.isnan(backbone.coords[:, 3]).all()
    tensors = Data(pos=torch.ones(2, 4, 3), index=torch.tensor([7, 9]), chain="B", sequence="AC")
    backbone = as_backbone(tensors)
    assert backbone.index.tolist() == [7, 9] and backbone.chain.tolist() == ["B", "B"]


@pytest.mark.parametrize("name", ["protok-1", "3di", "protein-blocks"])
def test_pyg_padding_has_no_codes(name):
    needs("pyg")
    import torch
    from torch_geometric.data import Data

    import protok

    tokenizer, backbone = protok.load(name), random_backbone(40, seed=3)
    expected = tokenizer.encode(backbone).ids.tolist()
    data = Data(pos=torch.cat([torch.tensor(backbone.coords), torch.zeros(9, 4, 3)]))
    for tokens in (tokenizer.encode(data), *tokenizer.encode_batch([data, data])):
        assert tokens.ids.tolist() == expected + [-1] * 9


def test_pyg_in_bfloat16():
    needs("pyg")
    import torch
    from torch_geometric.data import Data

    data = interop.to_pyg(random_backbone(3))
    data.bfactor = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)
    assert as_backbone(data).bfactor.tolist() == [1, 2, 3]
    with pytest.raises(Unsupported, match="pos is in bfloat16.*give it in float32"):
        as_backbone(Data(pos=data.pos.bfloat16()))


def test_pyg_refusals():
    needs("pyg")
    import torch
    from torch_geometric.data import Data

    with pytest.raises(FormatError, match="pos is missing"):
        as_backbone(Data(x=torch.ones(3, 3)))
    with pytest.raises(FormatError, match=r"pos is of shape \(3, 3\)"):
        as_backbone(Data(pos=torch.ones(3, 3)))
    with pytest.raises(FormatError, match=r"x: coords of 3 residues .*one entry a residue"):
        as_backbone(Data(pos=torch.ones(4, 4, 3), sequence="ACD", name="x"))


# as_backbone --------------------------------------------------------------------------


def test_as_backbone_returns_backbones_as_they_are():
    backbone = random_backbone(2)
    assert as_backbone(backbone) is backbone


@pytest.mark.parametrize("thing", [None, 3, np.zeros((4, 4, 3)), b"1aki.pdb"])
def test_as_backbone_refuses_other_things(thing):
    with pytest.raises(TypeError, match="cannot make a Backbone of a .*give a Backbone, a path"):
        as_backbone(thing)


def test_as_backbone_refuses_other_things_of_these_libraries():
    from biotite.structure.io.pdb import PDBFile

    with pytest.raises(TypeError, match="of a biotite.structure.io.pdb"):
        as_backbone(PDBFile())


def test_as_backbone_knows_subclasses():
    needs("pyg")
    from torch_geometric.data import Data

    class Protein(Data):
        pass

    data = interop.to_pyg(random_backbone(3))
    assert_same(as_backbone(Protein(**data.to_dict())), random_backbone(3))


def test_as_backbone_loads_no_library_it_does_not_need():
    code = (
        "import sys, numpy as np\n"
        "from protok.structure.backbone import Backbone\n"
        "from protok.structure.io.interop import as_backbone\n"
        "as_backbone(Backbone.from_arrays(np.zeros((1, 4, 3))))\n"
        "heavy = {'torch', 'torch_geometric', 'Bio', 'biotite', 'pandas', 'gemmi'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


# Real files ---------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["1dix", "1k6p", "3o5r", "5h73", "5ugo", "4gxy"])
def test_libraries_agree_with_our_reader(shared, entry):
    needs("biopython")
    from Bio.PDB import PDBParser
    from biotite.structure.io.pdb import PDBFile

    from protok.structure.io.read import read

    path = shared(f"parsing/cross_format/{entry}.pdb")
    array = PDBFile.read(path).get_structure(model=1, altloc="all", extra_fields=["b_factor", "occupancy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = PDBParser(QUIET=True).get_structure(entry, path)
    try:
        ours = read(path)
    except NoProtein:
        for other in (array, structure):
            with pytest.raises(NoProtein):
                as_backbone(other)
        return
    assert len(ours) > 50
    for other in (array, structure):
        assert_same(as_backbone(other), ours)
    # And through both libraries there and back.
    assert_same(as_backbone(interop.to_biotite(ours)), ours)
    assert_same(as_backbone(interop.to_biopython(ours)), ours)
    assert_same(as_backbone(path), ours)
