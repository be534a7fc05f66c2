"""3Di and Protein Blocks: against what Foldseek and PBxplore published, mini3di, and themselves."""

import warnings

import numpy as np
import pytest

from protok.errors import Unsupported
from protok.structure.backbone import Backbone
from protok.tokenizers.alphabets import ProteinBlocks, ThreeDi
from protok.tokenizers.protocol import decoding
from tests.helpers.paths import GOLDEN

BOTH = pytest.mark.parametrize("tokenizer", [ThreeDi(), ProteinBlocks()], ids=lambda t: t.name)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def golden(which):
    """Yield (name, published letters, atoms (L, 3 or 4, 3) in Å)."""
    stored = np.load(GOLDEN / f"baselines_{which}.npz", allow_pickle=False)
    ends = np.cumsum(stored["length"])
    xyz = np.where(stored["xyz"] == -999999, np.nan, stored["xyz"] / 1000).astype(np.float32)
    for name, letters, end, n in zip(stored["name"], stored["letters"], ends, stored["length"], strict=True):
        yield str(name), str(letters), xyz[end - n : end]


def backbone(which="3di", row=0, **kwargs):
    name, _, atoms = list(golden(which))[row]
    return Backbone.from_arrays(atoms[:, :3], name=name, **kwargs)


def several(*parts):
    """One Backbone of several chains."""
    return Backbone.from_arrays(
        np.concatenate([part.coords for part in parts]),
        chain=np.concatenate([np.full(len(p), c) for p, c in zip(parts, "ABCDEF", strict=False)]),
    )


@pytest.mark.parametrize("which", ["1dix_A", "3o5r_A", "5h73_A", "5ugo_A"])
def test_3di_equals_foldseek(which):
    ((letters, atoms),) = [(word, xyz) for name, word, xyz in golden("3di") if name == which]
    tokens = ThreeDi().encode(Backbone.from_arrays(atoms[:, :3]), cb=atoms[:, 3])
    assert tokens.letters == letters


def test_3di_from_the_backbone_alone_is_near_foldseek():
    tokenizer, same = ThreeDi(), []
    for _, letters, atoms in golden("3di"):
        ours = tokenizer.encode(Backbone.from_arrays(atoms[:, :3])).letters
        same += [a == b for a, b in zip(ours, letters, strict=True)]
    # 94.5 % of 1,025 residues here, 96.8 % of 4,028 in 20 other files: the price of a placed CB.
    assert 0.93 < np.mean(same) < 0.98


def test_protein_blocks_equal_pbxplore():
    checked = 0
    for name, letters, atoms in golden("protein_blocks"):
        tokens = ProteinBlocks().encode(Backbone.from_arrays(atoms))
        assert tokens.letters == letters.replace("Z", "-"), name
        checked += len(tokens)
    assert checked == 934


def test_3di_equals_mini3di_on_real_structures(shared):
    """One chain in six of CASP14 and CAMEO2022; in all of them 52,285 of 52,285 residues are equal.

    In the complexes of StructTokenBench 377,708 of 377,709 are: one tie between neighbours.
    """
    mini3di = pytest.importorskip("mini3di")
    parquet = pytest.importorskip("pyarrow.parquet")
    reference, tokenizer, same = mini3di.Encoder(), ThreeDi(), []
    rows = parquet.read_table(shared("structtokenbench/utilization.parquet"), columns=["xyz"]).column("xyz")
    for row in rows[::6]:
        xyz = np.array(row.as_py(), np.float32).reshape(-1, 4, 3)
        xyz[xyz == -32768] = np.nan
        structure = Backbone.from_arrays(xyz / 100)
        n, ca, c = structure.coords[:, :3].swapaxes(0, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            states = reference.encode_atoms(ca, np.full_like(ca, np.nan), n, c)
        ids = tokenizer.encode(structure).ids
        same.append((ids == states.filled())[structure.mask])
        assert (ids[~structure.mask] == -1).all()
    same = np.concatenate(same)
    assert len(same) > 5000
    assert same.mean() >= 0.9999


@BOTH
def test_length_names_and_letters(tokenizer):
    structure = backbone()
    tokens = tokenizer.encode(structure)
    assert len(tokens) == len(structure) and tokens.name == structure.name
    assert tokens.size == len(tokens.alphabet) == tokenizer.size
    assert tokens.codebook == tokenizer.codebook
    assert tokenizer.encode_batch([structure])[0].letters == tokens.letters


def test_codebooks_do_not_change_by_accident():
    # Token files carry these; a change makes them unreadable and must be meant.
    assert ThreeDi().codebook == "3di@4c509837"
    assert ProteinBlocks().codebook == "protein-blocks@d6a1b658"


@BOTH
def test_chains_are_encoded_alone(tokenizer):
    first, second = backbone(row=0), backbone(row=1)
    together = tokenizer.encode(several(first, second, first))
    alone = [tokenizer.encode(part).ids for part in (first, second, first)]
    assert np.array_equal(together.ids, np.concatenate(alone))


@BOTH
def test_residues_of_a_chain_need_not_be_neighbours_in_the_arrays(tokenizer):
    first, second = backbone(row=0), backbone(row=1)
    structure = several(first, second)
    order = np.argsort(np.r_[np.arange(len(first)), np.arange(len(second))], kind="stable")
    mixed = tokenizer.encode(structure[order])
    assert np.array_equal(mixed.ids, tokenizer.encode(structure).ids[order])


@BOTH
def test_numbers_in_the_file_do_not_matter(tokenizer):
    structure = backbone()
    falling = backbone(index=np.arange(len(structure))[::-1])
    assert np.array_equal(tokenizer.encode(falling).ids, tokenizer.encode(structure).ids)


@BOTH
def test_far_from_the_origin(tokenizer):
    structure = backbone(row=3)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    rotation[:, 0] *= np.linalg.det(rotation)
    moved = Backbone.from_arrays(structure.coords[:, :3] @ rotation + np.array([900, -3000, 7000]))
    changed = tokenizer.encode(moved).ids != tokenizer.encode(structure).ids
    assert changed.mean() <= 0.005  # the coordinates themselves are rounded to 0.0005 Å out there


@BOTH
@pytest.mark.parametrize("atom", [0, 1, 2])
def test_a_missing_atom_changes_only_what_rests_on_it(tokenizer, atom):
    structure = backbone(row=1)
    coords = structure.coords.copy()
    coords[60, atom] = np.nan
    before, after = (tokenizer.encode(structure).ids, tokenizer.encode(Backbone.from_arrays(coords)).ids)
    changed = np.flatnonzero(before != after)
    assert after[60] == -1 and (before >= 0)[58:63].all()
    if tokenizer.name == "protein-blocks":
        assert set(changed) <= set(range(58, 63)) and (after[changed] == -1).all()
    else:
        # Its neighbours in the chain, and residues whose nearest in space were among the three.
        partners = np.linalg.norm(coords[changed, 1] - structure.coords[60, 1], axis=-1)
        assert 0 < len(changed) < 15 and np.nanmax(partners) < 15
        assert (after >= 0).sum() == len(structure) - 1


@BOTH
def test_tiny_and_empty_structures(tokenizer):
    whole = backbone()
    for n in range(7):
        tokens = tokenizer.encode(whole[:n])
        assert len(tokens) == n
        expected = 0 if tokenizer.name == "protein-blocks" and n < 5 else None
        assert expected is None or (tokens.ids >= 0).sum() == expected
    assert (tokenizer.encode(whole[:5]).ids >= 0).any()
    nothing = Backbone.from_arrays(np.full((8, 3, 3), np.nan))
    assert (tokenizer.encode(nothing).ids == -1).all()


@BOTH
def test_residues_on_one_point(tokenizer):
    assert len(tokenizer.encode(Backbone.from_arrays(np.zeros((10, 3, 3))))) == 10


def test_protein_blocks_stop_at_the_ends_of_a_chain():
    ids = ProteinBlocks().encode(backbone()).ids
    assert (ids[[0, 1, -2, -1]] == -1).all() and (ids[2:-2] >= 0).all()


def test_protein_blocks_stop_at_a_chain_break():
    structure = backbone()
    broken = np.delete(np.arange(len(structure)), range(50, 56))
    before, after = (ProteinBlocks().encode(structure).ids, ProteinBlocks().encode(structure[broken]).ids)
    assert (after[48:52] == -1).all()
    rest = np.delete(np.arange(len(after)), range(48, 52))
    assert np.array_equal(after[rest], before[broken][rest])


def test_protein_blocks_see_the_mirror_image():
    structure = backbone()
    mirrored = Backbone.from_arrays(structure.coords * np.array([-1, 1, 1], np.float32))
    changed = ProteinBlocks().encode(structure).ids != ProteinBlocks().encode(mirrored).ids
    assert changed.mean() > 0.6


@BOTH
def test_embed_is_one_hot(tokenizer):
    structure = backbone()
    ids, vectors = tokenizer.encode(structure).ids, tokenizer.embed(structure)
    assert vectors.shape == (len(structure), tokenizer.size) and vectors.dtype == np.float32
    assert np.isnan(vectors[ids < 0]).all()
    assert np.array_equal(vectors[ids >= 0].argmax(1), ids[ids >= 0])
    assert np.array_equal(vectors[ids >= 0].sum(1), np.ones((ids >= 0).sum()))
    assert np.array_equal(tokenizer.embed(structure, quantized=True), vectors, equal_nan=True)


@BOTH
def test_an_alphabet_does_not_decode(tokenizer):
    with pytest.raises(Unsupported, match=f"{tokenizer.name} is an alphabet without a decoder"):
        decoding(tokenizer)


@BOTH
def test_a_path_is_read(tokenizer, examples):
    from protok.structure.io.read import read

    path = sorted(examples.glob("*.cif*"))[0]
    assert np.array_equal(tokenizer.encode(path).ids, tokenizer.encode(read(path)).ids)


def test_cb_of_another_length_is_refused():
    with pytest.raises(ValueError, match="cb of 208 residues must have shape"):
        ThreeDi().encode(backbone(), cb=np.zeros((5, 3)))
