"""The card of a trained model: where it comes from and, of fine-tuning, what changed and what it gave."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from protok.common.card import PROTEIN_TAGS, Measured, front_matter, model_index
from protok.common.hub import parse
from protok.training.correspondence import in_words
from protok.training.report import MEASURES, scores

#: What became of the codes, by the way of fine-tuning.
CODES = {
    "frozen": "frozen. Letters, step network and keyframes are those of the base, so tokens of one are "
    "tokens of the other, with the same fingerprint; refiner and confidence were trained.",
    "adapted": "adapted. Letters, step network and keyframes went on learning; tokens of the base do not "
    "fit, encode anew.",
    "new": "new. Letters and keyframes were placed anew; tokens of the base do not fit, encode anew.",
}


def card(codebook: str, letters: int, made: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    """The card of a model, in Markdown with front matter for the Hugging Face Hub.

    Parameters
    ----------
    codebook
        ``name@fingerprint``.
    letters
        How many there are.
    made
        Provenance, as in its ``config.json``.
    report
        Of fine-tuning (``report.json``); None for a model trained from scratch. A licence is for its author
        to choose, and no path of the machine is named.
    """
    name, recipe = codebook.partition("@")[0], made["recipe"]
    head: dict[str, Any] = {"tags": PROTEIN_TAGS}
    lines = [
        f"A tokenizer of protein backbones with {letters} letters and keyframes, trained with protok "
        f"{version('protok')}: `protok.load` of this folder, or of `hf:` and its name on the Hub.",
        "",
    ]
    if report is not None:
        init = recipe["finetune"]["init"]
        if init.startswith("hf:"):
            head["base_model"] = parse(init)[0]
        lines += [f"- **Base model**: `{report['before']}`.", f"- **Codebook**: {CODES[report['codebook']]}"]
    lines += [
        f"- **Data**: {made['train_chains']} training chains; sha256 of the store: `{made['train_sha256']}`.",
        f"- **Training**: seed {made['seed']}, {made['steps']} steps, weights of step {made['best_step']}; "
        f"{made['hardware']}, torch {made['torch']}. The recipe as resolved is in `config.json`.",
    ]
    if report is None:
        named = {key.removeprefix("valid_"): value for key, value in made["validation"].items()}
        measured = ", ".join(f"{key} {value}" for key, value in named.items())
        lines += [f"- **Validation**: {measured}.", ""]
    else:
        head["metrics"] = list(MEASURES)
        head["model-index"] = model_index(
            name,
            "Reconstruction from codes",
            [
                Measured(group["name"], key, title, round(group[key]["after"], digits))
                for group in report["sets"]
                for key, (_, digits, title) in MEASURES.items()
            ],
        )
        lines += [
            "",
            "Before and after, means over chains with the usual keyframes:",
            "",
            scores(report["sets"]),
        ]
        if letters_of := report.get("letters"):
            lines += ["", in_words(letters_of)]
        lines.append("")
    return f"{front_matter(head)}\n\n# {codebook}\n\n" + "\n".join(lines)
