"""`protok view` and `protok atlas`: their arguments, and what they say."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from protok.cli.options import FAILED, OK, count, number, print_json, row, say


def add_views(commands, command: Callable, model: str, reading: tuple[Callable, Callable]) -> None:
    """Add both commands.

    Parameters
    ----------
    commands, command
        The commands, and what makes a parser of one.
    model
        The default.
    reading
        What adds the arguments on reading files, and what turns them into options.
    """
    one = command(commands, "view", "a page that shows a structure coloured by its codes", _view)
    one.add_argument("file", metavar="FILE", help="structure file (.pdb .cif .bcif, .gz .zst)")
    one.add_argument(
        "-o", "--out", type=Path, metavar="PAGE.html", help="default: the file's name with .html"
    )
    one.add_argument("--model", default=model, help=f"name or folder (default: {model})")
    one.add_argument("--chain", metavar="ID", help="only these chains: A, or A,B")
    one.add_argument("--decode", action="store_true", help="show what is decoded from the codes too, in grey")
    reading[0](one)
    one.set_defaults(reading=reading[1])

    one = command(commands, "atlas", "what each code of a codebook means: table and page", _atlas)
    one.add_argument("model", metavar="MODEL", help="name or folder of a tokenizer")
    one.add_argument(
        "--structures",
        required=True,
        metavar="PATH",
        help="folder or file of structures, or a parsed store (.parquet)",
    )
    one.add_argument(
        "-o",
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="for atlas.parquet, atlas.html and errors.tsv",
    )
    one.add_argument("--limit", type=number, metavar="N", help="so many chains, spread evenly (default: all)")
    one.add_argument("--json", action="store_true", help="print a summary as JSON")


def _view(arguments: argparse.Namespace) -> int:
    from protok.structure.io.read import read
    from protok.tokenizers.registry import load
    from protok.viz.viewer import view

    backbone = read(arguments.file, chain=arguments.chain, **arguments.reading(arguments))
    out = arguments.out or Path(f"{backbone.name}.html")
    view(backbone, load(arguments.model), decode=arguments.decode).save(out)
    say(f"{count(len(backbone), 'residue')} in {out}: open it in a browser")
    return OK


def _atlas(arguments: argparse.Namespace) -> int:
    from protok.common.files import write_errors
    from protok.tokenizers.registry import load
    from protok.viz.atlas import make_atlas, open_structures
    from protok.viz.atlas_page import atlas_page
    from protok.viz.html import save

    tokenizer = load(arguments.model)
    errors: list[tuple[str, str, str]] = []
    chains = open_structures(arguments.structures, errors, arguments.limit)
    atlas = make_atlas(tokenizer, chains, _source(arguments.structures))
    arguments.out.mkdir(parents=True, exist_ok=True)
    atlas.save(arguments.out / "atlas.parquet")
    save(atlas_page(atlas), arguments.out / "atlas.html")
    if arguments.json:
        print_json(atlas.summary())
    used = f"{int((atlas.columns['count'] > 0).sum())} of {len(atlas)} codes"
    say(
        f"{used} of {atlas.codebook} in {count(atlas.chains, 'chain')}: "
        f"{arguments.out / 'atlas.html'} and atlas.parquet"
    )
    if not errors:
        return OK
    write_errors(errors, arguments.out / "errors.tsv")
    say(
        f"{count(len(errors), 'input')} failed, listed in {arguments.out / 'errors.tsv'}; "
        f"the first: {row(*errors[0])}"
    )
    return FAILED


def _source(path: str) -> str:
    """The name of a folder or file, and of a file the digest."""
    import hashlib

    digest = ""
    if Path(path).is_file():
        digest = f", sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    return f"{Path(path).name}{digest}"
