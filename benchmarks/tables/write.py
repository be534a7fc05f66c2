"""Write the tables of the pages, and the cards of the shipped models, from the result files.

python -m benchmarks.tables.write            # rewrite them
python -m benchmarks.tables.write --check    # exit 1 if it would change one

A table lies between `<!-- name -->` and `<!-- end -->`, on whichever page: README.md, or one of
docs/ or benchmarks/.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import without_traceback
from benchmarks.paths import ROOT
from benchmarks.speed import projection
from benchmarks.tables import (
    accuracy,
    battery,
    environments,
    images,
    leaderboard,
    priors,
    progressive,
    shapes,
    speed,
)
from benchmarks.tables.cards import cards

TABLES = {
    "quality": shapes.quality,
    "before": accuracy.before,
    "battery": battery.battery,
    "shapes rebuilt": shapes.rebuilt,
    "shapes kept": shapes.kept,
    "shapes design": shapes.design,
    "shapes beside": shapes.beside,
    "environments design": environments.design,
    "environments told": environments.told,
    "finetune": accuracy.finetune,
    "reading": speed.reading,
    "encoding": speed.encoding,
    "decoding": speed.decoding,
    "scale": projection.table,
    "leaderboard": leaderboard.short,
    "leaderboard summary": leaderboard.summary,
    "leaderboard tables": leaderboard.tables,
    "leaderboard gains": leaderboard.gains,
    "leaderboard costs": leaderboard.costs,
    "knows": leaderboard.knows,
    "search": leaderboard.search,
    "clusters": leaderboard.clusters,
    "progressive": progressive.verdicts,
    "progressive pairs": progressive.pairs,
    "progressive settings": progressive.settings,
    "progressive rates": progressive.tuned,
    "quantizer speed": speed.quantizers,
    "image-model": images.model,
    "image-codecs": images.codecs,
    "images": images.sweep,
    "image-samples": images.samples_of_images,
    "chain-samples": priors.samples,
    "chain-samples-before": priors.samples_before,
    "chain-bars": priors.bars,
    "chain-layouts": priors.layouts,
}
MARKED = re.compile(r"<!-- ([a-z -]+) -->\n.*?<!-- end -->", re.S)


def pages() -> list[Path]:
    """Where tables may lie."""
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]


def fill(text: str, folder: Path, made: dict[str, str]) -> str:
    """Put every table of a page in a folder between its marks; `made` keeps those that are made.

    Tables link to files from the root of the repository, `](/docs/...)`, and pages from where they lie.
    """

    def block(match: re.Match) -> str:
        name = match[1]
        if name not in TABLES:
            raise SystemExit(f"no table is named {name}; there are {', '.join(TABLES)}")
        if name not in made:
            made[name] = TABLES[name]()
        body = re.sub(
            r"\]\(/([^)]+)\)", lambda link: f"]({os.path.relpath(ROOT / link[1], folder)})", made[name]
        )
        return f"<!-- {name} -->\n{body}\n<!-- end -->"

    return MARKED.sub(block, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    options = parser.parse_args(arguments)
    made: dict[str, str] = {}
    filled = {page: fill(page.read_text("utf-8"), page.parent, made) for page in pages()}
    for page, new in (filled | cards()).items():
        old = page.read_text("utf-8") if page.exists() else ""
        if options.check and new != old:
            raise SystemExit(f"{page.relative_to(ROOT)} is not what the result files give")
        if new != old:
            page.write_text(new, "utf-8")
            print(f"wrote {page.relative_to(ROOT)}")
    if options.check:
        print(f"{len(made)} tables and {len(cards())} cards are what the result files give")
    for name in TABLES.keys() - made.keys():
        print(f"no page has the table {name}")


if __name__ == "__main__":
    without_traceback(main)
