"""`protok frames`: codes of the frames of a trajectory or the models of a file, and what switches."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from protok.cli import options

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone
    from protok.tokens.tokens import Tokens

#: Residues whose code is unlike their commonest in more than this share of frames are said to switch.
OFTEN = 0.1
#: Frames that are tokenized together.
BATCH = 32


def frames_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok frames`."""
    parser.add_argument(
        "structure", metavar="STRUCTURE", help="all atoms of the trajectory, in its order: PDB, mmCIF, GRO"
    )
    parser.add_argument(
        "trajectories",
        nargs="*",
        metavar="TRAJECTORY",
        help=".xtc .trr .dcd; without one, the models of the structure file",
    )
    parser.add_argument("-o", "--out", required=True, type=options.out_file, metavar="FILE", help="of tokens")
    parser.add_argument(
        "--switches",
        type=options.out_file,
        metavar="FILE",
        help="table of residues, tab-separated: how many codes, how often which, how often they change",
    )
    parser.add_argument(
        "--every", type=options.number, default=1, metavar="N", help="take each N-th frame (default: 1)"
    )
    parser.add_argument("--model", default=options.MODEL, help=f"name or folder (default: {options.MODEL})")
    options.verbosity_arguments(parser)
    options.reading_arguments(parser)


def frames(arguments: argparse.Namespace) -> int:
    """Run `protok frames`."""
    from itertools import islice

    from protok.analysis.substitution import default_matrix
    from protok.analysis.switches import Switch, Switches
    from protok.common.files import atomic
    from protok.common.tables import write_table
    from protok.structure.backbone import BOND_LIMIT, bond_lengths
    from protok.tokenizers.protocol import codes_alone
    from protok.tokenizers.registry import load
    from protok.tokens.files import format_of, save

    format_of(arguments.out)
    tokenizer = load(arguments.model)
    switches = Switches(default_matrix(tokenizer).scores)
    count, torn, bonds = 0, 0, None

    def encoded() -> Iterator[Tokens]:
        nonlocal count, torn, bonds
        structures = _structures(arguments)
        while batch := list(islice(structures, BATCH)):
            for structure, tokens in zip(batch, codes_alone(tokenizer, batch), strict=True):
                bonded = int((bond_lengths(structure.coords) < BOND_LIMIT).sum())
                bonds = bonded if bonds is None else bonds
                count, torn = count + 1, torn + (bonded < bonds)
                switches.add(tokens)
                yield tokens

    save(encoded(), arguments.out)
    residues = switches.residues()
    if arguments.switches is not None:
        with atomic(arguments.switches, newline="") as handle:
            write_table(Switch, residues, handle)
    often = [residue for residue in residues if residue.unlike > OFTEN]
    options.tell(f"{options.count(count, 'frame')} in {arguments.out} ({tokenizer.codebook})")
    listed = ", ".join(f"{r.chain} {r.index}{r.icode}".strip() for r in often[:20])
    options.tell(
        f"{len(often)} of {options.count(len(residues), 'residue')} switch, to codes unlike their commonest "
        f"in over {OFTEN:.0%} of the frames{': ' * bool(often)}{listed}{', ...' * (len(often) > 20)}"
    )
    if torn:
        options.tell(
            f"note: {options.count(torn, 'frame')} with fewer peptide bonds than the first: if a periodic "
            "box cuts molecules, make them whole (gmx trjconv -pbc whole)"
        )
    return options.OK


def _structures(arguments: argparse.Namespace) -> Iterator[Backbone]:
    from protok.structure.io.options import ALL, ReadOptions
    from protok.structure.io.read import read_file
    from protok.structure.io.trajectory import read_frames

    reading = options.reading_options(arguments)
    if arguments.trajectories:
        chosen = ReadOptions(**reading)
        yield from read_frames(arguments.structure, arguments.trajectories, chosen, every=arguments.every)
    else:
        yield from read_file(arguments.structure, ReadOptions(**{"model": ALL, **reading}))[
            :: arguments.every
        ]
