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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from protok.common.files import write_json

#: Of the harness: part of every key, goes up when the same settings give other numbers.
HARNESS = 4
OK, FAILED, UNSUPPORTED = "ok", "failed", "unsupported"
#: Test domains that a classification's split must have to be counted: with fewer, one domain more
#: or less decides a macro F1, and a bootstrap over them knows no error of it (0.000 ± 0.000 where
#: none is right). Site and value tables have hundreds of labelled residues in each protein.
ENOUGH_DOMAINS = 20


class TokenizerInfo(TypedDict):
    """Who was measured."""

    name: str
    codebook: str
    #: Of weights and code: another one gives other numbers.
    fingerprint: str
    #: `discrete` or `continuous`.
    layer: str
    #: Codes of the codebook; None of what is continuous.
    size: int | None
    #: Residues that it encodes in a CPU-second; None where its codes were there already.
    residues_per_second: NotRequired[float | None]


class TaskInfo(TypedDict):
    """What was asked, as `protok.bench.tasks.Task`; of a task that failed early its name alone."""

    name: str
    #: Empty of a task that failed early, as is `metric`.
    kind: str
    metric: str
    what: NotRequired[str]
    better: NotRequired[str]
    beside: NotRequired[Mapping[str, str]]
    splits: NotRequired[Sequence[str]]
    chance: NotRequired[float | None]
    version: NotRequired[int]
    labels: NotRequired[str]
    licence: NotRequired[str]
    citation: NotRequired[str]


class ScoreInfo(TypedDict):
    """A score, its standard error over proteins, and the mean over mini-batches."""

    value: float | None
    se: float | None
    parity: NotRequired[float | None]


@dataclass(frozen=True)
class Result:
    """What one tokenizer scored in one task: a cell of a leaderboard.

    Attributes
    ----------
    tokenizer, task
        Who was measured, and in what.
    status
        `ok`, `failed`, or `unsupported` where the tokenizer cannot do what the task asks.
    error
        Why there are no scores; empty if all went well.
    scores
        By test split (or set of structures) and metric.
    points
        What plots show, by split.
    key
        Digest of all that the scores depend on; empty if the task failed before it was known.
    data
        `sha256` of the data and how much there was; None if the task failed before it was read.
    settings
        Of the probe, or how many structures were measured; None as for `data`.
    chosen
        What a probe chose on the validation split, and `test_proteins` that were scored.
    seconds, cpu_seconds
        Wall time of the task; CPU time of `encoding` and of the `rest`.
    device, versions
        Where it was computed, and by which versions of packages.
    about
        What else the caller had to say: command, hardware.
    """

    tokenizer: TokenizerInfo
    task: TaskInfo
    status: str
    error: str = ""
    scores: dict[str, dict[str, ScoreInfo]] = field(default_factory=dict)
    points: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    data: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    chosen: dict[str, Any] | None = None
    seconds: float | None = None
    cpu_seconds: dict[str, float] | None = None
    device: str | None = None
    versions: dict[str, str] | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Result:
        """The result of a file; keys that are no field are `about`."""
        known = {key: row[key] for key in row.keys() & FIELDS}
        return cls(**known, about={key: value for key, value in row.items() if key not in FIELDS})

    def to_dict(self) -> dict[str, Any]:
        """As in result files: what is not known is left out, and `about` lies beside the rest."""
        known = {key: value for key, value in vars(self).items() if key in FIELDS and value is not None}
        return known | self.about


FIELDS = {item.name for item in fields(Result)} - {"about"}


def key_of(**parts: Any) -> str:
    """Cache key: 24 hex digits over everything a number depends on."""
    text = json.dumps({"harness": HARNESS, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def path_of(out: Path, representation: str, task: str) -> Path:
    """Where a result lies; two names that differ never share a file."""
    return out / _safe(representation) / f"{_safe(task)}.json"


def _safe(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.")[-60:]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def save(result: Result, path: Path) -> None:
    """Write a result; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result.to_dict())


def cached(path: Path, key: str) -> Result | None:
    """The result at a path if it is of this key and did not fail."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = is_result(row) and row["key"] == key
    return Result.from_dict(row) if same and row["status"] != FAILED else None


def is_result(row: Any) -> bool:
    """Whether what was read from a file is a result."""
    return isinstance(row, dict) and {"key", "task", "tokenizer", "status"} <= row.keys()


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = {name: version(name) for name in ("torch", "numpy", "biotite")}
    return {"protok": version("protok"), "python": platform.python_version(), **packages}


@dataclass(frozen=True)
class Results:
    """Results of several tokenizers and tasks; prints as a table.

    Of supervised tasks it shows the main metric, of those on structures alone all.

    Attributes
    ----------
    rows
        A result a tokenizer and task.
    unread
        Files of the data that could not be read, with reasons; the rest was measured without them.
    """

    rows: tuple[Result, ...]
    unread: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def failed(self) -> list[Result]:
        """Rows of tasks that failed."""
        return [row for row in self.rows if row.status == FAILED]

    def representations(self) -> list[str]:
        """Tokenizers, in order of first appearance."""
        return list(dict.fromkeys(row.tokenizer["name"] for row in self.rows))

    def tasks(self) -> dict[str, TaskInfo]:
        """What is said of each task; rows that failed before it was known say only its name."""
        known: dict[str, TaskInfo] = {}
        for row in self.rows:
            name = row.task["name"]
            if not known.get(name, {}).get("kind"):
                known[name] = row.task
        return known

    def lines(self) -> list[tuple[str, str, str]]:
        """(task, split, metric) of every line of a table, in order of first appearance."""
        seen: dict[tuple[str, str, str], None] = {}
        tasks = self.tasks()
        for row in self.rows:
            name = row.task["name"]
            for split in row.scores or {"": None}:
                for metric in (tasks[name]["metric"], *tasks[name].get("beside", {})):
                    seen[name, split, metric] = None
        measured = {task for task, split, _ in seen if split}
        return [line for line in seen if line[1] or line[0] not in measured]

    def _shown(self) -> list[tuple[str, str, str]]:
        shown = []
        for task, split, main in self.lines():
            shown.append((task, split, main))
            for row in self.rows:
                if row.task["name"] == task and row.task["kind"] == "structures":
                    shown += [(task, split, metric) for metric in row.scores.get(split, {})]
        return list(dict.fromkeys(shown))

    def cell(self, representation: str, task: str, split: str, metric: str) -> tuple[str, ScoreInfo | None]:
        """Status and score of one cell: status is `absent` where nobody measured it.

        A score of too few test domains to count has no standard error (see `few`).
        """
        for row in self.rows:
            if row.tokenizer["name"] == representation and row.task["name"] == task:
                score: ScoreInfo | None = row.scores.get(split, {}).get(metric)
                if score and _few(row, split):
                    score = {**score, "se": None}
                return row.status, score
        return "absent", None

    def few(self, task: str, split: str) -> int | None:
        """How many test domains a split has if these are too few to count, otherwise None.

        Such a split of a classification is shown, but enters no mean and no count of tables.
        """
        sizes = (_few(row, split) for row in self.rows if row.task["name"] == task)
        return next((n for n in sizes if n), None)

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
            for representation in self.representations():
                scores = [self.cell(representation, *line)[1] for line in lines]
                values = [score["value"] for score in scores if score and score["value"] is not None]
                whole = len(values) == len(lines)
                out.setdefault(kind, {})[representation] = sum(values) / len(values) if whole else None
        return out

    def __str__(self) -> str:
        representations = self.representations()
        table = [["task", "split", "metric", *representations]]
        for line in self._shown():
            table.append([*line, *(_cell(*self.cell(name, *line)) for name in representations)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join(lines + [f"not read: {path}: {reason}" for path, reason in self.unread])


def _few(row: Result, split: str) -> int | None:
    if row.task.get("kind") != "class" or row.chosen is None:
        return None
    n = row.chosen.get("test_proteins", {}).get(split)
    return n if n and n < ENOUGH_DOMAINS else None


def _cell(status: str, score: ScoreInfo | None) -> str:
    if not score or score["value"] is None:
        return {OK: "-", "absent": "", UNSUPPORTED: "n/a"}.get(status, status)
    error = score.get("se")
    known = error is not None and math.isfinite(error)
    return f"{score['value']:.3f}" + (f" ± {error:.3f}" if known else "")
