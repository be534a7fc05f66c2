"""The command line: what it prints, where, and its exit codes."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import protok
from protok.common import checkpoint
from protok.common.progress import show_progress
from protok.tokenizers import registry
from protok.tokenizers.alphabets import ALPHABETS
from protok.tokens.files import load
from tests.helpers.commands import run
from tests.helpers.models import small
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Folder of a small untrained model."""
    return small().save_pretrained(tmp_path_factory.mktemp("models") / "small")


def test_help_is_instant():
    script = (
        "import sys, time; began = time.perf_counter(); sys.argv = ['protok', '--help']\n"
        "from protok.cli import main\n"
        "try: main.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'biotite', 'lightning', 'rich', 'gemmi'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(time.process_time())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "encode" in done.stdout
    assert "decode" in done.stdout
    assert float(done.stdout.splitlines()[-1]) < 0.5  # CPU seconds, start of Python included


@pytest.mark.parametrize("command", ["encode", "decode", "train", "info"])
def test_help_of_commands(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "exit codes: 0 all well; 1 some inputs failed" in " ".join(out.split())


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "protok", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"protok {protok.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["encode"],
        ["encode", "x.pdb", "--jobs", "0"],
        ["decode", "x.parquet"],
        ["encode", "nowhere.pdb"],
        ["decode", "nowhere.parquet", "-o", "out"],
        ["info", "nowhere"],
        ["info", "no/where.pdb"],
        ["encode", "x.pdb", "--model", "nobody"],
        ["encode", "x.pdb", "--mod", "3di"],
        ["train", "--out", "x", "--set", "lr"],
        ["encode", "x.pdb", "--json", "--model", "3di"],
        ["encode", "x.pdb", "-o", "x.tok", "--model", "3di"],
    ],
)
def test_wrong_use(capsys, tmp_path, monkeypatch, examples, arguments):
    monkeypatch.chdir(tmp_path)
    Path("x.pdb").write_bytes((examples / "7soo.A.pdb").read_bytes())
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert "error: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.pdb"]


def test_encode_to_stdout(capsys, examples):
    code, out, err = run(capsys, "encode", examples / "7soo.A.pdb", "--model", "3di")
    tokens = protok.load("3di").encode(protok.read(examples / "7soo.A.pdb"))
    header, letters = out.splitlines()
    assert (code, err) == (0, "")
    assert header.startswith(f">7soo.A_A codebook={tokens.codebook} size=20 ")
    assert letters == tokens.letters


def test_encode_to_stdout_with_errors(capsys, examples, tmp_path):
    (tmp_path / "bad.pdb").write_text("nothing\n")
    arguments = ["encode", tmp_path, examples / "7soo.A.pdb", "--model", "3di"]
    code, out, err = run(capsys, *arguments, "--errors", tmp_path / "e.tsv")
    assert code == 1
    assert out.count(">") == 1
    assert "bad.pdb" in err
    assert (tmp_path / "e.tsv").read_text().splitlines()[1].startswith(f"{tmp_path / 'bad.pdb'}\t")
    code, out, err = run(capsys, *arguments, "--on-error", "stop")
    assert (code, out) == (1, "")


def test_encode_to_file(capsys, examples, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.pdb").write_text("nothing\n")
    out = tmp_path / "t.parquet"
    arguments = ["encode", examples, tmp_path / "in", "-o", out, "--model", "3di"]
    code, printed, err = run(capsys, *arguments)
    assert (code, printed) == (1, "")
    assert "4 files, 4 chains, 436 residues" in err
    assert "1 file failed" in err
    assert f"{out}.errors.tsv" in err
    assert all(line.startswith("protok: ") for line in err.splitlines())  # and no progress bar
    assert [tokens.name for tokens in load(out)] == ["7soo.A", "7vmf.A", "7w89.A", "7wf8.B"]
    code, printed, err = run(capsys, *arguments, "--json")
    summary = json.loads(printed)
    assert code == 1
    assert (summary["files"], summary["chains"], summary["failed"]) == (5, 4, 1)
    assert summary["errors"][0][0] == str(tmp_path / "in" / "bad.pdb")
    assert "complete before" in err
    code, printed, err = run(capsys, *arguments, "--chain", "A")
    assert code == 2
    assert "--overwrite" in err
    code, _, err = run(capsys, *arguments, "--overwrite", "--on-error", "stop")
    assert code == 1
    assert "stopped: " in err


@pytest.mark.slow
def test_round_trip(capsys, examples, tmp_path, model):
    tokens, out = tmp_path / "t.parquet", tmp_path / "out"
    originals = tmp_path / "originals"
    originals.mkdir()
    inputs = []
    for name, stop in (("7soo.A", 30), ("7vmf.A", 25)):
        inputs.append(originals / f"{name}.pdb")
        protok.write(protok.read(*examples.glob(f"{name}.*"))[:stop], inputs[-1])
    assert run(capsys, "encode", *inputs, "-o", tokens, "--model", model)[0] == 0
    code, printed, err = run(
        capsys,
        "decode",
        tokens,
        "-o",
        out,
        "--model",
        model,
        "--compare",
        originals,
        "--table",
        tmp_path / "t.csv",
    )
    assert code == 0
    head, *rows, mean = printed.splitlines()
    assert head.split() == ["name", "chain", "length", "RMSD", "TM-score", "lDDT"]
    assert [row.split()[:3] for row in rows] == [["7soo.A", "A", "30"], ["7vmf.A", "A", "25"]]
    scores = np.array([[float(cell) for cell in row.split()[3:]] for row in rows])
    assert mean.startswith("mean of 2 chains ")
    means = [float(cell) for cell in mean.split()[4:]]
    np.testing.assert_allclose(means, scores.mean(axis=0), atol=0.006)
    for row, values in zip(rows, scores, strict=True):
        name = row.split()[0]
        back = protok.read(out / f"{name}_A.pdb")
        score = protok.compare(back, protok.read(originals / f"{name}.pdb"))
        np.testing.assert_allclose([score.rmsd, score.tm_score, score.lddt], values, atol=0.011, rtol=1e-3)
    with open(tmp_path / "t.csv", newline="") as handle:
        written = list(csv.DictReader(handle))
    assert [float(row["rmsd"]) for row in written] == pytest.approx(scores[:, 0], abs=0.006)
    assert "2 chains in " in err

    code, printed, _ = run(capsys, "decode", tokens, "-o", out, "--model", model, "--json")
    assert code == 0
    assert [chain["rmsd"] for chain in json.loads(printed)["chains"]] == [None, None]
    code, printed, err = run(capsys, "decode", tokens, "-o", out, "--model", model, "--compare", inputs[0])
    assert code == 1
    assert "7vmf.A, chain A: no original of this name" in err
    assert printed.splitlines()[-1].startswith("mean of 1 chain ")
    code, printed, err = run(capsys, "decode", tokens, "-o", out)
    assert code == 2
    assert "give the folder of the model" in err


def test_decode_of_an_alphabet_is_wrong_use(capsys, examples, tmp_path):
    run(capsys, "encode", examples / "7soo.A.pdb", "-o", tmp_path / "t.fasta", "--model", "3di")
    code, _, err = run(capsys, "decode", tmp_path / "t.fasta", "-o", tmp_path / "out")
    assert code == 2
    assert "without a decoder" in err


def test_info(capsys, examples, tmp_path, model):
    code, out, _ = run(capsys, "info", examples / "7wf8.B.pdb")
    assert code == 0
    assert "residues: 128" in out
    assert "from: 283" in out
    run(capsys, "encode", examples / "7wf8.B.pdb", "-o", tmp_path / "t.csv", "--model", model)
    code, out, _ = run(capsys, "info", tmp_path / "t.csv", "--json")
    summary = json.loads(out)
    (codebook,) = summary["codebooks"]
    ids = load(tmp_path / "t.csv")[0].ids
    assert (summary["chains"], summary["residues"]) == (1, 128)
    assert summary["codebooks"][codebook]["codes used"] == len(np.unique(ids))
    code, out, _ = run(capsys, "info", model)
    assert code == 0
    assert f"codebook: {codebook}" in out
    assert "codes: 64" in out
    run(capsys, "encode", examples, "-o", tmp_path / "set", "--model", "3di")
    code, out, _ = run(capsys, "info", tmp_path / "set")
    assert code == 0 and "kind: tokens" in out and "chains: 4\n" in out
    shutil.copytree(examples, tmp_path / "in", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "in" / "bad.pdb").write_text("nothing\n")
    code, out, _ = run(capsys, "info", tmp_path / "in", "--chain", "A", "--json")
    summary = json.loads(out)
    assert (summary["kind"], summary["structures"], summary["residues"]) == ("structures", 3, 308)
    assert [Path(file).name for file in summary["not read"]] == ["7wf8.B.pdb", "bad.pdb"]
    (tmp_path / "none").mkdir()
    code, _, err = run(capsys, "info", tmp_path / "none")
    assert code == 2 and "no structure files" in err
    code, out, _ = run(capsys, "info", "protein-blocks")
    assert "alphabet: abcdefghijklmnop" in out


def test_train_passes_everything_on(capsys, monkeypatch):
    calls = []
    stand_in = types.ModuleType("protok.training.run")
    stand_in.run = lambda recipe, **rest: calls.append((recipe, rest))
    monkeypatch.setitem(sys.modules, "protok.training.run", stand_in)
    monkeypatch.setattr(protok, "train", stand_in, raising=False)
    code, *_ = run(
        capsys,
        "train",
        "r.toml",
        "--structures",
        "pdbs",
        "--init",
        "protok-1",
        "--out",
        "runs/x",
        "--set",
        "optim.lr=1e-4",
        "--set",
        "optim.steps=20",
        "--set",
        "model.name=mine",
        "--set",
        "data.train=a=b.parquet",
        "--resume",
    )
    assert code == 0
    assert calls == [
        (
            Path("r.toml"),
            {
                "structures": "pdbs",
                "init": "protok-1",
                "out": Path("runs/x"),
                "overrides": {
                    "optim.lr": 1e-4,
                    "optim.steps": 20,
                    "model.name": "mine",
                    "data.train": "a=b.parquet",
                },
                "resume": True,
            },
        )
    ]


def test_interrupted(capsys, monkeypatch, examples, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("protok.pipeline.encode.encode_all", stop)
    code, _, err = run(capsys, "encode", examples, "-o", tmp_path / "t.parquet", "--model", "3di")
    assert code == 130
    assert "goes on where it stopped" in err


def test_closed_pipe_is_no_error(examples):
    process = subprocess.Popen(
        [sys.executable, "-m", "protok", "encode", str(examples), "--model", "3di"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert err == b""


def test_progress_on_a_terminal_only(capfd, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the standard error for a terminal
    for show in (True, None):
        with show_progress("encoding", 3, show) as advance:
            advance(2, 1)
            time.sleep(0.2)
            advance(1)
        captured = capfd.readouterr()
        assert captured.out == ""
        assert ("encoding" in captured.err) == ("1 failed" in captured.err) == bool(show)


def test_flags_that_would_do_nothing_are_refused(capsys, tmp_path, examples):
    store = tmp_path / "store.parquet"
    store.touch()
    code, _, err = run(capsys, "encode", store, "-o", tmp_path / "t", "--chain", "A")
    assert code == 2 and "how files are read: not for a store" in err
    code, _, err = run(
        capsys, "encode", store, "-o", tmp_path / "t.csv", "--model", "3di", "--keyframes", "8"
    )
    assert code == 2 and "no keyframes" in err
    code, _, err = run(capsys, "encode", examples, "-o", tmp_path / "t", "--gpus", "1")
    assert code == 2 and "--engine ray" in err


@pytest.fixture
def mixed(examples, tmp_path):
    """A folder of a good file, one with a note and two bad ones."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    text = (examples / "7w89.A.pdb").read_text()
    (folder / "good.pdb").write_text(text)
    (folder / "noted.pdb").write_text(f"MODEL        1\n{text}ENDMDL\nMODEL        2\n{text}ENDMDL\n")
    for name in ("bad.pdb", "worse.pdb"):
        (folder / name).write_text("junk\n")
    return folder


def test_quiet_says_errors_and_verbose_says_each(capsys, tmp_path, mixed):
    usual = run(capsys, "encode", mixed, "-o", tmp_path / "a.parquet", "--model", "3di")
    quiet = run(capsys, "encode", mixed, "-o", tmp_path / "b.parquet", "--model", "3di", "-q")
    verbose = run(capsys, "encode", mixed, "-o", tmp_path / "c.parquet", "--model", "3di", "-v")
    assert [result[0] for result in (usual, quiet, verbose)] == [1, 1, 1]
    assert "2 files, 2 chains" in usual[2] and "note: " in usual[2] and "encoding" not in usual[2]
    (line,) = quiet[2].splitlines()
    assert "2 files failed" in line and "the first: " in line
    assert verbose[2].count("error: ") == 2 and "note: " in verbose[2]
    assert re.search(r"^encoding: 4 of 4, 2 failed$", verbose[2], re.M)
    assert (
        "encoding: 4 of 4"
        not in run(capsys, "encode", mixed, "-o", tmp_path / "d.parquet", "--model", "3di")[2]
    )
    shutil.rmtree(mixed)
    mixed.mkdir()
    code, out, err = run(capsys, "decode", tmp_path / "a.parquet", "-o", tmp_path / "out", "--quiet")
    assert (code, out) == (2, "") and err.startswith("protok: error: ")
    code, _, err = run(capsys, "encode", mixed, "-q", "-v")
    assert code == 2 and "not allowed with" in err


def test_models_are_those_of_the_registry_and_of_the_readme(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    rows = registry.models()
    names = [name for row in rows for name in row.names]
    kinds = ("", "image-tokenizer", "prior")
    assert sorted(names) == sorted([*ALPHABETS, *(of for kind in kinds for of in checkpoint.shipped(kind))])
    table = (ROOT / "README.md").read_text("utf-8").split("[start:models] -->")[1].split("<!--")[0]
    cells = [line.strip("|").split("|") for line in table.strip().splitlines()[2:]]
    in_readme = [tuple(cell.strip().replace("`", "") for cell in row) for row in cells]
    assert in_readme == [(", ".join(row.names), row.bits, row.use) for row in rows]
    assert [tuple(re.split(r"  +", line)) for line in out.splitlines()[1:]] == in_readme


@pytest.mark.parametrize(
    "line, expected",
    [
        ("protok enc", {"encode"}),
        ("protok encode x --engine ", {"local", "ray"}),
        ("protok info data/7so", {"data/7soo.A.pdb"}),
    ],
)
def test_a_shell_is_told_what_may_follow(line, expected, tmp_path):
    pytest.importorskip("argcomplete", reason="needs argcomplete, which comes with protok")
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-c", "from protok.cli.main import main; main()"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **shell}, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stderr
    assert {word.strip() for word in (tmp_path / "words").read_text().splitlines()} == expected
