"""Frames of trajectories and ensembles, and which residues switch between codes that are unlike."""

import csv
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.analysis.substitution import default_matrix
from protok.analysis.switches import Switches
from protok.cli.main import main
from protok.errors import ProtokError
from protok.structure.io.options import ReadOptions
from protok.structure.io.read import read
from protok.structure.io.trajectory import read_frames
from protok.tokens.files import load

KINDS = {"xtc": 0.006, "dcd": 1e-4, "trr": 1e-4}  # Å by which a format rounds


@pytest.fixture(scope="module")
def written(shared, tmp_path_factory):
    """All atoms of a crystal structure, water and all, moved and turned in each of seven frames."""
    from biotite.structure import from_template
    from biotite.structure.io import dcd, pdbx, trr, xtc

    path = shared("parsing/cross_format/3o5r.cif")
    atoms = pdbx.get_structure(pdbx.CIFFile.read(path), model=1, altloc="all")
    rng = np.random.default_rng(0)
    frames = np.stack(
        [atoms.coord + 10 * i + rng.normal(scale=0.02, size=atoms.coord.shape) for i in range(7)]
    )
    folder = tmp_path_factory.mktemp("frames")
    files = {"xtc": xtc.XTCFile, "dcd": dcd.DCDFile, "trr": trr.TRRFile}
    for kind, file in files.items():
        out = file()
        out.set_structure(from_template(atoms, frames.astype(np.float32)))
        out.write(folder / f"t.{kind}")
    return path, folder, (frames - atoms.coord).mean(axis=(1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_the_structure_where_the_trajectory_has_it(written, kind):
    path, folder, shift = written
    structure = read(path)
    frames = list(read_frames(path, [folder / f"t.{kind}"]))
    assert [frame.name for frame in frames] == [f"3o5r#{i}" for i in range(1, 8)]
    for frame, moved in zip(frames, shift, strict=True):
        assert frame.sequence == structure.sequence and frame.index.tolist() == structure.index.tolist()
        off = frame.coords - structure.coords - moved
        assert np.nanmax(np.abs(off)) < 0.15 and np.nanstd(off) == pytest.approx(0.02, abs=0.006)
        assert (np.isfinite(frame.coords) == np.isfinite(structure.coords)).all()


def test_frames_of_several_files_and_of_a_part(written):
    path, folder, _ = written
    files = [folder / "t.xtc", folder / "t.dcd"]
    frames = list(read_frames(path, files, ReadOptions(residues="20-60"), every=5))
    assert [(frame.name, len(frame)) for frame in frames] == [("3o5r#1", 41), ("3o5r#6", 41), ("3o5r#11", 41)]


def test_what_is_no_trajectory_of_the_structure_is_refused(written, shared, tmp_path):
    path, folder, _ = written
    other = shared("parsing/cross_format/1dix.pdb")
    (tmp_path / "bad.xtc").write_bytes(b"no trajectory" * 99)
    for structure, trajectory, message in (
        (other, folder / "t.xtc", r"t.xtc: has \d+ atoms, and .*1dix.pdb has \d+; give the structure"),
        (path, tmp_path / "bad.xtc", "bad.xtc: cannot be read on"),
        (path, tmp_path / "none.xtc", "none.xtc: no such file"),
        (path, path, r"3o5r.cif: .cif is no trajectory; give one of .xtc, .trr, .dcd"),
    ):
        with pytest.raises(ProtokError, match=message):
            list(read_frames(structure, [trajectory]))
    dimer = shared("parsing/real/openfold__4zey.cif")
    with pytest.raises(ProtokError, match="residues that are no atoms of the file"):
        list(read_frames(dimer, [folder / "t.xtc"], ReadOptions(assembly="2")))


def test_residues_that_switch_are_told_from_those_that_rattle(examples):
    tok = protok.load("3di")
    tokens = tok.encode(read(examples / "7w89.A.pdb"))
    scores = default_matrix(tok).scores
    code = int(tokens.ids[40])
    order = np.argsort(-scores[code])
    alike, unlike = int(order[order != code][0]), int(order[-1])
    assert scores[code, alike] > 0 >= scores[code, unlike]
    switches = Switches(scores)
    for i in range(10):
        ids = tokens.ids.copy()
        ids[40] = unlike if i >= 6 else code
        ids[41] = alike if (i % 2 and scores[tokens.ids[41], alike] > 0) else ids[41]
        ids[42] = -1 if i == 3 else ids[42]
        switches.add(replace(tokens, ids=ids)[: 60 if i < 9 else 123])
    residues = switches.residues()
    by_number = {residue.index: residue for residue in residues}
    changed = by_number[int(tokens.index[40])]
    assert (changed.frames, changed.codes, changed.common, changed.share) == (10, 2, code, 0.6)
    assert (changed.unlike, changed.changes) == (0.4, round(1 / 9, 3))
    assert changed.effective == pytest.approx(np.exp(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4))), abs=0.01)
    assert by_number[int(tokens.index[42])].frames == 9
    assert by_number[int(tokens.index[100])].frames == 1
    assert all(residue.unlike == 0 for residue in residues if residue is not changed)


def test_the_command_writes_a_string_a_frame_and_says_what_switches(written, shared, tmp_path, capsys):
    path, folder, _ = written
    out, table = tmp_path / "f.parquet", tmp_path / "s.tsv"
    assert main(f"frames {path} {folder}/t.xtc -o {out} --switches {table} --model 3di".split()) == 0
    err = capsys.readouterr().err
    assert "7 frames in" in err and " of 128 residues switch, to codes unlike" in err and "note:" not in err
    assert [tokens.name for tokens in load(out)] == [f"3o5r#{i}" for i in range(1, 8)]
    rows = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
    assert len(rows) <= 128 and {row["frames"] for row in rows} == {"7"}
    models = shared("parsing/real/biopython__2OFG.cif")
    assert main(f"frames {models} -o {out} --model 3di".split()) == 0
    assert [len(tokens) for tokens in load(out)] == [106, 76, 71]
    assert "note: 2 frames with fewer peptide bonds than the first" in capsys.readouterr().err
