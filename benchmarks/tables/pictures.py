"""Draw the best, median and worst reconstruction of each test set.

    python -m benchmarks.tables.pictures --model protok-1 --data ../shared

It reads the test sets, so it is for a design that is frozen. Targets are ranked by the TM-score of what is
decoded from their codes; the three are superposed and drawn along the direction in which they are thinnest:
the chain of the file in grey, the decoded one coloured by how far it is off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.accuracy.shapes import TEST, read_folder
from benchmarks.command import without_traceback
from benchmarks.paths import FIGURES, SHARED

NAMES = {"casp14": "CASP14", "cameo2022": "CAMEO 2022"}
#: Å at which the colour scale ends.
FAR = 2.0


def superposed(model: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """CA of the model, moved onto the reference by least squares."""
    import torch

    from protok.structure.geometry import superpose

    x, y = (torch.from_numpy(np.asarray(a, np.float64)) for a in (model, reference))
    rotation, shift = superpose(x, y)
    return (x @ rotation.T + shift).numpy()


def draw(axes, real: np.ndarray, built: np.ndarray) -> object:
    """Both CA traces, nearer parts over farther ones; returns what the colour bar needs."""
    from matplotlib.collections import LineCollection

    centre = real.mean(0)
    _, _, turn = np.linalg.svd(real - centre, full_matrices=False)
    a, b = ((x - centre) @ turn.T for x in (real, built))
    off = np.linalg.norm(a - b, axis=1)

    def pieces(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = np.linalg.norm(np.diff(x, axis=0), axis=1) < 4.5
        ends = np.stack([x[:-1], x[1:]], axis=1)[whole]
        order = np.argsort(ends[:, :, 2].mean(1))
        return ends[order][:, :, :2], np.flatnonzero(whole)[order]

    lines, _ = pieces(a)
    axes.add_collection(LineCollection(lines, colors="0.55", linewidths=2.6, capstyle="round"))
    lines, kept = pieces(b)
    coloured = LineCollection(lines, cmap="viridis_r", linewidths=1.3, capstyle="round")
    coloured.set_array(off[:-1][kept])
    coloured.set_clim(0, FAR)
    axes.add_collection(coloured)
    axes.autoscale()
    axes.set_aspect("equal")
    axes.set_axis_off()
    return coloured


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-1")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args(arguments)

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    import protok
    from protok.tokenizers.protocol import decoding

    tokenizer = decoding(protok.load(options.model))
    figure = Figure(figsize=(11, 3.6 * len(TEST)), layout="constrained")
    grid = figure.subplots(len(TEST), 3, squeeze=False)
    for row, (key, folder) in zip(grid, TEST.items(), strict=True):
        rebuilt = []
        for chain in read_folder(options.data / folder):
            again = tokenizer.decode(tokenizer.encode(chain))
            rebuilt.append((protok.compare(again, chain), chain, again))
        rebuilt.sort(key=lambda target: -target[0].tm_score)
        picked = {"best": rebuilt[0], "median": rebuilt[len(rebuilt) // 2], "worst": rebuilt[-1]}
        for axes, (rank, (scores, chain, again)) in zip(row, picked.items(), strict=True):
            both = chain.mask & again.mask
            real = chain.coords[both, 1]
            scale = draw(axes, real, superposed(again.coords[both, 1], real))
            axes.set_title(
                f"{NAMES[key]}, {rank}: {chain.name}, {len(chain)} residues\n"
                f"RMSD {scores.rmsd:.2f} Å, TM-score {scores.tm_score:.3f}",
                fontsize=9,
            )
    bar = figure.colorbar(scale, ax=grid, shrink=0.5)
    bar.set_label("distance of CA from its place, Å")
    FigureCanvasAgg(figure)
    out = options.out or FIGURES / f"reconstruction-{options.model}.png"
    figure.savefig(out, dpi=90)
    print(f"wrote {out}")


if __name__ == "__main__":
    without_traceback(main)
