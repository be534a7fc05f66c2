"""The order of packages: imports run down, in no circle, and few modules lie outside a package."""

import shutil
import subprocess

import pytest

from tests.helpers.paths import ROOT


def test_imports_run_down_and_in_no_circle():
    if not shutil.which("lint-imports"):
        pytest.skip("needs import-linter")
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
