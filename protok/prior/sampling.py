"""New codes from a prior, one after the other, with the keys and values of the earlier kept."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from protok.common.grouping import alike
from protok.errors import ProtokError
from protok.prior.model import Prior, transformers
from protok.tokens.layouts import EOS, PAD


@dataclass(frozen=True)
class Request:
    """What one sample shall be.

    Attributes
    ----------
    condition
        A class, a length or a sequence of letters, as the prior's layout says; None for none.
    length
        At which a chain ends; None leaves it to the model.
    """

    condition: str | int | None = None
    length: int | None = None


def requests(prior: Prior, n: int, wanted: Sequence[str | int] = (), seed: int = 0) -> list:
    """Requests for n samples.

    Parameters
    ----------
    prior
        Its layout says what can be asked for.
    n
        How many.
    wanted
        Classes, lengths (of chains, also where they are no condition) or sequences, which are
        asked for in turn. Without them: all classes in turn, lengths like those of the training
        chains, no sequence.
    seed
        Of the drawn lengths.
    """
    layout = prior.layout
    kind = layout.condition
    chosen: list[str | int] = list(wanted)
    if not chosen and kind == "class":
        chosen = list(layout.labels)
    if not chosen and kind == "length":
        drawn = np.random.default_rng((seed, 1)).integers(len(layout.lengths), size=n)
        chosen = [layout.lengths[i] for i in drawn]
    if not chosen:
        return [Request()] * n
    if kind == "none" and layout.grid:
        raise ProtokError("this prior takes no condition", "leave the class away")
    asked = []
    for value in islice(cycle(chosen), n):
        if kind == "class":
            asked.append(Request(value))
        elif kind == "sequence" and isinstance(value, str):
            asked.append(Request(value, len(value)))
        else:
            asked.append(Request(value if kind == "length" else None, int(value)))
    return asked


@torch.no_grad()
def sample(
    prior: Prior,
    wanted: Iterable[Request],
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    guidance: float = 0.0,
    batch: int = 16,
) -> list[np.ndarray]:
    """Draw codes, one record for each request.

    Sample i follows from the seed and i, whatever is drawn beside it, up to rounding.

    Parameters
    ----------
    prior
        In eval mode.
    wanted
        See `Request` and `requests`.
    temperature
        Divides the logits; 0 takes the likeliest code.
    top_p
        Draw from the likeliest codes that together have this probability.
    guidance
        w of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): logits are
        (1 + w) times those with the condition minus w times those without; 0 is none.
    batch
        Samples that are drawn together.

    Returns
    -------
    list of (h, w, levels) or (n,) int32
        Of chains the ids of the layout's vocabulary without the special ones; see `Layout.tokens`.

    Raises
    ------
    ProtokError
        If a request is none that the prior has learned, or a setting is out of range.
    """
    wanted = list(wanted)
    if not (temperature >= 0 and 0 < top_p <= 1 and guidance >= 0):
        raise ProtokError(
            f"temperature {temperature}, top-p {top_p}, guidance {guidance}",
            "give a temperature and a guidance of 0 or more, and a top-p of 0 to 1",
        )
    longest = prior.layout.longest
    for request in wanted:
        if request.length is not None and not 1 <= request.length <= longest:
            raise ProtokError(f"a length of {request.length} was not learned", f"give 1 to {longest}")
    prefixes = [prior.layout.prefix(request.condition) for request in wanted]
    records: list[np.ndarray] = [np.zeros(0, np.int32)] * len(wanted)
    for part in alike((len(ids) for ids, _ in prefixes), batch):
        streams = [_Stream(prior, [prefixes[i] for i in part])]
        if guidance:
            streams.append(_Stream(prior, [prior.layout.prefix(None)] * len(part)))
        drawn = _draw(prior, part, wanted, streams, seed, temperature, top_p, guidance)
        for i, ids in zip(part, drawn, strict=True):
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


def _draw(
    prior: Prior,
    part: Sequence[int],
    wanted: Sequence[Request],
    streams: Sequence[_Stream],
    seed: int,
    temperature: float,
    top_p: float,
    guidance: float,
) -> list[list[int]]:
    layout = prior.layout
    most = layout.most
    begun = [layout.progress(wanted[i].length) for i in part]
    # One more than there are codes: the end of a chain is drawn too.
    chance = np.stack([np.random.default_rng((seed, i)).random(most + 1) for i in part])
    records: list[list[int]] = [[] for _ in part]
    going = np.ones(len(part), bool)
    for step in range(most):
        logits = streams[0].logits
        if guidance:
            logits = (1 + guidance) * logits - guidance * streams[1].logits
        may = torch.from_numpy(np.stack([record.allowed() for record in begun]))
        logits = logits.masked_fill(~may, -torch.inf)
        ids = pick(logits, torch.from_numpy(chance[:, step]), temperature, top_p)
        going &= (ids != EOS).numpy()
        if not going.any():
            break
        for i in np.flatnonzero(going):
            records[i].append(int(ids[i]))
            begun[i].push(records[i][-1])
        if step + 1 < most:
            ids[torch.from_numpy(~going)] = PAD
            for stream in streams:
                stream.add(ids)
    return records


def pick(logits: Tensor, chance: Tensor, temperature: float, top_p: float) -> Tensor:
    """An id of each row of logits, by a number in 0..1 each: the inverse of the distribution.

    >>> pick(torch.tensor([[0.0, 0.0, -9.0]]), torch.tensor([0.7]), 1.0, 0.4)
    tensor([0])
    """
    if temperature == 0:
        return logits.argmax(-1)
    p = torch.softmax(logits.double() / temperature, dim=-1)
    p, ids = p.sort(dim=-1, descending=True, stable=True)
    before = p.cumsum(-1) - p
    # The first id that reaches top_p belongs to them.
    p = p * (before < top_p)
    edges = p.cumsum(-1)
    at = torch.searchsorted(edges, (chance.double() * edges[:, -1])[:, None], right=True)
    at = at.clamp(max=p.shape[-1] - 1)
    # Rounding must not lead to an id of no probability.
    at = torch.minimum(at, (p > 0).sum(-1, keepdim=True) - 1)
    return ids.gather(-1, at)[:, 0]
