"""`protok view` and `protok atlas`: their arguments, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path

from protok.cli.options import (
    FAILED,
    MODEL,
    OK,
    count,
    number,
    print_json,
    reading_arguments,
    reading_options,
    row,
    say,
)


def view_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok view`."""
    parser.add_argument("file", metavar="FILE", help="structure file (.pdb .cif .bcif, .gz .zst)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="PAGE.html", help="default: the file's name with .html"
    )
    parser.add_argument("--model", default=MODEL, help=f"name or folder (default: {MODEL})")
    parser.add_argument("--chain", metavar="ID", help="only these chains: A, or A,B")
    parser.add_argument(
        "--decode", action="store_true", help="show what is decoded from the codes too, in grey"
    )
    reading_arguments(parser)


def atlas_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok atlas`."""
    parser.add_argument("model", metavar="MODEL", help="name or folder of a tokenizer")
    parser.add_argument(
        "--structures",
        required=True,
        metavar="PATH",
        help="folder or file of structures, or a parsed store (.parquet)",
    )
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="for atlas.parquet, atlas.html and errors.tsv",
    )
    parser.add_argument(
        "--limit", type=number, metavar="N", help="so many chains, spread evenly (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def view(arguments: argparse.Namespace) -> int:
    """Run `protok view`."""
    from protok.structure.io.read import read
    from protok.tokenizers.registry import load
    from protok.viz import viewer

    backbone = read(arguments.file, chain=arguments.chain, **reading_options(arguments))
    out = arguments.out or Path(f"{backbone.name}.html")
    viewer.view(backbone, load(arguments.model), decode=arguments.decode).save(out)
    say(f"{count(len(backbone), 'residue')} in {out}: open it in a browser")
    return OK


def atlas(arguments: argparse.Namespace) -> int:
    """Run `protok atlas`."""
    import hashlib

    from protok.common.files import write_errors
    from protok.tokenizers.registry import load
    from protok.viz.atlas import make_atlas, open_structures
    from protok.viz.atlas_page import atlas_page
    from protok.viz.html import save

    tokenizer = load(arguments.model)
    errors: list[tuple[str, str, str]] = []
    chains = open_structures(arguments.structures, errors, arguments.limit)
    path, out = Path(arguments.structures), arguments.out
    source = path.name
    if path.is_file():
        source += f", sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    table = make_atlas(tokenizer, chains, source)
    out.mkdir(parents=True, exist_ok=True)
    table.save(out / "atlas.parquet")
    save(atlas_page(table), out / "atlas.html")
    summary = table.summary()
    if arguments.json:
        print_json(summary)
    say(
        f"{summary['codes_used']} of {summary['codes']} codes of {table.codebook} in "
        f"{count(table.chains, 'chain')}: {out / 'atlas.html'} and atlas.parquet"
    )
    if not errors:
        return OK
    write_errors(errors, out / "errors.tsv")
    say(f"{count(len(errors), 'input')} failed, listed in {out / 'errors.tsv'}; the first: {row(*errors[0])}")
    return FAILED
