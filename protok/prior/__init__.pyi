from . import (
    config as config,
    corpus as corpus,
    evaluate as evaluate,
    images as images,
    judge as judge,
    layout as layout,
    markov as markov,
    model as model,
    proteins as proteins,
    sampling as sampling,
    steering as steering,
    training as training,
)
from .config import (
    PriorConfig as PriorConfig,
    PriorRecipe as PriorRecipe,
    read_prior_recipe as read_prior_recipe,
)
from .corpus import read_corpus as read_corpus
from .layout import Layout as Layout
from .model import Prior as Prior
from .sampling import Drawing as Drawing, Request as Request, sample as sample
