"""Result files: one JSON a (tokenizer, task), with all that is needed to trust the number.

A result is served again only if its key is the same, which covers the tokenizer's fingerprint,
task and version, the data's sha256, and the settings. A task that failed stays as a row that
says why, and no average is taken over it.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protok.errors import FormatError

#: Of the harness: part of every key, goes up when the same settings give other numbers.
HARNESS = 3
OK, FAILED, UNSUPPORTED = "ok", "failed", "unsupported"
#: Test domains that a classification's split must have to be counted: with fewer, one domain more
#: or less decides a macro F1, and a bootstrap over them knows no error of it (0.000 ± 0.000 where
#: none is right). Site and value tables have hundreds of labelled residues in each protein.
ENOUGH_DOMAINS = 20


def key_of(**parts: Any) -> str:
    """Cache key: 24 hex digits over everything a number depends on."""
    said = json.dumps({"harness": HARNESS, **parts}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def path_of(out: Path, subject: str, task: str) -> Path:
    """Where a result lies; two names that differ never share a file."""
    return out / _safe(subject) / f"{_safe(task)}.json"


def _safe(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.")[-60:]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def save(result: dict[str, Any], path: Path) -> None:
    """Write a result; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(plain(result), indent=1) + "\n")
    part.replace(path)


def plain(value: Any) -> Any:
    """The same with NaN and infinities as None, which JSON has instead."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cached(path: Path, key: str) -> dict[str, Any] | None:
    """The result at a path if it is of this key and did not fail."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("key") == key
    return found if same and found.get("status") != FAILED else None


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    import biotite
    import numpy
    import torch

    return {
        "protok": version("protok"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "biotite": biotite.__version__,
    }


@dataclass(frozen=True)
class Results:
    """Results of several tokenizers and tasks; prints as a table.

    Of supervised tasks it shows the main metric, of those on structures alone all.

    Attributes
    ----------
    rows
        As in result files.
    unread
        Files of the data that could not be read, with reasons; the rest was measured without them.
    """

    rows: tuple[dict[str, Any], ...]
    unread: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of tasks that failed."""
        return [row for row in self.rows if row["status"] == FAILED]

    def subjects(self) -> list[str]:
        """Tokenizers, in order of first appearance."""
        return list(dict.fromkeys(row["tokenizer"]["name"] for row in self.rows))

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is said of each task; rows that failed before it was known say only its name."""
        known: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            name = row["task"]["name"]
            if not known.get(name, {}).get("kind"):
                known[name] = row["task"]
        return known

    def lines(self) -> list[tuple[str, str, str]]:
        """(task, split, metric) of every line of a table, in order of first appearance."""
        seen: dict[tuple[str, str, str], None] = {}
        tasks = self.tasks()
        for row in self.rows:
            name = row["task"]["name"]
            for split in row["scores"] or {"": None}:
                seen[name, split, tasks[name]["metric"]] = None
        measured = {task for task, split, _ in seen if split}
        return [line for line in seen if line[1] or line[0] not in measured]

    def _shown(self) -> list[tuple[str, str, str]]:
        seen: dict[tuple[str, str, str], None] = {}
        for task, split, main in self.lines():
            seen[task, split, main] = None
            for row in self.rows:
                if row["task"]["name"] == task and row["task"]["kind"] == "structures":
                    seen |= {(task, split, metric): None for metric in row["scores"].get(split, {})}
        return list(seen)

    def cell(self, subject: str, task: str, split: str, metric: str) -> tuple[str, dict | None]:
        """Status and score of one cell: status is `absent` where nobody measured it.

        A score of too few test domains to count has no standard error (see `few`).
        """
        for row in self.rows:
            if row["tokenizer"]["name"] == subject and row["task"]["name"] == task:
                score = row["scores"].get(split, {}).get(metric)
                if score and _few(row, split):
                    score = score | {"se": None}
                return row["status"], score
        return "absent", None

    def few(self, task: str, split: str) -> int | None:
        """How many test domains a split has if these are too few to count, otherwise None.

        Such a split of a classification is shown, but enters no mean and no count of tables.
        """
        found = (_few(row, split) for row in self.rows if row["task"]["name"] == task)
        return next((n for n in found if n), None)

    def means(self) -> dict[str, dict[str, float | None]]:
        """Mean main metric of each kind of supervised task; None if any cell is missing.

        Splits of too few test domains (see `few`) are left out.
        """
        kinds: dict[str, list[tuple[str, str, str]]] = {}
        tasks = self.tasks()
        for line in self.lines():
            kind = tasks[line[0]]["kind"]
            if kind in ("site", "value", "class") and not self.few(*line[:2]):
                kinds.setdefault(kind, []).append(line)
        out: dict[str, dict[str, float | None]] = {}
        for kind, lines in kinds.items():
            for subject in self.subjects():
                found = [self.cell(subject, *line)[1] for line in lines]
                values = [one["value"] for one in found if one and one["value"] is not None]
                whole = len(values) == len(lines)
                out.setdefault(kind, {})[subject] = sum(values) / len(values) if whole else None
        return out

    def __str__(self) -> str:
        subjects = self.subjects()
        table = [["task", "split", "metric", *subjects]]
        for line in self._shown():
            row = [line[0], line[1], line[2]]
            for subject in subjects:
                status, score = self.cell(subject, *line)
                row.append(_cell(status, score))
            table.append(row)
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join(lines + [f"not read: {path}: {reason}" for path, reason in self.unread])


def _few(row: dict[str, Any], split: str) -> int | None:
    if row["task"].get("kind") != "class":
        return None
    n = row.get("chosen", {}).get("test_proteins", {}).get(split)
    return n if n and n < ENOUGH_DOMAINS else None


def _cell(status: str, score: dict | None) -> str:
    if not score or score["value"] is None:
        return {OK: "-", "absent": "", UNSUPPORTED: "n/a"}.get(status, status)
    error = score.get("se")
    error = "" if error is None or error != error else f" ± {error:.3f}"
    return f"{score['value']:.3f}{error}"


def load_results(folder: str | Path) -> Results:
    """All results below a folder.

    Raises
    ------
    FormatError
        If there is none, or if they are of things that cannot stand side by side.
    """
    rows = []
    for path in sorted(Path(folder).glob("*/*.json")):
        try:
            row = json.loads(path.read_text())
        except ValueError as error:
            raise FormatError("damaged result", "delete it", file=str(path)) from error
        if isinstance(row, dict) and {"key", "task", "tokenizer", "status"} <= row.keys():
            rows.append(row)
    if not rows:
        raise FormatError("no results", "write some with `protok bench ... -o FOLDER`", file=str(folder))
    _comparable(rows, folder)
    return Results(tuple(rows))


def _comparable(rows: list[dict[str, Any]], folder: str | Path) -> None:
    """Refuse one task of different data or settings, and one name of different models."""
    seen: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}
    for row in rows:
        name, task = row["tokenizer"]["name"], row["task"]["name"]
        about = {("model", name): row["tokenizer"]["fingerprint"]}
        if row.get("data"):
            data = row["data"]["sha256"], row["settings"], row["task"].get("version")
            about["task", task] = data
        for key, value in about.items():
            before, of = seen.setdefault(key, (value, row))
            if before == value:
                continue
            one = f"{of['tokenizer']['name']} on {of['task']['name']}"
            what = "models of one name" if key[0] == "model" else "data or settings of the probe"
            raise FormatError(
                f"{one} and {name} on {task} are results of different {what}",
                "delete those that are out of date, or give runs folders of their own (-o)",
                file=str(folder),
            )
