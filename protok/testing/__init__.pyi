from . import (
    comparing as comparing,
    keyframes as keyframes,
    quantizers as quantizers,
    requirement as requirement,
    sources as sources,
    structures as structures,
    tokenizers as tokenizers,
)
from .keyframes import check_keyframes as check_keyframes
from .quantizers import (
    QUANTIZER_CONTRACTS as QUANTIZER_CONTRACTS,
    check_quantizer_autocast as check_quantizer_autocast,
    check_quantizer_compiled as check_quantizer_compiled,
    check_quantizer_eval as check_quantizer_eval,
    check_quantizer_gradient as check_quantizer_gradient,
    check_quantizer_lookup as check_quantizer_lookup,
    check_quantizer_mask as check_quantizer_mask,
    check_quantizer_range as check_quantizer_range,
    check_quantizer_resume as check_quantizer_resume,
    check_quantizer_shape as check_quantizer_shape,
)
from .sources import check_source as check_source
from .structures import (
    exclude as exclude,
    mirrored as mirrored,
    moved as moved,
    packed_chain as packed_chain,
    random_backbone as random_backbone,
    random_complex as random_complex,
    random_rotation as random_rotation,
)
from .tokenizers import (
    ABILITY_CONTRACTS as ABILITY_CONTRACTS,
    TOKENIZER_CONTRACTS as TOKENIZER_CONTRACTS,
    check_alphabet as check_alphabet,
    check_alternatives as check_alternatives,
    check_batch as check_batch,
    check_chains as check_chains,
    check_code_vectors as check_code_vectors,
    check_decode as check_decode,
    check_deterministic as check_deterministic,
    check_embed as check_embed,
    check_environments as check_environments,
    check_invariance as check_invariance,
    check_length as check_length,
    check_mirror as check_mirror,
    check_missing as check_missing,
    check_save_load as check_save_load,
    check_scores as check_scores,
    check_states as check_states,
    contracts_for as contracts_for,
    default_structures as default_structures,
)
