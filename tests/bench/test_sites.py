"""What tools of the repository read from a data folder."""

import numpy as np
import pytest

from benchmarks.sites import within
from protok.bench.data.folder import Folder
from protok.bench.data.source import VALID
from protok.bench.representations.controls import ResidueType
from protok.tokens.tokens import Tokens
from recipes.exclude import sequences_of


class Labels(ResidueType):
    """Says the labels themselves, where there are any."""

    def __init__(self, folder, table, right):
        self.of = {entry.id: np.asarray(entry.target) for entry in folder.table(table).entries}
        self.right = right

    def encode_batch(self, structures):
        out = []
        for structure in structures:
            label = np.nan_to_num(self.of[structure.name], nan=2).astype(int)
            out.append(Tokens.like(structure, label if self.right else 0 * label, 3, "labels"))
        return out


@pytest.mark.parametrize(("right", "value"), [(True, 1.0), (False, 0.5)])
def test_letters_that_are_the_labels_tell_all(right, value, data):
    folder = Folder(data)
    labels = Labels(folder, "sites", right)
    labels.size, labels.batch_residues = 3, 4096
    assert folder.table("sites").split(VALID)
    assert within(labels, data, "sites", 9).value == value


def test_what_is_tested_are_the_chains_of_test_splits(data):
    folder = Folder(data)
    sites = folder.table("sites")
    texts = sequences_of(data)
    assert all(folder.structure(entry.id).sequence in texts for entry in sites.split("test"))
    others = {folder.structure(id).sequence for id in folder.ids()}
    assert others > set(texts) and len(texts) > len(sites.split("test"))
