"""Pages in a real browser: what they show and do, that nothing fails, is fetched, or runs off the screen."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import protok
from protok.structure.io.sources.paths import iter_files
from protok.viz.atlas import make_atlas
from protok.viz.atlas_page import atlas_page
from protok.viz.html import Page
from protok.viz.viewer import view
from tests.helpers.paths import ROOT
from tests.helpers.served import served
from tools.chromium import Browser, chromium

LAPTOP, PHONE = 1280, 390
#: Software draws here, and a page is drawn whole before a test goes on.
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
INFO = "document.getElementById('info').textContent"
FIRST_CELLS = (
    "[...document.querySelectorAll('tbody tr:not([hidden])')].map(r => r.cells[0].textContent.trim())"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started():
    program = chromium()
    if not program:
        pytest.skip("needs Chromium: apt-get install chromium")
    with Browser(program) as browser:
        yield browser


@pytest.fixture
def browser(started):
    """A browser that must have nothing to complain of when the test ends."""
    started.problems.clear()
    yield started
    assert started.problems == []


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that shows a page, once it runs off neither a phone's nor a laptop's screen."""

    def show(html: str, fragment: str = "") -> Browser:
        path = tmp_path / "page.html"
        Page(html).save(path)
        for width in (PHONE, LAPTOP):
            browser.open(path.as_uri() + fragment, width)
            assert browser.too_wide() == [], f"at {width} pixels"
        browser.run(DRAWN)
        return browser

    return show


def picture(browser: Browser) -> bytes:
    """What is drawn of the structure."""
    browser.run(DRAWN)
    return browser.picture("#stage")


def choose(browser: Browser, scheme: str) -> None:
    browser.run(
        f"(m => {{ m.value = '{scheme}'; m.dispatchEvent(new Event('change')) }})"
        "(document.getElementById('mode'))"
    )


def test_a_structure_answers_to_mouse_and_keys(opened, examples):
    tokenizer, structure = protok.load("protok-1"), protok.read(examples / "7w89.A.pdb")
    tokens = tokenizer.encode(structure)
    label = f"A {structure.index[40]}"
    browser = opened(view(structure, tokenizer, decode=True).html, f"#{label.replace(' ', '%20')}")
    # The residue of the address is kept, with its letter, what that means, and its numbers.
    text = browser.run(INFO)
    assert text.startswith(f"{label} ({structure.sequence[40]}) · letter {tokens.ids[40]}: ")
    assert "CA within 10 Å" in text and "confidence" in text and "Å off" in text
    assert f"B-factor {structure.bfactor[40]:.1f}" in text

    browser.point(".ten:nth-child(2) .r:nth-child(3)")
    assert browser.run(INFO).startswith(f"A {structure.index[12]} (")
    browser.point("h1")
    assert browser.run(INFO).startswith(label)
    browser.key("ArrowRight")
    assert browser.run(INFO).startswith(f"A {structure.index[41]} (")
    assert browser.run("decodeURIComponent(location.hash)") == f"#A {structure.index[41]}"
    browser.key("Escape")
    assert browser.run(INFO).startswith("Point at a residue")

    code = browser.run("document.querySelector('#legend span').textContent")
    browser.point("#legend span")
    assert browser.run(INFO).startswith(f"letter {code}: ")
    marked = browser.run(
        "[...document.querySelectorAll('.r')].flatMap((r, i) => r.matches('.same') ? [i] : [])"
    )
    assert marked == np.flatnonzero(tokens.ids == int(code)).tolist()


def test_a_structure_is_drawn_turned_and_coloured(opened, examples):
    browser = opened(view(examples / "7w89.A.pdb", protok.load("protok-1"), decode=True).html)
    pictures = [picture(browser)]
    for scheme in ("chain", "element", "bfactor", "plddt", "confidence", "distance"):
        choose(browser, scheme)
        pictures.append(picture(browser))
        legend = browser.run("[...document.querySelectorAll('#legend span')].map(s => s.textContent)")
        assert legend and (scheme != "element" or legend == ["helix", "strand", "coil"])
    browser.click("#again")
    pictures.append(picture(browser))
    x, y = browser.middle("#stage")
    for kind, across in (("mousePressed", 0), ("mouseMoved", 90), ("mouseReleased", 90)):
        browser.mouse(kind, x + across, y)
    pictures.append(picture(browser))
    assert len(set(pictures)) == len(pictures)

    # Somewhere along the middle a residue lies under the mouse, and is kept by a click.
    named = "/^A \\d+ \\(\\w\\) · letter/.test(document.getElementById('info').textContent)"
    for place in range(-150, 150, 10):
        browser.mouse("mouseMoved", x + place, y)
        browser.run("new Promise(done => setTimeout(done, 60))")  # the viewer waits for the mouse to rest
        if browser.run(named):
            break
    text = browser.run(INFO)
    assert browser.run(named), text
    browser.mouse("mousePressed", x + place, y)
    browser.mouse("mouseReleased", x + place, y)
    browser.point("h1")
    browser.wait(f"{INFO} === {json.dumps(text)}")


def test_ligands_are_drawn_and_can_be_hidden(opened, shared):
    file = shared("parsing/cross_format/3o5r.cif")
    browser = opened(view(file, protok.load("3di")).html)
    assert "FK5 A 1001" in browser.run("document.getElementById('tools').textContent")
    before = picture(browser)
    browser.click("#ligands")
    assert picture(browser) != before


def test_without_a_graphics_card_letters_are_left(opened, examples):
    page = view(examples / "7w89.A.pdb", protok.load("3di")).html
    none = "<script>HTMLCanvasElement.prototype.getContext = () => null</script></head>"
    browser = opened(page.replace("</head>", none))
    assert "draws no WebGL" in browser.run("document.getElementById('stage').textContent")
    browser.point(".r")
    assert "letter D" in browser.run(INFO)
    browser.problems[:] = [text for text in browser.problems if "WebGL" not in text]


def test_no_name_runs_as_a_script(opened, examples):
    structure = protok.read(examples / "7soo.A.pdb")[:30]
    name = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
    structure = replace(structure, name=name, chain=np.full(30, name[9:64]))
    browser = opened(view(structure, protok.load("3di")).html)
    assert browser.run("document.title").startswith("</script>")
    assert browser.run(INFO).startswith("Point at a residue")


def test_an_atlas_is_searched_and_sorted(opened, examples):
    chains = [protok.read(file) for file in sorted(iter_files([examples]))]
    atlas = make_atlas(protok.load("protok-1"), chains, "x" * 80)
    browser = opened(atlas_page(atlas))
    counts = atlas.columns["count"]

    browser.click("thead th:nth-child(4)")
    assert browser.run("document.querySelector('thead th:nth-child(4)').ariaSort") == "descending"
    order = [int(code) for code in browser.run(FIRST_CELLS)]
    assert counts[order].tolist() == sorted(counts.tolist(), reverse=True)
    browser.run("document.querySelector('thead th').focus()")
    browser.key("Enter")
    browser.key("Enter")
    assert browser.run(FIRST_CELLS) == [str(code) for code in range(64)]
    # Codes that no residue has come last, either way.
    for _ in range(2):
        browser.click("thead th:nth-child(8)")
        last = browser.run(FIRST_CELLS)[-(counts == 0).sum() :]
        assert sorted(map(int, last)) == np.flatnonzero(counts == 0).tolist()

    chain = atlas.columns["example"][atlas.columns["helix"].argsort()[-1 - (counts == 0).sum()], 0]
    browser.type(".filter input", f"Helix {chain}")
    rows = [int(code) for code in browser.run(FIRST_CELLS)]
    assert rows and all(atlas.columns["example"][row, 0] == chain for row in rows)
    assert (atlas.columns["helix"][rows] > 1 / 3).all()
    assert browser.run("document.querySelector('.filter output').textContent") == f"{len(rows)} of 64 rows"
    # A dot of a map shows its row, whatever is typed.
    hidden = next(code for code in np.flatnonzero(counts > 0).tolist() if code not in rows)
    browser.run(f"document.querySelector('a[href=\"#c{hidden}\"]').dispatchEvent(new MouseEvent('click'))")
    browser.wait(f"!document.getElementById('c{hidden}').hidden")
    # The head stays over the rows, and nothing of the row hides behind it.
    head, row, box = browser.run(
        "['thead th', 'tr:target', '.wide'].map(s => document.querySelector(s).getBoundingClientRect())"
        ".map(b => [b.top, b.bottom])"
    )
    assert head[0] == pytest.approx(box[0], abs=2) and head[1] <= row[0] + 1 and row[1] <= box[1] + 1


def test_a_report_is_filtered_and_sorted(opened, tmp_path):
    pytest.importorskip("matplotlib", reason="needs protok[bench]")
    from protok.bench import load_results, write_report

    results = load_results(ROOT / "benchmarks/results/leaderboard.parquet", "fast")
    write_report(results, tmp_path / "report.html")
    browser = opened((tmp_path / "report.html").read_text("utf-8"))
    tables = browser.run("document.querySelectorAll('.wide').length")
    assert tables > 5
    leaders = "[...document.querySelector('tbody').rows].map(r => r.cells[{}].textContent)"
    browser.click("thead th:first-child")
    assert browser.run(leaders.format(0))[0] == "3di"
    browser.click("thead th:nth-child(3)")
    bits = [float(text or -1) for text in browser.run(leaders.format(2))]
    assert bits == sorted(bits, reverse=True) and bits[-1] == -1 < bits[0]
    browser.type(".filter input", "proteinmpnn codes")
    assert browser.run(FIRST_CELLS)[0] == "proteinmpnn:kmeans512"
    # In the table of sites a column is sorted by its scores, and the mean stays below.
    sites = "document.querySelectorAll('.wide')[1].querySelector('table')"
    browser.run(f"{sites}.tHead.rows[0].cells[3].click()")
    scores = browser.run(f"[...{sites}.tBodies[0].rows].map(r => parseFloat(r.cells[3].textContent))")
    assert len(scores) > 20 and scores == sorted(scores, reverse=True)
    assert browser.run(f"{sites}.tFoot.rows[0].cells[0].textContent") == "mean"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of the site, built and served."""
    pytest.importorskip("mkdocs_jupyter", reason="needs protok[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)

    with served(folder) as address:
        yield f"{address}/"


PAGES = ("", "encode/", "benchmark/", "results/leaderboard/", "api/quantize/", "notebooks/01_tokenize/")


@pytest.mark.parametrize("page", PAGES)
def test_the_site_fits_and_fetches_nothing(browser, site, page):
    for width in (PHONE, LAPTOP):
        browser.open(site + page, width)
        assert browser.too_wide() == [], f"at {width} pixels"
    assert browser.run("document.querySelector('h1').textContent.length") > 3
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert browser.run(broken) == []


def test_the_site_is_searched(browser, site):
    browser.open(site, LAPTOP)
    browser.type(".md-search__input", "keyframes")
    browser.wait("document.querySelectorAll('.md-search-result__item').length > 2")
    texts = browser.run("document.querySelector('.md-search-result__list').textContent")
    assert re.search("keyframes", texts, re.I)


def test_notebooks_are_pages_with_their_pictures(browser, site):
    browser.open(site + "notebooks/01_tokenize/", LAPTOP)
    assert browser.run("document.querySelectorAll('.jp-OutputArea-output img').length") > 1
    # What it shows to turn around is drawn here too.
    frame = "document.querySelector('iframe').contentDocument"
    browser.wait(f"{frame}.querySelector('#stage canvas') !== null")
    assert browser.run(f"{frame}.querySelectorAll('.r').length") == 123
