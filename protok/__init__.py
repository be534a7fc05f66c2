"""protok: protein backbones to discrete codes and back.

The universal unit of length is Å; a missing atom is NaN, a missing token -1; residues keep
their file's chain ids and author numbers, and ``len(tokens) == len(structure)`` always.
"""

import lazy_loader

# Public names and packages are in `__init__.pyi`. They are imported when first used, so that
# `import protok` costs nothing.
_lazy, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("protok")
    return _lazy(name)


__all__ += ["__version__"]
