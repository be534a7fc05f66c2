"""Damage small files of every format that protok reads and look at what it does with them.

python tools/fuzz.py                        # 10,000 cases on every core, in minutes
python tools/fuzz.py --cases 500 --seed 7   # some, from another seed
python tools/fuzz.py --case 1234 --keep x   # one again in this process; its file is kept in x

Each case is a structure file (PDB, mmCIF, BinaryCIF, Foldcomp), a token file (all formats), a
file of image codes or a model folder (tokenizer, image tokenizer, prior), mutated, and read in a
worker process. It must give what was asked for or a `ProtokError` that names the file, within
the limits of time and memory. Anything else is printed with the number of its case: the same
number, seed and targets give the same edits again. The exit code is then 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from protok.errors import ProtokError  # noqa: E402
from tools.fuzz_cases import WEIGHTS, Case, Seeds, build, mutate  # noqa: E402

#: A worker beyond this cannot go on; what it may use is checked after each case.
HARD = 4


class Wrong(Exception):
    """What was read cannot be what the file means."""


@dataclass
class Finding:
    """What went wrong, and in which case."""

    case: int
    target: str
    kind: str
    what: str


def check(case: Case, path: Path) -> str:
    """Read the file of a case; return "read" or "refused"."""
    try:
        case.use(path)
    except ProtokError as error:
        if not error.cause or str(path) not in str(error):
            raise Wrong(f"an error that does not name the file: {error}"[:200]) from error
        return "refused"
    return "read"


def attempt(
    seeds: Seeds, seed: int, number: int, folder: Path, bound: int
) -> tuple[str, str, Finding | None]:
    """Target, outcome and finding of a case."""
    case = mutate(seeds, seed, number)
    path = case.write(folder)
    before = peak()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome, finding = check(case, path), None
    except MemoryError:
        outcome, finding = "failed", Finding(number, case.target, "memory", f"more than {HARD} GiB")
    except Exception as error:
        kind = "wrong" if isinstance(error, Wrong | AssertionError) else "untyped"
        text = (str(error).splitlines() or [""])[0][:160]
        what = f"{type(error).__name__}: {text} ({place(error)})"
        outcome, finding = "failed", Finding(number, case.target, kind, what)
    case.remove(path)
    if finding is None and peak() > bound >= before:
        finding = Finding(number, case.target, "memory", f"{peak() >> 20} MiB ({outcome})")
    return case.target, outcome, finding


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def place(error: BaseException) -> str:
    """The innermost line of protok in a traceback."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT / "protok"))
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside protok"


def work(pipe: Connection, seeds: Seeds, seed: int, bound: int, folder: Path) -> None:
    """Run the cases whose numbers come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (HARD << 30, HARD << 30))
    folder /= str(os.getpid())
    folder.mkdir()
    while True:
        number = pipe.recv()
        pipe.send(attempt(seeds, seed, number, folder, bound))


class Worker:
    """A process for cases, replaced when it dies, hangs or has grown."""

    def __init__(self, *arguments: object):
        self.arguments = arguments
        self.number, self.since = -1, 0.0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("fork")  # shares the imported libraries
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, *self.arguments), daemon=True)
        self.process.start()
        other.close()

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def stop(self) -> None:
        """End the process and what it has started."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run(
    numbers: Iterator[int], workers: list[Worker], seconds: float
) -> Iterator[tuple[str, str, Finding | None]]:
    """Results of all cases, as they come."""
    busy: list[Worker] = []

    def feed(worker: Worker) -> None:
        number = next(numbers, None)
        if number is not None:
            worker.give(number)
            busy.append(worker)

    for worker in workers:
        feed(worker)
    while busy:
        ready = wait([worker.pipe for worker in busy], timeout=1)
        for worker in list(busy):
            number, grown = worker.number, False
            if worker.pipe in ready:
                try:
                    result = worker.pipe.recv()
                    grown = result[2] is not None and result[2].kind == "memory"
                except (EOFError, OSError):
                    worker.process.join()
                    what = f"the process ended with {worker.process.exitcode}"
                    result, grown = ("", "failed", Finding(number, "", "died", what)), True
            elif time.monotonic() - worker.since > seconds:
                result, grown = ("", "failed", Finding(number, "", "hang", f"more than {seconds:g} s")), True
            else:
                continue
            if grown:
                worker.stop()
                worker.start()
            busy.remove(worker)
            feed(worker)
            yield result


def again(seeds: Seeds, seed: int, number: int, keep: Path) -> None:
    """Run one case here, with its traceback, and keep its file."""
    keep.mkdir(parents=True, exist_ok=True)
    case = mutate(seeds, seed, number)
    path = case.write(keep)
    print(f"case {number}: {case.target}, {path}")
    print(check(case, path), f"{peak() >> 20} MiB")


def main() -> int:
    """Run the cases and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="how many (10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (0)")
    parser.add_argument("--targets", default=",".join(WEIGHTS), help="what to damage (%(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (cores)")
    parser.add_argument("--seconds", type=float, default=20, help="for one case (20)")
    parser.add_argument("--memory", type=float, default=1, help="GiB for a process (1)")
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="where --case leaves its file (fuzz)")
    options = parser.parse_args()
    start = time.monotonic()
    seeds = build(options.targets.split(","))
    if options.case is not None:
        again(seeds, options.seed, options.case, options.keep)
        return 0
    bound = int(options.memory * 2**30)
    outcomes: Counter[tuple[str, str]] = Counter()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        workers = [Worker(seeds, options.seed, bound, Path(folder)) for _ in range(options.workers)]
        for target, outcome, finding in run(iter(range(options.cases)), workers, options.seconds):
            if finding is not None:
                finding.target = target = mutate(seeds, options.seed, finding.case).target
                findings.append(finding)
            outcomes[target, outcome] += 1
        for worker in workers:
            worker.stop()
    for target in seeds:
        counts = [outcomes[target, outcome] for outcome in ("read", "refused", "failed")]
        print(f"{target:10} {counts[0]:6} read {counts[1]:6} refused {counts[2]:4} failed")
    kinds = Counter((finding.target, finding.kind, finding.what) for finding in findings)
    for (target, kind, what), count in sorted(kinds.items()):
        first = min(f.case for f in findings if (f.target, f.kind, f.what) == (target, kind, what))
        print(f"{target}: {kind}: {what}: {count} cases, first {first}")
    seconds = time.monotonic() - start
    print(f"{options.cases} cases, seed {options.seed}, {seconds:.0f} s, {len(findings)} findings")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
