"""Writes codes.json: what each shipped model makes of the bundled chains.

Run again only by a commit that means to change codes, and says why.
"""

import json
from pathlib import Path

import protok

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    golden = {}
    for config in sorted((ROOT / "protok" / "weights").glob("*/config.json")):
        if config.parent.name == "protok-image":
            continue
        tok = protok.load(config.parent.name)
        codes = {}
        for path in sorted((ROOT / "data").glob("*.pdb")):
            tokens = tok.encode(path)
            codes[path.name] = ",".join(map(str, tokens.ids))
            if tokens.keyframes is not None:
                codes[path.name] += f" {tokens.keyframes.text}"
        golden[tok.name] = {"codebook": tok.codebook, "encoder": tok.encoder_fingerprint, "codes": codes}
    out = Path(__file__).with_name("codes.json")
    out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
