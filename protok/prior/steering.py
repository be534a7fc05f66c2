"""Geometry in the loop: samples that do not run into themselves, and are folded as proteins are.

A prior over local codes cannot know where the chain has come from. A sampler can: it decodes what is drawn
so far, and weighs particles (see `protok.prior.sampling.Steering`) by soft potentials: each clash costs, and
so does what native chains of that length and of as much helix and strand do not have. So that this is not won
by having less of them, their shares are to be those of a plain draw of the same prior. Nothing is moved or
relaxed: samples are what their codes decode to, as without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protok.errors import Unsupported
from protok.prior.layout import Layout, Progress
from protok.prior.proteins import CLASH, CONTACT, built, contacts, radius_of_gyration
from protok.tokenizers.protocol import Decodes
from protok.tokens.layouts import FIRST

#: Nats that a clash costs.
COST = 30.0
#: How many times the Gaussian of native measures counts, of part of a chain less, by the square of its share:
#: else few particles would be left early. And the spread of shares of helix and strand about those of a plain
#: draw. Set by hand on trial samples, as the cost of a clash.
STRENGTH, ROOM = 60.0, 0.03
#: Residues between two looks, and before the first.
EVERY, FROM = 8, 24
#: Residues apart in the chain from which on a contact ties it together; and Å between CA atoms of neighbours
#: in a sheet and few others, of residues so far apart that they are not of one helix.
FAR, PAIRED, BEYOND = 6, 6.0, 4


def elements(ca: np.ndarray) -> np.ndarray:
    """Shares of residues that begin a turn of helix and a stretch of strand, (2,), by distances between the
    next CA atoms: what P-SEA goes by, without its rules for whole elements."""
    second, third = (np.linalg.norm(ca[k:] - ca[:-k], axis=1) for k in (2, 3))
    second = second[:-1]
    helix = (third > 4.3) & (third < 6.0) & (second > 5.0) & (second < 5.9)
    return np.array([helix.sum(), ((third > 9.3) & (second > 6.1)).sum()]) / len(ca)


def measures(ca: np.ndarray) -> np.ndarray:
    """What is compared with native chains, (4,), of (n, 3) CA atoms: log of the radius of gyration, far
    contacts a residue, relative contact order, and the share of residues with a neighbour as in a sheet."""
    n, apart = len(ca), np.subtract(*contacts(ca, CONTACT).T)
    order = apart.mean() / n if len(apart) else 0.0
    paired = len(np.unique(contacts(ca, PAIRED, BEYOND))) / n
    return np.array([np.log(radius_of_gyration(ca)), (apart >= FAR).sum() / n, order, paired])


def terms(ca: np.ndarray, length: int) -> np.ndarray:
    """By which native measures are foretold of the first (n, 3) residues of a chain, (7,)."""
    n = len(ca)
    return np.array([1.0, np.log(n), np.log(n) ** 2, n / length, (n / length) ** 2, *elements(ca)])


#: Of native chains, by `python -m tools.compactness`: factors of `terms` for each of `measures`, and the
#: precision (inverse covariance) of what they leave.
FACTORS = np.array(
    [
        [1.5856, 0.1466, 0.0166, -0.121, -0.0038, 0.2606, 0.3955],
        [-2.4195, 1.0476, -0.0527, -0.0267, 0.2323, -0.9879, 0.83],
        [0.1811, 0.0322, -0.008, -0.0321, 0.0461, -0.0804, 0.1548],
        [-0.9215, 0.4839, -0.0394, 0.0644, -0.0052, -0.1471, 0.3144],
    ]
)
PRECISION = np.array(
    [
        [59.878, 16.556, 22.247, 0.34],
        [16.556, 27.165, -24.527, -41.398],
        [22.247, -24.527, 469.482, -36.874],
        [0.34, -41.398, -36.874, 160.205],
    ]
)


def log_weight(ca: np.ndarray, length: int, aim: np.ndarray) -> float:
    """Weight of a chain of (n, 3) CA atoms that is to have a length, up to a constant: minus the cost of
    its clashes, up to `STRENGTH` times the logarithm of the Gaussian of native measures, and that of its
    `elements` about the aim (2,), as far as the chain has got."""
    clashes = len(contacts(ca, CLASH))
    by, there = terms(ca, length), len(ca) / length
    off, drift = measures(ca) - FACTORS @ by, (by[-2:] - aim) / ROOM
    gaussians = STRENGTH * there**2 * off @ PRECISION @ off + there * drift @ drift
    return float(-COST * clashes - gaussians / 2)


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

    def aims(self, records: Sequence[np.ndarray]) -> np.ndarray:
        """Shares of helix and strand of plain draws, (samples, 2)."""
        return np.array([elements(ca) for ca in self._traces(records)])

    def log_weights(
        self, records: Sequence[np.ndarray], lengths: Sequence[int | None], aims: np.ndarray
    ) -> np.ndarray:
        """See `log_weight`; a length that is not asked for is that of the record."""
        each = zip(self._traces(records), lengths, aims, strict=True)
        return np.array([log_weight(ca, n or len(ca), aim) for ca, n, aim in each])

    def _traces(self, records: Sequence[np.ndarray]) -> list[np.ndarray]:
        chains = [self.layout.tokens(record) for record in records]
        return [backbone.coords[:, 1].astype(float) for backbone in built(self.tokenizer, chains)]
