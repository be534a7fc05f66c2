"""Take the pictures of the pages that protok writes, as a laptop shows them, for the docs.

    python -m tools.screenshots      # writes docs/figures/page-*.png; needs Chromium, and '.[dev]'

The pages are those of the bundled files and results, and the site as it would be built now.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import protok
from protok.bench import load_results, write_report
from protok.viz.atlas import make_atlas, open_structures
from protok.viz.atlas_page import atlas_page
from protok.viz.html import Page
from protok.viz.viewer import view
from tools.chromium import Browser, chromium

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 800
#: Bytes of a picture at most; it gets fewer colours until it is as small.
LARGEST = 60_000


def take(browser: Browser, page: Path, name: str, look: str = "0") -> None:
    """Write the picture of a page after a script has run in it."""
    browser.open(page.as_uri(), WIDTH, HEIGHT)
    browser.run(look)
    browser.run("new Promise(done => setTimeout(done, 500))")
    picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    for colours in (256, 128, 64, 32):
        packed = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() <= LARGEST:
            break
    path = ROOT / "docs" / "figures" / f"page-{name}.png"
    path.write_bytes(packed.getvalue())
    print(f"wrote {path}: {packed.tell()} bytes")


def main() -> None:
    """Make the pages and take their pictures."""
    program = chromium()
    if not program:
        sys.exit("needs Chromium: apt-get install chromium")
    tokenizer = protok.load("protok-1")
    with TemporaryDirectory() as folder, Browser(program) as browser:
        page = Path(folder) / "page.html"
        view(ROOT / "data/7w89.A.pdb", tokenizer).save(page)
        take(browser, page, "view", "document.querySelectorAll('.r')[26].click()")
        chains = open_structures(ROOT / "data", [])
        Page(atlas_page(make_atlas(tokenizer, chains, "data/"))).save(page)
        take(browser, page, "atlas")
        write_report(load_results(ROOT / "benchmarks/results/leaderboard.parquet", "linear"), page)
        take(browser, page, "bench")
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", f"{folder}/site"]
        subprocess.run(command, cwd=ROOT, check=True)
        take(browser, Path(folder) / "site/notebooks/01_tokenize/index.html", "docs")


if __name__ == "__main__":
    main()
