"""Tables of how well codes rebuild chains: the models that came before, and fine-tuning."""

from __future__ import annotations

from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table
from benchmarks.tables.speed import BEFORE

SETS = {"casp14": "CASP14", "cameo2022": "CAMEO 2022"}


def before() -> str:
    """Models that came before: what they rebuild, and codes under motion, reflection and noise."""
    there = records.read(RESULTS / "reconstruction.parquet")
    rows = []
    for name in BEFORE:
        for key, figures in there[name]["sets"].items():
            mean, median = figures["mean"], figures["median"]
            rows.append(
                [
                    name,
                    f"{SETS[key]} ({len(figures['targets'])})",
                    *(
                        f"{mean[k]:.{d}f} ({median[k]:.{d}f})"
                        for k, d in (("rmsd", 2), ("tm_score", 3), ("lddt", 3), ("rmsd_continuous", 2))
                    ),
                    f"{figures['codes_used']:.1%}",
                    f"{figures['perplexity']:.0f}",
                ]
            )
    head = ["", "set (targets)", "CA RMSD, Å", "TM-score", "lDDT"]
    head += ["continuous RMSD, Å", "codes used", "perplexity"]
    text = "Mean (median) over targets:\n\n" + table(head, rows)
    rows = [
        [
            name,
            SETS[key],
            f"{figures['changed_by_motion']:.3%}",
            f"{figures['changed_by_mirror']:.1%}",
            *(f"{figures['kept_under_noise'][s]:.1%}" for s in ("0.1", "0.2", "0.5")),
        ]
        for name in (*BEFORE, "3di", "protein-blocks")
        for key, figures in there[name]["sets"].items()
    ]
    head = ["tokenizer", "set", "changed by a motion", "changed by reflection"]
    head += ["kept at 0.1 Å noise", "at 0.2 Å", "at 0.5 Å"]
    return text + "\n\nStability of codes:\n\n" + table(head, rows)


def finetune() -> str:
    """RMSD before and after fine-tuning on one family, and what it cost elsewhere."""
    there = records.read(RESULTS / "finetune.parquet")
    if not there:
        return "The command above writes the result that is shown here."
    parts = []
    for result in there.values():
        family, rows = result["family"], []
        for mode, report in result["modes"].items():
            for chains in report["sets"]:
                rmsd, kept = chains["rmsd"], chains.get("codes_kept")
                low, high = rmsd["interval"]
                rows.append(
                    [
                        mode,
                        f"{chains['name']} ({len(chains['chains'])})",
                        f"{rmsd['before']:.2f}",
                        f"{rmsd['after']:.2f}",
                        f"{rmsd['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
                        str(rmsd["improved"]),
                        f"{chains['lddt']['before']:.3f}",
                        f"{chains['lddt']['after']:.3f}",
                        "" if kept is None else f"{kept:.1%}",
                        f"{report['best_step']} of {report['recipe']['optim']['steps']}",
                        f"{report['cpu_seconds'] / 60:.0f}",
                    ]
                )
        head = [
            "codebook",
            "set (chains)",
            "CA RMSD before, Å",
            "after",
            "change",
            "better in",
            "lDDT before",
            "after",
            "codes kept",
            "best step",
            "CPU minutes",
        ]
        parts.append(
            f"`{result['codebook']}` on cluster {family['cluster30']}: {family['chains']} chains, none of "
            f"them in its training; training chains alike to one at 30 %: {family['training_chains_alike']}. "
            f"Held-out ones are at most about {family['identity']:.0%} identical to trained ones. "
            f"{result['hardware']['cpu']}.\n\n" + table(head, rows)
        )
    return "\n\n".join(parts)
