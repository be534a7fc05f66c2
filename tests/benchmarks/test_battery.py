"""The battery: its command, Foldcomp beside it, and the figure and the table that are made from its file."""

import numpy as np
import pytest

import protok
from benchmarks.accuracy import battery, foldcomp
from benchmarks.tables import battery as tables
from benchmarks.tables import rate_distortion
from protok import bench
from protok.bench.measures import gru
from protok.structure.store import write_store
from protok.testing import exclude, random_backbone


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The file of a battery of two tokenizers and Foldcomp, on a few chains."""
    pytest.importorskip("foldcomp", reason="needs protok[interop]")
    folder = tmp_path_factory.mktemp("battery")
    (folder / "structures").mkdir()
    for name, seeds in (("train", range(4)), ("valid", range(4, 7))):
        write_store([random_backbone(60, seed) for seed in seeds], folder / "structures" / f"{name}.parquet")
    command = ["--data", str(folder), "--train", str(folder / "structures" / "train.parquet"), "--quick"]
    command += ["--model", "3di", "protok-1", "--tasks", "cut", "learnability", "rate"]
    command += ["-o", str(folder / "battery.parquet"), "--cells", str(folder / "cells")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gru, "QUICK", gru.GruSettings(steps=2, rows=4, letters=16, width=16))
        battery.main(command)
        before = (folder / "battery.parquet").read_bytes()
        battery.main(command)
    assert (folder / "battery.parquet").read_bytes() == before, "what is there is not computed again"
    return folder / "battery.parquet"


def test_foldcomp_is_precise_and_counts_every_run():
    pytest.importorskip("foldcomp", reason="needs protok[interop]")
    chain = random_backbone(80, seed=1)
    whole, failed = foldcomp.measured([chain])
    assert not failed and whole["rmsd"].value < 0.2
    assert whole["bits_a_residue"].value == pytest.approx(8 * whole["bytes_a_residue"].value)
    assert 8 < whole["bytes_a_residue"].value < 20
    broken = exclude(chain, [40])
    assert [(part.start, part.stop) for part in foldcomp.runs(broken)] == [(0, 40), (41, 80)]
    cut, _ = foldcomp.measured([broken])
    assert cut["bytes_a_residue"].value > whole["bytes_a_residue"].value + 1
    assert cut["rmsd"].value < 0.2, "a gap moves nothing"


def test_what_foldcomp_cannot_compress_stops_no_other(tmp_path):
    pytest.importorskip("foldcomp", reason="needs protok[interop]")
    files = [tmp_path / f"{name}.pdb" for name in "abc"]
    for file in files:
        protok.write(random_backbone(30, seed=1), file)
    files[1].write_text("nothing\n")
    foldcomp.compress(files)
    assert [file.with_suffix(".fcz").exists() for file in files] == [True, False, True]


def test_what_is_drawn_is_what_was_measured(results, monkeypatch):
    monkeypatch.setattr(rate_distortion, "OUT", results)
    rows = {(row.tokenizer["name"], row.task["name"]): row for row in bench.load_results(results, "valid")}
    scores = rows["protok-1", "rate"].scores.values()
    expected = sorted((part["foretold_bits"]["value"], part["rmsd"]["value"]) for part in scores)
    assert len(expected) == 4 and rate_distortion.of_battery("protok-1@", "rate", "foretold_bits") == expected
    (part,) = rows["foldcomp", "foldcomp"].scores.values()
    (point,) = rate_distortion.of_battery("foldcomp", "foldcomp", "bits_a_residue")
    assert point == (part["bits_a_residue"]["value"], part["rmsd"]["value"])
    assert rate_distortion.of_battery("3di", "rate", "foretold_bits") == []


def test_the_figure_has_the_points_of_the_files(results, monkeypatch, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot", reason="needs protok[train]")
    monkeypatch.setattr(rate_distortion, "OUT", results)
    monkeypatch.setattr(rate_distortion, "FIGURES", tmp_path)
    rate_distortion.main()
    drawn = [line.get_xydata() for line in plt.gcf().axes[0].get_lines()]
    plt.close("all")
    for name, task, bits in (
        ("protok-1@", "rate", "foretold_bits"),
        ("foldcomp", "foldcomp", "bits_a_residue"),
    ):
        points = np.array(rate_distortion.of_battery(name, task, bits))
        assert any(line.shape == points.shape and np.allclose(line, points) for line in drawn)
    nominal = np.array(rate_distortion.points("protok-1@", "valid"))
    assert any(line.shape == nominal.shape and np.allclose(line, nominal) for line in drawn)
    assert (tmp_path / "rate-distortion.svg").stat().st_size > 1000


def test_the_table_says_values_with_errors(results, monkeypatch):
    monkeypatch.setattr(tables, "OUT", results)
    head, _, *lines = tables.battery().splitlines()
    assert head == "| task | what | 3di | protok-1 |"
    (cut,) = (line for line in lines if line.startswith("| `cut`"))
    row = next(row for row in bench.load_results(results, "valid") if row.task["name"] == "cut")
    score = row.scores["all"]["middle_half"]
    assert f"| {score['value']:.3f} ± {score['se']:.3f} |" in cut
