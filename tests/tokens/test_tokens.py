"""Tokens and their files: what goes in comes out."""

import gc
from dataclasses import replace

import numpy as np
import pytest

from protok.errors import CorruptFile, Unsupported
from protok.structure.backbone import Backbone
from protok.tokens.fasta import fasta
from protok.tokens.files import load, save, scan
from protok.tokens.parquet import ParquetWriter
from protok.tokens.parts import COLUMNS
from protok.tokens.tokens import Tokens
from tests.helpers.token_files import FORMATS, make

FIELDS = ("size", "codebook", "sequence", "name", "alphabet")
ARRAYS = {"ids": "i", "chain": "U", "index": "i", "icode": "U"}


def assert_same(loaded, wanted):
    assert len(loaded) == len(wanted)
    for a, b in zip(loaded, wanted, strict=True):
        for key in FIELDS:
            assert getattr(a, key) == getattr(b, key), key
            assert type(getattr(a, key)) is type(getattr(b, key)), key
        for key, kind in ARRAYS.items():
            assert np.array_equal(getattr(a, key), getattr(b, key)), key
            assert getattr(a, key).dtype.kind == kind, key
        assert a.ids.dtype == a.index.dtype == np.int32


# The object.


def test_prints_as_what_it_is():
    ids = np.arange(129) % 118
    tokens = replace(make(129), ids=ids)
    assert repr(tokens) == "Tokens(1aki, 129 residues, toy@3f2a91c0, 118 of 512 codes)"
    ids[3] = -1
    assert repr(replace(tokens, ids=ids)).endswith("118 of 512 codes, 1 missing)")
    assert repr(make(0, name="")) == ("Tokens(unnamed, 0 residues, toy@3f2a91c0, 0 of 512 codes)")


def test_like_takes_the_residues_of_the_backbone():
    structure = Backbone.from_arrays(
        np.zeros((3, 3, 3)), "MKV", chain=np.array(["A", "A", "B"]), index=[5, 6, 1], name="x"
    )
    tokens = Tokens.like(structure, [1, -1, 2], 20, "3di@00000000")
    assert (tokens.sequence, tokens.name, len(tokens)) == ("MKV", "x", 3)
    assert tokens.chain.tolist() == ["A", "A", "B"] and tokens.index.tolist() == [5, 6, 1]


def test_letters():
    tokens = replace(make(5, size=4), ids=[0, 3, -1, 1, 2], alphabet="wxyz")
    assert tokens.letters == "wz-xy"
    with pytest.raises(Unsupported, match="toy@3f2a91c0 have no letters"):
        _ = make().letters


def test_split_keeps_the_order_of_residues_and_chains():
    tokens = replace(make(6), chain=["B", "A", "B", "A", "C", "B"], ids=range(6))
    parts = list(tokens.by_chain())
    assert [part.chain[0] for part in parts] == ["B", "A", "C"]
    assert [part.ids.tolist() for part in parts] == [[0, 2, 5], [1, 3], [4]]
    assert [part.index.tolist() for part in parts] == [[1, 3, 6], [2, 4], [5]]
    assert parts[0].sequence == "".join(tokens.sequence[i] for i in (0, 2, 5))
    assert list(make(0).by_chain()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [512] * 7}, r"token 512 is outside 0\.\.511"),
        ({"ids": [-2] * 7}, "token -2 is outside"),
        ({"ids": [2**40] * 7}, "is outside"),
        ({"ids": [1.0] * 7}, "integers, not float64"),
        ({"ids": [1] * 6}, "6 ids for 7 residues"),
        ({"ids": np.zeros((7, 1), int)}, "one a residue"),
        ({"chain": ["A"]}, "1 chain for 7 residues"),
        ({"index": [1] * 8}, "8 index for 7 residues"),
        ({"codebook": ""}, "no name"),
        ({"sequence": "ACDEFGé"}, "ASCII"),
        ({"alphabet": "abc"}, "alphabet of 512 codes"),
        ({"size": 3, "ids": [0] * 7, "alphabet": "aab"}, "different letters"),
        ({"size": 3, "ids": [0] * 7, "alphabet": "a-b"}, "means missing"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(make(7), **change)


# Round trips.


@FORMATS
def test_round_trip(tmp_path, suffix):
    letters = "ACDEFGHIKLMNPQRSTVWY"
    wanted = [
        make(129, 1),
        make(1, 2, chain="B"),
        make(40, 3, size=20, codebook="3di@0123abcd", alphabet=letters),
        make(40, 4, size=2, codebook="two@0123abcd", alphabet="%="),
        make(40, 5, size=30, codebook="many@0123abcd", alphabet="abcdefghijklmnopqrstuvwxyzABCD"),
        replace(make(5), ids=[-1] * 5),
        make(300, 6, size=100_000, codebook="large@0123abcd"),
    ]
    path = tmp_path / f"tokens{suffix}"
    save(wanted, path)
    assert_same(load(path), wanted)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@FORMATS
def test_round_trip_of_several_chains_is_one_a_chain(tmp_path, suffix):
    tokens = replace(make(6), chain=["B", "A", "B", "A", "C", "B"])
    save(tokens, tmp_path / f"t{suffix}")
    assert_same(load(tmp_path / f"t{suffix}"), list(tokens.by_chain()))


@FORMATS
@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("", ""),
        ("my protein (final) v2", "A"),
        ("sp|P69905|HBA_HUMAN", "A|B"),
        ("7dz2.C", "C"),
        ("a_b_", "_"),
        ("a=b codebook=evil size=3", "A B"),
        (">x", "A-2"),
        ('comma, "quote" and\ttab', "1,2"),
        ("line\nbreak\r\nand 100%25", "%5F"),
        ("Größe-蛋白", "µ"),
        ("C:\\files\\x.pdb", "nan"),
        ("-1", "-1"),
    ],
)
def test_names_are_kept(tmp_path, suffix, name, chain):
    wanted = [make(name=name, chain=chain), make(3, 1, name=name, chain="Z")]
    save(wanted, tmp_path / f"t{suffix}")
    assert_same(load(tmp_path / f"t{suffix}"), wanted)


@FORMATS
def test_numbering_is_kept(tmp_path, suffix):
    index = [-3, -2, -1, 0, 1, 5, 6, 7, 7, 7, 8, 8, 3, 2, 1, 2147483647, 10, 12]
    icode = ["", "", "", "", "", "", "", "", "A", "B", "", "A", "", "", "", "", "1", ":"]
    wanted = [replace(make(len(index)), index=index, icode=icode)]
    save(wanted, tmp_path / f"t{suffix}")
    assert_same(load(tmp_path / f"t{suffix}"), wanted)


@FORMATS
def test_the_same_chain_twice_stays_two(tmp_path, suffix):
    wanted = [make(5), make(5), make(5, 1)]
    save(wanted, tmp_path / f"t{suffix}")
    assert_same(load(tmp_path / f"t{suffix}"), wanted)


@FORMATS
def test_many_chains(tmp_path, suffix):
    """More than a row group; ids, names and chains must not slip against each other."""
    wanted = [make(1 + i % 5, i, name=f"s{i}", chain="ABCD"[i % 4]) for i in range(1500)]
    save(iter(wanted), tmp_path / f"t{suffix}")
    assert_same(load(tmp_path / f"t{suffix}"), wanted)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_no_chains(tmp_path, suffix):
    save([make(0)], tmp_path / f"t{suffix}")
    assert load(tmp_path / f"t{suffix}") == []


def test_scan_reads_as_it_goes(tmp_path):
    save((make(3, i, name=str(i)) for i in range(1500)), tmp_path / "t.parquet")
    chains = scan(tmp_path / "t.parquet")
    assert [next(chains).name for _ in range(3)] == ["0", "1", "2"]
    chains.close()


# The formats as others see them.


def test_fasta_as_text():
    tokens = replace(make(4), ids=[12, -1, 407, 0], sequence="KVFG", icode=["", "", "", "A"])
    assert fasta(tokens) == (
        ">1aki_A codebook=toy@3f2a91c0 size=512 index=1:3,4A sequence=KVFG\n12,-,407,0\n"
    )
    letters = replace(tokens, size=4, ids=[0, -1, 3, 1], alphabet="abcd", codebook="x@00000000")
    assert fasta(letters).splitlines() == [
        ">1aki_A codebook=x@00000000 size=4 alphabet=abcd index=1:3,4A sequence=KVFG",
        "a-db",
    ]


def test_fasta_by_other_hands(tmp_path):
    """Wrapped lines, blank lines, a BOM, and a header with only what is needed."""
    path = tmp_path / "t.fa"
    path.write_text("\ufeff>1aki codebook=x@1 size=512\r\n1,2\r\n3,-,\r\n\r\n510\r\n", "utf-8")
    (tokens,) = load(path)
    assert tokens.ids.tolist() == [1, 23, -1, 510]
    assert (tokens.name, tokens.sequence) == ("1aki", "XXXX")
    assert tokens.index.tolist() == [1, 2, 3, 4] and tokens.chain.tolist() == [""] * 4


def test_fasta_is_the_same_after_biopython(tmp_path):
    records = pytest.importorskip("Bio.SeqIO")
    wanted = [make(200, 1), make(80, 2, size=4, alphabet="abcd", name="a b|c")]
    save(wanted, tmp_path / "t.fasta")
    with open(tmp_path / "t.fasta") as source, open(tmp_path / "u.fasta", "w") as target:
        records.write(records.parse(source, "fasta"), target, "fasta")
    assert_same(load(tmp_path / "u.fasta"), wanted)


def test_csv_as_text(tmp_path):
    save(replace(make(2), ids=[5, -1], sequence="KV", icode=["", "A"]), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == (
        "name,chain,index,icode,residue,token,codebook,size,alphabet,length\n"
        "1aki,A,1,,K,5,toy@3f2a91c0,512,,2\n"
        "1aki,A,2,A,V,-1,toy@3f2a91c0,512,,2\n"
    )


def test_parquet_as_others_see_it(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    save([make(3), make(2, 1, chain="B")], tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == [
        "name",
        "chain",
        "sequence",
        "tokens",
        "index",
        "icode",
        "codebook",
        "size",
        "alphabet",
        *COLUMNS,
    ]
    assert str(table.schema.field("tokens").type).startswith("list<")
    assert table.column("tokens").to_pylist() == [make(3).ids.tolist(), make(2, 1).ids.tolist()]


def test_parquet_written_by_other_tools(tmp_path):
    """Wider types, another order of columns, one more column."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    wanted = [make(3), make(2, 1, chain="B")]
    save(wanted, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    wide = {"tokens": pa.large_list(pa.int64()), "size": pa.int64(), "name": pa.large_string()}
    columns = {key: table[key].cast(wide.get(key, table[key].type)) for key in table.column_names}
    columns = {"extra": pa.array([1.0, 2.0])} | dict(reversed(columns.items()))
    pq.write_table(pa.table(columns), tmp_path / "u.parquet")
    assert_same(load(tmp_path / "u.parquet"), wanted)


def test_parquet_writer_flushes_row_groups_and_keeps_them_after_an_error(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    wanted = [make(3, i, name=str(i)) for i in range(5)]
    with pytest.raises(RuntimeError), ParquetWriter(tmp_path / "t.parquet", rows=2) as out:
        for tokens in wanted:
            out.append(tokens)
        raise RuntimeError
    assert_same(load(tmp_path / "t.parquet"), wanted)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3


def test_a_parquet_writer_that_was_stopped_is_not_closed_again(tmp_path, monkeypatch):
    """Nobody would see the error, and Python would print it."""
    unseen = []
    monkeypatch.setattr("sys.unraisablehook", unseen.append)

    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ParquetWriter, "flush", stopped)
    with pytest.raises(KeyboardInterrupt), open(tmp_path / "t", "wb") as handle, ParquetWriter(handle) as out:
        out.append(make(3, 0))
    del out
    gc.collect()
    assert unseen == []


def test_parquet_data_carry_checksums(tmp_path):
    """A changed byte is refused, or lies in a page header that says nothing about the tokens."""
    path = tmp_path / "t.parquet"
    wanted = [make(400, i) for i in range(4)]
    save(wanted, path)
    whole, refused = path.read_bytes(), []
    places = range(100, len(whole) // 2, 61)
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert_same(load(path), wanted)
        except CorruptFile:
            refused.append(at)
    assert len(refused) > 0.8 * len(places)


def test_save_leaves_the_old_file_when_the_tokens_fail(tmp_path):
    path = tmp_path / "t.csv"
    save(make(), path)
    before = path.read_bytes()

    def failing():
        yield make(3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        save(failing(), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_many_chains_that_are_all_alike_come_back(tmp_path, suffix):
    """As the frames of a simulation: they pack better than most bombs."""
    frames = [replace(make(300), name=f"{i}") for i in range(4000)]
    path = tmp_path / f"frames{suffix}"
    save(frames, path)
    assert sum(len(chain) for chain in scan(path)) == 4000 * 300


def test_a_residue_is_a_code_and_several_are_tokens():
    tokens = make(n=9)
    assert list(tokens) == [tokens[i] for i in range(9)] == tokens.ids.tolist()
    assert tokens[-1] == tokens[8] == tokens[np.int64(8)] and type(tokens[0]) is int
    assert (
        list(tokens[2:5])
        == list(tokens[[2, 3, 4]])
        == list(tokens[tokens.index < 6][2:])
        == list(tokens)[2:5]
    )
    assert np.array_equal(np.asarray(tokens), tokens.ids)
    with pytest.raises(IndexError):
        tokens[9]


def test_a_table_has_a_row_a_residue():
    pytest.importorskip("pandas", reason="needs pandas: pip install 'protok[interop]'")
    tokens = make(
        n=5, size=3, alphabet="xyz", index=np.array([7, 8, 8, 9, 10]), icode=np.array(list("  A  "))
    )
    table = tokens.to_pandas()
    assert table.columns.tolist() == ["chain", "index", "icode", "residue", "token", "letter"]
    for key, column in (("chain", tokens.chain), ("index", tokens.index), ("icode", tokens.icode)):
        assert table[key].tolist() == column.tolist()
    assert table.token.tolist() == list(tokens) and "".join(table.letter) == tokens.letters
    assert "".join(table.residue) == tokens.sequence
    assert "letter" not in make().to_pandas()
