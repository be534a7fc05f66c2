"""What a structure can be coloured by, and the legend of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protok.structure.backbone import Backbone
from protok.tokens.environment import Environment
from protok.tokens.tokens import Tokens
from protok.viz.colours import (
    COIL,
    HELIX,
    NONE,
    STRAND,
    hexes,
    residue_colours,
    scale_colours,
    spread_colours,
)

#: Å at which the colour scale of distances ends.
FAR = 4.0
#: Marks of a scale in a legend.
MARKS = 5
ELEMENTS = {"a": ("helix", HELIX), "b": ("strand", STRAND), "c": ("coil", COIL)}
#: Bands of the AlphaFold database: from which pLDDT on, colour.
PLDDT = {90: "#0053d6", 70: "#65cbf3", 50: "#ffdb13", 0: "#ff7d45"}


@dataclass(frozen=True)
class Shade:
    """A colour of a legend, `#rrggbb`, what it stands for, and of letters the code; -1 of all else."""

    colour: str
    name: str
    code: int = -1


@dataclass(frozen=True)
class Scheme:
    """A way to colour residues.

    Attributes
    ----------
    title : str
        What it shows.
    colours : list of str
        `#rrggbb`, a residue each.
    legend : list of Shade
        What the colours stand for.
    """

    title: str
    colours: list[str]
    legend: Sequence[Shade]


def by_code(tokens: Tokens, colours: np.ndarray, names: Sequence[str]) -> Scheme:
    """By letter; `colours` (size, 3) and `names` are of all codes, the legend has those that occur."""
    shades = hexes(colours)
    used: list[int] = np.unique(tokens.ids[tokens.ids >= 0]).tolist()
    legend = [Shade(shades[code], names[code], code) for code in used]
    return Scheme("letter", residue_colours(tokens.ids, colours), legend)


def by_environment(environment: Environment, colours: np.ndarray) -> Scheme:
    """By environment letter; `colours` (size, 3) are of all."""
    shades = hexes(colours)
    used: list[int] = np.unique(environment.ids[environment.ids >= 0]).tolist()
    legend = [Shade(shades[letter], str(letter)) for letter in used]
    return Scheme("environment letter", residue_colours(environment.ids, colours), legend)


def by_chain(structure: Backbone) -> Scheme:
    """By chain."""
    shades = dict(zip(structure.chains, hexes(spread_colours(len(structure.chains))), strict=True))
    legend = [Shade(shade, chain or "no name") for chain, shade in shades.items()]
    return Scheme("chain", [shades[chain] for chain in structure.chain.tolist()], legend)


def by_element(elements: Sequence[str]) -> Scheme:
    """By secondary structure: a, b, c, and nothing where it is not known."""
    shades = {letter: hexes(np.array([rgb]))[0] for letter, (_, rgb) in ELEMENTS.items()}
    legend = [Shade(shades[letter], name) for letter, (name, _) in ELEMENTS.items()]
    return Scheme("secondary structure", [shades.get(letter, NONE) for letter in elements], legend)


def by_number(title: str, values: np.ndarray, low: float, high: float) -> Scheme:
    """By a number, on a scale."""
    marks = np.linspace(low, high, MARKS)
    colours = scale_colours(marks, low, high)
    legend = [Shade(colour, f"{mark:.3g}") for colour, mark in zip(colours, marks, strict=True)]
    return Scheme(title, scale_colours(values, low, high), legend)


def by_bfactor(structure: Backbone) -> dict[str, Scheme]:
    """By the B-factor, and by pLDDT if it may be that; nothing if the file has none, or but one value.

    No format says which of both the column holds.
    """
    known = structure.bfactor[np.isfinite(structure.bfactor)]
    if not len(known) or known.min() == known.max():
        return {}
    schemes = {"bfactor": by_number("B-factor", structure.bfactor, float(known.min()), float(known.max()))}
    if known.min() >= 0 and known.max() <= 100:
        legend = [Shade(shade, f"{low} and more" if low else "less") for low, shade in PLDDT.items()]
        shades = [next((s for low, s in PLDDT.items() if x >= low), NONE) for x in structure.bfactor.tolist()]
        schemes["plddt"] = Scheme("pLDDT, if the B-factor is that", shades, legend)
    return schemes
