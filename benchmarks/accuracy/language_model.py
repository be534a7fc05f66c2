"""What tokens cost under one small language model: bits a residue that it cannot foretell.

    python -m benchmarks.accuracy.language_model --model protok-1 3di

The same transformer learns rows of each tokenizer (of protok-1: letters alone, blocks with a keyframe each
eight and each four residues, keyframes first; of a model with environment letters also rows with these) on
the same chains of the training store, for the same steps, and foretells chains of the validation store.
Nominal bits say what a string takes to store; these, what there is to learn. Beside it stands what tables
of counts foretell (`protok.prior.markov`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import protok
from benchmarks import records
from benchmarks.accuracy.shapes import valid_chains
from benchmarks.command import without_traceback
from benchmarks.paths import RESULTS, RUNS, SHARED
from benchmarks.tables.provenance import digest, provenance
from protok.structure.backbone import Backbone
from protok.structure.store import read_store
from protok.tokenizers.protocol import HasEnvironments, HasKeyframes, Tokenizer, encode_each
from protok.tokens.files import load, save
from protok.tokens.layouts import BLOCKS, FIRST, LETTERS

#: Chains to learn from and to foretell, and residues of the longest.
TRAIN, VALID, LONGEST = 2000, 100, 512
MODEL = {"layers": 3, "width": 128, "heads": 4}
OPTIM = {"steps": 400, "batch": 2048, "lr": 2e-3, "lr_warmup_steps": 40, "precision": "32"}


def rows_of(tokenizer: Tokenizer) -> list[tuple[str, int, bool]]:
    """Layouts, spacings, and whether environment letters are learned too, that are compared."""
    if not isinstance(tokenizer, HasKeyframes):
        return [(LETTERS, 0, False)]
    rows = [(LETTERS, 8, False), (BLOCKS, 8, False), (BLOCKS, 4, False), (FIRST, 8, False)]
    if isinstance(tokenizer, HasEnvironments) and tokenizer.environment is not None:
        rows += [(LETTERS, 8, True), (BLOCKS, 8, True)]
    return rows


def foretold(
    tokenizer: Tokenizer, layout: str, spacing: int, around: bool, chains: dict[str, list[Backbone]]
) -> dict:
    """Bits a residue of the validation chains, all and by kind of token, and what the model was."""
    from protok.prior import Prior
    from protok.prior.corpus import read_corpus
    from protok.prior.markov import Markov
    from protok.prior.training import run

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.parquet") for name in chains}
        for name, structures in chains.items():
            options = {"keyframes": spacing} if isinstance(tokenizer, HasKeyframes) else {}
            options |= {"environments": around} if isinstance(tokenizer, HasEnvironments) else {}
            save(encode_each(tokenizer, structures, **options), files[name])
        overrides = {f"model.{key}": value for key, value in MODEL.items()}
        overrides |= {f"optim.{key}": value for key, value in OPTIM.items()}
        overrides |= {"data.valid": str(files["valid"]), "data.longest": LONGEST, "data.layout": layout}
        overrides |= {"data.environments": around}
        overrides |= {"valid.every": OPTIM["steps"], "valid.records": VALID}
        prior = Prior.from_pretrained(
            run(tokens=files["train"], out=Path(folder, "run"), overrides=overrides)
        )
        corpus = read_corpus(files["valid"], LONGEST, layout, environments=around)
        markov, read = Markov.of(load(files["train"])), load(files["valid"])
    rows = [prior.layout.row(codes) for codes in corpus.codes]
    ids, bits = np.concatenate([row.ids for row in rows]), np.concatenate(prior.bits_each(rows))
    residues = sum(int((letters >= 0).sum()) for letters in corpus.letters())
    words = prior.layout.vocabulary
    by_kind = {
        kind: float(np.nansum(bits[(ids >= own.start) & (ids < own.stop)]) / residues)
        for kind, own in words.kinds.items()
    }
    counted = np.sum([markov.bits(chain) for chain in read], 0) / residues
    return {
        "layout": layout,
        "keyframes_each": 0 if layout == LETTERS else spacing,
        "environments": words.around,
        "bits_a_residue": float(np.nansum(bits) / residues),
        "bits_by_kind": by_kind,
        "markov_bits_a_residue": {
            "letters": counted[0],
            "keyframes": 0.0 if layout == LETTERS else counted[1],
        },
        "chains": len(rows),
        "parameters": prior.provenance["parameters"],
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["protok-1"], help="names or folders")
    parser.add_argument("--train", type=Path, default=RUNS / "data" / "train.parquet")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "shapes.parquet")
    options = parser.parse_args(arguments)
    store = read_store(options.train)
    short = np.flatnonzero(store.lengths() <= LONGEST)
    picked = np.random.default_rng(0).choice(short, min(TRAIN, len(short)), replace=False)
    chains = {
        "train": [store.backbone(int(i)) for i in picked],
        "valid": [c for c in valid_chains(options.data, VALID) if len(c) <= LONGEST],
    }
    files = [options.train, options.data / "structures" / "valid.parquet"]
    command = "python -m benchmarks.accuracy.language_model " + " ".join(sys.argv[1:])
    for model in options.model:
        tokenizer = protok.load(model)
        for layout, spacing, around in rows_of(tokenizer):
            result = foretold(tokenizer, layout, spacing, around, chains)
            name = f"{tokenizer.codebook} foretold {layout} {result['keyframes_each']}"
            name += " environments" * around
            about = {"seed": 0, "data_sha256": digest(files), "model": MODEL | OPTIM}
            records.put(options.out, name, {"name": name, **provenance(command, **about, **result)})
            print(name, result, flush=True)


if __name__ == "__main__":
    without_traceback(main)
