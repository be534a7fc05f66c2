"""Where two structures differ: marks of residues, the picture, and the command."""

import csv
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.analysis.compare import pair_residues
from protok.analysis.differences import differences, picture, stretches
from protok.analysis.substitution import default_matrix
from protok.cli.main import main


@pytest.fixture(scope="module")
def table(examples):
    """A chain, and the same without two residues, of which some codes are changed and the end is turned."""
    tok = protok.load("3di")
    chain = protok.read(examples / "7w89.A.pdb")
    scores = default_matrix(tok).scores
    coords = chain.coords.copy()
    coords[90:] += 5.0
    other = replace(chain, coords=coords, chain=np.full(len(chain), "B"))[np.delete(np.arange(123), [3, 4])]
    tokens = tok.encode(chain)
    ids = np.delete(tokens.ids, [3, 4])
    order = np.argsort(scores[ids[50]])
    alike = next(int(code) for code in order[::-1] if code != ids[50])
    assert scores[ids[50], alike] > 0
    ids[50], ids[51], ids[52], ids[53], ids[60] = (
        alike,
        scores[ids[51]].argmin(),
        scores[ids[52]].argmin(),
        -1,
        -1,
    )
    changed = replace(tok.encode(other), ids=ids)
    return differences((chain, other), (tokens, changed), pair_residues(chain, other), scores)


def test_each_pair_has_its_mark_and_distance(table):
    assert len(table) == 121 and [row.chain + row.chain_2 for row in table] == ["AB"] * 121
    assert "".join(row.mark for row in table[48:62]) == "..+** ...... ."
    assert all((row.index, row.residue) == (row.index_2, row.residue_2) for row in table)
    assert table[51].code != table[51].code_2 >= 0 > table[53].code_2
    near, far = (np.mean([row.distance for row in part]) for part in (table[:88], table[88:]))
    assert 1 < near < far < 7
    assert stretches(table) == [f"A {table[51].index}-{table[52].index}"]


def test_the_picture_shows_all_pairs_in_lines(table):
    blocks = picture(table).rstrip("\n").split("\n\n")
    assert len(blocks) == 3
    first, marks, second = blocks[0].splitlines()
    assert first.split()[:2] == ["A", str(table[0].index)] and second.split()[0] == "B"
    assert first.split()[2] == second.split()[2] == "".join(row.residue for row in table[:60])
    assert marks[14:] == "".join(row.mark for row in table[:60]).rstrip()
    assert sum(len(block.splitlines()[0].split()[2]) for block in blocks) == 121


def test_the_command_compares_chains_of_one_name_and_of_others(shared, tmp_path, capsys):
    path = shared("parsing/cross_format/1k6p.pdb")
    out = tmp_path / "d.tsv"
    command = (
        f"compare {path} {path.with_suffix('.bcif')} --chain A --second-chain B --table {out} --model 3di"
    )
    assert main([*command.split(), "--range", "10-60"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (
        printed[0].startswith("structures: 51 residues, RMSD 0.")
        and " of 51 codes are the same" in printed[1]
    )
    assert printed[2].startswith("unlike: ") and printed[4].split()[:2] == ["A", "10"]
    rows = list(csv.DictReader(out.read_text().splitlines(), delimiter="\t"))
    assert [int(row["index"]) for row in rows] == list(range(10, 61)) and {
        row["chain_2"] for row in rows
    } == {"B"}
    assert main(f"compare {path} {path} --model 3di".split()) == 0
    assert "unlike: none" in capsys.readouterr().out
    other = shared("parsing/cross_format/1dix.pdb")
    assert main(f"compare {path} {other} --second-chain A --chain A --range 900-950".split()) == 2
    assert "no residue is numbered 900-950" in capsys.readouterr().err
