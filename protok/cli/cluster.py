"""`protok cluster` and `protok align`: arguments, and what is printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from protok.cli.database import (
    database_argument,
    database_of,
    holds_tokens,
    jobs_argument,
    letters_arguments,
    matrices_of,
    origins,
    tokenizer_of,
)
from protok.cli.options import (
    FAILED,
    MODEL,
    OK,
    count,
    out_file,
    reading_arguments,
    reading_options,
    say,
    say_uncoded,
    share,
    tell,
    verbosity_arguments,
    written,
)

if TYPE_CHECKING:
    import numpy as np

    from protok.analysis.database import Database
    from protok.analysis.multiple import MultipleAlignment
    from protok.structure.backbone import Backbone


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok cluster`."""
    database_argument(parser, "TOKENS")
    parser.add_argument(
        "-o",
        "--out",
        type=out_file,
        metavar="FILE",
        help="a line a chain, its representative and itself, as MMseqs2 and Foldseek write clusters, without "
        "names of columns (default: the standard output)",
    )
    letters_arguments(parser)
    parser.add_argument(
        "--coverage",
        type=share,
        metavar="SHARE",
        help="least share of both chains that their alignment spans (default: 0.8)",
    )
    parser.add_argument(
        "--score",
        type=share,
        metavar="SCORE",
        help="least score of a member and its representative, 1 of equal codes (default: 0.25, 0.4 where "
        "environments are compared, 0.5 of 3di and protein-blocks)",
    )
    jobs_argument(parser)
    verbosity_arguments(parser)
    reading_arguments(parser)


def cluster(arguments: argparse.Namespace) -> int:
    """Run `protok cluster`."""
    from protok.analysis import cluster as module
    from protok.common.tables import word

    database, failed = database_of(arguments, **reading_options(arguments))
    matrices = matrices_of(arguments, database)
    coverage = module.COVERAGE if arguments.coverage is None else arguments.coverage
    clusters = module.cluster(database, matrices, coverage=coverage, score=arguments.score)
    with written(arguments.out) as handle:
        for head, members in clusters.items():
            handle.writelines(f"{word(head)}\t{word(member)}\n" for member in members)
    say_uncoded(database.left_out, "each a cluster of its own")
    sizes = [len(members) for members in clusters.values()]
    tell(
        f"{count(len(sizes), 'cluster')} of {count(sum(sizes), 'chain')}, {sizes.count(1)} of one alone, "
        f"the largest of {max(sizes)} ({origins(matrices)})"
    )
    return FAILED if failed else OK


def align_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok align`."""
    database_argument(parser, "TOKENS")
    parser.add_argument(
        "-o",
        "--out",
        type=out_file,
        metavar="FASTA",
        help="where amino acids go (default: the standard output)",
    )
    parser.add_argument("--tree", type=out_file, metavar="FILE", help="write the guide tree, in Newick")
    parser.add_argument(
        "--columns", type=out_file, metavar="FILE", help="write a table of the columns, with their lDDT"
    )
    parser.add_argument("--shapes", type=out_file, metavar="FASTA", help="write the aligned codes")
    parser.add_argument(
        "--environments", type=out_file, metavar="FASTA", help="write the aligned environment letters"
    )
    letters_arguments(parser)
    verbosity_arguments(parser)
    reading_arguments(parser)


def align(arguments: argparse.Namespace) -> int:
    """Run `protok align`."""
    from protok.analysis import multiple
    from protok.common.files import atomic
    from protok.errors import Unsupported

    database, structures, failed = _chains(arguments)
    matrices = matrices_of(arguments, database)
    around = next((codebook for codebook in database.sizes if codebook != database.codebook), None)
    if arguments.environments is not None and around is None:
        raise Unsupported("has no environment letters", "leave --environments out", file=database.file)
    alignment = multiple.align(database, matrices)
    with written(arguments.out) as handle:
        handle.write(_fasta(alignment, alignment.sequences))
    for path, codebook in ((arguments.shapes, database.codebook), (arguments.environments, around)):
        if path is not None and codebook is not None:
            with atomic(path) as handle:
                handle.write(_fasta(alignment, alignment.letters(codebook)))
    if arguments.tree is not None:
        with atomic(arguments.tree) as handle:
            handle.write(alignment.newick + "\n")
    what, structures = ("read", structures) if structures else ("decoded", _decoded(arguments, database))
    scores = None if structures is None else multiple.lddt(alignment, structures)
    if arguments.columns is not None:
        _write_columns(arguments.columns, alignment, scores)
    say_uncoded(database.left_out, "not aligned")
    lddt = "" if scores is None else f", lDDT {scores.mean():.3f} of {what} structures"
    tell(
        f"{count(len(alignment.chains), 'chain')} in {count(len(alignment.rows), 'column')}{lddt} "
        f"({origins(matrices)})"
    )
    return FAILED if failed else OK


def _fasta(alignment: MultipleAlignment, texts: list[str]) -> str:
    return "".join(f">{label}\n{text}\n" for label, text in zip(alignment.labels, texts, strict=True))


def _write_columns(path: Path, alignment: MultipleAlignment, scores: np.ndarray | None) -> None:
    from protok.common.files import atomic

    counts = (alignment.rows >= 0).sum(axis=1).tolist()
    cells = [""] * len(counts) if scores is None else [f"{score:.4f}" for score in scores.tolist()]
    with atomic(path) as handle:
        handle.write("column\tresidues\tlddt\n")
        handle.writelines(
            f"{n}\t{residues}\t{cell}\n"
            for n, (residues, cell) in enumerate(zip(counts, cells, strict=True), start=1)
        )


def _chains(arguments: argparse.Namespace) -> tuple[Database, list[Backbone] | None, bool]:
    """Chains to align, their structures where these were read, and whether some could not be encoded."""
    from protok.analysis.database import Database
    from protok.pipeline.batches import encode_beside

    path, reading = Path(arguments.database), reading_options(arguments)
    if holds_tokens(path):
        database, failed = database_of(arguments, **reading)
        return database, None, failed
    tokens, structures, failed = [], [], False
    for read, encoded in encode_beside(path, arguments.model or MODEL, **reading):
        chains = {(chain.name, chain.chains[0]): chain for s in read.structures for chain in s.by_chain()}
        tokens += encoded.tokens
        structures += [chains[t.name, str(t.chain[0])] for t in encoded.tokens if len(t) and not t.uncoded]
        for error in encoded.errors:
            failed = True
            say(f"error: {error}")
    return Database(tokens, str(path)), structures, failed


def _decoded(arguments: argparse.Namespace, database: Database) -> list[Backbone] | None:
    """Structures that the tokens say; None where they do not say any."""
    from protok.errors import ProtokError
    from protok.tokenizers.protocol import decoding

    try:
        tokenizer = decoding(tokenizer_of(arguments, database))
        return [tokenizer.decode(chain) for chain in database.chains]
    except ProtokError as error:
        tell(f"no lDDT: {error}")
        return None
