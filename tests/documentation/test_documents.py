"""What the documents say is run: the README's Python, its generated tables."""

import json
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_the_readmes_python_runs(monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(code, space)
    assert space["z"].shape == (len(space["s"]), 5)
    assert str(space["t"]) in code
    assert (tmp_path / "tokens.parquet").exists()


@pytest.mark.slow
def test_the_readmes_tables_are_those_of_the_results():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_result_file_says_where_it_comes_from():
    files = sorted((ROOT / "benchmarks" / "results").rglob("*.json"))
    assert files
    for file in files:
        if file.stem.endswith("-summary"):  # of cells that say so themselves
            continue
        result = json.loads(file.read_text())
        for key in ("protok", "command", "packages", "hardware"):
            assert result.get(key), (file.name, key)
        assert "sha256" in file.read_text() or "seed" in result
