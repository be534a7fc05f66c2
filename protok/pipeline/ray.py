"""Batch jobs on a Ray cluster: readers and encoders as separate stages.

Readers are Ray tasks, encoders are actors that hold the model, on a GPU each if asked to. What
is read goes from one to the other through Ray's object store; no more is read ahead than
the encoders will soon take. A worker that dies costs what it was at one more try, input by input.
"""

from __future__ import annotations

import pickle
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from protok.common.extras import Extra
from protok.errors import ProtokError, Unsupported
from protok.pipeline.batches import (
    Encoded,
    EncodeOptions,
    Input,
    Make,
    R,
    Structures,
    batches,
    read_structures,
    residues_of,
)
from protok.pipeline.inputs import Source
from protok.tokenizers.protocol import Movable, Tokenizer

#: Batches that wait for each encoder: enough to keep it busy, few enough to bound the memory.
AHEAD = 2
#: Seconds to wait for an answer from the address of a cluster.
PATIENCE = 5.0


@dataclass(frozen=True)
class Cluster:
    """Where a job runs, and on how much of it.

    Attributes
    ----------
    address : str, optional
        Of the cluster, as for `ray.init`; a local one is started if None, and ended after.
    readers, encoders : int
        Processes of each kind.
    gpus : float
        GPUs an encoder takes; with more than 0 the model runs on CUDA.
    """

    address: str | None = None
    readers: int = 1
    encoders: int = 1
    gpus: float = 0.0


@dataclass
class _Work:
    """A batch at one of the stages."""

    batch: Sequence[Input]
    since: float
    structures: Any = None
    encoder: Any = None


def encode_sources(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    options: EncodeOptions,
    cluster: Cluster,
    *,
    make: Make[R],
    timeout: float | None = None,
) -> Generator[tuple[Source, Encoded[R]]]:
    """Yield the result of each source as it comes.

    Parameters
    ----------
    sources, tokenizer, options, make
        As for `protok.pipeline.batches.encode_sources`.
    cluster
        Where.
    timeout
        Seconds that a stage may take for one input, the start of a reader included.

    Raises
    ------
    ProtokError
        If Ray is not installed, or there is no cluster at the address.
    Unsupported
        If encoders are to take GPUs and the tokenizer has no network.
    """
    if cluster.gpus and not isinstance(tokenizer, Movable):
        raise Unsupported(f"{tokenizer.codebook} has no network for a GPU", "leave the GPUs out")
    with Extra("ray", "the engine ray"):
        # By name: type checkers take `import ray` for this module itself.
        ray = import_module("ray")
    own = not ray.is_initialized()
    if own:
        _connect(ray, cluster)
    try:
        queue = batches(sources, options, cluster.readers + cluster.encoders, residues_of(tokenizer))
        yield from _Stages(ray, (tokenizer, options, make), cluster, timeout).run(queue)
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    ours = signal.getsignal(signal.SIGTERM)
    try:
        if cluster.address is None:
            ray.init(num_cpus=cluster.readers + cluster.encoders, include_dashboard=False, **quiet)
        else:
            # Find out in seconds whether anything listens there: Ray itself tries for minutes.
            host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
            if host and port.isdigit():  # else a name that Ray knows, like auto
                socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
            ray.init(address=cluster.address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ProtokError(
            f"no Ray cluster at {cluster.address or 'this machine'} ({error})",
            "check the address, or leave it out for a local one",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray's ends the process without a word


def _read(batch: Sequence[Input], options: EncodeOptions) -> tuple[int, list[Structures]]:
    """The first stage: a small answer to wait for, and what was read."""
    return len(batch), read_structures(batch, options)


class _Encoder:
    """The second stage."""

    def __init__(self, payload: bytes, cuda: bool):
        self.tokenizer, self.options, self.make = pickle.loads(payload)
        if cuda:
            self.tokenizer.to("cuda")

    def ready(self) -> None:
        """Answers once the model is there."""

    def encode(self, structures: Sequence[Structures]) -> list[Encoded]:
        return self.make(structures, self.tokenizer, self.options)


class _Stages:
    """What is being read, has been read, and is being encoded."""

    def __init__(
        self, ray: Any, work: tuple[Tokenizer, EncodeOptions, Make], cluster: Cluster, timeout: float | None
    ):
        self.ray, self.options, self.cluster, self.timeout = ray, work[1], cluster, timeout
        self.read = ray.remote(_read).options(num_cpus=1, num_returns=2, max_retries=0)
        self.actor = ray.remote(_Encoder).options(num_cpus=1, num_gpus=cluster.gpus)
        self.arguments = ray.put(pickle.dumps(work)), cluster.gpus > 0
        self.starting: dict[Any, Any] = {}
        self.idle: deque[Any] = deque()
        for _ in range(cluster.encoders):
            self._start()
        self.again: deque[list[Input]] = deque()
        self.ready: deque[_Work] = deque()
        self.reading: dict[Any, _Work] = {}
        self.encoding: dict[Any, _Work] = {}

    def run(self, queue: Iterator[list[Input]]) -> Iterator[tuple[Source, Encoded]]:
        """Work until the queue is empty."""
        while True:
            while self._has_room() and (batch := self.again.popleft() if self.again else next(queue, None)):
                answer, structures = self.read.remote(batch, self.options)
                self.reading[answer] = _Work(batch, time.monotonic(), structures)
            while self.ready and self.idle:
                work, encoder = self.ready.popleft(), self.idle.popleft()
                work.since, work.encoder = time.monotonic(), encoder
                self.encoding[encoder.encode.remote(work.structures)] = work
            if not (self.reading or self.encoding or self.ready):
                return
            yield from self._collect()

    def _start(self) -> None:
        """Start an encoder; it gets work once it has loaded its model, which takes a while."""
        encoder = self.actor.remote(*self.arguments)
        self.starting[encoder.ready.remote()] = encoder

    def _has_room(self) -> bool:
        waiting = len(self.reading) + len(self.ready)
        ahead = self.cluster.readers + AHEAD * self.cluster.encoders
        return len(self.reading) < self.cluster.readers and waiting < ahead

    def _collect(self) -> Iterator[tuple[Source, Encoded]]:
        """Take what is done, and end what takes too long."""
        flying = {**self.reading, **self.encoding}
        patience = None
        if self.timeout is not None and flying:
            first = min(work.since for work in flying.values())
            patience = max(0.0, first + self.timeout - time.monotonic())
        refs = [*flying, *self.starting]
        done, late = self.ray.wait(refs, num_returns=1, timeout=patience)
        for ref in done:
            encoder = self.starting.pop(ref, None)
            work = self.reading.pop(ref, None) or self.encoding.pop(ref, None)
            try:
                results = self.ray.get(ref)
            except self.ray.exceptions.RayError as error:
                if work is None:
                    raise ProtokError(
                        f"an encoder of the cluster could not start ({_brief(error)})",
                        "install the same protok on all machines of the cluster",
                    ) from error
                yield from self._lost(work, f"a worker of the cluster failed ({_brief(error)})")
                continue
            if work is None:
                self.idle.append(encoder)
            elif work.encoder is None:
                self.ready.append(work)
            else:
                self.idle.append(work.encoder)
                for entry, result in zip(work.batch, results, strict=True):
                    yield entry.source, result
        if self.timeout is None:
            return
        for ref in late:
            if ref in flying and time.monotonic() - flying[ref].since >= self.timeout:
                work = self.reading.pop(ref, None) or self.encoding.pop(ref)
                if work.encoder is None:
                    self.ray.cancel(ref, force=True)
                yield from self._lost(work, f"it took longer than {self.timeout:g} s")

    def _lost(self, work: _Work, reason: str) -> Iterator[tuple[Source, Encoded]]:
        if work.encoder is not None:  # whatever has become of it, a new one takes its place
            self.ray.kill(work.encoder)
            self._start()
        if len(work.batch) > 1:
            self.again.extend([entry] for entry in work.batch)
            return
        source = work.batch[0].source
        error = ProtokError(reason, "leave it out, or try it alone", file=source.path)
        yield source, Encoded(source.path, errors=(error,))


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
