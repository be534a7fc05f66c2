"""Write a shipped model's card from its configuration and its result file.

python -m benchmarks.tables.model_card protok-512 --hardware "2 cores of an AMD EPYC, bf16" --hours 1.4

A model that was trained in several runs, each from the weights of the one before, has `--recipe` once a run. If the
last of them trained a decoder alone, `--codes-from` is the configuration of the run before:
recipes/protein/protok-512-sites/4-gpu.json, which its model's folder had.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import protok
from benchmarks import records
from benchmarks.paths import RESULTS
from benchmarks.tables.markdown import table

TEXT = """# {codebook}

A tokenizer of protein backbones: one of {size} codes a residue, and a decoder from codes to N, CA, C and O.

- **Data**: {chains} chains (experimental structures of the PDB and about a fifth predicted ones), drawn with weight 1 / size
  of their cluster at 30 % sequence identity. Homologs of CASP14, CAMEO 2022 and the conformational
  test sets are not among them{exclude}. sha256 of the store: `{data}`.
- **Command**: {command_of_training}; seed {seed}, {steps} steps{last}.
  The recipe as resolved is in `config.json`.
- **Hardware and time**: {hardware}; {hours} hours. torch {torch}.{note}
- **Training signal**: {signal}.
- **Network**: {layers} rounds of messages over {neighbours} neighbours (width {hidden}){sight}, to {dim} dimensions;
  {codes}; decoder of
  {blocks} transformer blocks of width {width}. Encoder and codebook are kept in float32, the decoder in float16.
- **Validation** (held-out clusters, {valid_n} chains of at most {valid_l} residues): {valid}.

Test sets, codes only, mean over targets (`{command}`):

{scores}

**Licence**: Apache-2.0.

**Limits**: trained on single chains and crops of at most {crop} residues; longer chains are rebuilt less
well, and chains are never placed relative to each other. Codes do not see amino acid types. {limits}The
confidence in the B-factor column, 0 to 100, is the CA lDDT that the decoder expects; its mean over these
targets is {sure}, the true mean {lddt}, and it correlates with the true lDDT at r = {corr}.
"""
#: What a model whose encoder sees the whole chain has to say for itself.
SIGHT = ", which see where a residue lies and how it is turned in the frame of its chain"
LIMITS = """A code
says where a residue lies in the frame of its whole chain as well as what is around it: a chain that is cut, or
has another domain, has other codes everywhere. """


#: What is asked of a model that must name amino acids.
RESIDUE_TYPES = """. Heads that are thrown away
  must name the amino acid from encoder states (weight {}), the code ({}) and decoder states ({})"""

#: What is asked of a model that has a teacher.
DISTILLED_STATES = """. Such heads must also predict the states of
  `{teacher}`{encoder_warmup}: encoder states (weight {states}) of the residue, the code
  ({code}) also their means within {around} Å. ProteinMPNN is by others (Dauparas et al. 2022, MIT licence); it is not part of this model, and
  which tested chains its own training on the PDB has seen was not looked up"""

#: What else was asked of a decoder that was trained alone, last.
ALONE = """. The last run trained the decoder alone,
  around frozen codes; its states had to predict those of the teacher too (weight {})"""

#: How an encoder that is distilled begins.
ENCODER_WARMUP = " (after {:,} steps in which the encoder learns nothing but this)"

#: How a model is trained, on what, and where its codes are from.
SCRATCH = (
    "{runs}",
    "coordinates with noise of up to {coordinate_noise} Å are encoded and the clean ones decoded; the "
    "latents' drift under\n  the noise has weight {consistency_weight}{residue_types}{distilled}{alone}",
    "`{kind}` with {size} codes, {schedule} schedule, continuous share {continuous_share}, ramp {ramp}, estimator `{estimator}`",
)


def main() -> None:
    """Write the card of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--hours", required=True)
    parser.add_argument("--recipe", action="append", default=[], help="one a run; the model's name")
    parser.add_argument("--codes-from", type=Path, help="config.json of a model; the shipped one's")
    parser.add_argument("--note", default="", help="what else happened in the run")
    options = parser.parse_args()
    folder = Path(protok.__file__).parent / "weights" / options.model
    config = json.loads((folder / "config.json").read_text())
    result = records.read(RESULTS / "reconstruction.parquet")[options.model]
    coder = json.loads((options.codes_from or folder / "config.json").read_text())
    if coder["codebook"] != config["codebook"]:
        raise SystemExit(f"codes of {options.codes_from} are {coder['codebook']}, not {config['codebook']}")
    origin, shape = config["provenance"], config["model"]
    recipe, decoder = coder["provenance"]["recipe"], origin["recipe"]
    rows = [
        [
            name,
            str(len(s["targets"])),
            f"{s['mean']['rmsd']:.2f}",
            f"{s['mean']['tm_score']:.3f}",
            f"{s['mean']['lddt']:.3f}",
            f"{s['codes_used']:.1%}",
            f"{s['perplexity']:.0f}",
        ]
        for name, s in result["sets"].items()
    ]
    head = ["set", "targets", "CA RMSD, Å", "TM-score", "lDDT", "codes used", "perplexity"]
    optim, recipes = recipe["optim"], options.recipe or [shape["name"]]
    valid = origin["validation"]
    asked, taught = optim.get("residue_type_weights", []), optim.get("distill_weights", [])
    fields = {
        "distilled": DISTILLED_STATES.format(
            teacher=origin["states_of"],
            states=taught[0],
            code=taught[1],
            encoder_warmup=ENCODER_WARMUP.format(optim["encoder_warmup_steps"])
            if optim["encoder_warmup_steps"]
            else "",
            around=" and ".join(f"{r:g}" for r in optim["distill_radii"]),
        )
        if any(taught)
        else "",
        "runs": ", ".join(
            f"`protok train recipes/protein/{name}.toml --out runs/{name}`" for name in recipes
        ),
        "residue_types": RESIDUE_TYPES.format(*asked) if any(asked) else "",
        "coordinate_noise": optim["coordinate_noise"],
        "consistency_weight": optim["consistency_weight"],
        "alone": ALONE.format(decoder["optim"]["distill_weights"][2]) if options.codes_from else "",
        **coder["model"]["quantizer"],
    }
    command, signal, codes = (part.format(**fields) for part in SCRATCH)
    unseen = recipe["data"].get("exclude")
    text = TEXT.format(
        exclude=unseen
        and f", nor are chains like those that the tables of the leaderboard test on (`{unseen}`)"
        or "",
        command_of_training=command,
        signal=signal,
        codes=codes,
        codebook=config["codebook"],
        size=shape["quantizer"]["size"],
        chains=origin["train_chains"],
        data=origin["train_sha256"],
        seed=origin["seed"],
        steps=origin["steps"],
        last=" of the last" if len(recipes) > 1 else "",
        torch=origin["torch"],
        hardware=options.hardware,
        hours=options.hours,
        sight=SIGHT * shape["encoder"]["global_frame"],
        limits=LIMITS * shape["encoder"]["global_frame"],
        note=options.note and f"\n- **The run**: {options.note}",
        **shape["encoder"],
        dim=shape["quantizer"]["dim"],
        blocks=shape["decoder"]["layers"],
        width=shape["decoder"]["width"],
        valid_n=decoder["valid"]["chains"],
        valid_l=decoder["valid"]["longest"],
        valid=", ".join(f"{k.removeprefix('valid_')} {v:.4g}" for k, v in valid.items()),
        command=result["command"],
        scores=table(head, rows),
        crop=decoder["data"]["curriculum"][-1][1],
        sure=", ".join(f"{s['mean']['confidence']:.0f} ({n})" for n, s in result["sets"].items()),
        lddt=", ".join(f"{100 * s['mean']['lddt']:.0f} ({n})" for n, s in result["sets"].items()),
        corr=", ".join(f"{s['confidence_correlates_with_lddt']} ({n})" for n, s in result["sets"].items()),
    )
    (folder / "README.md").write_text(text)
    print(f"wrote {folder / 'README.md'}")


if __name__ == "__main__":
    main()
