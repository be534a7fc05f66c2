"""Files are whole at any moment, and one writer sees to it."""

import ast
import json
import math
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from protok.common.files import (
    add_lines,
    atomic,
    atomic_folder,
    atomic_path,
    check_output,
    disk_is_full,
    write_errors,
    write_json,
)
from protok.errors import ProtokError
from tests.helpers.full_disk import full_disk
from tests.helpers.paths import ROOT

PACKAGE = ROOT / "protok"
#: Modules that write in other ways, and why.
OTHERWISE = {
    "common/callbacks.py": "the last checkpoint becomes the one before",
    "common/files.py": "the writer itself",
    "quantize/diagnostics.py": "quantize stands alone; matplotlib opens the figure",
}


def own_writes(tree: ast.AST) -> set[str]:
    """Calls of a module that write a file by themselves, as `name:line`."""
    calls = set()
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        owner = getattr(getattr(call.func, "value", None), "id", "")
        values = [*call.args, *(word.value for word in call.keywords)]
        modes = {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
        target = getattr(call.args[0], "id", "") if call.args else ""
        if (
            name in ("write_text", "write_bytes", "rename")
            or (name == "open" and any(mode[:1] in ("w", "a", "x") and len(mode) < 4 for mode in modes))
            # Of a path; that of text has two arguments, that of a dataclass has keywords.
            or (name == "replace" and (owner == "os" or (len(call.args) == 1 and not call.keywords)))
            # These take a path as well as an open file.
            or (name in ("savefig", "savez", "savez_compressed") and target not in ("handle", "out"))
        ):
            calls.add(f"{name}:{call.lineno}")
    return calls


def test_every_module_writes_through_the_one_writer():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        calls = own_writes(ast.parse(path.read_text("utf-8")))
        assert not calls or name in OTHERWISE, f"{name} writes by itself: {sorted(calls)}"


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "path.open('wb')",
        "open(path, mode='a')",
        "Path(path).write_text('')",
        "os.replace(draft, path)",
        "draft.replace(path)",
        "np.savez(path, x=1)",
    ],
)
def test_a_module_that_writes_by_itself_is_found(line):
    assert own_writes(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["open(path)", "text.replace('a', 'b')", "replace(plan, data=data)", "np.savez(handle, x=1)"]
)
def test_other_calls_are_not_taken_for_writing(line):
    assert not own_writes(ast.parse(line))


def test_a_file_appears_when_it_is_finished(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with atomic(path) as handle:
        handle.write("after ü")
        assert path.read_text() == "before"
    assert path.read_bytes() == "after ü".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(error), atomic(path, "wb") as handle:
        handle.write(b"half")
        raise error
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def _write_half(path):
    with atomic(path) as handle:
        handle.write("half")
        handle.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    process = multiprocessing.get_context("spawn").Process(target=_write_half, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.read_text() == "before"


def test_writers_of_one_file_do_not_meet(tmp_path):
    path, barrier = tmp_path / "a.txt", threading.Barrier(4)

    def write(letter):
        with atomic(path) as handle:
            barrier.wait()
            handle.write(letter * 100_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert len(text) == 100_000 and len(set(text)) == 1
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_it_is_finished(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ValueError), atomic_folder(path) as draft:
        (draft / "new").touch()
        raise ValueError
    assert os.listdir(path) == ["old"]
    with atomic_folder(path) as draft:
        (draft / "new").touch()
        assert os.listdir(path) == ["old"]
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_draft_in_a_folder_of_its_own_is_written_over(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.bin.part").write_bytes(b"what a kill left")
    with atomic_path(tmp_path / "a.bin", work) as draft:
        assert draft == work / "a.bin.part"
        draft.write_bytes(b"whole")
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
    assert os.listdir(work) == []


def test_a_link_is_kept_and_its_file_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    with atomic(link) as handle:
        handle.write("text")
    assert link.is_symlink() and target.read_text() == "text"


def test_a_device_is_written_to_as_it_is():
    with atomic("/dev/null") as handle:
        handle.write("text")
    assert Path("/dev/null").is_char_device()


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 127)  # 254 bytes
    with atomic(path) as handle:
        handle.write("text")
    assert path.read_text() == "text"


def test_a_missing_folder_is_named_as_it_was_given(tmp_path):
    path = tmp_path / "missing" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, atomic(path):
        pass
    assert caught.value.filename == str(path)


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "metrics.csv"
    add_lines(path, "step,loss\n")
    with full_disk(20), pytest.raises(OSError) as caught:
        add_lines(path, "1,0.123456789\n")
    assert (path.read_text(), caught.value.filename) == ("step,loss\n", str(path))
    add_lines(path, "2,0.5\n", sync=True)
    assert path.read_text() == "step,loss\n2,0.5\n"


def test_a_full_disk_is_named_whatever_the_writer_makes_of_it(tmp_path):
    """A zip file that is closed after a write that failed raises something else."""
    path = tmp_path / "a.zip"
    with full_disk(10), pytest.raises(OSError) as caught, atomic(path, "wb") as handle:
        try:
            handle.write(bytes(11))
            handle.flush()
        finally:
            raise RuntimeError("unexpected position")
    assert disk_is_full(caught.value) and caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    (tmp_path / "file").touch()
    assert check_output(tmp_path / "new" / "a.txt") == tmp_path / "new" / "a.txt"
    assert check_output(tmp_path, folder=True) == tmp_path
    assert check_output("/dev/null") == Path("/dev/null")
    for path, folder in ((tmp_path, False), (tmp_path / "file", True), (tmp_path / "file" / "a", False)):
        with pytest.raises(ProtokError) as caught:
            check_output(path, folder=folder)
        assert caught.value.file == str(path)
    assert os.listdir(tmp_path) == ["file"]
    # As /dev/stdout, whose folder only root may write to, is a link to what it is sent to.
    (tmp_path / "link").symlink_to(tmp_path / "new" / "b.txt")
    assert check_output(tmp_path / "link") == tmp_path / "link"


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root may write anywhere")
def test_a_folder_that_nobody_may_write_to_is_known_before(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ProtokError, match="may not be written to"):
        check_output(tmp_path / "a.txt")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1.5, math.nan], "y": (math.inf,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1.5, None], "y": [None]}


def test_without_errors_there_is_no_table(tmp_path):
    path = tmp_path / "errors.tsv"
    write_errors([], path, append=True)
    assert not path.exists()
    write_errors([("a.pdb", "", "empty")], path, append=True)
    assert path.read_text() == "file\tchain\treason\na.pdb\t\tempty\n"
    write_errors([], path)
    assert not path.exists(), "one of an earlier job"


def test_the_error_table_holds_names_that_are_no_utf8(tmp_path):
    path = tmp_path / "errors.tsv"
    write_errors([(os.fsdecode(b"\xff.pdb"), "A", "two\nlines")], path)
    write_errors([("b.pdb", "", "empty")], path, append=True)
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert rows[0] == ["file", "chain", "reason"]
    assert rows[1:] == [["\\udcff.pdb", "A", "two lines"], ["b.pdb", "", "empty"]]
