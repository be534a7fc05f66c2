"""Notebooks run from top to bottom offline; what is committed has been run, and is small."""

import json
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: What each must show at least: numbers of pictures, and words that its outputs hold.
SHOWS = {
    "01_tokenize": (3, ["123 residues", "keyframes each 16", "<iframe", "moved: 0.0% changed"]),
    "02_compare_tokenizers": (4, ["protok-1", "protein-blocks", "perplexity"]),
    "03_structtokenbench": (1, ["random-code", "flex_bfactor", "buried"]),
    "04_finetune": (2, ["Fine-tuning of protok-1", "tokens that changed: 0", "held out"]),
    "05_images": (4, ["ImageTokens(", "continuous"]),
    "06_samples": (3, ["steered", "compactness"]),
}
#: What is run of the longer ones: fewer chains and steps than are shown.
SHORTER = {
    "02_compare_tokenizers": {"<= 150][:20]": "<= 150][:4]"},
    "04_finetune": {
        "list(csv.DictReader(lines))[2:]": "list(csv.DictReader(lines))[2:8]",
        '"optim.steps": 40': '"optim.steps": 6',
        '"valid.every": 10': '"valid.every": 3',
        '"finetune.chains": 6': '"finetune.chains": 2',
    },
    "05_images": {'"optim.steps": 160': '"optim.steps": 40'},
    "06_samples": {"particles=32": "particles=4", "particles=16": "particles=4"},
}


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def check(notebook: dict, name: str) -> None:
    """Every cell ran and showed what it should; no warnings, errors, places of a machine."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    pictures, text = 0, []
    for output in outputs(notebook):
        assert output["output_type"] != "error" and output.get("name") != "stderr", output
        data = output.get("data", {})
        pictures += "image/png" in data
        text += ["".join(output.get("text", ""))]
        text += ["".join(value) for key, value in data.items() if key != "image/png"]
    printed = "\n".join(text)
    assert not re.search(r"/(tmp|root|home|work|Users|var)/", printed)
    least, words = SHOWS[name]
    assert pictures >= least
    for word in words:
        assert word in printed, word


def test_there_are_six():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs(path):
    # One shows a structure to turn around, with the library that draws it.
    assert path.stat().st_size < (1_000_000 if path.stem == "01_tokenize" else 300_000)
    check(json.loads(path.read_text()), path.stem)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    pytest.importorskip("nbclient", reason="needs nbclient: pip install '.[dev]'")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install '.[dev]'")
    text, copy = path.read_text(), tmp_path / path.name
    for shown, run in SHORTER.get(path.stem, {}).items():
        shown, run = (json.dumps(part)[1:-1] for part in (shown, run))
        assert text.count(shown) == 1, shown
        text = text.replace(shown, run)
    copy.write_text(text)
    command = [sys.executable, FOLDER / "execute.py", copy.with_suffix("")]
    before = {file.name for file in FOLDER.iterdir()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(copy.read_text()), path.stem)
    assert {file.name for file in FOLDER.iterdir()} == before, "it leaves files behind"
