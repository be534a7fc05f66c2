"""What the commands share: exit codes, and how they read settings and print."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from protok.common.files import atomic, check_output, finite

OK, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


#: What the command that runs is to say: -1 errors alone, 0, or 1 for each thing it would sum up.
verbosity = 0


def verbosity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how much a command that takes long says."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-q",
        "--quiet",
        action="store_const",
        const=-1,
        dest="verbosity",
        help="say errors alone, and show no progress",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_const",
        const=1,
        dest="verbosity",
        help="say each note and each error, and show progress in a log too",
    )


def be_verbose(level: int | None, shown: bool | None = None) -> None:
    """Set what the arguments of `verbosity_arguments` say, for all that follows.

    `shown`: whether progress is, where they say nothing of it; None where there is a terminal.
    """
    from protok.common import progress

    global verbosity
    verbosity = level or 0
    progress.wanted = {-1: False, 0: shown, 1: True}[verbosity]


def say(text: str) -> None:
    """Print a message for people, on the standard error."""
    print(f"protok: {text}", file=sys.stderr)


def tell(text: str) -> None:
    """Print a message that --quiet leaves out."""
    if verbosity >= 0:
        say(text)


def count(n: int, what: str) -> str:
    """A number of things, in words."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def row(file: str, chain: str, reason: str) -> str:
    """A row of an error table, as a message."""
    from protok.errors import ProtokError

    return str(ProtokError(reason, file=file, chain=chain))


def say_failed(inputs: str, table: str | Path, errors: Sequence[Sequence[str]]) -> None:
    """Say how many inputs failed, where they are listed, and what is wrong with the first, or with each."""
    if verbosity > 0:
        for error in errors:
            say(f"error: {row(*error)}")
    first = f"; the first: {row(*errors[0])}" if verbosity <= 0 else ""
    say(f"{inputs} failed, listed in {table}{first}")


def say_uncoded(labels: Sequence[str], fate: str) -> None:
    """Say which chains have no residue with a code, and what became of them."""
    if labels:
        listed = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
        tell(f"{count(len(labels), 'chain')} without any code {fate}: {' '.join(listed.split())}")


def say_notes(notes: Iterable[tuple[str, str]]) -> None:
    """Say what readers left out or mended (file, note), once a kind and in how many files, or each."""
    if verbosity > 0:
        for file, note in notes:
            say(f"note: {row(file, '', note)}")
        return
    kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for file, note in notes:
        # What differs between notes of a kind: numbers, plurals, and lists after a colon.
        kinds[re.sub(r"\d+|s\b", "", note.partition(": ")[0])].setdefault(file, note)
    for files in kinds.values():
        file, note = next(iter(files.items()))
        more = f" (and the like in {count(len(files) - 1, 'more file')})" if len(files) > 1 else ""
        tell(f"note: {row(file, '', note)}{more}")


@contextmanager
def spoken_warnings(aloud: bool = True) -> Iterator[None]:
    """Say what the code inside warns of, instead of printing its line."""
    import warnings

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}") if aloud else None
        yield


def number(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def share(text: str) -> float:
    """An argument between 0 and 1."""
    try:
        if 0 <= (value := float(text)) <= 1:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")


def out_file(text: str) -> Path:
    """An argument that names a file to write, which must be possible; its folder is made if needed."""
    try:
        check_output(text).parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def written(path: str | Path | None) -> AbstractContextManager[IO[Any]]:
    """A file as text, whole or not there, or for None the standard output."""
    return nullcontext(sys.stdout) if path is None else atomic(path, newline="")


def out_folder(text: str) -> Path:
    """An argument that names a folder to write into, made if needed."""
    try:
        return check_output(text, folder=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device_argument(parser: argparse.ArgumentParser) -> None:
    """Add where a network computes."""
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1")


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a training."""
    parser.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE.toml", help="configuration")
    parser.add_argument("--out", required=True, type=out_folder, metavar="FOLDER", help="of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a key of the recipe, e.g. optim.lr=1e-4 (may be repeated)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    verbosity_arguments(parser)
    parser.set_defaults(progress=True)


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """What ``--set KEY=VALUE`` arguments change in a recipe, values read as TOML.

    Raises
    ------
    ProtokError
        If one is not of that form.
    """
    import tomllib

    from protok.errors import ProtokError

    values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not key or not equals:
            raise ProtokError(f"--set {override}", "give KEY=VALUE")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:  # a string that nobody quoted
            values[key] = text
    return values


def print_nested(description: dict, indent: str = "") -> None:
    """Print a dictionary of plain values, a line a key; empty ones are left out."""
    for key, value in description.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{key}:")
            print_nested(value, indent + "  ")
        elif isinstance(value, list) and value:
            print(f"{indent}{key}: {'; '.join(map(str, value))}")
        elif value not in ({}, []):
            print(f"{indent}{key}: {value}")


def print_json(value: Any) -> None:
    """Print a value as JSON, which has no NaN: null."""
    print(json.dumps(finite(value), indent=1))


def print_result(value: dict, as_json: bool) -> None:
    """Print a dictionary of plain values, as JSON or a line a key."""
    if as_json:
        print_json(value)
    else:
        print_nested(value)


def add_verbs(commands, name: str, what: str, description: str):
    """Add a command that has commands of its own; returns where these are added."""
    group = commands.add_parser(name, help=what, description=description, allow_abbrev=False)
    return group.add_subparsers(title="commands", required=True, metavar="COMMAND")


def run_training(arguments: argparse.Namespace, module: str, use: str, **data: Any) -> int:
    """Let a module train what `run_arguments` say, and say how to `use` the model; an exit code."""
    from importlib import import_module

    training = import_module(module)
    overrides = settings(arguments.overrides)
    with spoken_warnings():
        model = training.run(
            arguments.recipe, out=arguments.out, overrides=overrides, resume=arguments.resume, **data
        )
    tell(use.format(model=model))
    return OK


MODEL = "protok-1"
EXIT_CODES = """\
exit codes: 0 all well; 1 some inputs failed (see the error table), or nothing got a code;
2 wrong use, or a full disk; 130 interrupted; 143 ended by SIGTERM
"""


def add_command(commands, name: str, task: str, run) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=task, description=task[0].upper() + task[1:] + ".", epilog=EXIT_CODES, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def parse_seconds(text: str) -> float:
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def parse_bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "B")
    if not number.isdecimal() or int(number) < 1 or unit not in "BKMG":
        raise argparse.ArgumentTypeError(f"{text!r} is no size: a number, or 100K, 500M, 2G")
    return int(number) << 10 * "BKMG".index(unit)


def parse_model(text: str) -> int | str:
    return text if text == "all" else number(text)


def parse_ranges(text: str) -> str:
    from protok.errors import ProtokError
    from protok.structure.io.options import ReadOptions

    try:
        return ReadOptions(residues=text).residues
    except ProtokError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


#: Where the parser leaves an option of `protok.structure.io.options.ReadOptions`: READ and its name.
READ = "read_"


def reading_arguments(parser: argparse.ArgumentParser, chain: bool = True) -> None:
    """Add the options of reading structure files; `chain` can be left out by what goes by chains itself."""
    group = parser.add_argument_group("how structure files are read")

    def add(flag: str, name: str, **details: Any) -> None:
        group.add_argument(flag, dest=f"{READ}{name}", **details)

    if chain:
        add("--chain", "chain", metavar="ID", help="only these chains: A, or A,B")
    add(
        "--range",
        "residues",
        type=parse_ranges,
        metavar="N-M",
        help="only residues of these numbers of the file: 10-90, or 10-90,120-150; --range=-5-10 from -5 on",
    )
    add(
        "--model-number",
        "model",
        type=parse_model,
        metavar="N",
        help="which model of a file, counted from 1 (default: 1); all for each as a structure of its own",
    )
    add(
        "--assembly",
        "assembly",
        metavar="ID",
        help="build this biological assembly of the file, mostly 1 (default: coordinates as they are)",
    )
    add(
        "--sequence",
        "sequence",
        metavar="FASTA",
        help="put chains on their whole sequences, of this file, or of the structure file itself with "
        "--sequence file: residues without atoms get no token",
    )
    add(
        "--min-plddt",
        "min_plddt",
        type=float,
        metavar="P",
        help="residues of a model with a lower pLDDT get no token",
    )
    add(
        "--max-bfactor",
        "max_bfactor",
        type=float,
        metavar="B",
        help="residues with a higher B-factor get no token",
    )
    add(
        "--chain-ids",
        "chain_ids",
        choices=("author", "label"),
        help="which chain ids of an mmCIF file (default: author)",
    )
    add(
        "--keep-truncated",
        "truncated",
        action="store_const",
        const="keep",
        help="take what there is of a file that was cut off, instead of refusing it",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `reading_arguments` that were given."""
    return {
        key.removeprefix(READ): value
        for key, value in vars(arguments).items()
        if key.startswith(READ) and value is not None
    }
