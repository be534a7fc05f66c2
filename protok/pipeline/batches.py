"""Batches of structure files to tokens, in this process or in workers; nothing is written."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from protok.common import workers
from protok.common.grouping import packed
from protok.errors import ProtokError, Unsupported, as_error
from protok.pipeline.inputs import Source, find_sources
from protok.tokenizers.protocol import CrossesChains, EncodesBatches, Tokenizer
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone

# A batch of files is what a worker gets at a time; residues are what a model gets at a time.
BATCH_FILES = 16
BATCH_BYTES = 4 << 20
BATCH_RESIDUES = 4096


@dataclass(frozen=True)
class ReadOptions:
    """How structure files are read and tokenized: the options of `protok.read` and `encode`.

    Attributes
    ----------
    chain, model, chain_ids, truncated
        As for `protok.read`.
    across_chains
        Let the neighbourhood of a residue cross chains; by default each chain stands alone.
    max_bytes
        Inputs that hold more, packed or unpacked, are refused; 2 GiB by default.
    """

    chain: str | None = None
    model: int = 1
    chain_ids: Literal["author", "label"] = "author"
    truncated: Literal["error", "keep"] = "error"
    across_chains: bool = False
    max_bytes: int | None = None


@dataclass(frozen=True)
class Encoded:
    """Tokens of one file, one a chain; what failed in it; what its reader left out."""

    path: str
    tokens: tuple[Tokens, ...] = ()
    errors: tuple[ProtokError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """What a worker gets of a source: nothing, where it opens the file itself; or what an
    archive gave for it, content or error."""

    source: Source
    data: bytes | ProtokError | None = None


def encode_files(
    paths: str | Path | Iterable[str | Path],
    tokenizer: Tokenizer | str | Path,
    *,
    jobs: int = 1,
    ordered: bool = True,
    timeout: float | None = None,
    **reading,
) -> Iterator[Encoded]:
    """Tokenize structure files one by one without writing anything.

    Parameters and names of structures are as for `encode_all`; errors are in the results.
    Results come in the order of the inputs, or as they are done.
    """
    options = ReadOptions(**reading)
    sources = find_sources(paths)
    tokenizer = as_tokenizer(tokenizer)
    check_across(tokenizer, options)
    place = {source: number for number, source in enumerate(sources)}
    early: list[tuple[int, Encoded]] = []
    due = 0
    for source, result in encode_sources(sources, tokenizer, options, jobs, timeout=timeout):
        if not ordered:
            yield result
            continue
        heapq.heappush(early, (place[source], result))
        while early and early[0][0] == due:
            yield heapq.heappop(early)[1]
            due += 1


def residues_of(tokenizer: Tokenizer) -> int:
    """Residues that a tokenizer is best given at once."""
    return tokenizer.batch_residues if isinstance(tokenizer, EncodesBatches) else BATCH_RESIDUES


def check_across(tokenizer: Tokenizer, options: ReadOptions) -> None:
    """Refuse `across_chains` before the work where the tokenizer does not know it."""
    if options.across_chains and not isinstance(tokenizer, CrossesChains):
        raise Unsupported(f"{tokenizer.codebook} cannot encode across chains", "leave it off")


def encode_sources(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    options: ReadOptions,
    jobs: int,
    *,
    timeout: float | None = None,
) -> Generator[tuple[Source, Encoded]]:
    """Yield the result of each source as it comes; `timeout` as in `workers.run`."""
    alone = jobs == 1 and timeout is None
    payload = tokenizer if alone else pickle.dumps(tokenizer)
    most = min(BATCH_FILES, 1 + len(sources) // (4 * jobs))
    for one, result in workers.run(
        encoder, (payload, options), batches(open_sources(sources, options), most), jobs=jobs, timeout=timeout
    ):
        path = one.source.path
        if isinstance(result, workers.Lost):
            result = Encoded(path, errors=(ProtokError(result.reason, result.remedy, file=path),))
        yield one.source, result


def open_sources(sources: Iterable[Source], options: ReadOptions) -> Iterator[Input]:
    """Yield sources ready for a worker; archives are streamed through, one at a time."""
    from protok.structure.io.sources.archives import SEPARATOR, read_members

    for archive, group in groupby(sources, key=lambda source: source.archive):
        if not archive:
            yield from map(Input, group)
            continue
        # The archive itself is a source, of the name "", where it could not be listed to its end.
        named = {source.path[len(archive + SEPARATOR) :]: source for source in group}
        for name, content in read_members(archive, named, options.max_bytes):
            yield Input(named[name], content)


def batches(inputs: Iterable[Input], most: int) -> Iterator[list[Input]]:
    """Group inputs for workers: `most` files and some MB at a time."""
    batch: list[Input] = []
    held = 0
    for one in inputs:
        size = one.source.size
        if batch and (len(batch) >= most or held + size > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(one)
        held += size
    if batch:
        yield batch


def encoder(payload: Tokenizer | bytes, options: ReadOptions) -> Callable[[Sequence[Input]], list[Encoded]]:
    """Make the function that a worker applies to its batches."""
    tokenizer = pickle.loads(payload) if isinstance(payload, bytes) else payload
    return lambda batch: encode_structures(read_structures(batch, options), tokenizer, options)


@dataclass
class Structures:
    """What was read of a batch: structures, the input of each, and each input's path, errors
    and notes."""

    paths: list[str]
    structures: list[Backbone]
    owner: list[int]
    errors: list[list[ProtokError]]
    notes: list[tuple[str, ...]]


def read_structures(batch: Sequence[Input], options: ReadOptions) -> Structures:
    """Read the inputs of a batch; what fails is an error of its input."""
    from protok.structure.io.read import read

    keys = ("chain", "model", "chain_ids", "truncated", "max_bytes")
    asked = {key: getattr(options, key) for key in keys}
    paths = [one.source.path for one in batch]
    found = Structures(paths, [], [], [[] for _ in batch], [()] * len(batch))
    for number, one in enumerate(batch):
        source = one.source
        try:
            if isinstance(one.data, ProtokError):
                raise one.data
            backbone = replace(read(source.path, data=one.data, **asked), name=source.name)
        except Exception as error:
            found.errors[number].append(as_error(error, source.path))
            continue
        found.notes[number] = backbone.notes
        pieces = [backbone] if options.across_chains else list(backbone.by_chain())
        found.structures.extend(pieces)
        found.owner.extend([number] * len(pieces))
    return found


def encode_structures(found: Structures, tokenizer: Tokenizer, options: ReadOptions) -> list[Encoded]:
    """Tokenize what was read of a batch, an `Encoded` for each of its inputs."""
    tokens: list[list[Tokens]] = [[] for _ in found.paths]
    errors = [list(rows) for rows in found.errors]
    results = _tokenize(found.structures, tokenizer, options)
    for number, result in zip(found.owner, results, strict=True):
        if isinstance(result, ProtokError):
            result.file = found.paths[number]
            errors[number].append(result)
        else:
            tokens[number].extend(result.by_chain())
    return [
        Encoded(path, tuple(tokens[n]), tuple(errors[n]), found.notes[n])
        for n, path in enumerate(found.paths)
    ]


def _tokenize(
    structures: Sequence[Backbone], tokenizer: Tokenizer, options: ReadOptions
) -> Iterator[Tokens | ProtokError]:
    """Yield tokens or an error for each structure: together where it can be, else one by one."""
    extra = {"across_chains": True} if options.across_chains else {}
    for group in packed(structures, len, residues_of(tokenizer)):
        if isinstance(tokenizer, EncodesBatches) and not extra and len(group) > 1:
            try:
                results = tokenizer.encode_batch(group)
            except Exception:
                pass  # one bad structure fails its group: each is tried alone, below
            else:
                yield from results
                continue
        for one in group:
            try:
                yield tokenizer.encode(one, **extra)
            except Exception as error:
                yield as_error(error, "", chain=",".join(one.chains))
