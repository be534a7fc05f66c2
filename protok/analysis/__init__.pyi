from . import (
    alignment as alignment,
    compare as compare,
    database as database,
    differences as differences,
    expectation as expectation,
    features as features,
    graphs as graphs,
    search as search,
    substitution as substitution,
    switches as switches,
)
