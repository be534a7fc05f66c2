"""HTML pages that need nothing else: no server, no network, no other file."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protok.common.files import atomic

WEB = Path(__file__).with_name("web")


def escaped(text: Any) -> str:
    """Text as HTML that shows it, in attributes too."""
    return html.escape(str(text))


def embedded(data: Any) -> str:
    """Plain data as a JSON script element with the id `data`, whatever strings it holds."""
    # No "<" is left, so no string can end the element or begin another.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>'


@dataclass(frozen=True, repr=False)
class Page:
    """An HTML page; a notebook shows it in a frame."""

    html: str

    def __repr__(self) -> str:
        return f"Page({len(self.html):,} characters of HTML)"

    def save(self, path: str | Path) -> None:
        """Write the page; it appears whole or not at all."""
        with atomic(path) as handle:
            handle.write(self.html)

    def _repr_html_(self) -> str:
        frame = 'style="width:100%;height:700px;border:0"'
        return f'<iframe srcdoc="{escaped(self.html)}" {frame}></iframe>'


def table(head: str, rows: Iterable[str], foot: str = "") -> str:
    """A table in a box of its own, which scrolls under its head; `web/table.js` sorts and filters it.

    Parameters
    ----------
    head, foot
        Cells of the first row, and of the last if it is to stay the last.
    rows
        Whole rows.
    """
    inside = "\n".join((f"<thead><tr>{head}</tr></thead><tbody>", *rows, "</tbody>"))
    if foot:
        inside += f"<tfoot><tr>{foot}</tr></tfoot>"
    return f'<div class="wide"><table>{inside}</table></div>'


def document(title: str, body: str, *, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = ()) -> str:
    """A whole page; `styles` and `scripts` are names of files in the folder `web`."""
    css = "".join((WEB / name).read_text(encoding="utf-8") for name in ("page.css", *styles))
    code = "\n".join(f"<script>\n{_script(name)}</script>" for name in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title>\n<style>\n{css}</style></head>\n"
        f"<body>\n{body}\n{code}</body></html>\n"
    )


def _script(name: str) -> str:
    """A script; one of others after its licence, which asks to be with every copy."""
    licence = WEB / f"{name}.LICENSE.txt"
    notice = f"/*!\n{licence.read_text(encoding='utf-8')}*/\n" if licence.exists() else ""
    return notice + (WEB / name).read_text(encoding="utf-8")
