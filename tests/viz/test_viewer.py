"""The page of a structure: what it says, what strings cannot do to it, what a browser shows."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.cli import main
from protok.errors import NoProtein, Unsupported
from protok.testing import random_backbone
from protok.viz.colours import NONE, code_colours, scale_colours
from protok.viz.viewer import Page, view, view_3dmol

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
    assert [cell[0] for cell in cells] == data["colours"]["code"]


def test_a_bond_that_is_not_there_is_not_drawn(examples):
    structure = protok.read(examples / "7soo.A.pdb")
    rows = np.r_[0:20, 30 : len(structure)]
    data = data_of(view(structure[rows], protok.load("3di")).html)
    assert [i for i, yes in enumerate(data["linked"]) if not yes] == [19]


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
    assert page.count("<script") == page.count("</script>") == 2
    assert html.escape(NASTY) in page
    assert set(data_of(page)["chain"]) == {NASTY[:64]}


def test_the_page_needs_nothing_else(examples, tokenizer):
    page = view(examples / "7soo.A.pdb", tokenizer).html
    assert not re.search(r"https?:|src=|@import|url\(", page)


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


def test_py3dmol_colours_by_code(examples, tokenizer):
    pytest.importorskip("py3Dmol", reason="needs py3Dmol: pip install 'protok[interop]'")
    shown = view_3dmol(examples / "7soo.A.pdb", tokenizer)._make_html()
    tokens = tokenizer.encode(examples / "7soo.A.pdb")
    for code in np.unique(tokens.ids):
        assert f'"{code}": "#' in shown
    assert f"{tokens.ids[0]:6.2f}" in shown


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    pytest.skip("needs Chromium")


def shown_by(browser, page, script, tmp_path, fragment=""):
    """The document after the page's script and another have run."""
    path = tmp_path / "page.html"
    # Without a screen frames come when they like, or not: here they come at once.
    frames = "<script>window.requestAnimationFrame = draw => setTimeout(draw, 0)</script></head>"
    page = page.replace("</head>", frames)
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1000,800",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        f"{path.as_uri()}{fragment}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_a_browser_shows_what_is_pointed_at(browser, examples, tokenizer, tmp_path):
    structure = protok.read(examples / "7w89.A.pdb")
    tokens = tokenizer.encode(structure)
    page = view(structure, tokenizer, decode=True).html
    label = f"A {structure.index[40]}"
    # The residue of the address is pinned; the canvas is painted; turning changes the picture.
    script = """
    const out = {}, canvas = document.getElementById("canvas");
    const later = f => new Promise(r => setTimeout(() => { f(); r(); }, 100));
    const colours = () => {
      const p = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let n = 0, h = 0;
      for (let i = 0; i < p.length; i += 4) if (p[i + 3]) { n++; h = (h * 31 + p[i] + i) | 0; }
      return [n, h];
    };
    const at = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, { clientX: x, clientY: y, bubbles: true }));
    (async () => {
      await later(() => { out.pinned = document.getElementById("info").textContent; out.first = colours(); });
      await later(() => { at("pointerdown", 300, 300); at("pointermove", 390, 330); at("pointerup", 390, 330); });
      await later(() => { out.turned = colours(); document.getElementById("again").click(); });
      await later(() => { out.alone = colours(); });
      await later(() => {
        document.querySelectorAll(".r")[7].dispatchEvent(new PointerEvent("pointerenter"));
        out.hovered = document.getElementById("info").textContent;
        document.querySelectorAll(".r")[7].dispatchEvent(new PointerEvent("pointerleave"));
        const box = canvas.getBoundingClientRect();
        for (let x = 0; x < box.width && !out.canvas; x += 6)  // along the middle of the picture
          { at("pointermove", box.left + x, box.top + box.height / 2);
            if (document.querySelector(".here")) out.canvas = document.getElementById("info").textContent; }
      });
      document.body.append(Object.assign(document.createElement("pre"), { id: "out", textContent: JSON.stringify(out) }));
    })();
    """  # noqa: E501
    dom = shown_by(browser, page, script, tmp_path, f"#{label.replace(' ', '%20')}")
    out = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom)[1]))
    sure = round(float(tokenizer.decode(tokens).bfactor[40]))
    assert out["pinned"].startswith(f"{label} ({structure.sequence[40]}) · code {tokens.ids[40]} ")
    assert f"confidence {sure}" in out["pinned"] and " Å off" in out["pinned"]
    assert out["hovered"].startswith(f"A {structure.index[7]} (")
    assert re.match(r"A \d+ \(\w\) · code \d+", out["canvas"])
    assert out["first"][0] > 5000
    assert out["first"][1] != out["turned"][1]
    assert out["alone"][0] < out["turned"][0]


def test_a_browser_runs_no_name(browser, examples, tmp_path):
    structure = protok.read(examples / "7soo.A.pdb")[:30]
    nasty = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"  # noqa: E501
    structure = replace(structure, name=nasty, chain=np.full(30, nasty))
    dom = shown_by(browser, view(structure, protok.load("3di")).html, "", tmp_path)
    assert "<title>broken" not in dom
    assert "Point at a residue" in dom
