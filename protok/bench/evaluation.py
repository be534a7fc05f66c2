"""Put every task to every tokenizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from protok.bench import results, tasks
from protok.bench.data.opening import open_data, read_training
from protok.bench.data.source import TRAIN, VALID, WITHIN, LabelledStructures, Table, digest, within
from protok.bench.measures import alignment, codebook, gru, homologs, learnability, locality
from protok.bench.measures.learnability import Lesson
from protok.bench.measures.lengths import length
from protok.bench.measures.samples import PRESETS, Settings
from protok.bench.probing import probe_table
from protok.bench.representations.load import Measurable, representation
from protok.bench.representations.representation import Representation
from protok.errors import FormatError, ProtokError, Unsupported
from protok.structure.backbone import Backbone
from protok.tokenizers.protocol import Named

#: What there are many of.
Item = TypeVar("Item")
#: Structures of a set that robustness is measured on, at most; reconstruction takes all.
STRUCTURES = 40
#: The measures on structures alone, by their tasks; of the first all structures, of others some.
MEASURES = codebook.MEASURES | locality.MEASURES | {length.__name__: length}
#: Those for which a small language model learns codes.
LEARNED = learnability.MEASURES
COMPLEXES = locality.complexes.__name__
DOMAINS = locality.domain_in_chain.__name__
HOMOLOGS = homologs.homologs.__name__
WHOLE = ("distinctiveness", "utilization", "reconstruction", COMPLEXES, length.__name__, *LEARNED)
#: Domains whose codes are compared alone and in their chains, at most.
MOST_DOMAINS = 400
#: Structures that k-means centres come from.
CENTRES = 1000


@dataclass(frozen=True)
class _Asked:
    """What tasks work with: data, how probes are trained, what a language model learns from."""

    folder: LabelledStructures
    settings: Settings
    lesson: Lesson | None


def evaluate(
    tokenizers: Measurable | Iterable[Measurable],
    tasks: str | Sequence[str] = "all",
    data: str | Path | LabelledStructures = "mini",
    *,
    train: str | Path | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    probe: str | Settings = "fast",
    seeds: Iterable[int] | None = None,
    cache: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> results.Results:
    """Measure tokenizers on tasks.

    Parameters
    ----------
    tokenizers
        Names or objects, see `protok.bench.representations.representation`; one or several.
    tasks
        Names, or `all` that the data folder can supply; `NAME.z` is the table of values NAME
        as z-scores in each chain.
    data
        A tidy folder (see `protok.bench.data.folder`), the official release, a folder of structure
        files (for the tasks that need no labels), a Parquet file of structures, or `mini`.
    train
        Structures, as for `data`, or a file of tokens, whose codes a small language model learns: for the
        tasks learnability and rate.
    quick
        Let it learn for a tenth of the steps. The rows say so.
    out
        Folder of result files; a result that is there is not computed again.
    probe
        `fast`, `paper`, `linear`, or settings of your own.
    seeds
        Instead of the one seed of the preset.
    cache
        Folder that keeps codes and embeddings, for runs that go on later.
    about
        What result files shall say besides: command, hardware.
    progress
        Called with a line for every result.

    Returns
    -------
    Results
        A row a (tokenizer, task). A task that fails is a row that says why. Files of a folder of
        structures that could not be read are its `unread`.

    Raises
    ------
    FormatError
        If data or tokenizer are not there, a task is not in the data, two tokenizers have one
        name, or seeds are given to the linear probe, which draws nothing.
    """
    folder = open_data(data) if isinstance(data, str | Path) else data
    settings = PRESETS[probe] if isinstance(probe, str) else probe
    if seeds is not None:
        if settings.name == "linear":
            raise FormatError("the linear probe draws nothing", "leave the seeds out")
        settings = replace(settings, seeds=tuple(seeds))
    lesson = Lesson(read_training(train), gru.QUICK if quick else gru.FULL) if train is not None else None
    asked = _Asked(folder, settings, lesson)
    chosen = _chosen(tasks, folder, lesson is not None)
    alone = isinstance(tokenizers, str | Path | Named)
    listed = [tokenizers] if alone else list(tokenizers)
    representations = [named(tokenizer, folder, cache) for tokenizer in listed]
    _distinct(representations)
    rows = []
    parts: dict[str, tuple] = {}
    for tokenizer, who in zip(listed, representations, strict=True):
        for name in chosen:
            place = results.path_of(Path(out), who.name, name) if out else None
            row = _measured(who, name, asked, place, parts, dict(about or {}))
            rows.append(row)
            if progress is not None:
                progress(_line(row))
        if who is not tokenizer:  # nobody else has it
            who.forget()
    return results.Results(tuple(rows), tuple(folder.errors))


def named(
    tokenizer: Measurable, folder: LabelledStructures, cache: str | Path | None = None
) -> Representation:
    """The representation of a name or object; k-means centres are made from structures of the folder."""
    return representation(tokenizer, _centres(tokenizer, folder), store=Path(cache) if cache else None)


def _distinct(representations: list[Representation]) -> None:
    """Refuse two tokenizers of one name: they would overwrite each other's results."""
    seen: dict[str, Representation] = {}
    for who in representations:
        if seen.setdefault(who.name, who).fingerprint != who.fingerprint:
            raise FormatError(
                f"two tokenizers are named {who.name}",
                "rename a file or folder, or measure them in runs of their own",
            )


def names(folder: LabelledStructures) -> list[str]:
    """Names of the chains that tasks ask for: what a file of precomputed tokens has to hold."""
    lists: list[Callable[[], Iterable[str]]] = [
        lambda: (id for ids in folder.sets().values() for id in ids),
        lambda: (id for pairs in folder.pairs().values() for pair in pairs for id in pair[:2]),
        lambda: (domain.id for domain in folder.domains()),
        *(lambda name=name: [entry.id for entry in folder.table(name).entries] for name in folder.tables()),
    ]
    named: set[str] = set()
    for ids in lists:
        with suppress(ProtokError):  # what cannot be read fails as a row
            named.update(ids())
    return sorted(named)


def available(folder: LabelledStructures, train: bool = False) -> list[str]:
    """Tasks that a data folder can supply, with something to learn codes from or without."""
    names = folder.tables()
    for task in names:
        if task in tasks.UNTAUGHT:
            raise FormatError(
                f"a table named {task}, as a task of protok is", "rename it", file=str(folder.path)
            )
    if _has(folder.has_pairs):
        names.append("sensitivity")
    if _has(folder.has_sets):
        names += [name for name in MEASURES if name != COMPLEXES]
        names += LEARNED if train else []
    if _has(folder.complexes):
        names.append(COMPLEXES)
    if _has(lambda: len(alignment.representatives(folder.domains())) > 1):
        names += [DOMAINS, HOMOLOGS, "retrieval"]
    return names


def _has(what: Callable[[], Any]) -> bool:
    """Whether there is something; what cannot be read is there, and fails as a row."""
    try:
        return bool(what())
    except Exception:  # of readers of files that anyone wrote
        return True


def _chosen(wanted: str | Sequence[str], folder: LabelledStructures, train: bool) -> list[str]:
    has = available(folder, train)
    if not has:
        raise FormatError(
            "no list of any task is there",
            "fetch one; protok/bench/README.md says which are read",
            file=str(folder.path),
        )
    # `all,sites.z` is all there is, and more.
    asked = [wanted] if isinstance(wanted, str) else wanted
    chosen = list(dict.fromkeys(n for name in asked for n in (has if name == "all" else [name])))
    for name in chosen:
        if name in LEARNED and not train:
            raise FormatError(f"nothing to learn codes from for {name}", "give structures as train, --train")
        if name not in has and not _is_within(name, folder.tables()):
            known = " (a task of protok, but its data is not there)" if name in tasks.TASKS else ""
            raise FormatError(f"no task {name!r}{known}", f"the data has {', '.join(has)}")
    return chosen


def _is_within(name: str, tables: list[str]) -> bool:
    return name.endswith(WITHIN) and name not in tables and name.removesuffix(WITHIN) in tables


def _centres(tokenizer: Measurable, folder: LabelledStructures) -> list[Backbone]:
    if not isinstance(tokenizer, str | Path) or ":kmeans" not in str(tokenizer):
        return []
    ids = []
    for name in folder.tables()[:1]:
        ids = sorted({entry.id for entry in folder.table(name).split(TRAIN)})
    ids = ids or sorted({id for ids in folder.sets().values() for id in ids})
    step = max(1, len(ids) // CENTRES)
    return [folder.structure(id) for id in ids[::step][:CENTRES]]


def _measured(
    who: Representation, name: str, asked: _Asked, path: Path | None, parts: dict, about: dict[str, Any]
) -> results.Result:
    started, spent, encoding = time.perf_counter(), time.process_time(), who.seconds
    tokenizer = {key: getattr(who, key) for key in ("name", "codebook", "fingerprint", "layer", "size")}
    task_info = {"name": name, "kind": "", "metric": ""}
    fields: dict[str, Any] = {"tokenizer": tokenizer, "task": task_info, "status": results.OK}
    try:
        if name not in parts:  # the same for every tokenizer
            parts[name] = _prepare(name, asked.folder)
        task, labelled, described, sha256 = parts[name]
        fields["task"] = asdict(task)
        used = asked.settings.to_dict() if task.supervised else {"structures": STRUCTURES}
        if name in LEARNED and asked.lesson:
            used = asked.lesson.settings.to_dict() | {"train_sha256": asked.lesson.training.digest}
        fields["key"] = results.key_of(
            fingerprint=who.fingerprint, task=name, version=task.version, data=sha256, settings=used
        )
        if path and (kept := results.cached(path, fields["key"])):
            return _described(kept, fields["task"], path)
        fields["data"] = {"sha256": sha256, **described}
        fields["settings"] = used
        scored, fields["points"], fields["chosen"] = _work(who, name, labelled, asked)
        fields["scores"] = {
            split: {metric: asdict(score) for metric, score in of.items()} for split, of in scored.items()
        }
    except Unsupported as error:
        fields |= {"status": results.UNSUPPORTED, "error": error.reason}
    except Exception as error:  # a tokenizer of others may raise anything: the row says what
        fields |= {"status": results.FAILED, "error": f"{type(error).__name__}: {error}"}
    fields["tokenizer"]["residues_per_second"] = who.residues_per_second
    fields["seconds"] = round(time.perf_counter() - started, 2)
    encoding = who.seconds - encoding
    fields["cpu_seconds"] = {
        # Whatever an earlier task encoded is not encoded again, so the two are told apart.
        "encoding": round(encoding, 2),
        "rest": round(time.process_time() - spent - encoding, 2),
    }
    fields["device"], fields["versions"] = "cpu", results.versions()
    row = results.Result.from_dict(about | fields)
    if path:
        results.save(row, path)
    return row


def _described(row: results.Result, task: dict[str, Any], path: Path) -> results.Result:
    """A result that is there, with what is said of its task now, which no number follows from."""
    words = {key: task[key] for key in ("what", "labels", "licence", "citation")}
    if {key: row.task.get(key) for key in words} != words:
        row = replace(row, task=row.task | words)
        results.save(row, path)
    return row


def _line(row: results.Result) -> str:
    text = row.error
    if row.status == results.OK:
        metric = row.task["metric"]
        values = {split: scored.get(metric, {}).get("value") for split, scored in row.scores.items()}
        shown = (f"{split} {'-' if v is None else format(v, '.3f')}" for split, v in values.items())
        text = f"{metric} {', '.join(shown)}"
    return f"{row.tokenizer['name']}  {row.task['name']}: {row.status}, {text}"


def _prepare(name: str, folder: LabelledStructures) -> tuple[tasks.Task, Any, dict[str, Any], str]:
    """The task, what it works on, a description of that, and its digest."""
    if name == "sensitivity":
        pairs = folder.pairs()
        described = {"pairs": _counts(pairs, folder, "pairs")} | _left_out(folder, "pairs")
        flat = [(kind, *pair) for kind, of in pairs.items() for pair in of]
        sha256 = digest(folder, flat, [id for _, first, second, _ in flat for id in (first, second)])
        return tasks.TASKS[name], pairs, described, sha256
    if name in (HOMOLOGS, "retrieval"):
        domains = alignment.representatives(folder.domains())
        sha256 = digest(folder, domains, [domain.id for domain in domains])
        return tasks.TASKS[name], {"test": domains}, {"domains": len(domains)}, sha256
    if name == DOMAINS:
        domains = _evenly(folder.domains(), MOST_DOMAINS)
        sha256 = digest(folder, domains, [domain.id for domain in domains])
        return tasks.TASKS[name], {"test": domains}, {"domains": len(domains)}, sha256
    if name in MEASURES or name in LEARNED:
        named = {"all": list(folder.complexes())} if name == COMPLEXES else folder.sets()
        most = {kind: len(ids) if name in WHOLE else STRUCTURES for kind, ids in named.items()}
        sets = {kind: _evenly(ids, most[kind]) for kind, ids in named.items()}
        described = {"structures": _counts(sets, folder, "sets")} | _left_out(folder, "sets")
        sha256 = digest(folder, sorted(sets.items()), [id for ids in sets.values() for id in ids])
        return tasks.TASKS[name], sets, described, sha256
    base = name.removesuffix(WITHIN) if _is_within(name, folder.tables()) else name
    table = folder.table(base)
    task = tasks.of_table(base, table.kind, table.tests, dict(table.about))
    if base != name:
        table = within(table)
        task = replace(task, name=name, labels=f"{task.labels}; as z-scores in each chain")
    # Zeros and ones may be sites or values, which are scored otherwise.
    known = (np.asarray(entry.target) for entry in table.entries)
    odd = table.kind == "value" and all(np.isin(y[np.isfinite(y)], (0, 1)).all() for y in known)
    marks = [table.kind] if odd else []
    sha256 = digest(folder, [*table.entries, *marks], [entry.id for entry in table.entries])
    proteins = {split: len(table.split(split)) for split in (TRAIN, VALID, *table.tests)}
    return task, table, {"proteins": proteins} | _left_out(folder, base), sha256


def _counts(held: dict[str, Any], folder: LabelledStructures, what: str) -> dict[str, int]:
    """How much there is by kind; refuses data that lists names but of which nothing is there."""
    if not held:
        first = [*folder.left_out.get(what, []), "none is named"][0]
        raise FormatError(f"no {what} of structures ({first})", "add them", file=str(folder.path))
    return {kind: len(of) for kind, of in held.items()}


def _left_out(folder: LabelledStructures, what: str) -> dict[str, Any]:
    """How much the data names but does not have, for a table, `pairs` or `sets`, and the first."""
    missing = folder.left_out.get(what)
    return {"left_out": len(missing), "first_left_out": missing[:5]} if missing else {}


def _work(who: Representation, name: str, labelled: Any, asked: _Asked):
    """Scores by split, points for plots by split, and what a probe chose."""
    folder = asked.folder
    if isinstance(labelled, Table):
        scores, chosen = probe_table(who, labelled, folder, asked.settings)
        return scores, {}, chosen
    if name == "sensitivity":
        done = {kind: alignment.sensitivity(who, folder, pairs) for kind, pairs in labelled.items()}
    elif name == "retrieval":
        done = {kind: alignment.retrieval(who, folder, domains) for kind, domains in labelled.items()}
    elif name == HOMOLOGS:
        done = {kind: homologs.homologs(who, folder, domains) for kind, domains in labelled.items()}
    elif name == DOMAINS:
        parts = {kind: [(folder.structure(d.id), d.rows) for d in of] for kind, of in labelled.items()}
        done = {kind: locality.domain_in_chain(who, of) for kind, of in parts.items()}
    elif name in LEARNED and asked.lesson:
        label = asked.lesson.settings.label
        done = {
            f"{kind}{suffix}{label}": part
            for kind, ids in labelled.items()
            for suffix, part in LEARNED[name](who, [folder.structure(i) for i in ids], asked.lesson).items()
        }
    else:
        measure = MEASURES[name]
        done = {kind: measure(who, [folder.structure(id) for id in ids]) for kind, ids in labelled.items()}
    return {k: v[0] for k, v in done.items()}, {k: v[1] for k, v in done.items()}, {}


def _evenly(items: Sequence[Item], most: int) -> list[Item]:
    if len(items) <= most:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most)]
