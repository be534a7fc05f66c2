"""Shapes and keyframes: what letters see, links, the closed loop, the way back, the loss."""

import dataclasses

import numpy as np
import pytest
import torch

from protok.model import keyframes
from protok.model.batch import Batch
from protok.model.build import build
from protok.model.close_bonds import LENGTHS, close_bonds
from protok.model.config import ConvolutionConfig, KeyframeConfig, ShapeEncoderConfig, ShapesConfig
from protok.model.keyframes import Grid, Motions, Search, chords, hops, motion, places, vector
from protok.model.links import CODES, REACH, SIZE, link, linked_by
from protok.model.loss import losses
from protok.model.network import PARTS, ShapeNetwork, stored_steps
from protok.model.runs import Runs
from protok.quantize.config import QuantizerConfig
from protok.structure.geometry import residue_atoms
from protok.structure.poses import Poses, rotation_vector
from protok.testing import exclude, random_backbone, random_complex
from protok.tokens.keyframes import LINK, LINK_SIZE
from tests.structure.test_poses import poses

SMALL = ConvolutionConfig(width=16, layers=2, kernel=2, window=2)
CONFIG = ShapesConfig(
    encoder=ShapeEncoderConfig(hidden=16, layers=1, window=3),
    quantizer=QuantizerConfig(size=8, dim=3),
    steps=SMALL,
    refiner=SMALL,
    keyframes=KeyframeConfig(spacings=(2, 4), sizes=(32, 32)),
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ShapeNetwork(CONFIG).eval()


def latents(network, coords, mask=None):
    batch = Batch.from_coords(coords, [len(coords)])
    return network.encoder(Poses.of(batch.coords), Runs.in_batch(batch))


def test_a_latent_sees_its_window_in_its_run_and_nothing_else(network):
    coords = torch.from_numpy(random_backbone(60, seed=1).coords)
    whole = latents(network, coords)
    torch.testing.assert_close(latents(network, coords[10:50])[3:-3], whole[13:47], atol=1e-4, rtol=0)
    broken = coords.clone()
    broken[30:] += 40.0
    close = {"atol": 1e-3, "rtol": 0}
    torch.testing.assert_close(latents(network, broken)[33:], latents(network, coords[30:])[3:], **close)
    torch.testing.assert_close(latents(network, broken)[:27], whole[:27], **close)
    crowd = Batch.of([random_complex([60, 30], seed=1)])
    both = network.encoder(Poses.of(crowd.coords), Runs.in_batch(crowd))
    torch.testing.assert_close(both[:60], latents(network, crowd.coords[:60]), atol=1e-4, rtol=0)


def test_steps_do_not_depend_on_what_lies_beyond_the_windows(network):
    """A window of two and two layers of two see six; runs laid end to end do not see each other."""
    z = torch.randn(70, 3)
    there = torch.ones(70, dtype=torch.bool)
    runs = Runs.of(there, there[1:])
    _, whole = network.read(z, runs)
    _, part = network.read(z[20:60], Runs.of(there[:40], there[1:40]))
    assert network.trunk.reach == 6
    torch.testing.assert_close(part[6:-6], whole[26:54])
    apart = there[1:].clone()
    apart[29] = False
    _, two = network.read(z, Runs.of(there, apart))
    _, alone = network.read(z[30:], Runs.of(there[:40], there[1:40]))
    torch.testing.assert_close(two[30:], alone)


@pytest.mark.parametrize(("size", "spacing", "expected"), [(1, 4, [0]), (2, 4, [1]), (9, 4, [2, 6, 8])])
def test_places(size, spacing, expected):
    there = torch.ones(size, dtype=torch.bool)
    assert places(Runs.of(there, there[1:]), spacing).tolist() == expected


def test_tokens_and_links_have_as_many_codes():
    assert (CODES, SIZE) == (LINK, LINK_SIZE)  # neither package imports the other


def test_links_reach_and_are_fine_where_it_is_near():
    way = poses(4000)
    way.shift[:2000] *= 4
    codes = link(way)
    assert codes.shape == (4000, CODES) and 0 <= codes.min() and codes.max() < SIZE
    left = linked_by(codes).to_reach(way)
    off, distance = left.shift.norm(dim=-1), way.shift.norm(dim=-1)
    assert (off[2000:] < 0.02 * (12 + distance[2000:])).all() and (off < 0.02 * (12 + distance)).all()
    assert rotation_vector(left.turn).norm(dim=-1).max() < np.radians(2.5)
    far = Poses(torch.tensor([[3 * REACH, 0.0, -3 * REACH]]).double(), torch.eye(3)[None].double())
    assert linked_by(link(far)).shift.abs().max() <= REACH


def rough(network, structures, spacing=4):
    """Letters' steps, grid and group of runs of structures."""
    batch = Batch.of(structures)
    runs, true = Runs.in_batch(batch), Poses.of(batch.coords)
    with torch.no_grad():
        steps = stored_steps(network.read(network.encoder(true, runs), runs)[1])
    grid = Grid.of(runs, places(runs, spacing))
    of = torch.repeat_interleave(torch.arange(len(structures)), torch.tensor(batch.sizes))
    return runs, true, steps, grid, of[runs.first]


def book(grid, true, steps):
    """Motions that are near those that are asked for, so that codes matter."""
    way = hops(grid, steps.double())
    inside = (~grid.first).nonzero()[:, 0]
    ahead = true.double()[grid.row[inside - 1]].then(way[inside])
    chord = chords(grid, way)[inside]
    missed = Poses(ahead.shift, ahead.turn @ chord).to_reach(true.double()[grid.row[inside]])
    asked = vector(Poses(missed.shift, missed.turn @ chord), 4)
    return Motions(torch.cat([asked + 0.3 * torch.randn_like(asked) for _ in range(4)]).float(), 4)


def test_the_search_finds_the_nearest_and_the_first_of_equal_ones():
    torch.manual_seed(2)
    table = torch.randn(500, 6)
    table[400] = table[7]
    table[401:] = table[8:107] + 1e-7  # nearer to each other than float32 tells
    vectors = torch.cat([torch.randn(300, 6).double() * 2, table.double()])
    expected = [int((table.double() - v).square().sum(-1).argmin()) for v in vectors]
    assert Search(table).nearest(vectors).tolist() == expected and expected[700] == 7


def test_decoding_gives_the_poses_of_encoding_and_errors_do_not_add_up(network):
    structures = [random_complex([150, 60], seed=3), exclude(random_backbone(90, seed=4), [40])]
    runs, true, steps, grid, group = rough(network, structures)
    torch.manual_seed(1)
    motions = book(grid, true, steps)
    coded = keyframes.code(grid, steps, true, motions, group)
    assert ((coded.code >= 0) == ~grid.first).all()
    assert (coded.link[:, 0] >= 0).sum() == 2  # the second chain, and after the gap
    again = keyframes.decode(grid, steps, coded.code, coded.link, motions, group)
    for number in range(2):
        mine = group[grid.run] == number
        seen, decoded = (p[mine] for p in (coded.poses, again))
        torch.testing.assert_close(
            decoded.shift, decoded[:1].then(seen[:1].back()).then(seen).shift, atol=1e-4, rtol=0
        )
    off = (coded.poses.shift - true.double()[grid.row].shift).norm(dim=-1)
    first, last = off[5:15], off[(group[grid.run] == 0).nonzero()[20:37, 0]]
    assert last.mean() < 3 * first.mean() + 0.5


def test_structures_and_their_order_change_no_code(network):
    structures = [random_backbone(50, seed=1), random_complex([40, 30], seed=2)]
    _, true, steps, grid, group = rough(network, structures)
    motions = book(grid, true, steps)
    both = keyframes.code(grid, steps, true, motions, group)
    for structure, mine in zip(structures, (group[grid.run] == 0, group[grid.run] == 1), strict=True):
        _, true, steps, alone, own = rough(network, [structure])
        coded = keyframes.code(alone, steps, true, motions, own)
        assert torch.equal(coded.code, both.code[mine]) and torch.equal(coded.link, both.link[mine])


def test_true_steps_and_keyframes_build_the_chain(network):
    runs, true, _, grid, _ = rough(network, [random_backbone(61, seed=2)])
    steps = Poses.stack([*(true[i].to_reach(true[i + 1]) for i in range(60)), Poses.still(like=true.shift)])
    built = build(grid, true[grid.row], steps, runs)
    torch.testing.assert_close(built.poses.shift, true.shift, atol=1e-3, rtol=0)
    torch.testing.assert_close(built.ahead.turn, true.turn, atol=1e-4, rtol=0)
    assert (built.weight[grid.row] == 1).all() and built.weight.min() > 0 - 1e-6


def test_the_decoder_turns_with_its_keyframes(network):
    runs, true, steps, grid, _ = rough(network, [random_backbone(40, seed=5)])
    torch.nn.init.normal_(network.refiner.move.weight, std=0.1)
    h, _ = network.read(torch.randn(40, 3), runs)
    moving = poses(1, seed=7).to(true.shift)
    move = Poses(moving.shift.expand(len(grid), 3), moving.turn.expand(len(grid), 3, 3))
    near = network.decode(h, steps.to(true.shift), grid, true[grid.row], runs)
    far = network.decode(h, steps.to(true.shift), grid, move.then(true[grid.row]), runs)
    back = Poses(move.shift[:1].expand(40, 3), move.turn[:1].expand(40, 3, 3)).then(near.poses)
    torch.testing.assert_close(far.poses.shift, back.shift, atol=1e-3, rtol=0)
    torch.testing.assert_close(far.confidence, near.confidence, atol=1e-3, rtol=0)


def test_stored_steps_are_on_the_grid():
    numbers = torch.randn(50, 9)
    steps = stored_steps(numbers)
    parts = steps.shift * PARTS
    torch.testing.assert_close(parts, parts.round())
    same = stored_steps(numbers + 1e-7)
    assert (same.shift == steps.shift).float().mean() > 0.99


def test_closed_bonds_have_their_lengths():
    batch = Batch.of([random_backbone(50, seed=1)])
    runs, true = Runs.in_batch(batch), Poses.of(batch.coords)
    atoms = residue_atoms(true.turn, true.shift)
    off = atoms + 0.2 * torch.randn_like(atoms)
    closed = close_bonds(off, runs)
    flat = closed.reshape(-1, 3)
    for (a, b), length in LENGTHS.items():
        if (a, b) != (1, 4):
            rows = 3 * torch.arange(49)
            apart = (flat[rows + a] - flat[rows + b]).norm(dim=-1)
            assert (apart - length).abs().mean() < 0.03, (a, b)
    assert (closed - off).norm(dim=-1).mean() < 0.35
    before = closed.clone()
    close_bonds(closed, runs)
    assert torch.equal(closed, before), "its input stays as it is"


def test_the_loss_reaches_every_weight_and_the_quantizers_learn(network):
    network.train()
    batch = Batch.of([exclude(random_backbone(50, seed=1), [12]), random_backbone(30, seed=2)])
    seen = dataclasses.replace(batch, coords=batch.coords + 0.1 * torch.randn_like(batch.coords))
    for q in (network.quantizer, *map(network.quantizer_of, (2, 4))):
        q.progress(0.1)
    losses(network, batch, seen, 4, 1.0)
    for q in (network.quantizer, *map(network.quantizer_of, (2, 4))):
        q.progress(1.0)
    parts = losses(network, batch, seen, 4, 1.0)
    parts.total.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The refiner begins as no motion at all: what is before its last layer waits for that.
    assert [n for n in idle if not n.startswith("refiner.")] == []
    assert bool(network.quantizer_of(4).initialised) and not bool(network.quantizer_of(2).initialised)


def test_a_batch_without_a_complete_residue_teaches_nothing(network):
    batch = Batch.from_coords(torch.full((30, 4, 3), torch.nan), [20, 10])
    parts = losses(network.train(), batch, batch, 4, 20.0)
    parts.total.backward()
    grads = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert parts.total.item() == 0 and len(grads) > 20 and all(not grad.any() for grad in grads)


@pytest.mark.slow
def test_a_network_learns_one_chain(network):
    network.train()
    batch = Batch.of([random_backbone(40, seed=5)])
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(150):
        network.quantizer.progress(0.0)
        parts = losses(network, batch, batch, 4, 0.0)
        optimiser.zero_grad()
        parts.total.backward()
        optimiser.step()
        errors.append(float(parts.step.detach()))
    assert errors[-1] < 0.5 * errors[0]


def test_motions_are_numbers_and_back():
    way = poses(30)
    again = motion(vector(way, 16), 16)
    torch.testing.assert_close(again.shift, way.shift)
    torch.testing.assert_close(again.turn, way.turn)
