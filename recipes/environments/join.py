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
from protok.analysis.substitution import Matrix, of_alignments
from protok.model.network import ShapeNetwork
from protok.structure.store import Store, read_store
from protok.tokenizers.environments import EnvironmentTokenizer
from protok.tokenizers.shapes import ShapeTokenizer
from recipes.environments.relatives import NAME, Relatives

#: Pairs of relatives that are counted.
COUNTED = 3000


def counted(
    tokenizer: EnvironmentTokenizer, store: Store, relatives: Relatives, most: int = COUNTED
) -> Matrix:
    """What aligned letters score, in pairs that are drawn with their weights."""
    order = np.random.default_rng(0).choice(
        len(relatives), min(most, len(relatives)), replace=False, p=relatives.weight
    )

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in order:
            rows = relatives.rows[slice(*relatives.start[number : number + 2])]
            both = [store.backbone(int(chain)) for chain in relatives.chains[number]]
            first, second = (environment.ids for environment in tokenizer.environments(both))
            yield first[rows[:, 0]], second[rows[:, 1]]

    return of_alignments(pairs(), tokenizer.codebook, tokenizer.size, tokenizer.code_vectors())


def join(shapes: ShapeTokenizer, letters: EnvironmentTokenizer, scores: Matrix) -> ShapeTokenizer:
    """The model of shapes with environments."""
    letters.network.scores.copy_(torch.from_numpy(scores.scores))
    network = ShapeNetwork(replace(shapes.network.config, environment=letters.network.config))
    state = {
        key: value for key, value in shapes.network.state_dict().items() if not key.startswith("environment.")
    }
    state |= {f"environment.{key}": value for key, value in letters.network.state_dict().items()}
    network.load_state_dict(state)
    about = {"environment": letters.provenance | {"scores": scores.origin}}
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
    scores = counted(letters, store, Relatives.read(options.data / NAME, store.ids))
    joined = join(shapes, letters, scores)
    joined.card = shapes.card
    joined.save_pretrained(options.out)
    print(f"{options.out}: {joined.codebook}, {joined.environment.codebook}; scores of {scores.origin}")


if __name__ == "__main__":
    without_traceback(main)
