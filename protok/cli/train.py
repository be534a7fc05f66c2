"""`protok train`: its arguments, and what it says; the work is done by `protok.training.run`."""

from __future__ import annotations

import argparse
import os

from protok.cli.options import (
    FAILED,
    OK,
    count,
    reading_arguments,
    reading_options,
    run_arguments,
    say_failed,
    settings,
    spoken_warnings,
    tell,
)

TRAIN = """\
Train a tokenizer from scratch, or fine-tune one on a folder of structures (--init).

Chains are held out by clusters of sequences (mmseqs, where it is installed), listed in
FOLDER/split.csv. FOLDER also gets metrics.csv, training.svg, model/ and, of fine-tuning, report.md:
the scores of held-out chains, and of chains of another kind, before and after. What nobody
sets in fine-tuning follows from the number of chains. A run that was killed goes on with --resume,
under the settings in FOLDER/recipe.json. Files that cannot be read are listed in
FOLDER/train.errors.tsv.
"""


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description, parser.formatter_class = TRAIN, argparse.RawDescriptionHelpFormatter
    run_arguments(parser)
    parser.add_argument(
        "--structures", metavar="PATH", help="folder of structures, or a parsed store (.parquet)"
    )
    parser.add_argument("--init", metavar="MODEL", help="fine-tune this model: a name, or a folder")
    parser.add_argument(
        "--codebook",
        choices=("frozen", "adapted", "new"),
        help="with --init: letters, step network and keyframes stay, so tokens stay the same, and the "
        "refiner is trained (frozen, the default); all go on learning (adapted); letters and keyframes are "
        "placed anew (new)",
    )
    parser.add_argument(
        "--forgetting",
        metavar="PATH",
        help="with --init: store or folder on which to see what is lost (default: some bundled chains)",
    )
    reading_arguments(parser)


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments say; return the exit code."""
    overrides = settings(arguments.overrides)
    overrides |= {f"data.read.{key}": value for key, value in reading_options(arguments).items()}
    for key in ("codebook", "forgetting"):
        if getattr(arguments, key) is not None:
            overrides[f"finetune.{key}"] = getattr(arguments, key)
    from protok.training.run import run

    # Of several processes one speaks; torchrun alone says RANK, Lightning says LOCAL_RANK.
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    with spoken_warnings(first):
        model = run(
            arguments.recipe,
            structures=arguments.structures,
            init=arguments.init,
            out=arguments.out,
            overrides=overrides,
            resume=arguments.resume,
        )
    if not first:
        return OK
    if (arguments.out / "report.md").exists():
        tell(f"what fine-tuning gave, and cost, is in {arguments.out / 'report.md'}")
    tell(f"the model is in {model}; use it with --model {model}")
    failed = 0
    for table in sorted(arguments.out.glob("*.errors.tsv")):
        rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
        failed += len(rows)
        if rows:
            say_failed(count(len(rows), "input"), table, rows)
    return FAILED if failed else OK
