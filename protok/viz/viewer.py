"""A structure coloured by its codes: a page to turn around, and views for notebooks.

The page is one HTML file that needs nothing else; the ribbon is drawn by `web/view.js`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from protok.common.extras import Extra
from protok.errors import NoProtein
from protok.structure.backbone import BOND_LIMIT, Backbone, bond_lengths
from protok.structure.io.interop import as_backbone
from protok.structure.metrics import compare, superpose
from protok.tokenizers.protocol import Tokenizer, decoding
from protok.tokens.tokens import Tokens
from protok.viz.colours import NONE, code_colours, hexes, residue_colours, scale_colours
from protok.viz.html import Page, document, embedded, escaped

#: Å at which the colour scale of distances ends.
FAR = 4.0
#: Residues of a block of the track.
BLOCK = 10


def view(structure: Any, tokenizer: Tokenizer, *, decode: bool = False) -> Page:
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
    shown = decode or not tokens.alphabet
    # Only keyframes say where chains lie to one another.
    apart = tokens.keyframes is None
    again = superpose(decoding(tokenizer).decode(tokens), backbone, each_chain=apart) if shown else None
    data = _data(backbone, tokens, tokenizer, again, decode)
    notes = [repr(tokens)]
    if again is not None:
        notes.append(f"decoded from its codes: {compare(again, backbone, each_chain=apart)}")
    title = backbone.name or "structure"
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="note">{"<br>".join(map(escaped, notes))}</p>',
        '<div id="stage"><canvas id="canvas" aria-label="backbone"></canvas>',
        f'<div id="tools">{_tools(data)}</div></div><div id="info" role="status"></div>',
        *(_track(chain, data) for chain in backbone.chains),
        '<p class="note">Drag to turn, wheel to zoom; point or click at a residue or its code; '
        "arrow keys go along the chain. Like codes have like colours.</p>",
        embedded(data),
    ]
    page = document(f"{title}, {tokens.codebook}", "\n".join(body), styles=("view.css",), script="view.js")
    return Page(page)


def _data(
    backbone: Backbone, tokens: Tokens, tokenizer: Tokenizer, again: Backbone | None, decode: bool
) -> dict[str, Any]:
    from protok.structure.descriptors import laid_flat, secondary_structure

    ids = tokens.ids.tolist()
    frame = laid_flat(backbone)
    residues = zip(backbone.chain.tolist(), backbone.index.tolist(), backbone.icode.tolist(), strict=True)
    data = {
        "codebook": tokens.codebook,
        "alphabet": tokens.alphabet,
        "sequence": backbone.sequence,
        "chain": backbone.chain.tolist(),
        "label": [f"{chain} {number}{code}".strip() for chain, number, code in residues],
        "code": ids,
        "sse": [element or "c" for element in secondary_structure(backbone).tolist()],
        "colours": {"code": residue_colours(ids, code_colours(tokenizer))},
        **_trace(backbone, frame),
    }
    if again is not None:
        sure = np.where(tokens.ids >= 0, again.bfactor, np.nan)
        data["confidence"] = [None if np.isnan(x) else round(float(x)) for x in sure]
        data["colours"]["confidence"] = scale_colours(sure, 0, 100)
    if again is not None and decode:
        off = np.linalg.norm(again.coords[:, 1] - backbone.coords[:, 1], axis=1)
        data["distance"] = [None if np.isnan(x) else round(float(x), 2) for x in off]
        data["colours"]["distance"] = scale_colours(off, 0, FAR)
        data["again"] = _trace(again, frame)
    return data


def _trace(backbone: Backbone, frame: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """CA and O, and whether each residue is bonded to the next."""
    gap = bond_lengths(backbone.coords)
    near = np.linalg.norm(np.diff(backbone.coords[:, 1], axis=0), axis=1) < 4.5
    # Where N or C is missing, CA atoms next to each other are joined all the same.
    bonded = np.where(np.isnan(gap), near, gap < BOND_LIMIT) & (backbone.chain[1:] == backbone.chain[:-1])
    centre, axes = frame
    placed = np.round((backbone.coords.astype(np.float64) - centre) @ axes.T, 2)
    ca, o = (
        [point if all(map(math.isfinite, point)) else None for point in placed[:, slot].tolist()]
        for slot in (1, 3)
    )
    return {"ca": ca, "o": o, "linked": bonded.tolist()}


def _tools(data: dict[str, Any]) -> str:
    titles = {"code": "code", "confidence": "confidence, 0 to 100", "distance": f"distance, 0 to {FAR:g} Å"}
    options = "".join(f'<option value="{key}">{titles[key]}</option>' for key in data["colours"])
    tools = f'<label>coloured by <select id="mode">{options}</select></label>'
    if "again" in data:
        tools += ' <label><input type="checkbox" id="again" checked> decoded, in grey</label>'
    return tools


def _track(chain: str, data: dict[str, Any]) -> str:
    """The residues of a chain in blocks of ten, each with its code under its letter."""
    rows = [i for i, name in enumerate(data["chain"]) if name == chain]
    blocks = []
    for begin in range(0, len(rows), BLOCK):
        here = rows[begin : begin + BLOCK]
        cells = []
        for i in here:
            code = data["code"][i]
            text = "–" if code < 0 else data["alphabet"][code] if data["alphabet"] else str(code)
            cells.append(
                f'<span class="r" style="--c:{data["colours"]["code"][i]}">'
                f"<b>{escaped(data['sequence'][i])}</b><i>{escaped(text)}</i></span>"
            )
        number = data["label"][here[0]].split(" ")[-1]
        blocks.append(f'<div class="ten" data-n="{escaped(number)}">{"".join(cells)}</div>')
    name = f"Chain {chain}" if chain.strip() else "Chain"
    return f'<h2>{escaped(name)}</h2><div class="track">{"".join(blocks)}</div>'


def view_3dmol(structure: Any, tokenizer: Tokenizer, *, width: int = 640, height: int = 480) -> Any:
    """A py3Dmol view of a structure coloured by its codes, for notebooks.

    py3Dmol fetches 3Dmol.js when a notebook shows it; `view` works without a network.

    Parameters
    ----------
    structure, tokenizer
        As for `view`.
    width, height
        In pixels.

    Returns
    -------
    py3Dmol.view
        To go on with as py3Dmol's documentation says.

    Raises
    ------
    MissingExtra
        Without py3Dmol.
    """
    with Extra("interop", "this view"):
        import py3Dmol
    from protok.structure.io.write import write

    backbone = as_backbone(structure)
    tokens = tokenizer.encode(backbone)
    colours = dict(enumerate(hexes(code_colours(tokenizer))))
    with TemporaryDirectory() as folder:
        # 3Dmol.js colours by a property of atoms: the code goes where the B-factor is.
        path = Path(folder) / "codes.pdb"
        write(replace(backbone, bfactor=tokens.ids.astype(np.float32)), path)
        text = path.read_text(encoding="utf-8")
    shown = py3Dmol.view(width=width, height=height)
    shown.addModel(text, "pdb")
    used = {int(i): colours[i] for i in np.unique(tokens.ids[tokens.ids >= 0]).tolist()}
    shown.setStyle({"cartoon": {"colorscheme": {"prop": "b", "map": {-1: NONE, **used}}}})
    shown.zoomTo()
    return shown
