"""A structure coloured by its codes: a page to turn around.

The page is one HTML file that needs nothing else. The structure is drawn by 3Dmol.js, of which a copy
is in `web`: py3Dmol has none and fetches it, Mol* is ten times as large.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from typing import Any

import numpy as np

from protok.errors import NoProtein, ProtokError
from protok.structure.backbone import BOND_LIMIT, Backbone, bond_lengths
from protok.structure.descriptors import laid_flat, secondary_structure
from protok.structure.io.formats.residues import NUCLEOTIDES
from protok.structure.io.interop import as_backbone
from protok.structure.io.ligands import Ligands, read_ligands
from protok.structure.metrics import compare, superpose
from protok.tokenizers.protocol import HasEnvironments, Tokenizer, decoding
from protok.tokens.tokens import Tokens
from protok.viz.colours import code_colours
from protok.viz.html import Page, document, embedded, escaped
from protok.viz.meaning import meanings
from protok.viz.schemes import (
    FAR,
    Scheme,
    by_bfactor,
    by_chain,
    by_code,
    by_element,
    by_environment,
    by_number,
)

#: Residues of a block of the track.
BLOCK = 10
#: Secondary structure by P-SEA and in 3Dmol.js.
SHAPES = {"a": "h", "b": "s"}
#: Ligands that are named beside the switch that hides them.
LISTED = 8
SCRIPTS = ("3Dmol-min.js", "view.js")


def view(
    structure: Any, tokenizer: Tokenizer, *, decode: bool = False, ligands: Ligands | None = None
) -> Page:
    """A structure coloured by its codes, above its sequence with the codes under it.

    Parameters
    ----------
    structure
        A Backbone, or anything that `protok.as_backbone` takes.
    tokenizer
        Of `protok.load`, or any with `encode`, and `code_vectors` or an alphabet.
    decode
        Show the structure that is decoded from the codes too, in grey, superposed chain by
        chain, with the distance of each CA from its place.
    ligands
        Shown too; of a file they are read if they can be.

    Raises
    ------
    NoProtein
        If no residue is complete.
    Unsupported
        If `decode` is asked of a tokenizer without a decoder.
    ProtokError
        If the structure cannot be read.
    """
    backbone = as_backbone(structure)
    if not backbone.mask.any():
        raise NoProtein("no residue has N, CA and C", "give another chain", file=backbone.name)
    tokens = tokenizer.encode(backbone)
    notes = [repr(tokens)]
    if ligands is None and isinstance(structure, (str, os.PathLike)):
        try:
            ligands = read_ligands(structure, backbone)
        except ProtokError as error:
            notes.append(str(error))
    shown = decode or not tokens.alphabet
    # Only keyframes say where chains lie to one another.
    apart = tokens.keyframes is None
    again = superpose(decoding(tokenizer).decode(tokens), backbone, each_chain=apart) if shown else None
    known = meanings(tokenizer, backbone)
    data = _data(backbone, tokens, tokenizer, again, decode)
    data |= {"words": known.words, **_beside(ligands, backbone)}
    if again is not None:
        notes.append(f"decoded from its codes: {compare(again, backbone, each_chain=apart)}")
    title = backbone.name or "structure"
    measured = f" What a letter means was measured on {known.source}." if known.source else ""
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="note">{"<br>".join(map(escaped, notes))}</p>',
        '<div id="stage" aria-label="backbone"></div>',
        f'<div id="tools">{_tools(data)}</div><div id="legend"></div><div id="info" role="status"></div>',
        *(_track(chain, data) for chain in backbone.chains),
        '<p class="note">Drag to turn, wheel or pinch to zoom; point or click at a residue, its letter or '
        f"the legend; arrow keys go along the chain. Like letters have like colours.{escaped(measured)}</p>",
        embedded(data),
    ]
    page = document(f"{title}, {tokens.codebook}", "\n".join(body), styles=("view.css",), scripts=SCRIPTS)
    return Page(page)


def _data(
    backbone: Backbone, tokens: Tokens, tokenizer: Tokenizer, again: Backbone | None, decode: bool
) -> dict[str, Any]:
    """What the script knows of the residues."""
    residues = zip(backbone.chain.tolist(), backbone.index.tolist(), backbone.icode.tolist(), strict=True)
    elements, frame = secondary_structure(backbone).tolist(), laid_flat(backbone)
    names = [*tokens.alphabet] or [str(code) for code in range(tokens.size)]
    schemes = {
        "code": by_code(tokens, code_colours(tokenizer), names),
        **_around(tokens, tokenizer),
        "chain": by_chain(backbone),
        "element": by_element(elements),
        **by_bfactor(backbone),
    }
    data = {
        "codebook": tokens.codebook,
        "names": names,
        "sequence": backbone.sequence,
        "chain": backbone.chain.tolist(),
        "label": [f"{chain} {number}{code}".strip() for chain, number, code in residues],
        "code": tokens.ids.tolist(),
        "sse": [SHAPES.get(element, "c") for element in elements],
        **_trace(backbone, frame),
    }
    if "bfactor" in schemes:
        data["bfactor"] = _numbers(backbone.bfactor, 1)
    if again is not None:
        sure = np.where(tokens.ids >= 0, again.bfactor, np.nan)
        data["confidence"] = _numbers(sure, 0)
        schemes["confidence"] = by_number("confidence of what is decoded", sure, 0, 100)
    if again is not None and decode:
        off = np.linalg.norm(again.coords[:, 1] - backbone.coords[:, 1], axis=1)
        data["distance"] = _numbers(off, 2)
        schemes["distance"] = by_number("distance of what is decoded, Å", off, 0, FAR)
        data["again"] = _trace(again, frame)
    data["schemes"] = {key: asdict(scheme) for key, scheme in schemes.items()}
    return data


def _around(tokens: Tokens, tokenizer: Tokenizer) -> dict[str, Scheme]:
    """The scheme of environment letters, if there are any."""
    if tokens.environment is None or not isinstance(tokenizer, HasEnvironments) or not tokenizer.environment:
        return {}
    return {"environment": by_environment(tokens.environment, code_colours(tokenizer.environment))}


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    """Rounded, whole ones without a point; None where NaN."""
    rounded = map(float, np.round(values.astype(np.float64), digits))
    return [None if math.isnan(x) else x if digits else int(x) for x in rounded]


def _trace(backbone: Backbone, frame: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """CA and O of each residue, and the number of the unbroken stretch of chain it is in."""
    gap = bond_lengths(backbone.coords)
    near = np.linalg.norm(np.diff(backbone.coords[:, 1], axis=0), axis=1) < 4.5
    # Where N or C is missing, CA atoms next to each other are joined all the same.
    bonded = np.where(np.isnan(gap), near, gap < BOND_LIMIT) & (backbone.chain[1:] == backbone.chain[:-1])
    ca, o = backbone.coords[:, 1], backbone.coords[:, 3]
    # A ribbon is as wide as from CA to O; where there is no O, any direction will do.
    o = np.where(np.isnan(o), ca + np.array([0, 0, 2.4], np.float32), o)
    return {"ca": _placed(ca, frame), "o": _placed(o, frame), "run": np.cumsum([0, *~bonded]).tolist()}


def _placed(points: np.ndarray, frame: tuple[np.ndarray, np.ndarray]) -> list[list[float] | None]:
    centre, axes = frame
    turned = np.round((points.astype(np.float64) - centre) @ axes.T, 2).tolist()
    return [point if all(map(math.isfinite, point)) else None for point in turned]


def _beside(ligands: Ligands | None, backbone: Backbone) -> dict[str, Any]:
    """Atoms (element, name, residue, number of the label, place), and the labels."""
    if ligands is None or not len(ligands.coords):
        return {}
    labels = {label: number for number, label in enumerate(dict.fromkeys(ligands.label.tolist()))}
    columns = (ligands.element, ligands.atom, ligands.residue, ligands.label)
    places = _placed(ligands.coords, laid_flat(backbone))
    rows = zip(*(column.tolist() for column in columns), places, strict=True)
    return {
        "beside": [*labels],
        "ligands": [
            [element.capitalize(), atom, name, labels[label], *place]
            for element, atom, name, label, place in rows
        ],
    }


def _tools(data: dict[str, Any]) -> str:
    titles = ((key, escaped(scheme["title"])) for key, scheme in data["schemes"].items())
    options = "".join(f'<option value="{key}">{title}</option>' for key, title in titles)
    tools = f'<label>coloured by <select id="mode">{options}</select></label>'
    if "again" in data:
        tools += '<label><input type="checkbox" id="again" checked> decoded, in grey</label>'
    if "ligands" in data:
        names = [name for name in data["beside"] if name.split()[0] not in NUCLEOTIDES]
        listed = [*names[:LISTED], *["…"][: len(names) > LISTED]]
        if len(names) < len(data["beside"]):
            listed.append("nucleic acid")
        tools += f'<label><input type="checkbox" id="ligands" checked> {escaped(", ".join(listed))}</label>'
    return tools


def _track(chain: str, data: dict[str, Any]) -> str:
    """The residues of a chain in blocks of ten, each with its code under its letter."""
    colours = data["schemes"]["code"]["colours"]
    rows = [i for i, name in enumerate(data["chain"]) if name == chain]
    blocks = []
    for begin in range(0, len(rows), BLOCK):
        here = rows[begin : begin + BLOCK]
        cells = []
        for i in here:
            code = data["code"][i]
            text = "–" if code < 0 else data["names"][code]
            cells.append(
                f'<span class="r" style="--c:{colours[i]}">'
                f"<b>{escaped(data['sequence'][i])}</b><i>{escaped(text)}</i></span>"
            )
        number = data["label"][here[0]].split(" ")[-1]
        blocks.append(f'<div class="ten" data-n="{escaped(number)}">{"".join(cells)}</div>')
    name = f"Chain {chain}" if chain.strip() else "Chain"
    return f'<h2>{escaped(name)}</h2><div class="track">{"".join(blocks)}</div>'
