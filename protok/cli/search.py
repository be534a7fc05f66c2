"""`protok search` and `protok matrix`: arguments, and what is printed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from protok.cli.database import (
    database_argument,
    database_of,
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
    number,
    out_file,
    reading_arguments,
    reading_options,
    row,
    say,
    say_notes,
    say_uncoded,
    written,
)
from protok.common.grouping import numbered

if TYPE_CHECKING:
    from protok.analysis.database import Database
    from protok.tokens.tokens import Tokens


#: Hits that are expected more often are left out, where nobody says otherwise.
EXPECTED = 10.0


def search_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok search`."""
    parser.add_argument("query", metavar="QUERY", help="a structure file, or a token file")
    database_argument(parser, "DATABASE")
    parser.add_argument(
        "-o", "--out", type=out_file, metavar="FILE", help="where hits go (default: the standard output)"
    )
    parser.add_argument(
        "--format",
        choices=("tsv", "m8"),
        default="tsv",
        help="tsv: a table with names of columns (default); m8: the twelve columns of BLAST and Foldseek",
    )
    parser.add_argument("--alignments", type=out_file, metavar="FILE", help="write the alignments as text")
    letters_arguments(parser)
    parser.add_argument(
        "--top", type=number, default=100, metavar="N", help="hits of a chain, at most (default: 100)"
    )
    parser.add_argument(
        "--evalue",
        type=float,
        metavar="E",
        help="leave out hits that are expected more often (default: 10; of 30 chains and more)",
    )
    parser.add_argument(
        "--candidates",
        type=number,
        default=300,
        metavar="N",
        help="chains that are aligned with gaps (default: 300)",
    )
    jobs_argument(parser)
    reading_arguments(parser)


def search(arguments: argparse.Namespace) -> int:
    """Run `protok search`."""
    from protok.analysis import search as module
    from protok.analysis.expectation import FEWEST
    from protok.analysis.hits import Hit, alignment, m8
    from protok.common.tables import write_table
    from protok.errors import ProtokError

    database, failed = database_of(arguments)
    queries = _queries(arguments, database)
    labels = numbered([query.label for query in queries], "#")
    matrices = matrices_of(arguments, database)
    if arguments.evalue is not None and len(database) < FEWEST:
        cause = f"no E-values among {count(len(database), 'chain')}"
        raise ProtokError(cause, f"leave --evalue out, or search {FEWEST} and more", file=database.file)
    limits = {"candidates": arguments.candidates, "top": arguments.top}
    limits["evalue"] = EXPECTED if arguments.evalue is None else arguments.evalue
    by_query = {
        label: [replace(hit, query=label) for hit in module.search(query, database, matrices, **limits)]
        for query, label in zip(queries, labels, strict=True)
    }
    hits = [hit for own in by_query.values() for hit in own]
    with written(arguments.out) as handle:
        if arguments.format == "m8":
            handle.writelines(map(m8, hits))
        else:
            write_table(Hit, hits, handle)
    if arguments.alignments is not None:
        chains = dict(zip(database.labels, database.chains, strict=True))
        with written(arguments.alignments) as handle:
            for query, label in zip(queries, labels, strict=True):
                handle.writelines(
                    alignment(hit, query, chains[hit.target], matrices) for hit in by_query[label]
                )
    say_uncoded(database.left_out, "left out of the database")
    say(
        f"{count(len(hits), 'hit')} of {count(len(queries), 'chain')} among "
        f"{count(len(database), 'chain')} ({origins(matrices)})"
    )
    if len(database) < FEWEST:
        say(f"no E-values: they need {FEWEST} chains")
    return FAILED if failed else OK


def _queries(arguments: argparse.Namespace, database: Database) -> list[Tokens]:
    from protok.cli.info import TOKEN_SUFFIXES
    from protok.errors import ChainNotFound, NoProtein, ProtokError
    from protok.structure.io.options import ReadOptions

    path, reading = Path(arguments.query), reading_options(arguments)
    if path.name.lower().endswith(TOKEN_SUFFIXES):
        from protok.tokens.files import load

        chains = [tokens for tokens in load(path) if len(tokens)]
        if (wanted := reading.pop("chain", None)) is not None:
            chains = [tokens for tokens in chains if tokens.chain[0] in wanted.split(",")]
            if not chains:
                raise ChainNotFound(f"has no chain {wanted}", "leave --chain out", file=path)
        if reading:
            raise ProtokError("the query is tokens, not a structure", "leave out how it is read", file=path)
    else:
        from protok.structure.io.read import read_file

        structures = read_file(path, ReadOptions(**reading))
        say_notes((path.name, note) for structure in structures for note in structure.notes)
        tokenizer = tokenizer_of(arguments, database)
        chains = [chain for structure in structures for chain in tokenizer.encode(structure).by_chain()]
    coded = [tokens for tokens in chains if not tokens.uncoded]
    if not coded:
        raise NoProtein("no residue has a code", "give a query with N, CA and C atoms", file=path)
    say_uncoded([tokens.label for tokens in chains if tokens.uncoded], "not searched")
    return coded


def matrix_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok matrix`."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="structure files and folders of homologs")
    parser.add_argument("-o", "--out", required=True, type=out_file, metavar="FILE", help=".npz")
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    parser.add_argument(
        "--pairs", metavar="FILE", help="two names a line, of the chains to align (default: all with all)"
    )
    parser.add_argument(
        "--tm", type=float, default=0.5, metavar="SCORE", help="least TM-score of homologs (default: 0.5)"
    )
    reading_arguments(parser)


def matrix(arguments: argparse.Namespace) -> int:
    """Run `protok matrix`."""
    from itertools import combinations

    from protok.analysis.substitution import of_alignments
    from protok.errors import FormatError, ProtokError
    from protok.structure.io.options import ReadOptions
    from protok.structure.io.read import read_all
    from protok.structure.io.sources.paths import iter_files
    from protok.tokenizers.protocol import HasCodeVectors
    from protok.tokenizers.registry import load

    tokenizer = load(arguments.model)
    chains = {}
    uncoded: list[str] = []
    errors: list[tuple[str, str, str]] = []
    options = ReadOptions(**reading_options(arguments))
    for file, backbone in read_all(iter_files(arguments.inputs), errors, options):
        for chain in backbone.by_chain():
            try:
                tokens = tokenizer.encode(chain)
            except ProtokError as error:
                errors.append((str(file), error.chain or chain.chains[0], error.reason))
            else:
                chains[tokens.label] = chain, tokens.ids
                if tokens.uncoded:
                    uncoded.append(tokens.label)
    for error in errors:
        say(f"error: {row(*error)}")
    say_uncoded(uncoded, "of no use here")
    named = list(combinations(chains, 2))
    if arguments.pairs is not None:
        lines = [line.split() for line in Path(arguments.pairs).read_text("utf-8").splitlines()]
        named = [tuple(line) for line in lines if line]
        odd = [line for line in named if len(line) != 2 or not {*line} <= chains.keys()]
        if odd:
            raise FormatError(
                f"{' '.join(odd[0])!r} does not name two chains that were read",
                f"names are like {next(iter(chains), '1aki_A')}",
                file=arguments.pairs,
            )
    pairs = list(_homologs(chains, named, arguments.tm))
    vectors = tokenizer.code_vectors() if isinstance(tokenizer, HasCodeVectors) else None
    counted = of_alignments(pairs, tokenizer.codebook, tokenizer.size, vectors)
    counted.save(arguments.out)
    say(f"{arguments.out}: {count(len(pairs), 'pair')} of chains, {counted.origin}")
    return FAILED if errors else OK


def _homologs(chains: dict, named: list, least: float):
    from protok.analysis.substitution import tm_alignment
    from protok.errors import Unsupported

    for names in named:
        (first, ids), (second, other_ids) = (chains[name] for name in names)
        try:
            score, pairs = tm_alignment(first, second)
        except Unsupported:
            continue
        if score >= least:
            yield ids[pairs[:, 0]], other_ids[pairs[:, 1]]
