"""Tables of how well codes rebuild chains."""

from __future__ import annotations

import json
import math
import statistics
import tomllib

from benchmarks import records
from benchmarks.paths import RESULTS, ROOT
from benchmarks.tables.markdown import table

SETS = {"casp14": "CASP14", "cameo2022": "CAMEO 2022"}
MODELS = ("protok-512", "protok-512-sites")


def measured() -> dict[str, dict]:
    """Results of reconstruction by model."""
    return records.read(RESULTS / "reconstruction.parquet")


def quality() -> str:
    """The models on both test sets, in short."""
    there = measured()
    measures, rows = {"rmsd": 2, "tm_score": 3, "lddt": 3}, []
    for name in MODELS:
        result = there[name]
        means = [result["sets"][key]["mean"] for key in SETS]
        rows.append(
            [
                f"`{name}`",
                f"{math.log2(result['size']):.0f}",
                *(f"{mean[key]:.{digits}f}" for key, digits in measures.items() for mean in means),
            ]
        )
    head = ["model", "bits a residue"]
    head += [f"{name}, {title}" for name in ("CA RMSD (Å)", "TM-score", "lDDT") for title in SETS.values()]
    return table(head, rows)


def reconstruction() -> str:
    """Mean (median) over targets, and what codes do under motion, reflection and noise."""
    there = measured()
    results = {name: there[name] for name in MODELS}
    rows = []
    for result in results.values():
        for key, figures in result["sets"].items():
            mean, median = figures["mean"], figures["median"]
            rows.append(
                [
                    f"{result['codebook']}",
                    f"{SETS[key]} ({len(figures['targets'])})",
                    *(
                        f"{mean[k]:.{d}f} ({median[k]:.{d}f})"
                        for k, d in (("rmsd", 2), ("tm_score", 3), ("lddt", 3), ("rmsd_continuous", 2))
                    ),
                    f"{figures['codes_used']:.1%}",
                    f"{figures['perplexity']:.0f}",
                ]
            )
    head = [
        "tokenizer",
        "set (targets)",
        "CA RMSD, Å",
        "TM-score",
        "lDDT",
        "continuous RMSD, Å",
        "codes used",
        "perplexity",
    ]
    text = "Mean (median) over targets:\n\n" + table(head, rows)
    rows = []
    others = results | {name: there[name] for name in ("3di", "protein-blocks")}
    for name, other in others.items():
        for key, figures in other["sets"].items():
            rows.append(
                [
                    name,
                    SETS[key],
                    f"{figures['changed_by_motion']:.3%}",
                    f"{figures['changed_by_mirror']:.1%}",
                    *(f"{figures['kept_under_noise'][s]:.1%}" for s in ("0.1", "0.2", "0.5")),
                ]
            )
    head = [
        "tokenizer",
        "set",
        "changed by a motion",
        "changed by reflection",
        "kept at 0.1 Å noise",
        "at 0.2 Å",
        "at 0.5 Å",
    ]
    text += "\n\nStability of codes:\n\n" + table(head, rows)
    rows = []
    kinds = [("real", results[MODELS[0]], "real")]
    kinds += [(name, result, "built") for name, result in results.items()]
    for key, title in SETS.items():
        for name, result, kind in kinds:
            shape = result["sets"][key]["geometry"][kind]
            rows.append(
                [title, name]
                + [f"{shape[k]['mean']:.2f} ± {shape[k]['sd']:.2f}" for k in ("C-N", "CA-CA")]
                + [f"{shape[k]['mean']:.1f} ± {shape[k]['sd']:.1f}" for k in ("CA-C-N", "C-N-CA")]
                + [f"{shape['phi>0']['mean']:.1%}"]
                + [f"{result['sets'][key]['phi_psi_in_98%_of_real'][kind]:.1%}"]
            )
    head = [
        "set",
        "backbones",
        "C-N, Å",
        "CA-CA, Å",
        "CA-C-N, °",
        "C-N-CA, °",
        "phi > 0",
        "phi, psi where 98 % of real ones are",
    ]
    return text + "\n\nGeometry across peptide bonds, mean ± sd:\n\n" + table(head, rows)


def controls() -> str:
    """protok-512 and what was trained beside it, and the differences target by target."""
    gaps_of = json.loads((RESULTS / "controls.json").read_text())["control_less_ours"]
    there = measured()
    rows = []
    for name in ("protok-512", *gaps_of):
        for key, figures in there[name]["sets"].items():
            mean = figures["mean"]
            row = [
                name,
                SETS[key],
                f"{mean['rmsd']:.2f}",
                f"{mean['tm_score']:.3f}",
                f"{mean['lddt']:.3f}",
                f"{figures['codes_used']:.1%}" if "codes_used" in figures else "",
                f"{figures['perplexity']:.0f}" if "perplexity" in figures else "",
                f"{figures['kept_under_noise']['0.2']:.1%}" if "kept_under_noise" in figures else "",
            ]
            gaps = gaps_of.get(name, {}).get(key)
            for measure, digits in (("rmsd", 2), ("tm_score", 3)):
                gap = gaps and gaps[measure]
                row.append(
                    f"{gap['mean']:+.{digits}f} [{gap['interval'][0]:+.{digits}f}, "
                    f"{gap['interval'][1]:+.{digits}f}], {gap['control_better_in']} of "
                    f"{gaps['targets']} better"
                    if gap
                    else ""
                )
            rows.append(row)
    head = [
        "tokenizer",
        "set",
        "CA RMSD, Å",
        "TM-score",
        "lDDT",
        "codes used",
        "perplexity",
        "kept at 0.2 Å noise",
        "RMSD less protok-512's",
        "TM-score less protok-512's",
    ]
    return table(head, rows)


def design() -> str:
    """Variants of the design search by length of chain, in the order of their recipe."""
    recipe = tomllib.loads((ROOT / "benchmarks" / "accuracy" / "design.toml").read_text())
    files = records.read(RESULTS / "design.parquet")
    lengths = list(files["base"]["by_length"])
    rows = []
    for name, settings in recipe["variants"].items():
        variant = files[name]
        cells = [variant["by_length"][length] for length in lengths]
        kept = variant["kept_at_0.2"]
        changes = ", ".join(
            f"{k.removeprefix('model.')} {json.dumps(v)}"
            for k, v in settings.items()
            if k not in ("about", "part", "relax")
        )
        about = settings.get("about", "")
        rows.append(
            [
                name,
                f"{about} ({changes})" if about and changes else about or changes,
                *(f"{c['rmsd']:.2f} / {c['tm_score']:.2f}" for c in cells),
                f"{statistics.mean(c['lddt'] for c in cells):.3f}",
                f"{kept:.0%}" if kept is not None else "",
                f"{variant['training_cpu_seconds']}",
            ]
        )
    head = ["variant", "change", *lengths, "lDDT", "kept at 0.2 Å noise", "CPU-seconds"]
    return "CA RMSD in Å / TM-score by residues of the chain:\n\n" + table(head, rows)


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
            f"`{result['codebook']}` on cluster {family['cluster30']}: {family['chains']} chains, "
            f"none of them, nor of their cluster at 30 % identity, in its training; held-out ones "
            f"are at most about {family['identity']:.0%} identical to trained ones. "
            f"{result['hardware']['cpu']}.\n\n" + table(head, rows)
        )
    return "\n\n".join(parts)
