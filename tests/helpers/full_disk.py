"""A disk that is full: no file may grow beyond a size, as if there were no room for more."""

import contextlib

import pytest


@contextlib.contextmanager
def full_disk(size: int = 4):
    """Let writing more than so many bytes to any file fail in this process and those that it starts.

    Four are what `tempfile` writes to find a folder, which dill (where `datasets` is installed) has it do
    as torch is imported.
    """
    resource = pytest.importorskip("resource", reason="limits of sizes are of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
