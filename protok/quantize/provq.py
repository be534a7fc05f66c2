"""Continuous first, discrete last: `ProVQ`."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protok.quantize.base import Quantized, Quantizer
from protok.quantize.curriculum import ESTIMATORS, LOSS_WEIGHTS, Schedule
from protok.quantize.diagnostics import spread
from protok.quantize.distributed import gather, total
from protok.quantize.table import VQ
from protok.quantize.uncompiled import uncompiled

#: Share of the end of training in which ids settle: no more respawn.
SETTLE = 0.2
#: `adaptive` looks at the latents at every such share of training,
EVERY = 0.01
#: and starts the ramp when their dimension has not grown by this share of itself
GROWTH = 0.01
#: in so many looks, the first of them after this share of the warm-up: the dimension
#: of an untrained encoder says little.
PATIENCE = 5
FIRST = 0.25
#: Training steps at hardness 0 without a call of `progress`, from which on that is said: fewer are a trial.
UNTOLD = 20


class ProVQ(Quantizer):
    """A hardness schedule around a quantizer, which learns as ever once hardness exceeds 0.

    While hardness is 0 latents pass unchanged and a reservoir keeps the most recent ones;
    when it first exceeds 0 the codebook is anchored on the reservoir by k-means, if it has
    any; while it rises, vectors lie between their latent and their code; at 1, and always
    in eval, this is the inner quantizer. In the last fifth of training dead codes stay
    where they are, so that ids settle. The idea is that of arXiv 2603.22304; anchoring as in
    arXiv 2605.06870. That nothing is added to the loss while hardness is 0, and that each vector is
    discrete with a probability (``bernoulli``), is ours; shares of vectors that pass unquantized in
    training are also in FoldToken (arXiv 2403.09673) and Mimi (arXiv 2410.00037). The form of the
    paper's first author is `published`.

    Call `progress` before each training step; a first evaluation after training without it warns.

    Parameters
    ----------
    inner
        The quantizer that does the work: any but another `ProVQ`.
    schedule
        Hardness over training progress.
    estimator
        ``bernoulli``, ``ste``, ``mix``, ``rotation`` or ``soft`` (see
        `protok.quantize.curriculum.feed`); ``soft`` needs a `VQ` or `SimVQ`.
    reservoir
        How many recent latents to keep for the anchoring, in each process.
    anchor
        False leaves the codebook where its initialisation put it.
    loss_weight
        ``ramped``, ``full`` or ``soft`` (see `protok.quantize.curriculum.loss_weights`).
    """

    recent: Tensor
    seen: Tensor
    watch: Tensor

    def __init__(
        self,
        inner: Quantizer,
        schedule: Schedule | None = None,
        estimator: str = "bernoulli",
        reservoir: int = 32768,
        anchor: bool = True,
        loss_weight: str = "ramped",
    ):
        for name, value, known in (
            ("estimator", estimator, ESTIMATORS),
            ("loss_weight", loss_weight, LOSS_WEIGHTS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        if not isinstance(inner, Quantizer):
            raise TypeError(f"inner is {inner!r}, not a quantizer: give ProVQ(VQ(512, 8)), for example")
        if schedule is not None and not isinstance(schedule, Schedule):
            raise TypeError(f"schedule is {schedule!r}, not a Schedule: give Schedule('cosine', 0.2, 0.4)")
        if isinstance(inner, ProVQ):
            raise ValueError("a schedule around a schedule has no meaning")
        if estimator == "soft":
            inner.table()
        self.code_shape = inner.code_shape
        super().__init__(inner.size, inner.dim, inner.width, inner.beta)
        self.inner, self.schedule = inner, schedule or Schedule()
        self.estimator, self.anchors, self.loss_weight = estimator, anchor, loss_weight
        self.register_buffer("recent", torch.zeros(reservoir, inner.width))
        # How many latents the reservoir has seen; -1 once the ids settle.
        self.register_buffer("seen", torch.tensor(0))
        if self.schedule.kind == "adaptive":
            # Progress, start of the ramp, next look, largest dimension, looks without growth.
            start = self.schedule.continuous_share
            watch = torch.tensor([0.0, start, FIRST * start, 0.0, 0.0], dtype=torch.float64)
            self.register_buffer("watch", watch)
        self.progress(0.0)
        self._told, self._untold_steps = False, 0

    @classmethod
    def published(cls, size: int, dim: int, *, metric: str = "euclidean", loss_weight: str = "full") -> ProVQ:
        """The form in the public forks of the first author of arXiv 2603.22304 (GitHub `997ddler`).

        A table that the optimiser learns, placed by k-means once 19 % of the steps have trained a continuous
        auto-encoder; a cosine over 9 % of the steps in which vectors lie ``ste`` between latent and code;
        nothing revives codes. Read, not copied; that the forks are the paper's is inferred from their author,
        dates and schedule.

        Parameters
        ----------
        size, dim, metric
            Of the table (see `VQ`).
        loss_weight
            ``full`` as on proteins; ``soft`` as on images, there with ``cosine`` codes.
        """
        table = VQ(size, dim, decay=None, metric=metric, init_and_revive="none")
        return cls(table, Schedule("cosine", 0.19, 0.09), "ste", loss_weight=loss_weight)

    def progress(self, fraction: float) -> float:
        """Set the training progress in [0, 1]; returns the hardness that follows."""
        start, self._told = None, True
        if self.schedule.kind == "adaptive":
            self.watch[0], start = fraction, float(self.watch[1])
        self.hardness.fill_(self.schedule.hardness(fraction, start))
        if fraction >= 1 - SETTLE and bool(self.initialised):
            self.seen.fill_(-1)
        else:
            self.seen.clamp_(min=0)
        return float(self.hardness)

    def inward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        return self.inner.inward(z)

    def outward(self, c: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        return self.inner.outward(c)

    def nearest(self, c: Float[Tensor, "n e"]) -> Int[Tensor, "n *l"]:
        return self.inner.nearest(c)

    def codes(self, ids: Int[Tensor, "n *l"]) -> Float[Tensor, "n e"]:
        return self.inner.codes(ids)

    def table(self) -> Float[Tensor, "k e"]:
        return self.inner.table()

    def anchor(self, c: Float[Tensor, "n e"]) -> None:
        self.inner.anchor(c)
        self.initialised.fill_(True)

    @uncompiled
    def forward(self, z: Float[Tensor, "*b d"], mask: Bool[Tensor, "*b"] | None = None) -> Quantized:
        """Quantize as hard as the present hardness says (see `Quantizer.forward`)."""
        if not self.training:
            self._warn_if_unmoved()
            return self.inner.run(z, mask)
        hardness = float(self.hardness)
        self._untold_steps += hardness == 0 and not self._told
        if hardness == 0:
            return self._pass(z, mask)
        if not self.initialised:
            with torch.autocast(z.device.type, enabled=False):
                self._anchor_on_recent()
        out = self.inner.run(
            z, mask, hardness, self.estimator, settled=bool(self.seen < 0), loss_weight=self.loss_weight
        )
        self.usage.copy_(self.inner.usage)
        return out

    def _warn_if_unmoved(self) -> None:
        """Say once that training went on without a word of how far it is, so that no code was learnt."""
        if not self._told and self._untold_steps >= UNTOLD:
            self._untold_steps = 0
            warnings.warn(
                "ProVQ was trained and `progress` was never called: hardness is 0 and no code is learnt; "
                "call progress(step / steps) before each training step",
                UserWarning,
                stacklevel=4,
            )

    def _pass(self, z: Tensor, mask: Tensor | None) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            c, keep = self.enter(z, mask)
            self._remember(c.detach())
            if self.schedule.kind == "adaptive" and self.watch[0] >= self.watch[2]:
                self._look()
            # Data-parallel training wants every parameter to take part in every step.
            loss = c.new_zeros(()) + sum(0 * p.sum() for p in self.inner.parameters())
            return self.leave(z, keep, c, self.nearest(c.detach()), loss, c.new_zeros(()))

    def perplexity(self) -> float:
        return self.inner.perplexity()

    @torch.no_grad()
    def _remember(self, c: Tensor) -> None:
        room = len(self.recent)
        c = c[-room:]
        where = (int(self.seen.clamp(min=0)) + torch.arange(len(c), device=c.device)) % room
        self.recent[where] = c
        self.seen.clamp_(min=0).add_(len(c))

    def _held(self) -> Tensor:
        return self.recent[: max(int(self.seen), 0)]

    @torch.no_grad()
    def _look(self) -> None:
        """Bring the start of the ramp forward to now if the latents have stopped spreading."""
        held = self._held().double()
        n, first, second = total(held.new_tensor([float(len(held))]), held.sum(0), held.T @ held)
        mean = first / n.clamp(min=1)
        dimension = spread(second / n.clamp(min=1) - mean.outer(mean))
        if dimension > float(self.watch[3]) * (1 + GROWTH):
            self.watch[3], self.watch[4] = dimension, 0
        else:
            self.watch[4] += 1
        self.watch[2] = self.watch[0] + EVERY
        if self.watch[4] >= PATIENCE:
            self.watch[1] = torch.minimum(self.watch[1], self.watch[0])

    def _anchor_on_recent(self) -> None:
        held = self._held()
        if self.anchors and len(gather(held[:1])):
            self.anchor(held)
        self.initialised.fill_(True)
