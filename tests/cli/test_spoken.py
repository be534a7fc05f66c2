"""What commands say of chains without codes, of notes, and of chains that are named alike."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.cli import main
from protok.cli.options import say_notes
from protok.structure.backbone import joined
from protok.testing import exclude, random_backbone
from protok.tokens.export import write_letters
from protok.tokens.files import load, save


def run(*arguments) -> int:
    return main.main([str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path):
    """A structure of CA alone, and one of which a chain is of CA alone."""
    whole, bare = random_backbone(30, seed=1), random_backbone(30, seed=2, chain="B")
    bare = exclude(bare, slice(None), atoms=[0, 2, 3])
    paths = tmp_path / "bare.pdb", tmp_path / "mixed.pdb"
    protok.write(bare, paths[0])
    protok.write(joined([whole, bare]), paths[1])
    return paths


def test_encode_says_and_counts_chains_without_codes(files, tmp_path, capsys):
    bare, mixed = files
    assert run("encode", bare, "--model", "3di") == 1
    assert "bare.pdb: no residue has a code" in capsys.readouterr().err
    out = tmp_path / "t.parquet"
    assert run("encode", bare, "-o", tmp_path / "b.fasta", "--model", "3di") == 1
    assert "1 chain without any code: nothing was encoded" in capsys.readouterr().err
    for _ in range(2):  # also where it was complete before
        assert run("encode", bare, mixed, "-o", out, "--model", "3di", "--json") == 0
        output = capsys.readouterr()
        assert json.loads(output.out)["uncoded"] == 2
        assert "chain 'B' (and the like in 1 more file)" in output.err
        assert output.err.splitlines()[-1] == "protok: 2 chains without any code"
    assert len(load(out)) == 3  # residues are never dropped


def test_other_commands_say_them_too(files, tmp_path, capsys):
    bare, mixed = files
    out, single = tmp_path / "t.parquet", tmp_path / "one.fasta"
    run("encode", *files, "-o", out, "--model", "3di")
    run("encode", bare, "-o", single, "--model", "3di")
    capsys.readouterr()
    assert run("search", bare, out) == 2
    assert "bare.pdb: no residue has a code" in capsys.readouterr().err
    assert run("search", mixed, out) == 0
    err = capsys.readouterr().err
    assert "1 chain without any code not searched: mixed_B" in err
    assert "2 chains without any code left out of the database: bare_B, mixed_B" in err
    assert run("export", out, "-o", tmp_path / "corpus") == 0
    assert "2 chains without any code left out: bare_B, mixed_B" in capsys.readouterr().err
    (line,) = (tmp_path / "corpus" / "corpus.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "mixed"
    assert run("export", out, "-o", tmp_path / "x.fasta", "--letters") == 0
    assert (tmp_path / "x.fasta").read_text().count(">") == 1
    assert run("export", single, "-o", tmp_path / "y") == 2
    assert run("export", out, "-o", tmp_path / "z", "--layout", "blocks") == 2
    assert "no keyframes for the layout blocks" in capsys.readouterr().err
    assert run("info", out) == 0
    assert "chains without any code: 2" in capsys.readouterr().out
    assert run("bench", "prepare", *files, "-o", tmp_path / "data") == 1
    assert "no residue of chain mixed_B has N, CA and C" in capsys.readouterr().err


def test_a_training_says_them(files, tmp_path, recwarn):
    from protok.prior import read_corpus
    from protok.structure.store import open_store, unread

    assert open_store(files[1].parent, tmp_path / "store" / "s.parquet").ids == ["mixed_A"]
    rows = unread(tmp_path / "store" / "s.parquet")
    assert [row.split("\t")[1:] for row in rows] == [["B", "fewer than 3 residues have N, CA and C"]] * 2
    run("encode", *files, "-o", tmp_path / "t.parquet", "--model", "3di")
    recwarn.clear()
    assert len(read_corpus(tmp_path / "t.parquet")) == 1
    assert "chains without any code left out: 2" in str(recwarn.pop(UserWarning).message)


def test_notes_are_said_once_a_kind(capsys):
    say_notes(
        [
            ("a.pdb", "1 residue with alternate locations, the most occupied kept"),
            ("b.pdb", "7 residues with alternate locations, the most occupied kept"),
            ("b.pdb", "residues that are no amino acids left out: 2 DPPC"),
            ("c.pdb", "residues that are no amino acids left out: 1 ABC, 4 XYZ"),
            ("c.pdb", "model 1 read, others left out"),
        ]
    )
    assert capsys.readouterr().err.splitlines() == [
        "protok: note: a.pdb: 1 residue with alternate locations, the most occupied kept "
        "(and the like in 1 more file)",
        "protok: note: b.pdb: residues that are no amino acids left out: 2 DPPC "
        "(and the like in 1 more file)",
        "protok: note: c.pdb: model 1 read, others left out",
    ]


def test_archives_of_two_formats_are_said(tmp_path, capsys):
    backbone = random_backbone(30, seed=3)
    with tarfile.open(tmp_path / "af.tar", "w") as tar:
        for name in ("AF-1.pdb", "AF-1.cif"):
            protok.write(backbone, tmp_path / name)
            tar.add(tmp_path / name, name)
    for more in ([], ["-o", tmp_path / "t.parquet"]):
        assert run("encode", tmp_path / "af.tar", "--model", "3di", *more) == 0
        err = capsys.readouterr().err
        assert "AF-1.cif: in the archive in another format too; both are encoded" in err


def named(name, chain):
    backbone = replace(random_backbone(60, seed=5), name=name)
    return protok.load("3di").encode(replace(backbone, chain=np.full(60, chain)))


def test_no_two_chains_have_one_header(tmp_path, capsys):
    pairs = [("x_A", "B"), ("x", "A_B"), ("x", "A"), ("x_A", ""), ("a b", "A"), ("a_b", "A"), ("x", "A")]
    tokens = [named(*pair) for pair in pairs]
    write_letters(tokens, tmp_path / "x.fasta", tmp_path / "aa.fasta")
    headers = [line for line in (tmp_path / "x.fasta").read_text().splitlines() if line[0] == ">"]
    assert headers == [">x_A_B", ">x_A%5FB", ">x_A", ">x_A_", ">a%20b_A", ">a_b_A", ">x_A#2"]
    assert headers == [line for line in (tmp_path / "aa.fasta").read_text().splitlines() if line[0] == ">"]
    save(tokens, tmp_path / "t.parquet")
    assert run("search", tmp_path / "t.parquet", tmp_path / "t.parquet") == 0
    rows = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(set(map(tuple, rows))) == len(rows) == 49
    assert {target for _, target in rows} == {query for query, _ in rows}


def test_several_files_are_exported_with_amino_acids(tmp_path, capsys):
    tokens = [named("x", "A"), named("y", "B")]
    missing = np.r_[-1, tokens[1].ids[1:]]
    tokens[1] = replace(tokens[1], sequence="X" + tokens[1].sequence[1:], ids=missing)
    for i, chain in enumerate(tokens):
        save([chain], tmp_path / f"{i}.csv")
    files = [tmp_path / "0.csv", tmp_path / "1.csv"]
    assert run("export", *files, "-o", tmp_path / "p.fasta", "--letters", "--pairs") == 0
    assert "2 chains in" in capsys.readouterr().err
    lines = (tmp_path / "p.fasta").read_text().splitlines()
    assert lines[::2] == [">x_A", ">y_B"]
    for line, chain in zip(lines[1::2], tokens, strict=True):
        assert line[::2] == chain.sequence.replace("X", "#")
        assert line[1::2].upper() == chain.letters.replace("-", "#") and line[1::2].islower()
    assert lines[3][:2] == "##"
    assert run("export", *files, "-o", tmp_path / "c", "--positions") == 0
    assert "2 structures in" in capsys.readouterr().err
    assert run("export", *files, "-o", tmp_path / "l.fasta", "--letters", "--positions") == 2


def test_a_decoded_chain_that_pdb_has_no_room_for_is_mmcif(tmp_path, capsys):
    backbone = random_backbone(30, seed=6)
    for name, chain in (("one", "A"), ("two", "AB")):
        protok.write(replace(backbone, chain=np.full(30, chain)), tmp_path / f"{name}.cif")
    tokens, out = tmp_path / "t.parquet", tmp_path / "out"
    assert run("encode", tmp_path / "one.cif", tmp_path / "two.cif", "-o", tokens) == 0
    capsys.readouterr()
    assert run("decode", tokens, "-o", out, "--compare", tmp_path / "one.cif", tmp_path / "two.cif") == 0
    assert "1 chain as mmCIF" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["one_A.pdb", "two_AB.cif"]
    assert protok.read(out / "two_AB.cif").chains == ["AB"]
    assert run("decode", tokens, "-o", tmp_path / "again", "--format", "pdb") == 1
    assert "chain AB: a chain id of PDB has one character" in capsys.readouterr().err


def test_a_cut_file_is_told_by_the_option(tmp_path, capsys):
    import gzip

    protok.write(random_backbone(30), tmp_path / "x.pdb")
    content = gzip.compress((tmp_path / "x.pdb").read_bytes())
    (tmp_path / "y.pdb.gz").write_bytes(content[:-20])
    assert run("encode", tmp_path / "y.pdb.gz", "--model", "3di") == 1
    err = capsys.readouterr().err
    assert "--keep-truncated" in err and "truncated=" not in err


def test_preparing_shows_no_warnings_of_others(tmp_path, recwarn):
    protok.write(random_backbone(30), tmp_path / "x.cif")
    text = (tmp_path / "x.cif").read_text().replace("_atom_site.auth_comp_id", "_atom_site.other_id")
    (tmp_path / "x.cif").write_text(text)
    run("bench", "prepare", tmp_path / "x.cif", "-o", tmp_path / "data")
    assert not [warning for warning in recwarn if "auth_comp_id" in str(warning.message)]
