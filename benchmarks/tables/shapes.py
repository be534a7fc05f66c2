"""Tables of shapes and keyframes, from `benchmarks.accuracy.shapes`."""

from __future__ import annotations

from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables import speed
from benchmarks.tables.environments import KEY
from benchmarks.tables.markdown import table
from protok.bench.measures.locality import MANY

#: What the sets are called on the page, in their order.
SETS = {"valid": "validation chains", "casp14": "CASP14", "cameo2022": "CAMEO2022"}


def rows(name: str) -> list[tuple[str, str, dict]]:
    """(codebook, set, result) of the results whose codebook begins so, sets in their order."""
    chosen = []
    for key, result in records.read(RESULTS / "shapes.parquet").items():
        codebook, _, of = key.rpartition(" ")
        if codebook.startswith(name) and of in SETS:
            chosen.append((codebook, of, result))
    bits = (min(part["bits_a_residue"] for part in row[2]["reconstruction"].values()) for row in chosen)
    order = sorted(zip(chosen, bits, strict=True), key=lambda pair: ([*SETS].index(pair[0][1]), pair[1]))
    return [row for row, _ in order]


def rebuilt() -> str:
    """Reconstruction by spacing and length, the reference codec beside it."""
    head = [
        "",
        "bits a residue",
        "CA RMSD, Å: mean",
        "median",
        "TM-score",
        "lDDT",
        "RMSD by length (number of chains)",
    ]
    parts = []
    for _, of, result in rows("protok-1@"):
        body = [_row(f"keyframes each {s}", scores) for s, scores in sorted(_spacings(result), reverse=True)]
        for codebook, other, reference in rows("reference-codec"):
            if other == of:
                ((_, scores),) = _spacings(reference)
                body.append(_row(f"*{codebook.partition('@')[0].replace('-', ' ')} bits*", scores))
        chains = next(iter(result["reconstruction"].values()))["chains"]
        times = len(result["readings"])
        read = {1: "once", 2: "twice"}.get(times, f"{times} times")
        title = (
            f"**{SETS[of]}** ({chains} chains; read {read}: {', '.join(dict.fromkeys(result['readings']))})"
        )
        parts.append(f"{title}\n\n{table(head, body)}")
    return "\n\n".join(parts)


def _spacings(result: dict) -> list[tuple[int, dict]]:
    return [(int(spacing), scores) for spacing, scores in result["reconstruction"].items()]


def _row(name: str, scores: dict) -> list[str]:
    by_length = ", ".join(
        f"{bin_} {part['rmsd']:.2f} ({part['chains']})" for bin_, part in scores["by_length"].items()
    ).replace("-100000", " and more")
    numbers = [scores["bits_a_residue"], scores["rmsd"], scores["rmsd_median"]]
    return [
        name,
        *(f"{x:.2f}" for x in numbers),
        f"{scores['tm_score']:.3f}",
        f"{scores['lddt']:.3f}",
        by_length,
    ]


def kept() -> str:
    """What letters keep, and what wrong codes cost."""
    head = ["set", "what", "value"]
    body = []
    for _, of, result in rows("protok-1@"):
        each4 = result["reconstruction"]["4"]
        cut, noise, harm, slices = (result[key] for key in ("cut", "noise_0.2", "harm", "slices"))
        phi = each4["phi>0"]
        lines = {
            "perplexity of the letters": f"{result['perplexity']:.1f}",
            "letters that stay in a part alone: middle half / all but the last ten / first half": " / ".join(
                f"{cut[key]:.3f}" for key in ("middle half", "10 off the end", "first half")
            ),
            "letters that stay farther from a cut than a letter sees": f"{cut['beyond the window']:.4f}",
            "letters that stay under noise of .2 Å; what they tell of those before": f"{noise['kept']:.3f}; "
            f"{noise['mutual_information_bits']:.2f} bits",
            "letters that the mirror image changes": f"{result['mirror']:.3f}",
            "letters that a motion changes": f"{result['motion']:.4f}" if "motion" in result else "",
            "slices of 40 residues: RMSD decoded alone over that inside the chain": (
                f"{slices['ratio']:.2f} ({slices['alone']:.2f}, {slices['inside']:.2f} Å)"
            ),
            "letters alone: RMSD of stretches of 8 / 16 / 32 residues": " / ".join(
                f"{result['without_keyframes'][n]:.2f} Å" for n in ("8", "16", "32")
            ),
            "lDDT lost 16 positions off one wrong letter / keyframe: pairs on one side of it": " / ".join(
                f"{harm['lddt_lost_aside'][key]:.4f}" for key in ("letter", "keyframe")
            ),
            "the same, with pairs across it": " / ".join(
                f"{harm['lddt_lost_beyond'][key]:.3f}" for key in ("letter", "keyframe")
            ),
            "RMSD, Å: all right / one wrong letter / one wrong keyframe / 5 % wrong letters": " / ".join(
                f"{harm['rmsd'][key]:.2f}" for key in ("right", "letter", "keyframe", MANY)
            ),
            "lDDT lost with 5 % wrong letters, all residues": _spoiled(result),
            **{
                f"*{codebook.partition('@')[0].replace('-', ' ')} bits*: lDDT lost 16 positions off "
                "one wrong code, with pairs across; RMSD, Å: right / one / 5 % wrong; lDDT lost then": (
                    f"{other['harm']['lddt_lost_beyond']['letter']:.3f}; "
                    + " / ".join(f"{other['harm']['rmsd'][key]:.2f}" for key in ("right", "letter", MANY))
                    + f"; {_spoiled(other)}"
                )
                for codebook, at, other in rows("reference-codec-9")
                if at == of and "harm" in other
            },
            "rank correlation of confidence and true lDDT: each 16 / 8 / 4 / 2": " / ".join(
                f"{result['reconstruction'][s]['confidence_rank_correlation']:.2f}"
                for s in ("16", "8", "4", "2")
            ),
            "share of positive phi angles: decoded, real": ", ".join(
                f"{phi[key]['mean']:.3f}" for key in ("built", "real")
            ),
        }
        for key, title in {"C-N": "C-N bond, Å", "CA-C-N": "CA-C-N, °", "C-N-CA": "C-N-CA, °"}.items():
            built, real = each4[key]["built"], each4[key]["real"]
            lines[f"{title}: decoded, real (mean ± spread)"] = (
                f"{built['mean']:.3f} ± {built['spread']:.3f}, {real['mean']:.3f} ± {real['spread']:.3f}"
            )
        body += [[SETS[of], what, value] for what, value in lines.items() if value]
    for key, result in records.read(RESULTS / "shapes.parquet").items():
        if key.startswith("protok-1@") and key.endswith(" domains"):
            what = "letters that stay in a domain encoded without the rest of its chain"
            body.append([f"{result['domains']:,} domains", what, f"{result['kept']:.3f}"])
    if (scores := _of_complexes("protok-1@")) is not None:
        number = len(scores["rmsd_each"])
        body += [
            [f"{number} complexes", "CA RMSD, all chains superposed together", f"{scores['rmsd']:.2f} Å"],
            [
                f"{number} complexes",
                "CA pairs of different chains within 8 Å: share kept to within 2 Å",
                f"{scores['contacts_kept']:.3f}",
            ],
        ]
    return table(head, body)


def design() -> str:
    """The design search: what each change gives, at equal steps."""
    keys = ("4", "8", "16")
    head = ["variant", "change", *(f"RMSD each {key}, Å" for key in keys)]
    head += ["perplexity", "kept under noise", "middle half", "stretches of 32, Å"]
    head += ["multiply-adds a residue: encoding", "decoding"]
    body = []
    for name, result in records.read(RESULTS / "design.parquet").items():
        if name.startswith(KEY):
            continue
        scores = result["reconstruction"]
        changes = ", ".join(
            f"{key.removeprefix('model.')} {value}" for key, value in result["changes"].items()
        )
        letters = ["", "", "", ""]
        if "perplexity" in result:
            letters = [
                f"{result['perplexity']:.0f}",
                f"{result['noise_0.2']['kept']:.2f}",
                f"{result['cut']['middle half']:.3f}",
                f"{result['without_keyframes']['32']:.2f}" if "without_keyframes" in result else "",
            ]
        rmsds = [f"{scores[key]['rmsd']:.3f}" if key in scores else "" for key in keys]
        if not any(rmsds):
            rmsds = [f"whole chains {scores[key]['rmsd']:.1f}" for key in scores] + ["", ""]
        body.append([f"`{name}`", changes, *rmsds, *letters, *_cost(result["recipe"])])
    return table(head, sorted(body))


def _cost(recipe: dict) -> list[str]:
    """Thousands of multiply-adds a residue in the layers of a network: of letters and steps, of decoding."""
    from torch import nn

    from protok.model.network import ShapeNetwork
    from protok.training.config import read_recipe

    network = ShapeNetwork(read_recipe(None, recipe).model)

    def of(*parts: nn.Module) -> int:
        layers = (layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear))
        return sum(layer.weight.numel() for layer in layers)

    steps = of(network.trunk, network.step)
    return [f"{(of(network.encoder) + steps) / 1000:.0f} k", f"{(steps + of(network.refiner)) / 1000:.0f} k"]


def quality() -> str:
    """What each spacing rebuilds, in short: the test sets where they were read, else validation chains."""
    there = {(codebook.partition("@")[0], of): result for codebook, of, result in rows("")}
    read = [of for of in ("casp14", "cameo2022") if ("protok-1", of) in there] or ["valid"]
    measures = {"rmsd": ("CA RMSD (Å)", 2), "tm_score": ("TM-score", 3), "lddt": ("lDDT", 3)}
    spacings = sorted(there["protok-1", read[0]]["reconstruction"], key=int, reverse=True)
    lines = {f"`protok-1`, keyframes each {s}": ("protok-1", s) for s in spacings}
    codecs = {name for name, of in there if name.startswith("reference-codec") and of == read[0]}
    for name in sorted(codecs, key=lambda name: int(name.rpartition("-")[2])):
        ((spacing, _),) = there[name, read[0]]["reconstruction"].items()
        lines[f"*{name.replace('-', ' ')} bits*"] = name, spacing
    body = []
    for title, (name, spacing) in lines.items():
        scores = [there[name, of]["reconstruction"][spacing] for of in read]
        body.append([title, " / ".join(f"{part['bits_a_residue']:.1f}" for part in scores)])
        body[-1] += [f"{part[key]:.{d}f}" for key, (_, d) in measures.items() for part in scores]
        bins = scores[-1]["by_length"]
        body[-1].append(" / ".join(f"{bins[key]['rmsd']:.2f}" for key in ("100-200", "300-1000")))
    head = ["", "bits a residue, " + " / ".join(SETS[of] for of in read)]
    head += [f"{name}, {SETS[of]}" for name, _ in measures.values() for of in read]
    head.append(f"RMSD of 100 to 200 / over 300 residues, {SETS[read[-1]]}")
    return table(head, body)


def beside() -> str:
    """The same measures of the models that came before, and what they cost."""
    names = ("protok-1@", *speed.BEFORE)
    head = ["of validation chains where no other set is named", "protok-1, keyframes each 4", *speed.BEFORE]
    results = [{of: result for _, of, result in rows(name)} for name in names]
    valid = [r["valid"] for r in results]
    body = [
        ["bits a residue", *(f"{_four(r)['bits_a_residue']:.2f}" for r in valid)],
        ["bits that one small language model cannot foretell", *_foretold()],
    ]
    for of, title in SETS.items():
        scores = [_four(r[of]) if of in r else None for r in results]
        texts = (
            f"{s['rmsd']:.2f} Å, {s['tm_score']:.3f}, {s['lddt']:.3f}" if s else "not read" for s in scores
        )
        body.append([f"CA RMSD, TM-score, lDDT: {title}", *texts])
    lengths = ("100-200", "300-1000")
    texts = (" / ".join(f"{_four(r)['by_length'][n]['rmsd']:.2f} Å" for n in lengths) for r in valid)
    body.append(["CA RMSD of chains of 100 to 200 / 300 to 1,000 residues", *texts])
    together = [_of_complexes(name) for name in names]
    texts = (f"{c['rmsd']:.2f} Å, {c['contacts_kept']:.3f}" if c else "not read" for c in together)
    body.append(["complexes: all chains together, touching pairs kept", *texts])
    for key in ("middle half", "10 off the end", "first half"):
        body.append([f"codes kept: {key}", *(f"{r['cut'][key]:.3f}" for r in valid)])
    texts = (f"{r['slices']['alone']:.2f} Å" if "slices" in r else "cannot be decoded alone" for r in valid)
    body.append(["40 residues out of a chain, decoded from their codes alone", *texts])
    noise = (r["noise_0.2"] for r in valid)
    texts = (f"{n['kept']:.3f}; {n['mutual_information_bits']:.2f} bits" for n in noise)
    body.append(["codes kept under noise of .2 Å; mutual information", *texts])
    body.append(["perplexity", *(f"{r['perplexity']:.0f}" for r in valid)])
    harm = (r["harm"] for r in valid)
    texts = (f"{h['lddt_lost_beyond']['letter']:.3f}; {h['rmsd']['5 % of letters']:.1f} Å" for h in harm)
    body.append(["lDDT lost beyond 16 positions by one wrong code; RMSD with 5 % wrong", *texts])
    phi = (_four(r)["phi>0"] for r in valid)
    body.append(
        ["positive phi, built (real)", *(f"{p['built']['mean']:.1%} ({p['real']['mean']:.1%})" for p in phi)]
    )
    return table(head, body + speed.beside())


def _four(result: dict) -> dict:
    """Scores with keyframes each 4, or of a model that has none."""
    return result["reconstruction"].get("4") or result["reconstruction"]["0"]


def _spoiled(result: dict) -> str:
    return f"{lost[MANY]:.3f}" if (lost := result["harm"].get("lddt_lost")) else ""


def _of_complexes(name: str) -> dict | None:
    for key, result in records.read(RESULTS / "shapes.parquet").items():
        if key.startswith(name) and key.endswith(" complexes"):
            return result["complexes"]
    return None


def _foretold() -> list[str]:
    """Bits a residue by `benchmarks.accuracy.language_model`, of protok-1 and of those before."""
    texts = []
    for name in ("protok-1@", *speed.BEFORE):
        parts = {
            (result["layout"], str(result["keyframes_each"])): result["bits_a_residue"]
            for key, result in records.read(RESULTS / "shapes.parquet").items()
            if key.startswith(name) and " foretold " in key and not result.get("environments")
        }
        if name in speed.BEFORE:
            texts.append(f"{parts['letters', '0']:.2f}" if parts else "not measured")
            continue
        words = {
            ("blocks", "4"): "keyframes each 4",
            ("blocks", "8"): "each 8",
            ("letters", "0"): "letters alone, which say no place",
        }
        texts.append(
            ", ".join(
                f"{parts[key]:.2f} ({word})" if key in parts else f"not measured ({word})"
                for key, word in words.items()
            )
        )
    return texts
