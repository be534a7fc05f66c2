"""Commands of the repository in the hands of somebody who has none of the project's data."""

import os
import re
import runpy
import subprocess
import sys

import pytest

from benchmarks.command import without_traceback
from tests.helpers.paths import ROOT

FILES = [path for name in ("benchmarks", "recipes") for path in (ROOT / name).rglob("*.py")]
MODULES = [path for path in FILES if 'if __name__ == "__main__"' in path.read_text("utf-8")]
#: Arguments without which a command would not ask for data; NONE stands for a place where nothing is.
ARGUMENTS = {
    "benchmarks.accuracy.battery": "--data NONE",
    "benchmarks.accuracy.confidence": "--data NONE",
    "benchmarks.accuracy.environment_design": "--run --data NONE",
    "benchmarks.accuracy.finetune": "--data NONE --train NONE/train.parquet",
    "benchmarks.accuracy.language_model": "--data NONE --train NONE/runs/data/train.parquet",
    "benchmarks.accuracy.readers": "NONE",
    "benchmarks.accuracy.reference_codec": "--train NONE/structures/train.parquet",
    "benchmarks.accuracy.shape_design": "--run --data NONE",
    "benchmarks.accuracy.shapes": "--data NONE --test",
    "benchmarks.leaderboard.clusters": "--data NONE",
    "benchmarks.leaderboard.compare": "3di protein-blocks --cells NONE",
    "benchmarks.leaderboard.geometry_in_codes": "--data NONE",
    "benchmarks.leaderboard.run": "--run --data NONE --cells NONE/cells",
    "benchmarks.leaderboard.search": "--half A --data NONE",
    "benchmarks.leaderboard.tm_scores": "--data NONE",
    "benchmarks.progressive.run": "--tune first --data NONE --jobs 1",
    "benchmarks.quantizers.codecs": f"{ROOT}/protok/weights/protok-image --data NONE --figures NONE",
    "benchmarks.quantizers.images": "--run --data NONE --runs NONE",
    "benchmarks.quantizers.image_model": f"{ROOT}/protok/weights/protok-image --data NONE --figures NONE",
    "benchmarks.quantizers.prior_samples": "NONE --tokens NONE",
    "benchmarks.speed.decoding": "--model NONE/",
    "benchmarks.speed.encoding": "--structures NONE",
    "benchmarks.speed.reading": "--structures NONE",
    "benchmarks.tables.pictures": "--data NONE",
    "recipes.environments.join": "NONE/letters",
    "recipes.environments.relatives": "NONE/runs/data",
    "recipes.environments.teacher": "NONE/runs/data",
    "recipes.environments.train": "--set data.folder=NONE/runs/data",
    "recipes.exclude": "NONE/train.parquet --tested a=NONE -o NONE/out.tsv",
    "recipes.image.gather": "NONE/images",
    "recipes.promod3": "NONE/promod3-data_1.deb",
}
#: Commands that read the repository alone, and that which fetches.
NEED_NOTHING = {
    "benchmarks.progressive.analysis",
    "benchmarks.speed.projection",
    "benchmarks.speed.quantizers",
    "benchmarks.tables.rate_distortion",
    "benchmarks.tables.write",
    "benchmarks.targets",
}


def named(path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_command_is_tried():
    assert {named(path) for path in MODULES} == {*ARGUMENTS, *NEED_NOTHING}


@pytest.fixture
def ended(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command where nothing is, to what it printed and its last sentence."""
    pytest.importorskip("gemmi", reason="needs protok[bench]")
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> tuple[str, str]:
        arguments = ARGUMENTS[name].replace("NONE", str(tmp_path / "none")).split()
        if name != "benchmarks.accuracy.readers":
            out = "--out" if name in ("benchmarks.leaderboard.search", "recipes.environments.train") else "-o"
            arguments += [out, str(tmp_path / "result.parquet")]
        if name == "benchmarks.progressive.run":  # its processes must find what they call
            command, env = [sys.executable, "-m", name, *arguments], os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            assert done.returncode == 1
            return done.stdout, done.stderr.strip()
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(name, run_name="__main__")
        assert isinstance(end.value.code, str), "a sentence, which makes exit code 1"
        return capsys.readouterr().out, end.value.code

    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_without_data_a_command_says_what_it_needs_and_how_to_get_it(name, ended, tmp_path):
    printed, sentence = ended(name)
    assert sentence and "\n" not in sentence
    assert str(tmp_path / "none") in sentence or "runs/data" in sentence
    assert re.search("not published|fetches|makes|measured.md|give", printed + sentence)
    assert not (tmp_path / "result.parquet").exists()


def test_commands_that_pages_name_are_there():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md"), *FILES]
    text = "".join(page.read_text("utf-8") for page in pages)
    modules = set(re.findall(r"python -m ((?:benchmarks|recipes)\.[a-z_.0-9]*[a-z_0-9])", text))
    assert len(modules) > 20 and modules <= {named(path) for path in MODULES}


def test_a_command_imports_what_a_model_needs(tmp_path, monkeypatch):
    (tmp_path / "own_of_a_user.py").write_text("made = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["x", "--import", "own_of_a_user", "--data", "y"])
    seen = []
    without_traceback(lambda: seen.append((sys.argv[1:], "own_of_a_user" in sys.modules)))
    assert seen == [(["--data", "y"], True)]
