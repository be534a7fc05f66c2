"""`protok compare`: two structures, and where their codes differ along the chains."""

from __future__ import annotations

import argparse

from protok.cli import options
from protok.common.files import atomic

COMPARE = """\
Compare two structures over the residues that correspond, by number or by an alignment of the sequences.

Prints CA RMSD, TM-score and lDDT, and the amino acids of both with a mark between them: . the same
code, + another that is alike (a positive score in the matrix of protok search), * one that is unlike.
"""


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok compare`."""
    parser.description, parser.formatter_class = COMPARE, argparse.RawDescriptionHelpFormatter
    parser.add_argument("first", metavar="FIRST", help="structure file")
    parser.add_argument("second", metavar="SECOND", help="structure file; scores count all its residues")
    parser.add_argument(
        "--by",
        choices=("number", "alignment"),
        default="number",
        help="what tells which residues correspond (default: number)",
    )
    parser.add_argument(
        "--second-chain", metavar="ID", help="chain of SECOND, where --chain is of FIRST alone"
    )
    parser.add_argument(
        "--table",
        type=options.out_file,
        metavar="FILE",
        help="table of residues, tab-separated: numbers, codes, mark, distance of CA after superposition",
    )
    parser.add_argument("--model", default=options.MODEL, help=f"name or folder (default: {options.MODEL})")
    options.reading_arguments(parser)


def compare(arguments: argparse.Namespace) -> int:
    """Run `protok compare`."""
    from protok.analysis.compare import compare as compared
    from protok.analysis.differences import Difference, differences, picture, stretches
    from protok.analysis.substitution import default_matrix
    from protok.common.tables import write_table
    from protok.structure.io.read import read
    from protok.tokenizers.protocol import codes_alone
    from protok.tokenizers.registry import load

    reading = options.reading_options(arguments)
    other = reading if arguments.second_chain is None else {**reading, "chain": arguments.second_chain}
    first, second = read(arguments.first, **reading), read(arguments.second, **other)
    for file, structure in ((arguments.first, first), (arguments.second, second)):
        options.say_notes((file, note) for note in structure.notes)
    tokenizer = load(arguments.model)
    tokens = [codes_alone(tokenizer, [structure])[0] for structure in (first, second)]
    scores, codes = compared(first, second, arguments.by), compared(tokens[0], tokens[1], arguments.by)
    table = differences(
        (first, second), (tokens[0], tokens[1]), codes.pairs, default_matrix(tokenizer).scores
    )
    print(f"structures: {scores}\ncodes: {codes.same:.1%} of {int(codes.coded.sum())} codes are the same")
    print(f"unlike: {', '.join(stretches(table)) or 'none'}\n\n{picture(table)}")
    if arguments.table is not None:
        with atomic(arguments.table, newline="") as handle:
            write_table(Difference, table, handle)
        options.tell(f"{options.count(len(table), 'pair')} of residues in {arguments.table}")
    return options.OK
