"""Result files, and the tables that pages make of them."""

import importlib.util
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from benchmarks import records
from benchmarks.tables import cards, write
from tests.helpers.paths import ROOT


@pytest.mark.slow
def test_tables_of_the_pages_are_those_of_the_results():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables.write", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", cards.cards(), ids=lambda path: path.parent.name)
def test_a_card_is_what_configuration_and_results_give(path):
    made, advice = cards.cards()[path], "run python -m benchmarks.tables.write"
    assert made == path.read_text("utf-8"), advice
    model = json.loads(path.with_name("config.json").read_text())
    title = model["model"]["name"] if model.get("kind") == "prior" else model["codebook"]
    assert f"# {title}\n" in made and "**Licence**: Apache-2.0." in made


@pytest.mark.parametrize("path", cards.cards(), ids=lambda path: path.parent.name)
def test_the_hub_reads_the_front_matter_of_a_card(path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    data = hub.ModelCard.load(path).data
    assert (data.library_name, data.license) == ("protok", "apache-2.0") and "tokenizer" in data.tags
    results = {(r.dataset_type, r.metric_name): r.metric_value for r in data.eval_results}
    assert {r.metric_type for r in data.eval_results} == set(data.metrics)
    # What the front matter says is what the tables say.
    if path.parent.name == "protok-1":
        best = (
            path.read_text("utf-8").partition("**CASP14**")[2].partition("| keyframes each 2 |")[2].split("|")
        )
        keys = [f"{measure}, keyframes each 2" for measure in ("CA RMSD, Å", "TM-score", "lDDT")]
        assert [results["casp14", key] for key in keys] == [float(best[i]) for i in (1, 3, 4)]


def every_result() -> dict[str, dict]:
    folder = ROOT / "benchmarks" / "results"
    results = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    for path in folder.glob("*.parquet"):
        kept = pq.read_table(path, columns=["record"])["record"].to_pylist()
        results |= {f"{path.name} {i}": json.loads(record) for i, record in enumerate(kept)}
    return results


def test_the_command_of_a_result_is_there_or_its_page_says_what_became_of_it():
    page = (ROOT / "docs" / "measured.md").read_text("utf-8")
    for name, result in every_result().items():
        words = result.get("command", "").split()
        if words[1:2] == ["-m"]:
            assert importlib.util.find_spec(words[2]), (name, words)
        elif words:
            assert f"`{words[1]}`" in page, (name, words)


def test_every_result_says_where_it_comes_from():
    folder = ROOT / "benchmarks" / "results"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) < 20 and sum(path.stat().st_size for path in files) < 3e6
    results = every_result()
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
    made = {"reading": "![x](/docs/figures/x.png) [y](https://y) /z"}
    text = "a <!-- reading -->\nold\n<!-- end --> b"
    assert "](figures/x.png) [y](https://y) /z" in write.fill(text, ROOT / "docs", made)
    assert "](../docs/figures/x.png)" in write.fill(text, ROOT / "benchmarks", made)
    with pytest.raises(SystemExit, match="no table is named riding"):
        write.fill(text.replace("reading", "riding"), ROOT, made)
