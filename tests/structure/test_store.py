"""Stores and the stream of batches."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

import protok
from protok.errors import FormatError, NoProtein
from protok.structure.store import open_store, read_store, unread, write_store
from protok.testing import exclude, random_backbone, random_complex


@pytest.fixture
def store(tmp_path):
    chains = [dataclasses.replace(random_backbone(n, seed=n), name=f"c{n}") for n in (10, 20, 40, 70, 90)]
    write_store(chains, tmp_path / "s.parquet")
    return read_store(tmp_path / "s.parquet")


def test_a_store_gives_back_what_went_in(tmp_path):
    chain = exclude(random_backbone(30, seed=1), [4])
    complexed = random_complex([12, 9], seed=2)
    assert write_store([chain, complexed], tmp_path / "s.parquet") == 3
    store = read_store(tmp_path / "s.parquet")
    assert store.sequence[0] == chain.sequence and list(store.lengths()) == [30, 12, 9]
    again = store.backbone(0)
    assert (again.mask == chain.mask).all()
    centred = chain.coords - np.nanmean(chain.coords[:, 1], axis=0)
    assert np.nanmax(np.abs(again.coords - centred)) <= 0.0051


def test_clusters_share_their_weight(store, tmp_path):
    rows = ["id,split,cluster30", "c10_A,s,1", "c20_A,s,1", "c40_A,s,2", "c70_A,s,3"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    weight = read_store(tmp_path / "s.parquet").weight
    assert np.allclose(weight / weight[4], [0.5, 0.5, 1, 1, 1])


def test_what_is_not_a_store_is_refused(tmp_path):
    (tmp_path / "s.parquet").write_text("no")
    with pytest.raises(FormatError, match="s.parquet.*not a structure store"):
        read_store(tmp_path / "s.parquet")


def test_a_folder_is_parsed_once(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for n in (12, 15):
        protok.write(random_backbone(n, seed=n), folder / f"x{n}.pdb")
    (folder / "bad.pdb").write_text("nothing of the kind\n")
    store = open_store(folder, tmp_path / "cache" / "train.parquet")
    assert sorted(store.lengths()) == [12, 15]
    errors = (tmp_path / "cache" / "train.errors.tsv").read_text().splitlines()
    assert len(errors) == 2 and "bad.pdb" in errors[1]
    monkeypatch.setattr("protok.structure.io.read.read_file", lambda *_: pytest.fail("parsed again"))
    assert open_store(folder, tmp_path / "cache" / "train.parquet").ids == store.ids


def test_whatever_is_wrong_with_a_file_it_is_a_row(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b", "c"):
        protok.write(random_backbone(12, seed=1), folder / f"{name}.pdb")
    read = protok.structure.io.read.read_file

    def fails(path, options):
        if path.name == "b.pdb":
            raise IndexError("list index\tout of range")
        return read(path, options)

    monkeypatch.setattr("protok.structure.io.read.read_file", fails)
    cache = tmp_path / "train.parquet"
    store = open_store(folder, cache)
    assert store.ids == ["a_A", "c_A"]
    reason = "unexpected IndexError: list index out of range; please report it with the file"
    assert unread(cache) == [f"{folder / 'b.pdb'}\t\t{reason}"]
    monkeypatch.undo()
    protok.write(random_backbone(2, seed=1), folder / "b.pdb")
    assert len(open_store(folder, cache)) == 2
    assert unread(cache) == [f"{folder / 'b.pdb'}\tA\tfewer than 3 residues have N, CA and C"]
    protok.write(random_backbone(3, seed=1), folder / "b.pdb")
    assert len(open_store(folder, cache)) == 3 and unread(cache) == []


def test_a_parse_that_was_killed_is_done_again(tmp_path, monkeypatch):
    folder, cache = tmp_path / "in", tmp_path / "train.parquet"
    folder.mkdir()
    protok.write(random_backbone(12, seed=1), folder / "a.pdb")
    first = open_store(folder, cache)
    protok.write(random_backbone(15, seed=2), folder / "b.pdb")
    replace = os.replace

    def killed(draft, path):
        if Path(path).suffix == ".state":
            raise KeyboardInterrupt
        replace(draft, path)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        open_store(folder, cache)
    monkeypatch.undo()
    (folder / "b.pdb").unlink()
    assert open_store(folder, cache).digest == first.digest


def test_names_and_very_short_chains(tmp_path):
    chains = [random_backbone(n, seed=1) for n in (12, 2, 12)]
    assert write_store(chains, tmp_path / "s.parquet") == 2
    assert read_store(tmp_path / "s.parquet").ids == ["random1_A", "random1_A-2"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(NoProtein, match="no structure files"):
        open_store(tmp_path, tmp_path / "c.parquet")
    (tmp_path / "bad.pdb").write_text("nothing\n")
    with pytest.raises(NoProtein, match="none of 1 files.*the first: .*bad.pdb: neither PDB"):
        open_store(tmp_path, tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists() and "bad.pdb" in (tmp_path / "c.errors.tsv").read_text()
