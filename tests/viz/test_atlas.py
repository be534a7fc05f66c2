"""The atlas of a codebook: its measures against plain ones, its files, its page."""

import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import protok
from protok.cli import main
from protok.errors import FormatError, NoProtein
from protok.structure import descriptors
from protok.structure.io.sources.paths import iter_files
from protok.testing import mirrored, moved, random_rotation
from protok.tokenizers.protocol import HasCodeVectors
from protok.viz.atlas import HALF, make_atlas, open_structures
from protok.viz.atlas_page import atlas_page

NASTY = "</td><script>alert(1)</script>"


@pytest.fixture(scope="module")
def chains(examples):
    return [protok.read(file) for file in sorted(iter_files([examples]))]


@pytest.fixture(scope="module", params=["protok-1", "3di", "protein-blocks"])
def made(request, chains):
    tokenizer = protok.load(request.param)
    return tokenizer, make_atlas(tokenizer, chains, "examples")


def test_counts_are_those_of_the_tokens(made, chains):
    tokenizer, atlas = made
    ids = np.concatenate([tokenizer.encode(chain).ids for chain in chains])
    count = np.bincount(ids[ids >= 0], minlength=tokenizer.size)
    assert (atlas.columns["count"] == count).all()
    assert atlas.columns["frequency"].sum() == pytest.approx(1)
    assert atlas.summary()["residues"] == (ids >= 0).sum()
    assert atlas.chains == len(chains) and atlas.codebook == tokenizer.codebook


def test_measures_of_a_code(made, chains):
    tokenizer, atlas = made
    c, code = atlas.columns, int(atlas.columns["count"].argmax())
    rows = [(chain, np.flatnonzero(tokenizer.encode(chain).ids == code)) for chain in chains]
    element = np.concatenate([descriptors.secondary_structure(chain)[i] for chain, i in rows])
    assert c["helix"][code] == pytest.approx((element == "a").mean())
    assert c["helix"][code] + c["strand"][code] + c["coil"][code] == pytest.approx(1)
    radius = np.concatenate(
        [np.linalg.norm(chain.coords[i, 1] - chain.coords[:, 1].mean(0), axis=1) for chain, i in rows]
    )
    assert c["radius"][code] == pytest.approx(radius.mean(), rel=1e-4)
    assert c["radius_sd"][code] == pytest.approx(radius.std(), rel=1e-3)
    apart = [np.linalg.norm(chain.coords[i, None, 1] - chain.coords[:, 1], axis=2) for chain, i in rows]
    near = np.concatenate([(a < 10).sum(1) - 1 for a in apart])
    assert c["neighbours"][code] == pytest.approx(near.mean())


def test_a_code_without_residues_has_no_measures(made, chains):
    atlas = make_atlas(made[0], [chains[0][:30]])
    empty = atlas.columns["count"] == 0
    assert empty.any() and not empty.all()
    for key in ("helix", "phi", "neighbours", "radius", "place_sd"):
        assert np.isnan(atlas.columns[key][empty]).all()
        assert np.isfinite(atlas.columns[key][atlas.columns["count"] > 3]).all()
    assert (atlas.columns["example"][empty] == "").all()


def test_the_fragment_is_that_of_the_example(made, chains):
    tokenizer, atlas = made
    code = int(atlas.columns["count"].argmax())
    name, chain, number = atlas.columns["example"][code]
    (structure,) = [c for c in chains if c.name == name]
    (i,) = np.flatnonzero((structure.index == int(number)) & (structure.chain == chain))
    assert tokenizer.encode(structure).ids[i] == code
    fragment = atlas.columns["fragment"][code]
    assert np.allclose(fragment[HALF, 1], 0, atol=0.01)
    there = structure.coords[max(0, i - HALF) : i + HALF + 1, 1]
    here = fragment[np.isfinite(fragment[:, 1, 0]), 1]
    distances = [np.linalg.norm(x[:, None] - x, axis=2) for x in (there, here)]
    assert np.allclose(*distances, atol=0.03)
    if isinstance(tokenizer, HasCodeVectors):
        off = [
            np.linalg.norm(
                tokenizer.embed(c)[tokenizer.encode(c).ids == code] - tokenizer.code_vectors()[code], axis=1
            )
            for c in chains
        ]
        mine = np.linalg.norm(tokenizer.embed(structure)[i] - tokenizer.code_vectors()[code])
        assert mine == pytest.approx(np.concatenate(off).min(), rel=1e-5)


def test_nearest_codes(made):
    tokenizer, atlas = made
    nearest = atlas.columns["nearest"]
    assert nearest.shape == (tokenizer.size, 5)
    assert all(i not in row for i, row in enumerate(nearest))
    if isinstance(tokenizer, HasCodeVectors):
        vectors = tokenizer.code_vectors()
        off = np.linalg.norm(vectors - vectors[3], axis=1)
        assert nearest[3].tolist() == np.argsort(off)[1:6].tolist()
        assert atlas.columns["nearest_distance"][3, 0] == pytest.approx(np.sort(off)[1])


def test_helices_are_the_block_that_stands_for_them(chains):
    atlas = make_atlas(protok.load("protein-blocks"), chains)
    c = atlas.columns
    m, d = (list(c["letter"]).index(letter) for letter in "md")
    assert c["helix"][m] > 0.8 and c["strand"][d] > 0.5
    assert abs(c["phi"][m] + 65) < 10 and abs(c["psi"][m] + 40) < 10 and c["psi_r"][m] > 0.85
    assert c["psi"][d] > 100


def test_local_measures_turn_with_the_structure_and_not_with_its_mirror(chains):
    chain = chains[0]
    turned = moved(chain, random_rotation(1), (5.0, -80.0, 30.0))
    for measure in (
        descriptors.half_sphere,
        descriptors.place_in_chain,
        descriptors.backbone_torsions,
        lambda x: descriptors.windows(x, 2),
    ):
        assert np.allclose(measure(chain), measure(turned), atol=2e-2, equal_nan=True)
        assert not np.allclose(measure(chain), measure(mirrored(chain)), atol=0.5, equal_nan=True)
    assert (descriptors.secondary_structure(chain) == descriptors.secondary_structure(turned)).all()


def test_windows_end_where_the_chain_does(chains):
    whole = chains[0]
    broken = whole[np.r_[0:20, 30 : len(whole)]]
    broken.coords[40, 2] = np.nan
    window = np.isfinite(descriptors.windows(broken, HALF)[:, :, 1, 0])
    assert window[0].tolist() == [False] * 4 + [True] * 5
    assert window[19].tolist() == [True] * 5 + [False] * 4
    assert window[20].tolist() == [False] * 4 + [True] * 5
    assert window[39].tolist() == [True] * 5 + [False] * 4
    assert not window[40].any() and window[10].all()


def test_files_and_page(made, tmp_path):
    tokenizer, atlas = made
    atlas.save(tmp_path / "atlas.parquet")
    table = pq.read_table(tmp_path / "atlas.parquet")
    assert table.num_rows == tokenizer.size
    assert f'"{tokenizer.codebook}"'.encode() in table.schema.metadata[b"protok"]
    fragment = np.array(table["fragment"].to_pylist(), np.float32).reshape(-1, 9, 4, 3)
    assert np.array_equal(fragment, atlas.columns["fragment"], equal_nan=True)
    page = atlas_page(atlas)
    assert len(re.findall(r'<tr id="c\d+">', page)) == tokenizer.size
    assert not re.search(r"https?:|src=|@import|nan", page)
    code = int(atlas.columns["count"].argmax())
    (row,) = re.findall(rf'<tr id="c{code}">(.*?)</tr>', page)
    assert f"<td>{atlas.columns['count'][code]}</td>" in row
    assert " ".join(atlas.columns["example"][code]) in row


def test_names_cannot_break_out_of_the_page(chains):
    nasty = [replace(chain, name=NASTY, chain=np.full(len(chain), NASTY)) for chain in chains]
    page = atlas_page(make_atlas(protok.load("3di"), nasty, NASTY))
    assert NASTY not in page and page.count("<script") == 1


def test_command(examples, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.pdb").write_bytes((examples / "7soo.A.pdb").read_bytes())
    assert main.main(["atlas", "3di", "--structures", str(folder), "-o", f"{tmp_path}/one"]) == 0
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"atlas.html", "atlas.parquet"}
    (folder / "bad.pdb").write_text("nothing\n")
    capsys.readouterr()
    command = ["atlas", "3di", "--structures", str(folder), "-o", f"{tmp_path}/two", "--json"]
    assert main.main(command) == 1
    captured = capsys.readouterr()
    assert '"chains": 1' in captured.out and "bad.pdb" in captured.err
    assert "bad.pdb" in (tmp_path / "two" / "errors.tsv").read_text()
    (folder / "a.pdb").unlink()
    assert main.main(command) == 2 and "bad.pdb: neither PDB" in capsys.readouterr().err
    assert main.main(["atlas", "nobody", "--structures", str(folder), "-o", "x"]) == 2


def test_structures_from_stores_files_and_nowhere(examples, tmp_path, chains):
    from protok.structure.store import write_store

    write_store(chains, tmp_path / "store.parquet")
    some = list(open_structures(tmp_path / "store.parquet", [], limit=2))
    assert [chain.name for chain in some] == [f"{chains[i].name}_{chains[i].chains[0]}" for i in (0, -1)]
    assert len(list(open_structures(examples, [], limit=3))) == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(NoProtein):
        list(open_structures(tmp_path / "none", []))
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        list(open_structures(tmp_path / "bad.parquet", []))
    with pytest.raises(NoProtein):
        make_atlas(protok.load("3di"), [])
