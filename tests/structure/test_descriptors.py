"""Descriptors of residues: letters that every version of biotite gives."""

import numpy as np

import protok
from protok.structure import descriptors


def test_secondary_structure_is_in_letters_and_empty_where_incomplete(examples):
    chain = protok.read(examples / "7w89.A.pdb")
    elements = descriptors.secondary_structure(chain)
    assert "".join(elements[:50]) == "cccbbbbbbccccbbbbbbbcccbbbbccccccccaaaaaaaaaaaaaac"
    chain.coords[3] = np.nan
    elements = descriptors.secondary_structure(chain)
    assert elements[3] == "" and set(elements) == {"", "a", "b", "c"}
