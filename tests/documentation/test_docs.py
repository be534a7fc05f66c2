"""The pages: their Python runs and prints what they say, commands exist, links lead somewhere; doctests.

Links of the site are checked by `mkdocs build --strict`; here are those of the pages outside it.
"""

import configparser
import contextlib
import doctest
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import protok
from protok.cli.main import parser
from protok.tokens.files import load, save
from protok.training.config import read_recipe
from tests.helpers.paths import ROOT

OUTSIDE = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks/README.md", ROOT / "protok/bench/README.md"]
PAGES = [*OUTSIDE, *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty working folder with the bundled data in it."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_as_file(name: str, then: str = "", change: tuple[str, str] = ("", "")) -> list[str]:
    """Run the Python of a page as one script, as a reader would save it, and `then` more; what it prints."""
    code = "\n".join(blocks(ROOT / f"{name}.md", "python"))
    assert code and change[0] in code
    Path("page.py").write_text(f"{code.replace(*change)}\n{then}\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    # A page does not hold the fingerprint, which changes with the weights.
    return re.sub(r"@[0-9a-f]{8}\b", "@...", done.stdout).splitlines()


@pytest.mark.slow
def test_own_tokenizer_quantizer_and_task(desk):
    assert all(len(code.splitlines()) <= 30 for code in blocks(ROOT / "docs/extend.md", "python"))
    then = """
from protok.tokens.files import load
assert len(load("bend.parquet")) == 4
try:
    testing.check_mirror(Bend())
except AssertionError as error:
    assert "mirror image changes" in str(error)
else:
    assert False, "distances do not tell a mirror image"
assert ProVQ(Signs(64, 6)).size == 64
assert ids.shape == (16, 8, 8) and bool(((letters >= 0) == mask).all())
score = {row.tokenizer["name"]: row for row in results}
assert not results.failed
best, chance = (
    max(split["auroc"]["value"] for split in score[name].scores.values()) for name in ("3di", "random-code")
)
assert best > 0.85 > chance + 0.1, "3Di knows helices, random codes do not"
"""
    run_as_file("docs/extend", then)


@pytest.mark.slow
def test_own_classes_in_a_recipe(desk):
    python, (recipe,) = blocks(ROOT / "docs/extend.md", "python"), blocks(ROOT / "docs/extend.md", "toml")
    commands = "".join(blocks(ROOT / "docs/extend.md", "sh")).replace("=2000", "=20")
    classes = (code for code in python if "class Signs" in code or "class Near" in code)
    Path("mine.py").write_text("\n".join(classes))
    Path("mine.toml").write_text(recipe)
    Path("pdbs").symlink_to("data")
    Path("held").symlink_to("data")
    short = "--set optim.steps=20 --set optim.lr_warmup_steps=2 --set valid.every=20 --set split.method=kmers"
    for command in commands.splitlines():
        words = shlex.split(command.replace("mine.toml", f"mine.toml {short}"), comments=True)
        subprocess.run([sys.executable, "-m", *words], check=True)
    tokens = protok.tokens.files.load("mine.parquet")
    assert len(tokens) == 4 and tokens[0].codebook.startswith("mine@")


@pytest.mark.slow
def test_with_other_libraries(desk):
    pytest.importorskip("torch_geometric", reason="needs protok[interop]")
    run_as_file(
        "docs/interoperability",
        "assert features.shape == (2, 64) and hit.identity < 1 and (t.ids == tok.encode(s).ids).all()",
    )


@pytest.mark.parametrize(
    "name",
    [
        "README",
        "docs/index",
        "docs/encode",
        "docs/search",
        "docs/shapes",
        "docs/language-models",
        "docs/priors",
        "docs/vectors",
    ],
)
def test_python_of_the_pages_runs_and_prints_what_they_say(name, desk):
    promised = [
        text
        for code in blocks(ROOT / f"{name}.md", "python")
        for text in re.findall(r"^print\(.*\)  # (.*)$", code, re.M)
    ]
    printed = run_as_file(name)
    assert not promised or printed == promised


@pytest.mark.slow
def test_the_readme_runs_as_a_script_with_processes(desk):
    """Below no `if __name__ == "__main__":`, as people write scripts."""
    change = 'out="tokens.parquet")', 'out="tokens.parquet", jobs=2)'
    assert run_as_file("README", "assert z.shape == (len(s), 5)", change)
    assert len(load("tokens.parquet")) == 4


def test_the_page_on_training_saves_a_model(desk):
    """All but the upload; and its recipe is one."""
    (recipe,) = blocks(ROOT / "docs/train.md", "toml")
    Path("recipe.toml").write_text(recipe)
    assert read_recipe("recipe.toml").valid.patience == 5
    shutil.copytree(ROOT / "protok/weights/protok-1", "runs/mine/model")
    run_as_file(
        "docs/train", "assert protok.load('./somewhere').codebook == tok.codebook", ('("me/mine")', "")
    )


def test_every_page_with_python_is_run():
    """Save the list for a release, which publishes the package."""
    tested = ["RELEASE"]
    tested += re.findall(r'"(README|docs/[\w-]+)"', Path(__file__).read_text("utf-8"))
    with_python = {str(page.relative_to(ROOT).with_suffix("")) for page in PAGES if blocks(page, "python")}
    assert with_python <= set(tested)


def test_commands_of_the_pages_are_commands():
    known, seen = parser(), 0
    for page in PAGES:
        text = page.read_text("utf-8")
        lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
        lines += re.findall(r"`(protok [a-z][^`]*)`", text)
        for line in lines:
            for command in re.split(r"&&|\|(?!\|)|;", line):
                words = shlex.split(command, comments=True)
                if len(words) < 2 or words[0] != "protok" or "…" in command:
                    continue
                # In prose a command may be named without what it needs.
                arguments = [w.strip("[]") for w in words[1:] if w != "..."]
                complaint = io.StringIO()
                try:
                    with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
                        known.parse_args(arguments)
                except SystemExit as end:
                    message = complaint.getvalue()
                    lacks = "are required" in message or "expected one argument" in message
                    assert not end.code or lacks, f"{page.name}: {command}: {message}"
                seen += 1
    assert seen > 30


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_outside_the_site_lead_somewhere(page):
    for address in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", address):
            assert address.startswith(("https://", "mailto:")), address
            continue
        path, _, anchor = address.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), address
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_paths_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:protok|tests|docs|tools|benchmarks|recipes|data|notebooks)/[^` ]*)`", text)
    assert len(paths) > 30
    assert not [path for path in paths if not (ROOT / path).exists()]
    questions = re.findall(r"^\d+\. \*\*.*\?\*\*(.*(?:\n   .*)*)", text, re.M)
    assert len(questions) == 10
    assert all(re.search(r"`[\w.]+/", answer) for answer in questions)


def test_contributing_lists_every_package_in_the_order_of_imports():
    tree = re.search(r"^```\nprotok/.*?^```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)[0]
    packages = {path.parent.name for path in (ROOT / "protok").glob("*/__init__.py")}
    listed = [name for name in re.findall(r"^  (\w+)/", tree, re.M) if name != "weights"]
    assert set(listed) == packages
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = re.findall(r"\w+", config["importlinter:contract:layers"]["layers"])
    assert listed == [name for name in layers if name in packages]


def test_the_picture_of_the_imports_is_that_of_the_code():
    pytest.importorskip("grimp", reason="needs import-linter: pip install '.[dev]'")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "imports.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_and_has_its_headings_first():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[:2] == ["## Install and try", "## Test"]


DOCUMENTED = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "protok").rglob("*.py")
    if ">>>" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_of_docstrings(name, desk):
    tokenizer = protok.load("protok-1")
    structure = protok.read("data/7w89.A.pdb")
    tokens = tokenizer.encode(structure)
    save([tokens, tokenizer.encode("data/7soo.A.pdb")], "tokens.parquet")
    namespace = {
        "protok": protok,
        "tokenizer": tokenizer,
        "structure": structure,
        "backbone": structure,
        "structures": [structure],
        "tokens": tokens,
    }
    module = sys.modules.get(name) or importlib.import_module(name)
    failed, tried = doctest.testmod(module, extraglobs=namespace, verbose=False)
    assert tried and not failed
