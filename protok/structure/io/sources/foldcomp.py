"""Foldcomp data (Kim et al. 2023): databases of it, and its unpacking in a process of its own.

The library ends the whole process on data that it does not expect, so that it runs in a
helper process, which serves one request after the other and is replaced when it dies.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from protok.common.extras import Extra, MissingExtra
from protok.errors import CorruptFile

#: Seconds that the helper may take for one structure; it needs milliseconds.
PATIENCE = 60.0
#: Seconds of the processor after which the system ends the helper, and bytes beyond a multiple of the
#: data: damaged, they have the library fill the machine, even when nobody waits for the answer any more.
SECONDS, MEMORY, RATIO = 10, 1 << 27, 100
_LENGTH = struct.Struct("<bQ")
_OK, _REFUSED, _MISSING = range(3)


def entries(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the entries of a database, in the order of its file.

    Raises
    ------
    CorruptFile
        If the index is damaged. Without the ``.lookup`` file entries go by their numbers.
    """
    names = {}
    with (
        contextlib.suppress(FileNotFoundError),
        open(f"{path}.lookup", encoding="utf-8", errors="surrogateescape") as file,
    ):
        names = dict(line.rstrip("\n").split("\t")[:2] for line in file)
    try:
        with open(f"{path}.index", encoding="ascii") as file:
            rows = [line.split() for line in file]
        places = [(int(offset), int(size), key) for key, offset, size in rows]
        if any(offset < 0 or size < 0 for offset, size, _ in places):
            raise ValueError("a number below 0")
    except (OSError, ValueError) as error:
        raise CorruptFile(f"a Foldcomp database with a damaged index ({error})", "fetch it again") from error
    for offset, size, key in sorted(places):
        yield names.get(key, key), offset, size


def unpack(data: bytes) -> bytes:
    """Unpack one structure to the text of a PDB file.

    Raises
    ------
    MissingExtra
        If the library is not installed.
    CorruptFile
        If the data is damaged.
    """
    global _helper
    if _helper is None or _helper.owner != os.getpid() or _helper.process.poll() is not None:
        _helper = _Helper()
    status, content = _helper.ask(data)
    if status == _MISSING:
        raise MissingExtra(*json.loads(content))
    if status == _REFUSED:
        raise CorruptFile(f"damaged Foldcomp data ({content.decode()})", "fetch it again")
    return content


class _Helper:
    """The process, and the pipes to it."""

    def __init__(self):
        self.owner = os.getpid()
        script = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as f; f.serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is its parent's affair
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        self.requests, self.answers = self.process.stdin, self.process.stdout
        atexit.register(self.stop)

    def ask(self, data: bytes) -> tuple[int, bytes]:
        try:
            self.requests.write(_LENGTH.pack(0, len(data)) + data)
            self.requests.flush()
            status, size = _LENGTH.unpack(self._receive(_LENGTH.size))
            return status, self._receive(size)
        except BaseException as error:  # on Ctrl-C too: the answer would be taken for the next one's
            self.process.kill()
            code = self.process.wait()
            if not isinstance(error, OSError | EOFError):
                raise
            end = "it took too long" if isinstance(error, TimeoutError) else f"exit code {code}"
            return _REFUSED, f"the library broke down on it: {end}".encode()

    def _receive(self, size: int) -> bytes:
        pieces, handle = [], self.answers.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            while size:
                if not selector.select(PATIENCE):
                    raise TimeoutError
                piece = os.read(handle, min(size, 2**20))
                if not piece:
                    raise EOFError
                pieces.append(piece)
                size -= len(piece)
        return b"".join(pieces)

    def stop(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
            self.requests.close()
            self.answers.close()


_helper: _Helper | None = None


def _numbered(text: str) -> str:
    """Number the last oxygen like its residue; the library numbers it as if the chain began at 1."""
    lines = text.splitlines(keepends=True)
    for i in range(1, len(lines)):
        if lines[i][:4] == "ATOM" and lines[i][12:16] == " OXT" and lines[i - 1][:4] == "ATOM":
            lines[i] = lines[i][:22] + lines[i - 1][22:27] + lines[i][27:]
    return "".join(lines)


def _bound(size: int) -> None:
    """Bound what the next structure may take of the machine, where the system can."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + SECONDS
        for which, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, MEMORY + RATIO * size)):
            resource.setrlimit(which, (most, resource.getrlimit(which)[1]))


def serve() -> None:
    """Unpack what comes on the standard input until it ends; what a helper process runs."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the library prints
    while head := sys.stdin.buffer.read(_LENGTH.size):
        size = _LENGTH.unpack(head)[1]
        _bound(size)
        data = sys.stdin.buffer.read(size)
        try:
            with Extra("interop", "reading Foldcomp data"):
                from foldcomp import decompress  # pyright: ignore[reportAttributeAccessIssue]: compiled, without a stub

            status, content = _OK, _numbered(decompress(data)[1]).encode()
        except MissingExtra as error:
            status, content = _MISSING, json.dumps([error.cause, error.remedy]).encode()
        except Exception as error:
            status, content = _REFUSED, str(error).encode()
        answer.write(_LENGTH.pack(status, len(content)) + content)
        answer.flush()
