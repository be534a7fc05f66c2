"""Build the pages of the project as a site of plain HTML that needs no network.

python protok/docs/pages.py -o site/

README, guides, cards, benchmark pages, and the interface from the docstrings. Links between pages
are made relative to each other; files that pages show are copied.
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import markdown

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "protok",
    "protok/docs/conventions.md": "Conventions",
    "protok/docs/interoperability.md": "With other libraries",
    "protok/docs/extend.md": "Add your own",
    "protok/bench/README.md": "protok bench",
    "protok/docs/faq.md": "Questions and limits",
    "benchmarks/README.md": "Benchmarks",
    "docs/results/leaderboard.md": "Leaderboard",
    "docs/results/speed.md": "Speed",
    "docs/results/quantizers.md": "Quantizers",
    "docs/results/images.md": "Images",
    "docs/results/reconstruction.md": "Reconstruction",
    "protok/weights/protok-512/README.md": "Card: protok-512",
    "protok/weights/protok-512-lite/README.md": "Card: protok-512-lite",
    "protok/weights/protok-512-named/README.md": "Card: protok-512-named",
    "protok/weights/protok-512-sites/README.md": "Card: protok-512-sites",
    "protok/weights/protok-4096/README.md": "Card: protok-4096",
    "protok/weights/protok-image/README.md": "Card: protok-image",
    "data/README.md": "Bundled data",
    "CHANGELOG.md": "Changes",
    "CONTRIBUTING.md": "Contributing",
    "SECURITY.md": "Security",
    "protok/docs/release.md": "Release",
}
#: Modules whose public names make the interface, in the order of the data.
MODULES = (
    "protok.structure.backbone",
    "protok.structure.io",
    "protok.structure.io.interop",
    "protok.tokens.tokens",
    "protok.tokenizers.registry",
    "protok.tokenizers.learned",
    "protok.tokenizers.alphabets",
    "protok.structure.metrics",
    "protok.pipeline.encode",
    "protok.tokens.vocabulary",
    "protok.analysis.search",
    "protok.analysis.substitution",
    "protok.tokens.export",
    "protok.analysis.features",
    "protok.analysis.graphs",
    "protok.common.hub",
    "protok.viz.viewer",
    "protok.viz.atlas",
    "protok.viz.plots",
    "protok.quantize",
    "protok.bench",
    "protok.image",
    "protok.prior",
    "protok.testing",
    "protok.errors",
)
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #222; background: #fff }
nav { position: fixed; width: 13em; top: 0; bottom: 0; overflow: auto; padding: 1em; font-size: 90%;
  background: #f4f4f2; box-sizing: border-box }
nav a { display: block; padding: .15em 0; color: #245 } nav a.here { font-weight: bold }
main { margin-left: 13em; padding: 1em 2em; max-width: 60em }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 90% }
td, th { border-bottom: 1px solid #ddd; padding: .2em .6em; text-align: left; vertical-align: top }
pre { background: #f4f4f2; padding: .8em; overflow-x: auto; font-size: 85% } img { max-width: 100% }
h3.name { font-family: monospace; border-top: 1px solid #ddd; padding-top: .6em }
@media (max-width: 50em) { nav { position: static; width: auto } main { margin: 0; padding: 1em } }
"""


def target(source: str) -> str:
    """Where a page goes: the README is the first page."""
    return "index.html" if source == "README.md" else source.removesuffix(".md") + ".html"


def framed(title: str, body: str, here: str) -> str:
    """A whole page with its list of pages."""
    up = os.path.dirname(here)
    links = []
    for source, name in [*PAGES.items(), ("api.md", "Interface")]:
        to = target(source)
        mark = ' class="here"' if to == here else ""
        links.append(f'<a{mark} href="{os.path.relpath(to, up or ".")}">{html.escape(name)}</a>')
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><nav>{''.join(links)}</nav>\n<main>{body}</main></body></html>\n"
    )


def linked(body: str, source: str, out: Path) -> str:
    """The same page with links to pages as pages, and the other files that it shows copied."""
    folder = os.path.dirname(source)

    def one(found: re.Match) -> str:
        attribute, address = found[1], html.unescape(found[2])
        path, _, anchor = address.partition("#")
        if re.match(r"[a-z]+:", address) or not path:
            return found[0]
        inside = os.path.normpath(os.path.join(folder, path))
        if inside in PAGES:
            path = os.path.relpath(target(inside), folder or ".")
        elif (ROOT / inside).is_file():
            (out / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / inside, out / inside)
        elif (ROOT / inside).is_dir():
            # A site has no listing of folders.
            return f'{attribute}="#" title="{html.escape(inside)} of the repository"'
        else:
            raise SystemExit(f"{source} links to {address}, which is not there")
        return f'{attribute}="{html.escape(path + ("#" + anchor if anchor else ""))}"'

    return re.sub(r'\b(href|src)="([^"]*)"', one, body)


def interface() -> str:
    """Public names of the modules with their signatures and docstrings."""
    parts = ["<h1>Interface</h1>", "<p>Lengths are in Å, a missing atom is NaN, a missing token -1.</p>"]
    for name in MODULES:
        with warnings.catch_warnings():  # of libraries that are imported on the way
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
        parts.append(f'<h2 id="{name}">{name}</h2>{documented(module)}')
        names = getattr(module, "__all__", None) or [
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and getattr(value, "__module__", "") == name
            and (inspect.isclass(value) or inspect.isfunction(value))
        ]
        for key in names:
            parts.append(described(f"{name}.{key}", getattr(module, key)))
    return "\n".join(parts)


def described(name: str, value) -> str:
    """One class, with its public methods, or one function."""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return ""
    parts = [f'<h3 class="name" id="{name}">{html.escape(name + signature(value))}</h3>']
    parts.append(documented(value))
    if inspect.isclass(value):
        for key, method in vars(value).items():
            plain = method.__func__ if isinstance(method, classmethod | staticmethod) else method
            if not key.startswith("_") and inspect.isfunction(plain) and plain.__doc__:
                parts.append(f"<h4><code>{html.escape(key + signature(plain))}</code></h4>")
                parts.append(documented(plain))
    return "\n".join(parts)


def signature(value) -> str:
    """Of a class or function, empty where Python has none."""
    try:
        return re.sub(r"'([^']*)'", r"\1", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return ""


def documented(value) -> str:
    """The docstring as it is written."""
    text = inspect.getdoc(value)
    return f"<pre>{html.escape(text)}</pre>" if text else ""


def build(out: Path) -> list[Path]:
    """Write the site; returns its pages.

    Raises
    ------
    SystemExit
        If a page links to what is not there.
    """
    written = []
    for source, title in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        body = markdown.markdown(
            text, extensions=["tables", "fenced_code", "toc", "sane_lists", "md_in_html"]
        )
        to = out / target(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(framed(title, linked(body, source, out), target(source)), "utf-8")
        written.append(to)
    to = out / "api.html"
    to.write_text(framed("Interface", interface(), "api.html"), "utf-8")
    return [*written, to]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", default="site", help="folder, made if needed")
    pages = build(Path(parser.parse_args().out))
    print(f"{len(pages)} pages, the first is {pages[0]}")
