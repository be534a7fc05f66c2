"""Four users, each from the README to a result with at most five commands.

A biologist, a builder of language models, a researcher and a reviewer; each may have several days.
"""

import csv
import json
import shutil

import numpy as np
import pytest

import protok
from benchmarks import records, targets
from benchmarks.paths import RESULTS
from protok.cli.main import main

pytestmark = pytest.mark.slow

MOST = 5


@pytest.fixture
def run(capsys):
    """Run a command and return what it printed; fails on the sixth."""
    commands = []

    def execute(line: str, code: int = 0) -> str:
        commands.append(line)
        assert len(commands) <= MOST, commands
        assert main(line.split()) == code
        return capsys.readouterr().out

    return execute


@pytest.fixture
def desk(examples, tmp_path, monkeypatch):
    """A folder of structures as people have them: several formats, and one that is no structure."""
    folder = tmp_path / "pdbs"
    shutil.copytree(examples, folder, ignore=shutil.ignore_patterns("*.md"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_biologist_with_a_folder(run, desk):
    """Which of my structures are like this one, and are the tokens any good?"""
    (desk / "pdbs" / "broken.pdb").write_text("ATOM      1  N   ALA A   1      xx\n")
    run("encode pdbs -o tokens.parquet", code=1)
    (failed,) = csv.DictReader((desk / "tokens.parquet.errors.tsv").read_text().splitlines(), delimiter="\t")
    assert failed["file"].endswith("broken.pdb") and failed["reason"]
    table = json.loads(run("decode tokens.parquet -o out --compare pdbs --json"))
    assert len(list((desk / "out").iterdir())) == 4 and table["means"]["rmsd"] < 0.7
    hits = run("search pdbs/7vmf.A.cif tokens.parquet").splitlines()
    assert hits[1].split("\t")[1].startswith("7vmf.A")
    assert "protok-1@" in run("info tokens.parquet")


def test_a_builder_of_language_models(run, desk):
    """Ids, a vocabulary and a corpus; and what the model writes becomes a structure again."""
    run("encode pdbs -o tokens.parquet")
    run("export tokens.parquet -o lm")
    lines = [json.loads(line) for line in (desk / "lm/corpus.jsonl").read_text().splitlines()]
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(desk / "lm")
    ids = tokenizer(lines[0]["text"])["input_ids"]
    from protok.tokens.vocabulary import Vocabulary

    written = Vocabulary.load(desk / "lm").decode(ids, name="sample")
    protok.tokens.files.save(written, desk / "sample.fasta")
    run("decode sample.fasta -o samples")
    (file,) = (desk / "samples").iterdir()
    assert len(protok.read(file)) == len(written)


def test_a_researcher_of_tokenizers(run, desk):
    """A model of my own, trained, beside others."""
    pytest.importorskip("lightning", reason="needs protok[train]")
    from tests.helpers.tiny_runs import TINY, write_structures

    write_structures(desk / "mine", [30, 34, 40, 44, 50, 54])
    sets = " ".join(f"--set {key}={json.dumps(value).replace(' ', '')}" for key, value in TINY.items())
    run(f"train --structures mine --out runs/mine {sets} --set optim.steps=20")
    out = run("bench --model runs/mine/model --model 3di --tasks utilization,mirror --data pdbs -o r")
    assert "tiny" in out and "3di" in out
    run("bench report r -o report.html")
    assert "utilization" in (desk / "report.html").read_text()


def test_a_researcher_with_a_family(run, desk):
    """The shipped model on my structures: what it gave and cost, ready to be published."""
    pytest.importorskip("lightning", reason="needs protok[train]")
    few = '--set optim.steps=2 --set valid.every=2 --set split.method="kmers" --set finetune.chains=1'
    run(f"train --init protok-1 --structures pdbs --out runs/mine --codebook adapted {few}")
    assert "## Letters before and after" in (desk / "runs/mine/report.md").read_text()
    assert len((desk / "runs/mine/letters.csv").read_text().splitlines()) == 1 + 64
    card = (desk / "runs/mine/model/README.md").read_text()
    assert "library_name" in card and "`protok-1@" in card and "**Codebook**: adapted." in card
    run("encode pdbs -o tokens.parquet --model runs/mine/model")
    assert "mine@" in run("info tokens.parquet")


def test_a_reviewer(run, desk):
    """Do the claims hold: same codes after a motion, round trip, refusal of other codebooks?"""
    rows = json.loads(run("bench --model protok-1 --tasks rotation,reconstruction --data pdbs --json"))
    values = json.dumps(rows)
    assert "tm_score" in values and len(rows) == 2
    same = next(r for r in rows if r["task"]["name"] == "rotation")
    assert all(split["same"]["value"] > 0.99 for split in same["scores"].values())
    facts = json.loads(run("info protok-1 --json"))
    assert facts["recipe"]["optim"] and facts["train_sha256"], "how the weights were made is said"
    run("encode pdbs/7w89.A.pdb -o a.fasta --model 3di")
    run("decode a.fasta -o out", code=2)
    assert not (desk / "out").exists()
    tokens = protok.load("protok-1").encode(desk / "pdbs/7w89.A.pdb")
    turned = protok.testing.moved(protok.read(desk / "pdbs/7w89.A.pdb"), shift=(30.0, -5.0, 12.0))
    assert np.array_equal(protok.load("protok-1").encode(turned).ids, tokens.ids)


def test_a_reviewer_of_the_numbers(run, desk):
    """Is what the tables say of a target what I measure, with the commands of the README?"""
    results = records.read(RESULTS / "shapes.parquet")
    codebook = protok.load("protok-1").codebook
    each4 = results[f"{codebook} cameo2022"]["reconstruction"]["4"]
    order = [target.id for target in targets.targets() if target.set == "cameo2022"]
    assert len(order) == each4["chains"] == len(each4["rmsd_each"])
    run("encode pdbs -o tokens.parquet")
    assert "bits a residue: 8.9" in run("info tokens.parquet"), "with keyframes each 4"
    table = json.loads(run("decode tokens.parquet -o out --compare pdbs --json"))
    measured = {row["name"]: row["rmsd"] for row in table["chains"]}
    assert len(measured) == 4
    for name, rmsd in measured.items():
        assert rmsd == pytest.approx(each4["rmsd_each"][order.index(name)], abs=2e-3), name
