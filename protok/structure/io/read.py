"""read: a structure file into a Backbone, or a refusal that says why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from protok.errors import ProtokError, TruncatedFile, as_error
from protok.structure.backbone import Backbone
from protok.structure.io.assemble import assemble
from protok.structure.io.formats.bcif import read_bcif
from protok.structure.io.formats.mmcif import read_mmcif
from protok.structure.io.formats.pdb import read_pdb
from protok.structure.io.sources.content import load, sniff, unpack
from protok.structure.io.sources.paths import stem


def read(
    path: str | os.PathLike,
    *,
    chain: str | None = None,
    model: int = 1,
    chain_ids: Literal["author", "label"] = "author",
    truncated: Literal["error", "keep"] = "error",
    max_bytes: int | None = None,
    data: bytes | None = None,
) -> Backbone:
    """Read the protein chains of one model of a structure file.

    PDB, mmCIF and BinaryCIF, plain or compressed with gzip, Zstandard or bzip2, and
    Foldcomp data if that is installed; the content decides, not the suffix. Amino-acid
    residues of polymers are kept whatever their record, modified ones under the letter of
    their parent; nucleic acids, ligands and water are not. A residue without some of its
    backbone atoms stays, with NaN. Of alternate locations the one with the highest summed
    occupancy is taken for the whole residue.

    Parameters
    ----------
    path
        The file.
    chain
        Id of the chain, or several separated by commas; all protein chains if None.
    model
        Which model, counted from 1 in the order of the file.
    chain_ids
        Whether chains go by author id (`auth_asym_id`) or by label id
        (`label_asym_id`). PDB files have author ids only. Residue numbers are
        the author's either way.
    truncated
        What to do with a file that ends before its own end: refuse it, or keep
        what is there and say so in `notes`.
    max_bytes
        Refuse files that are larger, packed or unpacked; 2 GiB by default.
    data
        The content of the file, e.g. of a member of an archive; `path` then only names it.

    Returns
    -------
    Backbone
        Residues in the order of the file; `notes` says what was left out.

    Raises
    ------
    FormatError
        The file is of another format.
    TruncatedFile, CorruptFile
        The file is damaged.
    NoProtein, ChainNotFound
        It does not hold what was asked for.
    ProtokError
        It cannot be opened, and base of all the above; the message names the file.

    Examples
    --------
    >>> import protok
    >>> protok.read("data/7w89.A.pdb", chain="A")
    Backbone(7w89.A, 123 residues, chains A)
    """
    if chain_ids not in ("author", "label"):
        raise ValueError(f"chain_ids is 'author' or 'label', not {chain_ids!r}")
    if truncated not in ("error", "keep"):
        raise ValueError(f"truncated is 'error' or 'keep', not {truncated!r}")
    path = Path(path)
    try:
        data, cut = load(path, max_bytes) if data is None else unpack(data, max_bytes)
        keep = truncated == "keep"
        if cut and not keep:
            raise TruncatedFile(
                "the compressed stream ends early", "fetch it again, or keep what is there (--keep-truncated)"
            )
        kind = sniff(data, path)
        if kind == "pdb":
            table = read_pdb(data, model, keep)
            if chain_ids == "label":
                table.notes.append("a PDB file has no label ids: chains go by author id")
        elif kind == "mmcif":
            table = read_mmcif(data, model, chain_ids == "label", keep)
        else:
            table = read_bcif(data, model, chain_ids == "label")
        if cut and not any(note.startswith("truncated") for note in table.notes):
            table.notes.append("truncated: the compressed stream ends early")
        return assemble(table, chain, stem(path))
    except ProtokError as error:
        error.file = error.file or str(path)
        raise


def read_all(
    paths: Iterable[Path], errors: list[tuple[str, str, str]], **options: Any
) -> Iterator[tuple[Path, Backbone]]:
    """Read structure files one by one; one that cannot be read costs a row, never the others.

    Parameters
    ----------
    paths
        Files, as of `protok.structure.io.sources.paths.iter_files`.
    errors
        Gets a row (file, chain, reason) for each file that cannot be read, whatever is wrong.
    **options
        Of `read`.

    Yields
    ------
    path, backbone
        Of what can be read.
    """
    for path in paths:
        try:
            backbone = read(path, **options)
        except Exception as error:
            failure = as_error(error, path)
            errors.append((failure.file, failure.chain, failure.reason))
        else:
            yield path, backbone
