"""A short run of the fuzzer of the repository, and that it finds what it should."""

import random
import subprocess
import sys

import pytest

import protok
from protok.errors import CorruptFile
from tests.helpers.paths import ROOT
from tests.helpers.tiny import resident
from tools.fuzz import attempt, peak
from tools.fuzz_cases import Case, build, mutate, reader


@pytest.mark.slow
def test_damaged_files_are_read_or_refused():
    command = [sys.executable, "tools/fuzz.py", "--cases", "400"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 cases, seed 0" in done.stdout and ", 0 findings" in done.stdout


@pytest.fixture(scope="module")
def seeds():
    return build()


def test_a_case_is_the_same_bytes_each_time(seeds):
    again = build()
    for number in range(30):
        a, b = mutate(seeds, 7, number), mutate(again, 7, number)
        assert (a.target, a.name) == (b.target, b.name)
        if a.target not in ("npz", "codes", "foldcomp"):  # which hold the time, or what lay in memory
            assert a.files == b.files


def test_sound_files_are_read(seeds, tmp_path):
    for target, inputs in seeds.items():
        for name, files in inputs:
            case = Case(target, name, files, reader(target, random.Random(0)))
            case.use(case.write(tmp_path))


def refuse(error):
    def read(path, **options):
        raise error

    return read


def grow(path, **options):
    # The peak of the tests before may lie far above what the process holds now.
    held = b"x" * (2**29 + peak() - (resident() << 10))
    raise CorruptFile(f"holds {len(held)} bytes", file=path)


@pytest.mark.parametrize(
    "read, kind",
    [
        (refuse(KeyError("x")), "untyped"),
        (refuse(CorruptFile("is damaged")), "wrong"),
        (lambda path, **options: protok.testing.random_backbone(5)[:0], "wrong"),
        (grow, "memory"),
    ],
)
def test_faults_are_found(seeds, tmp_path, monkeypatch, read, kind):
    monkeypatch.setattr(protok, "read", read)
    bound = peak() + 2**26 if kind == "memory" else 2**60
    pdb = {"pdb": seeds["pdb"]}
    _, outcome, finding = attempt(pdb, 0, 1, tmp_path, bound)
    assert outcome == "failed" or kind == "memory"
    assert finding.kind == kind, finding
