"""Write the tables of the README, of docs/results and of benchmarks/ from the result files.

python benchmarks/tables.py            # rewrite the pages
python benchmarks/tables.py --check    # exit 1 if it would change
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import tomllib
from pathlib import Path

import image_tables
import leaderboard_tables
import scale_plan
from markdown_table import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def load(name: str) -> dict:
    """One result file."""
    return json.loads((RESULTS / name).read_text())


SETS = {"casp14": "CASP14", "cameo2022": "CAMEO 2022"}
MODELS = ("protok-512", "protok-512-lite", "protok-512-named", "protok-512-sites", "protok-4096")


def reconstruction() -> str:
    """Mean (median) over targets, and what codes do under motion, reflection and noise."""
    results = {name: load(f"reconstruction-{name}.json") for name in MODELS}
    rows = []
    for result in results.values():
        for key, found in result["sets"].items():
            mean, median = found["mean"], found["median"]
            rows.append(
                [
                    f"{result['codebook']}",
                    f"{SETS[key]} ({len(found['targets'])})",
                    *(
                        f"{mean[k]:.{d}f} ({median[k]:.{d}f})"
                        for k, d in (("rmsd", 2), ("tm_score", 3), ("lddt", 3), ("rmsd_continuous", 2))
                    ),
                    f"{found['codes_used']:.1%}",
                    f"{found['perplexity']:.0f}",
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
    others = results | {name: load(f"reconstruction-{name}.json") for name in ("3di", "protein-blocks")}
    for name, other in others.items():
        for key, found in other["sets"].items():
            rows.append(
                [
                    name,
                    SETS[key],
                    f"{found['changed_by_motion']:.3%}",
                    f"{found['changed_by_mirror']:.1%}",
                    *(f"{found['kept_under_noise'][s]:.1%}" for s in ("0.1", "0.2", "0.5")),
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


def quality() -> str:
    """Four models on both test sets, in short."""
    measures, rows = {"rmsd": 2, "tm_score": 3, "lddt": 3}, []
    for name in ("protok-512", "protok-512-lite", "protok-512-sites", "protok-4096"):
        result = load(f"reconstruction-{name}.json")
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


def controls() -> str:
    """protok-512 and what was trained beside it, and the differences target by target."""
    gaps_of = load("controls.json")["control_less_ours"]
    rows = []
    for name in ("protok-512", *gaps_of):
        for key, found in load(f"reconstruction-{name}.json")["sets"].items():
            mean = found["mean"]
            row = [
                name,
                SETS[key],
                f"{mean['rmsd']:.2f}",
                f"{mean['tm_score']:.3f}",
                f"{mean['lddt']:.3f}",
                f"{found['codes_used']:.1%}" if "codes_used" in found else "",
                f"{found['perplexity']:.0f}" if "perplexity" in found else "",
                f"{found['kept_under_noise']['0.2']:.1%}" if "kept_under_noise" in found else "",
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
    recipe = tomllib.loads((ROOT / "benchmarks" / "recipes" / "design.toml").read_text())
    files = {path.stem: json.loads(path.read_text()) for path in (RESULTS / "design").glob("*.json")}
    lengths = list(files["base"]["by_length"])
    rows = []
    for name, settings in recipe["variants"].items():
        found = files[name]
        cells = [found["by_length"][length] for length in lengths]
        kept = found["kept_at_0.2"]
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
                f"{found['training_cpu_seconds']}",
            ]
        )
    head = ["variant", "change", *lengths, "lDDT", "kept at 0.2 Å noise", "CPU-seconds"]
    return "CA RMSD in Å / TM-score by residues of the chain:\n\n" + table(head, rows)


def reading() -> str:
    """Readers side by side, thousands of residues per CPU-second."""
    result = load("reading.json")
    readers = list(dict.fromkeys(r for s in result["results"].values() for k in s.values() for r in k))
    rows = []
    for name, kinds in result["results"].items():
        for kind, found in kinds.items():
            cells = []
            for reader in readers:
                got = found.get(reader)
                failed = f" ({got['failed']} failed)" if got and got["failed"] else ""
                rate = got and got["residues_per_cpu_second"]
                cells.append(f"{rate / 1000:.0f}k{failed}" if rate else "fails" if got else "")
            rows.append([name, kind, *cells])
    notes = [f"{name}: {data['origin']}" for name, data in result["data"].items()]
    return table(["files", "format", *readers], rows) + "\n\n" + "; ".join(notes) + "."


def quantizers() -> str:
    """Settings of the quantizer sweep by held-out error, with paired differences to controls."""
    parts = []
    for path in sorted((RESULTS / "quantizers").glob("*-summary.json")):
        summary = json.loads(path.read_text())
        controls = list(dict.fromkeys(c for r in summary["rows"] for c in r["less_error_than"]))
        rows = []
        for row in summary["rows"]:
            cells = []
            for control in controls:
                gap = row["less_error_than"].get(control)
                cells.append(f"{gap['mean']:.4f} [{gap['low']:.4f}, {gap['high']:.4f}]" if gap else "")
            rows.append(
                [
                    row["setting"],
                    str(row["seeds"]),
                    f"{row['quantized']:.4f}",
                    f"{row['continuous']:.4f}",
                    f"{row['usage']:.1%}",
                    f"{row['perplexity']:.0f}",
                    f"{row['latent_dimension']:.1f}",
                    f"{row['code_dimension']:.1f}",
                    *cells,
                ]
            )
        head = [
            "setting",
            "seeds",
            "error",
            "continuous",
            "usage",
            "perplexity",
            "latent dimension",
            "code dimension",
            *(f"less error than {c}" for c in controls),
        ]
        task = summary["task"]
        figures = "\n".join(
            f"![{task}: {what}](results/quantizers/{task}-{what}.svg)" for what in ("error", "dimension")
        )
        parts.append(f"### {task}\n\n{summary['error']}\n\n{table(head, rows)}\n\n{figures}")
    return "\n\n".join(parts)


def speed() -> str:
    """Assignment, forward pass and training step of VQ beside vector-quantize-pytorch."""
    cells: dict[int, dict[str, dict]] = {}
    for path in (RESULTS / "quantizers").glob("speed-*.json"):
        what, size, _ = path.stem.removeprefix("speed-").split("-")
        cells.setdefault(int(size), {})[what] = json.loads(path.read_text())
    rows = []
    for size, found in sorted(cells.items()):
        row = [str(size), "", ""]
        if "assign" in found:
            row[1:] = [f"{found['assign']['seconds']:.1f}", f"{found['assign']['extra_mebibytes']:.0f}"]
        for what in ("forward", "step"):
            took = found.get(what, {}).get("milliseconds")
            if took:
                ours, theirs = took["protok"], took["vector-quantize-pytorch"]
                row.append(f"{ours:.0f} / {theirs:.0f} ({theirs / ours:.1f}x)")
            else:
                row.append("")
        rows.append(row)
    head = [
        "codes",
        "1 M vectors, s",
        "extra memory, MiB",
        "forward, ms: protok / vector-quantize-pytorch",
        "training step, ms",
    ]
    return table(head, rows)


def finetune() -> str:
    """RMSD before and after fine-tuning on one family, and what it cost elsewhere."""
    paths = sorted(RESULTS.glob("finetune-*.json"))
    if not paths:
        return "The command above writes the result that is shown here."
    parts = []
    for path in paths:
        result = json.loads(path.read_text())
        family, rows = result["family"], []
        for mode, report in result["modes"].items():
            for found in report["sets"]:
                rmsd, kept = found["rmsd"], found.get("codes_kept")
                low, high = rmsd["interval"]
                rows.append(
                    [
                        mode,
                        f"{found['name']} ({len(found['chains'])})",
                        f"{rmsd['before']:.2f}",
                        f"{rmsd['after']:.2f}",
                        f"{rmsd['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
                        str(rmsd["improved"]),
                        f"{found['lddt']['before']:.3f}",
                        f"{found['lddt']['after']:.3f}",
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


def search() -> str:
    """Search with codes on SCOP domains, and what a large database costs."""
    if not (RESULTS / "search.json").exists():
        return "Not measured yet: the command above does."
    result = load("search.json")
    data, rows, times = result["data"], [], []
    for found in result["rows"]:
        cells = [f"{found[k]['value']:.2f} ± {found[k]['se']:.2f}" for k in SEARCH]
        rows.append(
            [
                found["tokenizer"],
                found.get("matrix", ""),
                found.get("domains", "cut out"),
                *cells,
                f"{found['spearman_tm']:.2f}" if "spearman_tm" in found else "",
                f"{found['strangers_at_1']:.1f}" if "strangers_at_1" in found else "",
            ]
        )
        if "time" in found:
            took = found["time"]
            times.append(
                f"{found['tokenizer'].partition('@')[0]} {took['cpu_seconds']:.1f} s (query of "
                f"{took['query']} residues, {took['chains']:,} chains)"
            )
    head = [
        "",
        "matrix",
        "domains",
        "best hit right",
        "right before the first wrong",
        "average precision",
        "rank correlation with TM-score",
        "strangers at E ≤ 1",
    ]
    said = (
        f"{data['searched']['domains']} domains of {data['searched']['superfamilies']} "
        f"superfamilies and {data['searched']['folds']} folds; matrices counted in "
        f"{data['learned_from']['pairs']} pairs of other folds. ± is a standard error over queries."
    )
    return f"{said}\n\n{table(head, rows)}\n\nCPU time of one search: {'; '.join(times)}."


SEARCH = ("top1", "sensitivity", "precision")


def encoding() -> str:
    """Files in, tokens out, side by side; what length costs; two workers; memory."""
    if not (RESULTS / "speed.json").exists():
        return "Not measured for these weights yet: `benchmarks/speed.py` does."
    result = load("speed.json")
    ways, rows = (result["codes"] or {"ways": {}})["ways"], []
    mpnn = result["contestants"].get("ProteinMPNN encoder")
    for name, found in result["contestants"].items():
        rate = found["residues_per_cpu_second"]
        times = rate["total"] / mpnn["residues_per_cpu_second"]["total"] if mpnn else None
        rows.append(
            [
                name if name in OTHER_ENCODERS else _how(name),
                *(f"{rate[key] / 1000:.1f}k" for key in ("reading", "encoding", "total")),
                f"{times:.1f}x" if times else "",
                f"{found['files_per_cpu_second']:.0f}",
                f"{found['peak_mib']}",
                f"{found['startup_seconds']:.1f}",
                f"{ways[name]['equal']:.2%}" if name in ways else "",
            ]
        )
    head = [
        "",
        "reading",
        "encoding",
        "total",
        "total to ProteinMPNN's",
        "files per CPU-second",
        "peak memory, MiB",
        "first code after, s",
        "codes as fp32 torch",
    ]
    text = "Residues per CPU-second of one thread:\n\n" + table(head, rows)
    if ways:
        text += f"\n\nCodes are compared on {result['codes']['codes']:,} residues."
    for name, found in result["workers"].items():
        text += (
            f"\n\nTwo worker processes, {_how(name)}, {found['files']} files to Parquet: "
            f"{found['residues_per_second']:,} residues and {found['files_per_second']:.0f} files "
            f"a second, start of the workers included; {found['largest_worker_mib']} MiB a worker."
        )
    for name, found in result["lengths"].items():
        cost = ", ".join(f"{row['microseconds_per_residue']:.0f} ({row['residues']:,})" for row in found)
        each = [row["microseconds_per_residue"] for row in found]
        text += (
            f"\n\nMicroseconds per residue by length of the chain, {_how(name)}: {cost}; "
            f"most to least {max(each) / min(each):.2f}."
        )
    if result["memory"]:
        steps = ", ".join(f"{row['resident_mib']} ({row['chains']:,})" for row in result["memory"])
        text += f"\n\nResident MiB on the way through an archive of short chains: {steps}."
    if (RESULTS / "decoding.json").exists():
        text += "\n\n" + _decoding()
    if result["left_out"]:
        text += "\n\nLeft out: " + "; ".join(f"{k}: {v}" for k, v in result["left_out"].items())
    return text + "\n\n![Cost per residue over length](../figures/speed.png)"


def _decoding() -> str:
    """What decoding costs, in words."""
    rows = load("decoding.json")["lengths"]
    cost = ", ".join(f"{r['milliseconds_per_residue']:.1f} ({r['residues']:,})" for r in rows)
    memory = ", ".join(f"{r['more_than_before_mib']} ({r['residues']:,})" for r in rows)
    return (
        f"Decoding, milliseconds per residue by length of the chain: {cost}; memory beyond that "
        f"of a process which has decoded a short chain, MiB: {memory}."
    )


OTHER_ENCODERS = ("mini3di + fastpdb", "biotite 3Di", "ProteinMPNN encoder")
HOW = {
    "torch": "fp32 (default)",
    "onnx": "ONNX Runtime",
    "compile": "torch.compile",
    "native": "native",
    "bf16": "bf16",
    "fast": "fast (native, bf16)",
}


def _how(name: str) -> str:
    """`protok, fast`, or with the model before it."""
    model, _, way = name.rpartition("/")
    return f"{model or 'protok'}, {HOW[way]}"


PAGES = {
    "README.md": {"quality": quality},
    "docs/results/reconstruction.md": {"reconstruction": reconstruction},
    "docs/results/speed.md": {"reading": reading, "encoding": encoding},
    "docs/results/leaderboard.md": {"leaderboard": leaderboard_tables.short},
    "benchmarks/README.md": {
        "controls": controls,
        "design": design,
        "image-model": image_tables.model,
        "images": image_tables.sweep,
        "image-samples": image_tables.samples_of_images,
        "chain-samples": image_tables.samples_of_chains,
        "finetune": finetune,
        "search": search,
        "quantizers": quantizers,
        "speed": speed,
    },
    "benchmarks/SCALE.md": {"scale": scale_plan.table},
    "benchmarks/LEADERBOARD.md": {
        "leaderboard": leaderboard_tables.summary,
        "knows": leaderboard_tables.knows,
        "leaderboard tables": leaderboard_tables.tables,
        "leaderboard costs": leaderboard_tables.costs,
    },
}


def fill(text: str, makers: dict) -> str:
    """Put every table of a page between its marks."""
    for name, make in makers.items():
        body = f"<!-- {name} -->\n{make()}\n<!-- end -->"
        text, found = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, body=body: body, text, flags=re.S)
        if not found:
            raise SystemExit(f"no marks for the table {name}")
    return text


if __name__ == "__main__":
    for page, makers in PAGES.items():
        old = (ROOT / page).read_text()
        new = fill(old, makers)
        if "--check" in sys.argv and new != old:
            raise SystemExit(f"{page} is not what the result files give")
        (ROOT / page).write_text(new)
