"""Quantizers with a table of codes: `VQ` and `SimVQ`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from protok.quantize.base import Ids, Quantizer, commitment
from protok.quantize.centres import kmeans, nearest
from protok.quantize.curriculum import Vectors
from protok.quantize.distributed import from_first, gather, total

METRICS = ("euclidean", "cosine")
INIT_AND_REVIVE = ("kmeans+respawn", "kmeans", "respawn", "none")


class Tabled(Quantizer):
    """What quantizers with a table of codes share: search in it, its placement, and the losses."""

    def nearest(self, c: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
        """Nearest code of each vector, in chunks that bound the memory."""
        return nearest(c, self.table())

    def penalty(self, c: Vectors, ids: Ids, q: Vectors, pull: float) -> Float[Tensor, ""]:
        """Commitment, and |sg z - q|^2 where the table is learned."""
        return commitment(c, q, self.beta * pull)

    def place(self, centres: Float[Tensor, "k d"]) -> None:
        """Make centres of clusters the codes; their usage is known."""
        raise AttributeError(f"{type(self).__name__} has no place")

    @torch.no_grad()
    def anchor(self, c: Float[Tensor, "n d"]) -> None:
        """k-means on the vectors of all processes; usage is seeded from the cluster sizes."""
        c = gather(c)
        if len(c):
            centres, counts = kmeans(c, self.size)
            self.usage.copy_(counts / counts.mean())
            self.place(centres)
        self.initialised.fill_(True)

    def begin(self, c: Float[Tensor, "n d"], by_kmeans: bool) -> bool:
        """Start on a first batch; True if k-means has placed the table, which is all it learns from that."""
        if self.initialised:
            return False
        (n,) = total(c.new_tensor([float(len(c))]))
        if by_kmeans and n >= self.size:
            self.anchor(c)
            return True
        self.initialised.fill_(bool(n > 0))
        return False


class VQ(Tabled):
    """A table of codes; a moving average of the latents updates it after each training step.

    Source: van den Oord et al. 2017 (arXiv 1711.00937, appendix A.1). With ``decay=None``
    the optimiser updates the table instead, when it steps, by the gradient of
    |sg z - q|^2 (ibid., equation 3). Latents and codes of ``cosine`` have unit length
    (Yu et al. 2021, arXiv 2110.04627).

    Parameters
    ----------
    size, dim
        Number of codes and their dimension.
    beta
        Weight of the commitment loss.
    decay
        Of the moving averages; None makes the table a parameter.
    metric
        ``euclidean`` or ``cosine``.
    init_and_revive
        ``kmeans``: place the table by k-means on the first batch, if it has at least `size`
        vectors. ``respawn``: move codes whose running usage falls below 3 % of the mean to
        latents of the current batch, at most a twentieth of the table a step.
        ``kmeans+respawn`` or ``none``.
    """

    codebook: Tensor
    sums: Tensor
    #: Share of the mean usage below which a code is dead.
    dead = 0.03

    def __init__(
        self,
        size: int,
        dim: int,
        beta: float = 0.25,
        decay: float | None = 0.99,
        metric: str = "euclidean",
        init_and_revive: str = "kmeans+respawn",
    ):
        super().__init__(size, dim, beta=beta)
        self.metric, self.init_and_revive = metric, init_and_revive
        for name, known in (("metric", METRICS), ("init_and_revive", INIT_AND_REVIVE)):
            if (value := vars(self)[name]) not in known:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        self.moving = decay is not None
        codebook = self._normal(torch.randn(size, dim))
        if decay is not None:
            self.decay = decay
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", codebook.clone())
        else:
            self.codebook = nn.Parameter(codebook)
        if "respawn" in init_and_revive:
            self.remedy = "give the latents fewer dimensions, normalise them, or use fewer codes"
        else:
            self.remedy = "use init_and_revive='kmeans+respawn', or wrap it in ProVQ"

    def _normal(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.metric == "cosine" else x

    def inward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The latents; of unit length with ``cosine``."""
        return self._normal(z)

    def table(self) -> Float[Tensor, "k d"]:
        # The optimiser does not keep a parameter on the sphere.
        return self.codebook if self.moving else self._normal(self.codebook)

    def codes(self, ids: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        return self.codebook[ids] if self.moving else self._normal(self.codebook[ids])

    def place(self, centres: Float[Tensor, "k d"]) -> None:
        """The centres are the codes, and the averages are as if they had always been."""
        self.codebook.copy_(self._normal(centres))
        if self.moving:
            self.sums.copy_(self.codebook * self.usage[:, None])

    @torch.no_grad()
    def update(self, c: Float[Tensor, "n d"], ids: Int[Tensor, "n"], settled: bool = False) -> None:
        """Moving averages over the batch of all processes, then respawn of dead codes."""
        if self.begin(c, "kmeans" in self.init_and_revive):
            return
        n = self.count(ids)
        if n == 0:
            return
        if self.moving:
            (sums,) = total(torch.zeros_like(self.sums).index_add_(0, ids, c))
            self.sums.lerp_(sums * (self.size / n), 1 - self.decay)
            means = self._normal(self.sums / self.usage.clamp(min=1e-3)[:, None])
            self.codebook.copy_(torch.where(self.usage[:, None] > 1e-3, means, self.codebook))
        if "respawn" in self.init_and_revive and not settled:
            self._respawn(c)

    def _respawn(self, c: Tensor) -> None:
        dead = (self.usage < self.dead).nonzero().squeeze(-1)[: max(1, self.size // 20)]
        # Usage is the same in all processes, so they agree on whether to go on.
        if len(dead) == 0:
            return
        c = gather(c)
        dead = dead[: len(c)]
        pick = from_first(torch.randperm(len(c), device=c.device)[: len(dead)])
        self.codebook[dead] = c[pick]
        self.usage[dead] = 0.5
        if self.moving:
            self.sums[dead] = 0.5 * c[pick]


class SimVQ(Tabled):
    """A frozen random basis seen through a learned linear map, which the optimiser updates.

    The whole table moves with each step of the optimiser, also codes that no latent
    chose. Source: Zhu et al. 2024 (arXiv 2411.02038). ``bias=True`` is the form of
    AminoAseed (Yuan et al. 2025, arXiv 2503.00089).

    Parameters
    ----------
    size, dim
        Number of codes and their dimension.
    beta
        Weight of the commitment loss.
    bias
        Whether the map has a bias.
    kmeans
        Make k-means centres of the first batch (if it has at least `size` vectors) the
        basis, and the map the identity. `ProVQ` does so when its ramp begins, whatever
        is said here.
    """

    basis: Tensor
    remedy = "anchor its basis by k-means (kmeans=True, or ProVQ), or use fewer codes"

    def __init__(self, size: int, dim: int, beta: float = 0.25, bias: bool = False, kmeans: bool = False):
        super().__init__(size, dim, beta=beta)
        self.kmeans = kmeans
        self.register_buffer("basis", torch.randn(size, dim) * dim**-0.5)
        self.map = nn.Linear(dim, dim, bias=bias)

    def table(self) -> Float[Tensor, "k d"]:
        """All codes, as the map stands."""
        return self.map(self.basis)

    def codes(self, ids: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """Mapped rows of the basis."""
        return self.map(self.basis[ids])

    def place(self, centres: Float[Tensor, "k d"]) -> None:
        """The centres are the basis, and the map is the identity."""
        self.basis.copy_(centres)
        nn.init.eye_(self.map.weight)
        if self.map.bias is not None:
            nn.init.zeros_(self.map.bias)

    @torch.no_grad()
    def update(self, c: Float[Tensor, "n d"], ids: Int[Tensor, "n"], settled: bool = False) -> None:
        """Only statistics, and the anchoring on the first batch if that is wanted."""
        if not self.begin(c, self.kmeans):
            self.count(ids)
