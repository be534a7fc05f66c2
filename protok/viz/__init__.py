"""Pictures and pages: structures coloured by their codes, atlases of codes, curves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
