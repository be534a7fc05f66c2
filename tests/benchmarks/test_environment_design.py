"""Design of the second alphabet: variants are recipes."""

import tomllib
from dataclasses import replace

from benchmarks.accuracy import environment_design as design
from benchmarks.leaderboard.search import Chain
from protok.common.settings import read_settings
from protok.testing import random_backbone
from recipes.environments.recipe import Recipe


def test_variants_are_recipes():
    plan = tomllib.loads(design.VARIANTS.read_text())
    for name, changes in plan["variants"].items():
        recipe = read_settings(Recipe, design.RECIPE, plan["base"] | changes, None)
        assert recipe.optim.steps == changes.get("optim.steps", plan["base"]["optim.steps"]), name


def test_domains_of_a_half_are_in_their_classes():
    chain = Chain(replace(random_backbone(30, seed=0), name="whole00000"), ("a.1.2.3",))
    half = design.Half([chain])
    (domain,) = half.domains
    assert (domain.fold, domain.superfamily, domain.family) == ("a.1", "a.1.2", "a.1.2.3")
    assert half.structure(domain.id) is chain.backbone and domain.rows == (0, 30)
