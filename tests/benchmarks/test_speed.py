"""Speed: what is measured in turns, and rows that a run does not measure."""

import json

import pytest

from benchmarks.speed import decoding, encoding
from benchmarks.speed.other_tools import options_of, tool
from benchmarks.tables import speed


def test_names_say_what_is_encoded(bundled):
    for name, keyed, around in (
        ("shapes alone", False, False),
        ("shapes and keyframes", True, False),
        ("both alphabets and keyframes", True, True),
    ):
        (read, encode, count), tokenizer = tool(name, "protok-1")
        chain = read(bundled)
        tokens = encode(chain)
        assert (tokens.keyframes is not None) is keyed and count(chain) == len(tokens)
        assert (tokens.environment is not None) is around
        assert tokenizer.name == "protok-1"
    assert options_of("3di") == {}


@pytest.fixture
def bundled():
    from tests.helpers.paths import ROOT

    return ROOT / "data" / "7w89.A.pdb"


def test_rounds_end_where_a_model_has_spent_enough(monkeypatch):
    asked = []

    class Process:
        def __init__(self, model):
            self.model = model

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def ask(process, n):
        asked.append((process.model, n))
        slow = process.model == "slow" and n == 3000
        return {"seconds": 8.0 if slow else n / 1000, "peak_mib": 2.0 * n, "more": n}

    monkeypatch.setattr(decoding, "started", Process)
    monkeypatch.setattr(decoding, "ask", ask)
    monkeypatch.setattr(decoding, "LENGTHS", (300, 3000))
    rows = decoding.in_turns(["fast", "slow"])
    assert [row["rounds"] for row in rows["fast"]] == [5, 5]
    assert [row["rounds"] for row in rows["slow"]] == [5, 2]
    assert rows["slow"][1]["residues_per_cpu_second"] == 375
    assert asked[:4] == [("fast", 300), ("slow", 300), ("fast", 3000), ("slow", 3000)]


def test_rows_of_other_runs_stay(tmp_path, monkeypatch):
    out = tmp_path / "speed.json"
    kept = {"residues_per_cpu_second": {"total": 1}, "date": "2000-01-01"}
    out.write_text(json.dumps({"tools": {"protok 0 (-sites)": kept}, "routes": {"fcz": 1}, "memory": None}))
    options = encoding.arguments(["--structures", ".", "--only", "mini3di + fastpdb", "3di", "-o", str(out)])
    run = {
        "residues": 1000,
        "seconds": {"reading": 1.0, "encoding": 1.0, "total": 2.0},
        "peak_mib": 1.0,
        "startup": 1.0,
    }
    half = run | {"seconds": run["seconds"] | {"total": 4.0}}
    results = {("one", "mini3di + fastpdb", "0"): run, ("one", "3di", "0"): half, ("memory", "all", "0"): []}
    encoding.report(options, {"command": "x", "model": "protok-1@0"}, results, 80)
    result = json.loads(out.read_text())
    assert result["tools"]["protok 0 (-sites)"] == kept and result["routes"] == {"fcz": 1}
    assert result["tools"]["3di"]["to_unit"] == 0.5 and result["tools"]["mini3di + fastpdb"]["to_unit"] == 1


def test_models_before_have_rows_in_both_results():
    for name in speed.BEFORE:
        assert "protok-1" in speed.load("decoding.json")["models"][name]["beside"]
        assert speed.load("speed.json")["tools"][name]["to_unit"] > 0
