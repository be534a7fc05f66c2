"""Scripts for PyMOL and ChimeraX. Run in PyMOL 3.2, every CA had the colour that is checked here."""

import re
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.cli.main import main
from protok.errors import FormatError
from protok.viz.colours import code_colours, residue_colours
from protok.viz.scripts import colour_script


@pytest.mark.parametrize(
    ("suffix", "line"),
    [
        (".pml", r'color 0x(?P<colour>\w{6}), \w+ and chain "(?P<chain>.*)" and resi (?P<residues>\S+)'),
        (".cxc", r"color (?:/(?P<chain>[^:]*))?:(?P<residues>\S+) #(?P<colour>\w{6}) target acs"),
    ],
)
@pytest.mark.parametrize("file", ["biojava__1a4w.pdb", "ngl__1lee.pdb", "pdb2pqr__1crn.pdb"])
def test_each_residue_with_a_code_has_its_colour(shared, file, suffix, line):
    """Of several chains with insertion codes, of negative numbers, and of a blank chain id."""
    path = shared(f"parsing/real/{file}")
    tok = protok.load("3di")
    tokens = tok.encode(protok.read(path))
    script = colour_script(path, tokens, tok, suffix)
    coloured = {}
    for match in re.finditer(rf"^{line}$", script, re.MULTILINE):
        for number in re.split(r"[+,]", match["residues"].replace("\\-", "-")):
            coloured[match["chain"] or "", number] = f"#{match['colour']}"
    labels = zip(tokens.chain.tolist(), tokens.index.tolist(), tokens.icode.tolist(), strict=True)
    wanted = residue_colours(tokens.ids, code_colours(tok))
    coded = tokens.ids >= 0
    expected = {
        (c, f"{i}{code}"): w for (c, i, code), w, yes in zip(labels, wanted, coded, strict=True) if yes
    }
    assert coloured == expected and str(path.resolve()) in script
    assert ("\\-1+" in script) == (file == "ngl__1lee.pdb" and suffix == ".pml")


def test_what_a_script_cannot_name_is_refused(examples, tmp_path):
    tok = protok.load("3di")
    tokens = tok.encode(protok.read(examples / "7w89.A.pdb"))
    for path, own, suffix in (
        (tmp_path / "a,b.pdb", tokens, ".pml"),
        (tmp_path / "a\nquit.pdb", tokens, ".cxc"),
        (tmp_path / "a.pdb", replace(tokens, chain=np.full(len(tokens), '"; quit')), ".pml"),
        (tmp_path / "a.pdb", tokens, ".vmd"),
    ):
        with pytest.raises(FormatError, match="call it otherwise|give one of .pml, .cxc"):
            colour_script(path, own, tok, suffix)


def test_view_writes_a_script_where_the_suffix_asks_for_it(examples, tmp_path, capsys):
    out = tmp_path / "c.cxc"
    assert main(f"view {examples}/7vmf.A.cif -o {out} --range 10-40 --model 3di".split()) == 0
    assert "open it in ChimeraX" in capsys.readouterr().err
    script = out.read_text()
    assert script.startswith("# Coloured by the codes of 3di@")
    numbers = [
        int(n) for group in re.findall(r"^color /A:(\S+) ", script, re.MULTILINE) for n in group.split(",")
    ]
    assert 10 <= min(numbers) and max(numbers) <= 40 and len(numbers) == len(set(numbers)) > 25
    assert main(f"view {examples}/7vmf.A.cif -o {out} --decode --model 3di".split()) == 2
    assert "a script colours the file itself: leave out --decode" in capsys.readouterr().err
    wrong = tmp_path / "letters.py"
    assert main(f"view {examples}/7vmf.A.cif -o {wrong} --model 3di".split()) == 2
    assert "a view is one of .html, .pml, .cxc" in capsys.readouterr().err and not wrong.exists()
