"""`protok search`, `protok matrix` and `protok export`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from protok.cli.options import (
    FAILED,
    MODEL,
    OK,
    USAGE,
    count,
    number,
    out_file,
    reading_arguments,
    reading_options,
    row,
    say,
    say_notes,
    say_uncoded,
)
from protok.common.files import atomic, check_output
from protok.common.grouping import numbered

if TYPE_CHECKING:
    from protok.analysis.search import Database
    from protok.tokenizers.protocol import Tokenizer
    from protok.tokens.tokens import Tokens


def search_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok search`."""
    parser.add_argument("query", metavar="QUERY", help="a structure file, or a token file")
    parser.add_argument("database", metavar="DATABASE", help="a token file, or a folder of Parquet files")
    parser.add_argument(
        "-o", "--out", type=out_file, metavar="FILE", help=".tsv (default: the standard output)"
    )
    parser.add_argument(
        "--model", help="name or folder of the model (default: the one that the database names)"
    )
    parser.add_argument(
        "--matrix",
        metavar="FILE",
        help="of `protok matrix` (default: a published one, or one of the codebook)",
    )
    parser.add_argument(
        "--top", type=number, default=100, metavar="N", help="hits of a chain, at most (default: 100)"
    )
    parser.add_argument(
        "--evalue",
        type=float,
        default=10.0,
        metavar="E",
        help="leave out hits that are expected more often (default: 10)",
    )
    parser.add_argument(
        "--candidates",
        type=number,
        default=300,
        metavar="N",
        help="chains that are aligned with gaps (default: 300)",
    )
    reading_arguments(parser)


def search(arguments: argparse.Namespace) -> int:
    """Run `protok search`."""
    from protok.analysis import search as module
    from protok.analysis.substitution import Matrix, default_matrix
    from protok.common.tables import write_table

    database = module.Database.read(arguments.database)
    queries = _queries(arguments, database)
    if arguments.matrix is not None:
        matrix = Matrix.load(arguments.matrix)
    else:
        tokenizer = _tokenizer(arguments, database)
        # Before a table of that size is made.
        usage = database.usage() if database.size == tokenizer.size else None
        matrix = default_matrix(tokenizer, usage)
    hits = []
    limits = {"candidates": arguments.candidates, "top": arguments.top, "evalue": arguments.evalue}
    for query, label in zip(queries, numbered([query.label for query in queries], "#"), strict=True):
        hits += [replace(hit, query=label) for hit in module.search(query, database, matrix, **limits)]
    out = nullcontext(sys.stdout) if arguments.out is None else atomic(arguments.out, newline="")
    with out as handle:
        write_table(module.Hit, hits, handle)
    say_uncoded(database.left_out, "left out of the database")
    say(
        f"{count(len(hits), 'hit')} of {count(len(queries), 'chain')} among "
        f"{count(len(database), 'chain')} ({database.codebook}; matrix: {matrix.origin})"
    )
    if len(database) < module.FEWEST:
        say(f"no E-values: they need {module.FEWEST} chains")
    return OK


def _tokenizer(arguments: argparse.Namespace, database: Database) -> Tokenizer:
    from protok.pipeline.decode import model_of

    return model_of([database.codebook], arguments.model, str(arguments.database))


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
        tokenizer = _tokenizer(arguments, database)
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


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok export`."""
    parser.add_argument(
        "tokens", nargs="+", metavar="TOKENS", help="token files, or folders of Parquet files"
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="PATH", help="a folder, or with --letters a FASTA file"
    )
    parser.add_argument(
        "--letters",
        action="store_true",
        help="FASTA of letters for sequence tools, of alphabets with at most 20 codes "
        "(default: a folder with tokenizer.json and corpus.jsonl for language models)",
    )
    parser.add_argument(
        "--layout",
        choices=("letters", "blocks", "keyframes-first"),
        default="",
        help="of the corpus: letters alone; blocks of letters and their keyframe; keyframes-first "
        "(default: blocks where there are keyframes)",
    )
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="residue type and letter together: one token of the corpus, with --letters as in SaProt",
    )
    parser.add_argument(
        "--chains", action="store_true", help="of the corpus: a line a chain (default: a line a structure)"
    )
    parser.add_argument(
        "--positions",
        action="store_true",
        help="of the corpus: the residue of each token, and the numbers of residues in their file",
    )
    parser.add_argument(
        "--sequences", type=out_file, metavar="FILE", help="with --letters: where amino acids go"
    )


def export(arguments: argparse.Namespace) -> int:
    """Run `protok export`."""
    from itertools import chain

    from protok.tokens.export import write_corpus, write_letters
    from protok.tokens.files import scan

    of_corpus = {key: getattr(arguments, key) for key in ("layout", "chains", "positions")}
    if arguments.letters and any(of_corpus.values()):
        say("error: --layout, --chains and --positions are of a corpus; leave --letters out")
        return USAGE
    tokens = chain.from_iterable(map(scan, arguments.tokens))
    out = check_output(arguments.out, folder=not arguments.letters)
    out.parent.mkdir(parents=True, exist_ok=True)
    left_out: list[str] = []
    if arguments.letters:
        n = write_letters(tokens, out, arguments.sequences, left_out, pairs=arguments.pairs)
    else:
        n = write_corpus(tokens, out, left_out, pairs=arguments.pairs, **of_corpus)
    kind = "chain" if arguments.letters or arguments.chains else "structure"
    say(f"{count(n, kind)} in {arguments.out}")
    say_uncoded(left_out, "left out")
    return OK
