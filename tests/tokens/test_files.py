"""Damaged token files: each is refused with an error that names the file and what is wrong."""

import gzip
import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from protok.common.arrays import FLOOR, RATIO, allowed
from protok.errors import CorruptFile, FormatError, ProtokError, TruncatedFile
from protok.tokens.fasta import fasta
from protok.tokens.files import _Packed, _Unpacked, load, save, scan
from tests.helpers.token_files import FORMATS, make


@FORMATS
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_cut_short_is_refused_and_named(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    save([make(200, i, name=f"s{i}") for i in range(5)], path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ProtokError) as caught:
        load(path)
    assert isinstance(caught.value, CorruptFile | FormatError)
    assert str(path) in str(caught.value) and caught.value.remedy


def test_a_text_file_cut_between_lines_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    save([make(10), make(10, 1)], path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-4]))
    with pytest.raises(CorruptFile, match="chain 1aki_A: has 6 of 10 residues"):
        load(path)


@FORMATS
def test_random_damage_never_raises_anything_else(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    save([make(40, i, name=f"s{i}") for i in range(4)], path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            for tokens in scan(path):
                assert len(tokens.ids) == len(tokens.sequence)
        except ProtokError as error:
            assert str(path) in str(error)


@FORMATS
def test_other_content_under_the_suffix_is_refused(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"ATOM      1  N   MET A   1\n" * 9)
    with pytest.raises((FormatError, CorruptFile), match="t.*: "):
        load(path)


def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path):
    for name in ("t.txt", "t", "t.npz.gz", "t.gz"):
        with pytest.raises(FormatError, match=r"use \.fasta, \.csv"):
            save([make()], tmp_path / name)
        with pytest.raises(FormatError, match=r"use \.fasta, \.csv"):
            load(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.parquet")


@pytest.mark.parametrize("column", ["tokens", "codebook", "icode"])
def test_parquet_without_a_column_names_it(tmp_path, column):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    save(make(), path)
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(CorruptFile, match=f"t.parquet: has no column '{column}'"):
        load(path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tokens", [[1, 2, 512]], r"chain 1aki_A: token 512 is outside 0\.\.511"),
        ("tokens", [[1, 2]], "2 ids for 3 residues"),
        ("tokens", [[1, None, 2]], "'tokens' has empty cells"),
        ("tokens", [["a", "b", "c"]], "t.parquet: Parquet cannot read it"),
        ("tokens", [7], "t.parquet: Parquet cannot read it"),
        ("index", [[1, 2, 2**40]], "t.parquet: Parquet cannot read it"),
        ("name", [None], "'name' has empty cells"),
        ("sequence", ["KV"], "3 ids for 2 residues"),
        ("size", [-5], "is outside"),
        ("codebook", [""], "the codebook has no name"),
    ],
)
def test_parquet_with_a_wrong_cell_says_which(tmp_path, column, values, message):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    save(replace(make(3), ids=[1, 2, 3]), path)
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)
    with pytest.raises(CorruptFile, match=message):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("codebook=", "book=", "the header has no codebook="),
        (" size=512", "", "the header has no size="),
        ("size=512", "size=many", "invalid literal"),
        ("1,2,3", "1,2,512", r"chain 1aki_A: token 512 is outside 0\.\.511"),
        ("1,2,3", "1,2,x", "'x' is no token"),
        ("1,2,3", "1,,3", "'' is no token"),
        ("1,2,3", "1,2,-5", "'-5' is no token"),
        ("1,2,3", "1,2", "range 1:3 does not fit 2 tokens"),
        ("index=1:3", "index=1:2", "3 tokens for 2 residue numbers"),
        ("index=1:3", "index=1:99999999999", "does not fit"),
        ("index=1:3", "index=one", "no range of residue numbers"),
        ("sequence=KVF", "sequence=KV", "3 ids for 2 residues"),
    ],
)
def test_fasta_with_a_wrong_field_says_which(tmp_path, old, new, message):
    path = tmp_path / "t.fasta"
    text = fasta(replace(make(3), ids=[1, 2, 3], sequence="KVF"))
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises((CorruptFile, FormatError), match=message) as caught:
        load(path)
    assert caught.value.file == str(path) and caught.value.chain == "1aki_A"


def test_fasta_whose_last_number_may_be_cut(tmp_path):
    path = tmp_path / "t.fasta"
    path.write_text(fasta(replace(make(2), ids=[1, 407]))[:-2])
    with pytest.raises(TruncatedFile, match="the last line has no end"):
        load(path)


def test_fasta_letters_outside_the_alphabet(tmp_path):
    path = tmp_path / "t.fasta"
    path.write_text(">x_A codebook=c@1 size=3 alphabet=abc\nab-d\n")
    with pytest.raises(CorruptFile, match="letter 'd' is not in the alphabet"):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("token,", "code,", "has no column 'token'"),
        (",K,1,", ",K,one,", "chain 1aki_A: invalid literal"),
        (",K,1,", ",K,512,", r"token 512 is outside 0\.\.511"),
        (",K,1,", ",K,1,1,", "line 2 has 11 of 10 fields"),
        ("1aki,A,2", "1aki,B,2", "has 1 of 3 residues"),
        (",K,1,", ',"K,1,', "t.csv"),
    ],
)
def test_csv_with_a_wrong_cell_says_which(tmp_path, old, new, message):
    path = tmp_path / "t.csv"
    save(replace(make(3), ids=[1, 2, 3], sequence="KVF"), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CorruptFile, match=message):
        load(path)


@pytest.mark.parametrize("text", ["\ufeff", "\n", "\n\n", "name"])
def test_csv_without_a_header_is_refused(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(CorruptFile, match="has no column 'name'|has no column 'chain'"):
        load(path)


def test_csv_cell_beyond_the_limit_of_the_csv_module(tmp_path):
    path = tmp_path / "t.csv"
    save(make(3), path)
    path.write_text(path.read_text().replace("1aki", "x" * 200_000, 1))
    with pytest.raises(CorruptFile, match="line 2: field larger"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": None}, "has no array 'ids'"),
        ({"ids": np.array([1, 2, 512], np.int32)}, r"token 512 is outside 0\.\.511"),
        ({"ids": np.array([1, 2], np.int32)}, "array 'ids' of int32 \\(2,\\) should hold 3"),
        ({"ids": np.array([1.0, 2, 3])}, "array 'ids' of float64"),
        ({"length": np.array([4])}, "should hold 4 entries"),
        ({"length": np.array([4, -1])}, "array 'length'"),
        ({"length": np.array(["3"])}, "array 'length'"),
        ({"length": np.array(3)}, "array 'length'"),
        ({"name": np.array(["a", "b"])}, "'name' .* should hold 1 entries"),
    ],
)
def test_npz_with_a_wrong_array_says_which(tmp_path, change, message):
    path = tmp_path / "t.npz"
    save(replace(make(3), ids=[1, 2, 3]), path)
    with np.load(path) as stored:
        arrays = {**stored, **change}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(CorruptFile, match=message):
        load(path)


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_npz_never_loads_a_pickle(tmp_path):
    path = tmp_path / "t.npz"
    save(make(3), path)
    with np.load(path) as stored:
        arrays = dict(stored)
    bomb = np.empty(1, object)
    bomb[0] = _Bomb()
    np.savez(path, **(arrays | {"name": bomb}))
    with pytest.raises(CorruptFile, match="npz cannot be read"):
        load(path)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for key in arrays:
            archive.writestr(f"{key}.npy", pickle.dumps([1, 2]))
    path.write_bytes(raw.getvalue())
    with pytest.raises(CorruptFile):
        load(path)


def test_text_that_packs_too_well_is_packed_less(tmp_path):
    """So that no file that protok writes is taken for a bomb."""
    text = b"1,2,3,4\n" * 3_000_000
    path = tmp_path / "t.gz"
    with path.open("wb") as handle, _Packed(handle) as packer:
        for at in range(0, len(text), 10_007):
            packer.write(text[at : at + 10_007])
    assert len(text) > FLOOR and RATIO * len(gzip.compress(text)) < len(text)
    assert len(text) < allowed(path.stat().st_size) and path.stat().st_size < len(text) / 3
    with _Unpacked(path) as handle:
        assert b"".join(iter(lambda: handle.read1(1 << 16), b"")) == text
    assert gzip.decompress(path.read_bytes()) == text


def test_gzip_damage_is_told_from_an_early_end(tmp_path):
    path = tmp_path / "t.fasta.gz"
    save([make(400, i) for i in range(20)], path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(TruncatedFile, match=r"t\.fasta\.gz: the compressed data ends early"):
        load(path)
    path.write_bytes(whole[:-6] + bytes(6))
    with pytest.raises(CorruptFile, match="the compressed data is damaged"):
        load(path)
    path.write_bytes(gzip.compress(b"\xff\xfe>x"))
    with pytest.raises(CorruptFile, match="not UTF-8"):
        load(path)
