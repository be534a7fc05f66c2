"""Processes that work for another one."""

import atexit
import multiprocessing
from functools import partial
from pathlib import Path

import pytest

from protok.common.workers import _serve, each
from protok.errors import ProtokError


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


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_stand_in_the_order_of_their_items(jobs):
    assert each(partial(pow, 2), range(40), jobs) == [2**i for i in range(40)]
    assert each(partial(pow, 2), [], jobs) == []
    with pytest.raises(ProtokError, match="ZeroDivisionError"):
        each(partial(divmod, 1), [1, 0], jobs)
