"""Measure what the letters of the package's tokenizers mean, for the pages of `protok view`.

    python tools/letters.py ../shared/structures/valid.parquet     # writes protok/viz/letters.json

To be run again when a tokenizer of the package has new codes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import protok
from protok.viz.atlas import make_atlas, open_structures
from protok.viz.meaning import KNOWN, describe

TOKENIZERS = ("protok-1", "protok-1:environment", "3di", "protein-blocks")


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structures", type=Path, help="a store of structures (.parquet), or a folder")
    structures = parser.parse_args().structures
    known = {}
    for name in TOKENIZERS:
        tokenizer = protok.load(name)
        atlas = make_atlas(tokenizer, open_structures(structures, []))
        source = f"{atlas.residues:,} residues of {atlas.chains} chains ({structures.name})"
        known[tokenizer.codebook] = {"source": source, "words": describe(atlas)}
    KNOWN.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {KNOWN}")


if __name__ == "__main__":
    main()
