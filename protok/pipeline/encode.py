"""Many structures at once: folders of files to token files, on all cores, resumable.

A file that cannot be read costs a row in the error table, a worker that dies costs the file it
was at, and a killed run costs the last seconds: the same call goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from protok.common.files import check_output, write_errors
from protok.common.progress import show_progress
from protok.errors import ProtokError
from protok.pipeline import output
from protok.pipeline.batches import (
    Encoded,
    EncodeOptions,
    Make,
    R,
    check_options,
    encode_sources,
    encode_structures,
    residues_of,
    uncoded,
)
from protok.pipeline.inputs import Source, find_sources
from protok.pipeline.journal import Journal
from protok.structure.io.sequences import FILE, read_fasta
from protok.tokenizers.protocol import HasEncoder, Tokenizer, encode_each
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.files import save
from protok.tokens.parquet import token_schema
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

    from protok.pipeline.ray import Cluster


@dataclass(frozen=True)
class Form(Generic[R]):
    """How a job keeps its records.

    Attributes
    ----------
    write
        Puts records into a Parquet file.
    schema
        Of such a file, as Arrow has it.
    convert
        Makes the output of a Parquet file of all records, where it is another kind of file; gets what the
        output is to say of itself too.
    stored
        What a finished output says that it was made of; empty if it says nothing.
    """

    write: Callable[[Iterable[R], Path], None]
    schema: Callable[[], pa.Schema]
    convert: output.Convert = output.convert_tokens
    stored: Callable[[Path], dict[str, Any]] = output.read_stored


@dataclass(frozen=True)
class Product(Generic[R]):
    """What a job makes of structures, one record a chain, and how it keeps them.

    Attributes
    ----------
    make
        Records of what was read; goes to workers, so it must pickle.
    form
        How they are kept.
    key
        What records hang on besides model and options of reading, as JSON has it.
    """

    make: Make[R]
    form: Form[R]
    key: Mapping[str, Any] = field(default_factory=dict)


#: Tokens, as `encode_all` makes them.
TOKENS = Product(encode_structures, Form(save, token_schema))


class Stopped(ProtokError):
    """An input failed, and the job was to stop then; the input's own error is the cause."""


@dataclass(frozen=True)
class Summary:
    """What a batch job came to.

    Attributes
    ----------
    out : str
        The output file.
    codebook : str
        `name@fingerprint` of the tokenizer.
    files, chains, residues : int
        Inputs; chains and residues in the output.
    uncoded : int
        Chains of the output without any code.
    failed : int
        Inputs of which something is missing in the output: those in `errors`.
    errors : tuple of (file, chain, reason)
        The error table; chain is empty where the whole file failed.
    notes : tuple of (file, note)
        What readers left out or mended, and which chains have no code.
    resumed : int
        Inputs taken over from an interrupted run; all of them if the output was complete.
    seconds : float
        Wall time of this call.
    """

    out: str
    codebook: str
    files: int
    chains: int
    residues: int
    uncoded: int
    failed: int
    errors: tuple[tuple[str, str, str], ...]
    notes: tuple[tuple[str, str], ...]
    resumed: int
    seconds: float


def encode_all(
    paths: str | Path | Iterable[str | Path],
    tokenizer: Tokenizer | str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    on_error: str = "skip",
    errors: str | Path | None = None,
    overwrite: bool = False,
    ordered: bool = True,
    timeout: float | None = None,
    ray: Cluster | None = None,
    progress: bool | None = None,
    product: Product = TOKENS,
    **reading,
) -> Summary:
    """Tokenize structure files into one token file, one record a chain.

    While it works, results lie in the folder `<out>.parts`; the output appears at the end. After
    a kill the same call goes on; inputs that changed meanwhile are done again. A finished Parquet
    file knows what it was made of: the same call does nothing then. If every input fails there is an
    error table alone, and the same call tries them again. In each chain's `name` stands
    the stem of its file, or as much of the path as tells files of the same stem apart.

    Parameters
    ----------
    paths
        Files, folders (searched to the bottom, but for symbolic links to folders), glob patterns,
        lists (``@name``, a path a line; ``-`` for the standard input), and archives, whose
        members are read as streams and never become files: ``.tar`` (plain, gzip, bzip2,
        Zstandard), ``.zip``, Foldcomp databases.
    tokenizer
        A tokenizer, or the name or folder of one.
    out
        `.parquet`, `.fasta`, `.csv` or `.npz`; without a suffix a folder, which becomes a
        Parquet dataset of several files.
    jobs
        Worker processes of one thread each. With 1 and no `timeout` all happens in this process;
        a file that kills it is then met again when the call is repeated, unless that has one.
    on_error
        `"skip"` to go on after a failed input, `"stop"` to raise its error.
    errors
        Table of failed inputs, where there are any: file, chain, reason. By default `<out>.errors.tsv`. It
        appears with the output; while that is made it grows in `<out>.parts`.
    overwrite
        Replace an output of other inputs, model or options, drop unfinished work of another
        model or options, and try failed inputs of unfinished work again.
    ordered
        Records in the order of the inputs; else as they were done.
    timeout
        Seconds that a worker may take for one input; one that takes longer is a failed input.
    ray
        Work on a Ray cluster (`protok.pipeline.ray.Cluster`) instead of `jobs` processes.
    progress
        Show a progress bar; by default if the standard error is a terminal.
    product
        What is made of structures: tokens, or other records, which are kept as Parquet only.
    **reading
        Fields of `EncodeOptions`: chain, residues, model, assembly, sequence, min_plddt, max_bfactor,
        chain_ids, truncated, max_bytes, keyframes. With ``model="all"`` each model is a structure of its
        own, ``name#1``, ``name#2`` and so on.

    Returns
    -------
    Summary

    Raises
    ------
    ProtokError
        If an input path does not exist, no structure file is found, the output exists and was
        not made by this very call, or unfinished work of another model or options is in the way.
    Stopped
        With `on_error="stop"`, when an input fails.
    FormatError
        If the suffix of `out` is none of these.
    """
    out, options = Path(out), EncodeOptions(**reading)
    output.check_suffix(out)
    sources = find_sources(paths)
    tokenizer = as_tokenizer(tokenizer)
    check_options(tokenizer, options)

    def stream(todo: Sequence[Source]) -> Generator[tuple[Source, Encoded]]:
        if ray is None:
            return encode_sources(todo, tokenizer, options, jobs, make=product.make, timeout=timeout)
        from protok.pipeline.ray import encode_sources as on_cluster

        return on_cluster(todo, tokenizer, options, ray, make=product.make, timeout=timeout)

    job = {**job_key(tokenizer, options), **product.key}
    how = {"on_error": on_error, "errors": errors, "overwrite": overwrite, "progress": progress}
    return carry_out(sources, job, stream, out, product.form, ordered=ordered, **how)


def carry_out(
    sources: Sequence[Source],
    job: dict[str, Any],
    stream: Callable[[Sequence[Source]], Generator[tuple[Source, Encoded]]],
    out: Path,
    form: Form,
    *,
    on_error: str = "skip",
    errors: str | Path | None = None,
    overwrite: bool = False,
    ordered: bool = True,
    progress: bool | None = None,
) -> Summary:
    """Do what is left of a job, of structures or of anything else, and let its output appear.

    Parameters
    ----------
    sources
        All inputs of the job.
    job
        What results depend on besides the inputs: with ``codebook``, as JSON has it.
    stream
        Yields the result of each of some sources as it comes.
    form
        How results are kept.
    out, on_error, errors, overwrite, ordered, progress
        As for `encode_all`, which says what is raised too.
    """
    if on_error not in ("skip", "stop"):
        raise ValueError(f"on_error is 'skip' or 'stop', not {on_error!r}")
    began = time.monotonic()
    if not out.name:
        raise ProtokError("is no name for an output", "name a file or folder", file=str(out))
    table = Path(errors) if errors is not None else errors_of(out)
    check_output(out, folder=not out.suffix)
    check_output(table)
    made = {**job, "ordered": ordered}
    parts = parts_of(out)

    folder = out.is_dir()
    taken = any(out.iterdir()) if folder else out.exists()
    if overwrite and taken and folder and not output.is_dataset(out):
        raise ProtokError("is a folder of something else", "write elsewhere", file=str(out))
    table.parent.mkdir(parents=True, exist_ok=True)
    if taken and not overwrite:
        stored = output.same_job(out, made, sources, form.stored(out))
        if parts.exists():  # killed after the last step but one
            Journal(parts, job).remove()
        write_errors(stored["errors"], table)
        return _summary(out, job, stored, len(sources), began)
    journal = Journal(parts, job, fresh=overwrite, write=form.write)
    try:
        done = [source for source in sources if source in journal.done]
        todo = [source for source in sources if source not in journal.done]
        known = output.error_rows(journal.done[source] for source in done)
        running = parts / "errors.tsv"
        write_errors(known, running)
        with (
            show_progress("encoding", len(sources), progress) as advance,
            contextlib.closing(stream(todo)) as results,
        ):
            advance(len(done), len({file for file, _, _ in known}))
            for source, result in results:
                if result.errors and on_error == "stop":
                    error = result.errors[0]
                    raise Stopped(error.cause, error.remedy, file=error.file, chain=error.chain) from error
                failed = tuple((error.chain, error.reason) for error in result.errors)
                journal.add(source, result.tokens, failed, result.notes)
                write_errors([(source.path, *row) for row in failed], running, append=True)
                advance(1, bool(failed))
        journal.flush()
        stored = output.made_of(made, sources, [journal.done[source] for source in sources])
        if stored["chains"]:
            tables = journal.tables(sources, ordered)
            output.finish(tables, journal.folder, out, stored, schema=form.schema(), convert=form.convert)
        write_errors(stored["errors"], table)
        journal.remove()
    finally:
        # What was finished before an error or Ctrl-C is kept for the next call.
        try:
            journal.flush()
        finally:
            journal.close()
    return _summary(out, job, stored, len(done), began)


def encode_store(
    store: str | Path,
    tokenizer: Tokenizer | str | Path,
    out: str | Path,
    *,
    progress: bool | None = None,
    **asked: Any,
) -> Summary:
    """Tokenize a structure store, as training writes and reads it, into one token file.

    Ids of a store are those of its chains, ``name_chain``; residues are numbered from 1. All
    happens in this process, and a killed call begins anew.

    Parameters
    ----------
    store
        Parquet file (see `protok.structure.store`).
    tokenizer, out, progress
        As for `encode_all`.
    **asked
        ``keyframes`` and ``environments``, as for `encode_all`.

    Raises
    ------
    FormatError
        If `store` is none, or the suffix of `out` is unknown.
    ProtokError
        If `out` exists.
    Unsupported
        If the tokenizer has not what is asked for.
    """
    from protok.structure.store import read_store

    began = time.monotonic()
    out, tokenizer = Path(out), as_tokenizer(tokenizer)
    output.check_suffix(out)
    check_output(out)
    options = EncodeOptions(**asked)
    check_options(tokenizer, options)
    if out.exists():
        raise ProtokError("exists already", "write elsewhere, or remove it", file=str(out))
    chains = read_store(store)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Chains of one length go through together faster.
    order = chains.lengths().argsort(kind="stable")
    room = (chains.lengths()[order].cumsum() // residues_of(tokenizer)).tolist()
    encoded: dict[int, Tokens] = {}
    with show_progress("encoding", len(chains), progress) as advance:
        for _, group in itertools.groupby(zip(room, order.tolist(), strict=True), key=lambda pair: pair[0]):
            rows = [row for _, row in group]
            results = encode_each(tokenizer, [chains.backbone(row) for row in rows], **options.asked)
            for row, tokens in zip(rows, results, strict=True):
                name, _, chain = chains.ids[row].rpartition("_")
                label = np.full(len(tokens), chain)
                encoded[row] = replace(tokens, name=name, chain=label) if name else tokens
            advance(len(rows), 0)
    results = [encoded[row] for row in range(len(chains))]
    save(results, out)
    stored = {
        "files": 1,
        "chains": len(chains),
        "residues": int(chains.lengths().sum()),
        "uncoded": sum(tokens.uncoded for tokens in results),
        "errors": (),
        "notes": [(chains.ids[row], note) for row in range(len(chains)) for note in uncoded([encoded[row]])],
    }
    return _summary(out, {"codebook": tokenizer.codebook}, stored, 0, began)


def parts_of(out: str | Path) -> Path:
    """Where the unfinished work of an output lies."""
    return Path(out).parent / f"{Path(out).name}.parts"


def errors_of(out: str | Path) -> Path:
    """Where the failed inputs of an output are listed: not where those of another one are."""
    return Path(out).parent / f"{Path(out).name}.errors.tsv"


def job_key(tokenizer: Tokenizer, options: EncodeOptions) -> dict:
    """What results depend on besides the inputs: the model, all of it, and the options."""
    encoder = tokenizer.encoder_fingerprint if isinstance(tokenizer, HasEncoder) else None
    job = {"codebook": tokenizer.codebook, "encoder": encoder, **asdict(options)}
    if options.sequence not in ("", FILE):
        content = json.dumps(dict(read_fasta(options.sequence))).encode()
        job["sequence"] = f"{options.sequence} ({hashlib.sha256(content).hexdigest()[:8]})"
    return job


def _summary(out: Path, job: dict, stored: dict, resumed: int, began: float) -> Summary:
    """Sum up a job from what `output.made_of` gave for it."""
    errors = tuple((file, chain, reason) for file, chain, reason in stored["errors"])
    return Summary(
        out=str(out),
        codebook=job["codebook"],
        files=stored["files"],
        chains=stored["chains"],
        residues=stored["residues"],
        uncoded=stored["uncoded"],
        failed=len({file for file, _, _ in errors}),
        errors=errors,
        notes=tuple((file, note) for file, note in stored["notes"]),
        resumed=resumed,
        seconds=time.monotonic() - began,
    )
