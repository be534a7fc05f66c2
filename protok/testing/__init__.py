"""Contracts that any tokenizer or quantizer must keep, and random backbones to check them on.

Each ``check_*`` function checks one contract and raises AssertionError with numbers if it is
broken. `TOKENIZER_CONTRACTS`, `LEARNED_CONTRACTS` and `QUANTIZER_CONTRACTS` list them, for use
under pytest::

    from protok import testing

    @pytest.mark.parametrize("contract", testing.TOKENIZER_CONTRACTS)
    def test_my_tokenizer(contract):
        contract(my_tokenizer)

What is checked is never changed: quantizers are copied.
"""

from protok.testing.quantizers import (
    QUANTIZER_CONTRACTS,
    check_quantizer_autocast,
    check_quantizer_eval,
    check_quantizer_gradient,
    check_quantizer_lookup,
    check_quantizer_mask,
    check_quantizer_range,
    check_quantizer_resume,
    check_quantizer_shape,
)
from protok.testing.structures import (
    joined,
    mirrored,
    moved,
    packed_chain,
    random_backbone,
    random_complex,
    random_rotation,
    without,
)
from protok.testing.tokenizers import (
    LEARNED_CONTRACTS,
    TOKENIZER_CONTRACTS,
    check_batch,
    check_chains,
    check_decode,
    check_deterministic,
    check_embed,
    check_invariance,
    check_length,
    check_mirror,
    check_missing,
    check_save_load,
    default_structures,
)

__all__ = [
    "LEARNED_CONTRACTS",
    "QUANTIZER_CONTRACTS",
    "TOKENIZER_CONTRACTS",
    "check_batch",
    "check_chains",
    "check_decode",
    "check_deterministic",
    "check_embed",
    "check_invariance",
    "check_length",
    "check_mirror",
    "check_missing",
    "check_quantizer_autocast",
    "check_quantizer_eval",
    "check_quantizer_gradient",
    "check_quantizer_lookup",
    "check_quantizer_mask",
    "check_quantizer_range",
    "check_quantizer_resume",
    "check_quantizer_shape",
    "check_save_load",
    "default_structures",
    "joined",
    "mirrored",
    "moved",
    "packed_chain",
    "random_backbone",
    "random_complex",
    "random_rotation",
    "without",
]
