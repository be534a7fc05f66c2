from . import (
    csv as csv,
    dataset as dataset,
    environment as environment,
    export as export,
    fasta as fasta,
    files as files,
    keyframes as keyframes,
    layouts as layouts,
    npz as npz,
    parquet as parquet,
    parts as parts,
    tokens as tokens,
    vocabulary as vocabulary,
)
from .files import load as load, save as save, scan as scan
from .tokens import Tokens as Tokens
from .vocabulary import Vocabulary as Vocabulary
