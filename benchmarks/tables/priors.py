"""Tables of priors over codes of proteins, from `benchmarks.quantizers.prior_samples`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table

NONE = "*not measured yet*"
#: Controls, as the table calls them.
CONTROLS = {
    "native": "native chains",
    "decoded": "native chains, decoded",
    "shuffled": "the same, their blocks in another order",
    "markov": "order-3 Markov model",
}
#: Columns: what is read of a set, and how it is written.
COLUMNS = {
    "n": ("chains", "d"),
    "valid": ("valid", ".0%"),
    "CA clashes a residue": ("clashes mean", ".3f"),
    "sound C-N": ("bonds mean", ".1%"),
    "sound angles": ("angles mean", ".1%"),
    "Ramachandran outliers": ("outliers mean", ".1%"),
    "helix (spread)": ("helix mean", ".0%", "helix spread", ".0%"),
    "strand (spread)": ("strand mean", ".0%", "strand spread", ".0%"),
    "contact order (spread)": ("contact_order mean", ".3f", "contact_order spread", ".3f"),
    "radius over expected: median": ("compactness median", ".2f"),
    "ProteinMPNN": ("mpnn mean", ".2f"),
    "confidence": ("confidence mean", ".0f"),
    "TM-score of pairs": ("diversity tm_score", ".2f"),
    "clusters of valid ones": ("diversity clusters", "d"),
    "TM-score to the likest training chain": ("novelty tm_score", ".2f"),
    "novel (below 0.5)": ("novelty novel", ".0%"),
    "copies (0.8)": ("novelty copies", ".0%"),
}


#: The prior of the codes before `protok-1`, which has a table of its own.
BEFORE = "prior of protok 0 (place codes)"


def _settings(before: bool = False) -> Iterator[tuple[str, str, dict]]:
    """Prior, name of the setting, result, of priors over chains."""
    for result in records.read(RESULTS / "prior_samples.parquet").values():
        if (result["prior"] == BEFORE) != before:
            continue
        for name, setting in result["settings"].items():
            if "sets" in setting:
                yield result["prior"], name, setting


def _written(of: dict, name: str, form: str) -> str:
    value = of
    for key in name.split():
        # Place codes were scored before some measures were there.
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else format(value, form)


def samples(before: bool = False) -> str:
    """Samples of priors, beside controls."""
    body: dict[tuple[str, ...], list[str]] = {}
    for prior, name, setting in _settings(before):
        for key, of in setting["sets"].items():
            what = CONTROLS.get(key, name)
            row = []
            for first, form, *second in COLUMNS.values():
                text = _written(of, first, form)
                further = _written(of, *second) if second else ""
                row.append(f"{text} ({further})" if further else text)
            # Settings share their controls where the lengths are the same.
            body.setdefault((prior, what, *row), [prior, what, *row])
    if not body:
        return NONE
    # Columns that no row has are left out.
    head = ["prior", "chains", *COLUMNS]
    kept = [i for i in range(len(head)) if any(row[i] for row in body.values())]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in body.values()])


def samples_before() -> str:
    """Those of place codes."""
    return samples(before=True)


def bars() -> str:
    """What samples have to reach."""
    body = []
    for prior, name, setting in _settings():
        for row in setting.get("bars", ()):
            got = "not measured" if row["got"] is None else f"{row['got']:.3g}"
            met = "" if row["met"] is None else ("yes" if row["met"] else "no")
            body.append([prior, name, row["bar"], row["wanted"], got, met])
    return table(["prior", "samples", "bar", "wanted", "got", "met"], body) if body else NONE


def layouts() -> str:
    """What layouts of tokens leave to foretell, by `benchmarks.accuracy.language_model`."""
    kinds = ("letters", "keyframes", "environments")
    head = ["tokens", "layout", "keyframes each", "bits a residue", *kinds]
    head += ["order-3 Markov model: letters", "keyframes by their letter"]
    body = []
    for key, result in records.read(RESULTS / "shapes.parquet").items():
        if " foretold " not in key:
            continue
        layout = result["layout"] + " with environments" * bool(result.get("environments"))
        each = str(result["keyframes_each"] or "")
        row = [key.partition(" foretold ")[0], layout, each, f"{result['bits_a_residue']:.2f}"]
        parts, counted = result.get("bits_by_kind", {}), result.get("markov_bits_a_residue", {})
        row += [f"{parts[kind]:.2f}" if parts.get(kind) else "" for kind in kinds]
        body.append(row + [f"{counted[kind]:.2f}" if counted.get(kind) else "" for kind in kinds[:2]])
    return table(head, sorted(body)) if body else NONE
