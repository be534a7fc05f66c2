from . import (
    alignment as alignment,
    compare as compare,
    features as features,
    graphs as graphs,
    search as search,
    substitution as substitution,
)
