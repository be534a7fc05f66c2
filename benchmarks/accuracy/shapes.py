"""Shapes and keyframes on chains that nobody trained on: what they rebuild, and what they keep.

    python -m benchmarks.accuracy.shapes --model protok-1

Models without keyframes are measured by the same measures, for what they have.
All is tuned on the validation store, which this command reads. The test sets (CASP14, CAMEO2022, complexes)
are read once the design is frozen, by ``--test``, and every such reading is a line of the result. Sets that
are not there are named and left out: whoever has fetched the test sets (`benchmarks.targets`) measures those.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

import numpy as np

import protok
from benchmarks import records
from benchmarks.accuracy import shape_measures as of
from benchmarks.command import how_to_get, without_traceback
from benchmarks.paths import RESULTS, SHARED
from benchmarks.tables.provenance import digest, provenance
from protok.bench.data.folder import Folder
from protok.bench.measures import locality
from protok.bench.measures.scores import values
from protok.bench.representations.reference_codec import BITS, SPACING, ReferenceCodec
from protok.bench.representations.representation import Representation
from protok.structure.backbone import Backbone
from protok.structure.io.sources.paths import iter_files
from protok.structure.store import read_store
from protok.tokenizers.protocol import Decodes, HasKeyframes, decoding

#: Sets of single chains, and of complexes, by the folders of the project's data.
TEST, COMPLEXES = {"casp14": "files/casp14", "cameo2022": "files/cameo2022"}, "complexes"


def few_of(chains: list[Backbone], most: int = 60) -> list[Backbone]:
    """Chains of at least 60 residues, evenly through the list, at most so many."""
    long = [chain for chain in chains if len(chain) >= 60]
    return [long[i] for i in np.unique(np.linspace(0, len(long) - 1, most).astype(int))]


def measured(tokenizer: Decodes, chains: list[Backbone]) -> dict:
    """All measures of a set; those of letters on some of its chains."""
    some = few_of(chains)
    keyed = isinstance(tokenizer, HasKeyframes)
    spacings = tokenizer.spacings if keyed else (0,)
    return {
        "reconstruction": {s: of.reconstruction(tokenizer, chains, s) for s in spacings},
        **of.of_letters(tokenizer, chains, some),
        **(
            {
                "slices": values(locality.slices(tokenizer, some)),
                "without_keyframes": values(locality.without_keyframes(tokenizer, some)),
            }
            if keyed
            else {}
        ),
        "harm": values(locality.harm(tokenizer, some, of.SEED)),
    }


def valid_chains(data: Path, most: int) -> list[Backbone]:
    """Chains of the validation store, evenly through it."""
    store = read_store(data / "structures" / "valid.parquet")
    return [store.backbone(int(i)) for i in np.unique(np.linspace(0, len(store) - 1, most).astype(int))]


def domains_of(folder: Path) -> list[tuple[Backbone, tuple[int, int]]]:
    """Classified domains, and the chains that they lie in; no label is read."""
    source = Folder(folder)
    return [(source.structure(domain.id), domain.rows) for domain in source.domains()]


def read_folder(folder: Path) -> list[Backbone]:
    """Every structure of a folder."""
    return [protok.read(file) for file in iter_files(folder)]


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="protok-1", help="name or folder")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--chains", type=int, default=150, help="of the validation store")
    parser.add_argument("--test", action="store_true", help="read the test sets: once the design is frozen")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "shapes.parquet")
    options = parser.parse_args(arguments)
    tokenizer = decoding(protok.load(options.model))
    command = "python -m benchmarks.accuracy.shapes " + " ".join(
        sys.argv[1:] if arguments is None else arguments
    )
    store = options.data / "structures" / "valid.parquet"
    files, sets = {}, {}
    if there(store):
        files["valid"], sets["valid"] = [store], valid_chains(options.data, options.chains)
    for name, place in TEST.items() if options.test else ():
        if there(options.data / place):
            files[name] = list(iter_files(options.data / place))
            sets[name] = read_folder(options.data / place)
    folder = options.data / "structtokenbench"
    if isinstance(tokenizer, HasKeyframes) and there(folder):
        tables = [*folder.glob("tasks/homo_*.parquet"), folder / "chains.parquet"]
        shares = locality.kept_in_chain(tokenizer, domains_of(folder))
        about = {"seed": of.SEED, "data_sha256": digest(tables), "domains": len(shares)}
        result = provenance(command, **about, kept=float(np.mean(shares)))
        records.put(options.out, f"{tokenizer.codebook} domains", result)
        print("domains in their chains", len(shares), result["kept"], flush=True)
    for name, chains in sets.items():
        about = {"seed": of.SEED, "data_sha256": digest(files[name])}
        result = measured(tokenizer, chains)
        keep(options.out, f"{tokenizer.codebook} {name}", provenance(command, **about, **result))
        for key in ("perplexity", "cut", "noise_0.2", "mirror", "slices", "without_keyframes", "harm"):
            print(name, key, result.get(key), flush=True)
        for bits in BITS if isinstance(tokenizer, HasKeyframes) else ():
            codec = ReferenceCodec(bits)
            scores = {"reconstruction": {SPACING: of.reconstruction(codec, chains, SPACING)}}
            scores["harm"] = values(locality.harm(codec, few_of(chains), of.SEED))
            keep(options.out, f"{codec.codebook} {name}", provenance(command, **about, **scores))
    if options.test and there(options.data / COMPLEXES):
        members = list(iter_files(options.data / COMPLEXES))
        scores, rows = locality.complexes(Representation(tokenizer), [protok.read(file) for file in members])
        every = values(scores) | {"rmsd_each": rows["rmsd"]}
        about = {"seed": of.SEED, "data_sha256": digest(members)}
        keep(options.out, f"{tokenizer.codebook} {COMPLEXES}", provenance(command, **about, complexes=every))
    elif not sets:
        raise SystemExit(f"nothing was measured: {options.data} has none of the sets")


def there(place: Path) -> bool:
    """Whether a file or folder of data is there; if not, says how to get it."""
    if not place.exists():
        print(f"left out: {place} is not there; {how_to_get(place.as_posix())}", flush=True)
    return place.exists()


def keep(path: Path, name: str, result: dict) -> None:
    """Write a result beside the others, with the dates on which its set was read for it."""
    readings = records.read(path).get(name, {}).get("readings", [])
    today = datetime.date.today().isoformat()
    records.put(path, name, {"name": name, **result, "readings": [*readings, today]})
    print(name, result.get("complexes", ""))
    for spacing, scores in result.get("reconstruction", {}).items():
        shown = {key: round(scores[key], 3) for key in ("bits_a_residue", "rmsd", "tm_score", "lddt")}
        print(name, "each", spacing, shown, flush=True)


if __name__ == "__main__":
    without_traceback(main)
