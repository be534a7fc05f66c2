"""The command line of images: `protok image encode | decode | train | score | info`.

Arguments are parsed and results printed here; torch is imported when a command needs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from protok.cli.encode import run_job, set_timeout, work_arguments
from protok.cli.options import (
    FAILED,
    OK,
    USAGE,
    add_verbs,
    count,
    device_argument,
    number,
    out_file,
    out_folder,
    print_json,
    print_result,
    run_arguments,
    run_training,
    say,
    tell,
    verbosity_arguments,
)

if TYPE_CHECKING:
    from protok.pipeline.encode import Summary

MODEL = "protok-image"
#: Images that are decoded together.
BATCH = 32


def add_image(commands, command: Callable) -> None:
    """Add `image` and its verbs to the commands; `command` makes a parser of one."""
    what = "the same for images: encode, decode, train, score, info"
    verbs = add_verbs(commands, "image", what, "Images to discrete codes and back.")

    verb = command(verbs, "encode", "image files to codes", _encode)
    verb.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, folders, .npz files; the folder of a class stands in an image's name",
    )
    verb.add_argument("-o", "--out", required=True, type=out_file, metavar="FILE.npz", help="for the codes")
    verb.add_argument("--model", default=MODEL, help=f"name or folder (default: {MODEL})")
    work_arguments(verb)
    verb.add_argument(
        "--size",
        type=number,
        metavar="N",
        help="scale images first, so that the shorter side has N pixels (default: as they are)",
    )
    verb.add_argument("--square", action="store_true", help="cut the middle square out of scaled images")
    verb.add_argument("--mirror", action="store_true", help="encode mirror images too, as NAME-mirrored")
    verb.add_argument(
        "--part",
        choices=("train", "valid"),
        default="train",
        help="which images of an .npz file that holds both (default: train)",
    )
    verb.add_argument("--levels", type=number, metavar="M", help="keep the first M levels only")
    verb.add_argument(
        "--sheet",
        type=out_file,
        metavar="FILE.png",
        help="write 12 originals above what each number of levels makes of them",
    )

    verb = command(verbs, "decode", "codes to PNG files", _decode)
    verb.add_argument("codes", metavar="CODES.npz", help="as written by protok image encode")
    verb.add_argument("-o", "--out", required=True, type=out_folder, metavar="FOLDER", help="for NAME.png")
    verb.add_argument("--model", help="name or folder (default: the model that the codes name)")
    device_argument(verb)
    verb.add_argument("--levels", type=number, metavar="M", help="use the first M levels only")
    verb.add_argument("--json", action="store_true", help="print a summary as JSON")
    verbosity_arguments(verb)

    verb = command(verbs, "train", "train or fine-tune an image tokenizer", _train)
    verb.add_argument(
        "--images",
        metavar="DIR",
        help="folder of images, of one folder a class, or of train/ and val/; or an .npz file",
    )
    verb.add_argument("--init", metavar="MODEL", help="start from this model's weights")
    run_arguments(verb)

    verb = command(verbs, "score", "reconstruct images and say how well", _score)
    verb.add_argument("images", metavar="DIR", help="folder or .npz of images; its val/ if it has")
    _model_argument(verb)
    verb.add_argument(
        "--size", type=number, metavar="N", help="squares of N pixels (needed unless all images are alike)"
    )
    verb.add_argument("--levels", type=number, metavar="M", help="use the first M levels only")
    verb.add_argument(
        "--progressive", action="store_true", help="score every prefix of the levels, with its bits per pixel"
    )
    verb.add_argument("--most", type=number, metavar="N", help="at most N images, evenly spread")
    verb.add_argument("--inception", metavar="FILE", help="Inception weights of torch-fidelity: rFID too")
    verb.add_argument(
        "--sheet",
        type=out_file,
        metavar="FILE.png",
        help="write 12 originals above their reconstructions (with --progressive: of each prefix)",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")

    verb = command(verbs, "info", "say what an image model or a file of codes is", _info)
    verb.add_argument("what", nargs="?", default=MODEL, help=f"default: the model {MODEL}")
    verb.add_argument("--json", action="store_true", help="print JSON")


def _model_argument(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", default=MODEL, help=f"name or folder (default: {MODEL})")
    device_argument(verb)


def _encode(arguments: argparse.Namespace) -> int:
    from protok.image.tokenizer import ImageTokenizer
    from protok.pipeline.images import ImageOptions, draw_codes, encode_images

    tokenizer = ImageTokenizer.from_pretrained(arguments.model)
    if arguments.device != "cpu" and arguments.jobs > 1:
        say("error: --device goes with one process")
        return USAGE
    tokenizer.to(arguments.device)
    set_timeout(arguments)
    reading = ImageOptions(arguments.size, arguments.square, arguments.mirror, arguments.levels)
    settings = {key: getattr(arguments, key) for key in ("part", "jobs", "on_error", "errors", "overwrite")}

    def job() -> Summary:
        return encode_images(
            arguments.inputs, tokenizer, arguments.out, options=reading, timeout=arguments.timeout, **settings
        )

    code = run_job(arguments, job, units=("image", "code"))
    if arguments.sheet and arguments.out.exists():
        draw_codes(arguments.inputs, tokenizer, arguments.out, arguments.sheet, arguments.part, reading)
    return code


def _levels_fit(levels: int | None, there: int) -> bool:
    fit = levels is None or levels <= there
    if not fit:
        say(f"error: --levels {levels}: the codes have {count(there, 'level')}")
    return fit


def _summary(tokens: list) -> dict:
    return {
        "images": len(tokens),
        "codes": sum(map(len, tokens)),
        "codebook": sorted({image.codebook for image in tokens}),
        "size": sorted({image.size for image in tokens}),
        "levels": sorted({image.levels for image in tokens}),
        "bits_per_pixel": sum(image.bits_per_pixel for image in tokens) / max(1, len(tokens)),
    }


def _coded(tokens: list) -> dict:
    """Bits per pixel with an entropy coder, where the model is at hand and says the chances of its codes."""
    from protok.common.checkpoint import named_in
    from protok.errors import ProtokError
    from protok.image.coding import code_lengths
    from protok.image.tokenizer import KIND, ImageTokenizer

    try:
        tokenizer = ImageTokenizer.from_pretrained(named_in(tokens[0].codebook, KIND))
        lengths = code_lengths(tokenizer, tokens)
    except (ProtokError, IndexError):
        return {}
    share = [n / (image.height * image.width) for n, image in zip(lengths, tokens, strict=True)]
    return {"bits_per_pixel_entropy_coded": sum(share) / len(share)}


def _decode(arguments: argparse.Namespace) -> int:
    from protok.common.checkpoint import named_in
    from protok.common.grouping import numbered
    from protok.common.progress import show_progress
    from protok.image.pixels import inside, write_pixels
    from protok.image.tokenizer import KIND, ImageTokenizer
    from protok.image.tokens import load_codes

    tokens = load_codes(arguments.codes)
    if not tokens:
        say(f"error: {arguments.codes}: holds no images")
        return USAGE
    if not _levels_fit(arguments.levels, min(image.levels for image in tokens)):
        return USAGE
    name = arguments.model or named_in(tokens[0].codebook, KIND, file=arguments.codes)
    tokenizer = ImageTokenizer.from_pretrained(name).to(arguments.device)
    # Two images in one file would be one.
    names = numbered([image.name or str(i) for i, image in enumerate(tokens)], "-")
    tokens = [image.prefix(arguments.levels) for image in tokens]
    bits = sum(image.bits_per_pixel / len(tokens) for image in tokens)
    written = []
    with show_progress("decoding", len(tokens)) as advance:
        for start in range(0, len(tokens), BATCH):
            for pixels in tokenizer.decode_batch(tokens[start : start + BATCH]):
                path = inside(arguments.out, f"{names[len(written)]}.png")
                written.append(str(write_pixels(pixels, path)))
                advance(1)
    if arguments.json:
        print_json({"codebook": tokenizer.codebook, "bits_per_pixel": bits, "files": written})
    tell(
        f"{count(len(written), 'image')} in {arguments.out} ({tokenizer.codebook}), {bits:.3g} bits per pixel"
    )
    return OK


def _train(arguments: argparse.Namespace) -> int:
    data = {"images": arguments.images, "init": arguments.init}
    use = "the model is in {model}; use it with --model {model}"
    return run_training(arguments, "protok.image.training", use, **data)


def _score(arguments: argparse.Namespace) -> int:
    from protok.image.evaluate import progressive, score
    from protok.image.tokenizer import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(arguments.model).to(arguments.device)
    if not _levels_fit(arguments.levels, tokenizer.levels):
        return USAGE
    options = {key: getattr(arguments, key) for key in ("size", "most", "inception", "sheet")}
    if arguments.progressive:
        rows = progressive(tokenizer, arguments.images, **options)
        _complain(rows[0]["failed"])
        if arguments.json:
            print_json(rows)
        else:
            for row in rows:
                scores = ", ".join(f"{k} {row[k]:.4g}" for k in ("psnr", "ssim", "mse"))
                coded = row.get("coded_bits_per_pixel")
                coded = "" if coded is None else f" ({coded:.3g} entropy-coded)"
                print(f"{row['bits_per_pixel']:.3g} bits per pixel{coded}: {scores}")
        return FAILED if rows[0]["failed"] else OK
    scores = score(tokenizer, arguments.images, levels=arguments.levels, **options)
    failed = scores["failed"]
    _complain(failed)
    if not arguments.json:
        scores = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in scores.items() if k != "failed"}
    print_result(scores, arguments.json)
    return FAILED if failed else OK


def _complain(failed: list[dict[str, str]]) -> None:
    for row in failed:
        say(f"error: {row['file']}: {row['reason']}")


def _info(arguments: argparse.Namespace) -> int:
    if Path(arguments.what).is_file():
        from protok.image.tokens import load_codes

        tokens = load_codes(arguments.what)
        facts = {"kind": "codes of images", **_summary(tokens), **_coded(tokens)}
    else:
        from protok.image.tokenizer import ImageTokenizer

        tokenizer = ImageTokenizer.from_pretrained(arguments.what)
        bits = tokenizer.levels * (tokenizer.size - 1).bit_length() / tokenizer.factor**2
        facts = {
            "kind": "image model",
            "name": tokenizer.name,
            "codebook": tokenizer.codebook,
            "codes": tokenizer.size,
            "levels": tokenizer.levels,
            "pixels along a code": tokenizer.factor,
            "bits per pixel": bits,
            "parameters": sum(p.numel() for p in tokenizer.network.parameters()),
            **tokenizer.provenance,
        }
    print_result(facts, arguments.json)
    return OK
