"""write: a Backbone into a PDB or mmCIF file."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from protok.common.files import atomic
from protok.errors import FormatError, ProtokError
from protok.structure.backbone import ATOMS, Backbone
from protok.structure.io.formats.residues import NAMES

_ITEMS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id "
    "label_entity_id label_seq_id pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy "
    "B_iso_or_equiv auth_seq_id auth_comp_id auth_asym_id auth_atom_id pdbx_PDB_model_num"
).split()
_AS_MMCIF = "write it as mmCIF (.cif)"
_RENAME = "name the chain otherwise, and its insertion codes"


def write(structure: Any, path: str | os.PathLike) -> None:
    """Write a structure as PDB (.pdb, .ent) or mmCIF (.cif, .mmcif), also .gz or .zst.

    It is a Backbone, or whatever `protok.as_backbone` takes.
    Coordinates have three decimals, B-factors two. Missing atoms are left out,
    so a residue without any atom is not in the file. A missing B-factor is
    written as 0.00, since other programs do not read a file without. Modified
    residues carry the name of their parent, `X` is UNK. PDB residue numbers
    above 9,999 and serial numbers above 99,999 are hybrid-36.

    Raises
    ------
    FormatError
        If the suffix is none of these, or the structure does not fit into PDB:
        chain ids of two characters, coordinates of more than eight.
    ProtokError
        If the file cannot be written.

    Examples
    --------
    >>> protok.write(backbone, "copy.cif.gz")
    """
    from protok.structure.io.interop import as_backbone

    backbone = as_backbone(structure)
    path = Path(path)
    packed = path.suffix.lower() if path.suffix.lower() in (".gz", ".zst") else ""
    suffix = Path(path.name[: len(path.name) - len(packed)]).suffix.lower()
    try:
        if suffix in (".pdb", ".ent"):
            lines = _pdb(backbone)
        elif suffix in (".cif", ".mmcif"):
            lines = _mmcif(backbone)
        else:
            raise FormatError(
                f"cannot write {suffix or 'a file without suffix'}",
                "choose .pdb or .cif, plain or with .gz or .zst",
            )
        data = "".join(lines).encode()
        if packed == ".gz":
            data = gzip.compress(data, mtime=0)  # equal content gives equal files
        elif packed == ".zst":
            import zstandard

            data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
        with atomic(path, "wb") as handle:
            handle.write(data)
    except OSError as error:
        raise ProtokError(
            f"cannot be written ({error.strerror})", "check the folder", file=str(path)
        ) from error
    except ProtokError as error:
        error.file = error.file or str(path)
        raise


def _residues(backbone: Backbone) -> Iterator[tuple[int, list[tuple[str, list[float]]], float]]:
    """Yield number, atoms and B-factor of each residue that has an atom."""
    coords = backbone.coords.tolist()
    present = np.all(np.isfinite(backbone.coords), axis=2)
    bfactor = np.nan_to_num(backbone.bfactor, nan=0.0).tolist()
    for i in np.flatnonzero(present.any(axis=1)).tolist():
        atoms = [(ATOMS[slot], coords[i][slot]) for slot in range(4) if present[i, slot]]
        yield i, atoms, bfactor[i]


def _pdb(backbone: Backbone) -> Iterator[str]:
    for chain in backbone.chains:
        _check_pdb(chain, "a chain id", chain)
    for icode in set(backbone.icode.tolist()):
        _check_pdb(icode, "an insertion code")
    seen = backbone.coords[np.isfinite(backbone.coords)]
    if len(seen) and (seen.max() >= 9999.9995 or seen.min() <= -999.9995):
        raise FormatError("coordinates do not fit into the columns of PDB", _AS_MMCIF)
    chains, numbers, icodes = (getattr(backbone, key).tolist() for key in ("chain", "index", "icode"))
    serial, before, place = 0, None, ""
    for i, atoms, bfactor in _residues(backbone):
        if before is not None and chains[i] != before:
            serial += 1
            yield f"TER   {_hybrid36(serial, 5)}      {place}\n"
        before = chains[i]
        name = NAMES.get(backbone.sequence[i], "UNK")
        place = f"{name} {before or ' '}{_hybrid36(numbers[i], 4)}{icodes[i] or ' '}"
        bfactor = min(max(bfactor, -99.99), 999.99)
        for atom, (x, y, z) in atoms:
            serial += 1
            yield (
                f"ATOM  {_hybrid36(serial, 5)}  {atom:<3s} {place}   {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00{bfactor:6.2f}          {atom[0]:>2s}\n"
            )
    if before is not None:
        yield f"TER   {_hybrid36(serial + 1, 5)}      {place}\n"
    yield "END\n"


def _check_pdb(text: str, what: str, chain: str = "") -> None:
    if len(text) > 1 or not (text.isascii() and text.isprintable()):
        raise FormatError(f"{what} of PDB has one character, not {text!r}", _AS_MMCIF, chain=chain)


def _hybrid36(value: int, width: int) -> str:
    """Decimal as long as it fits, then base 36 from A000 on, then from a000 on."""
    if -(10 ** (width - 1)) < value < 10**width:
        return f"{value:{width}d}"
    span = 26 * 36 ** (width - 1)
    rest = value - 10**width
    if not 0 <= rest < 2 * span:
        raise FormatError(f"the number {value} does not fit into the columns of PDB", _AS_MMCIF)
    text = np.base_repr(rest % span + 10 * 36 ** (width - 1), 36)
    return text if rest < span else text.lower()


def _mmcif(backbone: Backbone) -> Iterator[str]:
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in backbone.name) or "protok"
    yield f"data_{name}\n#\n_entry.id {name}\n#\nloop_\n"
    yield from (f"_atom_site.{item}\n" for item in _ITEMS)
    quoted = {chain: _quote(chain) for chain in backbone.chains}
    entity = {chain: i for i, chain in enumerate(quoted, 1)}
    chains = backbone.chain.tolist()
    count = {chain: itertools.count(1) for chain in quoted}
    sequence = [next(count[chain]) for chain in chains]
    serial = 0
    for i, atoms, bfactor in _residues(backbone):
        name, chain = NAMES.get(backbone.sequence[i], "UNK"), chains[i]
        label = f"{quoted[chain]} {entity[chain]} {sequence[i]} {_quote(backbone.icode[i], '?')}"
        for atom, (x, y, z) in atoms:
            serial += 1
            yield (
                f"ATOM {serial} {atom[0]} {atom} . {name} {label} {x:.3f} {y:.3f} {z:.3f} "
                f"1.00 {bfactor:.2f} {backbone.index[i]} {name} {quoted[chain]} {atom} 1\n"
            )
    yield "#\n"


def _quote(text: str, empty: str = ".") -> str:
    """A value as CIF text, quoted if it would mean something else without.

    Blanks at its ends go, as in reading.
    """
    text = text.strip(" ")
    if not text:
        return empty
    if text in (".", "?"):
        raise FormatError(f"{text!r} stands for no value in mmCIF", _RENAME)
    reserved = text.lower().startswith(("data_", "loop_", "save_", "stop_", "global_"))
    if not (reserved or text[0] in "_#$'\"[];" or " " in text or not text.isprintable()):
        return text
    # A quotation mark ends a value only before a blank.
    mark = next((mark for mark in "'\"" if f"{mark} " not in text), "")
    if not (mark and text.isprintable()):
        raise FormatError(f"{text!r} cannot be written in one line of mmCIF", _RENAME)
    return f"{mark}{text}{mark}"
