"""What is like a tested chain is found by sequence, whatever it is called."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protok.structure.backbone import AMINO_ACIDS
from recipes.exclude import alike, main


def drawn(length, seed):
    return "".join(np.random.default_rng(seed).choice(list(AMINO_ACIDS), length))


def changed(sequence, share, seed):
    random = np.random.default_rng(seed)
    return "".join(drawn(1, seed + i) if random.random() < share else r for i, r in enumerate(sequence))


def test_relatives_are_found_by_sequence():
    tested = [drawn(200, 1), drawn(150, 2)]
    trained = [
        drawn(200, 3),  # a stranger
        changed(tested[0], 0.45, 4),  # a homolog
        drawn(120, 5) + changed(tested[1], 0.3, 6) + drawn(120, 7),  # a domain of a longer chain
        changed(tested[1], 0.3, 8)[:40] + drawn(200, 9),  # less than half of the shorter
        "X" * 100,
    ]
    assert alike(trained, tested) == {1, 2}


def test_the_list_says_of_what(tmp_path):
    tested = {"tables": [drawn(100, 1)], "search": [drawn(100, 1), drawn(90, 2)]}
    for name, texts in {**tested, "train": [drawn(90, 2), drawn(80, 3), drawn(100, 1)]}.items():
        ids = [f"{name}{n}" for n in range(len(texts))]
        pq.write_table(pa.table({"id": ids, "seq": texts}), tmp_path / f"{name}.parquet")
    options = [word for what in tested for word in ("--tested", f"{what}={tmp_path / what}.parquet")]
    main([str(tmp_path / "train.parquet"), "-o", str(tmp_path / "out.tsv"), *options])
    rows = (tmp_path / "out.tsv").read_text().splitlines()
    assert rows == ["store\tid\talike_to", "train\ttrain0\tsearch", "train\ttrain2\ttables,search"]
