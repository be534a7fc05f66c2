"""Tables of images and of samples from the result files, for `write`."""

from __future__ import annotations

from benchmarks import records
from benchmarks.paths import FIGURES, RESULTS
from benchmarks.tables.markdown import table

NONE = "Not measured yet: the command above does."


def model() -> str:
    """The shipped image model by levels, on held-out images and on other classes."""
    result = records.read(RESULTS / "images.parquet").get("protok-image")
    if result is None:
        return NONE
    return f"`{result['codebook']}`:\n\n" + levels_of(result)


def levels_of(result: dict) -> str:
    """What each number of levels gives, set by set."""
    rows = [
        [
            name,
            f"{row['n']:,}",
            f"{row['levels']}",
            f"{row['bits_per_pixel']:.2f}",
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['frechet_gist']:.1f}",
            f"{row['usage']:.1%}",
            f"{row['perplexity']:.0f}",
        ]
        for name, levels in result["sets"].items()
        for row in levels
    ]
    head = ["set", "images", "levels", "bits per pixel", "PSNR, dB", "SSIM", "frechet_gist", "codes used"]
    return table([*head, "perplexity"], rows)


def codecs() -> str:
    """The shipped image model beside codecs at equal bits, and the sheet of both."""
    result = records.read(RESULTS / "codecs.parquet").get("protok-image")
    if result is None:
        return NONE
    parts = [f"`{result['codebook']}`:", codecs_of(result)]
    if (sheet := FIGURES / "protok-image-codecs.png").exists():
        what = "Images of the test, and what the model and codecs make of them"
        parts += [f"From above: {'; '.join(result['sheet'])}.", f"![{what}](/docs/figures/{sheet.name})"]
    return "\n\n".join(parts)


def codecs_of(result: dict) -> str:
    """Levels of a model, below each codecs at its bits, and by how much the model is better than they are."""
    rows = []
    for row in result["rows"]:
        gaps = row.get("better_than_it", {})
        what = f"{row['what']}, " + (f"quality {row['quality']}" if gaps else f"{row['levels']} levels")
        between = [_interval(gaps.get(key), digits) for key, digits in (("psnr", 2), ("stlpips-alex", 3))]
        rows.append(
            [
                what if gaps else f"**{what}**",
                "" if gaps else f"{row['nominal_bits']:.3f}",
                "" if not gaps and not row["entropy_coded"] else f"{row['bits']:.3f}",
                f"{row['psnr']:.2f}",
                between[0],
                f"{row['ssim']:.3f}",
                f"{row['stlpips-alex']:.3f}",
                between[1],
                f"{row['frechet-efficientnet-lite0']:.1f}",
            ]
        )
    head = ["", "nominal bits", "bits", "PSNR, dB", "model better by", "SSIM", "stlpips-alex"]
    return table([*head, "model better by", "frechet efficientnet-lite0"], rows)


def _interval(gap: dict | None, digits: int) -> str:
    if gap is None:
        return ""
    mean, low, high = (f"{gap[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def sweep() -> str:
    """Quantizers in the image tokenizer, size by size, best first."""
    there, note = records.read(RESULTS / "images.parquet"), ""
    if "summary" in there:
        cells, sheet = there["summary"]["rows"], there["summary"]["sheet"]
    else:
        cells, sheet, note = (
            _cells(there),
            [],
            "The sweep is not complete: seed 0 of the cells that are there.\n\n",
        )
    if not cells:
        return NONE
    controls = [c for c in ("kmeans-respawn", "step") if any(c in r["less_error_than"] for r in cells)]
    rows = []
    for row in cells:
        gaps = []
        for control in controls:
            gap = row["less_error_than"].get(control)
            text = "" if gap is None else f"{1e4 * gap['mean']:+.2f}"
            if gap is not None:
                text += f" [{1e4 * gap['low']:+.2f}, {1e4 * gap['high']:+.2f}]"
            gaps.append(text)
        rows.append(
            [
                f"{row['size']:,}",
                row["setting"],
                f"{row['seeds']}",
                f"{1e4 * row['mse']:.2f}",
                f"{row['psnr']:.2f}",
                f"{row['ssim']:.3f}",
                f"{row['frechet_gist']:.1f}",
                f"{row['usage']:.1%}",
                f"{row['perplexity']:.0f}",
                f"{row['code_dimension']:.1f}",
                *gaps,
            ]
        )
    head = [
        "codes",
        "setting",
        "seeds",
        "MSE, 1e-4",
        "PSNR, dB",
        "SSIM",
        "frechet_gist",
        "codes used",
        "perplexity",
        "effective dimension of codes",
        *(f"less error than {control}, 1e-4" for control in controls),
    ]
    return note + table(head, rows) + _figures(cells, sheet)


def _figures(rows: list[dict], lines: list[str]) -> str:
    """Reconstructions and curves of each size, where they were drawn."""
    text = ""
    for size in sorted({row["size"] for row in rows}):
        sheet = FIGURES / f"images-reconstructions-{size}.png"
        if lines and sheet.exists():
            text += f"\n\n{size:,} codes; from above: {', '.join(lines)}.\n\n"
            text += f"![Held-out images and what each quantizer with {size:,} codes makes of them]"
            text += f"(/docs/figures/{sheet.name})\n\n"
            text += f"![{size:,} codes: curves by schedule](/docs/figures/images-curves-{size}.svg)"
    return text


def _cells(there: dict[str, dict]) -> list[dict]:
    """Rows like those of the summary, of the first seed alone."""
    rows = [
        {"setting": cell["setting"], "size": cell["size"], "seeds": 1, "less_error_than": {}, **cell["final"]}
        for cell in there.values()
        if cell.get("seed") == 0 and "final" in cell
    ]
    return sorted(rows, key=lambda row: (row["size"], row["mse"]))


def samples_of_images() -> str:
    """Priors over codes of images: likeness of samples, and of reconstructions."""
    rows, sheets = [], []
    for result in records.read(RESULTS / "prior_samples.parquet").values():
        for name, samples in result["settings"].items():
            if "repetition" not in samples:
                continue
            like = samples["likeness"]
            rows.append(
                [
                    result["prior"],
                    f"`{result['codebook']}`",
                    f"{result['training']['valid_bits']:.2f}",
                    name,
                    f"{result['n']}",
                    f"{like['frechet_gist']:.1f}",
                    f"{like['frechet_gist_of_reconstructions']:.1f}",
                    f"{samples['repetition']:.2f}",
                    f"{samples['codes']['perplexity']:.0f}",
                    f"{samples['codes_of_training_images']['perplexity']:.0f}",
                ]
            )
            sheet = FIGURES / f"{result['prior']}-{name}.png"
            if sheet.exists():
                sheets.append(f"![Samples of {result['prior']}, {name}](/docs/figures/{sheet.name})")
    head = [
        "prior",
        "codes of",
        "held-out bits a code",
        "sampling",
        "samples",
        "frechet_gist",
        "of reconstructions",
        "repetition",
        "perplexity of codes",
        "of training images",
    ]
    if not rows:
        return NONE
    return table(head, rows) + "\n\nSamples; a column is a class:\n\n" + "\n\n".join(sheets)
