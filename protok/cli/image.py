"""The command line of images: `protok image encode | decode | train | score | info`.

Arguments are parsed and results printed here; torch is imported when a command needs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from protok.cli.options import (
    FAILED,
    OK,
    USAGE,
    count,
    device_argument,
    number,
    print_json,
    print_nested,
    run_arguments,
    say,
    settings,
)

MODEL = "protok-image"
#: Images that are encoded or scored together.
BATCH = 32


def add_image(commands, command: Callable) -> None:
    """Add `image` and its verbs to the commands; `command` makes a parser of one."""
    top = commands.add_parser(
        "image",
        help="the same for images: encode, decode, train, score, info",
        description="Images to discrete codes and back.",
        allow_abbrev=False,
    )
    verbs = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = command(verbs, "encode", "image files to codes", _encode)
    one.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, folders, .npz files; the folder of a class stands in an image's name",
    )
    one.add_argument("-o", "--out", required=True, metavar="FILE.npz", help="for the codes")
    _model_argument(one)
    one.add_argument(
        "--size",
        type=number,
        metavar="N",
        help="scale images first, so that the shorter side has N pixels (default: as they are)",
    )
    one.add_argument("--square", action="store_true", help="cut the middle square out of scaled images")
    one.add_argument("--mirror", action="store_true", help="encode mirror images too, as NAME-mirrored")
    one.add_argument(
        "--part",
        choices=("train", "valid"),
        default="train",
        help="which images of an .npz file that holds both (default: train)",
    )
    one.add_argument("--levels", type=number, metavar="M", help="keep the first M levels only")
    one.add_argument("--json", action="store_true", help="print a summary as JSON")

    one = command(verbs, "decode", "codes to PNG files", _decode)
    one.add_argument("codes", metavar="CODES.npz", help="as written by protok image encode")
    one.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="for NAME.png")
    one.add_argument("--model", help="name or folder (default: the model that the codes name)")
    device_argument(one)
    one.add_argument("--levels", type=number, metavar="M", help="use the first M levels only")
    one.add_argument("--json", action="store_true", help="print a summary as JSON")

    one = command(verbs, "train", "train or fine-tune an image tokenizer", _train)
    one.add_argument(
        "--images",
        metavar="DIR",
        help="folder of images, of one folder a class, or of train/ and val/; or an .npz file",
    )
    one.add_argument("--init", metavar="MODEL", help="start from this model's weights")
    run_arguments(one)

    one = command(verbs, "score", "reconstruct images and say how well", _score)
    one.add_argument("images", metavar="DIR", help="folder or .npz of images; its val/ if it has")
    _model_argument(one)
    one.add_argument(
        "--size", type=number, metavar="N", help="squares of N pixels (needed unless all images are alike)"
    )
    one.add_argument("--levels", type=number, metavar="M", help="use the first M levels only")
    one.add_argument(
        "--progressive", action="store_true", help="score every prefix of the levels, with its bits per pixel"
    )
    one.add_argument("--most", type=number, metavar="N", help="at most N images, evenly spread")
    one.add_argument("--inception", metavar="FILE", help="Inception weights of torch-fidelity: rFID too")
    one.add_argument(
        "--sheet",
        metavar="FILE.png",
        help="write 12 originals above their reconstructions (with --progressive: of each prefix)",
    )
    one.add_argument("--json", action="store_true", help="print JSON")

    one = command(verbs, "info", "say what an image model or a file of codes is", _info)
    one.add_argument("what", nargs="?", default=MODEL, help=f"default: the model {MODEL}")
    one.add_argument("--json", action="store_true", help="print JSON")


def _model_argument(one: argparse.ArgumentParser) -> None:
    one.add_argument("--model", default=MODEL, help=f"name or folder (default: {MODEL})")
    device_argument(one)


def _encode(arguments: argparse.Namespace) -> int:
    from protok.errors import ProtokError
    from protok.image.dataset import find_images
    from protok.image.pixels import as_pixels, middle
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import MIRRORED, save_codes

    if not arguments.out.endswith(".npz"):
        say(f"error: {arguments.out}: codes of images are written to .npz files")
        return USAGE
    tokenizer = ImageTokenizer.from_pretrained(arguments.model).to(arguments.device)
    if not _levels_fit(arguments.levels, tokenizer.levels):
        return USAGE
    found, failed = [], []
    images = find_images(arguments.inputs, arguments.part)
    for start in range(0, len(images), BATCH):
        names, pixels = [], []
        for name, source in images[start : start + BATCH]:
            try:
                x = as_pixels(source, size=arguments.size)
            except ProtokError as error:
                file = str(source) if isinstance(source, Path) else name
                failed.append({"file": file, "reason": error.reason})
                say(f"error: {error}" if isinstance(source, Path) else f"error: {name}: {error}")
                continue
            x = middle(x, min(x.shape[:2])) if arguments.square else x
            pixels.append(x)
            names.append(name)
            if arguments.mirror:
                pixels.append(x[:, ::-1])
                names.append(f"{name}{MIRRORED}")
        found += tokenizer.encode_batch(pixels, names=names)
    if arguments.levels is not None:
        found = [one.prefix(arguments.levels) for one in found]
    if found:
        save_codes(found, arguments.out)
        bits = sum(one.bits_per_pixel for one in found) / len(found)
        if arguments.json:
            print_json(_summary(found) | {"failed": failed})
        say(
            f"{count(len(found), 'image')}, {count(sum(map(len, found)), 'code')} in "
            f"{arguments.out} ({tokenizer.codebook}), {bits:.3g} bits per pixel"
        )
    return FAILED if failed else OK


def _levels_fit(levels: int | None, there: int) -> bool:
    if levels is None or levels <= there:
        return True
    say(f"error: --levels {levels}: the codes have {count(there, 'level')}")
    return False


def _summary(found: list) -> dict:
    n = max(1, len(found))
    return {
        "images": len(found),
        "codes": sum(map(len, found)),
        "codebook": sorted({one.codebook for one in found}),
        "size": sorted({one.size for one in found}),
        "levels": sorted({one.levels for one in found}),
        "bits_per_pixel": sum(one.bits_per_pixel for one in found) / n,
    }


def _decode(arguments: argparse.Namespace) -> int:
    from protok.common.grouping import numbered
    from protok.image.pixels import inside, write_pixels
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import load_codes

    tokens = load_codes(arguments.codes)
    if not tokens:
        say(f"error: {arguments.codes}: holds no images")
        return USAGE
    if not _levels_fit(arguments.levels, min(one.levels for one in tokens)):
        return USAGE
    name = arguments.model or tokens[0].codebook.split("@")[0]
    tokenizer = ImageTokenizer.from_pretrained(name).to(arguments.device)
    # Two images in one file would be one.
    names = numbered([one.name or str(i) for i, one in enumerate(tokens)], "-")
    written, bits = [], 0.0
    for start in range(0, len(tokens), BATCH):
        part = tokens[start : start + BATCH]
        for one, pixels in zip(part, tokenizer.decode_batch(part, levels=arguments.levels), strict=True):
            path = inside(arguments.out, f"{names[len(written)]}.png")
            written.append(str(write_pixels(pixels, path)))
            one = one if arguments.levels is None else one.prefix(arguments.levels)
            bits += one.bits_per_pixel / len(tokens)
    if arguments.json:
        print_json({"codebook": tokenizer.codebook, "bits_per_pixel": bits, "files": written})
    say(
        f"{count(len(written), 'image')} in {arguments.out} ({tokenizer.codebook}), {bits:.3g} bits per pixel"
    )
    return OK


def _train(arguments: argparse.Namespace) -> int:
    try:
        from protok.image import training
    except ModuleNotFoundError as error:
        say(f"error: training needs {error.name}: pip install 'protok[image]'")
        return USAGE
    model = training.run(
        arguments.recipe,
        images=arguments.images,
        init=arguments.init,
        out=arguments.out,
        overrides=settings(arguments.overrides),
        resume=arguments.resume,
    )
    say(f"the model is in {model}; use it with --model {model}")
    return OK


def _score(arguments: argparse.Namespace) -> int:
    from protok.image.evaluate import progressive, score
    from protok.image.tokenizer import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(arguments.model).to(arguments.device)
    if not _levels_fit(arguments.levels, tokenizer.levels):
        return USAGE
    given = {key: getattr(arguments, key) for key in ("size", "most", "inception", "sheet")}
    if arguments.progressive:
        rows = progressive(tokenizer, arguments.images, **given)
        if arguments.json:
            print_json(rows)
        else:
            for row in rows:
                said = ", ".join(f"{k} {row[k]:.4g}" for k in ("psnr", "ssim", "mse"))
                print(f"{row['bits_per_pixel']:.3g} bits per pixel: {said}")
        return OK
    found = score(tokenizer, arguments.images, levels=arguments.levels, **given)
    if arguments.json:
        print_json(found)
    else:
        print_nested({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in found.items()})
    return OK


def _info(arguments: argparse.Namespace) -> int:
    said: dict
    if Path(arguments.what).is_file():
        from protok.image.tokens import load_codes

        said = {"kind": "codes of images", **_summary(load_codes(arguments.what))}
    else:
        from protok.image.tokenizer import ImageTokenizer

        tokenizer = ImageTokenizer.from_pretrained(arguments.what)
        bits = tokenizer.levels * (tokenizer.size - 1).bit_length() / tokenizer.factor**2
        said = {
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
    if arguments.json:
        print_json(said)
    else:
        print_nested(said)
    return OK
