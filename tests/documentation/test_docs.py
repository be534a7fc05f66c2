"""The pages: their Python runs, their commands exist, their links lead somewhere; doctests."""

import contextlib
import doctest
import html.parser
import importlib
import io
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import protok
from protok.cli.main import parser
from protok.tokens.files import save
from tests.helpers.paths import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("protok/docs/*.md"),
        *ROOT.glob("docs/results/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        ROOT / "protok/bench/README.md",
    ]
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty working folder with the bundled data in it."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_tokenizer_quantizer_and_task(desk, capsys):
    space = {}
    for code in blocks(ROOT / "protok/docs/extend.md", "python"):
        assert len(code.splitlines()) <= 30
        exec(code, space)
    assert len(protok.tokens.files.load("bend.parquet")) == 5
    with pytest.raises(AssertionError, match="mirror image changes"):
        space["testing"].check_mirror(space["Bend"]())
    assert space["ProVQ"](space["Signs"](6)).size == 64
    score = {row.tokenizer["name"]: row for row in space["results"]}
    assert not space["results"].failed
    best, chance = (
        max(split["auroc"]["value"] for split in score[name].scores.values())
        for name in ("3di", "random-code")
    )
    assert best > 0.85 > chance + 0.1, "3Di knows helices, random codes do not"


def test_with_other_libraries(desk):
    pytest.importorskip("torch_geometric", reason="needs protok[interop]")
    space = {}
    for code in blocks(ROOT / "protok/docs/interoperability.md", "python"):
        exec(code, space)
    assert space["features"].shape == (2, 512) and space["hit"].identity < 1
    assert np.array_equal(space["t"].ids, space["tok"].encode(space["s"]).ids)


def test_commands_of_the_pages_are_commands():
    known, seen = parser(), 0
    for page in PAGES:
        text = page.read_text("utf-8")
        found = [line for block in blocks(page, "sh") for line in block.splitlines()]
        found += re.findall(r"`(protok [a-z][^`]*)`", text)
        for line in found:
            for command in re.split(r"&&|\|(?!\|)|;", line):
                words = shlex.split(command, comments=True)
                if len(words) < 2 or words[0] != "protok" or "…" in command:
                    continue
                # In prose a command may be named without what it needs.
                given = [w.strip("[]") for w in words[1:] if w != "..."]
                complaint = io.StringIO()
                try:
                    with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
                        known.parse_args(given)
                except SystemExit as end:
                    said = complaint.getvalue()
                    lacks = "are required" in said or "expected one argument" in said
                    assert not end.code or lacks, f"{page.name}: {command}: {said}"
                seen += 1
    assert seen > 30


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.to, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("href", "src"):
                self.to.append(value)
            if key == "id":
                self.ids.add(value)


def test_the_site_builds_and_its_links_lead_somewhere(tmp_path, monkeypatch):
    pytest.importorskip("markdown", reason="needs protok[docs]")
    monkeypatch.syspath_prepend(str(ROOT / "protok/docs"))
    build = importlib.import_module("pages")
    pages = {page.resolve(): _Links() for page in build.build(tmp_path)}
    for page, links in pages.items():
        links.feed(page.read_text("utf-8"))
    for page, links in pages.items():
        for address in links.to:
            path, _, anchor = unquote(address).partition("#")
            if re.match(r"[a-z]+:", address):
                assert address.startswith(("https://", "mailto:")), address
                continue
            to = (page.parent / path).resolve() if path else page
            assert to.exists(), f"{page.name} links to {address}"
            if anchor and to in pages:
                assert anchor in pages[to].ids, f"{page.name} links to {address}"
    text = (tmp_path / "api.html").read_text("utf-8")
    for name in (
        "protok.analysis.search.Database",
        "protok.tokenizers.learned.StructureTokenizer",
        "save_pretrained",
    ):
        assert name in text


def test_pages_do_not_travel_in_the_wheel():
    assert not (ROOT / "protok/docs/__init__.py").exists()


DOCUMENTED = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "protok").rglob("*.py")
    if ">>>" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_of_docstrings(name, desk):
    tokenizer = protok.load("protok-512")
    structure = protok.read("data/7w89.A.pdb")
    tokens = tokenizer.encode(structure)
    save([tokens, tokenizer.encode("data/7soo.A.pdb")], "tokens.parquet")
    given = {
        "protok": protok,
        "tokenizer": tokenizer,
        "structure": structure,
        "backbone": structure,
        "structures": [structure],
        "tokens": tokens,
    }
    module = sys.modules.get(name) or importlib.import_module(name)
    failed, tried = doctest.testmod(module, extraglobs=given, verbose=False)
    assert tried and not failed
