"""Files that are whole at any moment, JSON, tables of errors: what every writer shares.

What is written appears whole or not at all, whatever ends the process. Only what grows line by
line (the journal of a batch job, ``metrics.csv``, the error table of a running job) is appended to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from protok.errors import ProtokError

#: Ends the names of what is not finished.
DRAFT = ".part"
#: Errors of a disk, quota or limit that is full: the next file will not fare better.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic(path: str | Path, mode: str = "w", *, newline: str | None = None) -> Iterator[IO[Any]]:
    """Open a file for writing that appears, or replaces the one before, when the block ends.

    Text is UTF-8. After an error the file that was there before stays. What is no plain file,
    such as ``/dev/stdout`` or a pipe, is written to as it is.

    Parameters
    ----------
    path
        In a folder that exists.
    mode
        ``w`` or ``wb``.
    newline
        As for `open`: empty for the writers of the module `csv`.

    Examples
    --------
    >>> with atomic("scores.tsv") as handle:
    ...     _ = handle.write("1aki\\t0.97\\n")
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": newline}
    with atomic_path(path) as draft, open(draft, mode, **text) as handle:
        yield handle


@contextlib.contextmanager
def atomic_path(path: str | Path, drafts: str | Path | None = None) -> Iterator[Path]:
    """As `atomic`, for programs that open the file themselves: yields the path to write to.

    Parameters
    ----------
    drafts
        Where the unfinished file lies, if not beside `path`: a folder of the same file system
        that no other process works in, where what a kill left is written over.
    """
    path = Path(path)
    # A device or a pipe is no place for another file beside it.
    if path.absolute().is_relative_to("/dev") or (path.exists() and not path.is_file()):
        yield path
        return
    # Through a link: the file behind it is replaced, not the link.
    path = Path(os.path.realpath(path))
    draft = _draft(path, drafts)
    try:
        with _named(path, draft):
            yield draft
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path, drafts: str | Path | None = None) -> Iterator[Path]:
    """As `atomic_path`, for a folder with all that is in it; one that is there is replaced."""
    path = Path(os.path.realpath(path))
    draft = _draft(path, drafts)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        with _named(path, draft):
            yield draft
            # No system replaces a folder that is not empty at one stroke.
            if path.exists():
                shutil.rmtree(path)
            os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def add_lines(path: str | Path, lines: str, *, sync: bool = False) -> None:
    """Add lines to a file, all of them; after an error none, so that no line follows half a one.

    Parameters
    ----------
    path
        A file, made if it is not there.
    lines
        Written as UTF-8.
    sync
        Return when they are on disk.
    """
    good = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        with _named(path), open(path, "ab") as handle:
            handle.write(_bytes(lines))
            if sync:
                handle.flush()
                os.fsync(handle.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, good)
        raise


def check_output(path: str | Path, *, folder: bool = False) -> Path:
    """The path, if a file, or a folder, can be written there: what is to be known before the work.

    Raises
    ------
    ProtokError
        If a folder is there instead of a file or the reverse, or nobody may write there.
    """
    path = Path(path)
    if os.path.isdir(path) and not folder:
        raise ProtokError("is a folder", "name a file", file=path)
    if os.path.exists(path) and not os.path.isdir(path) and (folder or not os.path.isfile(path)):
        if folder:
            raise ProtokError("is no folder", "name one, or a new one", file=path)
        return path  # a device or a pipe
    real = Path(os.path.realpath(path))  # of a link, such as /dev/stdout, the file is replaced
    places = [real, *real.parents] if folder else real.parents
    place = next(place for place in places if os.path.exists(place))
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
        cause = "may not be written to" if os.path.isdir(place) else "is no folder"
        raise ProtokError(f"cannot be written, as {place} {cause}", "write elsewhere", file=path)
    return path


def disk_is_full(error: BaseException) -> bool:
    """Whether an error is of a disk, a quota or a limit of sizes that is reached."""
    return isinstance(error, OSError) and error.errno in FULL


@contextlib.contextmanager
def _named(path: str | Path, draft: Path | None = None) -> Iterator[None]:
    """Let errors of writing name the file that was asked for; the system names a draft, or none."""
    try:
        yield
    except Exception as error:
        # Of what writes zip files, closing fails after the write that failed, and hides it.
        cause: BaseException | None = error
        while cause is not None and not disk_is_full(cause):
            cause = cause.__context__
        failed = cause or error
        if isinstance(failed, OSError):
            within = draft is not None and str(failed.filename or "").startswith(str(draft))
            if within or (failed.filename is None and disk_is_full(failed)):
                failed.filename = os.fspath(path)
        if failed is error:
            raise
        raise failed from None


def _draft(path: Path, drafts: str | Path | None) -> Path:
    if drafts is not None:
        return Path(drafts, f"{path.name}{DRAFT}")
    # Of this thread, as several may write one file; cut so that it is a name at all (255 bytes).
    return path.with_name(f"{path.name[:60]}.{threading.get_native_id()}{DRAFT}")


def finite(value: Any) -> Any:
    """The same value with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as JSON; what is not finite is null, as JSON has no NaN."""
    with atomic(path) as handle:
        handle.write(json.dumps(finite(value), indent=1, allow_nan=False) + "\n")


def write_errors(rows: Sequence[tuple[str, str, str]], path: Path, append: bool = False) -> None:
    """Write the error table, or add to it; where nothing failed there is none, nor one of an earlier job."""
    if not rows:
        if not append and path.is_file():
            path.unlink()
        return None
    header = () if append and path.exists() else (("file", "chain", "reason"),)
    lines = "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in (*header, *rows))
    if append:
        return add_lines(path, lines)
    with atomic(path, "wb") as handle:
        handle.write(_bytes(lines))


def _bytes(lines: str) -> bytes:
    return lines.encode("utf-8", "backslashreplace")  # names of files may hold bytes that are no UTF-8


@contextlib.contextmanager
def lock(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Parameters
    ----------
    path
        A file, made if it is not there.
    wait
        Until another process has let go of it.

    Raises
    ------
    BlockingIOError
        If another process holds it, and `wait` is False.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        _hold(handle, wait)
        yield
    finally:
        os.close(handle)


def _hold(handle: int, wait: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        return fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    import msvcrt

    while True:
        try:
            # Of one byte; it tries for ten seconds where it may wait.
            return msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if not wait:
                raise BlockingIOError(*error.args) from error
