"""read: a structure file into a Backbone, or a refusal that says why."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from protok.errors import ChainNotFound, NoProtein, ProtokError, TruncatedFile, as_error
from protok.structure.backbone import Backbone
from protok.structure.io.assemble import assemble
from protok.structure.io.assembly import assembled
from protok.structure.io.formats.bcif import read_bcif
from protok.structure.io.formats.mmcif import read_mmcif
from protok.structure.io.formats.pdb import read_pdb
from protok.structure.io.formats.table import OTHER_MODELS, Table
from protok.structure.io.options import ALL, ReadOptions
from protok.structure.io.select import in_ranges, masked
from protok.structure.io.sequences import on_sequences
from protok.structure.io.sources.content import load, sniff, unpack
from protok.structure.io.sources.paths import stem


def read(
    path: str | os.PathLike,
    *,
    chain: str | None = None,
    residues: str | None = None,
    model: int = 1,
    assembly: str | int | None = None,
    sequence: str | os.PathLike | None = None,
    min_plddt: float | None = None,
    max_bfactor: float | None = None,
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
    residues
        Numbers of the residues to take, as ``"10-90"`` or ``"10-90,120-150"``, both ends
        included, insertion codes too; of every chain that is taken.
    model
        Which model, counted from 1 in the order of the file; `read_models` gives all.
    assembly
        Id of the biological assembly to build, as the file has it, mostly 1; None for the
        coordinates as they are. Copies of chain A are A-2, A-3 and so on.
    sequence
        ``"file"``: put each chain on the whole sequence that the file tells of it (SEQRES,
        `_pdbx_poly_seq_scheme`, `_entity_poly`), so that residues without atoms are there too, with
        NaN. Or a FASTA file, whose sequences the chains are put on.
    min_plddt, max_bfactor
        Blank residues (NaN, and so without a token) whose value in the B-factor column is less
        than `min_plddt`, or more than `max_bfactor`.
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
        Residues in the order of the file; `notes` says what was left out or added.

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
    >>> protok.read("data/7w89.A.pdb", chain="A", residues="10-90")
    Backbone(7w89.A, 77 residues, chains A)
    """
    if model == ALL:
        remedy = "give the number of a model, or use read_models"
        raise ProtokError("a structure is one model, not all", remedy, file=path)
    options = ReadOptions(
        chain=chain or "",
        residues=residues or "",
        model=model,
        assembly=str(assembly or ""),
        sequence=str(sequence or ""),
        min_plddt=min_plddt or 0.0,
        max_bfactor=max_bfactor or 0.0,
        chain_ids=chain_ids,
        truncated=truncated,
        max_bytes=max_bytes or 0,
    )
    return read_file(path, options, data)[0]


def read_models(path: str | os.PathLike, **options: Any) -> list[Backbone]:
    """Read every model of a structure file, as of an NMR ensemble.

    Parameters
    ----------
    path
        The file.
    **options
        Fields of `ReadOptions` other than `model`.

    Returns
    -------
    list of Backbone
        In the order of the file, called ``name#1``, ``name#2`` and so on if there are several.

    Raises
    ------
    ProtokError
        As `read` does, if any of the models cannot be read.
    """
    return read_file(path, ReadOptions(model=ALL, **options))


def read_file(
    path: str | os.PathLike, options: ReadOptions, data: bytes | None = None, name: str = ""
) -> list[Backbone]:
    """What `read` and `read_models` do: one Backbone, or one a model.

    Parameters
    ----------
    path, data
        As for `read`.
    options
        How.
    name
        Of the structure; by default of the file.
    """
    path = Path(path)
    name = name or stem(path)
    try:
        most = options.max_bytes or None
        data, cut = load(path, most) if data is None else unpack(data, most)
        if cut and options.truncated == "error":
            raise TruncatedFile(
                "the compressed stream ends early", "fetch it again, or keep what is there (--keep-truncated)"
            )
        kind = sniff(data, path)
        backbones = []
        for table in _tables(data, kind, options):
            if cut and not any(note.startswith("truncated") for note in table.notes):
                table.notes.append("truncated: the compressed stream ends early")
            if options.assembly:
                table = assembled(table, data, kind, options.assembly)
            backbone = assemble(table, options.chain or None, name)
            if options.sequence:
                backbone = on_sequences(backbone, data, kind, options)
            if options.residues:
                backbone = in_ranges(backbone, options.ranges)
            backbones.append(masked(backbone, options.min_plddt, options.max_bfactor))
    except ProtokError as error:
        error.file = error.file or str(path)
        raise
    if len(backbones) == 1:
        return backbones
    return [replace(backbone, name=f"{name}#{i}") for i, backbone in enumerate(backbones, 1)]


def _tables(data: bytes, kind: str, options: ReadOptions) -> Iterator[Table]:
    """The table of the model, or of each model."""
    for number in itertools.count(1) if options.model == ALL else [options.model]:
        try:
            table = _table(data, kind, number, options)
        except ChainNotFound:  # of readers of tables it is about models alone
            if options.model != ALL or number == 1:
                raise
            return
        if options.model == ALL:
            table.notes = [note for note in table.notes if note != OTHER_MODELS.format(number)]
        yield table


def _table(data: bytes, kind: str, model: int, options: ReadOptions) -> Table:
    keep, labels = options.truncated == "keep", options.chain_ids == "label"
    if kind == "mmcif":
        return read_mmcif(data, model, labels, keep)
    if kind == "bcif":
        return read_bcif(data, model, labels)
    table = read_pdb(data, model, keep)
    if labels:
        table.notes.append("a PDB file has no label ids: chains go by author id")
    return table


def read_all(
    paths: Iterable[Path], errors: list[tuple[str, str, str]], options: ReadOptions | None = None
) -> Iterator[tuple[Path, Backbone]]:
    """Read structure files one by one; one that cannot be read costs a row, never the others.

    Parameters
    ----------
    paths
        Files, as of `protok.structure.io.sources.paths.iter_files`.
    errors
        Gets a row (file, chain, reason) for each file that cannot be read, whatever is wrong.
    options
        How.

    Yields
    ------
    path, backbone
        Of what can be read.
    """
    for path in paths:
        try:
            backbones = read_file(path, options or ReadOptions())
        except Exception as error:
            failure = as_error(error, path)
            errors.append((failure.file, failure.chain, failure.reason))
        else:
            yield from ((path, backbone) for backbone in backbones)


def none_read(errors: list[tuple[str, str, str]], source: str | Path = "") -> NoProtein:
    """The error where no file of a source gave a chain; `errors` are the rows of `read_all`."""
    if not errors:
        return NoProtein("no structure files", "give PDB or mmCIF files", file=str(source))
    cause = f"none of {len({file for file, _, _ in errors})} files holds a readable protein chain"
    return NoProtein(cause, f"the first: {': '.join(errors[0][::2])}", file=str(source))
