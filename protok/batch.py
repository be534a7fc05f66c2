"""Batches of structure files to tokens, in this process or in workers; nothing is written."""

from __future__ import annotations

import heapq
import inspect
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import workers
from .errors import ProtokError, Unsupported
from .journal import Source
from .tokens import Tokens

if TYPE_CHECKING:
    from .backbone import Backbone

# A batch of files is what a worker gets at a time; residues are what a model gets at a time.
BATCH_FILES = 16
BATCH_BYTES = 4 << 20
BATCH_RESIDUES = 4096


@dataclass(frozen=True)
class Reading:
    """How structure files are read and tokenized: the options of `protok.read` and `encode`.

    Attributes
    ----------
    chain, model, chain_ids, truncated
        As for `protok.read`.
    across_chains
        Let the neighbourhood of a residue cross chains; by default each chain stands alone.
    """

    chain: str | None = None
    model: int = 1
    chain_ids: str = "author"
    truncated: str = "error"
    across_chains: bool = False


@dataclass(frozen=True)
class Encoded:
    """Tokens of one file, one a chain; what failed in it; what its reader left out."""

    path: str
    tokens: tuple[Tokens, ...] = ()
    errors: tuple[ProtokError, ...] = ()
    notes: tuple[str, ...] = ()


def encode_files(
    paths: str | Path | Iterable[str | Path], tokenizer: Any, *, jobs: int = 1, **reading
) -> Iterator[Encoded]:
    """Tokenize structure files one by one, in the order of the inputs, without writing anything.

    Parameters and names of structures are as for `encode_all`; errors are in the results.
    """
    options = Reading(**reading)
    sources = find_sources(paths)
    tokenizer = as_tokenizer(tokenizer)
    check_across(tokenizer, options)
    place = {source: number for number, source in enumerate(sources)}
    early: list[tuple[int, Encoded]] = []
    due = 0
    for source, result in encode_sources(sources, tokenizer, options, jobs):
        heapq.heappush(early, (place[source], result))
        while early and early[0][0] == due:
            yield heapq.heappop(early)[1]
            due += 1


def find_sources(paths: str | Path | Iterable[str | Path]) -> list[Source]:
    """List the structure files that `paths` name, under names that tell them apart.

    Raises
    ------
    ProtokError
        If a path does not exist or no structure file is found.
    """
    from .io import iter_files

    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    files = list(iter_files(paths))
    if not files:
        raise ProtokError(
            "no structure files found",
            "give files, folders or patterns of .pdb, .cif, .bcif",
            file=", ".join(map(str, paths)),
        )
    sources = []
    for file, name in zip(files, unique_names(files), strict=True):
        status = file.stat()
        sources.append(Source(str(file), name, status.st_size, status.st_mtime_ns))
    return sources


def unique_names(files: Sequence[Path]) -> list[str]:
    """Name files by their stems; where these are the same, by as much of the path as it takes.

    >>> unique_names([Path("x/1aki.pdb"), Path("y/1aki.pdb"), Path("y/1ubq.cif")])
    ['x/1aki.pdb', 'y/1aki.pdb', '1ubq']
    """
    from .io import stem

    parts = [0] * len(files)
    while True:
        names = [
            "/".join(file.parts[-n:]) if n else stem(file)
            for file, n in zip(files, parts, strict=True)
        ]
        count = Counter(names)
        if len(count) == len(files):
            return names
        parts = [n + (count[name] > 1) for n, name in zip(parts, names, strict=True)]


def as_tokenizer(given: Any) -> Any:
    """A tokenizer, from itself or from its name or folder."""
    if not isinstance(given, str | Path):
        return given
    import protok

    return protok.load(str(given))


def check_across(tokenizer: Any, options: Reading) -> None:
    """Refuse `across_chains` before the work where the tokenizer does not know it."""
    known = inspect.signature(tokenizer.encode).parameters
    if options.across_chains and "across_chains" not in known:
        raise Unsupported(f"{tokenizer.codebook} cannot encode across chains", "leave it off")


def encode_sources(
    sources: Sequence[Source], tokenizer: Any, options: Reading, jobs: int
) -> Iterator[tuple[Source, Encoded]]:
    """Yield the result of each source as it comes."""
    payload = tokenizer if jobs == 1 else pickle.dumps(tokenizer)
    batches = _batches(sources, min(BATCH_FILES, 1 + len(sources) // (4 * jobs)))
    for source, result in workers.run(_encoder, (payload, options), batches, jobs=jobs):
        if isinstance(result, workers.Lost):
            result = Encoded(source.path, errors=(ProtokError(result.reason, file=source.path),))
        yield source, result


def _batches(sources: Sequence[Source], most: int) -> Iterator[list[Source]]:
    batch: list[Source] = []
    for source in sources:
        if batch and (
            len(batch) >= most or sum(one.size for one in batch) + source.size > BATCH_BYTES
        ):
            yield batch
            batch = []
        batch.append(source)
    if batch:
        yield batch


def _encoder(payload: Any, options: Reading) -> Callable[[Sequence[Source]], list[Encoded]]:
    """Make the function that a worker applies to its batches."""
    tokenizer = pickle.loads(payload) if isinstance(payload, bytes) else payload
    return lambda batch: _encode_batch(batch, tokenizer, options)


def _encode_batch(batch: Sequence[Source], tokenizer: Any, options: Reading) -> list[Encoded]:
    from .io import read

    asked = {key: getattr(options, key) for key in ("chain", "model", "chain_ids", "truncated")}
    structures: list[Backbone] = []
    owner: list[int] = []
    errors: list[list[ProtokError]] = [[] for _ in batch]
    notes: list[tuple[str, ...]] = [()] * len(batch)
    for number, source in enumerate(batch):
        try:
            backbone = replace(read(source.path, **asked), name=source.name)
        except Exception as error:
            errors[number].append(_as_error(error, source.path))
            continue
        notes[number] = backbone.notes
        pieces = [backbone] if options.across_chains else list(backbone.split())
        structures.extend(pieces)
        owner.extend([number] * len(pieces))
    tokens: list[list[Tokens]] = [[] for _ in batch]
    for number, result in zip(owner, _tokenize(structures, tokenizer, options), strict=True):
        if isinstance(result, ProtokError):
            result.file = batch[number].path
            errors[number].append(result)
        else:
            tokens[number].extend(result.split())
    return [
        Encoded(source.path, tuple(tokens[n]), tuple(errors[n]), notes[n])
        for n, source in enumerate(batch)
    ]


def _tokenize(
    structures: Sequence[Backbone], tokenizer: Any, options: Reading
) -> Iterator[Tokens | ProtokError]:
    """Yield tokens or an error for each structure: together where it can be, else one by one."""
    together = getattr(tokenizer, "encode_batch", None)
    extra = {"across_chains": True} if options.across_chains else {}
    for group in _groups(structures):
        if together is not None and not extra and len(group) > 1:
            try:
                results = together(group)
            except Exception:
                pass  # one bad structure fails its group: each is tried alone, below
            else:
                yield from results
                continue
        for one in group:
            try:
                yield tokenizer.encode(one, **extra)
            except Exception as error:
                yield _as_error(error, "", chain=",".join(one.chains))


def _groups(structures: Sequence[Backbone]) -> Iterator[list[Backbone]]:
    group: list[Backbone] = []
    for one in structures:
        if group and sum(map(len, group)) + len(one) > BATCH_RESIDUES:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _as_error(error: Exception, file: str, chain: str = "") -> ProtokError:
    """Any exception as a row of the error table: what is no ProtokError is a fault of ours."""
    if not isinstance(error, ProtokError):
        error = ProtokError(
            f"unexpected {type(error).__name__}: {error}", "please report it with the file"
        )
    error.file = file
    error.chain = error.chain or chain
    return error
