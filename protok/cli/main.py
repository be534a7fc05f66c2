"""The command line: `protok encode | decode | search | train | bench | view | ...`.

Arguments are parsed and results printed here; the work is done by the modules that are imported
when a command needs them, so that `protok --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from protok.cli import (
    bench,
    cluster,
    compare,
    decode,
    embed,
    encode,
    export,
    fetch,
    frames,
    image,
    info,
    prior,
    search,
    train,
    view,
)
from protok.cli.options import EXIT_CODES, INTERRUPTED, OK, TERMINATED, USAGE, add_command, be_verbose, say

#: Name and task of each command, what adds its arguments, and what runs it.
COMMANDS = (
    ("fetch", "structure files by their ids, from the network", fetch.fetch_arguments, fetch.fetch),
    ("encode", "structure files to tokens", encode.encode_arguments, encode.encode),
    ("decode", "tokens to structure files", decode.decode_arguments, decode.decode),
    ("embed", "structure files to vectors of residues and chains", embed.embed_arguments, embed.embed),
    ("frames", "letters of each frame, and what switches", frames.frames_arguments, frames.frames),
    ("compare", "where two structures differ", compare.compare_arguments, compare.compare),
    ("train", "train or fine-tune a tokenizer", train.train_arguments, train.train),
    ("bench", "measure how good tokenizers are", bench.bench_arguments, bench.bench),
    ("info", "say what a model, token file or structure file is", info.info_arguments, info.info),
    ("models", "which model for which job", info.models_arguments, info.models),
    ("view", "a page that shows a structure coloured by its codes", view.view_arguments, view.view),
    ("atlas", "what each code of a codebook means: table and page", view.atlas_arguments, view.atlas),
    ("export", "tokens for language models and others", export.export_arguments, export.export),
    ("search", "chains of a token file like a query", search.search_arguments, search.search),
    ("cluster", "clusters of chains with like letters", cluster.cluster_arguments, cluster.cluster),
    ("align", "multiple alignment of chains by their letters", cluster.align_arguments, cluster.align),
    ("matrix", "substitution matrix of codes from homologs", search.matrix_arguments, search.matrix),
)


#: Seconds in which a second SIGTERM is the first one's copy: `timeout` and others send it twice.
COPIES = 5.0


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C would have kept is kept, and what it would have ended is ended."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, as Ctrl-C raises `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -COPIES

    def terminate(*_: object) -> None:
        nonlocal last
        if time.monotonic() - last > COPIES:  # nor may a copy disturb the end that we are at
            last = time.monotonic()
            raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    from protok.common.files import disk_is_full
    from protok.errors import ProtokError
    from protok.quantize.own import import_own

    try:
        top = parser()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow, and reads nothing else
            from argcomplete import autocomplete

            autocomplete(top)
        arguments = top.parse_args(argv)
        be_verbose(vars(arguments).get("verbosity"), vars(arguments).get("progress"))
        import_own(arguments.modules)
        with _terminable():
            code = arguments.run(arguments)
            sys.stdout.flush()  # here a full disk can be told of
        return code
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        _drop_output()
        return OK
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        say(": ".join(["terminated" if terminated else "interrupted", *map(str, error.args)]))
        return TERMINATED if terminated else INTERRUPTED
    except ProtokError as error:
        say(f"error: {error}")
        return USAGE
    except OSError as error:
        place, remedy = error.filename or "", ""
        if disk_is_full(error):
            remedy = "; free some space, or write elsewhere"
            if not place:
                place = "standard output"
                _drop_output()
        say(f"error: {place}{': ' if place else ''}{error.strerror or error}{remedy}")
        return USAGE


def _drop_output() -> None:
    """Let Python find no fault with the standard output when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="protok",
        description="Protein backbones to discrete codes and back.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    top.add_argument(
        "--import",
        action="append",
        default=[],
        metavar="MODULE",
        dest="modules",
        help="run this module's code first, for models with an encoder or quantizer of your own",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, task, add_arguments, run in COMMANDS:
        add_arguments(add_command(commands, name, task, run))
    image.add_image(commands, add_command)
    prior.add_prior(commands, add_command)
    return top


class _Version(argparse.Action):
    """Reads the package's metadata only when asked: without an installation there is none."""

    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"protok {version('protok')}")
        parser.exit()
