"""What the commands share: exit codes, and how they read settings and print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protok.common.files import finite

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def say(text: str) -> None:
    """Print a message for people, on the standard error."""
    print(f"protok: {text}", file=sys.stderr)


def count(n: int, what: str) -> str:
    """A number of things, in words."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def row(file: str, chain: str, reason: str) -> str:
    """A row of an error table, as a message."""
    return f"{file}{', chain ' + chain if chain else ''}: {reason}"


def number(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def device_argument(one: argparse.ArgumentParser) -> None:
    """Add where a network computes."""
    one.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1")


def run_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of a training."""
    one.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE.toml", help="configuration")
    one.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="of the run")
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a key of the recipe, e.g. optim.lr=1e-4 (may be repeated)",
    )
    one.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")


def settings(given: Sequence[str]) -> dict[str, Any]:
    """What ``--set KEY=VALUE`` arguments change in a recipe.

    Raises
    ------
    ProtokError
        If one is not of that form.
    """
    from protok.errors import ProtokError

    found = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ProtokError(f"--set {setting}", "give KEY=VALUE")
        found[key] = toml_value(value)
    return found


def toml_value(text: str) -> Any:
    """A value as in a recipe; what is no TOML is a string that nobody quoted."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def print_nested(said: dict, indent: str = "") -> None:
    """Print a dictionary of plain values, a line a key; empty ones are left out."""
    for key, value in said.items():
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


def run_training(arguments: argparse.Namespace, module: str, remedy: str, use: str, **data: Any) -> int:
    """Let a module train what `run_arguments` say, and say how to `use` the model; an exit code."""
    from importlib import import_module

    try:
        training = import_module(module)
    except ModuleNotFoundError as error:
        say(f"error: training needs {error.name}: {remedy}")
        return USAGE
    overrides = settings(arguments.overrides)
    model = training.run(
        arguments.recipe, out=arguments.out, overrides=overrides, resume=arguments.resume, **data
    )
    say(use.format(model=model))
    return OK


MODEL = "protok-512"
EXIT_CODES = """\
exit codes: 0 all well; 1 some inputs failed (see the error table); 2 wrong use; 130 interrupted
"""


def add_command(commands, name: str, what: str, run) -> argparse.ArgumentParser:
    one = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=EXIT_CODES, allow_abbrev=False
    )
    one.set_defaults(run=run)
    return one


def parse_jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: 1 or more")
    return int(text)


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


def reading_arguments(one: argparse.ArgumentParser) -> None:
    group = one.add_argument_group("how structure files are read")
    group.add_argument(
        "--model-number",
        type=int,
        default=1,
        metavar="N",
        help="which model of a file, counted from 1 (default: 1)",
    )
    group.add_argument(
        "--chain-ids",
        choices=("author", "label"),
        default="author",
        help="which chain ids of an mmCIF file (default: author)",
    )
    group.add_argument(
        "--keep-truncated",
        action="store_true",
        help="take what there is of a file that was cut off, instead of refusing it",
    )


def reading_options(arguments: argparse.Namespace) -> dict:
    return {
        "model": arguments.model_number,
        "chain_ids": arguments.chain_ids,
        "truncated": "keep" if arguments.keep_truncated else "error",
    }
