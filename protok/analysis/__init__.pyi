from . import (
    alignment as alignment,
    compare as compare,
    database as database,
    differences as differences,
    expectation as expectation,
    features as features,
    graphs as graphs,
    hits as hits,
    reduction as reduction,
    search as search,
    substitution as substitution,
    switches as switches,
)
