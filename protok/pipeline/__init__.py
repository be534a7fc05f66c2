"""Many files: batch jobs that go on after bad inputs and kills."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
