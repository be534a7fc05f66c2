"""The command line: `protok encode | decode | search | train | bench | view | ...`.

Arguments are parsed and results printed here; the work is done by the modules that are imported
when a command needs them, so that `protok --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from protok.cli.decode import decode, decode_arguments
from protok.cli.encode import encode, encode_arguments
from protok.cli.info import info
from protok.cli.options import (
    EXIT_CODES,
    INTERRUPTED,
    MODEL,
    OK,
    USAGE,
    add_command,
    reading_arguments,
    reading_options,
    say,
)
from protok.cli.train import train, train_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    arguments = parser().parse_args(argv)
    from protok.errors import ProtokError

    try:
        return arguments.run(arguments)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt as error:
        say(": ".join(["interrupted", *map(str, error.args)]))
        return INTERRUPTED
    except ProtokError as error:
        say(f"error: {error}")
        return USAGE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"error: {place}{error.strerror or error}")
        return USAGE


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    from protok.cli import bench
    from protok.cli.image import add_image
    from protok.cli.prior import add_prior
    from protok.cli.view import add_views

    top = argparse.ArgumentParser(
        prog="protok",
        description="Protein backbones to discrete codes and back.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    encode_arguments(add_command(commands, "encode", "structure files to tokens", encode))
    decode_arguments(add_command(commands, "decode", "tokens to structure files", decode))
    train_arguments(add_command(commands, "train", "train or fine-tune a tokenizer", train))
    bench.arguments(add_command(commands, "bench", "measure how good tokenizers are", bench.run))
    one = add_command(commands, "info", "say what a model, token file or structure file is", info)
    one.add_argument("what", help="name or folder of a model, a token file, or a structure file")
    one.add_argument("--json", action="store_true", help="print JSON")
    add_views(commands, add_command, MODEL, (reading_arguments, reading_options))
    from protok.cli import search as finding

    finding.export_arguments(
        add_command(commands, "export", "tokens for language models and others", finding.export)
    )
    finding.search_arguments(
        add_command(commands, "search", "chains of a token file like a query", finding.search)
    )
    finding.matrix_arguments(
        add_command(commands, "matrix", "substitution matrix of codes from homologs", finding.matrix)
    )
    add_image(commands, add_command)
    add_prior(commands, add_command)
    return top


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import version

        print(f"protok {version('protok')}")
        parser.exit()
