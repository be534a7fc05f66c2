"""The order of packages: imports run down, in no circle, and few modules lie outside a package."""

import ast
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

PACKAGE = ROOT / "protok"


def test_imports_run_down_and_in_no_circle():
    pytest.importorskip("importlinter", reason="needs import-linter: pip install '.[dev]'")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_module_lies_in_a_package():
    outside = {path.name for path in PACKAGE.glob("*.py")}
    assert outside >= {"__init__.py", "__main__.py", "errors.py"} and len(outside) <= 4


def test_nothing_inside_imports_the_face():
    """`import protok` would load what is above a module, and hide which module is needed."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "protok" not in {name.name for name in node.names}, path
            elif isinstance(node, ast.ImportFrom) and node.module == "protok":
                for name in node.names:
                    part = PACKAGE / name.name
                    assert part.is_dir() or part.with_suffix(".py").exists(), (path, name.name)
