"""Draw what bits buy: CA RMSD over bits a residue, of protok-1, of what came before, of the reference codec.

python -m benchmarks.tables.rate_distortion    # writes docs/figures/rate-distortion.svg

All from `benchmarks/results/shapes.parquet`.
"""

from __future__ import annotations

from benchmarks.paths import FIGURES
from benchmarks.tables.shapes import SETS, rows

#: What is drawn: the beginning of its name in the results, how it is called, its marker.
CURVES = (
    ("protok-1@", "protok-1: keyframes each 16, 8, 4, 2", "o-"),
    ("reference-codec", "reference codec: 6, 8, 9, 10 bits", "s--"),
    ("protok 0 (place codes)", "protok 0 (place codes)", "D"),
    ("protok 0 (-sites)", "protok 0 (-sites)", "^"),
)


def points(name: str, of: str) -> list[tuple[float, float]]:
    """Bits a residue and mean RMSD in Å of all that is measured of a tokenizer on a set, ascending."""
    measured = [result["reconstruction"].values() for _, other, result in rows(name) if other == of]
    return sorted((part["bits_a_residue"], part["rmsd"]) for parts in measured for part in parts)


def main() -> None:
    """Draw one panel a set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "protok"
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SETS), figsize=(11, 3.6), sharey=True)
    for axes, (of, title) in zip(panels, SETS.items(), strict=True):
        for name, label, style in CURVES:
            if drawn := points(name, of):
                axes.plot(*zip(*drawn, strict=True), style, label=label, markersize=5)
        axes.set(title=title, xlabel="bits a residue, all counted", yscale="log")
        axes.set_yticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("CA RMSD, Å, mean over chains")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=len(CURVES), fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    path = FIGURES / "rate-distortion.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
