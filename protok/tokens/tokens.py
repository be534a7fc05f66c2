"""Tokens: the codes of one structure, one a residue, with what they were made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from protok.common.extras import Extra
from protok.errors import CorruptFile, FormatError, TruncatedFile, Unsupported
from protok.structure.backbone import WIDEST, WIDEST_ICODE, Backbone
from protok.tokens import environment, keyframes
from protok.tokens.environment import Environment
from protok.tokens.keyframes import Keyframes

if TYPE_CHECKING:
    from pandas import DataFrame

#: Most codes of a codebook, and most residues of a chain, that a file may claim: what it says is
#: believed before there is memory for it. The longest protein that is known has 45,212.
LARGEST, LONGEST = 1 << 24, 1 << 20


@dataclass(frozen=True, eq=False)
class Tokens:
    """The discrete codes of one structure, one a residue.

    Attributes
    ----------
    ids : (L,) int32
        Codes 0..size-1, or -1 where a residue has none.
    size : int
        Number of codes in the codebook.
    codebook : str
        `name@fingerprint` of the codebook that the codes refer to.
    sequence, chain, index, icode, name
        Copied from the Backbone: one letter, chain id, number and insertion code a residue.
    alphabet : str
        One letter a code where the codebook has letters (3Di, Protein Blocks), else empty.
    keyframes : Keyframes or None
        Where residues lie, of tokenizers whose codes alone do not say it.
    environment : Environment or None
        Second letters, for what lies around residues, of tokenizers that have them.
    """

    ids: np.ndarray
    size: int
    codebook: str
    sequence: str
    chain: np.ndarray
    index: np.ndarray
    icode: np.ndarray
    name: str = ""
    alphabet: str = ""
    keyframes: Keyframes | None = None
    environment: Environment | None = None

    def __post_init__(self) -> None:
        n = len(self.sequence)
        ids = np.asarray(self.ids)
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"token ids must be integers, not {ids.dtype}")
        for key, kind in (("ids", None), ("chain", str), ("index", np.int32), ("icode", str)):
            value = getattr(self, key)
            value = _words(value, key) if kind is str else np.asarray(value, dtype=kind)
            if value.shape != (n,):
                count = len(value) if value.ndim == 1 else f"{value.shape} (not one a residue)"
                raise ValueError(f"{count} {key} for {n} residues")
            object.__setattr__(self, key, value)
        wrong = (self.ids < -1) | (self.ids >= self.size)
        if wrong.any():
            raise ValueError(f"token {self.ids[wrong][0]} is outside 0..{self.size - 1} (-1: none)")
        object.__setattr__(self, "ids", self.ids.astype(np.int32))
        if not self.codebook:
            raise ValueError("the codebook has no name")
        if not self.sequence.isascii():
            raise ValueError("the sequence holds one ASCII letter a residue")
        letters = self.alphabet
        if letters and (len(letters) != self.size or len(set(letters)) != self.size):
            raise ValueError(f"an alphabet of {self.size} codes needs as many different letters")
        if "-" in letters or not letters.isascii() or any(letter.isspace() for letter in letters):
            raise ValueError("an alphabet holds printable ASCII without '-', which means missing")
        if self.keyframes is not None:
            self.keyframes.check(self.ids, self.chain)
        if self.environment is not None and len(self.environment) != n:
            raise ValueError(f"{len(self.environment)} environment letters for {n} residues")

    @classmethod
    def like(
        cls, backbone: Backbone, ids: np.ndarray, size: int, codebook: str, alphabet: str = ""
    ) -> Tokens:
        """Tokens for the residues of `backbone`, from which they take all but the codes."""
        copied = {key: getattr(backbone, key) for key in ("sequence", "chain", "index", "icode", "name")}
        return cls(ids=ids, size=size, codebook=codebook, alphabet=alphabet, **copied)

    @classmethod
    def from_ids(cls, ids: Any, size: int, codebook: str, alphabet: str = "") -> Tokens:
        """Tokens of ids alone, as a model writes them: one chain A, of residues 1, 2, ... of no known type.

        Parameters
        ----------
        ids : (L,)
            Array, tensor or list of codes, -1 for a missing one.
        size, codebook, alphabet
            As of `Tokens`.

        Raises
        ------
        ValueError
            If they are not one integer a residue, or outside the codebook.
        """
        try:
            ids = np.asarray(ids)
        except ValueError:  # rows of several lengths
            ids = np.asarray(ids, object)[:, None]
        if ids.ndim != 1:
            raise ValueError("ids are one a residue of one chain; give several chains to decode_batch")
        ids, n = ids.astype(ids.dtype if ids.size else np.int32), len(ids)
        blank = np.full(n, "")
        return cls(
            ids, size, codebook, "X" * n, np.full(n, "A"), np.arange(1, n + 1), blank, alphabet=alphabet
        )

    @property
    def label(self) -> str:
        """Name and first chain, as headers and tables of hits have them.

        The last underscore parts them: in chain ids it is %5F, as in FASTA of tokens.
        """
        chain = str(self.chain[0]).strip().replace("_", "%5F") if len(self) else ""
        name = self.name or "unnamed"
        return f"{name}_{chain}" if chain or "_" in name else name

    @property
    def uncoded(self) -> bool:
        """Whether no residue has a code."""
        return not (self.ids >= 0).any()

    def __len__(self) -> int:
        return len(self.sequence)

    def __repr__(self) -> str:
        present = self.ids[self.ids >= 0]
        parts = [self.name or "unnamed", f"{len(self)} residues", self.codebook]
        parts.append(f"{len(np.unique(present))} of {self.size} codes")
        if len(present) < len(self):
            parts.append(f"{len(self) - len(present)} missing")
        return f"Tokens({', '.join(parts)})"

    @property
    def letters(self) -> str:
        """One letter a residue, `-` where missing.

        Raises
        ------
        Unsupported
            If the codebook has no letters.
        """
        if not self.alphabet:
            raise Unsupported(f"the codes of {self.codebook} have no letters", "use the ids")
        return "".join(np.array([*self.alphabet, "-"])[self.ids])

    def __iter__(self) -> Iterator[int]:
        """Yield the code of each residue, -1 for none."""
        return iter(self.ids.tolist())

    @overload
    def __getitem__(self, key: int | np.integer) -> int: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | np.ndarray) -> Tokens: ...
    def __getitem__(self, key: int | np.integer | slice | Sequence[int] | np.ndarray) -> int | Tokens:
        """The code of one residue, or tokens of those that a slice, boolean mask or integer array selects.

        Keyframes of the selected residues are kept. A run that is cut, or whose link hung on what
        is left out, begins anew: the selection decodes alone, about its first keyframe.
        """
        if isinstance(key, int | np.integer):
            return int(self.ids[key])
        picked = np.arange(len(self))[key]
        if picked.ndim != 1:
            raise TypeError("select residues by number, slice, mask or list of integers")
        columns = {key: getattr(self, key)[picked] for key in ("ids", "chain", "index", "icode")}
        columns["sequence"] = "".join(self.sequence[i] for i in picked)
        frames = None if self.keyframes is None else self.keyframes.of(picked, self.ids, self.chain)
        around = None if self.environment is None else self.environment[picked]
        return replace(self, keyframes=frames, environment=around, **columns)

    @property
    def bits(self) -> float:
        """Bits of what a structure is decoded from: log2 of every code there is, and of places of breaks.

        Environment letters, of which nothing is decoded, have bits of their own (`Environment.bits`).
        Keyframes lie where the runs of residues say; of a break that no missing token shows, the place is
        stored too, a number up to the length.
        """
        letters = float((self.ids >= 0).sum() * np.log2(max(self.size, 1)))
        frames = 0.0 if self.keyframes is None else self.keyframes.bits(self.ids, self.chain)
        return letters + frames

    def ids_of(self, codebook: str) -> np.ndarray:
        """(L,) codes of an alphabet that the tokens have: their own, or that of their environments.

        Raises
        ------
        Unsupported
            If they have no such alphabet.
        """
        if codebook == self.codebook:
            return self.ids
        if self.environment is None or codebook != self.environment.codebook:
            raise Unsupported(
                f"no codes of {codebook}", "encode with the model of these codes", file=self.name
            )
        return self.environment.ids

    def to_pandas(self) -> DataFrame:
        """A table with a row a residue: chain, index, icode, residue, token, and what more residues have.

        That is a letter, and an environment. Keyframes are not in it.

        Raises
        ------
        MissingExtra
            Without pandas.
        """
        with Extra("interop", "a table of tokens"):
            from pandas import DataFrame

        columns = {"chain": self.chain, "index": self.index, "icode": self.icode}
        columns |= {"residue": list(self.sequence), "token": self.ids}
        columns |= {"letter": list(self.letters)} if self.alphabet else {}
        return DataFrame(
            columns | ({} if self.environment is None else {"environment": self.environment.ids})
        )

    def by_chain(self) -> Iterator[Tokens]:
        """Yield the chains one by one, in order of first appearance, each under the same `name`.

        Of a chain after the first the keyframes keep its link, and name in `hangs_on` the chain that
        it is seen from; `join` puts them together again.
        """
        chains = list(dict.fromkeys(self.chain.tolist()))
        if len(chains) == 1:
            yield self
            return
        frames = {} if self.keyframes is None else self.keyframes.by_chain(self.chain)
        bare = replace(self, keyframes=None)
        for chain in chains:
            yield replace(bare[self.chain == chain], keyframes=frames.get(chain))


def join(chains: Sequence[Tokens]) -> Tokens:
    """Chains as one structure; the way back from `Tokens.by_chain`, in whatever order they come.

    A chain follows the one that its link is seen from. Where that is not among them, it is decoded
    about itself.

    Raises
    ------
    ValueError
        If there are none, or they are of different codebooks, their keyframes of different spacings.
    """
    if not chains or len({(c.codebook, c.size, c.alphabet) for c in chains}) > 1:
        raise ValueError("chains of one codebook make a structure")
    if len(chains) == 1:
        return chains[0]
    names = [str(c.chain[0]) if len(c) else "" for c in chains]
    hangs = ["" if c.keyframes is None else c.keyframes.hangs_on for c in chains]
    order: list[int] = []
    for i, before in enumerate(hangs):
        if before not in names or before == names[i]:
            order += _following(i, names, hangs)
    order += [i for i in range(len(chains)) if i not in order]
    ordered = [chains[i] for i in order]
    columns = {
        key: np.concatenate([getattr(c, key) for c in ordered]) for key in ("ids", "chain", "index", "icode")
    }
    sizes = [len(c) for c in ordered]
    frames = keyframes.joined([c.keyframes for c in ordered], sizes, [names[i] for i in order])
    around = environment.joined([c.environment for c in ordered])
    sequence = "".join(c.sequence for c in ordered)
    return replace(ordered[0], sequence=sequence, keyframes=frames, environment=around, **columns)


def _following(i: int, names: list[str], hangs: list[str]) -> list[int]:
    """A chain, and those that hang on it one after the other."""
    row = [i]
    while later := [j for j, before in enumerate(hangs) if before == names[row[-1]] and j not in row]:
        row.append(later[0])
    return row


def _words(values, key: str) -> np.ndarray:
    """Chain ids or insertion codes as an array, which is as wide for each as for the longest."""
    widest = WIDEST_ICODE if key == "icode" else WIDEST
    narrow = isinstance(values, np.ndarray) and values.dtype.kind == "U"
    if not narrow or values.dtype.itemsize > 4 * widest:
        if max((len(str(value)) for value in np.asarray(values, object).ravel()), default=0) > widest:
            raise ValueError(f"an entry of {key} has more than {widest} characters")
    return np.asarray(values, dtype=str)


def record(
    path: str, name: str, chain: str, parts: Callable[[], Mapping[str, Any]] | None = None, **fields
) -> Tokens:
    """One chain as read from a file; what does not fit together becomes a CorruptFile.

    `parts` makes its keyframes and environments, if there are any.
    """
    try:
        if fields["size"] > LARGEST:
            raise ValueError(f"a codebook of {fields['size']} codes")
        if len(fields["sequence"]) > LONGEST:
            raise ValueError(f"a chain of {len(fields['sequence'])} residues")
        # A path has 4,096 characters at most.
        if len(chain) > WIDEST or max(len(name), len(fields["codebook"])) > 4096:
            raise ValueError(f"a chain id of {len(chain)}, a name of {len(name)} characters")
        # The same for all residues: held once.
        chains = np.broadcast_to(np.array(chain), len(fields["sequence"]))
        tokens = Tokens(name=name, chain=chains, **(parts() if parts else {}), **fields)
        frames, around = tokens.keyframes, tokens.environment
        if frames is not None and len(frames.hangs_on) > WIDEST:
            raise ValueError(f"a chain id of {len(frames.hangs_on)} characters")
        if around is not None and (around.size > LARGEST or len(around.codebook) > 4096):
            raise ValueError(
                f"a codebook of {around.size} codes, a name of {len(around.codebook)} characters"
            )
        return tokens
    except (ValueError, OverflowError) as error:
        label = f"{name}_{chain}"[:99]
        raise CorruptFile(str(error), "write the file again", file=path, chain=label) from error


def check_ends(handle, path: str, what: str, head: bytes, complete) -> None:
    """Tell a file of another format from one that was cut."""
    start = handle.read(len(head))
    handle.seek(0, os.SEEK_END)
    handle.seek(max(0, handle.tell() - 65557))
    tail = handle.read()
    handle.seek(0)
    if start != head:
        raise FormatError(f"the content is not {what}", "check the suffix", file=path)
    if not complete(tail):
        raise TruncatedFile(f"the {what} directory at the end is missing", "write it again", file=path)
