"""Vector quantization of any tensor of shape (..., d), with a hardness curriculum.

Knows nothing of proteins or images. Five kinds of codebook, `VQ`, `SimVQ`, `FSQ`, `LFQ`
and `ResidualVQ`, and `ProVQ`, a schedule around any of them that starts continuous and
ends discrete: an independent implementation of the progressive-quantization idea of
arXiv 2603.22304; the schedule family and the estimators are
ours. All state is in buffers and parameters; everything is computed in float32 under
autocast; nothing changes in eval; data-parallel processes keep the same codebook.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
