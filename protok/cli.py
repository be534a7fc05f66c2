"""The command line: `protok encode | decode | search | train | bench | view | ...`.

Arguments are parsed and results printed here; the work is done by the modules that are imported
when a command needs them, so that `protok --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from protok.commandline import FAILED, INTERRUPTED, OK, USAGE
from protok.commandline import count as _count
from protok.commandline import device_argument as _device_argument
from protok.commandline import print_json as _print_json
from protok.commandline import print_nested as _print_nested
from protok.commandline import row as _row
from protok.commandline import say as _say
from protok.train_command import train, train_arguments

MODEL = "protok-512"

EXIT_CODES = """\
exit codes: 0 all well; 1 some inputs failed (see the error table); 2 wrong use; 130 interrupted
"""


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
        _say(": ".join(["interrupted", *map(str, error.args)]))
        return INTERRUPTED
    except ProtokError as error:
        _say(f"error: {error}")
        return USAGE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _say(f"error: {place}{error.strerror or error}")
        return USAGE


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    from protok.bench import command as bench
    from protok.image.command import add_image
    from protok.prior.command import add_prior
    from protok.view_command import add_views

    top = argparse.ArgumentParser(
        prog="protok",
        description="Protein backbones to discrete codes and back.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _encode_arguments(_command(commands, "encode", "structure files to tokens", _encode))
    _decode_arguments(_command(commands, "decode", "tokens to structure files", _decode))
    train_arguments(_command(commands, "train", "train or fine-tune a tokenizer", train))
    bench.arguments(_command(commands, "bench", "measure how good tokenizers are", bench.run))
    info = _command(commands, "info", "say what a model, token file or structure file is", _info)
    info.add_argument("what", help="name or folder of a model, a token file, or a structure file")
    info.add_argument("--json", action="store_true", help="print JSON")
    add_views(commands, _command, MODEL, (_reading_arguments, _reading))
    from protok import search_command as finding

    finding.export_arguments(
        _command(commands, "export", "tokens for language models and others", finding.export)
    )
    finding.search_arguments(
        _command(commands, "search", "chains of a token file like a query", finding.search)
    )
    finding.matrix_arguments(
        _command(commands, "matrix", "substitution matrix of codes from homologs", finding.matrix)
    )
    add_image(commands, _command)
    add_prior(commands, _command)
    return top


def _command(commands, name: str, what: str, run) -> argparse.ArgumentParser:
    one = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=EXIT_CODES,
        allow_abbrev=False,
    )  # fmt: skip
    one.set_defaults(run=run)
    return one


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser, namespace, values, option_string=None):
        from protok import __version__

        print(f"protok {__version__}")
        parser.exit()


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "B")
    if not number.isdecimal() or int(number) < 1 or unit not in "BKMG":
        raise argparse.ArgumentTypeError(f"{text!r} is no size: a number, or 100K, 500M, 2G")
    return int(number) << 10 * "BKMG".index(unit)


def _reading_arguments(one: argparse.ArgumentParser) -> None:
    group = one.add_argument_group("how structure files are read")
    group.add_argument(
        "--model-number", type=int, default=1, metavar="N",
        help="which model of a file, counted from 1 (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--chain-ids", choices=("author", "label"), default="author",
        help="which chain ids of an mmCIF file (default: author)",
    )  # fmt: skip
    group.add_argument(
        "--keep-truncated", action="store_true",
        help="take what there is of a file that was cut off, instead of refusing it",
    )  # fmt: skip


def _reading(arguments: argparse.Namespace) -> dict:
    return {
        "model": arguments.model_number,
        "chain_ids": arguments.chain_ids,
        "truncated": "keep" if arguments.keep_truncated else "error",
    }


def _encode_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="structure files (.pdb .cif .bcif .fcz, also .gz .zst), folders (links in them to "
        "folders are not followed), patterns; archives (.tar .tar.gz .zip, Foldcomp databases); "
        "@FILE with a path a line, - for such lines on the standard input; or a store of training",
    )  # fmt: skip
    one.add_argument(
        "-o", "--out", metavar="FILE",
        help=".parquet, .fasta, .csv or .npz, or a folder for a Parquet dataset; without it FASTA "
        "goes to the standard output",
    )  # fmt: skip
    one.add_argument(
        "--model", default=MODEL,
        help=f"{MODEL} (default), 3di, protein-blocks, or the folder of a model",
    )  # fmt: skip
    one.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="processes (default: 1)")
    _device_argument(one)
    one.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="processes of this machine (default), or a Ray cluster with --jobs readers and "
        "--jobs encoders; needs -o",
    )  # fmt: skip
    one.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster (default: local)")
    one.add_argument(
        "--gpus", type=float, default=0.0, metavar="N", help="GPUs for each encoder of Ray"
    )
    one.add_argument(
        "--compute", default="torch", metavar="HOW",
        help="torch (default), onnx, compile, native, bf16, fast: see the documentation of "
        "protok.fast",
    )  # fmt: skip
    one.add_argument("--chain", metavar="ID", help="only these chains: A, or A,B")
    one.add_argument(
        "--across-chains", action="store_true",
        help="let neighbourhoods cross chains (default: each chain alone, as in training)",
    )  # fmt: skip
    one.add_argument(
        "--on-error", choices=("skip", "stop"), default="skip",
        help="after an input that failed: go on (default), or stop",
    )  # fmt: skip
    one.add_argument(
        "--errors", metavar="FILE",
        help="table of failed inputs: file, chain, reason (default: errors.tsv beside the output)",
    )  # fmt: skip
    one.add_argument(
        "--overwrite", action="store_true",
        help="replace an output that was made of something else; of unfinished work drop what was "
        "made otherwise, and try again what failed",
    )  # fmt: skip
    one.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="give up an input that takes longer (default: 600 with several "
        "processes or to go on after a kill, else none)",
    )  # fmt: skip
    one.add_argument(
        "--max-bytes", type=_bytes, metavar="N",
        help="refuse inputs that hold more, unpacked: 500M, 2G (default: 2G)",
    )  # fmt: skip
    one.add_argument(
        "--unordered", action="store_true", help="records as they are done, not as the inputs"
    )
    one.add_argument("--json", action="store_true", help="print a summary as JSON; needs -o")
    _reading_arguments(one)


def _encode(arguments: argparse.Namespace) -> int:
    reading = _reading(arguments) | {
        "chain": arguments.chain,
        "across_chains": arguments.across_chains,
        "max_bytes": arguments.max_bytes,
    }
    from dataclasses import asdict

    from protok.pipeline.encode import Stopped, encode_all, encode_store, parts_of

    # What ended a run before its end may be the next input: a worker process survives that.
    stopped = arguments.out is not None and parts_of(arguments.out).exists()
    if arguments.timeout is None and (arguments.jobs > 1 or stopped):
        arguments.timeout = 600.0
    if arguments.engine != "ray" and (arguments.gpus or arguments.address):
        _say("error: --gpus and --address need --engine ray")
        return USAGE
    if arguments.device != "cpu":
        import protok

        if arguments.compute != "torch" or arguments.engine == "ray" or arguments.jobs > 1:
            _say("error: --device goes with one process and --compute torch; Ray has --gpus")
            return USAGE
        arguments.model = protok.load(arguments.model)
        if not hasattr(arguments.model, "to"):
            _say(f"error: {arguments.model.name} has no network; leave --device out")
            return USAGE
        arguments.model.to(arguments.device)
    elif arguments.compute != "torch":
        import protok
        from protok.fast import accelerate

        arguments.model = accelerate(protok.load(arguments.model), arguments.compute)
    if arguments.out is None:
        return _encode_to_stdout(arguments, reading)
    from protok.pipeline.ray import Cluster

    if [Path(one).suffix for one in arguments.inputs] == [".parquet"]:
        # A store of structures; token files have no coordinates to encode.
        given = ("overwrite", "errors", "chain", "across_chains", "max_bytes", "unordered")
        if of_files := [f"--{one.replace('_', '-')}" for one in given if getattr(arguments, one)]:
            _say(f"error: {', '.join(of_files)}: not for a store of structures")
            return USAGE
        summary = encode_store(arguments.inputs[0], arguments.model, arguments.out)
        _say(
            f"{_count(summary.chains, 'chain')}, {_count(summary.residues, 'residue')} in "
            f"{summary.out} ({summary.codebook}), {summary.seconds:.1f} s"
        )
        if arguments.json:
            _print_json(asdict(summary))
        return OK
    jobs, cluster = arguments.jobs, None
    if arguments.engine == "ray":
        cluster = Cluster(arguments.address, jobs, jobs, arguments.gpus)
    try:
        summary = encode_all(
            arguments.inputs, arguments.model, arguments.out, jobs=jobs, cluster=cluster,
            errors=arguments.errors, overwrite=arguments.overwrite, on_error=arguments.on_error,
            ordered=not arguments.unordered, timeout=arguments.timeout, **reading,
        )  # fmt: skip
    except Stopped as error:
        _say(f"stopped: {error}")
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    if arguments.json:
        _print_json(asdict(summary))
    state = ""
    if summary.resumed == summary.files:
        state = ", complete before"
    elif summary.resumed:
        state = f", {summary.resumed} files done before"
    _say(
        f"{_count(summary.files - summary.failed, 'file')}, {_count(summary.chains, 'chain')}, "
        f"{_count(summary.residues, 'residue')} in {summary.out} ({summary.codebook}), "
        f"{summary.seconds:.1f} s{state}"
    )
    if summary.notes:
        noted = len({file for file, _ in summary.notes})
        _say(f"readers left out or mended something in {_count(noted, 'file')}: see --json")
    if not summary.failed:
        return OK
    table = arguments.errors or Path(summary.out).parent / "errors.tsv"
    _say(f"{_count(summary.failed, 'file')} failed, listed in {table}; the first: "
         f"{_row(*summary.errors[0])}")  # fmt: skip
    if summary.resumed == summary.files:
        _say("they failed before and were not tried again: --overwrite does all anew")
    return FAILED


def _encode_to_stdout(arguments: argparse.Namespace, reading: dict) -> int:
    if arguments.json or arguments.overwrite or arguments.engine != "local":
        _say("error: --json, --overwrite and --engine need an output file, -o")
        return USAGE
    from protok.common.files import write_errors
    from protok.pipeline.batches import encode_files
    from protok.tokens.fasta import fasta

    rows: list[tuple[str, str, str]] = []
    for result in encode_files(
        arguments.inputs, arguments.model, jobs=arguments.jobs,
        ordered=not arguments.unordered, timeout=arguments.timeout, **reading,
    ):  # fmt: skip
        for one in result.tokens:
            sys.stdout.write(fasta(one))
        for error in result.errors:
            rows.append((result.path, error.chain, error.reason))
            _say(f"error: {error}")
        if rows and arguments.on_error == "stop":
            break
    sys.stdout.flush()
    if arguments.errors is not None:
        write_errors(rows, Path(arguments.errors))
    return FAILED if rows else OK


def _decode_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("tokens", metavar="TOKENS", help=".parquet, .fasta, .csv or .npz")
    one.add_argument("-o", "--out", required=True, metavar="FOLDER", help="for NAME_CHAIN.pdb")
    one.add_argument(
        "--model", help="name or folder of the model (default: the one that the tokens name)"
    )
    one.add_argument("--format", choices=("pdb", "cif"), default="pdb", help="default: pdb")
    one.add_argument(
        "--compare", nargs="+", metavar="PATH",
        help="originals: print RMSD, TM-score and lDDT of each chain, and the means",
    )  # fmt: skip
    one.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="processes (default: 1)")
    one.add_argument("--table", metavar="FILE", help="write the table as CSV")
    one.add_argument("--json", action="store_true", help="print the table as JSON")
    _reading_arguments(one)


def _decode(arguments: argparse.Namespace) -> int:
    from protok.pipeline.decode import decode_all

    result = decode_all(
        arguments.tokens, arguments.out, arguments.model, compare=arguments.compare,
        suffix=f".{arguments.format}", jobs=arguments.jobs, **_reading(arguments),
    )  # fmt: skip
    if arguments.table is not None:
        _write_table(result, Path(arguments.table))
    if arguments.json:
        from dataclasses import asdict

        _print_json({**asdict(result), "means": result.means()})
    elif arguments.compare is not None:
        _print_table(result)
    _say(f"{_count(len(result.chains), 'chain')} in {arguments.out} ({result.codebook})")
    for name, chain, reason in result.errors[:10]:
        _say(f"error: {_row(name, chain, reason)}")
    if len(result.errors) > 10:
        _say(f"and {len(result.errors) - 10} more failed: see --json")
    return FAILED if result.errors else OK


def _print_table(result) -> None:
    width = max([len("name"), *(len(one.name) for one in result.chains)])
    line = f"{{:{width}}}  {{:5}}  {{:>6}}  {{:>6}}  {{:>8}}  {{:>5}}"
    print(line.format("name", "chain", "length", "RMSD", "TM-score", "lDDT"))
    for one in result.chains:
        scores = f"{one.rmsd:.2f}", f"{one.tm_score:.3f}", f"{one.lddt:.3f}"
        print(line.format(one.name, one.chain, one.length, *scores))
    means = result.means()
    scores = f"{means['rmsd']:.2f}", f"{means['tm_score']:.3f}", f"{means['lddt']:.3f}"
    print(line.format("mean", "", means["chains"], *scores).rstrip() + "   (length: chains)")


def _write_table(result, path: Path) -> None:
    import csv
    from dataclasses import asdict, fields

    from protok.pipeline.decode import Rebuilt

    with open(path, "w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, [field.name for field in fields(Rebuilt)])
        table.writeheader()
        table.writerows(asdict(one) for one in result.chains)


def _info(arguments: argparse.Namespace) -> int:
    from protok.describe import describe

    said = describe(arguments.what)
    if arguments.json:
        _print_json(said)
    else:
        _print_nested(said)
    return OK
