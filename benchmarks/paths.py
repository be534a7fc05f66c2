"""Where things lie: the repository, its results and figures, the project's data folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: Pictures that pages show.
FIGURES = ROOT / "docs" / "figures"
#: Recipes of models, which `images` begins from.
RECIPES = ROOT / "recipes"
#: Trained models and cells of unfinished sweeps; not part of the repository.
RUNS = ROOT / "runs"
#: Structures, labels and images that are not part of the repository.
SHARED = ROOT.parent / "shared"
