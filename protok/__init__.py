"""protok: protein backbones to discrete codes and back.

The universal unit of length is Å; a missing atom is NaN, a missing token -1; residues keep
their file's chain ids and author numbers, and ``len(tokens) == len(structure)`` always.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from protok.analysis.compare import compare
    from protok.errors import ProtokError
    from protok.pipeline.embed import embed_all
    from protok.pipeline.encode import encode_all
    from protok.structure.backbone import Backbone
    from protok.structure.io.interop import as_backbone
    from protok.structure.io.read import read
    from protok.structure.io.write import write
    from protok.structure.metrics import lddt, rmsd, superpose, tm_score
    from protok.tokenizers.protocol import Tokenizer
    from protok.tokenizers.registry import load
    from protok.tokenizers.shapes import ShapeTokenizer
    from protok.tokens.tokens import Tokens

# Public names are imported when first used, so that `import protok` costs nothing.
_lazy, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "analysis.compare": ["compare"],
        "errors": ["ProtokError"],
        "pipeline.embed": ["embed_all"],
        "pipeline.encode": ["encode_all"],
        "structure.backbone": ["Backbone"],
        "structure.io.interop": ["as_backbone"],
        "structure.io.read": ["read"],
        "structure.io.write": ["write"],
        "structure.metrics": ["lddt", "rmsd", "superpose", "tm_score"],
        "tokenizers.protocol": ["Tokenizer"],
        "tokenizers.registry": ["load"],
        "tokenizers.shapes": ["ShapeTokenizer"],
        "tokens.tokens": ["Tokens"],
    },
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("protok")
    return _lazy(name)


__all__ += ["__version__"]
