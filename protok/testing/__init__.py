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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
