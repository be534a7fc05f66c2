"""The search of the design: its variants are recipes."""

import tomllib

import pytest

import protok
from benchmarks.accuracy import shape_design
from protok.common.settings import read_settings
from protok.training.config import Recipe
from tests.helpers.paths import ROOT
from tests.helpers.tiny_runs import TINY, write_structures


def test_tables_become_dotted_keys():
    assert shape_design.flat({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}


def test_variants_are_recipes():
    recipe = tomllib.loads(shape_design.RECIPE.read_text())
    base = shape_design.flat(recipe["base"])
    for name, changes in recipe["variants"].items():
        own = {key: value for key, value in changes.items() if key not in ("about", "without")}
        plan = read_settings(Recipe, None, base | own, None)
        assert plan.optim.steps == recipe["base"]["optim"]["steps"], name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["provq", "none"])
def test_a_variant_is_trained_and_scored(kind, tmp_path):
    structures = write_structures(tmp_path / "pdbs", range(30, 60, 3))
    chains = [protok.read(ROOT / "data" / f"{name}.pdb") for name in ("7w89.A", "7soo.A")]
    tiny = TINY | {"data.train": str(structures), "model.quantizer.kind": kind}
    result = shape_design.measure(tiny, chains)
    for spacing in (4, 8):
        scores = result["reconstruction"][spacing]
        assert scores["chains"] == 2 and scores["rmsd"] > 0 and 0 < scores["lddt"] < 1
    assert ("perplexity" in result) == ("without_keyframes" in result) == (kind == "provq")
