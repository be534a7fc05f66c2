"""What stands at the head of a model card, for the Hugging Face Hub to read: its front matter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: What models of proteins are found by.
PROTEIN_TAGS = ["biology", "protein", "protein-structure", "tokenizer", "vector-quantization"]


@dataclass(frozen=True)
class Measured:
    """A result for ``model-index``: which set of data, which measure, its name in words, its value."""

    data: str
    measure: str
    name: str
    value: float


def front_matter(fields: Mapping[str, Any]) -> str:
    """Fields between two lines of dashes, each a line of YAML whose value is JSON, which YAML includes.

    Examples
    --------
    >>> print(front_matter({"license": "apache-2.0", "tags": ["protein"]}))
    ---
    library_name: "protok"
    license: "apache-2.0"
    tags: ["protein"]
    ---
    """
    every = {"library_name": "protok", **fields}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in every.items()]
    return "\n".join(["---", *lines, "---"])


def model_index(name: str, task: str, results: Iterable[Measured]) -> list[dict[str, Any]]:
    """Value of the field ``model-index``: results of a model, by set of data, on a task named in words."""
    sets: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        metric = {"type": result.measure, "name": result.name, "value": result.value}
        sets.setdefault(result.data, []).append(metric)
    return [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "other", "name": task},
                    "dataset": {"type": data.lower().replace(" ", "-"), "name": data},
                    "metrics": metrics,
                }
                for data, metrics in sets.items()
            ],
        }
    ]
