"""Pictures of traces and codes: what is drawn where, and in which colour."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures are an extra")

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import protok
from protok.testing import mirrored, moved, random_rotation
from protok.viz.colours import code_colours, residue_colours
from protok.viz.plots import draw_codes, draw_trace, draw_usage


@pytest.fixture(scope="module")
def structure(examples):
    return protok.read(examples / "7soo.A.pdb")


def drawn(structure, colours="0.6", **keywords):
    """The curve pieces with their colours, without the rims; and the frame."""
    axes = Figure().subplots()
    frame = draw_trace(axes, structure, colours, **keywords)
    (lines,) = axes.collections
    pieces = np.array([piece[:2] for piece in lines.get_segments()[1::2]])
    return pieces, np.array(lines.get_colors())[1::2, :3], frame


def test_a_trace_goes_through_every_ca_of_one_piece(structure):
    pieces, _, (centre, axes) = drawn(structure)
    ca = ((structure.coords[:, 1] - centre) @ axes.T)[:, :2]
    points = pieces.reshape(-1, 2)
    assert np.linalg.norm(points[:, None] - ca, axis=2).min(axis=0).max() < 1e-4
    steps = np.linalg.norm(np.diff(pieces, axis=1), axis=2)
    assert steps.max() < 1.5
    gap = structure[np.r_[0:20, 30 : len(structure)]]
    assert np.linalg.norm(np.diff(drawn(gap)[0], axis=1), axis=2).max() < 1.5


def test_longest_across_thinnest_in_depth_and_no_mirror(structure):
    _, _, (_, axes) = drawn(structure)
    spread = ((structure.coords[:, 1] - structure.coords[:, 1].mean(0)) @ axes.T).std(axis=0)
    assert (np.diff(spread) < 0).all()
    assert np.linalg.det(axes) == pytest.approx(1)
    assert np.linalg.det(drawn(mirrored(structure))[2][1]) == pytest.approx(1)


def test_a_frame_is_kept_for_what_lies_on_top(structure):
    pieces, _, frame = drawn(structure)
    turned = moved(structure, random_rotation(3), (9.0, 0.0, 4.0))
    back = protok.superpose(turned, structure)
    assert np.allclose(drawn(back, frame=frame)[0], pieces, atol=2e-3)
    assert not np.allclose(drawn(turned, frame=frame)[0], pieces, atol=1)


def test_each_residue_has_its_colour(structure):
    colours = ["#ff0000"] * len(structure)
    colours[40] = "#0000ff"
    pieces, shades, (centre, axes) = drawn(structure, colours)
    blue = shades[:, 2] > shades[:, 0]
    at = ((structure.coords[40, 1] - centre) @ axes.T)[:2]
    assert 4 <= blue.sum() <= 8
    assert np.linalg.norm(pieces[blue].mean(axis=1) - at, axis=1).max() < 2.5
    # The nearest part has the colour itself, the farthest is pale.
    assert np.abs(shades - to_rgb("#ff0000")).sum(axis=1).min() < 0.05
    assert shades[~blue, 1].max() > 0.5


def test_codes_stand_under_their_letters(structure):
    tokens, axes = protok.load("3di").encode(structure), Figure().subplots()
    colours = code_colours(protok.load("3di"))
    draw_codes(axes, tokens, colours, across=40)
    texts = [label.get_text() for label in axes.texts]
    letters = [text for text in texts if text.isalpha()]
    assert "".join(letters[::2]) == tokens.letters and "".join(letters[1::2]) == tokens.sequence
    assert [text for text in texts if text.isdigit()] == [str(tokens.index[i]) for i in (0, 40, 80)]
    faces = [patch.get_facecolor()[:3] for patch in axes.patches]
    assert np.allclose(faces, [to_rgb(colour) for colour in residue_colours(tokens.ids, colours)])


def test_even_use_is_a_line_at_one():
    axes = Figure().subplots()
    draw_usage(axes, np.full(8, 5))
    draw_usage(axes, np.array([6, 0, 2, 0]))
    even, uneven = (line.get_ydata() for line in axes.lines)
    assert np.allclose(even, 1)
    assert uneven[:2].tolist() == [3.0, 1.0] and np.isnan(uneven[2:]).all()
