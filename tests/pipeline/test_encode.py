"""Batch jobs: nothing lost or repeated after errors, dead workers and kills."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import protok
from protok.common import workers
from protok.common.files import atomic
from protok.errors import FormatError, ProtokError, TruncatedFile
from protok.pipeline import inputs, journal, output
from protok.pipeline.batches import EncodeOptions, encode_files
from protok.pipeline.encode import Stopped, encode_all, errors_of, job_key, parts_of
from protok.pipeline.inputs import find_sources, unique_names
from protok.structure.io.sources.paths import iter_files
from protok.tokens.files import load
from protok.tokens.parquet import token_schema
from tests.helpers.paths import ROOT
from tests.helpers.tiny import Tiny, TinyBatch

# For scripts elsewhere: the protok that is tested here.
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def pdbs(pieces) -> Path:
    return pieces(9)


def names(path) -> list[str]:
    return [tokens.name for tokens in load(path)]


def same(tokens, other) -> None:
    assert (tokens.name, tokens.codebook, tokens.sequence) == (other.name, other.codebook, other.sequence)
    for key in ("ids", "chain", "index", "icode"):
        np.testing.assert_array_equal(getattr(tokens, key), getattr(other, key))


def table(path) -> list[list[str]]:
    head, *rows = Path(path).read_text().splitlines()
    assert head == "file\tchain\treason"
    return [row.split("\t") for row in rows]


@pytest.mark.parametrize("jobs", [1, 2])
def test_equals_one_by_one(examples, tmp_path, jobs):
    files = sorted(iter_files([examples]))
    out = tmp_path / "new" / "tokens.parquet"
    summary = encode_all(examples, "3di", out, jobs=jobs)
    tokenizer = protok.load("3di")
    loaded = load(out)
    expected = [tokenizer.encode(protok.read(file)) for file in files]
    assert [chain.name for chain in loaded] == ["7soo.A", "7vmf.A", "7w89.A", "7wf8.B"]
    for match, tokens in zip(loaded, expected, strict=True):
        assert match.name == tokens.name
        np.testing.assert_array_equal(match.ids, tokens.ids)
        np.testing.assert_array_equal(match.index, tokens.index)
    assert (summary.files, summary.chains, summary.failed, summary.resumed) == (4, 4, 0, 0)
    assert summary.residues == sum(len(chain) for chain in loaded)
    assert [path.name for path in out.parent.iterdir()] == ["tokens.parquet"], "nothing failed"


@pytest.mark.parametrize("suffix", [".fasta", ".csv", ".npz", ".fasta.gz"])
def test_formats(pdbs, tmp_path, suffix):
    out = tmp_path / f"tokens{suffix}"
    encode_all(pdbs, Tiny(), out)
    assert names(out) == [f"s{n}" for n in range(9)]
    with pytest.raises(ProtokError, match="exists"):
        encode_all(pdbs, Tiny(), out)
    encode_all(pdbs / "s3.pdb", Tiny(), out, overwrite=True)
    assert names(out) == ["s3"]


def test_unknown_suffix_before_the_work(pdbs, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(FormatError):
        encode_all(pdbs, Tiny(log), tmp_path / "tokens.tok")
    assert not log.exists()


@pytest.mark.parametrize("kind", [Tiny, TinyBatch])
def test_errors_are_rows(pdbs, tmp_path, kind):
    (pdbs / "s1.pdb").write_text("nothing\n")
    shutil.copy(pdbs / "s2.pdb", pdbs / "raiser.pdb")
    shutil.copy(pdbs / "s2.pdb", pdbs / "refuser.pdb")
    out = tmp_path / "tokens.parquet"
    summary = encode_all(pdbs, kind(), out)
    assert names(out) == [f"s{n}" for n in (0, 2, 3, 4, 5, 6, 7, 8)]
    rows = table(tmp_path / "tokens.parquet.errors.tsv")
    assert [(Path(file).name, chain) for file, chain, _ in rows] == [
        ("raiser.pdb", "A"),
        ("refuser.pdb", "A"),
        ("s1.pdb", ""),
    ]
    assert "KeyError" in rows[0][2]
    assert rows[1][2] == "is refused; give another"
    assert summary.failed == 3
    assert [list(row) for row in summary.errors] == rows
    again = encode_all(pdbs, kind(), out)
    assert (again.failed, again.errors, again.resumed) == (3, summary.errors, 11)


def test_stop_keeps_what_is_done(pdbs, tmp_path):
    whole = (pdbs / "s4.pdb").read_text()
    (pdbs / "s4.pdb").write_text(whole[:1000])
    out, log = tmp_path / "tokens.parquet", tmp_path / "log"
    with pytest.raises(Stopped, match=r"s4\.pdb") as caught:
        encode_all(pdbs, Tiny(log), out, on_error="stop")
    assert isinstance(caught.value.__cause__, TruncatedFile)
    assert not out.exists()
    (pdbs / "s4.pdb").write_text(whole)
    done = log.read_text().split()
    summary = encode_all(pdbs, Tiny(log), out, on_error="stop")
    assert summary.resumed >= 1
    assert names(out) == [f"s{n}" for n in range(9)]
    assert len(log.read_text().split()) - len(done) == 9 - summary.resumed


def test_dead_worker_costs_its_own_file(pdbs, tmp_path):
    shutil.copy(pdbs / "s5.pdb", pdbs / "killer.pdb")
    out = tmp_path / "tokens.parquet"
    summary = encode_all(pdbs, Tiny(), out, jobs=2)
    assert names(out) == [f"s{n}" for n in range(9)]
    ((file, chain, reason),) = table(tmp_path / "tokens.parquet.errors.tsv")
    assert Path(file).name == "killer.pdb"
    assert chain == ""
    assert "SIGKILL" in reason
    assert summary.failed == 1


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("suffix", [".parquet", ".fasta", ""])
def test_where_everything_fails_there_is_the_error_table_alone(pdbs, tmp_path, jobs, suffix):
    content = (pdbs / "s0.pdb").read_text()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.pdb").write_text("nothing\n")
    out = tmp_path / f"tokens{suffix}"
    errors = errors_of(out)
    for _ in range(2):  # the same call tries again
        summary = encode_all(tmp_path / "in", Tiny(), out, jobs=jobs)
        assert (summary.chains, summary.failed, summary.resumed) == (0, 1, 0)
        assert not out.exists() and not parts_of(out).exists() and len(table(errors)) == 1
    (tmp_path / "in" / "bad.pdb").write_text(content)
    assert encode_all(tmp_path / "in", Tiny(), out, jobs=jobs).failed == 0
    assert out.exists() and not errors.exists(), "it is of the job before"


def test_killed_run_goes_on(pdbs, tmp_path):
    out, log = tmp_path / "tokens.parquet", tmp_path / "log"
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys
            sys.path.insert(0, {str(ROOT)!r})
            from tests.helpers.tiny import Tiny
            from protok.pipeline import batches as batch, encode as scale, journal
            journal.PART_ROWS = batch.BATCH_FILES = 2

            class Killed(Tiny):
                def encode(self, structure):
                    if structure.name == "s5":
                        os.kill(os.getpid(), signal.SIGKILL)
                    return super().encode(structure)

            if __name__ == "__main__":
                scale.encode_all({str(pdbs)!r}, Killed({str(log)!r}), {str(out)!r})
            """
        )
    )
    killed = subprocess.run([sys.executable, script], env=HERE)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    parts = tmp_path / "tokens.parquet.parts"
    kept = (parts / "journal.jsonl").read_text().count("\n")
    before = log.read_text().split()
    assert (before, kept) == ([f"s{n}" for n in range(5)], 4)  # the fifth was in no part yet
    with open(parts / "journal.jsonl", "a") as handle:
        handle.write('{"source": {"path": "torn')  # as if it was killed while it wrote

    summary = encode_all(pdbs, Tiny(log), out)
    assert summary.resumed == kept
    assert log.read_text().split()[len(before) :] == [f"s{n}" for n in range(kept, 9)]
    fresh = tmp_path / "fresh.parquet"
    encode_all(pdbs, Tiny(), fresh, errors=tmp_path / "other.tsv")
    for tokens, other in zip(load(out), load(fresh), strict=True):
        same(tokens, other)
    assert not parts.exists()


def test_same_call_again_does_nothing(pdbs, tmp_path):
    out, log = tmp_path / "tokens.parquet", tmp_path / "log"
    first = encode_all(pdbs, Tiny(log), out)
    content, calls = out.read_bytes(), log.read_text()
    (tmp_path / "tokens.parquet.parts").mkdir()  # killed before it could be removed
    again = encode_all(pdbs, Tiny(log), out)
    assert (out.read_bytes(), log.read_text()) == (content, calls)
    assert (again.resumed, again.chains, again.residues) == (9, first.chains, first.residues)
    assert not (tmp_path / "tokens.parquet.parts").exists()


def test_changed_model_or_inputs_are_noticed(pdbs, tmp_path):
    out = tmp_path / "tokens.parquet"
    encode_all(pdbs, Tiny(), out)
    with pytest.raises(ProtokError, match="codebook 'tiny@00000001', now 'tiny@00000002'"):
        encode_all(pdbs, Tiny(version="00000002"), out)
    with pytest.raises(ProtokError, match="chain '', now 'A'"):
        encode_all(pdbs, Tiny(), out, chain="A")
    with pytest.raises(ProtokError, match="9 files then, 1 now"):
        encode_all(pdbs / "s0.pdb", Tiny(), out)
    (pdbs / "s0.pdb").write_text((pdbs / "s1.pdb").read_text() + "REMARK\n")
    with pytest.raises(ProtokError, match="other content"):
        encode_all(pdbs, Tiny(), out)
    encode_all(pdbs, Tiny(version="00000002"), out, overwrite=True)
    assert {tokens.codebook for tokens in load(out)} == {"tiny@00000002"}


def test_unfinished_work_of_another_model(pdbs, tmp_path, monkeypatch):
    out, log = tmp_path / "tokens.parquet", tmp_path / "log"
    shutil.copy(pdbs / "s5.pdb", pdbs / "s9.pdb")
    (pdbs / "s9.pdb").write_text("nothing\n")
    with pytest.raises(Stopped):
        encode_all(pdbs, Tiny(log), out, on_error="stop")
    with pytest.raises(ProtokError, match="unfinished work of another kind: codebook"):
        encode_all(pdbs, Tiny(version="00000002"), out)
    # A changed input is done again, a lost one dropped, the others kept.
    (pdbs / "s9.pdb").unlink()
    (pdbs / "s2.pdb").unlink()
    (pdbs / "s0.pdb").write_text((pdbs / "s1.pdb").read_text() + "REMARK\n")
    log.unlink()
    summary = encode_all(pdbs, Tiny(log), out)
    assert log.read_text().split() == ["s0"]
    assert summary.resumed == 7
    loaded = load(out)
    assert [tokens.name for tokens in loaded] == [f"s{n}" for n in (0, 1, 3, 4, 5, 6, 7, 8)]
    np.testing.assert_array_equal(loaded[0].ids, loaded[1].ids)


def test_overwrite_drops_unfinished_work(pdbs, tmp_path):
    (pdbs / "s9.pdb").write_text("nothing\n")
    out = tmp_path / "tokens.parquet"
    with pytest.raises(Stopped):
        encode_all(pdbs, Tiny(), out, on_error="stop")
    summary = encode_all(pdbs, Tiny(version="00000002"), out, overwrite=True)
    assert summary.resumed == 0
    assert {tokens.codebook for tokens in load(out)} == {"tiny@00000002"}


def test_two_at_once_are_refused(tmp_path):
    first = journal.Journal(tmp_path / "parts", {})
    with pytest.raises(ProtokError, match="another process"):
        journal.Journal(tmp_path / "parts", {})
    first.close()
    journal.Journal(tmp_path / "parts", {}).remove()


def test_rows_in_order_of_inputs_whatever_the_order_of_results(pdbs, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "PART_ROWS", 2)
    work = journal.Journal(tmp_path / "parts", {})
    sources = [inputs.Source(str(n), f"s{n}", 0, 0) for n in range(9)]
    for n in (4, 8, 0, 7, 1, 5, 2, 6, 3):
        backbone = protok.read(pdbs / f"s{n}.pdb")
        work.add(sources[n], [Tiny().encode(backbone)] if n != 6 else [], notes=["x"])
    work.flush()
    rows = [table["name"].to_pylist() for table in work.tables(sources)]
    assert rows == [[f"s{n}"] for n in (0, 1, 2, 3, 4, 5, 7, 8)]
    work.close()


def test_each_chain_is_a_row(examples, tmp_path):
    chain = np.repeat(["B", "A"], [60, 63])
    two = replace(protok.read(examples / "7w89.A.pdb"), chain=chain, name="two")
    protok.write(two, tmp_path / "two.pdb")
    summary = encode_all(tmp_path / "two.pdb", Tiny(), tmp_path / "t.parquet")
    assert summary.chains == 2
    rows = [(tokens.chain[0], len(tokens)) for tokens in load(tmp_path / "t.parquet")]
    assert rows == [("B", 60), ("A", 63)]
    encode_all(tmp_path / "two.pdb", Tiny(), tmp_path / "a.parquet", chain="A")
    assert [tokens.chain[0] for tokens in load(tmp_path / "a.parquet")] == ["A"]


def test_one_bad_chain_leaves_the_others(examples, tmp_path):
    class Half(TinyBatch):
        def encode(self, structure):
            if structure.chain[0] == "B":
                raise ProtokError("no B")
            return super().encode(structure)

    backbone = protok.read(examples / "7w89.A.pdb")
    backbone.chain[:60] = "B"
    protok.write(backbone, tmp_path / "two.pdb")
    summary = encode_all(tmp_path / "two.pdb", Half(), tmp_path / "t.parquet")
    assert [tokens.chain[0] for tokens in load(tmp_path / "t.parquet")] == ["A"]
    assert summary.errors == ((str(tmp_path / "two.pdb"), "B", "no B"),)


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(ProtokError, match="no structure files"):
        encode_all(tmp_path, Tiny(), tmp_path / "t.parquet")
    with pytest.raises(ProtokError, match="nowhere"):
        encode_all(tmp_path / "nowhere.pdb", Tiny(), tmp_path / "t.parquet")


def test_encode_files_keeps_the_order(pdbs):
    results = list(encode_files([pdbs / "s7.pdb", pdbs], Tiny(), jobs=2))
    assert [Path(result.path).stem for result in results] == [
        "s7",
        "s0",
        "s1",
        "s2",
        "s3",
        "s4",
        "s5",
        "s6",
        "s8",
    ]
    assert all(len(result.tokens) == 1 for result in results)


def test_names_tell_files_apart():
    files = [Path("x/1aki.pdb"), Path("y/1aki.pdb"), Path("y/1aki.cif"), Path("1ubq.cif.gz")]
    assert unique_names(files) == ["x/1aki.pdb", "y/1aki.pdb", "1aki.cif", "1ubq"]
    assert unique_names([Path("a/b/x.pdb"), Path("b/x.pdb")]) == ["a/b/x.pdb", "b/x.pdb"]


def test_provenance_is_in_the_parquet_file(pdbs, tmp_path):
    encode_all(pdbs, Tiny(), tmp_path / "t.parquet")
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    assert b"tiny@00000001" in metadata[b"protok.made_of"]


def work_factory(factor):
    if factor is None:
        raise OSError("no such factor")

    def work(batch):
        if 5 in batch:
            raise ArithmeticError("five")
        return [factor * item for item in batch]

    return work


@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_raise_for_the_item_alone(jobs):
    results = dict(workers.run(work_factory, (3,), [[1, 2], [4, 5, 6], [7]], jobs=jobs))
    assert results.pop(5) == workers.Lost("ArithmeticError: five")
    assert results == {n: 3 * n for n in (1, 2, 4, 6, 7)}


def slow_writer():
    def work(batch):
        for path in batch:
            with atomic(path) as handle:
                handle.write("begun")
                handle.flush()
                time.sleep(60)
        return batch

    return work


def test_a_worker_that_is_ended_leaves_no_drafts(tmp_path):
    ((item, lost),) = workers.run(slow_writer, (), [[tmp_path / "out"]], jobs=1, timeout=1)
    assert item == tmp_path / "out" and lost.reason == "it took longer than 1 s"
    assert not [*tmp_path.iterdir()]


def test_workers_that_cannot_start_say_so():
    with pytest.raises(ProtokError, match="no such factor"):
        list(workers.run(work_factory, (None,), [[1]], jobs=2))
    with pytest.raises(ProtokError, match="cannot be sent to a worker process.*top of a module"):
        list(workers.run(lambda: None, (), [[1]], jobs=2))


def run_script(script: str, path: Path, piped: bool) -> subprocess.CompletedProcess:
    """Run a script as a file, or from the standard input; one that hangs fails."""
    path.write_text(script)
    return subprocess.run(
        [sys.executable, "-" if piped else path],
        input=script if piped else "",
        capture_output=True,
        text=True,
        timeout=120,
        env=HERE,
    )


# Without `if __name__ == "__main__":`. Of 10 MB, what a worker is to do does not fit into a pipe.
UNGUARDED = """
import multiprocessing
from protok.pipeline.decode import decode_all
from protok.pipeline.encode import encode_all
from tests.helpers.tiny import Tiny
multiprocessing.set_start_method("fork", force=True)
{tokenizer}.weights = bytes({size})
{call}
"""
ENCODE = "encode_all({pdbs!r}, tokenizer, {out!r}, jobs=2)"
CALLS = {
    "encode": ENCODE,
    "decode": ENCODE.replace("jobs=2", "") + "\ndecode_all({out!r}, {folder!r}, tokenizer, jobs=2)",
    "with a time limit": ENCODE.replace("jobs=2", "timeout=60"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("size", [0, 10_000_000])
def test_a_script_needs_no_guard(pdbs, tmp_path, size, piped, call):
    places = {"pdbs": str(pdbs), "out": str(tmp_path / "t.parquet"), "folder": str(tmp_path / "decoded")}
    call = CALLS[call].format(**places)
    script = UNGUARDED.format(tokenizer="tokenizer = Tiny()\ntokenizer", size=size, call=call)
    done = run_script(script, tmp_path / "script.py", piped)
    assert done.returncode == 0, done.stderr
    assert len(load(tmp_path / "t.parquet")) == 9


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("size", [0, 10_000_000])
def test_a_script_that_needs_a_guard_is_told(pdbs, tmp_path, size, piped, call):
    """A class of the script itself is there for a worker only where the script runs to the end in it."""
    places = {"pdbs": str(pdbs), "out": str(tmp_path / "t.parquet"), "folder": str(tmp_path / "decoded")}
    own = "class Own(Tiny): pass\ntokenizer = Own()\ntokenizer"
    script = UNGUARDED.format(tokenizer=own, size=size, call=CALLS[call].format(**places))
    done = run_script(script, tmp_path / "script.py", piped)
    assert done.returncode == 1
    assert "__name__ == '__main__'" in done.stderr.splitlines()[-1]
    assert "or use jobs=1" in done.stderr.splitlines()[-1]


def test_overwrite_goes_on_and_tries_failed_inputs_again(pdbs, tmp_path):
    (pdbs / "s5.pdb").write_text("nothing\n")
    out, work = tmp_path / "tokens.parquet", Tiny()
    encode_all(pdbs / "s0.pdb", Tiny(version="00000002"), out)
    before = journal.Journal(parts_of(out), job_key(work, EncodeOptions()))
    sources = find_sources(pdbs)
    for source in sources[:4]:
        before.add(source, [work.encode(protok.read(source.path))])
    before.add(sources[5], [], [("", "a package is missing")])
    before.flush()
    (before.folder / "dataset").mkdir()  # of a kill while files were joined
    before.close()
    summary = encode_all(pdbs, work, out, overwrite=True)
    assert summary.resumed == 4
    assert [Path(file).name for file, _, _ in summary.errors] == ["s5.pdb"]
    assert "missing" not in summary.errors[0][2]


def test_overwrite_spares_what_is_not_an_output(pdbs, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    assert encode_all(pdbs, Tiny(), out).chains  # an empty folder is none
    (out / "thesis.doc").write_text("years")
    with pytest.raises(ProtokError, match="folder of something else"):
        encode_all(pdbs, Tiny(), out, overwrite=True)
    (out / "thesis.doc").unlink()
    for path in out.iterdir():
        path.write_text("years")
    with pytest.raises(ProtokError, match="folder of something else"):
        encode_all(pdbs, Tiny(), out, overwrite=True)
    with pytest.raises(ProtokError, match="no name"):
        encode_all(pdbs, Tiny(), ".")


@pytest.mark.slow
def test_a_large_error_table_leaves_the_output_readable(tmp_path):
    """Readers refuse metadata of 100 MB and more."""
    rows = [(f"some/folder/file{n}.pdb", "", "is no structure file") for n in range(1_500_000)]
    output.join(iter([]), tmp_path / "t.parquet", {"errors": rows}, token_schema())
    assert len(output.read_stored(tmp_path / "t.parquet")["errors"]) == len(rows)


def test_a_full_disk_leaves_whole_lines_and_no_lock(pdbs, tmp_path, monkeypatch):
    work = journal.Journal(tmp_path / "parts", {})
    tokens = Tiny().encode(protok.read(pdbs / "s0.pdb"))
    work.add(inputs.Source("0", "s0", 0, 0), [tokens])
    work.flush()
    work.add(inputs.Source("1", "s1", 0, 0), [tokens])

    path, calls = tmp_path / "parts" / "journal.jsonl", []
    before = path.stat().st_size

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:  # the part comes first
            os.truncate(path, before + 20)  # half a line
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            work.flush()
    work.flush()
    work.close()
    again = journal.Journal(tmp_path / "parts", {})
    assert [source.name for source in again.done] == ["s0", "s1"]
    again.remove()


def test_a_finished_job_writes_its_errors_where_they_are_asked_for(pdbs, tmp_path):
    (tmp_path / "bad.pdb").write_text("nothing")
    encode_all([pdbs, tmp_path / "bad.pdb"], Tiny(), out=tmp_path / "t.parquet")
    errors = tmp_path / "new" / "errors.tsv"
    encode_all([pdbs, tmp_path / "bad.pdb"], Tiny(), out=tmp_path / "t.parquet", errors=errors)
    assert "bad.pdb" in errors.read_text()
