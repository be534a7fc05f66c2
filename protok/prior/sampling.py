"""New codes from a prior, one after the other, with the keys and values of the earlier kept."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from protok.common.grouping import alike
from protok.errors import ProtokError
from protok.prior.layout import Condition, Layout, Progress
from protok.prior.model import Prior, transformers
from protok.tokens.layouts import EOS, PAD


@dataclass(frozen=True)
class Request:
    """What one sample shall be.

    Attributes
    ----------
    condition
        As the prior's layout says; see `protok.prior.layout.Condition`.
    length
        At which a chain ends; None leaves it to the model.
    fixed
        Codes that are told, by their place in the record; of chains see `protok.prior.proteins.fixed`.
    """

    condition: Condition = None
    length: int | None = None
    fixed: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """How codes are drawn.

    Attributes
    ----------
    temperature
        Divides the logits; 0 takes the likeliest code.
    top_p
        Draw from the likeliest codes that together have this probability.
    guidance
        w of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): logits are
        (1 + w) times those with the condition minus w times those without; 0 is none.

    Raises
    ------
    ProtokError
        If one is out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.guidance >= 0):
            raise ProtokError(
                f"temperature {self.temperature}, top-p {self.top_p}, guidance {self.guidance}",
                "give a temperature and a guidance of 0 or more, and a top-p of 0 to 1",
            )


class Steering(Protocol):
    """What samples shall be like that the prior cannot see: `protok.prior.steering` looks at geometry.

    Each sample is drawn as several particles (sequential Monte Carlo; Doucet and Johansen 2009). When a
    record is due all its particles are weighted by how much better they have become, and the worse give way
    to copies of the better. So samples follow the prior's distribution times the weight of whole records, the
    closer the more particles there are.
    """

    @property
    def particles(self) -> int:
        """Of each sample."""
        ...

    def due(self, progress: Progress) -> bool:
        """Whether to look at a record that goes on."""
        ...

    def aims(self, records: Sequence[np.ndarray]) -> np.ndarray:
        """What plain draws of the samples are like, (samples, k): what steering is to leave as it is."""
        ...

    def log_weights(
        self, records: Sequence[np.ndarray], lengths: Sequence[int | None], aims: np.ndarray
    ) -> np.ndarray:
        """Of records of codes, (n,), that are to have these lengths, each with the aim of its sample."""
        ...


def requests(
    prior: Prior,
    n: int,
    *,
    classes: Sequence[str] = (),
    lengths: Sequence[int] = (),
    sequences: Sequence[str] = (),
    seed: int = 0,
) -> list[Request]:
    """Requests for n samples.

    Parameters
    ----------
    prior
        Its layout says what can be asked for: its condition, and the length of any chain.
    n
        How many.
    classes, lengths, sequences
        Asked for in turn. Without them: all classes in turn where they are the condition alone, lengths
        like those of the training chains where they are one, classes like those of training chains of the
        same length where they are one beside it, no sequence.
    seed
        Of what is drawn.

    Raises
    ------
    ProtokError
        If the prior takes none of what is asked for.
    """
    layout = prior.layout
    kinds = layout.condition.split("+")
    fits = {*kinds, "none"} | (set() if layout.grid else {"length"})
    asked = {"class": classes, "length": lengths, "sequence": sequences}
    odd = [kind for kind, values in asked.items() if len(values) and kind not in fits]
    if odd or (len(sequences) and len(lengths)):
        raise ProtokError(
            f"--{odd[0] if odd else 'length and --sequence'} do not fit this prior, whose condition is "
            f"{layout.condition}",
            f"give one of {', '.join(f'--{kind}' for kind in sorted(fits - {'none'})) or 'none'}",
        )
    if kinds == ["class"] and not len(classes):
        classes = layout.classes
    if "length" in kinds and not len(lengths):
        drawn = np.random.default_rng((seed, 1)).integers(len(layout.lengths), size=n)
        lengths = [layout.lengths[i] for i in drawn]
    draws = np.random.default_rng((seed, 2))
    made, turns = [], (cycle(of or [None]) for of in (classes, lengths, sequences))
    for kind, length, sequence in islice(zip(*turns, strict=False), n):
        if "sequence" in kinds:
            made.append(Request(sequence, length if sequence is None else len(sequence)))
        elif layout.condition == "length+class":
            kind = kind or layout.class_at(length, draws.random())
            made.append(Request((length, kind), length))
        else:
            made.append(Request({"class": kind, "length": length}.get(layout.condition), length))
    return made


@torch.no_grad()
def sample(
    prior: Prior,
    wanted: Iterable[Request],
    how: Drawing | None = None,
    *,
    seed: int = 0,
    first: int = 0,
    steering: Steering | None = None,
    batch: int = 64,
) -> list[np.ndarray]:
    """Draw codes, one record for each request.

    Sample i follows from the seed and i, whatever is drawn beside it, up to rounding.

    Parameters
    ----------
    prior
        In eval mode.
    wanted
        See `Request` and `requests`.
    first
        Number of the first request, where others were drawn before.
    steering
        See `Steering`; without it codes are drawn plainly, one after the other.
    batch
        Records that are drawn together, those of all particles.

    Returns
    -------
    list of (h, w, levels) or (n,) int32
        Of chains the ids of the layout's vocabulary without the special ones; see `Layout.tokens`.

    Raises
    ------
    ProtokError
        If a request is none that the prior has learned, or tells a code that cannot stand there.
    """
    wanted, how = list(wanted), how or Drawing()
    longest = prior.layout.longest
    for request in wanted:
        if request.length is not None and not 1 <= request.length <= longest:
            raise ProtokError(f"a length of {request.length} was not learned", f"give 1 to {longest}")
    prefixes = [prior.layout.prefix(request.condition) for request in wanted]
    records: list[np.ndarray] = [np.zeros(0, np.int32)] * len(wanted)
    particles, aims = 1, np.zeros((len(wanted), 0))
    if steering is not None:
        particles = steering.particles
        aims = steering.aims(sample(prior, wanted, how, seed=seed, first=first, batch=batch))
    for part in alike((len(ids) for ids, _ in prefixes), max(1, batch // particles)):
        rows = np.repeat(part, particles).tolist()
        streams = [_Stream(prior, [prefixes[i] for i in rows])]
        if how.guidance:
            streams.append(_Stream(prior, [prior.layout.prefix(None)] * len(rows)))
        seeds = [(seed, first + i, *([k] if k else ())) for i in part for k in range(particles)]
        batch_of = _Batch(prior.layout, [wanted[i] for i in rows], streams, seeds, steering, aims[rows])
        for i, ids in zip(part, batch_of.draw(how), strict=True):
            records[i] = prior.layout.unflatten(ids)
    return records


class _Stream:
    """A batch on its way through the network."""

    def __init__(self, prior: Prior, prefixes: Sequence[tuple[np.ndarray, np.ndarray]]):
        self.prior = prior
        # transformers calls its argument `cache` from 5.24 on.
        known = inspect.signature(prior.network.forward).parameters
        name = "cache" if "cache" in known else "past_key_values"
        self.kept = {name: transformers().DynamicCache()}
        ids, positions = (np.stack([prefix[k] for prefix in prefixes]) for k in (0, 1))
        self.next = int(positions[0, -1]) + 1
        self.seen = 0
        self.logits = self._read(torch.from_numpy(ids), torch.from_numpy(positions))

    def _read(self, ids: Tensor, positions: Tensor) -> Tensor:
        self.seen += ids.shape[1]
        device = self.prior.device
        out = self.prior.network(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=torch.ones(len(ids), self.seen, dtype=torch.long, device=device),
            **self.kept,
            use_cache=True,
        )
        return out.logits[:, -1].float().cpu()

    def add(self, ids: Tensor) -> None:
        """Read one more id of each row."""
        positions = torch.full((len(ids), 1), self.next)
        self.next += 1
        self.logits = self._read(ids[:, None], positions)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, some of them several times."""
        for cache in self.kept.values():
            cache.reorder_cache(rows.to(self.prior.device))


class _Batch:
    """Records that are drawn side by side; the particles of a sample stand together."""

    def __init__(
        self,
        layout: Layout,
        wanted: Sequence[Request],
        streams: Sequence[_Stream],
        seeds: Sequence[tuple[int, ...]],
        steering: Steering | None,
        aims: np.ndarray,
    ):
        self.aims = aims
        self.wanted, self.streams, self.steering, self.most = wanted, streams, steering, layout.most
        self.begun = [layout.progress(request.length) for request in wanted]
        # One more than there are codes: the end of a chain is drawn too.
        self.chance = np.stack([np.random.default_rng(s).random(self.most + 1) for s in seeds])
        self.records: list[list[int]] = [[] for _ in wanted]
        self.going = np.ones(len(wanted), bool)
        self.layout, self.particles = layout, 1 if steering is None else steering.particles
        self.draws = [np.random.default_rng((*s, 1)) for s in seeds[:: self.particles]]
        #: Logarithms: weights since particles were last exchanged, and what the records weigh.
        self.weights, self.worth = np.zeros(len(wanted)), np.zeros(len(wanted))

    def draw(self, how: Drawing) -> list[list[int]]:
        """Ids of a record of each sample."""
        for step in range(self.most):
            logits = self.streams[0].logits
            if how.guidance:
                logits = (1 + how.guidance) * logits - how.guidance * self.streams[1].logits
            may = torch.from_numpy(np.stack([record.allowed() for record in self.begun]))
            logits = logits.masked_fill(~may, -torch.inf)
            # Of thousands of ids, most rows may have one of a few at most places.
            some = may.any(0).nonzero()[:, 0]
            chance = torch.from_numpy(self.chance[:, step])
            ids = some[pick(logits[:, some], chance, how.temperature, how.top_p)]
            self._fix(step, ids, logits)
            self.going &= (ids != EOS).numpy()
            if not self.going.any():
                break
            for i in np.flatnonzero(self.going).tolist():
                self.records[i].append(int(ids[i]))
                self.begun[i].push(self.records[i][-1])
            if self.steering is not None:
                due = [
                    going and self.steering.due(record)
                    for going, record in zip(self.going, self.begun, strict=True)
                ]
                ids = self._exchange(np.array(due), ids)
            if step + 1 < self.most:
                ids[torch.from_numpy(~self.going)] = PAD
                for stream in self.streams:
                    stream.add(ids)
        if self.steering is None:
            return self.records
        self._weigh(np.ones(len(self.records), bool))
        return [
            self.records[int(rows[_drawn(self.weights[rows], 1, draws)[0]])]
            for rows, draws in self._samples()
        ]

    def _samples(self) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
        rows = np.arange(len(self.records)).reshape(-1, self.particles)
        return zip(rows, self.draws, strict=True)

    def _fix(self, step: int, ids: Tensor, logits: Tensor) -> None:
        """Put told codes in place of drawn ones; a particle weighs as much as it expects them."""
        for i in np.flatnonzero(self.going).tolist():
            told = self.wanted[i].fixed.get(step)
            if told is None:
                continue
            if logits[i, told] == -torch.inf:
                name = self.layout.vocabulary.names[told]
                raise ProtokError(
                    f"{name} cannot stand at position {step} of a row", "tell codes of whole blocks"
                )
            ids[i] = told
            self.weights[i] += float(logits[i].log_softmax(-1)[told])

    def _weigh(self, rows: np.ndarray) -> None:
        """Add to the weights what records have become worth."""
        if self.steering is None or not rows.any():
            return
        some = np.flatnonzero(rows).tolist()
        codes = [self.layout.unflatten(self.records[i]) for i in some]
        worth = self.steering.log_weights(codes, [self.wanted[i].length for i in some], self.aims[some])
        self.weights[some] += worth - self.worth[some]
        self.worth[some] = worth

    def _exchange(self, due: np.ndarray, ids: Tensor) -> Tensor:
        """Weigh records that are due, and let the worse particles of a sample give way to the better."""
        self._weigh(due)
        kept = np.arange(len(self.records))
        for rows, draws in self._samples():
            p = np.exp(self.weights[rows] - self.weights[rows].max())
            # Half as many as there are, by their effective number.
            if due[rows].all() and p.sum() ** 2 < len(rows) / 2 * (p**2).sum():
                kept[rows] = rows[_drawn(self.weights[rows], len(rows), draws)]
                self.weights[rows] = 0.0
        if (kept != np.arange(len(kept))).any():
            self.records = [[*self.records[i]] for i in kept]
            self.begun = [self.begun[i].copied() for i in kept]
            self.worth, self.going = self.worth[kept], self.going[kept]
            rows = torch.from_numpy(kept)
            for stream in self.streams:
                stream.keep(rows)
            return ids[rows]
        return ids


def _drawn(weights: np.ndarray, n: int, draws: np.random.Generator) -> np.ndarray:
    """Numbers drawn by the exponentials of weights, evenly spaced (systematic resampling)."""
    edges = np.exp(weights - weights.max()).cumsum()
    at = (draws.random() + np.arange(n)) / n * edges[-1]
    return np.searchsorted(edges, at, side="right").clip(max=len(weights) - 1)


def pick(logits: Tensor, chance: Tensor, temperature: float, top_p: float) -> Tensor:
    """An id of each row of logits, by a number in 0..1 each: the inverse of the distribution.

    >>> pick(torch.tensor([[0.0, 0.0, -9.0]]), torch.tensor([0.7]), 1.0, 0.4)
    tensor([0])
    """
    if temperature == 0:
        return logits.argmax(-1)
    p = torch.softmax(logits.double() / temperature, dim=-1)
    ids = torch.arange(p.shape[-1]).expand_as(p)
    if top_p < 1:
        p, ids = p.sort(dim=-1, descending=True, stable=True)
        # The first id that reaches top_p belongs to them.
        p = p * (p.cumsum(-1) - p < top_p)
    edges = p.cumsum(-1)
    at = torch.searchsorted(edges, (chance.double() * edges[:, -1])[:, None], right=True)
    # Rounding must not lead to an id of no probability.
    last = p.shape[-1] - 1 - (p > 0).flip(-1).int().argmax(-1, keepdim=True)
    at = torch.minimum(at, last)
    return ids.gather(-1, at)[:, 0]
