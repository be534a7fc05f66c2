from . import (
    base as base,
    centres as centres,
    config as config,
    curriculum as curriculum,
    diagnostics as diagnostics,
    distributed as distributed,
    lattice as lattice,
    own as own,
    provq as provq,
    residual as residual,
    table as table,
    uncompiled as uncompiled,
    usage as usage,
)
from .base import Quantized as Quantized, Quantizer as Quantizer
from .centres import kmeans as kmeans, nearest as nearest
from .config import build_quantizer as build_quantizer
from .curriculum import Schedule as Schedule
from .diagnostics import (
    CollapseWarning as CollapseWarning,
    Diagnostics as Diagnostics,
    diagnose as diagnose,
    draw as draw,
    effective_dimension as effective_dimension,
)
from .lattice import FSQ as FSQ, LFQ as LFQ, fsq_levels as fsq_levels
from .provq import ProVQ as ProVQ
from .residual import ResidualVQ as ResidualVQ
from .table import VQ as VQ, SimVQ as SimVQ
from .usage import perplexity as perplexity, share_used as share_used
