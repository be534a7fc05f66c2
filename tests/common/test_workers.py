"""Processes that work for another one."""

import atexit
import multiprocessing
from pathlib import Path

from protok.common.workers import _serve


def doubling(path):
    atexit.register(Path(path).touch)  # what only a tidy end of the interpreter does
    return lambda batch: [2 * item for item in batch]


def test_a_worker_leaves_when_its_pipe_is_closed_without_a_tidy_end(tmp_path):
    context, path = multiprocessing.get_context("spawn"), tmp_path / "tidy"
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    pipe.send((doubling, (path,)))
    assert pipe.recv() == ("ready", None)
    pipe.send([1, 2])
    assert pipe.recv() == ("done", [2, 4])
    pipe.close()
    process.join(60)
    assert process.exitcode == 0 and not path.exists()
