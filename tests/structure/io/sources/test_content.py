"""Paths and bytes: packing, damage, foreign formats, what a folder holds."""

import bz2
import gzip
import os
import time

import numpy as np
import pytest
import zstandard

from protok import errors
from protok.structure.io.read import read
from protok.structure.io.sources import content
from protok.structure.io.sources.paths import iter_files, stem
from tests.helpers.io_files import chain

PACKERS = [gzip.compress, bz2.compress, zstandard.compress]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pack", [bytes, *PACKERS])
def test_packing_and_line_ends(tmp_path, pack, end):
    text = end.join([*chain("GLY ALA"), "END", ""]).encode()
    (tmp_path / "x.pdb").write_bytes(pack(b"\xef\xbb\xbf" + text))  # a suffix that lies, and a BOM
    assert read(tmp_path / "x.pdb").sequence == "GA"


@pytest.mark.parametrize("file", ["1dix.pdb", "1dix.cif", "1dix.bcif"])
@pytest.mark.parametrize("name", ["x.pdb", "x.cif", "x.bcif", "x.pdb.gz", "x"])
def test_the_content_decides(shared, tmp_path, file, name):
    (tmp_path / name).write_bytes(shared(f"parsing/cross_format/{file}").read_bytes())
    assert len(read(tmp_path / name)) == 208


def test_gzip_members_and_padding(tmp_path):
    first, second = ("\n".join(chain(n, i)) + "\n" for n, i in (("GLY", 1), ("ALA", 2)))
    data = gzip.compress(first.encode()) + gzip.compress(second.encode()) + b"\0" * 100
    (tmp_path / "x.pdb.gz").write_bytes(data)
    assert read(tmp_path / "x.pdb.gz").sequence == "GA"


@pytest.mark.parametrize("pack", PACKERS)
def test_many_small_streams_take_linear_work(tmp_path, monkeypatch, pack):
    text, many, fed = "\n".join(chain("GLY ALA")).encode(), 5000, []
    (tmp_path / "x.pdb").write_bytes(pack(text) + pack(b"") * many)
    each, steps = content._each, []

    def counted(data, magic, keep, name, new, step, damage):
        steps.append(step)
        return each(data, magic, keep, name, lambda: Counted(new()), step, damage)

    class Counted:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def decompress(self, piece):
            fed.append(len(piece))
            return self.stream.decompress(piece)

    monkeypatch.setattr(content, "_each", counted)
    assert read(tmp_path / "x.pdb").sequence == "GA"
    assert max(fed) <= steps[0], "never all that is left"
    assert many < len(fed) < 2 * many + 100


@pytest.mark.parametrize("pack", PACKERS)
def test_cut_and_damaged_streams(tmp_path, pack):
    # Incompressible remarks, so that the cut falls behind the atoms whatever the block size.
    noise = np.random.default_rng(0).integers(33, 126, (3000, 70), np.uint8)
    remarks = ["REMARK " + row.tobytes().decode() for row in noise]
    data = pack("\n".join([*chain("GLY ALA SER " * 99), *remarks]).encode())
    path = tmp_path / "x.pdb"
    path.write_bytes(data[:-2000])
    with pytest.raises(errors.TruncatedFile, match="stream ends early"):
        read(path)
    if pack is not bz2.compress:  # one block: all or nothing
        s = read(path, truncated="keep")
        assert s.sequence == "GAS" * 99 and "truncated" in s.notes[-1]
    if pack is zstandard.compress:
        return  # it writes no checksum unless told to
    path.write_bytes(data[:1000] + bytes(500) + data[1500:])
    with pytest.raises(errors.CorruptFile):
        read(path)


@pytest.mark.parametrize("pack", PACKERS)
def test_decompression_bombs_are_refused(tmp_path, pack, monkeypatch):
    monkeypatch.setattr("protok.structure.io.sources.content.STEP", 2**20)
    (tmp_path / "x.pdb.gz").write_bytes(pack(bytes(2**22)))
    with pytest.raises(errors.CorruptFile, match="unpack to more than"):
        read(tmp_path / "x.pdb.gz")
    monkeypatch.setattr("protok.structure.io.sources.content.LIMIT", 2**10)
    (tmp_path / "x.pdb").write_text("\n".join(chain("GLY ALA SER " * 9)))
    with pytest.raises(errors.CorruptFile, match="holds more than"):
        read(tmp_path / "x.pdb")


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "x.pdb"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)  # opening it would hang
    with pytest.raises(errors.ProtokError) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"<!DOCTYPE html>", "web page"),
        (b"PK\x03\x04", "zip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\xff\xfeA\0T\0", "UTF-16"),
        (b"{}", "JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_other_formats_are_named(tmp_path, start, says):
    (tmp_path / "x.pdb").write_bytes(start + b"\n" * 20)
    with pytest.raises(errors.FormatError, match=says):
        read(tmp_path / "x.pdb")


@pytest.mark.parametrize(
    "text",
    [
        "#" * 200_000,
        "# " * 100_000,
        "#\n" * 100_000 + "x",
        "data_x\n" + "# # " * 50_000,
        "data_x\nloop_\n_atom_site.id\n" + "'a " * 20_000,
        "data_x\n_atom_site.id\n" + ";\n" * 50_001,
        "_atom_site." * 20_000,
        "HEADER\n" + "END\n" * 50_000,
        "ATOM\n" * 50_000,
        "\n" * 500_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_nothing_hangs(tmp_path, text):
    """Patterns that make a careless parser take quadratic or exponential time."""
    (tmp_path / "x.cif").write_text(text)
    began = time.process_time()
    with pytest.raises(errors.ProtokError):
        read(tmp_path / "x.cif")
    assert time.process_time() - began < 10


def test_wrong_use():
    with pytest.raises(ValueError, match="chain_ids"):
        read("x.pdb", chain_ids="auth")
    with pytest.raises(ValueError, match="truncated"):
        read("x.pdb", truncated="ignore")


def test_stem():
    names = ["x/1aki.cif.gz", "7dz2.C.pdb.gz", "a.b.bcif", "1abc.ENT.ZST", "noext", ".pdb", "x.txt"]
    assert [stem(n) for n in names] == ["1aki", "7dz2.C", "a.b", "1abc", "noext", ".pdb", "x.txt"]


def test_iter_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("z.pdb", "a.cif.gz", "b/c.bcif.zst", "b/d.ENT", "n.txt", "._z.pdb", ".git/x.pdb"):
        (tmp_path / name).touch()
    names = [str(p.relative_to(tmp_path)) for p in iter_files(tmp_path)]
    assert names == ["a.cif.gz", "z.pdb", "b/c.bcif.zst", "b/d.ENT"]
    both = list(iter_files([tmp_path / "n.txt", str(tmp_path / "*.pdb"), tmp_path / "z.pdb"]))
    assert [p.name for p in both] == ["n.txt", "z.pdb"]  # a file as asked for, none twice
    for nothing in (tmp_path / "no.pdb", tmp_path / "*.xyz"):
        with pytest.raises(errors.ProtokError, match="no such file"):
            list(iter_files(nothing))


def test_a_folder_that_cannot_be_searched_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "shut").mkdir(mode=0)
    (tmp_path / "z.pdb").touch()
    root = os.geteuid() == 0  # who may search anything
    if root:
        os.seteuid(65534)
    try:
        assert list(map(str, iter_files("."))) == ["z.pdb", "shut"]
        with pytest.raises(errors.ProtokError, match="cannot be read .*Permission"):
            read("shut")
    finally:
        if root:
            os.seteuid(0)


def test_links_to_folders_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.pdb").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert list(iter_files(tmp_path)) == [tmp_path / "a" / "x.pdb"]
    assert list(iter_files(tmp_path / "b")) == [tmp_path / "b" / "x.pdb"]
