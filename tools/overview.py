"""Draw the picture of the README: a structure by its codes, the codes, and what is decoded from them.

python tools/overview.py                  # writes docs/figures/overview.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import protok
from protok.tokens.tokens import Tokens
from protok.viz.colours import code_colours, residue_colours
from protok.viz.plots import draw_codes, draw_trace

ROOT = Path(__file__).resolve().parents[1]
#: Residues whose codes are drawn.
SHOWN = 40


def overview(structure: Path, model: str) -> Figure:
    """The chain of a file coloured by its codes, its first codes, and the decoded chain on the real one."""
    tokenizer, chain = protok.load(model), protok.read(structure)
    tokens = tokenizer.encode(chain)
    decoded = protok.superpose(tokenizer.decode(tokens), chain)
    colours = code_colours(tokenizer)
    shades = residue_colours(tokens.ids, colours)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
    frame = draw_trace(left, chain, shades, width=4)
    left.set_title(f"{chain.name}, coloured by its codes", fontsize=10)
    first = Tokens.like(chain[np.arange(SHOWN)], tokens.ids[:SHOWN], tokens.size, tokens.codebook)
    draw_codes(middle, first, colours, across=10)
    middle.set_title(f"one of {tokenizer.size} codes a residue", fontsize=10)
    draw_trace(right, chain, "0.75", frame=frame, width=4)
    draw_trace(right, decoded, shades, frame=frame, width=2.5)
    right.set_title(f"decoded from them, {protok.rmsd(decoded, chain):.1f} Å off (grey: file)", fontsize=10)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structure", type=Path, default=ROOT / "data" / "7w89.A.pdb")
    parser.add_argument("--model", default="protok-1")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "figures" / "overview.png")
    options = parser.parse_args(arguments)
    overview(options.structure, options.model).savefig(options.out, dpi=100)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
