"""Put letters of environments into a model of shapes, with what aligned letters score.

    python -m recipes.environments.join runs/environments/model --shapes protok-1 -o runs/protok-1

Scores are counted in the relatives that the letters were trained with (`recipes.environments.relatives`).
Shapes, step network and keyframes stay as they are, to the bit, and so do their tokens.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.command import without_traceback
from protok.analysis.reduction import classes_of, merged, mutual_information
from protok.analysis.substitution import BIT, counts_of, of_counts
from protok.model.environment import CLASSES
from protok.model.network import ShapeNetwork
from protok.structure.store import Store, read_store
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.tokenizers.shapes import ShapeTokenizer
from recipes.environments.relatives import NAME, Relatives

#: Pairs of relatives that are counted.
COUNTED = 3000


def counted(
    tokenizer: EnvironmentTokenizer, store: Store, relatives: Relatives, most: int = COUNTED
) -> np.ndarray:
    """How often letters are aligned, in pairs that are drawn with their weights."""
    draw = np.random.default_rng(0)
    most = min(most, len(relatives))
    order = draw.choice(len(relatives), most, replace=False, p=relatives.weight)

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in order:
            rows = relatives.rows[slice(*relatives.start[number : number + 2])]
            both = [store.backbone(int(chain)) for chain in relatives.chains[number]]
            first, second = (environment.ids for environment in tokenizer.environments(both))
            yield first[rows[:, 0]], second[rows[:, 1]]

    return counts_of(pairs(), tokenizer.size)


def score(letters: EnvironmentTokenizer, counts: np.ndarray) -> str:
    """Give letters their scores, classes and scores of classes; returns in words where they come from."""
    matrix = of_counts(counts, letters.codebook, letters.code_vectors())
    # Letters that are never aligned go where the model of their vectors has them.
    filled = counts + np.exp2(matrix.scores / BIT) * np.outer(*[counts.sum(0) + 1] * 2) / counts.sum() ** 2
    classes = classes_of(filled, CLASSES)
    held = {
        "scores": matrix.scores,
        "classes": classes,
        "class_scores": of_counts(merged(counts, classes), letters.codebook).scores,
    }
    for name, value in held.items():
        letters.network.get_buffer(name).copy_(torch.from_numpy(value))
    kept = mutual_information(merged(counts, classes)) / mutual_information(counts)
    return f"{matrix.origin}; {CLASSES} classes keep {kept:.0%} of the information of aligned letters"


def join(shapes: ShapeTokenizer, letters: EnvironmentTokenizer, origin: str) -> ShapeTokenizer:
    """The model of shapes with environments."""
    network = ShapeNetwork(replace(shapes.network.config, environment=letters.network.config))
    state = shapes.network.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("environment.")}
    state |= {f"environment.{key}": value for key, value in letters.network.state_dict().items()}
    network.load_state_dict(state)
    about = {"environment": letters.provenance | {"scores": origin}}
    return ShapeTokenizer(network.eval(), provenance=shapes.provenance | about)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("letters", type=Path, help="of recipes.environments.train")
    parser.add_argument("--shapes", default="protok-1", help="name or folder of the model of shapes")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="store and relatives")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    shapes = ShapeTokenizer.from_pretrained(options.shapes)
    letters = EnvironmentTokenizer.from_pretrained(options.letters)
    store = read_store(options.data / "train.parquet")
    origin = score(letters, counted(letters, store, Relatives.read(options.data / NAME, store.ids)))
    joined = join(shapes, letters, origin)
    joined.card = shapes.card
    joined.save_pretrained(options.out)
    print(f"{options.out}: {joined.codebook}, {joined.environment.codebook}; scores of {origin}")


if __name__ == "__main__":
    without_traceback(main)
