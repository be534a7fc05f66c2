"""Options of reading structure files, from the command line to what the commands make of them."""

import json

import numpy as np
import pytest

import protok
from protok.cli import main
from protok.cli.options import reading_options
from protok.structure.io.options import ReadOptions
from protok.tokens.files import load
from protok.training.config import read_recipe
from tests.helpers.commands import run

ALL = (
    "--chain A --range=-5-90 --model-number 2 --assembly 1 --sequence file --min-plddt 70 --max-bfactor 80 "
    "--chain-ids label --keep-truncated"
).split()


@pytest.mark.parametrize(
    "command",
    [
        "encode x.pdb",
        "embed x.pdb -o v.parquet",
        "decode t.parquet -o out",
        "search x.pdb t.parquet",
        "cluster in",
        "align in",
        "matrix in -o m.npz",
        "view x.pdb",
        "info x.pdb",
        "compare x.pdb y.pdb",
        "frames x.pdb t.xtc -o t.parquet",
        "atlas protok-1 --structures in -o out",
        "train --out run",
    ],
)
def test_every_command_that_reads_structures_has_them(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ALL[2:] if command.startswith("decode") else ALL
    reading = reading_options(main.parser().parse_args([*command.split(), *flags]))
    options = ReadOptions(**reading)
    assert (options.residues, options.model, options.truncated) == ("-5-90", 2, "keep")
    assert len(reading) == sum(flag.startswith("--") for flag in flags)
    assert reading_options(main.parser().parse_args(command.split())) == {}


def test_an_assembly_is_encoded_decoded_and_compared(capsys, shared, tmp_path):
    path = shared("parsing/real/openfold__4zey.cif")
    code, _, err = run(capsys, "encode", path, "--assembly", 2, "-o", tmp_path / "t.parquet")
    assert code == 0 and "assembly 2 built: 2 copies of its chains" in err
    chains = load(tmp_path / "t.parquet")
    assert [chain.chain[0] for chain in chains] == ["A", "A-2"]
    np.testing.assert_array_equal(chains[0].ids, chains[1].ids)
    code, out, _ = run(
        capsys, *f"decode {tmp_path}/t.parquet -o {tmp_path}/out --json --assembly 2 --compare {path}".split()
    )
    (whole,) = json.loads(out)["chains"]
    assert code == 0 and whole["chain"] == "A,A-2" and whole["rmsd"] < 0.5
    assert protok.read(whole["file"]).chains == ["A", "A-2"]


def test_models_are_encoded_under_their_numbers_and_compared_with_their_own(capsys, shared, tmp_path):
    path, tokens = shared("parsing/real/biopython__2OFG.cif"), tmp_path / "t.parquet"
    assert run(capsys, "encode", path, "--model-number", "all", "-o", tokens)[0] == 0
    assert [chain.name for chain in load(tokens)] == [f"biopython__2OFG#{i}" for i in (1, 2, 3)]
    decode = (
        f"decode {tokens} -o {tmp_path}/out --json --compare {path} {path.with_name('openfold__4zey.cif')}"
    )
    code, out, _ = run(capsys, *decode.split(), "--model-number", "all")
    chains = json.loads(out)["chains"]
    assert code == 0 and [chain["length"] for chain in chains] == [106, 76, 71]
    assert all(chain["rmsd"] < 1 for chain in chains)


def test_what_makes_no_sense_is_said(capsys, shared, examples, tmp_path):
    for arguments, message in (
        (f"encode {examples}/7w89.A.pdb --range 10-", "argument --range: '10-' is no range of residues"),
        (f"view {examples}/7w89.A.pdb --model-number all", "a structure is one model, not all"),
        (f"view {examples}/7w89.A.pdb --model-number 0", "'0' is not 1 or more"),
        (f"info {examples}/7w89.A.pdb --assembly 1", "has no assembly 1; leave the assembly out"),
        ("info protok-1 --chain A", "is no structure file; leave out how it is read"),
    ):
        code, _, err = run(capsys, *arguments.split())
        assert code == 2 and message in err, arguments


def test_a_job_goes_on_only_with_the_sequences_that_it_began_with(examples, tmp_path):
    fasta, out = tmp_path / "all.fasta", tmp_path / "t.parquet"
    chain = protok.read(examples / "7w89.A.pdb")
    fasta.write_text(f">a\nGG{chain.sequence}\n")
    options = {"sequence": str(fasta), "keyframes": 0}
    made = protok.encode_all(examples / "7w89.A.pdb", "protok-1", out, **options)
    assert made.residues == len(chain) + 2
    assert protok.encode_all(examples / "7w89.A.pdb", "protok-1", out, **options).resumed == 1
    fasta.write_text(f">a\nGGG{chain.sequence}\n")
    with pytest.raises(protok.ProtokError, match="made otherwise: sequence"):
        protok.encode_all(examples / "7w89.A.pdb", "protok-1", out, **options)


def test_a_recipe_says_how_its_structures_are_read(tmp_path):
    (tmp_path / "r.toml").write_text("[data.read]\nmin_plddt = 70\nassembly = 1\n")
    read = read_recipe(tmp_path / "r.toml", {"data.read.max_bfactor": 80.0}).data.read
    assert read == ReadOptions(min_plddt=70.0, assembly="1", max_bfactor=80.0)
