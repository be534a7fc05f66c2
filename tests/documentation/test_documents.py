"""Result files, and the tables that pages make of them."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from benchmarks import records
from benchmarks.tables import shapes, write
from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_tables_of_the_pages_are_those_of_the_results():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables.write", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_card_is_what_the_results_give():
    folder = ROOT / "protok" / "weights" / "protok-1"
    advice = "run python -m benchmarks.tables.shapes protok/weights/protok-1"
    assert shapes.card(folder) == (folder / "README.md").read_text("utf-8"), advice


def test_every_result_says_where_it_comes_from():
    folder = ROOT / "benchmarks" / "results"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) < 20 and sum(path.stat().st_size for path in files) < 3e6
    results = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    for path in folder.glob("*.parquet"):
        kept = pq.read_table(path, columns=["record"])["record"].to_pylist()
        results |= {f"{path.name} {i}": json.loads(record) for i, record in enumerate(kept)}
    assert len(results) > 1300
    for name, result in results.items():
        if "rows" in result and "command" not in result:
            continue  # a summary, of cells that say so themselves
        for key in ("protok", "command", "packages", "hardware"):
            assert result.get(key), (name, key)
        assert "sha256" in json.dumps(result) or "seed" in result, name


def test_a_result_is_replaced_by_that_of_the_same_name(tmp_path):
    path = tmp_path / "deep" / "results.parquet"
    assert records.read(path) == {}
    first, second = {"command": "a", "seed": 0, "values": [1.5, None]}, {"protok": "1", "nested": {"b": {}}}
    records.put(path, "b", first)
    records.put(path, "a", second)
    assert records.read(path) == {"a": second, "b": first}
    records.put(path, "b", second)
    assert records.read(path) == {"a": second, "b": second} and len(list(path.parent.iterdir())) == 1


def test_tables_are_filled_on_any_page_with_links_from_there():
    made = {"speed": "![x](/docs/figures/x.png) [y](https://y) /z"}
    text = "a <!-- speed -->\nold\n<!-- end --> b"
    assert "](figures/x.png) [y](https://y) /z" in write.fill(text, ROOT / "docs", made)
    assert "](../docs/figures/x.png)" in write.fill(text, ROOT / "benchmarks", made)
    with pytest.raises(SystemExit, match="no table is named sped"):
        write.fill(text.replace("speed", "sped"), ROOT, made)
