"""Keyframes of a structure: what is stored beside its letters to say where residues lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: Codes of a link, and values of each.
LINK, LINK_SIZE = 4, 1 << 12
#: Columns of a table in which each chain is a row: lists of numbers, and what there is one of.
LISTS = ("keyframe_place", "keyframe", "run_start", "link")
COLUMNS = (*LISTS, "spacing", "motions", "hangs_on")


@dataclass(frozen=True, eq=False)
class Keyframes:
    """Poses of every few residues, as codes; see `protok.model.keyframes`.

    A *run* is a stretch of residues that are bonded one to the next. Runs stand chain by chain, in the
    order in which chains first appear, and keyframes in the order of their runs.

    Attributes
    ----------
    spacing : int
        One keyframe for each so many residues of a run.
    size : int
        Motions in the codebook.
    place : (m,) int32
        Residues that have a keyframe.
    code : (m,) int32
        Of each, 0..size-1; -1 at the first of a run, of which its link tells.
    start : (r,) int32
        First residue of each run.
    link : (r, 4) int32
        Codes of the way from the last keyframe before the run to its first, coarse to fine; -1 at a run that
        hangs on none, as the first of a structure.
    hangs_on : str
        The chain with the keyframe that the first link is seen from, if that is not here.
    """

    spacing: int
    size: int
    place: np.ndarray
    code: np.ndarray
    start: np.ndarray
    link: np.ndarray
    hangs_on: str = ""

    def __post_init__(self) -> None:
        for key in ("place", "code", "start", "link"):
            value = np.asarray(getattr(self, key))
            if value.size and value.dtype.kind not in "iu":
                raise ValueError(f"{key} of keyframes must be integers, not {value.dtype}")
            object.__setattr__(self, key, value.astype(np.int32))
        if self.spacing < 1 or self.size < 1:
            raise ValueError(f"keyframes each {self.spacing} of {self.size} motions")
        if self.place.ndim != 1 or self.place.shape != self.code.shape:
            raise ValueError(f"{len(self.code)} codes for {len(self.place)} places of keyframes")
        if self.start.ndim != 1 or self.link.shape != (len(self.start), LINK):
            raise ValueError(f"links of shape {self.link.shape} for {len(self.start)} runs")
        for value, most, what in ((self.code, self.size, "keyframe"), (self.link, LINK_SIZE, "link")):
            if value.size and not -1 <= value.min() <= value.max() < most:
                raise ValueError(f"a {what} code is outside 0..{most - 1} (-1: none)")

    @classmethod
    def laid(
        cls,
        ids: np.ndarray,
        chain: np.ndarray,
        spacing: int,
        size: int,
        codes: Sequence[int],
        *,
        breaks: Sequence[int] = (),
        links: Sequence[Sequence[int]] = (),
    ) -> Keyframes:
        """Keyframes at the places that follow from what a model or a person gives in a row.

        Parameters
        ----------
        ids, chain
            Of the tokens; the residues of a chain stand together.
        codes
            In the order of places, without the first of each run.
        breaks
            Residues that are not bonded to the one before, though both have tokens.
        links
            Of the runs after the first, in their order; as many as there are, or none.

        Raises
        ------
        ValueError
            If there are too few or too many.
        """
        start = run_starts(np.asarray(ids), np.asarray(chain), np.asarray(breaks, int))
        stop = np.append(start, len(ids))[1:]
        place, first = [], []
        for a, b in zip(start, stop, strict=True):
            b = a + int(np.argmin(np.append(np.asarray(ids)[a:b] >= 0, False)))
            own = np.minimum(np.arange(a, b, spacing) + spacing // 2, b - 1)
            first.append(len(place))
            place += own.tolist()
        code = np.full(len(place), -1, np.int32)
        asked = np.setdiff1d(np.arange(len(place)), first)
        if len(codes) != len(asked):
            raise ValueError(f"{len(codes)} keyframes for {len(asked)} places")
        code[asked] = codes
        link = np.full((len(start), LINK), -1, np.int32)
        if len(links):
            if len(links) != len(start) - 1:
                raise ValueError(f"{len(links)} links for {len(start)} runs, of which the first has none")
            link[1:] = links
        return cls(spacing, size, np.array(place, np.int32), code, start, link)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Keyframes | None:
        """The keyframes of a row with the columns of `COLUMNS`; None where its spacing is 0."""
        if not columns["spacing"]:
            return None
        place, code, start, link = (np.asarray(columns[key]) for key in LISTS)
        if len(link) != LINK * len(start):
            raise ValueError(f"{len(link)} codes of links for {len(start)} runs")
        link = link.reshape(-1, LINK)
        return cls(columns["spacing"], columns["motions"], place, code, start, link, columns["hangs_on"])

    @classmethod
    def from_text(cls, text: str) -> Keyframes:
        """The way back from `text`."""
        head, runs, keys, hangs_on = text.split(";", 3)
        spacing, size = map(int, head.split("/"))
        starts = [run.split("/") for run in runs.split(",") if run]
        places = [key.split(":") for key in keys.split(",") if key]
        links = [[int(c) for c in link.split(".")] if link else [-1] * LINK for _, link in starts]
        return cls(
            spacing,
            size,
            np.array([int(place) for place, _ in places], np.int64),
            np.array([int(code or -1) for _, code in places], np.int64),
            np.array([int(start) for start, _ in starts], np.int64),
            np.array(links, np.int64).reshape(-1, LINK),
            hangs_on,
        )

    @property
    def text(self) -> str:
        """All in a line, counted from 0: `4/4096;0/,40/1.2.3.4;2:,6:1234,10:77;A`.

        Spacing and number of motions; the first residue of each run and its link; `place:code` of each
        keyframe, of which the first of a run has no code; the chain that the first link is seen from.
        """
        runs = (
            f"{start}/{'.'.join(map(str, link)) if link[0] >= 0 else ''}"
            for start, link in zip(self.start.tolist(), self.link.tolist(), strict=True)
        )
        keys = (
            f"{place}:{code if code >= 0 else ''}"
            for place, code in zip(self.place.tolist(), self.code.tolist(), strict=True)
        )
        return f"{self.spacing}/{self.size};{','.join(runs)};{','.join(keys)};{self.hangs_on}"

    def __len__(self) -> int:
        return len(self.place)

    def check(self, ids: np.ndarray, chain: np.ndarray) -> None:
        """Raise a ValueError unless these can be the keyframes of tokens."""
        n = len(ids)
        for what, value in (("keyframe", self.place), ("run", self.start)):
            if value.size and not 0 <= value.min() <= value.max() < n:
                raise ValueError(f"a {what} lies outside the {n} residues")
            if (ids[value] < 0).any() or _marked(n, value).sum() < len(value):
                raise ValueError(f"a {what} lies where there is no token, or where there is another")
        if not np.array_equal(self.start, run_starts(ids, chain, self.start)):
            raise ValueError("a run goes on over a missing token or into another chain")
        run = run_of(ids, chain, self.start)[self.place]
        first = np.ones(len(run), bool)
        first[1:] = run[1:] != run[:-1]
        if (np.diff(run) < 0).any() or (np.diff(self.place)[~first[1:]] < 1).any():
            raise ValueError("keyframes are not in the order of the residues")
        if (self.code[first] >= 0).any() or (self.code[~first] < 0).any():
            raise ValueError("every keyframe but the first of a run has a code")

    def bits(self, ids: np.ndarray, chain: np.ndarray) -> float:
        """Bits of codes and links, and of the places of breaks that nothing else shows."""
        inner = self.start[self.start > 0]
        shown = (ids[inner - 1] < 0) | (chain[inner - 1] != chain[inner])
        total = float(
            (self.code >= 0).sum() * math.log2(self.size) + (self.link >= 0).sum() * math.log2(LINK_SIZE)
        )
        return total + float((~shown).sum()) * math.log2(max(len(ids), 1))

    def of(self, row: np.ndarray, ids: np.ndarray, chain: np.ndarray) -> Keyframes:
        """Keyframes of some of the residues, which are numbered in the order given.

        Parameters
        ----------
        row : (k,)
            Residues that are kept. Where a run is cut another begins, which hangs on none; so does a run that
            hung on a keyframe that is left out.
        ids, chain
            Of the tokens, all of them.
        """
        row = np.asarray(row)
        new = np.full(len(ids), -1)
        new[row] = np.arange(len(row))
        run = run_of(ids, chain, self.start)
        # Where residues follow each other in the runs of all, and where in those that are kept.
        order, kept_order = chain_order(chain), chain_order(chain[row])
        rank = np.empty(len(ids), int)
        rank[order] = np.arange(len(ids))
        there, old_run = rank[row[kept_order]], run[row[kept_order]]
        opens = np.ones(len(row), bool)
        opens[1:] = (old_run[1:] != old_run[:-1]) | (there[1:] != there[:-1] + 1)
        start = kept_order[opens & (old_run >= 0)]
        kept = new[self.place] >= 0
        link = np.full((len(start), LINK), -1, np.int32)
        if len(self.start) and len(start):
            first = np.searchsorted(run[self.place], np.arange(len(self.start)))
            whole = np.zeros(len(self.start), bool)
            has = (first > 0) & (first < len(self)) & (self.link[:, 0] >= 0)
            whole[has] = kept[first[has]] & kept[first[has] - 1]
            old = run[row[start]]
            link = np.where((whole[old] & (row[start] == self.start[old]))[:, None], self.link[old], -1)
        place, code = new[self.place[kept]], self.code[kept].copy()
        piece = run_of(ids[row], chain[row], start)[place]
        turn = np.argsort(piece, kind="stable")
        place, code, piece = place[turn], code[turn], piece[turn]
        code[np.diff(piece, prepend=-1) != 0] = -1
        return Keyframes(self.spacing, self.size, place, code, start, link)

    def by_chain(self, chain: np.ndarray) -> dict[str, Keyframes]:
        """Keyframes of each chain, numbered in it; each first link names the chain that it is seen from."""
        order = chain_order(chain)
        inside, own = np.empty(len(chain), int), chain[order]
        begins = np.flatnonzero(np.r_[True, own[1:] != own[:-1]]) if len(own) else order
        inside[order] = np.arange(len(chain)) - np.repeat(begins, np.diff(np.append(begins, len(chain))))
        parts, before = {}, ""
        # Runs and keyframes stand chain by chain.
        bounds = [_bounds(chain[part]) for part in (self.start, self.place)]
        for name in dict.fromkeys(own[begins].tolist()):
            run, key = (slice(*bound.get(name, (0, 0))) for bound in bounds)
            link = self.link[run].copy()
            hangs_on = before if before and len(link) and link[0, 0] >= 0 else ""
            parts[name] = replace(
                self,
                place=inside[self.place[key]],
                code=self.code[key],
                start=inside[self.start[run]],
                link=link,
                hangs_on=hangs_on or self.hangs_on * (not before),
            )
            before = name if key.stop > key.start else before
        return parts


def _bounds(chain: np.ndarray) -> dict[str, tuple[int, int]]:
    """Where the entries of each chain begin and end, which stand together."""
    if not len(chain):
        return {}
    begins = np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]])
    ends = np.append(begins[1:], len(chain))
    return dict(zip(chain[begins].tolist(), zip(begins.tolist(), ends.tolist(), strict=True), strict=True))


def columns_of(frames: Keyframes | None) -> dict[str, Any]:
    """A row with the columns of `COLUMNS`."""
    if frames is None:
        none = np.zeros(0, np.int32)
        return dict.fromkeys(LISTS, none) | {"spacing": 0, "motions": 0, "hangs_on": ""}
    lists = (frames.place, frames.code, frames.start, frames.link.ravel())
    ends = {"spacing": frames.spacing, "motions": frames.size, "hangs_on": frames.hangs_on}
    return dict(zip(LISTS, lists, strict=True)) | ends


def chain_order(chain: np.ndarray) -> np.ndarray:
    """Residues chain by chain, in the order in which chains first appear."""
    begins = np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]]) if len(chain) else chain[:0].astype(int)
    if len(set(chain[begins].tolist())) == len(begins):
        return np.arange(len(chain))
    _, first, of = np.unique(chain, return_index=True, return_inverse=True)
    return np.argsort(first[of], kind="stable")


def run_starts(ids: np.ndarray, chain: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """First residues of runs, chain by chain: after a missing token, another chain, or a break."""
    order = chain_order(chain)
    there, chain = ids[order] >= 0, chain[order]
    opens = there.copy()
    opens[1:] &= ~there[:-1] | (chain[1:] != chain[:-1]) | _marked(len(ids), breaks)[order[1:]]
    return order[opens]


def run_of(ids: np.ndarray, chain: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Run of each residue, as an index of `start` (see `run_starts`); -1 without a token."""
    order = chain_order(chain)
    run = np.empty(len(ids), int)
    run[order] = np.where(ids[order] >= 0, _marked(len(ids), start)[order].cumsum() - 1, -1)
    return run


def _marked(n: int, rows: np.ndarray) -> np.ndarray:
    marks = np.zeros(n, bool)
    marks[rows[(rows >= 0) & (rows < n)]] = True
    return marks


def joined(parts: Sequence[Keyframes | None], sizes: Sequence[int], names: Sequence[str]) -> Keyframes | None:
    """Keyframes of chains end to end; links to chains that are not right before are dropped.

    Parameters
    ----------
    parts
        Of each chain; if one has none, all have none.
    sizes, names
        Residues and ids of the chains.

    Raises
    ------
    ValueError
        If the chains have keyframes of different spacings or codebooks.
    """
    there = [part for part in parts if part is not None]
    if len(there) < len(parts) or not there:
        return None
    if len({(part.spacing, part.size) for part in there}) > 1:
        raise ValueError("keyframes of different spacings do not stand in one structure")
    begin = np.concatenate([[0], np.cumsum(sizes)])
    links, before = [], ""
    for part, name in zip(there, names, strict=True):
        link = part.link.copy()
        if len(link) and part.hangs_on != before:
            link[0] = -1
        links.append(link)
        before = name if len(part) else before
    return Keyframes(
        there[0].spacing,
        there[0].size,
        np.concatenate([part.place + at for part, at in zip(there, begin, strict=False)]),
        np.concatenate([part.code for part in there]),
        np.concatenate([part.start + at for part, at in zip(there, begin, strict=False)]),
        np.concatenate(links),
    )
