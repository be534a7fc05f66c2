from . import (
    alignment as alignment,
    compare as compare,
    differences as differences,
    features as features,
    graphs as graphs,
    search as search,
    substitution as substitution,
    switches as switches,
)
