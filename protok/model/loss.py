"""What shapes and keyframes are trained for.

Steps are supervised by the true motion of each bond, so that letters mean local geometry from the
first hundred steps on; residues by where they lie, with keyframes in the loop as they will be coded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from protok.model.batch import Batch
from protok.model.build import Built, build
from protok.model.keyframes import Grid, hops, motion, places, vector, walk
from protok.model.network import Decoded, ShapeNetwork, steps_of
from protok.model.runs import Runs
from protok.quantize import ProVQ, Quantized
from protok.structure.geometry import residue_atoms
from protok.structure.metrics import LDDT_RADIUS, LDDT_THRESHOLDS
from protok.structure.poses import Poses

#: Å beyond which an error of a place counts no more.
FAR = 10.0
#: Weights: of the steps; of the two ways to a residue before they are blended; of axes beside places.
STEPS, WAYS, AXES = 2.0, 0.15, 0.5


@dataclass
class ShapeLosses:
    """The training loss and its parts, all scalars.

    Attributes
    ----------
    total
        To be minimised.
    step, place, bond
        Squared error of steps; mean error of CA in Å; squared error of distances over a bond in Å².
    drift
        Squared difference of latents that should be alike.
    doubt
        Squared error of the predicted lDDT.
    quantized
        Of the letters.
    """

    total: Tensor
    step: Tensor
    place: Tensor
    bond: Tensor
    drift: Tensor
    doubt: Tensor
    quantized: Quantized | None


def losses(
    network: ShapeNetwork, batch: Batch, seen: Batch, spacing: int, consistency_weight: float
) -> ShapeLosses:
    """Loss of a batch of crops with keyframes of a spacing.

    Parameters
    ----------
    seen
        What the encoder sees: the batch, or that with noise.
    consistency_weight
        Of `drift`: between latents of `seen` and of `batch`, and of a piece of each crop that is
        encoded alone.
    """
    runs, true = Runs.in_batch(batch), Poses.of(batch.coords)
    present = runs.present
    z = network.latents(Poses.of(seen.coords), runs)
    drift = z.new_zeros(())
    if consistency_weight:
        drift = drift_of(network.latents, z, true, runs, batch.sizes)
    quantized = None if network.quantizer is None else network.quantizer(z, present)
    h, numbers = network.read(z if quantized is None else quantized.z, runs)
    with torch.autocast(z.device.type, enabled=False):
        steps = steps_of(numbers)
        grid = Grid.of(runs, places(runs, spacing))
        loop = in_the_loop(network.quantizer_of(spacing), spacing, grid, steps.detach(), true, runs)
        built = build(grid, loop.poses.to(steps.shift), steps, runs)
    decoded = Decoded(*network.refiner(h, built, steps, runs))
    with torch.autocast(z.device.type, enabled=False):
        parts = _parts(decoded, built, steps, batch, runs, true)
    total = parts.total + consistency_weight * drift
    if quantized is not None:
        total = total + quantized.loss
    return ShapeLosses(total, parts.step, parts.place, parts.bond, drift, parts.doubt, quantized)


@dataclass
class Loop:
    """Decoded keyframes, and the motions that their codes were to say."""

    poses: Poses
    motions: Float[Tensor, "k 6"]


@torch.no_grad()
def in_the_loop(quantizer: ProVQ, spacing: int, grid: Grid, steps: Poses, true: Poses, runs: Runs) -> Loop:
    """Keyframes decoded in closed loop, as hard as the quantizer is, which learns from them in training.

    The first of each run is true.
    """
    truth, seen = true.double()[grid.row], []
    way = hops(grid, steps.double())
    hardness = float(quantizer.hardness) if bool(quantizer.initialised) else 0.0

    def correct(_: Tensor, missed: Poses) -> Tensor:
        v = vector(missed, spacing).float()
        seen.append(v)
        if hardness:
            coded = quantizer.lookup(quantizer.nearest(v))
            v = torch.where(torch.rand(len(v), 1, device=v.device) < hardness, coded, v)
        return motion(v.double(), spacing).matrices()

    group = torch.arange(len(runs), device=grid.row.device)
    _, out = walk(grid, way, truth, group, correct)
    motions = torch.cat(seen) if seen else true.shift.new_zeros(0, 6)
    if quantizer.training:
        quantizer(motions)
    return Loop(out, motions)


def drift_of(
    encoder: Callable[[Poses, Runs], Tensor], z: Tensor, true: Poses, runs: Runs, sizes: list[int]
) -> Tensor:
    """Mean squared difference of latents that should be alike: `z`, of noisy poses, and those of true ones;
    those of a piece of each crop inside it and alone."""
    clean = encoder(true, runs)
    whole = _mean((z - clean)[runs.present].square())
    return whole / 2 + _cut(encoder, true, runs, sizes, clean) / 2


def _cut(
    encoder: Callable[[Poses, Runs], Tensor], true: Poses, runs: Runs, sizes: list[int], z: Tensor
) -> Tensor:
    rows, start = [], 0
    for size in sizes:
        length = max(16, int(size * (0.2 + 0.4 * torch.rand(()))))
        begin = int(torch.randint(max(1, size - length + 1), ()))
        rows.append(torch.arange(start + begin, start + min(size, begin + length)))
        start += size
    row = torch.cat(rows).to(z.device)
    bonded = (runs.run[row[1:]] == runs.run[row[:-1]]) & (row[1:] == row[:-1] + 1)
    alone = Runs.of(runs.present[row], bonded)
    return _mean((encoder(true[row], alone) - z[row])[alone.present].square())


def _mean(x: Tensor) -> Tensor:
    """The mean; of nothing 0, as in a batch of crops that a file leaves without atoms."""
    return x.sum() / max(x.numel(), 1)


def _parts(
    decoded: Decoded, built: Built, steps: Poses, batch: Batch, runs: Runs, true: Poses
) -> ShapeLosses:
    present, poses = runs.present, decoded.poses
    count = present.sum().clamp(min=1)
    bonded, wrong = step_errors(steps, true, runs)
    bonds = bonded.sum().clamp(min=1)
    step = (wrong * bonded).sum() / bonds
    atoms, real = residue_atoms(poses.turn, poses.shift), batch.coords[:, :3]
    away = ((atoms - real).square().sum(-1) + 1e-3).sqrt().mean(-1).clamp(max=FAR)
    axes = (poses.turn - true.turn).square().sum((-1, -2)) / 2
    ways = sum(
        ((way.shift - true.shift).square().sum(-1) + 1e-2).sqrt().clamp(max=FAR)
        for way in (built.ahead, built.back)
    )
    bond = ((across(atoms) - across(real)).square().sum(-1) * bonded).sum() / bonds
    good = agreement(poses.shift.detach(), true.shift, present, batch.sizes)
    doubt = ((decoded.confidence.sigmoid() - good).square() * present).sum() / count
    total = STEPS * step + ((away + AXES * axes + WAYS * ways) * present).sum() / count + bond + doubt / 2
    place = ((poses.shift.detach() - true.shift).norm(dim=-1) * present).sum() / count
    return ShapeLosses(total, step, place, bond, total.new_zeros(()), doubt, None)


def step_errors(steps: Poses, true: Poses, runs: Runs) -> tuple[Bool[Tensor, "m"], Float[Tensor, "m"]]:
    """Whether each residue is bonded to the next, and the squared error of the step to it."""
    bonded = (runs.run[1:] == runs.run[:-1]) & runs.present[1:]
    taken = true[:-1].to_reach(true[1:])
    wrong = (steps.turn[:-1] - taken.turn).square().sum((-1, -2))
    return bonded, wrong + (steps.shift[:-1] - taken.shift).square().sum(-1)


def across(atoms: Float[Tensor, "n 3 3"]) -> Float[Tensor, "m 3"]:
    """Distances over the bond to the next residue: C-N, CA-N, C-CA."""
    left, right = atoms[:-1], atoms[1:]
    return torch.stack([(left[:, a] - right[:, b]).norm(dim=-1) for a, b in ((2, 0), (1, 0), (2, 1))], -1)


@torch.no_grad()
def agreement(
    ca: Float[Tensor, "n 3"], true: Float[Tensor, "n 3"], present: Bool[Tensor, "n"], sizes: list[int]
) -> Float[Tensor, "n"]:
    """CA lDDT of each residue within its crop, 0..1."""
    out = []
    for x, y, there in zip(*(part.split(sizes) for part in (ca, true, present)), strict=True):
        apart = torch.cdist(y, y)
        near = (apart < LDDT_RADIUS) & (apart > 0) & there & there[:, None]
        off = (torch.cdist(x, x) - apart).abs()
        kept = sum((off < t).float() for t in LDDT_THRESHOLDS) / len(LDDT_THRESHOLDS)
        out.append((kept * near).sum(-1) / near.sum(-1).clamp(min=1))
    return torch.cat(out)
