"""Batch jobs under attack: poisonous files, kills at random moments, many small members."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest

import protok
from protok.errors import ProtokError
from protok.pipeline.batches import encode_files
from protok.pipeline.encode import encode_all, job_key
from protok.structure.io.sources import foldcomp
from protok.tokens.files import load
from tests.helpers.paths import ROOT
from tests.helpers.tiny import Tiny

pytestmark = pytest.mark.slow

HERE = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def pdbs(pieces) -> Path:
    return pieces(12)


def names(path) -> list[str]:
    return [tokens.name for tokens in load(path)]


def test_poison_costs_its_own_rows(pdbs, tmp_path):
    for name in ("killer", "leaver", "hanger"):
        shutil.copy(pdbs / "s05.pdb", pdbs / f"{name}.pdb")
    with open(pdbs / "huge.pdb", "wb") as file:
        file.truncate(10 << 30)  # takes no room on the disk
    out = tmp_path / "tokens.parquet"
    began = time.monotonic()
    summary = encode_all(pdbs, Tiny(), out, jobs=2, timeout=4.0)
    assert time.monotonic() - began < 120
    assert names(out) == [f"s{n:02}" for n in range(12)]
    reasons = {Path(file).stem: reason for file, _, reason in summary.errors}
    assert set(reasons) == {"killer", "leaver", "hanger", "huge"}
    assert "SIGKILL" in reasons["killer"]
    assert "exit code 3" in reasons["leaver"]
    assert "longer than 4 s" in reasons["hanger"] and "timeout" in reasons["hanger"]
    assert "holds more than 2048 MiB" in reasons["huge"]


def test_a_time_limit_protects_a_single_process(pdbs, tmp_path):
    shutil.copy(pdbs / "s05.pdb", pdbs / "leaver.pdb")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(ROOT)!r})
            from tests.helpers.tiny import Tiny
            from protok import encode_all
            if __name__ == "__main__":
                timeout = float(sys.argv[1]) if sys.argv[1:] else None
                encode_all({str(pdbs)!r}, Tiny(), {str(tmp_path / "t.parquet")!r}, timeout=timeout)
            """
        )
    )
    runs = [sys.executable, script], [sys.executable, script, "60"]
    codes = [subprocess.run(run, env=HERE).returncode for run in runs]
    assert codes == [3, 0]
    assert names(tmp_path / "t.parquet") == [f"s{n:02}" for n in range(12)]


def test_sizes_are_limited(pdbs, tmp_path):
    with open(pdbs / "s03.pdb", "ab") as file:
        file.write(b"REMARK\n" * 1000)
    results = list(encode_files(pdbs, Tiny(), max_bytes=7000))
    ((name, error),) = [(Path(r.path).name, error) for r in results for error in r.errors]
    assert name == "s03.pdb"
    assert "holds more than 7000 bytes" in str(error) and "--max-bytes" in str(error)


@pytest.mark.parametrize("jobs", [1, 2])
def test_unordered_is_the_same_set(pdbs, tmp_path, jobs):
    out = tmp_path / "t.parquet"
    encode_all(pdbs, Tiny(), out, jobs=jobs, ordered=False)
    assert sorted(names(out)) == [f"s{n:02}" for n in range(12)]
    with pytest.raises(ProtokError, match="ordered False, now True"):
        encode_all(pdbs, Tiny(), out)
    paths = [result.path for result in encode_files(pdbs, Tiny(), jobs=jobs, ordered=False)]
    assert sorted(paths) == sorted(map(str, pdbs.iterdir()))


def test_killed_at_random_moments_nothing_is_lost_or_repeated(pdbs, tmp_path):
    chance = random.Random(0)
    archive, log, out = tmp_path / "a.tar.gz", tmp_path / "log", tmp_path / "t.parquet"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(pdbs.iterdir()):
            tar.add(path, f"member-{path.name}")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(ROOT)!r})
            from tests.helpers.tiny import Tiny
            from protok.pipeline import batches as batch, encode as scale, journal
            journal.PART_ROWS = batch.BATCH_FILES = 3
            if __name__ == "__main__":
                print("begun", flush=True)
                scale.encode_all(
                    [{str(pdbs)!r}, {str(archive)!r}], Tiny({str(log)!r}, seconds=0.05),
                    {str(out)!r}, jobs=2,
                )
            """
        )
    )
    kills = 0
    while kills < 15:
        process = subprocess.Popen([sys.executable, script], env=HERE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        count = len(log.read_text().split()) if log.exists() else 0
        # Some moments into the work; some runs are killed before any, some may finish.
        target = count + chance.randrange(-1, 8)
        while process.poll() is None and (
            target >= 0 and (len(log.read_text().split()) if log.exists() else 0) < target
        ):
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if out.exists():
            break
        kills += 1
    assert kills >= 2, "it was not killed in its work"
    expected = [f"s{n:02}" for n in range(12)] + [f"member-s{n:02}" for n in range(12)]
    summary = encode_all([pdbs, archive], Tiny(log), out, jobs=2)
    assert names(out) == expected
    assert (summary.files, summary.chains, summary.failed) == (24, 24, 0)
    # What was on disk is not done again: at each kill a few files were under way.
    assert len(log.read_text().split()) <= 24 + kills * (2 * 3 + 3)


def test_memory_is_flat_over_many_members(pdbs, tmp_path, monkeypatch):
    """`benchmarks.speed.encoding` does it with 10,000."""
    # So that writing has taken its own memory before the first mark.
    monkeypatch.setattr("protok.pipeline.journal.PART_ROWS", 100)
    data = (pdbs / "s00.pdb").read_bytes()
    archive, log = tmp_path / "many.tar", tmp_path / "log"
    count = 1500
    with tarfile.open(archive, "w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"m{number}.pdb")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    encode_all(archive, Tiny(log, memory=True), tmp_path / "t.parquet", jobs=1)
    used = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert len(used) == count
    # Per input about 1 KiB of journal stays; the contents of 10 MB do not.
    assert max(used[count // 3 :]) - used[count // 3] < 6_000


def test_job_knows_the_weights_not_only_the_codebook():
    import torch

    from protok.pipeline.batches import EncodeOptions

    model, other = (protok.load("protok-1") for _ in range(2))
    assert job_key(model, EncodeOptions()) == job_key(other, EncodeOptions())
    with torch.no_grad():
        next(other.network.encoder.parameters())[0] += 1e-3
    vars(other).pop("encoder_fingerprint")  # was asked for before the change
    assert model.codebook == other.codebook
    assert job_key(model, EncodeOptions()) != job_key(other, EncodeOptions())


def test_a_folder_becomes_a_dataset(pdbs, tmp_path, monkeypatch):
    monkeypatch.setattr("protok.pipeline.output.FILE_ROWS", 5)
    out = tmp_path / "tokens"
    encode_all(pdbs, Tiny(), out)
    assert sorted(path.name for path in out.iterdir()) == [f"part-{number:06}.parquet" for number in range(3)]
    assert names(out) == [f"s{n:02}" for n in range(12)]
    assert encode_all(pdbs, Tiny(), out).resumed == 12
    with pytest.raises(ProtokError, match="codebook"):
        encode_all(pdbs, Tiny(version="2"), out)
    encode_all(pdbs / "s00.pdb", Tiny(version="2"), out, overwrite=True)
    assert names(out) == ["s00"]
    with pytest.raises(ProtokError, match="folder of something else"):
        encode_all(pdbs, Tiny(), pdbs, overwrite=True)
    assert len(list(pdbs.iterdir())) == 12


def test_ctrl_c_within_foldcomp_leaves_no_answer_for_the_next(tmp_path, monkeypatch):
    (tmp_path / "foldcomp.py").write_text("def decompress(data): return '', data.decode()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(foldcomp, "_helper", None)

    def stopped(self, size):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(foldcomp._Helper, "_receive", stopped)
        with pytest.raises(KeyboardInterrupt):
            foldcomp.unpack(b"first")
    assert foldcomp.unpack(b"second") == b"second"
    foldcomp._helper.stop()
