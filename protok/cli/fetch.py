"""`protok fetch`: structure files by their ids, from the PDB and AlphaFold DB."""

from __future__ import annotations

import argparse

from protok.cli import options

FETCH = """\
Fetch structure files by their ids, as mmCIF.

This is the only command that asks a network for structures (files.rcsb.org and alphafold.ebi.ac.uk), and
it does so for these ids alone. Files that are in the folder already are not fetched again.
"""


def fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok fetch`."""
    parser.description, parser.formatter_class = FETCH, argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "ids", nargs="+", metavar="ID", help="PDB ids (1aki), or AF- and a UniProt accession (AF-P69905)"
    )
    parser.add_argument("-o", "--out", required=True, type=options.out_folder, metavar="FOLDER")
    parser.add_argument(
        "--pdb", metavar="URL", help="another server of PDB entries: an address with {id} in it"
    )
    parser.add_argument(
        "--alphafold", metavar="URL", help="another API of AlphaFold DB: an address with {id} in it"
    )


def fetch(arguments: argparse.Namespace) -> int:
    """Run `protok fetch`."""
    from protok.errors import ProtokError
    from protok.structure.io.fetch import Servers, fetch_all

    addresses = {key: getattr(arguments, key) for key in ("pdb", "alphafold")}
    servers = Servers(**{key: address for key, address in addresses.items() if address is not None})
    failed = 0
    for _, result in fetch_all(arguments.ids, arguments.out, servers):
        if isinstance(result, ProtokError):
            failed += 1
            options.say(f"error: {result}")
        else:
            print(result, flush=True)
    return options.FAILED if failed else options.OK
