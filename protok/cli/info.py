"""What a model, tokens or structures are, as a dictionary of plain values."""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protok.cli.options import OK, print_json, print_nested, reading_arguments, reading_options
from protok.errors import ProtokError

if TYPE_CHECKING:
    import numpy as np

TOKEN_SUFFIXES = (".parquet", ".fasta", ".fa", ".csv", ".npz", ".fasta.gz", ".fa.gz", ".csv.gz")


def describe(what: str | Path, **reading: Any) -> dict[str, Any]:
    """Describe a model by name or folder, tokens, or structures read by these options: a file or a folder.

    Returns
    -------
    dict
        `kind` is `"model"`, `"tokens"`, `"structure"` or `"structures"`; the rest depends on it.

    Raises
    ------
    ProtokError
        If it is none of these.
    """
    path = Path(what)
    if path.is_file() and not path.name.lower().endswith(TOKEN_SUFFIXES):
        return _structure(path, reading)
    from protok.tokenizers.registry import USES

    named = {name for names in USES for name in names}
    folder = path.is_dir() and str(what) not in named and not (path / "config.json").exists()
    if folder and not any(path.glob("*.parquet")):
        return _structures(path, reading)
    if reading:
        raise ProtokError("is no structure file", "leave out how it is read", file=str(what))
    if folder or path.is_file():
        return _tokens(path)
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise ProtokError("no such file or folder", "check the path", file=str(what))
    return _model(str(what))


def _model(name: str) -> dict[str, Any]:
    from protok.tokenizers.protocol import Decodes, HasAlphabet, HasNetwork
    from protok.tokenizers.registry import load
    from protok.tokenizers.shapes import ShapeTokenizer

    tokenizer = load(name)
    description: dict[str, Any] = {
        "kind": "model",
        "name": tokenizer.name,
        "codebook": tokenizer.codebook,
        "codes": tokenizer.size,
    }
    if isinstance(tokenizer, HasAlphabet):
        description["alphabet"] = tokenizer.alphabet
    if isinstance(tokenizer, HasNetwork):
        description["parameters"] = sum(weight.numel() for weight in tokenizer.network.parameters())
    description["decodes"] = isinstance(tokenizer, Decodes)
    if isinstance(tokenizer, ShapeTokenizer):
        description |= json.loads(json.dumps(tokenizer.provenance, default=str))
    return description


def _tokens(path: Path) -> dict[str, Any]:
    import numpy as np

    from protok.quantize.usage import perplexity
    from protok.tokens.files import scan

    counts: dict[str, np.ndarray] = {}
    bits: dict[str, float] = defaultdict(float)
    names, chains, uncoded, residues, missing = set(), 0, 0, 0, 0
    for tokens in scan(path):
        names.add(tokens.name)
        chains += 1
        uncoded += tokens.uncoded
        residues += len(tokens)
        missing += int((tokens.ids < 0).sum())
        for codes in (tokens, tokens.environment):
            if codes is not None:
                count = counts.setdefault(codes.codebook, np.zeros(codes.size, np.int64))
                count += np.bincount(codes.ids[codes.ids >= 0], minlength=codes.size)
                bits[codes.codebook] += codes.bits
    return {
        "kind": "tokens",
        "structures": len(names),
        "chains": chains,
        "chains without any code": uncoded,
        "residues": residues,
        "missing tokens": missing,
        "codebooks": {
            codebook: {
                "codes": len(count),
                "codes used": int((count > 0).sum()),
                "perplexity": round(perplexity(count), 1),
                "bits a residue": round(bits[codebook] / max(1, int(count.sum())), 2),
            }
            for codebook, count in counts.items()
        },
    }


def _structure(path: Path, reading: dict[str, Any]) -> dict[str, Any]:
    from protok.structure.backbone import BOND_LIMIT, bond_lengths
    from protok.structure.io.read import read

    backbone = read(path, **reading)
    return {
        "kind": "structure",
        "name": backbone.name,
        "residues": len(backbone),
        "incomplete residues": len(backbone) - int(backbone.mask.sum()),
        "chains": {
            chain.chain[0]: {
                "residues": len(chain),
                "incomplete residues": len(chain) - int(chain.mask.sum()),
                "from": f"{chain.index[0]}{chain.icode[0]}",
                "to": f"{chain.index[-1]}{chain.icode[-1]}",
                # Complete residues in succession that no peptide bond joins.
                "chain breaks": int((bond_lengths(chain.coords) > BOND_LIMIT).sum()),
                "unknown residues": chain.sequence.count("X"),
            }
            for chain in backbone.by_chain()
        },
        "notes": list(backbone.notes),
    }


def _structures(folder: Path, reading: dict[str, Any]) -> dict[str, Any]:
    from protok.structure.io.options import ReadOptions
    from protok.structure.io.read import none_read, read_all
    from protok.structure.io.sources.paths import iter_files

    errors: list[tuple[str, str, str]] = []
    totals: Counter[str] = Counter()
    for _, whole in read_all(iter_files([folder]), errors, ReadOptions(**reading)):
        totals["structures"] += 1
        totals["chains"] += len(whole.chains)
        totals["residues"] += len(whole)
        totals["incomplete residues"] += len(whole) - int(whole.mask.sum())
    if not totals:
        raise none_read(errors, folder)
    return {"kind": "structures", **totals, "not read": {file: reason for file, _, reason in errors}}


def info_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `protok info`."""
    parser.add_argument(
        "what", help="a model, by name or folder; or a file or folder of tokens or structures"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    reading_arguments(parser)


def info(arguments: argparse.Namespace) -> int:
    """Run `protok info`."""
    description = describe(arguments.what, **reading_options(arguments))
    if arguments.json:
        print_json(description)
    else:
        print_nested(description)
    return OK


def models_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `protok models` prints below its table."""
    parser.epilog = "protok info NAME says more of one; a model may be a folder, or hf:owner/name, too"


def models(arguments: argparse.Namespace) -> int:
    """Run `protok models`."""
    from protok.tokenizers.registry import models as rows

    table = [("name", "bits a residue", "for what")]
    table += [(", ".join(row.names), row.bits, row.use) for row in rows()]
    wide = [max(len(line[column]) for line in table) for column in (0, 1)]
    for name, bits, use in table:
        print(f"{name:{wide[0]}}  {bits:{wide[1]}}  {use}")
    return OK
