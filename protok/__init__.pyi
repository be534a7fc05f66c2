from . import (
    analysis as analysis,
    bench as bench,
    image as image,
    pipeline as pipeline,
    prior as prior,
    quantize as quantize,
    structure as structure,
    testing as testing,
    tokenizers as tokenizers,
    tokens as tokens,
    training as training,
    viz as viz,
)
from .analysis.compare import compare as compare
from .errors import ProtokError as ProtokError
from .pipeline.embed import embed_all as embed_all
from .pipeline.encode import encode_all as encode_all
from .structure.backbone import Backbone as Backbone
from .structure.io.interop import as_backbone as as_backbone
from .structure.io.read import read as read, read_models as read_models
from .structure.io.write import write as write
from .structure.metrics import lddt as lddt, rmsd as rmsd, superpose as superpose, tm_score as tm_score
from .tokenizers.protocol import Tokenizer as Tokenizer
from .tokenizers.registry import load as load
from .tokenizers.shapes import ShapeTokenizer as ShapeTokenizer
from .tokens.tokens import Tokens as Tokens

__version__: str
