"""The search of the design: its variants are recipes."""

import tomllib

from benchmarks.accuracy import shape_design
from protok.common.settings import read_settings
from protok.training.config import Recipe


def test_tables_become_dotted_keys():
    assert shape_design.flat({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}


def test_variants_are_recipes():
    recipe = tomllib.loads(shape_design.RECIPE.read_text())
    base = shape_design.flat(recipe["base"])
    for name, changes in recipe["variants"].items():
        own = {key: value for key, value in changes.items() if key not in ("about", "without")}
        plan = read_settings(Recipe, None, base | own, None)
        assert plan.optim.steps == recipe["base"]["optim"]["steps"], name
