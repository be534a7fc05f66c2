"""ReadOptions: what is taken of a structure file, wherever files are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from protok.errors import ProtokError

#: Of `ReadOptions.model`: every model is a structure of its own.
ALL = "all"
_RANGE = re.compile(r"\s*(-?\d+)(?:-(-?\d+))?\s*")


@dataclass(frozen=True)
class ReadOptions:
    """How structure files are read, for what reads many: the options of `protok.read`.

    Attributes
    ----------
    chain, residues, assembly, sequence, chain_ids, truncated
        As for `protok.read`; empty where it has None.
    model
        As for `protok.read`, or ``"all"``.
    min_plddt, max_bfactor, max_bytes
        As for `protok.read`; 0 where it has None.

    Raises
    ------
    ProtokError
        For ranges of residues that are none, or a model below 1.
    """

    chain: str = ""
    residues: str = ""
    model: int | Literal["all"] = 1
    assembly: str = ""
    sequence: str = ""
    min_plddt: float = 0.0
    max_bfactor: float = 0.0
    chain_ids: Literal["author", "label"] = "author"
    truncated: Literal["error", "keep"] = "error"
    max_bytes: int = 0

    def __post_init__(self) -> None:
        if self.chain_ids not in ("author", "label"):
            raise ValueError(f"chain_ids is 'author' or 'label', not {self.chain_ids!r}")
        if self.truncated not in ("error", "keep"):
            raise ValueError(f"truncated is 'error' or 'keep', not {self.truncated!r}")
        _ = self.ranges

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First and last number of each range of `residues`."""
        ranges = []
        for text in self.residues.split(",") if self.residues else []:
            match = _RANGE.fullmatch(text)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                remedy = "give numbers of the file, such as 10-90 or 10-90,120-150"
                raise ProtokError(f"{self.residues!r} is no range of residues", remedy)
            ranges.append((first, last))
        return ranges
