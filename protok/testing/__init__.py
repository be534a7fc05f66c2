"""Contracts that any tokenizer, quantizer or data source must keep, and random backbones.

Each ``check_*`` function checks one contract and raises AssertionError with numbers if it is
broken. `contracts_for` gives those of a tokenizer by what it can do (`TOKENIZER_CONTRACTS` for
all, `ABILITY_CONTRACTS` by protocol), `QUANTIZER_CONTRACTS` lists those of quantizers, for use
under pytest::

    from protok import testing

    @pytest.mark.parametrize("contract", testing.contracts_for(my_tokenizer))
    def test_my_tokenizer(contract):
        contract(my_tokenizer)

What is checked is never changed: quantizers are copied.
"""

from protok.testing.keyframes import check_keyframes
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
from protok.testing.sources import check_source
from protok.testing.structures import (
    exclude,
    mirrored,
    moved,
    packed_chain,
    random_backbone,
    random_complex,
    random_rotation,
)
from protok.testing.tokenizers import (
    ABILITY_CONTRACTS,
    TOKENIZER_CONTRACTS,
    check_alphabet,
    check_alternatives,
    check_batch,
    check_chains,
    check_code_vectors,
    check_decode,
    check_deterministic,
    check_embed,
    check_invariance,
    check_length,
    check_mirror,
    check_missing,
    check_save_load,
    check_states,
    contracts_for,
    default_structures,
)
