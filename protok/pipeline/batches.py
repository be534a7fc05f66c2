"""Batches of structure files to tokens, in this process or in workers; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from protok.common import workers
from protok.common.grouping import packed
from protok.errors import ProtokError, Unsupported, as_error
from protok.pipeline.inputs import Source, find_sources, repeated
from protok.structure.io.options import ReadOptions
from protok.tokenizers.protocol import EncodesBatches, HasEnvironments, HasKeyframes, Tokenizer
from protok.tokenizers.registry import as_tokenizer
from protok.tokens.tokens import Tokens

if TYPE_CHECKING:
    import numpy as np

    from protok.structure.backbone import Backbone

# A batch of files is what a worker gets at a time; residues are what a model gets at a time. Models that want
# more residues get more files, up to `MOST` times as many.
MOST = 8
BATCH_FILES = 16
BATCH_BYTES = 4 << 20
BATCH_RESIDUES = 4096


@dataclass(frozen=True)
class EncodeOptions(ReadOptions):
    """How structure files are read and tokenized.

    Attributes
    ----------
    keyframes
        Residues a keyframe, 0 for none; None as the tokenizer would. Of tokenizers that have any.
    environments
        Whether environment letters are given; None as the tokenizer would. Of tokenizers that have them.
    """

    keyframes: int | None = None
    environments: bool | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """What `encode` of the tokenizer is told."""
        both = {"keyframes": self.keyframes, "environments": self.environments}
        return {key: value for key, value in both.items() if value is not None}


class Record(Protocol):
    """What a job makes of a chain or an image, such as its tokens."""

    @property
    def uncoded(self) -> bool:
        """Whether there is nothing for any part of it."""
        ...

    def __len__(self) -> int: ...


class OfChain(Record, Protocol):
    """What a job makes of a chain."""

    @property
    def chain(self) -> np.ndarray: ...


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Encoded(Generic[R]):
    """Tokens (or other records) of one file, one a chain; what failed; what was left out, or got no code."""

    path: str
    tokens: tuple[R, ...] = ()
    errors: tuple[ProtokError, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """What a worker gets of a source: nothing, where it opens the file itself; or what an
    archive gave for it, content or error."""

    source: Source
    data: bytes | ProtokError | None = None


class HasSource(Protocol):
    """An input of a job."""

    @property
    def source(self) -> Source: ...


I = TypeVar("I", bound=HasSource)  # noqa: E741

#: Makes records of what was read, one `Encoded` for each input.
Make = Callable[["Sequence[Structures]", Tokenizer, EncodeOptions], "list[Encoded[R]]"]


def encode_files(
    paths: str | Path | Iterable[str | Path],
    tokenizer: Tokenizer | str | Path,
    *,
    jobs: int = 1,
    ordered: bool = True,
    timeout: float | None = None,
    **reading,
) -> Iterator[Encoded[Tokens]]:
    """Tokenize structure files one by one without writing anything.

    Parameters and names of structures are as for `encode_all`; errors are in the results.
    Results come in the order of the inputs, or as they are done.
    """
    options = EncodeOptions(**reading)
    sources = find_sources(paths)
    tokenizer = as_tokenizer(tokenizer)
    check_options(tokenizer, options)
    early: dict[Source, Encoded[Tokens]] = {}
    due, twice = 0, repeated(sources)
    for source, result in encode_sources(
        sources, tokenizer, options, jobs, make=encode_structures, timeout=timeout
    ):
        if source in twice:
            result = replace(result, notes=(*result.notes, twice[source]))
        if not ordered:
            yield result
            continue
        early[source] = result
        while due < len(sources) and sources[due] in early:
            yield early.pop(sources[due])
            due += 1


def encode_beside(
    paths: str | Path | Iterable[str | Path], tokenizer: Tokenizer | str | Path, **reading
) -> Iterator[tuple[Structures, Encoded[Tokens]]]:
    """What was read of each file, and its tokens; as `encode_files`, in this process."""
    options, tokenizer = EncodeOptions(**reading), as_tokenizer(tokenizer)
    for batch in batches(find_sources(paths), options, 1, residues_of(tokenizer)):
        read = read_structures(batch, options)
        yield from zip(read, encode_structures(read, tokenizer, options), strict=True)


def residues_of(tokenizer: Tokenizer) -> int:
    """Residues that a tokenizer is best given at once."""
    return tokenizer.batch_residues if isinstance(tokenizer, EncodesBatches) else BATCH_RESIDUES


def check_options(tokenizer: Tokenizer, options: EncodeOptions) -> None:
    """Refuse options before the work where the tokenizer does not know them."""
    if options.environments is not None and not isinstance(tokenizer, HasEnvironments):
        raise Unsupported(f"{tokenizer.codebook} has no environment letters", "leave them off")
    if options.keyframes is None:
        return
    if not isinstance(tokenizer, HasKeyframes):
        raise Unsupported(f"{tokenizer.codebook} has no keyframes", "leave them off")
    if options.keyframes and options.keyframes not in tokenizer.spacings:
        known = ", ".join(map(str, tokenizer.spacings))
        raise Unsupported(f"no keyframes each {options.keyframes}", f"give one of {known}, or 0 for none")


def encode_sources(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    options: EncodeOptions,
    jobs: int,
    *,
    make: Make[R],
    timeout: float | None = None,
) -> Generator[tuple[Source, Encoded[R]]]:
    """Yield the result of each source as it comes; `timeout` as in `workers.run`."""
    queue = batches(sources, options, jobs, residues_of(tokenizer))
    return in_workers(encoder, (tokenizer, options, make), queue, jobs=jobs, timeout=timeout)


def in_workers(
    factory: Callable[..., Callable[[Sequence[Any]], list[Encoded[R]]]],
    arguments: tuple,
    queue: Iterable[Sequence[Any]],
    *,
    jobs: int,
    timeout: float | None,
) -> Generator[tuple[Source, Encoded[R]]]:
    """Yield the result of each input of a queue as it comes, one that was lost as an error.

    Parameters are those of `workers.run`; an input has its `source`.
    """
    for entry, result in workers.run(factory, arguments, queue, jobs=jobs, timeout=timeout):
        path = entry.source.path
        if isinstance(result, workers.Lost):
            result = Encoded(path, errors=(ProtokError(result.reason, result.remedy, file=path),))
        yield entry.source, result


def batches(
    sources: Sequence[Source], options: EncodeOptions, jobs: int, residues: int
) -> Iterator[list[Input]]:
    """Yield sources ready for `jobs` workers, more of them for a model that is best given many `residues`."""
    more = min(max(1, residues // BATCH_RESIDUES), MOST)
    return shared_out(open_sources(sources, options), len(sources), jobs, more)


def shared_out(inputs: Iterable[I], n: int, jobs: int, more: int = 1) -> Iterator[list[I]]:
    """Yield `n` inputs for `jobs` workers, some files or some MB at a time, or so many times `more`."""
    most, size = BATCH_FILES * more, BATCH_BYTES * more
    if jobs > 1:  # so that all have something to do until the end
        most = min(most, 1 + n // (4 * jobs))
    # So many small files fill a batch as well.
    least = size // most
    yield from packed(inputs, lambda entry: max(entry.source.size, least), size)


def open_sources(sources: Iterable[Source], options: EncodeOptions) -> Iterator[Input]:
    """Yield sources ready for a worker; archives are streamed through, one at a time."""
    from protok.structure.io.sources.archives import SEPARATOR, read_members

    for archive, group in groupby(sources, key=lambda source: source.archive):
        if not archive:
            yield from map(Input, group)
            continue
        # The archive itself is a source, of the name "", where it could not be listed to its end.
        named = {source.path[len(archive + SEPARATOR) :]: source for source in group}
        for name, content in read_members(archive, named, options.max_bytes or None):
            yield Input(named[name], content)


def encoder(
    tokenizer: Tokenizer, options: EncodeOptions, make: Make[R]
) -> Callable[[Sequence[Input]], list[Encoded[R]]]:
    """Make the function that a worker applies to its batches."""
    return lambda batch: make(read_structures(batch, options), tokenizer, options)


@dataclass(frozen=True)
class Structures:
    """What was read of one input, or an error."""

    path: str
    structures: tuple[Backbone, ...] = ()
    errors: tuple[ProtokError, ...] = ()
    notes: tuple[str, ...] = ()


def read_structures(batch: Sequence[Input], options: EncodeOptions) -> list[Structures]:
    """Read the inputs of a batch; what fails is an error of its input."""
    from protok.structure.io.read import read_file

    results = []
    for entry in batch:
        path = entry.source.path
        try:
            if isinstance(entry.data, ProtokError):
                raise entry.data
            backbones = read_file(path, options, entry.data, entry.source.name)
        except Exception as error:
            results.append(Structures(path, errors=(as_error(error, path),)))
            continue
        notes = dict.fromkeys(note for backbone in backbones for note in backbone.notes)
        results.append(Structures(path, tuple(backbones), notes=tuple(notes)))
    return results


def encode_structures(
    batch: Sequence[Structures], tokenizer: Tokenizer, options: EncodeOptions
) -> list[Encoded[Tokens]]:
    """Tokenize what was read of a batch, an `Encoded` for each of its inputs."""
    whole = isinstance(tokenizer, HasKeyframes)
    pieces = [[p for s in entry.structures for p in ([s] if whole else s.by_chain())] for entry in batch]
    results = _tokenize([piece for own in pieces for piece in own], tokenizer, options)
    encoded = []
    for entry, own in zip(batch, pieces, strict=True):
        tokens: list[Tokens] = []
        errors = list(entry.errors)
        for result in islice(results, len(own)):
            if isinstance(result, ProtokError):
                result.file = entry.path
                errors.append(result)
            else:
                tokens.extend(result.by_chain())
        encoded.append(Encoded(entry.path, tuple(tokens), tuple(errors), entry.notes + uncoded(tokens)))
    return encoded


def uncoded(tokens: Sequence[OfChain]) -> tuple[str, ...]:
    """The note that chains without any code are worth, if there are such."""
    chains = [repr(str(chain.chain[0])) for chain in tokens if chain.uncoded]
    if not chains:
        return ()
    listed = ", ".join(chains[:20]) + (", ..." if len(chains) > 20 else "")
    return (f"no residue has a code, for want of N, CA and C or of neighbours: chain {listed}",)


def _tokenize(
    structures: Sequence[Backbone], tokenizer: Tokenizer, options: EncodeOptions
) -> Iterator[Tokens | ProtokError]:
    """Yield tokens or an error for each structure: together where it can be, else one by one."""
    for group in packed(structures, len, residues_of(tokenizer)):
        if isinstance(tokenizer, EncodesBatches) and len(group) > 1:
            try:
                results = tokenizer.encode_batch(group, **options.asked)
            except Exception:
                results = []  # one bad structure fails its group: each is tried alone, below
            if len(results) == len(group):
                yield from results
                continue
        for structure in group:
            try:
                yield tokenizer.encode(structure, **options.asked)
            except Exception as error:
                yield as_error(error, "", chain=",".join(structure.chains))
