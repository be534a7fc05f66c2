"""Scripts for PyMOL and ChimeraX: a structure file coloured by its codes, the colours of `protok view`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from protok.errors import FormatError
from protok.tokenizers.protocol import Tokenizer
from protok.tokens.tokens import Tokens
from protok.viz.colours import NONE, code_colours, hexes

#: Programs that can be written for, by the suffix of the file.
SUFFIXES = {".pml": "PyMOL", ".cxc": "ChimeraX"}


def colour_script(file: str | Path, tokens: Tokens, tokenizer: Tokenizer, suffix: str) -> str:
    """A script that opens a structure file and colours its residues by their codes.

    Parameters
    ----------
    file
        The structure file.
    tokens
        Of it; residues are told by the chain ids (of the author), numbers and insertion codes.
    tokenizer
        Whose codes they are.
    suffix
        ``.pml`` for PyMOL, ``.cxc`` for ChimeraX.

    Raises
    ------
    FormatError
        For another suffix, or a path or chain id that such a script cannot name.
    """
    if suffix not in SUFFIXES:
        raise FormatError(f"{suffix} is no script", f"give one of {', '.join(SUFFIXES)}")
    path = str(Path(file).resolve())
    odd = "" if suffix == ".cxc" else ","
    for text in (path, *tokens.chain.tolist()):
        if re.search(rf"[\"\r\n;{odd}]", text):
            raise FormatError(f"{text!r} cannot be named in a script", "call it otherwise", file=file)
    colours = hexes(code_colours(tokenizer))
    head = f"# Coloured by the codes of {tokens.codebook}; {NONE} where there is none."
    lines = _pymol if suffix == ".pml" else _chimerax
    return "\n".join([head, *lines(path, tokens, colours)]) + "\n"


def _pymol(path: str, tokens: Tokens, colours: list[str]) -> Iterator[str]:
    name = re.sub(r"\W", "_", tokens.name) or "structure"
    yield f"load {path}, {name}"
    yield f"as cartoon, {name} and polymer"
    yield f"color 0x{NONE[1:]}, {name} and elem C"
    for colour, chain, numbers in _groups(tokens, colours):
        residues = "+".join(number.replace("-", "\\-") for number in numbers)
        yield f'color 0x{colour[1:]}, {name} and chain "{chain}" and resi {residues}'


def _chimerax(path: str, tokens: Tokens, colours: list[str]) -> Iterator[str]:
    yield f'open "{path}"'
    yield "cartoon"
    yield f"color protein {NONE} target acs"
    for colour, chain, numbers in _groups(tokens, colours):
        where = f"/{chain}" if chain.strip() else ""
        yield f"color {where}:{','.join(numbers)} {colour} target acs"


def _groups(tokens: Tokens, colours: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Colour, chain, and the numbers of the residues that have it."""
    numbers = np.array([f"{i}{code}" for i, code in zip(tokens.index, tokens.icode, strict=True)])
    for chain in dict.fromkeys(tokens.chain.tolist()):
        own = tokens.chain == chain
        for code in np.unique(tokens.ids[own & (tokens.ids >= 0)]).tolist():
            yield colours[code], chain.strip(), numbers[own & (tokens.ids == code)].tolist()
