"""Chains that `protok search`, `cluster` and `align` compare: their arguments, and how they come to be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protok.cli.info import TOKEN_SUFFIXES
from protok.cli.options import MODEL, number, say
from protok.tokenizers.protocol import HasEnvironments

if TYPE_CHECKING:
    from protok.analysis.database import Database
    from protok.analysis.substitution import Matrix
    from protok.tokenizers.protocol import Tokenizer

#: Which letters are compared.
SHAPES, ENVIRONMENTS, BOTH = BY = ("shapes", "environments", "both")


def database_argument(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add where the chains are."""
    parser.add_argument(
        "database",
        metavar=metavar,
        help="a token file, a folder of Parquet files, or structures: a file, a folder, an archive",
    )


def letters_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which letters are compared, by which scores."""
    parser.add_argument(
        "--by",
        choices=BY,
        help="letters that are compared (default: both where there are both, else those there are)",
    )
    parser.add_argument(
        "--model",
        help=f"name or folder of the model (default: the one that the tokens name; of structures {MODEL})",
    )
    parser.add_argument(
        "--matrix", metavar="FILE", help="of `protok matrix` (default: a published one, or one of the model)"
    )


def jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Add how many processes encode structures."""
    parser.add_argument(
        "--jobs", type=number, default=1, metavar="N", help="processes that encode structures"
    )


def holds_tokens(path: Path) -> bool:
    """Whether a path names a token file or a folder of them; else it names structures."""
    tokens = path.name.lower().endswith(TOKEN_SUFFIXES)
    return tokens or (path.is_dir() and next(path.glob("*.parquet"), None) is not None)


def database_of(arguments: argparse.Namespace, **reading: Any) -> tuple[Database, bool]:
    """Chains of the database, and whether some structures, read by these options, could not be encoded."""
    from protok.analysis.database import Database
    from protok.errors import ProtokError
    from protok.pipeline.batches import encode_files

    path = Path(arguments.database)
    if holds_tokens(path):
        if reading:
            raise ProtokError("holds tokens, not structures", "leave out how they are read", file=path)
        return Database.read(path), False
    chains, failed = [], False
    for result in encode_files(path, arguments.model or MODEL, jobs=arguments.jobs, **reading):
        chains += result.tokens
        for error in result.errors:
            failed = True
            say(f"error: {error}")
    return Database(chains, str(path)), failed


def tokenizer_of(arguments: argparse.Namespace, database: Database) -> Tokenizer:
    """The model of the tokens."""
    from protok.pipeline.decode import model_of

    return model_of([database.codebook], arguments.model, str(arguments.database))


def matrices_of(arguments: argparse.Namespace, database: Database) -> list[Matrix]:
    """Of the letters that are compared."""
    from protok.analysis.substitution import Matrix, default_matrices
    from protok.errors import Unsupported

    if arguments.matrix is not None:
        return [Matrix.load(arguments.matrix)]
    tokenizer = tokenizer_of(arguments, database)
    around = tokenizer.environment if isinstance(tokenizer, HasEnvironments) else None
    there = around is not None and around.codebook in database.sizes
    by = arguments.by or (BOTH if there else SHAPES)
    if by != SHAPES and not there:
        raise Unsupported("has no environment letters", "leave --by out", file=database.file)
    chosen = [tokenizer] if by != ENVIRONMENTS else []
    chosen += [around] if around is not None and by != SHAPES else []
    # Before a table of that size is made.
    usage = [
        database.usage(each.codebook) if database.sizes[each.codebook] == each.size else None
        for each in chosen
    ]
    return default_matrices(chosen, usage)


def origins(matrices: list[Matrix]) -> str:
    """Which letters were compared, by which scores, in words."""
    return "; ".join(f"{matrix.codebook}: {matrix.origin}" for matrix in matrices)
