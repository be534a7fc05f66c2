"""`protok embed`: structure files to vectors."""

from __future__ import annotations

import argparse

from protok.cli import options
from protok.cli.encode import job_arguments, job_settings, prepare, run_job


def embed_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok embed`."""
    job_arguments(
        parser,
        out=".parquet, or a folder for a Parquet dataset: a row a chain",
        models=f"{options.MODEL} (default), 3di or protein-blocks (letters as vectors of zeros and a one)",
        required=True,
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=("latents", "states", "mean"),
        default=[],
        help="latents of residues, hidden states of residues, the mean of the states of a chain "
        "(default: all that the model has)",
    )
    parser.add_argument(
        "--alternatives",
        type=options.number,
        default=0,
        metavar="K",
        help="add the K nearest codes of each residue, their distances, and the margin of the first",
    )


def embed(arguments: argparse.Namespace) -> int:
    """Run `protok embed`."""
    from protok.pipeline.embed import embed_all

    if code := prepare(arguments):
        return code
    settings = job_settings(arguments) | options.reading_options(arguments)
    settings |= {"columns": arguments.columns, "alternatives": arguments.alternatives}
    return run_job(arguments, lambda: embed_all(arguments.inputs, arguments.model, arguments.out, **settings))
