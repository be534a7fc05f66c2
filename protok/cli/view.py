"""`protok view` and `protok atlas`: their arguments, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path

from protok.cli import options
from protok.common.files import check_output


def view_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok view`."""
    parser.add_argument("file", metavar="FILE", help="structure file (.pdb .cif .bcif, .gz .zst)")
    parser.add_argument(
        "-o", "--out", type=options.out_file, metavar="PAGE.html", help="default: the file's name with .html"
    )
    parser.add_argument("--model", default=options.MODEL, help=f"name or folder (default: {options.MODEL})")
    parser.add_argument(
        "--decode", action="store_true", help="show what is decoded from the codes too, in grey"
    )
    options.reading_arguments(parser)


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
        type=options.out_folder,
        metavar="FOLDER",
        help="for atlas.parquet, atlas.html and errors.tsv",
    )
    parser.add_argument(
        "--limit", type=options.number, metavar="N", help="so many chains, spread evenly (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    options.reading_arguments(parser)


def view(arguments: argparse.Namespace) -> int:
    """Run `protok view`."""
    from protok.structure.io.read import read
    from protok.tokenizers.registry import load
    from protok.viz import viewer

    backbone = read(arguments.file, **options.reading_options(arguments))
    options.say_notes((arguments.file, note) for note in backbone.notes)
    out = arguments.out or check_output(f"{backbone.name}.html")
    viewer.view(backbone, load(arguments.model), decode=arguments.decode).save(out)
    options.say(f"{options.count(len(backbone), 'residue')} in {out}: open it in a browser")
    return options.OK


def atlas(arguments: argparse.Namespace) -> int:
    """Run `protok atlas`."""
    import hashlib

    from protok.common.files import write_errors
    from protok.structure.io.options import ReadOptions
    from protok.tokenizers.registry import load
    from protok.viz.atlas import make_atlas, open_structures
    from protok.viz.atlas_page import atlas_page
    from protok.viz.html import Page

    tokenizer, reading = load(arguments.model), ReadOptions(**options.reading_options(arguments))
    errors: list[tuple[str, str, str]] = []
    chains = open_structures(arguments.structures, errors, arguments.limit, reading)
    path, out = Path(arguments.structures), arguments.out
    source = path.name
    if path.is_file():
        source += f", sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    seen: list[str] = []
    table = make_atlas(tokenizer, (seen.append(chain.name) or chain for chain in chains), source)
    out.mkdir(parents=True, exist_ok=True)
    table.save(out / "atlas.parquet")
    Page(atlas_page(table)).save(out / "atlas.html")
    summary = table.summary()
    if arguments.json:
        options.print_json(summary)
    options.say(
        f"{summary['codes_used']} of {summary['codes']} codes of {table.codebook} in "
        f"{options.count(table.chains, 'chain')}: {out / 'atlas.html'} and atlas.parquet"
    )
    if uncoded := len(seen) - table.chains:
        options.say(f"{options.count(uncoded, 'chain')} without any code left out")
    if not errors:
        return options.OK
    write_errors(errors, out / "errors.tsv")
    options.say_failed(options.count(len(errors), "input"), out / "errors.tsv", errors)
    return options.FAILED
