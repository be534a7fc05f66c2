"""`protok decode`: tokens to structure files."""

from __future__ import annotations

import argparse
from pathlib import Path

from protok.cli.options import (
    FAILED,
    OK,
    count,
    parse_jobs,
    print_json,
    reading_arguments,
    reading_options,
    row,
    say,
)
from protok.common.files import atomic


def decode_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("tokens", metavar="TOKENS", help=".parquet, .fasta, .csv or .npz")
    one.add_argument("-o", "--out", required=True, metavar="FOLDER", help="for NAME_CHAIN.pdb")
    one.add_argument("--model", help="name or folder of the model (default: the one that the tokens name)")
    one.add_argument("--format", choices=("pdb", "cif"), default="pdb", help="default: pdb")
    one.add_argument(
        "--compare",
        nargs="+",
        metavar="PATH",
        help="originals: print RMSD, TM-score and lDDT of each chain, and the means",
    )
    one.add_argument("--jobs", type=parse_jobs, default=1, metavar="N", help="processes (default: 1)")
    one.add_argument("--table", metavar="FILE", help="write the table as CSV")
    one.add_argument("--json", action="store_true", help="print the table as JSON")
    reading_arguments(one)


def decode(arguments: argparse.Namespace) -> int:
    from protok.pipeline.decode import decode_all

    result = decode_all(
        arguments.tokens,
        arguments.out,
        arguments.model,
        compare=arguments.compare,
        suffix=f".{arguments.format}",
        jobs=arguments.jobs,
        **reading_options(arguments),
    )
    if arguments.table is not None:
        _write_table(result, Path(arguments.table))
    if arguments.json:
        from dataclasses import asdict

        print_json({**asdict(result), "means": result.means()})
    elif arguments.compare is not None:
        _print_table(result)
    say(f"{count(len(result.chains), 'chain')} in {arguments.out} ({result.codebook})")
    for name, chain, reason in result.errors[:10]:
        say(f"error: {row(name, chain, reason)}")
    if len(result.errors) > 10:
        say(f"and {len(result.errors) - 10} more failed: see --json")
    return FAILED if result.errors else OK


def _print_table(result) -> None:
    width = max([len("name"), *(len(one.name) for one in result.chains)])
    line = f"{{:{width}}}  {{:5}}  {{:>6}}  {{:>6}}  {{:>8}}  {{:>5}}"
    print(line.format("name", "chain", "length", "RMSD", "TM-score", "lDDT"))
    for one in result.chains:
        scores = f"{one.rmsd:.2f}", f"{one.tm_score:.3f}", f"{one.lddt:.3f}"
        print(line.format(one.name, one.chain, one.length, *scores))
    means = result.means()
    scores = f"{means['rmsd']:.2f}", f"{means['tm_score']:.3f}", f"{means['lddt']:.3f}"
    print(line.format("mean", "", means["chains"], *scores).rstrip() + "   (length: chains)")


def _write_table(result, path: Path) -> None:
    import csv
    from dataclasses import asdict, fields

    from protok.pipeline.decode import DecodedChain

    with atomic(path, newline="") as handle:
        table = csv.DictWriter(handle, [field.name for field in fields(DecodedChain)])
        table.writeheader()
        table.writerows(asdict(one) for one in result.chains)
