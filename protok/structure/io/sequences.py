"""Chains on their whole sequences: residues that were not resolved are there, without coordinates.

The sequence is what the file tells of it, or comes from a FASTA file. Residues that a bond joins are
neighbours in it too, so a chain is laid on its sequence stretch by stretch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from protok.errors import ProtokError
from protok.structure.backbone import BOND_LIMIT, Backbone, bond_lengths, joined
from protok.structure.io.formats.categories import read_category
from protok.structure.io.formats.residues import letter_of
from protok.structure.io.options import ReadOptions

#: Of `ReadOptions.sequence`: what the file itself tells.
FILE = "file"
#: Share of equal letters, among known ones, from which on a chain is of a sequence.
ALIKE = 0.9
#: Stretches times residues of the sequence: what is more takes too much memory.
MOST = 1 << 26


def on_sequences(backbone: Backbone, data: bytes, kind: str, options: ReadOptions) -> Backbone:
    """Each chain on its sequence, that of the file or of a FASTA file.

    A sequence belongs to the chain that it is called by (in FASTA `1aki_A`), or else to those that
    fit it best. A chain that fits none, or of which the file tells none, stays as it is; `notes` says so.

    Parameters
    ----------
    backbone
        Whole chains.
    data, kind, options
        Content of the file, its format, and how it is read.

    Raises
    ------
    ProtokError
        If the FASTA file cannot be read.
    """
    of_file = options.sequence == FILE
    sequences = _of_file(data, kind, options) if of_file else read_fasta(options.sequence)
    parts, misfits = [], []
    for chain in backbone.by_chain():
        label = chain.chains[0] if of_file else f"{backbone.name}_{chain.chains[0]}"
        own = [sequences[label]] if label in sequences else dict.fromkeys(sequences.values())
        part = on_sequence(chain, own)
        if part is None:
            misfits.append(repr(chain.chains[0]))
        parts.append(chain if part is None else part)
    notes = list(backbone.notes)
    whole = joined(parts)
    if added := len(whole) - len(backbone):
        notes.append(f"{added} residue{'s' if added > 1 else ''} without atoms added from the sequence")
    if misfits:
        notes.append(f"left as it is, as no sequence fits: chain {', '.join(misfits)}")
    return replace(whole, notes=tuple(notes))


def on_sequence(chain: Backbone, sequences: Iterable[str]) -> Backbone | None:
    """A chain with all residues of the sequence that fits it best, NaN where it has no atoms.

    Parameters
    ----------
    chain
        One chain; its residues keep letter, number and insertion code. Others are numbered on from those
        before them, and back from the first.
    sequences
        One letter a residue.

    Returns
    -------
    Backbone or None
        None if the chain fits no sequence: `ALIKE` of its letters must be those of the sequence, in
        its order, and bonded residues neighbours.
    """
    fits = [(*fit, sequence) for sequence in sequences if (fit := _fit(chain, sequence)) is not None]
    if not fits:
        return None
    _, place, sequence = max(fits, key=lambda fit: fit[0])
    n = len(sequence)
    before = np.searchsorted(place, np.arange(n), side="right") - 1  # the last residue up to here
    near = np.maximum(before, 0)
    letters = np.array(list(sequence))
    letters[place] = list(chain.sequence)
    coords = np.full((n, 4, 3), np.nan, np.float32)
    bfactor, icode = np.full(n, np.nan, np.float32), np.full(n, "", chain.icode.dtype)
    coords[place], bfactor[place], icode[place] = chain.coords, chain.bfactor, chain.icode
    return replace(
        chain,
        coords=coords,
        sequence="".join(letters.tolist()),
        chain=np.full(n, chain.chains[0]),
        index=(chain.index[near] + np.arange(n) - place[near]).astype(np.int32),
        icode=icode,
        bfactor=bfactor,
    )


def _fit(chain: Backbone, sequence: str) -> tuple[float, np.ndarray] | None:
    """Score, and place (L,) of each residue in the sequence; None if the chain does not fit."""
    own, whole = (
        np.frombuffer(text.encode("latin-1", "replace"), np.uint8) for text in (chain.sequence, sequence)
    )
    if not 0 < len(own) <= len(whole):
        return None
    gap, step = bond_lengths(chain.coords), np.diff(chain.index)
    parted = np.where(np.isnan(gap), step != 1, gap > BOND_LIMIT)
    starts = np.concatenate([[0], np.flatnonzero(parted) + 1])
    stops = np.append(starts[1:], len(own))
    if len(starts) * len(whole) > MOST:
        return None
    unknown = ord("X")
    n = len(whole)
    best, back = np.zeros(n + 1), []
    for k, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        # Where the stretch begins: behind the one before it, and best as far on as the numbers say.
        if k:
            length = start - int(starts[k - 1])
            reach = np.maximum.accumulate(best)
            source = np.maximum.accumulate(np.where(best == reach, np.arange(n + 1), 0))
            reach, source = (
                np.concatenate([np.full(length, fill), part[: n + 1 - length]])
                for part, fill in ((reach, -np.inf), (source, 0))
            )
            jump = int(chain.index[start] - chain.index[starts[k - 1]])
            if length <= jump <= n:
                counted = np.concatenate([np.full(jump, -np.inf), best[: n + 1 - jump] + 0.5])
                better = counted > reach
                reach = np.where(better, counted, reach)
                source = np.where(better, np.arange(n + 1) - jump, source)
            back.append(source)
            best = reach
        score = np.zeros(n + 1)
        room = n + 1 - (stop - start)
        for i, letter in enumerate(own[start:stop].tolist()):
            score[:room] += (whole[i : i + room] == letter) & (letter != unknown)
        score[room:] = -np.inf
        best = best + score
    at = int(best.argmax())
    total = float(best[at])
    if total == -np.inf:
        return None
    place = np.zeros(len(own), int)
    for k in reversed(range(len(starts))):
        place[starts[k] : stops[k]] = at + np.arange(stops[k] - starts[k])
        at = int(back[k - 1][at]) if k else at
    known = (own != unknown) & (whole[place] != unknown)
    alike = (own == whole[place])[known]
    return (total, place) if alike.size and alike.mean() >= ALIKE else None


def _of_file(data: bytes, kind: str, options: ReadOptions) -> dict[str, str]:
    """Sequence of each chain of the file, by the chain ids that are asked for."""
    if kind == "pdb":
        return _seqres(data)
    scheme = read_category(data, kind, "_pdbx_poly_seq_scheme")
    ids = "asym_id" if options.chain_ids == "label" else "pdb_strand_id"
    if {ids, "asym_id", "seq_id", "mon_id"} <= scheme.keys():
        # Of several residues in one place the first; of several molecules of one id only proteins.
        places: dict[tuple[str, str], dict[str, str]] = {}
        for chain, asym, number, name in zip(
            *(scheme[i] for i in (ids, "asym_id", "seq_id", "mon_id")), strict=True
        ):
            places.setdefault((chain, asym), {}).setdefault(number, letter_of(name.upper()) or "X")
        return {
            chain: "".join(letters.values())
            for (chain, _), letters in places.items()
            if set(letters.values()) != {"X"}
        }
    told = read_category(data, kind, "_entity_poly")
    columns = (told.get(item, []) for item in ("pdbx_strand_id", "pdbx_seq_one_letter_code_can"))
    return {
        chain.strip(): "".join(sequence.split())
        for chains, sequence in zip(*columns, strict=False)  # one of them may be missing
        for chain in chains.split(",")
        if sequence
    }


def _seqres(data: bytes) -> dict[str, str]:
    chains: dict[str, list[str]] = {}
    for line in data[: data.find(b"\nATOM")].decode("latin-1").splitlines():
        if line.startswith("SEQRES"):
            chains.setdefault(line[10:12].strip(), []).extend(line[19:70].split())
    return {
        chain: "".join(letter_of(name.upper()) or "X" for name in names)
        for chain, names in chains.items()
        if any(letter_of(name.upper()) for name in names)
    }


def read_fasta(path: str) -> Mapping[str, str]:
    """Sequences of a FASTA file by the first word of their headers; kept until the file changes.

    Raises
    ------
    ProtokError
        If it cannot be read.
    """
    try:
        status = os.stat(path)
        return _fasta(path, (status.st_size, status.st_mtime_ns))
    except (OSError, UnicodeError) as error:
        raise ProtokError(f"cannot be read as FASTA ({error})", "check the path", file=path) from error


@lru_cache(maxsize=4)
def _fasta(path: str, _: tuple[int, int]) -> Mapping[str, str]:
    sequences: dict[str, list[str]] = {}
    for line in Path(path).read_text("utf-8").splitlines():
        if line.startswith(">"):
            own = sequences.setdefault(unquote((line[1:].split() or [""])[0]), [])
        elif line.strip():
            if not sequences:
                raise ProtokError("begins without a header", "FASTA has > before each sequence", file=path)
            own.append("".join(line.split()).upper().rstrip("*"))
    return {name: "".join(parts) for name, parts in sequences.items()}
