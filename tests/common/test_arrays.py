"""Arrays in .npz files: what is written is read, however well it packs."""

import numpy as np
import pytest

from protok.common.arrays import FLOOR, allowed, array_names, read_arrays, write_arrays


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


def test_formats_that_nobody_knows_are_damage(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    assert array_names(path) == {"x"}
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 255  # the version that is needed to read the file
    path.write_bytes(raw)
    for read in (array_names, lambda path: read_arrays(path, ["x"])):
        with pytest.raises(ValueError, match="version 25.5"):
            read(path)
    with pytest.raises(FileNotFoundError):
        array_names(tmp_path / "none.npz")
