"""Writes codes.json: what the shipped model makes of the bundled chains.

Run again only by a commit that means to change codes, and says why.
"""

import json
from pathlib import Path

import protok
from protok.structure.io.sources.paths import iter_files

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    tok, codes = protok.load("protok-1"), {}
    for path in sorted(iter_files([ROOT / "data"])):
        tokens = tok.encode(path)
        parts = (",".join(map(str, tokens.ids)), tokens.keyframes.text, tokens.environment.text)
        codes[path.name] = " ".join(parts)
    golden = {tok.name: {"codebook": tok.codebook, "encoder": tok.encoder_fingerprint, "codes": codes}}
    out = Path(__file__).with_name("codes.json")
    out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
