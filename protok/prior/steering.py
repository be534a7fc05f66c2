"""Geometry in the loop: samples that do not run into themselves, and are as compact as proteins.

A prior over local codes cannot know where the chain has come from. A sampler can: it decodes what is drawn
so far, and weighs particles (see `protok.prior.sampling.Steering`) by soft potentials: each clash costs, and
so does what native chains of that length do not have. Nothing is moved or relaxed: samples are what their
codes decode to, as without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protok.errors import Unsupported
from protok.prior.layout import Layout, Progress
from protok.prior.proteins import CLASH, CONTACT, apart_within, built, radius_of_gyration
from protok.tokenizers.protocol import Decodes
from protok.tokens.layouts import FIRST

#: Nats that a clash costs.
COST = 12.0
#: How many times the Gaussian of native measures counts. Set by hand, as the cost of a clash.
STRENGTH = 8.0
#: Residues between two looks, and before the first.
EVERY, FROM = 8, 24
#: Residues apart in the chain from which on a contact ties it together.
FAR = 6


def measures(ca: np.ndarray) -> np.ndarray:
    """What is compared with native chains, (3,): log of the radius of gyration, far contacts a residue, and
    relative contact order, of a chain of (n, 3) CA atoms."""
    apart = apart_within(ca, CONTACT)
    order = apart.mean() / len(ca) if len(apart) else 0.0
    return np.array([np.log(radius_of_gyration(ca)), (apart >= FAR).sum() / len(ca), order])


def terms(n: int, length: int) -> np.ndarray:
    """By which native measures are foretold of the first n residues of a chain, (5,)."""
    return np.array([1.0, np.log(n), np.log(n) ** 2, n / length, (n / length) ** 2])


#: Of native chains, by `python -m tools.compactness`: factors of `terms` for each of `measures`, and the
#: precision (inverse covariance) of what they leave.
FACTORS = np.array(
    [
        [1.689, 0.1836, 0.0123, -0.0947, -0.0126],
        [-2.7254, 1.1401, -0.0626, -0.238, 0.3626],
        [0.1594, 0.0484, -0.0098, -0.0535, 0.0604],
    ]
)
PRECISION = np.array([[43.404, 7.024, 3.95], [7.024, 10.423, -44.486], [3.95, -44.486, 440.292]])


def log_weight(ca: np.ndarray, length: int) -> float:
    """Weight of a chain of (n, 3) CA atoms that is to have a length, up to a constant: minus the cost of
    its clashes, and `STRENGTH` times the logarithm of the Gaussian of native measures."""
    clashes = len(apart_within(ca, CLASH))
    off = measures(ca) - FACTORS @ terms(len(ca), length)
    return float(-COST * clashes - STRENGTH * off @ PRECISION @ off / 2)


@dataclass(frozen=True)
class Geometry:
    """Steers samples of chains by what their codes decode to.

    Attributes
    ----------
    tokenizer, layout
        Of one codebook. Keyframes must not stand first: nothing lies anywhere before there are letters.
    particles
        Of each sample: the more the closer to the weights, and the dearer.

    Raises
    ------
    Unsupported
        If keyframes stand first, or the prior is over images.
    """

    tokenizer: Decodes
    layout: Layout
    particles: int = 16

    def __post_init__(self) -> None:
        if self.layout.grid or self.layout.arrangement == FIRST:
            what = (
                "images have no geometry" if self.layout.grid else "keyframes that come first lie nowhere yet"
            )
            raise Unsupported(what, "draw from a prior over another layout of chains")

    def due(self, progress: Progress) -> bool:
        """Where a block is full, and decodes with its keyframe."""
        grammar, n = progress.grammar, progress.residues
        full = grammar is None or (grammar.closed if self.layout.spacing else not grammar.waits)
        return n >= FROM and n % EVERY == 0 and full

    def log_weights(self, records: Sequence[np.ndarray], lengths: Sequence[int | None]) -> np.ndarray:
        """See `log_weight`; a length that is not asked for is that of the record."""
        chains = [self.layout.tokens(record) for record in records]
        traces = [backbone.coords[:, 1].astype(float) for backbone in built(self.tokenizer, chains)]
        return np.array([log_weight(ca, n or len(ca)) for ca, n in zip(traces, lengths, strict=True)])
