"""Test sets that an outsider fetches: from a server on the loopback, with real files."""

import gzip
import io
import tarfile

import pytest

import protok
from benchmarks import targets
from tests.helpers.paths import ROOT
from tests.helpers.served import served

#: A port at which nobody answers.
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def server(tmp_path):
    """The address of a server, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as address:
        yield address, folder


@pytest.fixture(autouse=True)
def nothing_fetched():
    targets.fetched.cache_clear()


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A list of three real chains, one of them as if it were of CASP14."""
    lines = targets.LIST.read_text().splitlines()
    rows = {line.split("\t")[1]: line for line in lines}
    sets = [rows["7soo.A"].replace("cameo2022", "casp14"), rows["7w89.A"], rows["7wf8.B"]]
    path = tmp_path / "few.tsv"
    path.write_text("\n".join([lines[0], *sets]) + "\n")
    monkeypatch.setattr(targets, "LIST", path)


def entry(chain: str, moved: str = "") -> str:
    """A file as the PDB has it: other chains and models, modified residues, alternate locations."""
    own = (ROOT / "data" / f"{chain}.pdb").read_text().replace("END", "")
    other = (ROOT / "data" / "7soo.A.pdb").read_text().replace("END", "").replace(" A ", " Q ")
    atom = next(line for line in own.splitlines() if line.startswith("ATOM") and line[13:15] == "CA")
    first = f"{atom[:16]}A{atom[17:54]}  0.30{atom[60:]}"
    second = f"{atom[:16]}B{atom[17:30]}   0.000   0.000   0.000  0.70{atom[60:]}"
    own = own.replace(atom, f"{first}\n{second}", 1)
    mse = f"HETATM{atom[6:17]}MSE{atom[20:22]} 999{atom[26:]}"
    if moved:
        own = own.replace(atom[30:38], moved, 1)
    return f"HEADER\nMODEL        1\n{other}{own}{mse}\nENDMDL\nMODEL        2\n{own}ENDMDL\nEND\n"


def test_targets_come_from_entries_archives_and_copies(server, few, tmp_path, monkeypatch, capsys):
    address, folder = server
    monkeypatch.setattr(
        targets,
        "SOURCES",
        {
            "casp14": (f"{NOBODY}/{{id}}.pdb", f"{address}/targets.tar.gz#{{id}}.pdb"),
            "cameo2022": (f"{address}/{{entry}}.pdb", f"{address}/copies/{{folder}}/{{id}}.pdb"),
        },
    )
    with tarfile.open(folder / "targets.tar.gz", "w:gz") as archive:
        archive.add(ROOT / "data" / "7soo.A.pdb", "targets/7soo.A.pdb")
    (folder / "7W89.pdb").write_text(entry("7w89.A"))
    (folder / "7WF8.pdb").write_text(entry("7wf8.B", moved="   1.000"))
    out = tmp_path / "out"
    whole = (folder / "targets.tar.gz").read_bytes()
    for broken in (whole[:2000], b"<html>Moved</html>"):
        (folder / "targets.tar.gz").write_bytes(broken)
        with pytest.raises(SystemExit, match="2 targets are missing"):
            targets.main(["-o", str(tmp_path / "broken")])
        assert "7soo.A: 127.0.0.1:" in capsys.readouterr().out
        targets.fetched.cache_clear()
    (folder / "targets.tar.gz").write_bytes(whole)
    with pytest.raises(SystemExit, match="1 targets are missing: the same command goes on"):
        targets.main(["-o", str(out)])
    printed = capsys.readouterr().out
    assert "7wf8.B: 127.0.0.1:" in printed and "has other coordinates (128 residues of 128)" in printed
    assert "has no such file" in printed and "127.0.0.1:9 cannot be reached" in printed
    assert f"2 of 3 targets are in {out}/files" in printed

    (folder / "copies/7w").mkdir(parents=True)
    (folder / "copies/7w/7wf8.B.pdb").write_bytes((ROOT / "data" / "7wf8.B.pdb").read_bytes())
    targets.fetched.cache_clear()
    targets.main(["-o", str(out)])
    assert "3 of 3 targets" in capsys.readouterr().out
    written = sorted(path.name for path in out.rglob("*.pdb"))
    assert written == ["7soo.A.pdb", "7w89.A.pdb", "7wf8.B.pdb"]
    tokenizer = protok.load("protok-1")
    for path in out.rglob("*.pdb"):
        fetched, bundled = (tokenizer.encode(file) for file in (path, ROOT / "data" / path.name))
        assert (fetched.ids == bundled.ids).all() and fetched.keyframes.text == bundled.keyframes.text


def test_without_a_network_it_says_so_and_keeps_what_is_there(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "SOURCES", dict.fromkeys(targets.SOURCES, (f"{NOBODY}/{{id}}",)))
    place = tmp_path / "files/cameo2022/7w89.A.pdb"
    place.parent.mkdir(parents=True)
    place.write_bytes((ROOT / "data" / "7w89.A.pdb").read_bytes())
    with pytest.raises(
        SystemExit,
        match="2 targets are missing.*where there is a network.*7soo.A is .*files/casp14/7soo.A.pdb",
    ):
        targets.main(["-o", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1 of 3 targets") and len(printed) == 2 and "cannot be reached" in printed[1]


def test_the_list_is_of_the_files_that_results_were_measured_on(
    server, shared, tmp_path, monkeypatch, capsys
):
    address, folder = server
    measured = shared("files")
    with tarfile.open(folder / "casp14.tar.gz", "w:gz") as archive:
        for file in sorted(measured.glob("c*/*.pdb.gz")):
            text = gzip.decompress(file.read_bytes())
            if file.parent.name == "casp14":
                member = tarfile.TarInfo(f"targets/{file.name.removesuffix('.gz')}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
            else:
                (folder / file.name.removesuffix(".gz")).write_bytes(text)
    sources = {"casp14": (f"{address}/casp14.tar.gz#{{id}}.pdb",), "cameo2022": (f"{address}/{{id}}.pdb",)}
    monkeypatch.setattr(targets, "SOURCES", sources)
    targets.main(["-o", str(tmp_path)])
    assert "214 of 214 targets" in capsys.readouterr().out
    for name in ("casp14", "cameo2022"):
        fetched = {path.stem for path in (tmp_path / "files" / name).iterdir()}
        assert fetched == {path.name.split(".pdb")[0] for path in (measured / name).iterdir()}
