"""`protok encode`: structure files to tokens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protok.cli import options

if TYPE_CHECKING:
    from protok.pipeline.encode import Summary


def encode_arguments(parser: argparse.ArgumentParser) -> None:
    job_arguments(
        parser,
        out=".parquet, .fasta, .csv or .npz, or a folder for a Parquet dataset; without it FASTA goes to the "
        "standard output",
        models=f"{options.MODEL} (default), 3di, protein-blocks",
        more="; or a store of training",
    )
    parser.add_argument(
        "--keyframes",
        type=int,
        metavar="N",
        help="a keyframe for each N residues: fewer cost fewer bits, more rebuild better; 0 for letters "
        "alone (default: 4; only of models that have keyframes)",
    )
    parser.add_argument(
        "--shapes-only",
        dest="environments",
        action="store_const",
        const=False,
        help="leave out the environment letters of models that have them: twice as fast",
    )


def job_arguments(
    parser: argparse.ArgumentParser, *, out: str, models: str, more: str = "", required: bool = False
) -> None:
    """Add the arguments of a batch job over structure files.

    `out` is the help of the output, which may be `required`, `models` names what may be given, `more` inputs
    of the command alone.
    """
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="structure files (.pdb .cif .bcif .fcz, also .gz .zst), folders (links in them to "
        "folders are not followed), patterns; archives (.tar .tar.gz .zip, Foldcomp databases); "
        f"@FILE with a path a line, - for such lines on the standard input{more}",
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=required, help=out)
    parser.add_argument("--model", default=options.MODEL, help=f"{models}, or the folder of a model")
    work_arguments(parser)
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes of this machine (default), or a Ray cluster with --jobs readers and "
        "--jobs encoders; needs -o",
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster (default: local)")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="N", help="GPUs for each encoder of Ray")
    parser.add_argument(
        "--max-bytes",
        dest=f"{options.READ}max_bytes",
        type=options.parse_bytes,
        metavar="N",
        help="refuse inputs that hold more, unpacked: 500M, 2G (default: 2G)",
    )
    parser.add_argument(
        "--unordered", action="store_true", help="records as they are done, not as the inputs"
    )
    options.reading_arguments(parser)


def work_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how a job works, whatever its inputs are."""
    parser.add_argument("--jobs", type=options.number, default=1, metavar="N", help="processes (default: 1)")
    options.device_argument(parser)
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="after an input that failed: go on (default), or stop",
    )
    parser.add_argument(
        "--errors",
        type=options.out_file,
        metavar="FILE",
        help="table of failed inputs: file, chain, reason (default: OUT.errors.tsv)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output that was made of something else; of unfinished work drop what was "
        "made otherwise, and try again what failed",
    )
    parser.add_argument(
        "--timeout",
        type=options.parse_seconds,
        metavar="SECONDS",
        help="give up an input that takes longer (default: 600 with several "
        "processes or to go on after a kill, else none)",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON; needs -o")
    options.verbosity_arguments(parser)


def encode(arguments: argparse.Namespace) -> int:
    """Run `protok encode`."""
    from protok.pipeline.encode import encode_all, encode_store

    if code := prepare(arguments):
        return code
    reading = options.reading_options(arguments)
    if arguments.out is None:
        return _encode_to_stdout(arguments, {**reading, **of_tokens(arguments)})
    # A store of structures; token files have no coordinates to encode.
    store = [Path(path).suffix for path in arguments.inputs] == [".parquet"]
    refused = [f"--{flag}" for flag in ("overwrite", "errors", "unordered") if getattr(arguments, flag)]
    refused += ["how files are read"] if reading else []
    if store and refused:
        options.say(f"error: {', '.join(refused)}: not for a store of structures")
        return options.USAGE
    if store:
        return run_job(
            arguments,
            lambda: encode_store(arguments.inputs[0], arguments.model, arguments.out, **of_tokens(arguments)),
            "begins anew",
        )
    settings = {**job_settings(arguments), **reading, **of_tokens(arguments)}
    return run_job(
        arguments, lambda: encode_all(arguments.inputs, arguments.model, arguments.out, **settings)
    )


def of_tokens(arguments: argparse.Namespace) -> dict[str, Any]:
    """What tokens are to have beside letters."""
    return {"keyframes": arguments.keyframes, "environments": arguments.environments}


def prepare(arguments: argparse.Namespace) -> int:
    """Check where a job is to run, and bring its model there; an exit code."""
    from protok.tokenizers.protocol import Movable
    from protok.tokenizers.registry import load

    ray = arguments.engine == "ray"
    set_timeout(arguments)
    if not ray and (arguments.gpus or arguments.address):
        options.say("error: --gpus and --address need --engine ray")
        return options.USAGE
    moved = arguments.device != "cpu"
    if moved and (ray or arguments.jobs > 1):
        options.say("error: --device goes with one process; Ray has --gpus")
        return options.USAGE
    if moved:
        tokenizer = arguments.model = load(arguments.model)
        if not isinstance(tokenizer, Movable):
            options.say(f"error: {tokenizer.name} has no network; leave --device out")
            return options.USAGE
        tokenizer.to(arguments.device)
    return options.OK


def set_timeout(arguments: argparse.Namespace) -> None:
    """Give a job a time limit where it has none and needs one."""
    from protok.pipeline.encode import parts_of

    # What ended a run before its end may be the next input: a worker process that ends is replaced.
    stopped = arguments.out is not None and parts_of(arguments.out).exists()
    if arguments.timeout is None and (arguments.jobs > 1 or stopped):
        arguments.timeout = 600.0


def job_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and how a job works."""
    from protok.pipeline.ray import Cluster

    ray = Cluster(arguments.address, arguments.jobs, arguments.jobs, arguments.gpus)
    return {
        "jobs": arguments.jobs,
        "ray": ray if arguments.engine == "ray" else None,
        "errors": arguments.errors,
        "overwrite": arguments.overwrite,
        "on_error": arguments.on_error,
        "ordered": not arguments.unordered,
        "timeout": arguments.timeout,
    }


def run_job(
    arguments: argparse.Namespace,
    job: Callable[[], Summary],
    again: str = "goes on where it stopped",
    units: tuple[str, str] = ("chain", "residue"),
) -> int:
    """Run a batch job and say what it came to; an exit code.

    `again` is what the same command does later, `units` are what a file holds and what that consists of.
    """
    from dataclasses import asdict

    from protok.pipeline.encode import Stopped, errors_of

    try:
        summary = job()
    except Stopped as error:
        options.say(f"stopped: {error}")
        return options.FAILED
    except KeyboardInterrupt as error:
        error.args = (f"the same command {again}",)
        raise
    if arguments.json:
        options.print_json(asdict(summary))
    state = f", {summary.resumed} files done before" if summary.resumed else ""
    if summary.resumed == summary.files:
        state = ", complete before"
    where = f"in {summary.out}" if summary.chains else f"and no {summary.out}"
    made = f"{options.count(summary.chains, units[0])}, {options.count(summary.residues, units[1])} {where}"
    options.tell(
        f"{options.count(summary.files - summary.failed, 'file')}, {made} ({summary.codebook}), "
        f"{summary.seconds:.1f} s{state}"
    )
    options.say_notes(summary.notes)
    if summary.uncoded:
        every = ": nothing was encoded" if summary.uncoded == summary.chains else ""
        options.say(f"{options.count(summary.uncoded, 'chain')} without any code{every}")
    if not summary.failed:
        return options.FAILED if summary.chains == summary.uncoded else options.OK
    table = arguments.errors or errors_of(summary.out)
    options.say_failed(options.count(summary.failed, "file"), table, summary.errors)
    if summary.resumed == summary.files:
        options.say("they failed before and were not tried again: --overwrite does all anew")
    return options.FAILED


def _encode_to_stdout(arguments: argparse.Namespace, reading: dict) -> int:
    if arguments.json or arguments.overwrite or arguments.engine != "local":
        options.say("error: --json, --overwrite and --engine need an output file, -o")
        return options.USAGE
    from protok.common.files import write_errors
    from protok.pipeline.batches import encode_files
    from protok.tokens.fasta import fasta

    rows: list[tuple[str, str, str]] = []
    notes: list[tuple[str, str]] = []
    coded = False
    for result in encode_files(
        arguments.inputs,
        arguments.model,
        jobs=arguments.jobs,
        ordered=not arguments.unordered,
        timeout=arguments.timeout,
        **reading,
    ):
        sys.stdout.writelines(map(fasta, result.tokens))
        coded |= not all(tokens.uncoded for tokens in result.tokens)
        notes.extend((result.path, note) for note in result.notes)
        for error in result.errors:
            rows.append((result.path, error.chain, error.reason))
            options.say(f"error: {error}")
        if rows and arguments.on_error == "stop":
            break
    sys.stdout.flush()
    options.say_notes(notes)
    if arguments.errors is not None:
        write_errors(rows, arguments.errors)
    return options.FAILED if rows or not coded else options.OK
