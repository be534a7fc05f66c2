"""Token files back to structure files, each chain compared with the original if there is one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protok.common import workers
from protok.common.files import check_output, disk_is_full
from protok.common.progress import show_progress
from protok.errors import CodebookMismatch, FormatError, NoProtein, ProtokError, Unsupported
from protok.structure.io.options import ALL, ReadOptions
from protok.structure.io.sources.paths import iter_files, stem, utf8
from protok.tokenizers.protocol import Decodes, HasKeyframes, Tokenizer, decoding
from protok.tokenizers.registry import as_tokenizer, named_in
from protok.tokens.files import load
from protok.tokens.tokens import Tokens, join

if TYPE_CHECKING:
    from protok.structure.backbone import Backbone


_MODEL = re.compile(r"#(\d+)$")


@dataclass(frozen=True)
class DecodedChain:
    """What was decoded into one file: a chain, or all chains of a structure with keyframes.

    Attributes
    ----------
    name, chain : str
        Of the tokens; several chains with a comma between them.
    length : int
        Residues, those without a token included.
    file : str
        Where it was written.
    confidence : float
        Mean over the residues, 0 to 100, as in the B-factor column.
    rmsd, tm_score, lddt : float
        Against the original, all chains superposed together: CA RMSD in Å, TM-score, CA lDDT; NaN where
        nothing was compared.
    """

    name: str
    chain: str
    length: int
    file: str
    confidence: float
    rmsd: float = float("nan")
    tm_score: float = float("nan")
    lddt: float = float("nan")


@dataclass(frozen=True)
class DecodeSummary:
    """All that was decoded, in the order of the tokens, (name, chain, reason) of the others, and notes
    (name, note) on what decodes alone though it had a place beside another chain."""

    codebook: str
    chains: tuple[DecodedChain, ...]
    errors: tuple[tuple[str, str, str], ...]
    notes: tuple[tuple[str, str], ...] = ()

    def means(self) -> dict[str, float]:
        """Mean RMSD, TM-score and lDDT over the compared chains, each chain counting the same."""
        keys = ("rmsd", "tm_score", "lddt")
        scores = np.array([[getattr(chain, key) for key in keys] for chain in self.chains])
        compared = scores[np.isfinite(scores).all(axis=1)] if len(scores) else scores
        values = compared.mean(axis=0).tolist() if len(compared) else [float("nan")] * 3
        return {"chains": len(compared), **dict(zip(keys, values, strict=True))}


@dataclass(frozen=True)
class _Task:
    """What goes into one file, where that is (without suffix), and the originals it may be of; None if
    it is not to be compared."""

    tokens: Tokens
    target: Path
    suffix: str | None
    references: Sequence[Path] | None


def decode_all(
    tokens: str | Path | Iterable[Tokens],
    out: str | Path,
    tokenizer: Tokenizer | str | Path | None = None,
    *,
    compare: str | Path | Iterable[str | Path] | None = None,
    suffix: str | None = None,
    letters_alone: bool = False,
    jobs: int = 1,
    progress: bool | None = None,
    **reading,
) -> DecodeSummary:
    """Decode tokens into a folder: `<name>_<chain>.pdb` (or `.cif`), and `<name>.pdb` of several chains.

    Tokens with keyframes say where chains lie to one another: those of one name become one file. Other
    chains become one each. Files of these names in the folder are replaced.

    Parameters
    ----------
    tokens
        A token file, or Tokens.
    out
        The folder, made if needed.
    tokenizer
        A tokenizer, or the name or folder of one; by default the one that the tokens name.
    compare
        Original structures (files, folders, patterns), found by the names of the tokens.
    suffix
        `.pdb` or `.cif`; by default `.pdb`, and `.cif` for chains whose id, insertion codes or
        numbers PDB has no room for.
    letters_alone
        Decode tokens without keyframes, of a tokenizer that has them: right over some residues only.
    jobs
        Worker processes of one thread each; with 1 all happens in this process.
    progress
        Show a progress bar; by default if the standard error is a terminal.
    **reading
        How the originals are read, as when they were encoded: fields of `ReadOptions` other than `chain`.

    Raises
    ------
    CodebookMismatch
        If the tokens are of another codebook than the tokenizer's, or of several.
    Unsupported
        If the tokenizer has no decoder.
    OSError
        If the disk is full; the chains that were written are whole.
    """
    if suffix not in (None, ".pdb", ".cif"):
        raise ValueError(f"suffix is '.pdb' or '.cif', not {suffix!r}")
    check_output(out, folder=True)
    source, structures = (str(tokens), load(tokens)) if isinstance(tokens, str | Path) else ("", tokens)
    chains = [chain for structure in structures for chain in structure.by_chain() if len(chain)]
    codebooks = list(dict.fromkeys(chain.codebook for chain in chains))
    if not codebooks:
        raise NoProtein("holds no tokens", "encode some structures first", file=source)
    tokenizer = decoding(model_of(codebooks, tokenizer, source))
    if letters_alone and not isinstance(tokenizer, HasKeyframes):
        raise Unsupported(f"letters of {tokenizer.codebook} are always decoded alone", "leave it off")
    chains, notes = together(chains)
    options = ReadOptions(**reading)
    # Where all models are structures, names end with their number.
    ending = _MODEL if options.model == ALL else re.compile(r"\Z")
    name_of = {chain.name: ending.sub("", chain.name) for chain in chains}
    originals = None if compare is None else _originals(compare, {*name_of.values()})
    tasks = [
        _Task(chain, Path(out, name), suffix, None if originals is None else originals[name_of[chain.name]])
        for chain, name in zip(chains, file_names(chains), strict=True)
    ]
    # Chains of one original go together, so that it is read once.
    batches = (list(group) for _, group in groupby(tasks, key=lambda task: task.references or task.target))
    results: dict[Path, DecodedChain | ProtokError | workers.Lost] = {}
    with (
        show_progress("decoding", len(tasks), progress) as advance,
        closing(workers.run(_decoder, (tokenizer, options, letters_alone), batches, jobs=jobs)) as done,
    ):
        for task, result in done:
            if isinstance(result, Unsupported | OSError):
                raise result
            results[task.target] = result
            advance(1, not isinstance(result, DecodedChain))
    decoded: list[DecodedChain] = []
    errors: list[tuple[str, str, str]] = []
    for task in tasks:
        result = results[task.target]
        if isinstance(result, DecodedChain):
            decoded.append(result)
        else:
            errors.append((task.tokens.name, _chain(task.tokens), result.reason))
    return DecodeSummary(tokenizer.codebook, tuple(decoded), tuple(errors), tuple(notes))


def together(chains: Sequence[Tokens]) -> tuple[list[Tokens], list[tuple[str, str]]]:
    """What goes into one file: chains of one name with keyframes, each id once, else each chain.

    Also (name, note) of chains whose partner is missing.
    """
    groups: dict[tuple, list[Tokens]] = {}
    for i, chain in enumerate(chains):
        frames = chain.keyframes
        key = (i,) if frames is None else (chain.name, frames.spacing, frames.size)
        group = groups.setdefault(key, [])
        if any(_chain(other) == _chain(chain) for other in group):  # another structure of the same name
            group = groups.setdefault((i,), [])
        group.append(chain)
    notes = []
    for group in groups.values():
        names = {_chain(chain) for chain in group}
        for chain in group:
            partner = "" if chain.keyframes is None else chain.keyframes.hangs_on
            if partner and partner not in names:
                note = f"chain {_chain(chain)} lies alone: chain {partner}, beside which it lay, is not there"
                notes.append((chain.name, note))
    return [join(group) for group in groups.values()], notes


def file_names(chains: Sequence[Tokens]) -> list[str]:
    """Different file names without suffix for chains, safe whatever the tokens are called.

    A `/` in a name makes a folder; a name can not lead out of the output folder.
    """
    names: dict[str, str] = {}
    for tokens in chains:
        folders = [_safe(part) for part in tokens.name.split("/") if part not in ("", ".", "..")]
        stem = "/".join(folders) or "unnamed"
        chain = "" if len(set(tokens.chain.tolist())) > 1 else _safe(_chain(tokens).strip())
        wanted = name = f"{stem}_{chain}" if chain else stem
        again = 1
        while name.lower() in names:  # some file systems do not tell `a` from `A`
            again += 1
            name = f"{wanted}-{again}"
        names[name.lower()] = name
    return list(names.values())


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+=@,-]", "-", text)


def _chain(tokens: Tokens) -> str:
    """Its chain, or chains with a comma between them."""
    return ",".join(dict.fromkeys(tokens.chain.tolist()))


def model_of(
    codebooks: Sequence[str], tokenizer: Tokenizer | str | Path | None = None, file: str = ""
) -> Tokenizer:
    """The tokenizer of some tokens: the one given, or the one that they name.

    Raises
    ------
    CodebookMismatch
        If it has another codebook, or no model of that name is known.
    """
    if tokenizer is None:
        tokenizer = named_in(codebooks[0], file)
    tokenizer = as_tokenizer(tokenizer)
    for codebook in codebooks:
        if codebook != tokenizer.codebook:
            raise CodebookMismatch(
                f"the tokens are of {codebook}, the model is {tokenizer.codebook}",
                "use the model that made them",
                file=file,
            )
    return tokenizer


def _originals(paths: str | Path | Iterable[str | Path], names: set[str]) -> dict[str, Sequence[Path]]:
    """Structure files of each of the names that `inputs.unique_names` may have given them."""
    files = list(iter_files(paths))
    if len(files) == 1 and len(names) == 1:
        return dict.fromkeys(names, files)
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        for name in {stem(file), Path(utf8(file)).name}:
            by_name[name].append(file)
    originals: dict[str, Sequence[Path]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        end = f"/{name}" if folder else ""
        originals[name] = tuple(file for file in by_name[last] if f"/{utf8(file)}".endswith(end))
    return originals


def _decoder(
    tokenizer: Decodes, options: ReadOptions, letters_alone: bool
) -> Callable[[Sequence[_Task]], list[DecodedChain | ProtokError | OSError]]:
    """Make the function that a worker applies to its batches."""
    from protok.structure.io.read import read_file

    @lru_cache(maxsize=2)
    def original(path: Path) -> list[Backbone]:
        return read_file(path, options)

    def decode(tokens: Tokens) -> Backbone:
        if letters_alone and isinstance(tokenizer, HasKeyframes):
            return tokenizer.decode(tokens, letters_alone=True)
        return tokenizer.decode(tokens)

    def work(tasks: Sequence[_Task]) -> list[DecodedChain | ProtokError | OSError]:
        results: list[DecodedChain | ProtokError | OSError] = []
        for task in tasks:
            try:
                results.append(_rebuild(task, decode, original))
            except ProtokError as error:
                results.append(error)
            except OSError as error:
                if not disk_is_full(error):
                    raise
                results.append(error)  # no other chain can be written either
        return results

    return work


def _rebuild(
    task: _Task, decode: Callable[[Tokens], Backbone], original: Callable[[Path], list[Backbone]]
) -> DecodedChain:
    from protok.structure.io.write import write

    tokens = task.tokens
    if (tokens.ids < 0).all():
        raise NoProtein("no residue has a token", "the original lacks backbone atoms")
    model = decode(tokens)
    task.target.parent.mkdir(parents=True, exist_ok=True)
    file = f"{task.target}{task.suffix or '.pdb'}"
    try:
        write(model, file)
    except FormatError:
        if task.suffix is not None:
            raise
        file = f"{task.target}.cif"
        write(model, file)
    scores = {}
    if task.references is not None:
        from protok.structure.metrics import compare

        comparison = compare(model, _match(tokens, task.references, original))
        scores = {key: getattr(comparison, key) for key in ("rmsd", "tm_score", "lddt")}
    confidence = float(np.nanmean(model.bfactor)) if np.isfinite(model.bfactor).any() else np.nan
    return DecodedChain(tokens.name, _chain(tokens), len(tokens), file, confidence, **scores)


def _match(
    tokens: Tokens, references: Sequence[Path], original: Callable[[Path], list[Backbone]]
) -> Backbone:
    """Return the chains of the tokens from the first original that has them, residue for residue."""
    if not references:
        raise ProtokError("no original of this name to compare with", "see --compare")
    seen, chains = [], dict.fromkeys(tokens.chain.tolist())
    for path in references:
        backbone = _model(original(path), tokens.name)
        chain = backbone[np.concatenate([np.flatnonzero(backbone.chain == chain_id) for chain_id in chains])]
        unknown = set(tokens.sequence) == {"X"}
        if len(chain) == len(tokens) and (unknown or chain.sequence == tokens.sequence):
            return chain
        seen.append(
            f"{len(chain)} residues of {'this chain' if len(chains) == 1 else 'these chains'} in {path}"
        )
    raise ProtokError(
        f"{len(tokens)} tokens, but {' and '.join(seen)}: not the structure that was encoded",
        "read it with the options of `encode`, or compare with the right file",
    )


def _model(models: list[Backbone], name: str) -> Backbone:
    """The model that a name ends with the number of; the only one where there is one."""
    number = _MODEL.search(name)
    if len(models) == 1 or number is None or not 1 <= int(number[1]) <= len(models):
        return models[0]
    return models[int(number[1]) - 1]
