"""Archives and lists: members as streams, damage and bombs as rows of the error table."""

import gzip
import io
import os
import sys
import tarfile
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import protok
from protok.common.extras import MissingExtra
from protok.errors import CorruptFile, FormatError, ProtokError
from protok.pipeline.batches import encode_files
from protok.pipeline.encode import encode_all
from protok.pipeline.inputs import find_sources, unique_names
from protok.structure.io.sources import archives
from protok.structure.io.sources.paths import iter_files
from protok.tokens.files import load
from tests.helpers.tiny import Tiny

PACKINGS = {"tar": "", "tar.gz": "gz", "tar.bz2": "bz2"}


@pytest.fixture
def texts(examples, tmp_path) -> dict[str, bytes]:
    """Member names and contents: five structures of 20 residues, one compressed, and others."""
    backbone = protok.read(examples / "7w89.A.pdb")
    members = {}
    for number in range(5):
        path = tmp_path / "x.pdb"
        protok.write(backbone[5 * number : 5 * number + 20], path)
        members[f"deep/s{number}.pdb"] = path.read_bytes()
    members["s4.pdb.gz"] = gzip.compress(members.pop("deep/s4.pdb"))
    return members | {"README.txt": b"no structure", "deep/._s0.pdb": b"\0", "../../out.pdb": b"no"}


def tar(path: Path, contents: dict[str, bytes], packing: str = "") -> Path:
    with tarfile.open(path, f"w:{packing}") as archive:
        folder = tarfile.TarInfo("deep.pdb")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.pdb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def pack(path: Path, contents: dict[str, bytes]) -> Path:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
        return path
    if path.name.endswith(".zst"):
        import zstandard

        plain = tar(path.with_suffix(""), contents)
        path.write_bytes(zstandard.compress(plain.read_bytes()))
        return path
    return tar(path, contents, PACKINGS[path.name.split(".", 1)[1]])


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.zst", "a.zip"])
def test_members_are_read_and_nothing_is_written(texts, tmp_path, name):
    path = pack(tmp_path / name, texts)
    before = sorted(tmp_path.rglob("*"))
    assert archives.is_archive(path)
    results = list(encode_files(path, Tiny()))
    assert sorted(tmp_path.rglob("*")) == before
    assert [result.path.removeprefix(f"{path}::") for result in results] == [
        "deep/s0.pdb",
        "deep/s1.pdb",
        "deep/s2.pdb",
        "deep/s3.pdb",
        "s4.pdb.gz",
        "../../out.pdb",
    ]
    assert [tokens.name for result in results for tokens in result.tokens] == [
        f"s{number}" for number in range(5)
    ]
    (error,) = results[-1].errors
    assert isinstance(error, FormatError) and error.file == f"{path}::../../out.pdb"
    for number, result in enumerate(results[:5]):
        plain = tmp_path / Path(result.path).name
        plain.write_bytes(texts["s4.pdb.gz" if number == 4 else f"deep/s{number}.pdb"])
        np.testing.assert_array_equal(
            result.tokens[0].ids, Tiny().encode(protok.read(plain)).ids, strict=True
        )


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_one_output_of_files_and_archives(texts, tmp_path, name):
    path = pack(tmp_path / name, texts)
    (tmp_path / "s0.pdb").write_bytes(texts["deep/s0.pdb"])
    summary = encode_all([tmp_path / "s0.pdb", path], Tiny(), tmp_path / "t.parquet", jobs=2)
    assert [tokens.name for tokens in load(tmp_path / "t.parquet")] == [
        f"{tmp_path.name}/s0.pdb",
        "deep/s0.pdb",
        "s1",
        "s2",
        "s3",
        "s4",
    ]
    assert (summary.files, summary.failed) == (7, 1)
    again = encode_all([tmp_path / "s0.pdb", path], Tiny(), tmp_path / "t.parquet")
    assert again.resumed == 7


def test_members_of_one_name_are_both_there(texts, tmp_path):
    path = tmp_path / "twice.tar"
    with tarfile.open(path, "w") as archive:
        for content in (texts["deep/s0.pdb"], texts["deep/s1.pdb"]):
            info = tarfile.TarInfo("x.pdb")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    results = list(encode_files(path, Tiny()))
    assert [result.path.split("::")[1] for result in results] == ["x.pdb", "2/x.pdb"]
    assert results[0].tokens[0].sequence != results[1].tokens[0].sequence


@pytest.mark.parametrize(
    ("members", "paths", "names"),
    [
        (["./x.pdb", "x.pdb"], ["./x.pdb", "x.pdb"], ["x", "x#2"]),
        (["/x.pdb", "x.pdb"], ["/x.pdb", "x.pdb"], ["x", "x#2"]),
        (
            ["2/x.pdb", "x.pdb", "x.pdb"],
            ["2/x.pdb", "x.pdb", "3/x.pdb"],
            ["2/x.pdb", "a.tar/x.pdb", "3/x.pdb"],
        ),
        (
            ["x.pdb", "x.pdb", "2/x.pdb"],
            ["x.pdb", "2/x.pdb", "2/2/x.pdb"],
            ["a.tar/x.pdb", "a.tar/2/x.pdb", "2/2/x.pdb"],
        ),
    ],
)
def test_members_of_one_path_have_names_of_their_own(texts, tmp_path, members, paths, names):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = len(texts["deep/s0.pdb"])
            archive.addfile(info, io.BytesIO(texts["deep/s0.pdb"]))
    results = list(encode_files(path, Tiny()))
    assert [result.path.split("::")[1] for result in results] == paths
    assert [tokens.name for result in results for tokens in result.tokens] == names


def test_unique_names_number_what_they_cannot_tell_apart():
    files = [Path("x.pdb"), Path("x.pdb"), Path("x#2"), Path("x.pdb"), Path("y.pdb")]
    assert unique_names(files) == ["x", "x#3", "x#2", "x#4", "y"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_a_cut_archive_gives_what_it_has_and_one_row(texts, tmp_path, name):
    random = np.random.default_rng(0)
    for number in range(4):  # incompressible, so that the cut falls behind whole members
        noise = random.integers(33, 126, (200, 70), np.uint8)
        extra = b"".join(b"REMARK " + row.tobytes() + b"\n" for row in noise)
        texts[f"deep/s{number}.pdb"] = extra + texts[f"deep/s{number}.pdb"]
    path = pack(tmp_path / name, texts)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    results = list(encode_files(path, Tiny()))
    rows = [(result.path, str(error)) for result in results for error in result.errors]
    assert rows[-1][0] == str(path)
    assert all("a.tar" in reason or "zip" in reason for _, reason in rows)
    good = [tokens.name for result in results for tokens in result.tokens]
    if name != "a.zip":  # whose directory lies at the end
        assert good and good == [f"s{number}" for number in range(len(good))]


def test_a_damaged_header_is_not_the_end(texts, tmp_path):
    path = tar(tmp_path / "a.tar", texts)
    data = bytearray(path.read_bytes())
    where = data.index(b"deep/s2.pdb")
    data[where : where + 20] = b"x" * 20  # the checksum is wrong now
    path.write_bytes(data)
    results = list(encode_files(path, Tiny()))
    assert [tokens.name for result in results for tokens in result.tokens] == ["s0", "s1"]
    assert "damaged" in results[-1].errors[0].cause


def test_a_damaged_zip_member_costs_itself(texts, tmp_path):
    path = pack(tmp_path / "a.zip", texts)
    data = bytearray(path.read_bytes())
    where = data.index(b"deep/s1.pdb") + 40
    data[where : where + 100] = bytes(100)
    path.write_bytes(data)
    results = list(encode_files(path, Tiny()))
    assert [tokens.name for result in results for tokens in result.tokens] == ["s0", "s2", "s3", "s4"]
    assert isinstance(results[1].errors[0], CorruptFile)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("where", [2, 6, 40], ids=["size", "properties", "data"])
def test_a_damaged_zip_member_of_other_packing_costs_itself(texts, tmp_path, method, where):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for number in range(2):
            archive.writestr(f"s{number}.pdb", texts[f"deep/s{number}.pdb"])
    data = bytearray(path.read_bytes())
    start = data.index(b"s0.pdb") + len("s0.pdb") + where
    data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)
    damaged, good = encode_files(path, Tiny())
    assert isinstance(damaged.errors[0], CorruptFile)
    assert [tokens.name for tokens in good.tokens] == ["s1"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_bombs_are_rows(texts, tmp_path, name, monkeypatch):
    monkeypatch.setattr("protok.structure.io.sources.content.STEP", 2**20)
    texts = {"bomb.pdb": bytes(2**23), "gzip.pdb": gzip.compress(bytes(2**23))} | texts
    path = pack(tmp_path / name, texts)
    results = list(encode_files(path, Tiny(), max_bytes=2**22))
    assert len(results) > 1
    assert all(result.errors for result in results if "::bomb" in result.path)
    assert all(isinstance(error, ProtokError) for r in results for error in r.errors)
    good = [tokens.name for result in results for tokens in result.tokens]
    # The stream of a compressed tar is given up as a whole, since what follows cannot be reached.
    assert good == ([] if name == "a.tar.gz" else [f"s{number}" for number in range(5)])
    if name == "a.tar.gz":
        assert "compressed bytes unpack to more than" in results[-1].errors[0].cause


def test_archives_without_structures_say_so(tmp_path):
    path = pack(tmp_path / "a.zip", {"x.txt": b""})
    (result,) = encode_files(path, Tiny())
    assert "without structure files" in result.errors[0].cause
    assert not archives.is_archive(tmp_path / "nothing.tar")


def test_lists(texts, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.pdb", "b.pdb"):
        (folder / name).write_bytes(texts["deep/s0.pdb"])
    path = pack(tmp_path / "a.tar", texts)
    lines = f"{folder}\n\n{path}\n{tmp_path}/lost.pdb\r\n{folder}/a.pdb\n"
    (tmp_path / "list.txt").write_text(lines)
    sources = find_sources(f"@{tmp_path}/list.txt")
    assert [Path(source.path).name.split("::")[-1] for source in sources] == [
        "a.pdb",
        "b.pdb",
        "s0.pdb",
        "s1.pdb",
        "s2.pdb",
        "s3.pdb",
        "s4.pdb.gz",
        "out.pdb",
        "lost.pdb",
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert find_sources("-") == sources
    (lost,) = [r for r in encode_files(f"@{tmp_path}/list.txt", Tiny()) if "lost" in r.path]
    assert "no such file" in str(lost.errors[0])
    with pytest.raises(ProtokError, match=r"nowhere\.txt: the list cannot be read"):
        list(iter_files("@nowhere.txt"))


@pytest.mark.parametrize("listing", ["-", "@list.txt"])
def test_a_bad_line_of_a_list_costs_itself(texts, tmp_path, listing, monkeypatch):
    monkeypatch.chdir(tmp_path)
    latin = b"caf\xe9.pdb"
    for name in (b"a.pdb", latin):
        Path(os.fsdecode(name)).write_bytes(texts["deep/s0.pdb"])
    lines = b"\xef\xbb\xbfa.pdb\nx\0y.pdb\n" + b"x" * 5000 + b"\nlost\xe9.pdb\n" + latin + b"\n"
    Path("list.txt").write_bytes(lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    summary = encode_all(listing, Tiny(), "t.parquet")
    assert [tokens.name for tokens in load("t.parquet")] == ["a", "caf\\udce9"]
    assert [Path(file).name[:5] for file, _, _ in summary.errors] == ["x\0y.p", "xxxxx", "lost\udce9"]
    assert all("unexpected" not in reason for _, _, reason in summary.errors)


@pytest.mark.parametrize("out", ["t.parquet", "t.fasta", "t.csv", "t.npz"])
def test_names_that_are_not_utf8_are_written_with_escapes(texts, tmp_path, out):
    (tmp_path / "in").mkdir()
    for folder in (b"x\xff", b"y\xff"):
        (tmp_path / "in" / os.fsdecode(folder)).mkdir()
        path = tmp_path / "in" / os.fsdecode(folder) / "s.pdb"
        path.write_bytes(texts["deep/s0.pdb"])
    tar(tmp_path / "in.tar", {os.fsdecode(b"\xe9.pdb"): texts["deep/s0.pdb"]})
    encode_all([tmp_path / "in", tmp_path / "in.tar"], Tiny(), tmp_path / out)
    names = ["x\\udcff/s", "y\\udcff/s", "\\udce9"]
    assert [tokens.name for tokens in load(tmp_path / out)] == [
        name.replace("/s", "/s.pdb") for name in names
    ]
    assert protok.read(path.rename(path.with_name(os.fsdecode(b"\xe9.pdb")))).name == names[-1]


def test_links_in_a_zip_are_passed_over(texts, tmp_path):
    path = pack(tmp_path / "a.zip", {"s.pdb": texts["deep/s0.pdb"]})
    link = zipfile.ZipInfo("link.pdb")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert [member.name for member in archives.list_members(path)] == ["s.pdb"]


def sparse(size: int, data: bytes) -> bytes:
    """A member of an old GNU tar archive of which all but the first bytes is a hole."""
    info = tarfile.TarInfo("holes.pdb")
    info.size, info.type = len(data), tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    pairs = [(0, len(data)), (size, 0)]
    for number, pair in enumerate(pairs):
        for at, value in enumerate(pair):
            place = 386 + 24 * number + 12 * at
            head[place : place + 12] = b"%011o\0" % value
    head[483:495] = b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head) + data + bytes(-len(data) % 512)


def test_holes_of_a_sparse_member_are_not_unpacked(texts, tmp_path):
    path = tmp_path / "a.tar"
    tar(path, {"good.pdb": texts["deep/s0.pdb"]})
    path.write_bytes(sparse(2**30, b"x" * 10) + path.read_bytes())
    holes, good = encode_files(path, Tiny())
    assert "sparse" in holes.errors[0].cause and [tokens.name for tokens in good.tokens] == ["good"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("packing", ["", "gz"])
def test_long_names_in_a_tar_are_bounded(texts, tmp_path, kind, packing):
    def header(size: int) -> Path:
        path = tmp_path / f"{size}.tar"
        with tarfile.open(path, f"w:{packing}") as archive:
            info = tarfile.TarInfo("name")
            info.type, info.size = kind, size
            archive.addfile(info, io.BytesIO(bytes(size)))
            info = tarfile.TarInfo("s.pdb")
            info.size = len(texts["deep/s0.pdb"])
            archive.addfile(info, io.BytesIO(texts["deep/s0.pdb"]))
        return path

    with pytest.raises(CorruptFile, match="damaged"):
        list(archives.list_members(header(2**21)))
    if kind != tarfile.GNUTYPE_LONGNAME:  # a name of zeros is none
        assert len(list(archives.list_members(header(2**10)))) == 1


def test_a_size_below_zero_does_not_lead_back(texts, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("s.pdb")
        info.pax_headers = {"size": "-1536"}  # its own header, and the two blocks before
        archive.addfile(info)
    with pytest.raises(CorruptFile, match="damaged"):
        list(islice(archives.list_members(path), 9))


@pytest.fixture
def foldcomp(texts, tmp_path) -> Path:
    """A Foldcomp database of three structures."""
    library = pytest.importorskip("foldcomp", reason="needs foldcomp")
    path = tmp_path / "db"
    index, lookup, offset = [], [], 0
    with open(path, "wb") as file:
        for key in range(3):
            data = library.compress(f"s{key}.pdb", texts[f"deep/s{key}.pdb"].decode()) + b"\0"
            file.write(data)
            index.append(f"{key}\t{offset}\t{len(data)}\n")
            lookup.append(f"{key}\ts{key}.pdb\t0\n")
            offset += len(data)
    Path(f"{path}.index").write_text("".join(index))
    Path(f"{path}.lookup").write_text("".join(lookup))
    return path


def test_foldcomp(texts, foldcomp, tmp_path):
    results = list(encode_files(foldcomp, Tiny()))
    assert [tokens.name for result in results for tokens in result.tokens] == ["s0", "s1", "s2"]
    (tmp_path / "x.fcz").write_bytes(foldcomp.read_bytes())
    read = protok.read(tmp_path / "x.fcz")
    (tmp_path / "x.pdb").write_bytes(texts["deep/s0.pdb"])
    assert read.sequence == protok.read(tmp_path / "x.pdb").sequence
    assert protok.rmsd(read, protok.read(tmp_path / "x.pdb")) < 0.2


def test_foldcomp_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("protok.structure.io.sources.foldcomp._helper", None)
    (tmp_path / "foldcomp.py").write_text("raise ModuleNotFoundError(name='foldcomp')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "x.fcz").write_bytes(b"FCMP" * 9)
    with pytest.raises(
        MissingExtra, match="x.fcz: reading Foldcomp data needs foldcomp; pip install 'protok.interop"
    ):
        protok.read(tmp_path / "x.fcz")


@pytest.mark.slow
def test_foldcomp_breaks_down_without_us(foldcomp, tmp_path, monkeypatch):
    monkeypatch.setattr("protok.structure.io.sources.foldcomp.PATIENCE", 5.0)  # it hangs on one of them
    data = foldcomp.read_bytes()
    broken = 0
    for cut in (10, 100, 200):
        (tmp_path / "x.fcz").write_bytes(data[:cut] + b"\xff" * 40)
        try:
            protok.read(tmp_path / "x.fcz")
        except ProtokError as error:
            broken += "broke down" in str(error)
    assert broken, "the library has become robust: the helper process may go"
    (tmp_path / "x.fcz").write_bytes(data)
    assert len(protok.read(tmp_path / "x.fcz")) == 20


@pytest.mark.parametrize("line", ["x", "0\t-1", "-1\t4"])
def test_foldcomp_index_that_lies(tmp_path, line):
    path = tmp_path / "db"
    path.write_bytes(b"FCMP" * 9)
    Path(f"{path}.index").write_text(f"0\t{line}\n")
    (result,) = encode_files(path, Tiny())
    assert "index" in result.errors[0].cause
