"""Draw what bits buy: CA RMSD over bits a residue, of all tokenizers that decode, and of Foldcomp.

python -m benchmarks.tables.rate_distortion    # writes docs/figures/rate-distortion.svg

Nominal bits are from `benchmarks/results/shapes.parquet`; those that a small language model cannot foretell
(dotted), and Foldcomp, from `benchmarks/results/battery.parquet`, where they are measured.
"""

from __future__ import annotations

from benchmarks.accuracy.battery import OUT
from benchmarks.paths import FIGURES
from benchmarks.tables.battery import cells
from benchmarks.tables.shapes import SETS, rows

#: What is drawn: the beginning of its name in the results, how it is called, its marker, its colour.
CURVES = (
    ("protok-1@", "protok-1: keyframes each 16, 8, 4, 2", "o-", "C0"),
    ("reference-codec", "reference codec: 6, 8, 9, 10 bits", "s--", "C1"),
    ("protok 0 (place codes)", "protok 0 (place codes)", "D", "C2"),
    ("protok 0 (-sites)", "protok 0 (-sites)", "^", "C3"),
)
FORETOLD, FOLDCOMP, VALID = "what one GRU cannot foretell of it", "Foldcomp: backbone, whole files", "valid"


def points(name: str, of: str) -> list[tuple[float, float]]:
    """Bits a residue and mean RMSD in Å of all that is measured of a tokenizer on a set, ascending."""
    measured = [result["reconstruction"].values() for _, other, result in rows(name) if other == of]
    return sorted((part["bits_a_residue"], part["rmsd"]) for parts in measured for part in parts)


def of_battery(name: str, task: str, bits: str) -> list[tuple[float, float]]:
    """The same of a row of the battery, which measures validation chains; none where it is not there."""
    scores = [
        row.scores.values()
        for row in cells(OUT, VALID)
        if row.task["name"] == task and row.tokenizer["name"].startswith(name.rstrip("@"))
    ]
    pairs = [(part[bits]["value"], part["rmsd"]["value"]) for parts in scores for part in parts]
    return sorted((x, y) for x, y in pairs if x is not None and y is not None)


def main() -> None:
    """Draw one panel a set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "protok"
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SETS), figsize=(11, 3.8), sharex=True, sharey=True)
    for axes, (of, title) in zip(panels, SETS.items(), strict=True):
        for name, label, style, colour in CURVES:
            if drawn := points(name, of):
                axes.plot(*zip(*drawn, strict=True), style, color=colour, label=label, markersize=5)
            if of == VALID and (drawn := of_battery(name, "rate", "foretold_bits")):
                axes.plot(*zip(*drawn, strict=True), f"{style[0]}:", color=colour, markerfacecolor="none")
        if of == VALID and (drawn := of_battery("foldcomp", "foldcomp", "bits_a_residue")):
            axes.plot(*zip(*drawn, strict=True), "*", color="C4", label=FOLDCOMP, markersize=8)
        axes.set(title=title, xlabel="bits a residue, all counted", xscale="log", yscale="log")
        axes.set_xticks([6, 10, 20, 50, 100], ["6", "10", "20", "50", "100"])
        axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 4], ["0.05", "0.1", "0.2", "0.5", "1", "2", "4"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    if any(of_battery(name, "rate", "foretold_bits") for name, *_ in CURVES):
        panels[0].plot([], [], "k:", label=FORETOLD)
    panels[0].set_ylabel("CA RMSD, Å, mean over chains")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    path = FIGURES / "rate-distortion.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
