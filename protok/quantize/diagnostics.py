"""How well a codebook is used, and how it got there: numbers, a figure and a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from protok.quantize.usage import perplexity, share_used

if TYPE_CHECKING:
    from protok.quantize.base import Quantizer


class CollapseWarning(UserWarning):
    """Few codes are in use; the message says what helps."""


def effective_dimension(z: Float[Tensor, "n d"]) -> float:
    """exp(entropy of the normalised covariance eigenvalues): 1 on a line, d if isotropic."""
    if len(z) < 2:
        return 0.0
    return spread(torch.atleast_2d(torch.cov(z.detach().double().T)))


def spread(covariance: Float[Tensor, "d d"]) -> float:
    """exp(entropy of the normalised eigenvalues) of a covariance."""
    return perplexity(torch.linalg.eigvalsh(covariance).clamp(min=0))


def relative_error(z: Float[Tensor, "n d"], q: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean |z - q|^2 over the variance of z; 0 is perfect, 1 is no better than the mean."""
    if len(z) < 2:
        return z.new_zeros(())
    z = z.detach()
    return (z - q.detach()).square().mean() / (z - z.mean(0)).square().mean().clamp(min=1e-12)


@dataclass(frozen=True)
class Diagnostics:
    """State of a quantizer on a sample of latents, coded hard.

    Attributes
    ----------
    hardness
        Of the curriculum at this moment.
    usage
        Share of the codes that the sample uses.
    perplexity
        exp(entropy) of their frequencies; mean over levels of a residual quantizer.
    latent_dimension, code_dimension
        Effective dimension of the latents and of their codes, in the code space.
    error
        Relative quantization error.
    """

    hardness: float
    usage: float
    perplexity: float
    latent_dimension: float
    code_dimension: float
    error: float


@torch.no_grad()
def diagnose(quantizer: Quantizer, z: Tensor, mask: Tensor | None = None) -> Diagnostics:
    """Diagnostics of a quantizer on latents (..., d); its state and mode stay as they are.

    Raises
    ------
    ValueError
        If a valid latent is not finite.
    """
    with torch.autocast(z.device.type, enabled=False):
        c, _ = quantizer.enter(z, mask)
        ids = quantizer.nearest(c)
        q = quantizer.codes(ids)
        columns = ids.reshape(len(c), -1).unbind(-1) if len(c) else [ids.reshape(-1)]
        counts = [torch.bincount(column, minlength=quantizer.size) for column in columns]
        return Diagnostics(
            float(quantizer.hardness),
            sum(map(share_used, counts)) / len(counts),
            sum(map(perplexity, counts)) / len(counts),
            effective_dimension(c),
            effective_dimension(q),
            float(relative_error(c, q)),
        )


#: What `draw` knows how to draw: title, and columns with their labels.
PANELS = (
    ("hardness", {"hardness": ""}),
    ("reconstruction error", {"continuous": "continuous", "quantized": "hard codes"}),
    ("share of codes used", {"usage": ""}),
    ("perplexity", {"perplexity": ""}),
    ("effective dimension", {"latent_dimension": "latents", "code_dimension": "codes"}),
    ("relative quantization error", {"error": ""}),
)


def draw(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | Path,
    panels: Sequence[tuple[str, Mapping[str, str]]] = PANELS,
) -> Path:
    """Draw diagnostics over training, one colour a run, one panel a quantity; needs matplotlib.

    Parameters
    ----------
    runs
        For each run its rows: ``step``, and any of the columns of the panels, as from
        ``dataclasses.asdict(diagnose(...))``.
    path
        Figure to write; the suffix says the format.
    panels
        Titles and columns with their labels; panels without data are left out.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    # No pyplot: its windows and global state are not ours to touch.
    from matplotlib.figure import Figure

    rows = [row for run in runs.values() for row in run]
    shown = [(title, c) for title, c in panels if any(k in row for row in rows for k in c)]
    if not shown:
        raise ValueError("no rows with a column that is drawn; see protok.quantize.diagnose")
    figure = Figure(figsize=(3.6 * len(shown), 3.0), layout="constrained")
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, columns) in zip(grid, shown, strict=True):
        for colour, run in enumerate(runs.values()):
            for style, column in zip("-:", columns, strict=False):
                points = [(row["step"], row[column]) for row in run if column in row]
                steps, values = [x for x, _ in points], [y for _, y in points]
                axes.plot(steps, values, style, color=f"C{colour % 10}")
        styles = ", ".join(f"{label} {s}" for label, s in zip(columns.values(), "-:", strict=False))
        axes.set(title=title, xlabel=f"step ({styles})" if len(columns) > 1 else "step")
    lines = figure.axes[0].get_lines()[:: len(shown[0][1])]
    figure.legend(lines, list(runs), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path)
    return Path(path)
