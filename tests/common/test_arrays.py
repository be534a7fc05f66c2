"""Arrays in .npz files: what is written is read, however well it packs."""

import numpy as np
import pytest

from protok.common.arrays import FLOOR, allowed, read_arrays, write_arrays


@pytest.mark.parametrize("array", [np.zeros(2 * FLOOR, np.int8), np.arange(1000)], ids=["zeros", "numbers"])
def test_what_is_written_is_read(tmp_path, array):
    path = tmp_path / "a.npz"
    with path.open("wb") as handle:
        write_arrays(handle, x=array, name=np.array("y"))
    held = read_arrays(path, ("x", "name"))
    assert np.array_equal(held["x"], array) and str(held["name"]) == "y"
    assert array.nbytes <= allowed(path.stat().st_size)


def test_what_packs_too_well_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(2 * FLOOR, np.int8))
    with pytest.raises(ValueError, match="unpacks to"):
        read_arrays(tmp_path / "a.npz", ["x"])
