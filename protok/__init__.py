"""protok: protein backbones to discrete codes and back.

The universal unit of length is Å; a missing atom is NaN, a missing token -1; residues keep
their file's chain ids and author numbers, and ``len(tokens) == len(structure)`` always.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names are imported when first used, so that `import protok` costs nothing.
_HOME = {
    "Backbone": "backbone",
    "Tokens": "tokens",
    "StructureTokenizer": "tokenizer",
    "read": "io",
    "write": "io",
    "as_backbone": "convert",
    "rmsd": "metrics",
    "tm_score": "metrics",
    "lddt": "metrics",
    "compare": "metrics",
    "superpose": "metrics",
    "encode_all": "scale",
    "load": "models",
    "ProtokError": "errors",
}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from protok.backbone import Backbone
    from protok.convert import as_backbone
    from protok.errors import ProtokError
    from protok.io import read, write
    from protok.metrics import compare, lddt, rmsd, superpose, tm_score
    from protok.models import load
    from protok.scale import encode_all
    from protok.tokenizer import StructureTokenizer
    from protok.tokens import Tokens


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"protok.{_HOME[name]}"), name)
    raise AttributeError(f"module 'protok' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
