"""The unfinished work of a batch job on disk, whole after a kill at any instant.

A folder holds parts (Parquet files of tokens or other records) and `journal.jsonl`, one line a finished
input, which says in which rows of which part its chains lie. A line is written after its part; what a kill
leaves half done (a torn last line, a part that no line names) is as if it had not been begun.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from protok.common.files import add_lines, lock, write_json
from protok.errors import ProtokError
from protok.pipeline.batches import Record
from protok.pipeline.inputs import Source
from protok.tokens.files import save

# A part is written when it has so many chains or residues, or when the oldest result waited so many seconds:
# that much work is done again after a kill.
PART_ROWS = 1024
PART_RESIDUES = 1 << 17
PART_SECONDS = 5.0


@dataclass(frozen=True)
class Entry:
    """What became of one input: rows `start` to `start + rows` of a part, of which `uncoded` are
    without any code; errors, notes."""

    source: Source
    part: str = ""
    start: int = 0
    rows: int = 0
    residues: int = 0
    errors: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    uncoded: int = 0


class Journal:
    """Results of a batch job, added as they come and read back in the order of the inputs.

    Parameters
    ----------
    folder
        Where parts and journal lie; made if needed.
    job
        What the results depend on besides the inputs: the codebook and the options.
    fresh
        Drop what an interrupted run of another job left, and try its own failed inputs again.
    write
        Writes records into a Parquet file: tokens by default.

    Attributes
    ----------
    done : dict of Source to Entry
        All that was added, in this run or in an interrupted one.

    Raises
    ------
    ProtokError
        If the folder holds results of another job, or another process works in it.
    """

    def __init__(
        self,
        folder: Path,
        job: dict,
        fresh: bool = False,
        write: Callable[[Iterable[Any], Path], None] = save,
    ):
        self.folder, self._write = folder, write
        folder.mkdir(parents=True, exist_ok=True)
        self._held = contextlib.ExitStack()
        try:
            self._held.enter_context(lock(folder / "lock", wait=False))
        except BlockingIOError:
            raise ProtokError(
                "another process is working on this output",
                "wait for it, or write elsewhere",
                file=str(folder),
            ) from None
        try:
            path = folder / "job.json"
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            if fresh and before not in (None, job):
                # Whose work it is goes last: a kill must not leave it to this job.
                for left in set(folder.iterdir()) - {folder / "lock", path}:
                    if left.is_dir():
                        shutil.rmtree(left)
                    else:
                        left.unlink()
                before = None
            if before is None:
                write_json(path, job)
            elif before != job:
                raise ProtokError(
                    f"holds unfinished work of another kind: {difference(before, job)}",
                    "go on with the same model and options, write elsewhere, or overwrite",
                    file=str(folder),
                )
            self.done = self._read()
        except BaseException:
            self.close()
            raise
        if fresh:
            self.done = {key: entry for key, entry in self.done.items() if not entry.errors}
        numbers = [int(Path(entry.part).stem) for entry in self.done.values() if entry.part]
        self._next = max(numbers, default=-1) + 1
        self._records: list[Record] = []
        self._entries: list[Entry] = []
        self._since = time.monotonic()

    def _read(self) -> dict[Source, Entry]:
        path = self.folder / "journal.jsonl"
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        parts = set(os.listdir(self.folder))
        entries = {}
        for line in whole.splitlines():
            fields = json.loads(line)
            entry = Entry(**fields | {"source": Source(**fields["source"])})
            if not entry.part or entry.part in parts:
                entries[entry.source] = entry
        return entries

    def add(
        self,
        source: Source,
        records: Sequence[Record],
        errors: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Add the chains of one input; they are on disk after the next `flush`."""
        if not self._entries:
            self._since = time.monotonic()
        entry = Entry(
            source,
            part=f"{self._next:06}.parquet" if records else "",
            start=len(self._records),
            rows=len(records),
            residues=sum(map(len, records)),
            errors=errors,
            notes=notes,
            uncoded=sum(chain.uncoded for chain in records),
        )
        # In this order: rows that no entry names are nothing, should Ctrl-C come in between.
        self._records.extend(records)
        self._entries.append(entry)
        full = len(self._records) >= PART_ROWS or sum(e.residues for e in self._entries) >= PART_RESIDUES
        if full or time.monotonic() - self._since > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring what was added to disk."""
        if not self._entries:
            return
        if self._records:
            part = self.folder / f"{self._next:06}.parquet"
            self._write(self._records, part)
            with open(part, "r+b") as handle:  # Windows syncs only what may be written
                os.fsync(handle.fileno())
            self._next += 1
        lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in self._entries)
        add_lines(self.folder / "journal.jsonl", lines, sync=True)
        self.done.update((entry.source, entry) for entry in self._entries)
        self._records, self._entries = [], []

    def tables(self, sources: Sequence[Source], ordered: bool = True) -> Iterator:
        """Yield the rows of each source as Arrow tables.

        In the order of `sources`, or as they lie in the parts, which takes less time.
        """
        import pyarrow.parquet as pq

        if not ordered:
            sources = sorted(sources, key=lambda s: (self.done[s].part, self.done[s].start))

        # Workers finish nearly in order, so that a few parts are enough to have at hand.
        read = lru_cache(maxsize=8)(lambda part: pq.read_table(self.folder / part))
        for source in sources:
            entry = self.done[source]
            if entry.rows:
                yield read(entry.part).slice(entry.start, entry.rows)

    def close(self) -> None:
        """Let other processes work in the folder."""
        self._held.close()

    def remove(self) -> None:
        """Delete the folder: its content has become the output."""
        self.close()
        shutil.rmtree(self.folder)


def difference(before: dict, now: dict) -> str:
    """Name what differs between two jobs, for a message."""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    shown = {
        key: [repr(job[key]) if job.get(key) is not None else "not given" for job in (before, now)]
        for key in keys
    }
    return ", ".join(f"{key.replace('_', ' ')} {old}, now {new}" for key, (old, new) in shown.items())
