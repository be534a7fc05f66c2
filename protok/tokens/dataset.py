"""Token files as a data set of rows of ids: read as they are needed, nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from protok.errors import ProtokError, as_error
from protok.tokens.export import nothing, structures, vocabulary_for
from protok.tokens.files import Part, parts, scan
from protok.tokens.tokens import Tokens

#: Structures that are held at once to draw the next from, where the order is shuffled.
HELD = 4096


class TokenDataset(IterableDataset):
    """Rows of ids of many token files, a structure each.

    A row is a dictionary: `name`, `chain` (`A,B`), `sequence`, `input_ids` and `residues`,
    the two of `Vocabulary.placed`. Structures without any
    code are passed over. Workers of a `DataLoader` share the parts of the files (row groups of Parquet, whole
    files of other formats); where there are fewer parts than workers each reads them all and takes its own.

    Parameters
    ----------
    files
        Token files, folders of Parquet files, glob patterns.
    layout, pairs, environments
        As for `Vocabulary.of`.
    chains
        A row for each chain, also of complexes.
    seed
        Shuffle parts, and structures among 4096 that are held; None leaves them in order.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the ids; its `save` writes the tokenizer.
    parts : list of Part
        What `rows` reads.

    Raises
    ------
    FormatError
        If there is no such file, or it is none of tokens.
    NoProtein
        If no structure has a code.
    Unsupported
        If the layout needs keyframes that the first structure has not.

    Examples
    --------
    >>> rows = TokenDataset("tokens.parquet", seed=0)
    >>> loader = torch.utils.data.DataLoader(rows, batch_size=None)
    >>> len(list(loader))
    2
    """

    def __init__(
        self,
        files: str | Path | Iterable[str | Path],
        layout: str = "",
        *,
        pairs: bool = False,
        environments: bool = False,
        chains: bool = False,
        seed: int | None = None,
    ):
        self.chains, self.seed = chains, seed
        self.parts = [part for file in _expanded(files) for part in parts(file)]
        first = next(self._read(self.parts), None)
        if first is None:
            raise nothing([str(part.path) for part in self.parts])
        self.vocabulary = vocabulary_for(first[1], layout, pairs=pairs, environments=environments)
        self._share = (0, 1)
        # Workers that outlive an epoch must learn of the next one.
        self._epoch = torch.tensor(0).share_memory_()
        self._done = self._skipped = 0

    def rows(self, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        """Rows of some of the parts, in their order.

        `datasets.IterableDataset.from_generator(data.rows, gen_kwargs={"parts": data.parts})` is the same
        data set for Hugging Face `datasets`, which deals out parts, shuffles and resumes by itself.
        """
        return (self._row(path, structure) for path, structure in self._read(parts))

    def shard(self, number: int, count: int) -> TokenDataset:
        """One of so many shares, which together are this data set.

        For processes that read by themselves, as with DDP or Lightning: `shard(rank, world_size)`. The
        trainer of `transformers` deals out batches itself. Shares differ in length by up to a part: train by
        steps.
        """
        if not 0 <= number < count:
            raise ValueError(f"share {number} of {count}")
        share = object.__new__(TokenDataset)
        before, of = self._share
        vars(share).update(vars(self) | {"_share": (before + of * number, of * count)})
        return share

    def set_epoch(self, epoch: int) -> None:
        """Shuffle otherwise from the next iteration on."""
        self._epoch.fill_(epoch)

    def state_dict(self) -> dict[str, int]:
        """How far the present iteration is in this process, as `StatefulDataLoader` of torchdata asks."""
        return {"epoch": int(self._epoch), "done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration go on from there: what was done is read, and not yielded."""
        self.set_epoch(state["epoch"])
        self._skipped = state["done"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, count = self._share
        if worker is not None:
            number, count = number + count * worker.id, count * worker.num_workers
        order, seed = self.parts, None if self.seed is None else (self.seed, int(self._epoch))
        if seed is not None:
            # Alike in all shares, which deal the parts out.
            order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
        if len(order) >= count:
            mine = self._read(order[number::count])
        else:
            mine = islice(self._read(order), number, None, count)
        if seed is not None:
            mine = _shuffled(mine, np.random.default_rng((*seed, number)))
        self._done, self._skipped = self._skipped, 0
        for path, structure in islice(mine, self._done, None):
            self._done += 1
            yield self._row(path, structure)

    def _read(self, parts: Sequence[Part]) -> Iterator[tuple[Path, Tokens]]:
        for part in parts:
            for structure in structures(scan(part), chains=self.chains):
                yield part.path, structure

    def _row(self, path: Path, structure: Tokens) -> dict[str, Any]:
        chain = ",".join(dict.fromkeys(structure.chain.tolist()))
        try:
            row = self.vocabulary.placed(structure)
        except ProtokError as error:
            raise as_error(error, f"{path}, {structure.name}", chain) from error
        own = {"name": structure.name, "chain": chain, "sequence": structure.sequence}
        return {**own, "input_ids": row.ids, "residues": row.residues}


def _expanded(files: str | Path | Iterable[str | Path]) -> Iterator[Path]:
    for file in [files] if isinstance(files, str | Path) else files:
        # What matches nothing is refused by who reads it.
        yield from [Path(file)] if Path(file).exists() else map(Path, sorted(glob(str(file))) or [file])


def _shuffled(items: Iterator[Any], rng: np.random.Generator) -> Iterator[Any]:
    held = list(islice(items, HELD))
    for item in items:
        place = int(rng.integers(len(held)))
        yield held[place]
        held[place] = item
    yield from (held[i] for i in rng.permutation(len(held)))
