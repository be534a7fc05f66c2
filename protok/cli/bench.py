"""`protok bench`: arguments and printing only."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from protok.cli.options import FAILED, OK, USAGE, count, out_file, out_folder, say, tell, verbosity_arguments

EPILOG = """\
also: protok bench prepare STRUCTURES... -o FOLDER   make a data folder
      protok bench report RESULTS -o report.html     one page of tables and plots
      protok bench pack FOLDER -o results.parquet    all result files as one
exit codes: 0 all well; 1 some tasks failed (they are rows of the table), or some files could not
be read; 2 wrong use
"""

LABELS = """\
a CSV of labels has the column id (a chain of the structures: file stem and chain, 1aki_A) and
  residue, label   a row a residue: its number in the file, 52 or 52A; 0, 1, x or a number
  label            a row a chain: a string of 0, 1 and x, or numbers separated by blanks
  fold             a row a domain; optional superfamily, family, region (2-129)
and optionally split (train, valid, anything else is a test) or cluster (members stay together).
Folds of fewer than 10 domains are left out by the probe.
"""


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok bench` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--list", action="store_true", help="list tasks, or tasks and chains of --data")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="tokenizer: a name, a folder, a .npz of precomputed tokens; NAME:continuous for "
        "embeddings; also NAME:ids, :states, :decoder, :kmeans64 (may be repeated); see "
        "protok/bench/README.md",
    )
    parser.add_argument(
        "--tasks",
        default="all",
        metavar="A,B",
        help="default: all there is data for; NAME.z: values as z-scores in each chain",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="data folder, official release, folder or Parquet file of structures, or mini (default)",
    )
    parser.add_argument(
        "--train",
        metavar="PATH",
        help="structures as for --data, or a token file, that a small language model learns codes from, "
        "for the tasks learnability and rate, which take long",
    )
    parser.add_argument(
        "--quick", action="store_true", help="let it learn for 200 steps, not 2,000; rows say so"
    )
    parser.add_argument(
        "-o", "--out", type=out_folder, metavar="FOLDER", help="for result files; reused if unchanged"
    )
    parser.add_argument(
        "--probe", choices=("fast", "paper", "linear", "reader"), default="fast", help="default: fast"
    )
    parser.add_argument(
        "--cache", type=out_folder, metavar="FOLDER", help="for codes and embeddings, to go on later"
    )
    parser.add_argument("--seeds", metavar="N,N", help="repeat probes with these seeds; linear has none")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    verbosity_arguments(parser)
    # Without a second word the command measures, so its own options must not be required.
    actions = parser.add_subparsers(metavar="{prepare,report,pack}")
    prepare = actions.add_parser(
        "prepare",
        help="make a data folder",
        allow_abbrev=False,
        epilog=LABELS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.set_defaults(run=_prepare)
    prepare.add_argument("structures", nargs="+", help="structure files, folders, patterns")
    prepare.add_argument("-o", "--out", required=True, type=out_folder, metavar="FOLDER")
    prepare.add_argument("--labels", nargs="+", default=[], metavar="CSV", help="a table of labels each")
    prepare.add_argument("--pairs", metavar="CSV", help="id1, id2, optional set and tm")
    prepare.add_argument(
        "--unlisted",
        choices=("auto", "0", "x"),
        default="auto",
        help="label of residues that a table with a row a residue does not list",
    )
    prepare.add_argument("--no-ligands", action="store_true", help="no table of ligand contacts")
    report = actions.add_parser("report", help="write an HTML page", allow_abbrev=False)
    report.set_defaults(run=_report)
    report.add_argument("results", metavar="RESULTS", help="folder of result files, or what pack made of it")
    report.add_argument("--group", default="", metavar="NAME", help="of several folders packed together, one")
    report.add_argument("-o", "--html", type=out_file, default="report.html", metavar="FILE")
    pack = actions.add_parser("pack", help="put all result files into one Parquet file", allow_abbrev=False)
    pack.set_defaults(run=_pack)
    pack.add_argument("folder", metavar="FOLDER", help="of result files, or of folders of them")
    pack.add_argument("-o", "--out", type=out_file, default="results.parquet", metavar="FILE")


def bench(arguments: argparse.Namespace) -> int:
    """Run `protok bench` without a second word: measure."""
    if arguments.list:
        return _list(arguments)
    if not arguments.model:
        say("error: give --model NAME, or --list")
        return USAGE
    try:
        seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else None
    except ValueError:
        say(f"error: --seeds {arguments.seeds}: give whole numbers, 1,2,3")
        return USAGE
    from protok.bench.data.opening import open_data
    from protok.bench.evaluation import evaluate

    folder = open_data(arguments.data or "mini")
    _complain(folder.errors)
    done = evaluate(
        arguments.model,
        [name.strip() for name in arguments.tasks.split(",")],
        folder,
        train=arguments.train,
        quick=arguments.quick,
        out=arguments.out,
        probe=arguments.probe,
        seeds=seeds,
        cache=arguments.cache,
        progress=tell,
        about={"command": shlex.join(["protok", *sys.argv[1:]])},
    )
    if arguments.json:
        import json

        from protok.common.files import finite

        print(json.dumps(finite([row.to_dict() for row in done]), indent=1))
    else:
        print(done)
    for row in done.failed:
        say(f"failed: {row.tokenizer['name']}, {row.task['name']}: {row.error}")
    return FAILED if done.failed or done.unread else OK


def _list(arguments: argparse.Namespace) -> int:
    from protok.bench.tasks import TASKS

    if arguments.data is None:
        say("all tasks that protok knows; --list --data FOLDER, or mini, says which its data have")
        for task in TASKS.values():
            splits = f" ({', '.join(task.splits)})" if task.splits else ""
            print(f"{task.name:16} {task.metric:12} {task.what}{splits}")
        return OK
    from protok.bench.data.opening import open_data
    from protok.bench.evaluation import available, names

    folder = open_data(arguments.data)
    for name in available(folder, arguments.train is not None):
        print(name)
    chains = names(folder)
    print(f"{count(len(chains), 'chain')}: {' '.join(chains)}")
    return OK


def _prepare(arguments: argparse.Namespace) -> int:
    from protok.bench.data.prepare import prepare

    made = prepare(
        arguments.structures,
        arguments.out,
        labels=arguments.labels,
        pairs=arguments.pairs,
        unlisted=arguments.unlisted,
        ligands=not arguments.no_ligands,
    )
    for name, splits in made.tables.items():
        print(f"{name}: {', '.join(f'{n} {split}' for split, n in splits.items())}")
    say(f"{made.structures} chains, {made.pairs} pairs in {made.out}")
    _complain(made.errors)
    return FAILED if made.errors else OK


def _complain(errors: Sequence[tuple[str, str]]) -> None:
    for path, reason in errors:
        say(f"error: {path}: {reason}")


def _report(arguments: argparse.Namespace) -> int:
    from protok.bench.packing import load_results
    from protok.bench.report import write_report

    write_report(load_results(arguments.results, arguments.group), arguments.html)
    say(f"the report is in {arguments.html}")
    return OK


def _pack(arguments: argparse.Namespace) -> int:
    from protok.bench.packing import pack

    say(f"{pack(arguments.folder, arguments.out)} results in {arguments.out}")
    return OK
