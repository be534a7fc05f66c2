"""Worker processes that may die: what one was doing is retried, the others go on.

`concurrent.futures` gives up the whole pool when a process is killed, and does not say which
task did it. A batch job over files of strangers needs the opposite.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any, TypeVar

from protok.errors import ProtokError

# One thread a process: the processes are the parallelism.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: A worker that is sent what the program itself defines runs the program's file to have it.
OWN_PROGRAM = (
    "call this below `if __name__ == '__main__':`, or define what it needs in a module instead, or use jobs=1"
)

#: Exit code of a worker that was told to end, and seconds that it has for it: drafts of files are removed.
ENDED = 128 + signal.SIGTERM
GRACE = 5.0

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """Stands for the result of an item that brought its worker down, or kept it too long."""

    reason: str
    remedy: str = ""


def run(
    factory: Callable[..., Callable[[Sequence[Any]], Sequence[Any]]],
    arguments: tuple,
    batches: Iterable[Sequence[Any]],
    *,
    jobs: int,
    timeout: float | None = None,
) -> Generator[tuple[Any, Any]]:
    """Yield `(item, result)` for every item of every batch, in the order of completion.

    Parameters
    ----------
    factory, arguments
        `factory(*arguments)` is called once in each process and returns the function that
        turns a batch of items into as many results. All of it must pickle; the function should
        turn the errors that it expects into results.
    batches
        Consumed as the workers get to them.
    jobs
        Worker processes; with 1 and no time limit everything happens in this process,
        unprotected.
    timeout
        Seconds after which a worker that is at one item is ended; None for no limit.

    Yields
    ------
    item, result
        The result is `Lost` where a worker died of the item (a segmentation fault, memory), took
        too long for it, or its function raised. The items of a batch that was lost, or that
        took longer than one item may, are first tried again one by one.

    Raises
    ------
    ProtokError
        If `factory` or its arguments do not pickle, or a worker dies before it starts to work, as all
        others then would too.
    """
    if timeout == float("inf"):
        timeout = None
    if jobs == 1 and timeout is None:
        work = factory(*arguments)
        for batch in batches:
            yield from _attempt(work, batch)
        return
    payload = _pickled(factory, arguments)
    source, again = iter(batches), deque()
    idle: list[_Worker] = []
    busy: dict[Any, _Worker] = {}

    def take():
        return again.popleft() if again else next(source, None)

    try:
        while True:
            while len(busy) < jobs and (batch := take()) is not None:
                worker = idle.pop() if idle else _Worker(payload, timeout)
                worker.give(batch)
                busy[worker.pipe] = worker
            if not busy:
                return
            # Until the first of them is late, if any can be.
            left = [seconds for w in busy.values() if (seconds := w.patience()) is not None]
            answers = {pipe: busy[pipe].receive() for pipe in wait(list(busy), min(left, default=None))}
            for pipe, worker in busy.items():
                if pipe not in answers and worker.patience() == 0:
                    answers[pipe] = "late", f"it took longer than {timeout:g} s"
            for pipe, (kind, content) in answers.items():
                worker = busy[pipe]
                if kind == "ready":
                    continue
                del busy[pipe]
                if kind in ("died", "late"):
                    worker.stop()
                else:
                    idle.append(worker)
                if kind == "done":
                    yield from zip(worker.batch, content, strict=True)
                elif len(worker.batch) == 1:
                    remedy = "leave it out, or allow more time (timeout)" if kind == "late" else ""
                    yield worker.batch[0], Lost(content, remedy)
                else:
                    again.extend([item] for item in worker.batch)
    finally:
        for worker in [*idle, *busy.values()]:
            worker.stop()


def each(work: Callable[[Item], Result], items: Sequence[Item], jobs: int = 1) -> list[Result]:
    """Results of items, in their order.

    Parameters
    ----------
    work
        What is done to each; for more than one process it has to pickle.
    items
        As many results are given.
    jobs
        Processes; 1 does it in this one.

    Raises
    ------
    ProtokError
        If one fails: says how.
    """
    numbered = [*enumerate(items)]
    # Few enough that all processes end together, without a message for each.
    size = max(1, min(16, len(numbered) // (8 * jobs)))
    batches = (numbered[i : i + size] for i in range(0, len(numbered), size))
    results: dict[int, Result] = {}
    for (number, _), result in run(_each_of, (work,), batches, jobs=jobs):
        if isinstance(result, Lost):
            raise ProtokError(result.reason, result.remedy)
        results[number] = result
    return [results[number] for number, _ in numbered]


def _each_of(work: Callable[[Item], Result]) -> Callable[[Sequence[tuple[int, Item]]], list[Result]]:
    return lambda batch: [work(item) for _, item in batch]


def _pickled(factory: Callable, arguments: tuple) -> bytes:
    try:
        return pickle.dumps((factory, arguments))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ProtokError(
            f"cannot be sent to a worker process: {error}",
            "define its classes and functions at the top of a module, or use jobs=1",
        ) from error


def _attempt(work, batch: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Work in this process; when the function raises, item by item."""
    try:
        results = work(batch)
    except Exception as error:
        if len(batch) == 1:
            yield batch[0], Lost(_message(error))
        else:
            for item in batch:
                yield from _attempt(work, [item])
    else:
        yield from zip(batch, results, strict=True)


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _Worker:
    """One process and the batch it is at."""

    def __init__(self, payload: bytes, timeout: float | None):
        # A forked copy of a process that has used torch's threads can hang: spawn.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.of_program = b"__main__" in payload
        with _uninterrupted(), contextlib.nullcontext() if self.of_program else _without_program():
            self.process.start()
        theirs.close()
        # Not with the process: `start` waits until it has read all, for ever if it has died.
        with contextlib.suppress(OSError):  # receive() finds out that it has died, and says so
            self.pipe.send_bytes(payload)
        self.ready = False
        self.batch: Sequence[Any] = ()
        self.timeout, self.since = timeout, 0.0

    def patience(self) -> float | None:
        """Seconds that the worker has left for its batch; None without a limit."""
        if self.timeout is None or not self.ready:
            return None
        return max(0.0, self.since + self.timeout - time.monotonic())

    def give(self, batch: Sequence[Any]) -> None:
        """Send a batch, at once or as soon as the process is ready for it."""
        self.batch = batch
        self.since = time.monotonic()
        if self.ready:
            with contextlib.suppress(OSError):  # receive() finds out that it has died, and says so
                self.pipe.send(batch)

    def receive(self) -> tuple[str, Any]:
        """Return what the process says: ready, done, raised; or died, which it cannot say."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            kind, content = "died", ""
        if kind == "died":
            return kind, self._obituary()
        if kind == "unready":
            raise ProtokError(
                f"a worker process could not start: {content}", OWN_PROGRAM if self.of_program else ""
            )
        if kind == "ready":
            self.ready = True
            self.give(self.batch)
        return kind, content

    def _obituary(self) -> str:
        self.process.join()
        code = self.process.exitcode
        assert code is not None, "a process that was joined has ended"
        if not self.ready:
            raise ProtokError(
                f"a worker process ended before it began (exit code {code})",
                OWN_PROGRAM if self.of_program else "see what it printed, or use jobs=1",
            )
        if code == ENDED:
            code = -signal.SIGTERM
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        if code == -signal.SIGTERM:
            time.sleep(0.2)  # of a whole group: this process has got one too, and ends for it
        name = {each.value: each.name for each in signal.Signals}.get(-code, f"signal {-code}")
        hint = ", often for lack of memory" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(GRACE)
        self.process.kill()  # in code that hears nothing
        self.process.join()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that no signal leaves half begun, and none that Ctrl-C reaches.

    Either would print where it was.
    """
    late: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # which alone is interrupted
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, _: late.append(number))
    mask = None
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # its start would let Ctrl-C in again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)


@contextlib.contextmanager
def _without_program() -> Iterator[None]:
    """Start processes that do not run the program's own file, to have what it defines, as theirs.

    They have no use for it unless they are sent something that is defined there. A file that calls this
    without `if __name__ == "__main__":` would run on and on in them, and the standard input is no file.
    """
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _end_with_parent() -> None:
    """Wait for the end of the parent, however it comes, and end this process without a word."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _serve(pipe) -> None:
    """Work for the parent until it closes the pipe, or says by SIGTERM that it is to end."""
    code = 0
    try:
        _work(pipe)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    # Now all that was open is closed; a tidy end of the interpreter would stumble over a late SIGTERM.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _work(pipe) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the whole process group; the parent answers it for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has ended
        try:
            factory, arguments = pipe.recv()
            work = factory(*arguments)
        except Exception as error:
            pipe.send(("unready", _message(error)))
            return
        if "torch" in sys.modules:  # the program's own module may have imported it before
            sys.modules["torch"].set_num_threads(1)
        pipe.send(("ready", None))
        while True:
            batch = pipe.recv()
            try:
                answer = "done", work(batch)
            except Exception as error:
                answer = "raised", _message(error)
            pipe.send(answer)
