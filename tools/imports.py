"""Draw which package imports which, by the layers that `lint-imports` checks.

python tools/imports.py                   # writes docs/figures/imports.svg
python tools/imports.py --check           # exit 1 if the picture is not that of the code

grimp, which comes with import-linter, reads the imports. It runs none of the code.
"""

from __future__ import annotations

import argparse
import configparser
import html
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "figures" / "imports.svg"
#: Width and height of a box, and the spaces between boxes and between layers, in pixels.
WIDTH, HEIGHT, ACROSS, DOWN = 104, 30, 24, 46


def layers() -> list[list[str]]:
    """The layers of `setup.cfg`, the uppermost first, each a list of packages."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["importlinter:contract:layers"]["layers"].split("\n")
    return [re.split(r"\s*[|:]\s*", line.strip()) for line in lines if line.strip()]


def imports(packages: list[str]) -> set[tuple[str, str]]:
    """Pairs of packages of which the first imports the second."""
    import grimp

    graph = grimp.build_graph("protok", exclude_type_checking_imports=True, cache_dir=None)
    for package in packages:
        if graph.find_children(f"protok.{package}"):
            graph.squash_module(f"protok.{package}")
    return {
        (importer, imported)
        for importer in packages
        for imported in packages
        if graph.direct_import_exists(importer=f"protok.{importer}", imported=f"protok.{imported}")
    }


def picture(rows: list[list[str]], arrows: set[tuple[str, str]]) -> str:
    """An SVG: a row of boxes for each layer, and an arrow for each pair of packages."""
    most = max(len(row) for row in rows)
    across = most * (WIDTH + ACROSS) + 2 * ACROSS
    down = len(rows) * (HEIGHT + DOWN)
    place = {}
    for i, row in enumerate(rows):
        # Every second layer is shifted, so that arrows over several layers pass beside the boxes.
        begin = (across - len(row) * (WIDTH + ACROSS) + ACROSS) / 2 + (i % 2 * 2 - 1) * 0.3 * WIDTH
        for j, name in enumerate(row):
            place[name] = (begin + j * (WIDTH + ACROSS), DOWN / 2 + i * (HEIGHT + DOWN))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" '
        'font-family="sans-serif" font-size="13">',
        "<title>Packages of protok by layer; an arrow leads from a package to one that it imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#678"/></marker></defs>',
        f'<rect width="{across}" height="{down}" fill="#fff"/>',
    ]
    for importer, imported in sorted(arrows):
        (x, y), (u, v) = place[importer], place[imported]
        parts.append(
            f'<path d="M{x + WIDTH / 2:.0f} {y + HEIGHT:.0f}L{u + WIDTH / 2:.0f} {v:.0f}" '
            'stroke="#678" stroke-opacity="0.4" fill="none" marker-end="url(#tip)"/>'
        )
    for name, (x, y) in place.items():
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef3f7" '
            f'stroke="#345"/><text x="{x + WIDTH / 2:.0f}" y="{y + 20:.0f}" text-anchor="middle">'
            f"{html.escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: list[str] | None = None) -> None:
    """Read the command line; draw or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file and write nothing")
    options = parser.parse_args(arguments)
    rows = layers()
    text = picture(rows, imports([name for row in rows for name in row]))
    if options.check:
        if OUT.read_text("utf-8") != text:
            raise SystemExit(f"{OUT.name} is not that of the code: python tools/imports.py")
        return
    OUT.write_text(text, "utf-8")
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
