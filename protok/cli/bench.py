"""`protok bench`: arguments and printing only."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from protok.cli.options import FAILED, OK, USAGE, say

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


def arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok bench` to its parser."""
    one.formatter_class = argparse.RawDescriptionHelpFormatter
    one.epilog = EPILOG
    one.set_defaults(action="evaluate")
    _evaluate_arguments(one)
    # Without a second word the command measures, so its own options must not be required.
    actions = one.add_subparsers(metavar="{prepare,report,pack}")
    prepare = actions.add_parser(
        "prepare",
        help="make a data folder",
        allow_abbrev=False,
        epilog=LABELS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.set_defaults(action="prepare")
    prepare.add_argument("structures", nargs="+", help="structure files, folders, patterns")
    prepare.add_argument("-o", "--out", required=True, metavar="FOLDER")
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
    report.set_defaults(action="report")
    report.add_argument("results", metavar="RESULTS", help="folder of result files, or what pack made of it")
    report.add_argument("--group", default="", metavar="NAME", help="of several folders packed together, one")
    report.add_argument("-o", "--html", default="report.html", metavar="FILE")
    pack = actions.add_parser("pack", help="put all result files into one Parquet file", allow_abbrev=False)
    pack.set_defaults(action="pack")
    pack.add_argument("folder", metavar="FOLDER", help="of result files, or of folders of them")
    pack.add_argument("-o", "--out", default="results.parquet", metavar="FILE")


def _evaluate_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("--list", action="store_true", help="list tasks (of --data, if given)")
    one.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="tokenizer: a name, a folder, a .npz of precomputed tokens; NAME:continuous for "
        "embeddings; also NAME:ids, :states, :decoder, :kmeans64 (may be repeated); see "
        "protok/bench/README.md",
    )
    one.add_argument(
        "--tasks",
        default="all",
        metavar="A,B",
        help="default: all there is data for; NAME.z: values as z-scores in each chain",
    )
    one.add_argument(
        "--data",
        metavar="FOLDER",
        help="data folder, official release, folder of structure files, or mini (default)",
    )
    one.add_argument("-o", "--out", metavar="FOLDER", help="for result files; reused if unchanged")
    one.add_argument("--probe", choices=("fast", "paper", "linear"), default="fast", help="default: fast")
    one.add_argument("--cache", metavar="FOLDER", help="for codes and embeddings, to go on later")
    one.add_argument("--seeds", metavar="N,N", help="repeat probes with these seeds; linear has none")
    one.add_argument("--json", action="store_true", help="print results as JSON")


def run(given: argparse.Namespace) -> int:
    """Do what was asked; return the exit code."""
    return {"evaluate": _evaluate, "prepare": _prepare, "report": _report, "pack": _pack}[given.action](given)


def _evaluate(given: argparse.Namespace) -> int:
    if given.list:
        return _list(given)
    if not given.model:
        say("error: give --model NAME, or --list")
        return USAGE
    try:
        seeds = [int(one) for one in given.seeds.split(",")] if given.seeds else None
    except ValueError:
        say(f"error: --seeds {given.seeds}: give whole numbers, 1,2,3")
        return USAGE
    from protok.bench.evaluation import evaluate, open_data

    folder = open_data(given.data or "mini")
    _complain(folder.errors)
    done = evaluate(
        given.model,
        [name.strip() for name in given.tasks.split(",")],
        folder,
        out=given.out,
        probe=given.probe,
        seeds=seeds,
        cache=given.cache,
        progress=say,
        about={"command": shlex.join(["protok", *sys.argv[1:]])},
    )
    if given.json:
        import json

        from protok.common.files import finite

        print(json.dumps(finite([row.to_dict() for row in done]), indent=1))
    else:
        print(done)
    for row in done.failed:
        say(f"failed: {row.tokenizer['name']}, {row.task['name']}: {row.error}")
    return FAILED if done.failed or done.unread else OK


def _list(given: argparse.Namespace) -> int:
    from protok.bench.tasks import TASKS

    if given.data is None:
        for task in TASKS.values():
            splits = f" ({', '.join(task.splits)})" if task.splits else ""
            print(f"{task.name:16} {task.metric:12} {task.what}{splits}")
        return OK
    from protok.bench.evaluation import available, open_data

    for name in available(open_data(given.data)):
        print(name)
    return OK


def _prepare(given: argparse.Namespace) -> int:
    from protok.bench.data.prepare import prepare

    made = prepare(
        given.structures,
        given.out,
        labels=given.labels,
        pairs=given.pairs,
        unlisted=given.unlisted,
        ligands=not given.no_ligands,
    )
    for name, splits in made.tables.items():
        print(f"{name}: {', '.join(f'{n} {split}' for split, n in splits.items())}")
    say(f"{made.structures} chains, {made.pairs} pairs in {made.out}")
    _complain(made.errors)
    return FAILED if made.errors else OK


def _complain(errors: Sequence[tuple[str, str]]) -> None:
    for path, reason in errors:
        say(f"error: {path}: {reason}")


def _report(given: argparse.Namespace) -> int:
    from protok.bench.packing import load_results
    from protok.bench.report import write_report

    write_report(load_results(given.results, given.group), Path(given.html))
    say(f"the report is in {given.html}")
    return OK


def _pack(given: argparse.Namespace) -> int:
    from protok.bench.packing import pack

    say(f"{pack(given.folder, given.out)} results in {given.out}")
    return OK
