"""Many results: read from the files that `evaluate` wrote, or from one Parquet file of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protok.bench.results import Result, Results, is_result, path_of, save
from protok.common.files import atomic_path
from protok.errors import FormatError

NONE = "no results", "write some with `protok bench ... -o FOLDER`"


def load_results(path: str | Path, group: str = "") -> Results:
    """All results below a folder, or of a file that `pack` made of one.

    Parameters
    ----------
    path
        A folder that `evaluate` wrote, or a Parquet file.
    group
        Of several folders that lie in `path`, or that were packed together, the name of one.

    Raises
    ------
    FormatError
        If there is none, or if they are of things that cannot stand side by side.
    """
    path = Path(path)
    rows = [row for _, row in _packed(path, group)] if path.is_file() else _in_folder(path / group)
    if not rows:
        raise FormatError(*NONE, file=str(path / group))
    _comparable(rows, path)
    return Results(tuple(rows))


def _in_folder(folder: Path) -> list[Result]:
    rows = []
    for path in sorted(folder.glob("*/*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError("damaged result", "delete it", file=str(path)) from error
        if is_result(row):
            rows.append(Result.from_dict(row))
    return rows


def _packed(path: Path, group: str | None) -> list[tuple[str, Result]]:
    """Group and result of each row of a file; of all groups if `group` is None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["group", "record"]).to_pylist()
        rows = [(row["group"], json.loads(row["record"])) for row in table]
    except (OSError, pa.ArrowException, ValueError) as error:
        raise FormatError("not results that protok bench packed", "pack them anew", file=str(path)) from error
    groups = sorted({name for name, _ in rows})
    if group is not None and group not in groups:
        raise FormatError(
            f"no group {group!r} of results" if group else "results of several groups",
            f"name one of {', '.join(name or repr(name) for name in groups)}",
            file=str(path),
        )
    return [(name, Result.from_dict(row)) for name, row in rows if group in (None, name)]


def pack(folder: str | Path, out: str | Path) -> int:
    """Put all results below a folder, or below folders that lie in it, into one Parquet file.

    A row is a result: some of it as columns, for any program that reads Parquet, and in `record` the
    whole of it as JSON, from which nothing is left out. `group` is the name of the folder in `folder`
    that it lay in, empty for those of `folder` itself.

    Returns
    -------
    int
        How many there are.

    Raises
    ------
    FormatError
        If there is none, or if those of one group cannot stand side by side.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, out = Path(folder), Path(out)
    names = ["", *sorted(path.name for path in folder.glob("*") if any(path.glob("*/*.json")))]
    rows = []
    for group in names:
        members = _in_folder(folder / group)
        _comparable(members, folder / group)
        rows += [_columns(group, row) for row in members]
    if not rows:
        raise FormatError(*NONE, file=str(folder))
    texts = ("group", "tokenizer", "fingerprint", "task", "kind", "probe", "status", "error", "metric")
    by_split = pa.map_(pa.string(), pa.float64())
    types = {name: by_split if name in ("value", "se") else pa.string() for name in rows[0]}
    table = pa.Table.from_pylist(rows, pa.schema(types))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as draft:
        # pyarrow takes names of columns for use_dictionary as well, which its default does not tell.
        options = {"compression": "zstd", "compression_level": 19, "use_dictionary": list(texts)}
        pq.write_table(table, draft, **options)
    return len(rows)


def unpack(path: str | Path, folder: str | Path) -> None:
    """Write the files that were packed, so that `evaluate` serves them again."""
    for group, row in _packed(Path(path), None):
        save(row, path_of(Path(folder) / group, row.tokenizer["name"], row.task["name"]))


def _columns(group: str, row: Result) -> dict[str, Any]:
    """A row of a packed file."""
    metric = row.task.get("metric", "")
    main = {split: scores[metric] for split, scores in row.scores.items() if metric in scores}
    return {
        "group": group,
        "tokenizer": row.tokenizer["name"],
        "fingerprint": row.tokenizer["fingerprint"],
        "task": row.task["name"],
        "kind": row.task.get("kind", ""),
        "probe": (row.settings or {}).get("name", ""),
        "status": row.status,
        "error": row.error,
        "metric": metric,
        "value": [(split, score["value"]) for split, score in main.items()],
        "se": [(split, score["se"]) for split, score in main.items()],
        "data_sha256": (row.data or {}).get("sha256", ""),
        "record": json.dumps(row.to_dict(), separators=(",", ":")),
    }


def _comparable(rows: Sequence[Result], where: str | Path) -> None:
    """Refuse one task of different data or settings, and one name of different models."""
    seen: dict[tuple[str, str], tuple[Any, Result]] = {}
    for row in rows:
        name, task = row.tokenizer["name"], row.task["name"]
        about: dict[tuple[str, str], Any] = {("model", name): row.tokenizer["fingerprint"]}
        if row.data:
            about["task", task] = row.data["sha256"], row.settings, row.task.get("version")
        for key, value in about.items():
            before, other = seen.setdefault(key, (value, row))
            if before == value:
                continue
            what = "models of one name" if key[0] == "model" else "data or settings of the probe"
            raise FormatError(
                f"{other.tokenizer['name']} on {other.task['name']} and {name} on {task} are results of "
                f"different {what}",
                "delete those that are out of date, or give runs folders of their own (-o)",
                file=str(where),
            )
