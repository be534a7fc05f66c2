"""Progress of what takes long, on the standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Whether this program shows progress; None where the standard error is a terminal.
wanted: bool | None = None
#: Lines of progress where it is none.
LINES = 10


@contextmanager
def show_progress(what: str, total: int, show: bool | None = None) -> Iterator[Callable[..., None]]:
    """Show the progress of `total` pieces, if `show` or else `wanted` says so: a bar, or lines for a log.

    Yields `advance(pieces, failed)`, to be called as they get done.
    """
    show = wanted if show is None else show
    if show or (show is None and sys.stderr.isatty()):
        with _bar(what, total) if sys.stderr.isatty() else _lines(what, total) as advance:
            yield advance
    else:
        yield lambda pieces, failed=0: None


@contextmanager
def _lines(what: str, total: int) -> Iterator[Callable[..., None]]:
    done = failures = shown = 0

    def advance(pieces: int, failed: int = 0) -> None:
        nonlocal done, failures, shown
        done, failures = done + pieces, failures + failed
        if (part := LINES * done // max(total, 1)) > shown:
            shown = part
            more = f", {failures} failed" if failures else ""
            print(f"{what}: {done} of {total}{more}", file=sys.stderr, flush=True)

    yield advance


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    from rich import progress as bars
    from rich.console import Console

    failures = 0
    with bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("[red]{task.fields[failed]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=total, failed="")

        def advance(pieces: int, failed: int = 0) -> None:
            nonlocal failures
            failures += failed
            bar.update(task, advance=pieces, failed=f"{failures} failed" if failures else "")

        yield advance
