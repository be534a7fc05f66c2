"""Vector quantization of any tensor of shape (..., d), with a hardness curriculum.

Knows nothing of proteins or images. Five kinds of codebook, `VQ`, `SimVQ`, `FSQ`, `LFQ`
and `ResidualVQ`, and `ProVQ`, a schedule around any of them that starts continuous and
ends discrete: an independent implementation of the progressive-quantization idea of
arXiv 2603.22304; the schedule family and the estimators are
ours. All state is in buffers and parameters; everything is computed in float32 under
autocast; nothing changes in eval; data-parallel processes keep the same codebook.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.quantize.base import Quantized, Quantizer
    from protok.quantize.centres import kmeans, nearest
    from protok.quantize.config import build_quantizer
    from protok.quantize.curriculum import Schedule
    from protok.quantize.diagnostics import CollapseWarning, Diagnostics, diagnose, draw, effective_dimension
    from protok.quantize.lattice import FSQ, LFQ, fsq_levels
    from protok.quantize.provq import ProVQ
    from protok.quantize.residual import ResidualVQ
    from protok.quantize.table import VQ, SimVQ
    from protok.quantize.usage import perplexity, share_used

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Quantized", "Quantizer"],
        "centres": ["kmeans", "nearest"],
        "config": ["build_quantizer"],
        "curriculum": ["Schedule"],
        "diagnostics": ["CollapseWarning", "Diagnostics", "diagnose", "draw", "effective_dimension"],
        "lattice": ["FSQ", "LFQ", "fsq_levels"],
        "provq": ["ProVQ"],
        "residual": ["ResidualVQ"],
        "table": ["VQ", "SimVQ"],
        "usage": ["perplexity", "share_used"],
    },
)
