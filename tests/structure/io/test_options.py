"""What is taken of a file: ranges, models, assemblies, whole sequences, masks; by each way of reading."""

import inspect
from dataclasses import fields, replace

import numpy as np
import pytest

import protok
from protok import errors
from protok.structure.io.assembly import _motions
from protok.structure.io.options import ReadOptions
from protok.structure.io.read import read, read_all, read_models
from protok.structure.io.sequences import on_sequence
from protok.structure.store import open_store


def test_every_option_of_read_is_one_of_jobs():
    own = inspect.signature(read).parameters.keys() - {"path", "data"}
    assert own == {field.name for field in fields(ReadOptions)}


def test_ranges_are_numbers_of_the_file_with_both_ends(shared):
    path = shared("parsing/real/biojava__1a4w.pdb")  # with insertion codes and negative numbers
    whole, part = read(path), read(path, chain="H", residues="60-61,-5-17")
    wanted = (whole.chain == "H") & (((60 <= whole.index) & (whole.index <= 61)) | (whole.index <= 17))
    assert part.sequence == whole[wanted].sequence and "I" in part.icode.tolist()
    assert read(path, residues="60").index.tolist().count(60) == (whole.index == 60).sum()
    with pytest.raises(
        errors.NoProtein, match=r"no residue is numbered 900-999; chain 'L' has .* to .*, 'H'"
    ):
        read(path, residues="900-999")
    for text in ("10-", "a-b", "90-10", "1,,2"):
        with pytest.raises(errors.ProtokError, match="is no range of residues; give numbers of the file"):
            read(path, residues=text)


def test_all_models_are_structures_of_their_own(shared):
    path = shared("parsing/real/biopython__2OFG.cif")
    models = read_models(path, residues="3-20")
    assert [model.name for model in models] == [f"biopython__2OFG#{i}" for i in (1, 2, 3)]
    for i, model in enumerate(models, 1):
        alone = read(path, model=i, residues="3-20")
        np.testing.assert_array_equal(model.coords, alone.coords)
        assert model.sequence == alone.sequence
        assert not model.notes and alone.notes == (f"model {i} read, others left out",)
    assert not np.array_equal(models[0].coords, models[1].coords)
    pdb = shared("parsing/synthetic/two_models_differ.pdb")
    assert [len(model) for model in read_models(pdb)] == [len(read(pdb)), len(read(pdb, model=2))]
    assert [model.name for model in read_models(shared("parsing/cross_format/1dix.bcif"))] == ["1dix"]
    with pytest.raises(
        errors.ProtokError, match=r"1dix.pdb: a structure is one model, not all; .* read_models"
    ):
        read(shared("parsing/cross_format/1dix.pdb"), model="all")


@pytest.mark.parametrize(
    ("file", "assembly", "chains", "residues"),
    [
        ("openfold__4zey.cif", 1, 1, 84),
        ("openfold__4zey.cif", 2, 2, 168),
        ("openfold__3zee.cif", 1, 49, 4116),
        ("gemmi__5i55.cif", 1, 20, 440),
        ("ngl__1lee.pdb", 3, 4, 1324),
    ],
)
def test_assemblies_are_those_of_biotite(shared, file, assembly, chains, residues):
    from biotite.structure.io import pdb, pdbx
    from scipy.spatial import cKDTree

    path = shared(f"parsing/real/{file}")
    built = read(path, assembly=assembly)
    assert (len(built.chains), len(built)) == (chains, residues)
    assert built.chains[:2] == ["A", "A-2"][:chains]
    if path.suffix == ".pdb":
        atoms = pdb.PDBFile.read(path).get_assembly(str(assembly), model=1)
    else:
        atoms = pdbx.get_assembly(
            pdbx.CIFFile.read(path), assembly_id=str(assembly), model=1, altloc="occupancy"
        )
    expected = atoms.coord[atoms.atom_name == "CA"]
    far, nearest = cKDTree(expected).query(built.coords[:, 1])
    assert far.max() < 1e-3 and len(set(nearest.tolist())) == residues, "each copy is another one's place"
    single = read(path)
    assert built.sequence == single.sequence * chains
    assert built.index.tolist() == single.index.tolist() * chains


def test_assemblies_of_other_formats_and_ids(shared):
    cif, bcif = (
        read(shared(f"parsing/cross_format/5ugo.{end}"), assembly="1", chain_ids="label")
        for end in ("cif", "bcif")
    )
    assert cif.chains == bcif.chains == ["D"]
    np.testing.assert_array_equal(cif.coords, bcif.coords)
    part = read(shared("parsing/real/openfold__4zey.cif"), assembly=2, chain="A-2", residues="20-40")
    assert part.chains == ["A-2"]
    with pytest.raises(errors.ChainNotFound, match="has no assembly 7; choose one that it has: 1, 2"):
        read(shared("parsing/real/openfold__4zey.cif"), assembly=7)
    with pytest.raises(errors.ChainNotFound, match="has no assembly 1; leave the assembly out"):
        read(shared("parsing/real/pdb2pqr__1crn.pdb"), assembly=1)


def test_groups_of_motions_are_applied_from_right_to_left():
    """As the dictionary of mmCIF says of _pdbx_struct_assembly_gen.oper_expression."""
    rng = np.random.default_rng(0)
    motions = {name: rng.normal(size=(3, 4)) for name in ("X0", "1", "2", "3", "P-1")}

    def moved(name, points):
        return points @ motions[name][:, :3].T + motions[name][:, 3]

    point = rng.normal(size=3)
    made = _motions("(X0)(1-3)", motions)
    for motion, name in zip(made, "123", strict=True):
        np.testing.assert_allclose(point @ motion[:, :3].T + motion[:, 3], moved("X0", moved(name, point)))
    assert len(_motions("1,2,P-1", motions)) == 3
    for expression in ("(1-999999999)", "4", "(1-3)(9)"):
        with pytest.raises(KeyError):
            _motions(expression, motions)
    with pytest.raises(errors.CorruptFile, match="too many copies"):
        _motions("(1-3)" * 20, motions)


def label_numbers(path) -> dict[tuple[str, int, str], int]:
    """label_seq_id of residues, by author chain, number and insertion code, as gemmi reads them."""
    gemmi = pytest.importorskip("gemmi")
    structure = gemmi.read_structure(str(path))
    return {
        (chain.name, residue.seqid.num, residue.seqid.icode.strip()): residue.label_seq
        for chain in structure[0]
        for residue in chain
        if residue.label_seq
    }


@pytest.mark.parametrize(
    ("file", "added"),
    [
        ("cross_format/5h73.cif", 27),
        ("cross_format/5ugo.cif", 9),
        ("cross_format/1k6p.cif", 0),
        ("real/biopython__2OFG.cif", 5),
        ("real/pymol-testing__1v5a-2models-1st-trunc.cif", 18),
    ],
)
def test_residues_stand_where_the_file_numbers_them(shared, file, added):
    path = shared(f"parsing/{file}")
    resolved, whole = read(path), read(path, sequence="file")
    assert len(whole) == len(resolved) + added
    numbers = label_numbers(path)
    for chain in whole.by_chain():
        labels = zip(chain.chain.tolist(), chain.index.tolist(), chain.icode.tolist(), strict=True)
        there = np.isfinite(chain.coords).any(axis=(1, 2))
        places = [numbers.get(label, -1) - 1 for label in labels]
        assert there.sum() == (resolved.chain == chain.chains[0]).sum()
        assert np.flatnonzero(there).tolist() == [places[i] for i in np.flatnonzero(there)]
    assert (whole.notes[-1:] == (f"{added} residues without atoms added from the sequence",)) == (added > 0)
    np.testing.assert_array_equal(whole.coords[whole.mask], resolved.coords[resolved.mask])


@pytest.mark.parametrize("entry", ["5h73", "5ugo", "1dix"])
def test_sequences_of_all_formats_agree(shared, entry):
    pdb, cif, bcif = (
        read(shared(f"parsing/cross_format/{entry}.{end}"), sequence="file") for end in ("pdb", "cif", "bcif")
    )
    for other in (cif, bcif):
        assert other.sequence == pdb.sequence and other.index.tolist() == pdb.index.tolist()


def test_tokens_on_a_whole_sequence_are_those_of_the_chain(examples, tmp_path):
    """From FASTA: by name, or by what fits; residues without atoms have no token, all others the same."""
    tok = protok.load("protok-1")
    whole = read(examples / "7w89.A.pdb")
    resolved = whole[np.r_[3:40, 52:60, 61:120]]
    protok.write(resolved, tmp_path / "x.pdb")
    fasta = tmp_path / "all.fasta"
    fasta.write_text(
        f">other_A\n{'MKV' * 60}\n>some protein\n{whole.sequence[:60]}\n{whole.sequence[60:]}*\n"
    )
    tokens = tok.encode(read(tmp_path / "x.pdb", sequence=str(fasta)))
    assert tokens.sequence == whole.sequence and tokens.index.tolist() == whole.index.tolist()
    np.testing.assert_array_equal(tokens.ids[np.isin(whole.index, resolved.index)], tok.encode(resolved).ids)
    assert (tokens.ids < 0).sum() == len(whole) - len(resolved)
    fasta.write_text(f">x_A\n{'G' * 5}{whole.sequence}\n>y_A\n{whole.sequence}\n")
    assert len(read(tmp_path / "x.pdb", sequence=str(fasta))) == len(whole) + 5
    fasta.write_text(">z\nMKVLAAGIVG\n")
    left = read(tmp_path / "x.pdb", sequence=str(fasta))
    assert len(left) == len(resolved) and left.notes == ("left as it is, as no sequence fits: chain 'A'",)
    with pytest.raises(errors.ProtokError, match=r"none.fasta: cannot be read as FASTA .*; check the path"):
        read(tmp_path / "x.pdb", sequence=str(tmp_path / "none.fasta"))


def test_numbers_decide_where_letters_do_not(examples):
    chain = read(examples / "7w89.A.pdb")[:30]
    alike = replace(chain, sequence="A" * 30)
    gap = alike[np.r_[0:10, 14:30]]
    placed = on_sequence(gap, ["A" * 34])
    assert np.flatnonzero(placed.mask).tolist() in [
        list(np.r_[i : 10 + i, 14 + i : 30 + i]) for i in range(5)
    ]
    jump = replace(alike, index=alike.index + np.where(np.arange(30) < 12, 0, 4).astype(np.int32))
    where = np.flatnonzero(on_sequence(jump, ["A" * 34]).mask)
    assert (np.diff(where) == 1).all(), "a bond joins them, whatever their numbers say"
    assert on_sequence(chain, [chain.sequence[:-1]]) is None, "no place for a residue"


def test_masked_residues_have_no_token_and_lengths_stay(shared, examples):
    tok = protok.load("3di")
    path = shared("parsing/cross_format/1dix.cif")
    plain, masked = read(path), read(path, max_bfactor=30)
    above = plain.bfactor > 30
    assert 0 < above.sum() < len(plain) == len(masked)
    assert masked.mask.tolist() == (plain.mask & ~above).tolist()
    assert (tok.encode(masked).ids[above] < 0).all()
    assert masked.notes[-1] == f"{above.sum()} residues with a B-factor above 30 masked"
    np.testing.assert_array_equal(masked.bfactor, plain.bfactor)
    low = read(path, min_plddt=20)
    assert low.mask.tolist() == (plain.mask & (plain.bfactor >= 20)).tolist()
    with pytest.raises(errors.NoProtein, match=r"every residue has a pLDDT below 990; values go from .* to "):
        read(path, min_plddt=990)


def test_options_reach_folders_of_files_and_stores(examples, tmp_path):
    chain = read(examples / "7w89.A.pdb")
    (tmp_path / "in").mkdir()
    plddt = np.linspace(40, 99, len(chain)).astype(np.float32)
    protok.write(replace(chain, bfactor=plddt), tmp_path / "in" / "m.pdb")
    options, rows = ReadOptions(min_plddt=70), []
    ((_, backbone),) = read_all([tmp_path / "in" / "m.pdb"], rows, options)
    assert not rows and backbone.mask.sum() == (plddt.round(2) >= 70).sum()
    cache = tmp_path / "cache.parquet"
    assert np.isnan(open_store(tmp_path / "in", cache).coords(0)[0]).sum() == 0
    store = open_store(tmp_path / "in", cache, options)
    assert np.isnan(store.coords(0)).all(axis=(1, 2)).sum() == (plddt.round(2) < 70).sum()
    with pytest.raises(errors.Unsupported, match=r"cache.parquet: a store is as it was read"):
        open_store(cache, cache, options)
