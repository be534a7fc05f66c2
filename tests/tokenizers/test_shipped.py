"""The configurations that protok ships: every key in them is one that is read today."""

import json

import pytest

from protok.common.checkpoint import WEIGHTS
from protok.common.settings import from_dict
from protok.image.config import ImageConfig, ImageRecipe
from protok.model.config import ShapesConfig
from protok.prior.config import PriorConfig, PriorRecipe
from protok.training.config import Recipe

SHIPPED = sorted(WEIGHTS.glob("*/config.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_configuration_has_no_key_that_nothing_reads(path):
    config = json.loads(path.read_text())
    kinds = {"image-tokenizer": (ImageConfig, ImageRecipe), "prior": (PriorConfig, PriorRecipe)}
    model, recipe = kinds.get(config.get("kind", ""), (ShapesConfig, Recipe))
    assert from_dict(model, config["model"], str(path)).name == path.parent.name
    assert from_dict(recipe, config["provenance"]["recipe"], str(path)).model.name == path.parent.name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_configuration_names_no_place_of_the_machine_that_made_it(path):
    assert '"/' not in path.read_text()


def test_every_shipped_model_was_looked_at():
    assert SHIPPED and len(SHIPPED) == len([path for path in WEIGHTS.iterdir() if path.is_dir()])
