"""The finished output of a batch job: how it appears, and what it says that it was made of."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protok.common.files import atomic_folder, atomic_path
from protok.errors import ProtokError
from protok.pipeline.inputs import Source, repeated
from protok.pipeline.journal import PART_ROWS, Entry, difference
from protok.tokens.files import format_of, save
from protok.tokens.parquet import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

# Keys of an output's Parquet metadata under which it says what it was made of, and what failed:
# that is packed, as readers refuse metadata of 100 MB and a large job has many notes.
MADE_OF, FAILED = b"protok.made_of", b"protok.errors_and_notes"
#: Makes an output of a Parquet file and of what it is to say of itself.
Convert = Callable[[Path, Path, Mapping[str, Any]], None]
# Files of a dataset, and chains in each.
PART, FILE_ROWS = "part-", 100_000


def check_suffix(out: Path) -> None:
    """Refuse an unknown suffix before the work, not after it."""
    if out.suffix:
        format_of(out)


def error_rows(entries: Iterable[Entry]) -> list[tuple[str, str, str]]:
    """Rows of the error table: file, chain, reason."""
    return [(entry.source.path, chain, reason) for entry in entries for chain, reason in entry.errors]


def made_of(job: dict[str, Any], sources: Sequence[Source], entries: Sequence[Entry]) -> dict[str, Any]:
    """What an output says about itself, so that the same call finds its work done."""
    return {
        "job": job,
        "inputs": _digest(sources),
        "files": len(sources),
        "chains": sum(entry.rows for entry in entries),
        "residues": sum(entry.residues for entry in entries),
        "uncoded": sum(entry.uncoded for entry in entries),
        "errors": error_rows(entries),
        "notes": [(entry.source.path, note) for entry in entries for note in entry.notes]
        + [(source.path, note) for source, note in repeated(sources).items()],
    }


def _digest(sources: Sequence[Source]) -> str:
    return hashlib.sha256(json.dumps([asdict(source) for source in sources]).encode()).hexdigest()


def finish(
    tables: Iterator[pa.Table],
    drafts: Path,
    out: Path,
    stored: dict[str, Any],
    *,
    schema: pa.Schema,
    convert: Convert,
) -> None:
    """Join the parts of a job, and let the output appear at once; `stored` is of `made_of`."""
    # Drafts lie in the folder of the journal, which goes with all that a kill may leave in it.
    if out.suffix.lower() == ".parquet":
        with atomic_path(out, drafts) as joined:
            join(tables, joined, stored, schema)
    elif out.suffix:
        joined = drafts / "joined.parquet"
        join(tables, joined, stored, schema)
        convert(joined, out, stored)
    else:
        with atomic_folder(out, drafts) as dataset:
            for number in itertools.count():
                if not join(tables, dataset / f"{PART}{number:06}.parquet", stored, schema, FILE_ROWS):
                    break


def convert_tokens(joined: Path, out: Path, stored: Mapping[str, Any]) -> None:
    """Write the tokens of a Parquet file as a file of another kind, which says nothing of the job."""
    with joined.open("rb") as handle:
        save(read_parquet(handle, str(joined), own=True), out)


def join(
    tables: Iterator[pa.Table],
    path: Path,
    stored: dict[str, Any],
    schema: pa.Schema,
    most: float = float("inf"),
) -> bool:
    """Write tables into one file until it has `most` rows; False if there were not so many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rest = {key: stored[key] for key in ("errors", "notes") if key in stored}
    plain = {key: value for key, value in stored.items() if key not in rest}
    packed = base64.b64encode(zlib.compress(json.dumps(rest).encode()))
    schema = schema.with_metadata({**(schema.metadata or {}), MADE_OF: json.dumps(plain), FAILED: packed})
    total = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        held, rows = [], 0
        for table in tables:
            held.append(table.replace_schema_metadata(schema.metadata))
            rows, total = rows + len(table), total + len(table)
            if rows >= PART_ROWS or total >= most:
                writer.write_table(pa.concat_tables(held))
                held, rows = [], 0
            if total >= most:
                return True
        if held:
            writer.write_table(pa.concat_tables(held))
    return False


def read_stored(out: Path) -> dict[str, Any]:
    """What a finished Parquet output says that it was made of; empty if it says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.suffix.lower() not in ("", ".parquet"):
        return {}
    with contextlib.suppress(pa.ArrowException, OSError):
        file = out if out.suffix else out / f"{PART}{0:06}.parquet"
        metadata = pq.read_schema(file).metadata or {}
        if MADE_OF in metadata and FAILED in metadata:
            rest = zlib.decompress(base64.b64decode(metadata[FAILED]))
            return json.loads(metadata[MADE_OF]) | json.loads(rest)
    return {}


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds an output of `encode_all`, and nothing else."""
    ours = all(re.fullmatch(rf"{PART}\d{{6}}\.parquet", path.name) for path in folder.iterdir())
    return ours and bool(read_stored(folder))


def same_job(
    out: Path, job: dict[str, Any], sources: Sequence[Source], stored: dict[str, Any]
) -> dict[str, Any]:
    """What a finished output was made of, which is `stored`, as it says itself.

    Raises
    ------
    ProtokError
        If that is not this job, or not known.
    """
    if stored.get("job") == job and stored.get("inputs") == _digest(sources):
        return stored
    if not stored:
        cause = "exists and does not say what it was made of"
    elif stored["job"] != job:
        cause = f"exists and was made otherwise: {difference(stored['job'], job)}"
    else:
        cause = (
            f"exists and was made of other inputs: {stored['files']} files then, "
            f"{len(sources)} now, or with other content"
        )
    raise ProtokError(cause, "write elsewhere, or overwrite it (--overwrite)", file=str(out))
