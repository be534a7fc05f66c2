"""What a model, a token file or a structure file is, as a dictionary of plain values."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protok.cli.options import OK, print_json, print_nested
from protok.errors import ProtokError

if TYPE_CHECKING:
    import numpy as np

TOKEN_SUFFIXES = (".parquet", ".fasta", ".fa", ".csv", ".npz", ".fasta.gz", ".fa.gz", ".csv.gz")


def describe(what: str | Path) -> dict[str, Any]:
    """Describe a model by name or folder, a token file, or a structure file.

    Returns
    -------
    dict
        `kind` is `"model"`, `"tokens"` or `"structure"`; the rest depends on it.

    Raises
    ------
    ProtokError
        If it is none of these.
    """
    path = Path(what)
    if path.is_file():
        named = path.name.lower().endswith(TOKEN_SUFFIXES)
        return _tokens(path) if named else _structure(path)
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise ProtokError("no such file or folder", "check the path", file=str(what))
    return _model(str(what))


def _model(name: str) -> dict[str, Any]:
    from protok.tokenizers.learned import StructureTokenizer
    from protok.tokenizers.protocol import Decodes, HasAlphabet, HasNetwork
    from protok.tokenizers.registry import load

    tokenizer = load(name)
    said: dict[str, Any] = {
        "kind": "model",
        "name": tokenizer.name,
        "codebook": tokenizer.codebook,
        "codes": tokenizer.size,
    }
    if isinstance(tokenizer, HasAlphabet):
        said["alphabet"] = tokenizer.alphabet
    if isinstance(tokenizer, HasNetwork):
        said["parameters"] = sum(weight.numel() for weight in tokenizer.network.parameters())
    said["decodes"] = isinstance(tokenizer, Decodes)
    if isinstance(tokenizer, StructureTokenizer):
        said |= json.loads(json.dumps(tokenizer.provenance, default=str))
    return said


def _tokens(path: Path) -> dict[str, Any]:
    import numpy as np

    from protok.tokens.files import scan

    counts: dict[str, np.ndarray] = {}
    names, chains, residues = set(), 0, 0
    for one in scan(path):
        names.add(one.name)
        chains += 1
        residues += len(one)
        count = counts.setdefault(one.codebook, np.zeros(one.size, np.int64))
        count += np.bincount(one.ids[one.ids >= 0], minlength=one.size)
    present = sum(int(count.sum()) for count in counts.values())
    return {
        "kind": "tokens",
        "structures": len(names),
        "chains": chains,
        "residues": residues,
        "missing tokens": residues - present,
        "codebooks": {codebook: _usage(count) for codebook, count in counts.items()},
    }


def _usage(count: np.ndarray) -> dict[str, Any]:
    from protok.quantize.usage import perplexity

    return {
        "codes": len(count),
        "codes used": int((count > 0).sum()),
        "perplexity": round(perplexity(count), 1),
    }


def _structure(path: Path) -> dict[str, Any]:
    from protok.structure.io.read import read

    backbone = read(path)
    said: dict[str, Any] = {
        "kind": "structure",
        "name": backbone.name,
        "residues": len(backbone),
        "incomplete residues": len(backbone) - int(backbone.mask.sum()),
        "chains": {},
        "notes": list(backbone.notes),
    }
    for chain in backbone.by_chain():
        letters = Counter(chain.sequence)
        said["chains"][chain.chain[0]] = {
            "residues": len(chain),
            "from": f"{chain.index[0]}{chain.icode[0]}",
            "to": f"{chain.index[-1]}{chain.icode[-1]}",
            "chain breaks": _breaks(chain),
            "unknown residues": letters["X"],
        }
    return said


def _breaks(chain) -> int:
    """Count successive complete residues that no peptide bond joins."""
    from protok.structure.backbone import BOND_LIMIT, bond_lengths

    return int((bond_lengths(chain.coords) > BOND_LIMIT).sum())


def info(arguments: argparse.Namespace) -> int:
    said = describe(arguments.what)
    if arguments.json:
        print_json(said)
    else:
        print_nested(said)
    return OK
