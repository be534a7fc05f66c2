"""The page of a structure: what it says, and what strings cannot do to it."""

import hashlib
import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.cli import main
from protok.errors import NoProtein, Unsupported
from protok.structure.descriptors import secondary_structure
from protok.structure.io.ligands import read_ligands
from protok.testing import random_backbone
from protok.viz.colours import NONE, code_colours, scale_colours
from protok.viz.html import WEB, Page
from protok.viz.meaning import meanings
from protok.viz.viewer import view
from tests.helpers.models import BOTH, small

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def tokenizer():
    return protok.load("protok-1")


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_the_page_holds_the_tokens_and_the_structure(examples, tokenizer):
    structure = protok.read(examples / "7w89.A.pdb")
    structure.coords[5] = np.nan
    tokens = tokenizer.encode(structure)
    page = view(structure, tokenizer, decode=True).html
    data = data_of(page)
    assert data["code"] == tokens.ids.tolist()
    assert data["code"][5] == -1
    assert data["sequence"] == structure.sequence
    assert data["label"][0] == f"A {structure.index[0]}"
    assert data["ca"][5] is None
    kept = [i for i in range(len(structure)) if i != 5]
    # Laid flat, which is a motion: distances stay, and so does the hand.
    laid = replace(structure[np.array(kept)])
    laid.coords[:, 1] = np.array([data["ca"][i] for i in kept])
    assert protok.rmsd(laid, structure[np.array(kept)]) < 0.02
    again = tokenizer.decode(tokens)
    assert data["confidence"][0] == round(float(again.bfactor[0]))
    off = np.array([data["distance"][i] for i in kept])
    assert np.sqrt((off**2).mean()) == pytest.approx(protok.rmsd(again, structure), abs=0.01)
    cells = re.findall(r'<span class="r" style="--c:(#\w{6})"><b>(.)</b><i>(.*?)</i>', page)
    assert [cell[1] for cell in cells] == list(structure.sequence)
    assert [cell[2] for cell in cells] == ["–" if i < 0 else str(i) for i in tokens.ids]
    assert cells[5][0] == NONE
    assert [cell[0] for cell in cells] == data["schemes"]["code"]["colours"]


def test_a_bond_that_is_not_there_is_not_drawn(examples):
    structure = protok.read(examples / "7soo.A.pdb")
    rows = np.r_[0:20, 30 : len(structure)]
    data = data_of(view(structure[rows], protok.load("3di")).html)
    assert data["run"] == [0] * 20 + [1] * (len(structure) - 30)


def test_an_alphabet_shows_letters_and_nothing_decoded(examples):
    tokenizer = protok.load("3di")
    page = view(examples / "7soo.A.pdb", tokenizer).html
    data = data_of(page)
    assert "again" not in data and "confidence" not in data
    letters = re.findall(r"</b><i>(.)</i>", page)
    assert "".join(letters) == tokenizer.encode(examples / "7soo.A.pdb").letters
    with pytest.raises(Unsupported):
        view(examples / "7soo.A.pdb", tokenizer, decode=True)


def test_names_cannot_break_out_of_the_page(examples):
    structure = protok.read(examples / "7soo.A.pdb")
    structure = replace(structure, name=NASTY, chain=np.full(len(structure), NASTY[:64]))
    page = view(structure, protok.load("3di")).html
    assert NASTY not in page and "<img" not in page
    assert page.count("<script") == page.count("</script>") == 3
    assert html.escape(NASTY) in page
    assert set(data_of(page)["chain"]) == {NASTY[:64]}


def test_the_page_needs_nothing_else(examples, tokenizer):
    page = view(examples / "7soo.A.pdb", tokenizer).html
    library = (WEB / "3Dmol-min.js").read_text()
    licence = (WEB / "3Dmol-min.js.LICENSE.txt").read_text()
    assert page.count(library) == page.count(licence) == 1
    # Its addresses are of data that a page may ask for; test_browser.py sees that none does.
    assert not re.search(r"https?:|src=|@import|url\(", page.replace(library, "").replace(licence, ""))


def test_the_library_is_the_one_that_its_licence_names():
    licence = (WEB / "3Dmol-min.js.LICENSE.txt").read_text()
    assert "npm package 3dmol 2.5.5" in licence and "BSD-3-Clause" in licence
    digest = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
    assert hashlib.sha256((WEB / "3Dmol-min.js").read_bytes()).hexdigest() == digest


def test_what_a_structure_is_coloured_by(examples):
    tokenizer, structure = protok.load("3di"), protok.read(examples / "7w89.A.pdb")
    structure.bfactor[3] = np.nan
    tokens = tokenizer.encode(structure)
    schemes = data_of(view(structure, tokenizer).html)["schemes"]
    assert [*schemes] == ["code", "chain", "element", "bfactor", "plddt"]
    assert all(len(scheme["colours"]) == len(structure) for scheme in schemes.values())
    # The legend says of every colour what it stands for.
    shades = {shade["code"]: shade["colour"] for shade in schemes["code"]["legend"]}
    assert [shades[code] for code in tokens.ids.tolist() if code >= 0] == [
        shade for shade in schemes["code"]["colours"] if shade != NONE
    ]
    assert [shade["name"] for shade in schemes["code"]["legend"]] == sorted(set(tokens.letters) - {"X", "-"})
    names = {"a": "helix", "b": "strand", "c": "coil"}
    elements = {shade["colour"]: shade["name"] for shade in schemes["element"]["legend"]}
    assert [elements[shade] for shade in schemes["element"]["colours"]] == [
        names[x] for x in secondary_structure(structure)
    ]
    low, high = np.nanargmin(structure.bfactor), np.nanargmax(structure.bfactor)
    assert schemes["bfactor"]["colours"][low] == schemes["bfactor"]["legend"][0]["colour"]
    assert schemes["bfactor"]["colours"][high] == schemes["bfactor"]["legend"][-1]["colour"]
    assert schemes["bfactor"]["colours"][3] == schemes["plddt"]["colours"][3] == NONE
    structure.bfactor[4:8] = (95, 90, 70, 49.9)
    assert data_of(view(structure, tokenizer).html)["schemes"]["plddt"]["colours"][4:8] == [
        "#0053d6", "#0053d6", "#65cbf3", "#ff7d45",
    ]  # fmt: skip
    structure.bfactor[8] = 140  # no pLDDT
    assert "plddt" not in data_of(view(structure, tokenizer).html)["schemes"]
    structure.bfactor[:] = 0
    assert "bfactor" not in data_of(view(structure, tokenizer).html)["schemes"]


def test_environment_letters_are_a_way_to_colour(examples):
    tokenizer = small(BOTH)
    data = data_of(view(examples / "7w89.A.pdb", tokenizer).html)
    scheme = data["schemes"]["environment"]
    letters = tokenizer.encode(examples / "7w89.A.pdb").environment.ids
    assert scheme["title"] == "environment letter"
    assert {shade["name"] for shade in scheme["legend"]} == {str(n) for n in letters}
    by_letter = {shade["name"]: shade["colour"] for shade in scheme["legend"]}
    assert scheme["colours"] == [by_letter[str(n)] for n in letters]
    assert "environment" not in data_of(view(examples / "7w89.A.pdb", small()).html)["schemes"]


def test_letters_of_the_package_have_meanings(examples):
    structure = protok.read(examples / "7w89.A.pdb")
    for name in ("protok-1", "3di", "protein-blocks"):
        tokenizer = protok.load(name)
        known = meanings(tokenizer, structure)
        assert "valid.parquet" in known.source, f"{name} has new codes: python tools/letters.py"
        assert len(known.words) == tokenizer.size and all(known.words)
    # m is the block of helices, d that of strands.
    assert known.words[12].startswith("helix 8") and known.words[3].startswith("strand 6")


def test_letters_of_another_codebook_are_measured_on_the_structure(examples):
    """What is said of a codebook that the package does not know."""

    class Mine:
        def __getattr__(self, name):
            return getattr(protok.load("protein-blocks"), name)

        name, size, codebook, alphabet = "mine", 16, "mine@0", "abcdefghijklmnop"

        def encode(self, structure):
            return replace(protok.load("protein-blocks").encode(structure), codebook="mine@0")

    structure = protok.read(examples / "7w89.A.pdb")
    page = view(structure, Mine()).html
    words = data_of(page)["words"]
    assert "was measured on this structure" in page
    assert words[12].startswith("helix") and "" in words


def test_ligands_are_shown_beside_the_protein(shared, tokenizer):
    file = shared("parsing/cross_format/5ugo.cif")
    data = data_of(view(file, tokenizer).html)
    assert {"2PN A 401", "CA A 402", "DC T 2"} <= set(data["beside"])
    structure = protok.read(file)
    atoms = np.array([row[4:] for row in data["ligands"]])
    # They are turned with the protein: the same distances as in the file.
    calcium = read_ligands(file, structure)
    which = [data["beside"][row[3]] for row in data["ligands"]].index("CA A 402")
    here = np.linalg.norm(atoms[which] - np.array(data["ca"][50]))
    there = np.linalg.norm(calcium.coords[list(calcium.label).index("CA A 402")] - structure.coords[50, 1])
    assert here == pytest.approx(there, abs=0.02)
    assert "ligands" not in data_of(view(structure, tokenizer).html)


def test_a_file_whose_ligands_cannot_be_read_is_shown_all_the_same(shared, tokenizer, capsys, tmp_path):
    file = shared("parsing/reported/num_letter.cif")
    page = view(file, tokenizer).html
    assert "its ligands cannot be read" in page and "ligands" not in data_of(page)
    assert main.main(["view", str(file), "-o", str(tmp_path / "x.html")]) == 0
    assert "its ligands cannot be read" in capsys.readouterr().err


def test_nothing_to_show(tokenizer):
    structure = random_backbone(5, 0)
    structure.coords[:] = np.nan
    with pytest.raises(NoProtein):
        view(structure, tokenizer)


def test_a_notebook_gets_a_frame_with_the_page():
    shown = Page('<p title="a">&amp;</p>')._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', shown)
    assert html.unescape(inside) == '<p title="a">&amp;</p>'


def test_like_codes_have_like_colours(tokenizer):
    colours, vectors = code_colours(tokenizer).astype(float), tokenizer.code_vectors()
    assert len(np.unique(colours, axis=0)) > 60
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    nearest = (apart + 1e9 * np.eye(len(apart))).argmin(axis=1)
    step = np.linalg.norm(colours - colours[nearest], axis=1).mean()
    assert step < 0.6 * np.linalg.norm(colours - colours[::-1], axis=1).mean()
    assert len(np.unique(code_colours(protok.load("protein-blocks")), axis=0)) == 16


def test_scale_of_numbers():
    assert scale_colours(np.array([-1.0, 2.0, np.nan]), 0, 1) == ["#440154", "#fde725", NONE]


def test_command(examples, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = str(examples / "7soo.A.pdb")
    assert main.main(["view", file]) == 0
    assert data_of((tmp_path / "7soo.A.html").read_text())["codebook"].startswith("protok-1@")
    assert "again" not in data_of((tmp_path / "7soo.A.html").read_text())
    assert main.main(["view", file, "--decode", "-o", "x.html", "--chain", "A"]) == 0
    assert "again" in data_of((tmp_path / "x.html").read_text())
    assert main.main(["view", "nowhere.pdb"]) == 2
    assert main.main(["view", file, "--model", "3di", "--decode", "-o", "y.html"]) == 2
    assert not (tmp_path / "y.html").exists()
    assert "alphabet without a decoder" in capsys.readouterr().err
