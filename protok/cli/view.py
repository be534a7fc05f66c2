"""`protok view` and `protok atlas`: their arguments, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from protok.cli import options
from protok.common.files import check_output

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone


def view_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok view`."""
    parser.add_argument("file", metavar="FILE", help="structure file (.pdb .cif .bcif, .gz .zst)")
    parser.add_argument(
        "-o",
        "--out",
        type=options.out_file,
        metavar="FILE",
        help="a page, .html, or a script that colours the file by its codes, .pml (PyMOL) or .cxc (ChimeraX) "
        "(default: the file's name with .html)",
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
    from protok.errors import ProtokError
    from protok.structure.io.ligands import read_ligands
    from protok.structure.io.read import read
    from protok.tokenizers.registry import load
    from protok.viz import viewer
    from protok.viz.scripts import SUFFIXES

    reading = options.reading_options(arguments)
    script = arguments.out is not None and arguments.out.suffix in SUFFIXES
    if arguments.out is not None and not script and arguments.out.suffix not in (".html", ".htm"):
        known = ", ".join([".html", *SUFFIXES])
        options.say(f"error: {arguments.out}: a view is one of {known}; give -o a name that ends so")
        return options.USAGE
    if script and (arguments.decode or {"assembly", "chain_ids"} & reading.keys()):
        options.say("error: a script colours the file itself: leave out --decode, --assembly and --chain-ids")
        return options.USAGE
    backbone = read(arguments.file, **reading)
    options.say_notes((arguments.file, note) for note in backbone.notes)
    out = arguments.out or check_output(f"{backbone.name}.html")
    if script:
        return _script(arguments, backbone)
    ligands = None
    try:
        ligands = read_ligands(arguments.file, backbone, model=reading.get("model", 1))
    except ProtokError as error:
        options.say(f"note: {error}")
    viewer.view(backbone, load(arguments.model), decode=arguments.decode, ligands=ligands).save(out)
    options.say(f"{options.count(len(backbone), 'residue')} in {out}: open it in a browser")
    return options.OK


def _script(arguments: argparse.Namespace, backbone: Backbone) -> int:
    from protok.common.files import atomic
    from protok.tokenizers.protocol import codes_alone
    from protok.tokenizers.registry import load
    from protok.viz.scripts import SUFFIXES, colour_script

    tokenizer = load(arguments.model)
    (tokens,) = codes_alone(tokenizer, [backbone])
    with atomic(arguments.out) as handle:
        handle.write(colour_script(arguments.file, tokens, tokenizer, arguments.out.suffix))
    program = SUFFIXES[arguments.out.suffix]
    options.say(f"{options.count(len(tokens), 'residue')} in {arguments.out}: open it in {program}")
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
    write_errors(errors, out / "errors.tsv")
    if not errors:
        return options.OK
    options.say_failed(options.count(len(errors), "input"), out / "errors.tsv", errors)
    return options.FAILED
