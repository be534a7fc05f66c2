"""Tokens to write, and the formats to write them in."""

import numpy as np
import pytest

from protok.tokens.tokens import Tokens

SUFFIXES = [".fasta", ".fasta.gz", ".parquet", ".csv", ".csv.gz", ".npz"]


FORMATS = pytest.mark.parametrize("suffix", SUFFIXES)


def make(n=7, seed=0, name="1aki", chain="A", size=512, codebook="toy@3f2a91c0", **rest):
    rng = np.random.default_rng(seed)
    numbers = {"index": np.arange(1, n + 1), "icode": np.full(n, "")}
    return Tokens(
        ids=rng.integers(-1, size, n),
        size=size,
        codebook=codebook,
        sequence="".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYX"), n)),
        chain=np.full(n, chain),
        name=name,
        **numbers | rest,
    )
