"""Tables of the second alphabet: what each target and size gives."""

from __future__ import annotations

from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table

#: Before the name of a variant, in a file that has the variants of shapes too.
KEY = "environment "
#: What letters tell of chains that are kept aside: bits, or shares of variance.
TOLD = {
    "kind": "residue type, bits",
    "profile": "profile, bits",
    "partner": "profile of the partner, bits",
    "near": "types within 8 Å, bits",
    "fold": "secondary structure, bits",
    "surface_0": "accessibility, share of variance",
    "surface_1": "depth, share",
    "surface_2": "entropy of the profile, share",
}


def variants() -> dict[str, dict]:
    """Results of the design search, by variant."""
    there = records.read(RESULTS / "design.parquet")
    return {name.removeprefix(KEY): result for name, result in there.items() if name.startswith(KEY)}


def design() -> str:
    """Variants of the recipe: single letters on validation sides, letters kept, bits of homologs."""
    head = ["variant", "change", "AUROC within proteins", "bits saved by a homolog", "kept at .2 Å noise"]
    body = []
    for name, result in variants().items():
        held = result["held_out"]
        changes = ", ".join(f"{key} {value}" for key, value in result["changes"].items())
        scores = [f"{result['auroc_within']:.3f}" if "auroc_within" in result else ""]
        bits = result.get("homolog_bits")
        scores += [f"{bits['value']:.2f} ± {bits['se']:.2f}" if bits else ""]
        keys = ("valid_noise", "valid_middle", "valid_perplexity")
        scores += [f"{held[key]:.3g}" if key in held else "" for key in keys]
        body.append([f"`{name}`", changes, *scores])
    if not body:
        return "No variant has been measured yet."
    return table([*head, "middle half", "perplexity"], body)


def told() -> str:
    """What the letters of each variant, or the latents of one without, tell of each target."""
    body = []
    for name, result in variants().items():
        values = (result["held_out"].get(f"bits_{key}") for key in TOLD)
        body.append([f"`{name}`", *("" if value is None else f"{value:.3f}" for value in values)])
    return table(["variant", *TOLD.values()], body) if body else "No variant has been measured yet."
