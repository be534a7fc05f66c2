"""How a command of the repository ends that lacks something: in a sentence, not in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from protok.errors import ProtokError

TARGETS = "python -m benchmarks.targets -o FOLDER fetches them, for --data FOLDER"
#: How to get data that are not in the repository, by a part of their place.
GET = {
    "files/casp14": TARGETS,
    "files/cameo2022": TARGETS,
    "complexes": "the project's 60 bound complexes of a docking benchmark are not published",
    "search/": "the project's own table of SCOPe domains is not published",
    "runs/data": "python -m recipes.promod3 makes it (docs/train.md)",
    ".deb": "apt-get download promod3-data fetches it (docs/train.md)",
    "structures/": "the project's own stores of chains are not published; protok train --structures PDBS "
    "--out RUN makes one of yours, RUN/train.parquet",
    "images/": "the project's own files of Imagenette and ImageNet at 64 px are not published; protok image "
    "takes folders of images",
    "structtokenbench": "give --data a folder that protok bench prepare made, or the official release of "
    "StructTokenBench",
}
#: Where all of them are listed.
LISTED = "docs/measured.md says which data each command needs"


def how_to_get(text: str) -> str:
    """What to do for data that are not there, by a text that names their place."""
    return next((how for part, how in GET.items() if part in text), LISTED)


def without_traceback(main: Callable[[], object]) -> None:
    """Call the main function of a module; what its input lacks is said in one sentence, with exit code 1.

    ``--import MODULE`` imports a module first, as of `protok`: for encoders and quantizers of one's own.
    """
    while "--import" in sys.argv[1:-1]:
        at = sys.argv.index("--import")
        sys.path.insert(0, "")
        import_module(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    try:
        main()
    except FileNotFoundError as error:
        place = str(error.filename or error)
        raise SystemExit(f"{place}: no such file; {how_to_get(place)}") from None
    except ProtokError as error:
        raise SystemExit(f"{error}; {how_to_get(str(error))}") from None
