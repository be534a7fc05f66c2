"""A data folder with a table of sites."""

import shutil

import numpy as np
import pytest

import protok
from protok import bench
from tests.helpers.labelled import chains, labels


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Files of twelve chains with B-factors."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    for i, chain in enumerate(chains(12)):
        chain.bfactor[:] = random.normal(30, 5, len(chain))
        protok.write(chain, folder / f"x{i}.pdb")
    return folder


@pytest.fixture(scope="session")
def data(files, tmp_path_factory):
    """The data folder that `prepare` makes of them; not to be changed."""
    out = tmp_path_factory.mktemp("data")
    bench.prepare([files], out, labels=[labels(out.with_name("sites.csv"))])
    return out


@pytest.fixture
def copy(data, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(data, tmp_path / "copy")
