"""Random backbones to check contracts on, and what one does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from protok.structure.backbone import AMINO_ACIDS, Backbone, joined
from protok.structure.geometry import C_N, C_N_CA, C_O, CA_C_N, CA_C_O, IDEAL_RESIDUE, frames, place

# phi and psi in degrees with their standard deviation, and the lengths of a segment.
_SEGMENTS = {
    "helix": ((-63, -42, 6), (6, 16)),
    "strand": ((-115, 130, 14), (4, 9)),
    "coil": ((-75, 145, 18), (2, 5)),
    "turn": ((57, 40, 8), (1, 2)),
}
_TRIES = 32


def random_backbone(n: int, seed: int = 0, *, chain: str = "A") -> Backbone:
    """A random protein-like chain of ideal geometry, the same for the same seed.

    Helices, strands, coils and a few left-handed turns of random length, with phi and psi
    drawn from the region of each (that of L-amino acids) and trans peptide bonds, so that
    secondary structure has the natural hand. Bond lengths and angles are exact. Segments are
    chosen so that CA atoms rarely come closer than 4.5 Å and the chain stays compact, though
    about twice as wide as a real fold; strands do not pair.

    Parameters
    ----------
    n
        Number of residues, at least 1.
    seed
        Of the torsions, the sequence and the B-factors.
    chain
        Its id.

    Returns
    -------
    Backbone
        All atoms present, numbered 1..n, centred on the origin.
    """
    if n < 1:
        raise ValueError(f"a backbone of {n} residues cannot be made")
    rng = np.random.default_rng(seed)
    angles = np.zeros((n, 2))  # phi and psi
    turns, shifts = np.zeros((n, 3, 3)), np.zeros((n, 3))
    turns[0] = np.eye(3)
    starts, kinds = [0], ["coil"]
    patience = n
    while (start := starts[-1]) < n:
        weights = (0, 0, 0.85, 0.15) if kinds[-1] in ("helix", "strand") else (0.55, 0.45, 0, 0)
        kind = str(rng.choice(list(_SEGMENTS), p=weights))
        (phi0, psi0, spread), lengths = _SEGMENTS[kind]
        stop = min(start + int(rng.integers(*lengths, endpoint=True)), n)
        draws = np.radians(rng.normal((phi0, psi0), spread, size=(_TRIES, stop - start, 2)))
        # A residue is placed by psi of the one before and its own phi; the first by nothing.
        fixed = angles[start - 1 : start] if start else np.zeros((0, 2))
        chain_angles = np.concatenate([np.tile(fixed, (_TRIES, 1, 1)), draws], axis=1)
        first = max(start, 1)
        ways, ends = _grow(
            turns[first - 1], shifts[first - 1], chain_angles[:, :-1, 1], chain_angles[:, 1:, 0]
        )
        chosen, clashes = _least_crowded(shifts[:first], ends)
        if clashes and patience and start:
            # A dead end: take back the segment before, a bounded number of times.
            patience -= 1
            starts.pop()
            kinds.pop()
            continue
        angles[start:stop] = draws[chosen]
        turns[first:stop], shifts[first:stop] = ways[chosen], ends[chosen]
        starts.append(stop)
        kinds.append(kind)
    psi = angles[:, 1]
    coords = np.einsum("nij,naj->nai", turns, _residue(psi)) + shifts[:, None]
    coords -= coords[:, 1].mean(axis=0)
    sequence = "".join(rng.choice(list(AMINO_ACIDS), n))
    backbone = Backbone.from_arrays(coords, sequence, chain=chain, name=f"random{seed}")
    return replace(backbone, bfactor=rng.uniform(10, 60, n).astype(np.float32))


def random_complex(lengths: Sequence[int], seed: int = 0) -> Backbone:
    """Random chains A, B, C ... that touch: the nearest CA atoms of two are 5 to 6 Å apart."""
    parts: list[Backbone] = []
    rng = np.random.default_rng(seed)
    for i, n in enumerate(lengths):
        part = random_backbone(n, 1000 * seed + i, chain=chr(ord("A") + i))
        if parts:
            placed = np.concatenate([p.coords[:, 1] for p in parts])
            direction = rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            reach = np.ptp(placed @ direction) + np.ptp(part.coords[:, 1] @ direction) + 50
            for away in np.arange(reach, 0, -1):
                nearer = moved(part, shift=away * direction)
                if _distances(nearer.coords[:, 1], placed).min() < 6:
                    break
            part = nearer
        parts.append(part)
    return joined(parts)


def packed_chain(n: int, chains: int = 1, seed: int = 0) -> Backbone:
    """A large structure: random domains of 125 residues, one residue in 135 cubic Å as in proteins.

    The domains pass through each other, as they are wider than real ones.

    Parameters
    ----------
    n
        Residues.
    chains
        Chains to divide them into; there are breaks between domains of one chain.
    seed
        Of the domain and its orientations.
    """
    domain = random_backbone(125, seed)
    coords = domain.coords - domain.coords[:, 1].mean(0)
    spacing = (135.0 * len(domain)) ** (1 / 3)
    count = -(-n // len(domain))
    side = int(np.ceil(count ** (1 / 3) - 1e-9))
    places = np.stack(np.unravel_index(np.arange(count), (side, side, side)), axis=1) * spacing
    parts = [coords @ random_rotation(seed + number % 50).T + place for number, place in enumerate(places)]
    names = np.array([f"C{number}" for number in range(chains)])
    return Backbone.from_arrays(
        np.concatenate(parts)[:n],
        (domain.sequence * count)[:n],
        chain=names[np.arange(n) * chains // n],
        name="packed",
    )


def random_rotation(seed: int = 0) -> np.ndarray:
    """(3, 3) proper rotation, uniform over all."""
    matrix = np.random.default_rng(seed).normal(size=(3, 3))
    q, r = np.linalg.qr(matrix)
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def moved(backbone: Backbone, rotation: np.ndarray | None = None, shift: ArrayLike = 0.0) -> Backbone:
    """Rotate by a (3, 3) matrix about the origin, then shift by (3,) in Å."""
    coords = backbone.coords.astype(np.float64)
    if rotation is not None:
        coords = coords @ np.asarray(rotation).T
    return replace(backbone, coords=(coords + np.asarray(shift)).astype(np.float32))


def mirrored(backbone: Backbone) -> Backbone:
    """The mirror image: x becomes -x."""
    return replace(backbone, coords=backbone.coords * np.array([-1, 1, 1], np.float32))


def exclude(
    backbone: Backbone,
    residues: int | np.integer | slice | Sequence[int] | np.ndarray,
    atoms: slice | int | Sequence[int] = slice(None),
) -> Backbone:
    """The same residues with atoms (all, or by position in N, CA, C, O) of some missing."""
    coords = backbone.coords.copy()
    for residue in np.atleast_1d(np.arange(len(coords))[residues]):
        coords[residue, atoms] = np.nan
    return replace(backbone, coords=coords)


def _residue(psi: np.ndarray) -> np.ndarray:
    """(..., 4, 3): N, CA, C, O of ideal residues in their own frames, in float64."""
    angle = torch.as_tensor(psi, dtype=torch.float64) + torch.pi
    n, ca, c = (torch.tensor(a, dtype=torch.float64).expand(*angle.shape, 3) for a in IDEAL_RESIDUE)
    return torch.stack([n, ca, c, place(n, ca, c, C_O, CA_C_O, angle)], dim=-2).numpy()


def _grow(
    turn: np.ndarray, shift: np.ndarray, psi: np.ndarray, phi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (t, m, 3, 3) and CA (t, m, 3) of t chains grown from one frame.

    `psi` (t, m) is that of the residue before each, `phi` (t, m) its own.
    """
    ideal = torch.tensor(IDEAL_RESIDUE, dtype=torch.float64)
    bond_n, bond_c = ideal[0].norm().item(), ideal[2].norm().item()
    bend = torch.acos(ideal[0] @ ideal[2] / (bond_n * bond_c)).item()
    n, ca, c = (atom.expand(*psi.shape, 3) for atom in ideal)
    psi_t, phi_t = torch.as_tensor(psi), torch.as_tensor(phi)
    next_n = place(n, ca, c, C_N, CA_C_N, psi_t)
    next_ca = place(ca, c, next_n, bond_n, C_N_CA, torch.full_like(psi_t, torch.pi))
    next_c = place(c, next_n, next_ca, bond_c, bend, phi_t)
    steps, hops = frames(next_n, next_ca, next_c).numpy(), next_ca.numpy()

    turns, shifts = np.empty_like(steps), np.empty_like(hops)
    for i in range(psi.shape[1]):
        shift = shift + (turn @ hops[:, i, :, None])[..., 0]
        turn = turn @ steps[:, i]
        turns[:, i], shifts[:, i] = turn, shift
    return turns, shifts


def _least_crowded(placed: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """Which of the (t, m, 3) continuations has fewest clashes of CA, then is most compact."""
    # The last two residues are close by their bonds.
    close = _distances(ends.reshape(-1, 3), placed[:-2]) < 4.5
    clashes = close.sum(axis=1).reshape(ends.shape[:2]).sum(axis=1)
    spread = ((ends - placed.mean(axis=0)) ** 2).sum(axis=(1, 2))
    chosen = int(np.lexsort((spread, clashes))[0])
    return chosen, int(clashes[chosen])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=-1))
