"""`protok decode`: tokens to structure files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from protok.cli import options
from protok.common.files import atomic

if TYPE_CHECKING:
    from protok.pipeline.decode import DecodeSummary

#: What decoded files lack, and the command of another program that adds it.
BACKBONE_ONLY = (
    "files hold N, CA, C and O alone; C-beta and side chains are added by PDBFixer (pip install pdbfixer): "
    "pdbfixer {file} --add-atoms=heavy --output=full.pdb"
)


def decode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tokens", metavar="TOKENS", help=".parquet, .fasta, .csv or .npz")
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=options.out_folder,
        metavar="FOLDER",
        help="for NAME_CHAIN.pdb, and NAME.pdb of several chains that keyframes place together",
    )
    parser.add_argument("--model", help="name or folder of the model (default: the one that the tokens name)")
    parser.add_argument(
        "--format",
        choices=("pdb", "cif"),
        help="default: pdb, and cif for chains whose id or numbers it has no room for",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="PATH",
        help="originals: print RMSD, TM-score and lDDT of each chain, and the means",
    )
    parser.add_argument(
        "--letters-alone",
        action="store_true",
        help="decode tokens that were encoded with --keyframes 0: right over some residues only",
    )
    parser.add_argument("--jobs", type=options.number, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--table", type=options.out_file, metavar="FILE", help="write the table as CSV")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    options.verbosity_arguments(parser)
    options.reading_arguments(parser, chain=False)


def decode(arguments: argparse.Namespace) -> int:
    """Run `protok decode`."""
    import csv
    from dataclasses import asdict, fields

    from protok.pipeline.decode import DecodedChain, decode_all

    result = decode_all(
        arguments.tokens,
        arguments.out,
        arguments.model,
        compare=arguments.compare,
        suffix=arguments.format and f".{arguments.format}",
        letters_alone=arguments.letters_alone,
        jobs=arguments.jobs,
        **options.reading_options(arguments),
    )
    if arguments.table is not None:
        with atomic(arguments.table, newline="") as handle:
            table = csv.DictWriter(handle, [field.name for field in fields(DecodedChain)])
            table.writeheader()
            table.writerows(asdict(chain) for chain in result.chains)
    if arguments.json:
        options.print_json({**asdict(result), "means": result.means()})
    elif arguments.compare is not None and result.means()["chains"]:
        _print_table(result)
    options.tell(f"{options.count(len(result.chains), 'chain')} in {arguments.out} ({result.codebook})")
    other = sum(chain.file.endswith(".cif") for chain in result.chains)
    if other and arguments.format is None:
        options.tell(f"{options.count(other, 'chain')} as mmCIF: PDB has no room for their ids or numbers")
    if result.chains:
        options.tell(BACKBONE_ONLY.format(file=result.chains[0].file))
    options.say_notes(result.notes)
    shown = result.errors if options.verbosity > 0 else result.errors[:10]
    for name, chain, reason in shown:
        options.say(f"error: {options.row(name, chain, reason)}")
    if len(result.errors) > len(shown):
        options.say(f"and {len(result.errors) - len(shown)} more failed: see --verbose or --json")
    return options.FAILED if result.errors else options.OK


def _print_table(summary: DecodeSummary) -> None:
    means = summary.means()
    mean = f"mean of {options.count(int(means['chains']), 'chain')}"
    width = max(map(len, [mean, *(chain.name for chain in summary.chains)]))
    line = f"{{:{width}}}  {{:5}}  {{:>6}}  {{:>6}}  {{:>8}}  {{:>5}}"
    scores = "{rmsd:.2f}", "{tm_score:.3f}", "{lddt:.3f}"
    print(line.format("name", "chain", "length", "RMSD", "TM-score", "lDDT"))
    for chain in summary.chains:
        cells = [score.format_map(vars(chain)) for score in scores]
        print(line.format(chain.name, chain.chain, chain.length, *cells))
    cells = [score.format_map(means) for score in scores]
    print(line.format(mean, "", "", *cells).rstrip())
