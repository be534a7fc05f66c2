"""What commands write is whole or absent, and where it cannot go is said before the work."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import protok
from protok.cli.main import main
from protok.tokens.files import load, save
from tests.helpers.full_disk import full_disk
from tests.helpers.paths import ROOT
from tests.helpers.tiny_runs import TINY, write_structures

#: Commands that write, and what they write; OUT is that.
FILES = {
    "encode {pdbs} -o OUT --model 3di": "x.parquet",
    "encode {pdbs} --model 3di -o OUT ": "x.fasta",
    "encode {pdbs} --model 3di  -o OUT": "x.npz",
    "encode {pdbs} --model 3di -o  OUT": "x.csv.gz",
    "encode {bad} --model 3di --errors OUT": "e.tsv",
    "embed {pdbs} -o OUT --model 3di": "v.parquet",
    "decode {tokens} -o {empty} --table OUT": "t.csv",
    "search {letters} {letters} -o OUT": "hits.tsv",
    "cluster {letters} -o OUT": "c.tsv",
    "align {letters} -o OUT": "m.fasta",
    "align {letters} --tree OUT": "m.nwk",
    "align {letters} --columns OUT": "m.tsv",
    "align {letters} --shapes OUT": "s.fasta",
    "matrix {pdbs} --model 3di --tm 0.1 -o OUT": "m.npz",
    "export {letters} --letters -o OUT": "l.fasta",
    "export {letters} --letters -o {empty}/l.fasta --sequences OUT": "s.fasta",
    "view {pdb} --model 3di -o OUT": "v.html",
    "image encode {images} -o OUT": "i.npz",
    "image score {images} --sheet OUT": "s.png",
    "bench report {results} -o OUT": "r.html",
    "bench pack {results} -o OUT": "r.parquet",
}
FOLDERS = {
    "encode {pdbs} -o OUT --model 3di": "set",
    "embed {pdbs} -o OUT --model 3di": "vectors",
    "decode {tokens} -o OUT": "out",
    "decode {tokens} --jobs 2 -o OUT": "out2",
    "export {letters} -o OUT": "corpus",
    "atlas 3di --structures {pdbs} -o OUT": "atlas",
    "train --structures {pdbs} --out OUT": "run",
    "image decode {codes} -o OUT": "pngs",
    "image train --images {images} --out OUT": "image",
    "prior train --tokens {tokens} --out OUT": "prior",
    "prior sample {prior} -n 2 -o OUT": "drawn",
    "bench prepare {pdbs} -o OUT": "data",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the commands read, by the names in the tables above."""
    pil = pytest.importorskip("PIL.Image")
    pytest.importorskip("lightning", reason="training is an extra")
    pytest.importorskip("transformers", reason="priors are an extra")
    from protok.prior import Layout, Prior, PriorConfig

    folder = tmp_path_factory.mktemp("inputs")
    names = ("pdbs", "bad", "images", "results", "prior")
    paths = {name: folder / name for name in names}
    for name in ("bad", "images"):
        paths[name].mkdir()
    write_structures(paths["pdbs"], (40, 44, 48, 52))
    (paths["bad"] / "bad.pdb").write_text("nothing\n")
    for name in ("a", "b"):
        pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        pil.fromarray(pixels).save(paths["images"] / f"{name}.png")
    assert main(["bench", "--model", "3di", "--tasks", "mirror", "-o", str(paths["results"])]) == 0
    paths |= {"pdb": paths["pdbs"] / "s00.pdb", "codes": folder / "codes.npz"}
    paths |= {"tokens": folder / "tokens.parquet", "letters": folder / "letters.parquet"}
    paths["copies"] = folder / "copies.parquet"
    assert main(["encode", str(paths["pdbs"]), "-o", str(paths["tokens"])]) == 0
    assert main(["encode", str(paths["pdbs"]), "-o", str(paths["letters"]), "--model", "3di"]) == 0
    copies = [replace(t, name=f"{t.name}-{i}") for t in load(paths["tokens"]) for i in range(5)]
    save(copies, paths["copies"])
    assert main(["image", "encode", str(paths["images"]), "-o", str(paths["codes"])]) == 0
    layout = Layout(protok.load("protok-1").codebook, 64, condition="none", longest=20, lengths=(4, 9))
    Prior(PriorConfig(layers=1, width=16, heads=2), layout).save_pretrained(paths["prior"])
    return paths


def command(words: str, inputs, out: Path) -> list[str]:
    places = inputs | {"empty": out.parent / "empty"}
    return [str(out) if word == "OUT" else word.format(**places) for word in shlex.split(words)]


@pytest.mark.parametrize(("words", "name"), FILES.items())
def test_a_full_disk_leaves_files_as_they_were(words, name, inputs, tmp_path, capsys):
    """Nothing of 0 bytes, nothing half, no draft; the message names the file."""
    out = tmp_path / name
    arguments = command(words, inputs, out)
    job = "encode" in arguments[:2] or arguments[0] == "embed"
    job = job and "--errors" not in arguments
    earlier = b"" if job else b"earlier"
    if earlier:
        out.write_bytes(earlier)
    with full_disk():
        code = main(arguments)
    err = capsys.readouterr().err
    assert code == 2 and "File too large; free some space" in err and str(tmp_path) in err
    assert (out.read_bytes() if out.exists() else b"") == earlier
    parts = tmp_path / f"{name}.parts"  # work to go on with
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p != out and parts not in p.parents]
    assert left == []
    # With room again the same command does it.
    assert main(arguments) == ("bad" in words)
    assert out.read_bytes() not in (b"", b"earlier") and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("words", "name"),
    [pytest.param(*item, marks=pytest.mark.slow if "jobs" in item[0] else ()) for item in FOLDERS.items()],
)
def test_a_full_disk_leaves_no_half_files_in_folders(words, name, inputs, tmp_path, capsys):
    out = tmp_path / name
    with full_disk():
        code = main(command(words, inputs, out))
    err = capsys.readouterr().err
    assert code == 2 and "File too large; free some space" in err and str(out) in err
    parts = tmp_path / f"{name}.parts"
    left = [path for path in tmp_path.rglob("*") if path.is_file() and parts not in path.parents]
    assert [path for path in left if path.suffix != ".lock"] == []


def test_a_full_disk_ends_a_table_of_results(inputs, tmp_path, capsys):
    with full_disk():
        code = main(["bench", "--model", "3di", "--tasks", "mirror", "-o", str(tmp_path / "out")])
    assert code == 2 and "File too large; free some space" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("words", "name"), FILES.items())
def test_a_folder_in_place_of_a_file_is_refused_before_the_work(words, name, inputs, tmp_path, capsys):
    out = tmp_path / name
    out.mkdir()
    assert refused(command(words, inputs, out), capsys) == f"{out}: is a folder; name a file"
    assert list(tmp_path.rglob("*")) == [out]


@pytest.mark.parametrize(("words", "name"), FOLDERS.items())
def test_a_file_in_place_of_a_folder_is_refused_before_the_work(words, name, inputs, tmp_path, capsys):
    out = tmp_path / name
    out.write_text("earlier")
    reason = refused(command(words, inputs, out), capsys)
    assert reason == f"{out}: is no folder; name one, or a new one"
    assert refused(command(words, inputs, out / "below"), capsys).startswith(f"{out / 'below'}: cannot be")
    assert out.read_text() == "earlier" and list(tmp_path.rglob("*")) == [out]


def test_a_folder_in_place_of_a_page_without_a_name_is_refused(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s00.html").mkdir()
    assert refused(["view", str(inputs["pdb"])], capsys) == "s00.html: is a folder; name a file"


def test_folders_of_files_are_made(inputs, tmp_path):
    out = tmp_path / "new" / "hits.tsv"
    assert main(["search", str(inputs["letters"]), str(inputs["letters"]), "-o", str(out)]) == 0
    assert out.stat().st_size


def refused(arguments: list[str], capsys) -> str:
    """Why a command was refused, with code 2."""
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    message = capsys.readouterr().err.splitlines()[-1].partition("error: ")[2]
    return re.sub("^argument [^:]*: ", "", message)


def test_a_second_job_in_a_folder_leaves_the_errors_of_the_first(inputs, tmp_path):
    first = tmp_path / "first.parquet"
    both = [str(inputs["pdbs"]), str(inputs["bad"])]
    assert main(["encode", *both, "-o", str(first), "--model", "3di"]) == 1
    table = tmp_path / "first.parquet.errors.tsv"
    before = table.read_text()
    assert "bad.pdb" in before
    assert main(["encode", str(inputs["pdbs"]), "-o", str(tmp_path / "first.fasta"), "--model", "3di"]) == 0
    assert table.read_text() == before


def test_a_full_standard_output_is_told_of(examples):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "protok", "encode", str(examples), "--model", "3di"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "protok: error: standard output: No space left on device; free some space, or write elsewhere\n"
    )


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(child) for task in tasks for child in task.read_text().split()]
    return own + [grandchild for child in own for grandchild in children(child)]


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return value


@pytest.fixture
def many(inputs, tmp_path):
    """A folder of more structures than are encoded in some seconds."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(4000):
        os.link(inputs["pdb"], folder / f"s{i}.pdb")
    return folder


def begun(*arguments) -> subprocess.Popen:
    if not Path("/proc/self/task").exists():
        pytest.skip("there is no /proc to see processes in")
    return subprocess.Popen(
        [sys.executable, "-m", "protok", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A shell that runs the tests in the background ignores Ctrl-C for all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group", "code", "message"),
    [
        (signal.SIGTERM, False, 143, "protok: terminated: the same command goes on where it stopped\n"),
        (signal.SIGTERM, True, 143, "protok: terminated: the same command goes on where it stopped\n"),
        (signal.SIGINT, True, 130, "protok: interrupted: the same command goes on where it stopped\n"),
        (signal.SIGKILL, False, -9, ""),
    ],
)
def test_signals_leave_no_processes_and_no_tracebacks(number, group, code, message, many, tmp_path):
    out = tmp_path / "out" / "x.parquet"
    process = begun("encode", many, "-o", out, "--model", "3di", "--jobs", 2, "--timeout", 60)
    workers = until(lambda: len(started := children(process.pid)) >= 3 and started)  # and a tracker
    if number == signal.SIGKILL:  # of what is not yet a process, nobody can know
        until(lambda: (tmp_path / "out" / "x.parquet.parts" / "journal.jsonl").exists())
    (os.killpg if group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, message)
    until(lambda: not any(map(runs, workers)), 20)
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix != ".parts"]


@pytest.mark.slow
def test_training_ends_of_sigterm_as_of_an_interrupt(inputs, tmp_path):
    out = tmp_path / "run"
    settings = TINY | {"optim.steps": 100_000, "valid.every": 50_000}
    options = [f"--set={key}={value!r}" for key, value in settings.items()]
    process = begun("train", "--structures", inputs["pdbs"], "--out", out, *options)
    until(lambda: (out / "metrics.csv").exists() and len((out / "metrics.csv").read_text()) > 200)
    started = children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.splitlines()[-1] == "protok: terminated: --resume goes on from the last checkpoint"
    assert "Traceback" not in err and not any(map(runs, started))


#: Commands that take some seconds after they have written something into OUT.
LONG = {
    "decode": "decode {copies} -o OUT",
    "decode with workers": "decode {copies} --jobs 2 -o OUT",
    "image decode": "image decode {codes} -o OUT",
    "image train": "image train --images {images} --out OUT --set data.size=16",
    "prior train": "prior train --tokens {tokens} --out OUT --set model.layers=1 --set model.width=16"
    " --set model.heads=2",
    "prior sample": "prior sample {prior} -n 60 -o OUT",
    "bench": "bench --model 3di --tasks mirror,rotation,utilization,stability -o OUT",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "number"),
    [(words, signal.SIGKILL) for words in LONG.values()]
    + [(LONG[name], signal.SIGTERM) for name in ("decode with workers", "bench")],
)
def test_a_command_that_is_ended_leaves_whole_files(words, number, inputs, tmp_path):
    """Under their names; SIGTERM leaves no drafts either."""
    out = tmp_path / "out"
    process = begun(*command(words, inputs, out))
    until(lambda: process.poll() is not None or [path for path in out.rglob("*") if path.is_file()])
    time.sleep(0.2)
    started = children(process.pid) if process.poll() is None else []
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    # It may have been done before, or even have printed that it is.
    assert process.returncode in ((0, 143) if number == signal.SIGTERM else (0, -9)) or " in " in err, err
    assert "Traceback" not in err
    until(lambda: not any(map(runs, started)), 20)
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"]
    whole = [path for path in files if path.suffix != ".part"]
    assert whole == files or number == signal.SIGKILL
    logs = {path for path in whole if "tensorboard" in path.parts}
    for path in set(whole) - logs:
        content = path.read_bytes()
        assert content, path
        if path.suffix == ".pdb":
            assert content.endswith(b"END\n") and len(protok.read(path))
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True, map_location="cpu")
    if number == signal.SIGKILL and "train" not in words and "sample" not in words:
        whole = tmp_path / "whole"
        for folder in (out, whole):
            assert main(command(words, inputs, folder)) == 0
        assert contents(out) == contents(whole)


def contents(folder) -> dict:
    """Of each file in a folder what does not depend on the clock and on the folder."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix != ".part"}
    content = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    varies = rb'"(\w*second\w*|encoding|rest)": [0-9.e+-]+|"command": .*|' + re.escape(bytes(folder))
    return {name: re.sub(varies, b"", data) for name, data in content.items()}


@pytest.mark.slow
def test_a_checkpoint_that_has_no_room_leaves_the_last(tmp_path):
    from protok.common.callbacks import AtomicCheckpoints

    path = tmp_path / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"x": torch.zeros(3)}, path)
    before = path.read_bytes()
    # torch says that it is at an unexpected position.
    with full_disk(1000), pytest.raises(OSError, match="last.ckpt") as caught:
        AtomicCheckpoints().save_checkpoint({"x": torch.zeros(30_000)}, path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.ckpt"]
