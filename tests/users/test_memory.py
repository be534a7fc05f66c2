"""What a reader takes of the machine's memory, at most, whatever a file of some megabytes holds.

Each case is a file that is hostile in one way, read in a process of its own, which says how far
its memory rose. It may be refused or read; both cost no more than `MULTIPLE` times its bytes.
"""

import bz2
import gzip
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tests.helpers.io_files import chain, cif_rows, cif_text

pytestmark = pytest.mark.slow

#: Megabytes that any file may cost, and bytes for each byte of a file.
FLOOR, MULTIPLE = 256, 100
LONG = "x" * 1_000_000
N, SIZE = 4000, 3 * 10**8

#: Reads each file in a fork, so that the libraries are loaded once, and none inherits a peak.
CHILD = """
import json, os, resource, sys
import protok
from protok.analysis.substitution import Matrix
from protok.image.dataset import held_out
from protok.image.tokens import load_codes
from protok.structure.io.sources.archives import list_members, read_members
from protok.structure.store import read_store
from protok.tokens.files import load
from protok.tokens import parquet
import msgpack, zstandard, pyarrow.parquet

def members(path):
    names = [member.name for member in list_members(path)]
    return [len(content) for _, content in read_members(path, names) if not isinstance(content, Exception)]

READERS = {"tokens": load, "read": protok.read, "members": members, "codes": load_codes,
           "pictures": held_out, "store": read_store, "matrix": Matrix.load}
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
for line in sys.stdin:
    path, reader = json.loads(line)
    if os.fork():
        os.wait()
        continue
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    before = resident()
    try:
        outcome = f"{len(READERS[reader](path))} read"
    except protok.ProtokError as error:
        outcome = f"refused: {str(error)[:200]}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {str(error)[:200]}"
    # And of the helper that unpacks Foldcomp data, if it was ended.
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    peak = sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024
    print(json.dumps([path, outcome, max(0, peak - before)]), flush=True)
    os._exit(0)
"""

CASES = {}


def case(name, reader):
    """A function that makes the content of the file `name`."""

    def keep(make):
        CASES[f"{make.__name__}.{name}"] = (reader, make)
        return make

    return keep


def packed(data: bytes, times: int = 1) -> bytes:
    """gzip of a text that is repeated, a stream for each time."""
    return gzip.compress(data) * times


def npz(compressed=True, **arrays) -> bytes:
    raw = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(raw, **arrays)
    return raw.getvalue()


def claimed(shape, size, dtype="<i4") -> bytes:
    """An npz array of zeros, of which a header says more than there is."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue() + bytes(size)


def archive(members: dict, method=zipfile.ZIP_DEFLATED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return raw.getvalue()


def token_arrays(n=N, **changed):
    return {
        "length": np.array([n]),
        "size": np.array([20], np.int32),
        "sequence": np.full(n, "A", "S1"),
        "chain": np.array(["A"]),
        "ids": np.zeros(n, np.int32),
        "index": np.arange(n, dtype=np.int32),
        "icode": np.full(n, ""),
        "name": np.array(["x"]),
        "codebook": np.array(["toy@1"]),
        "alphabet": np.array([""]),
    } | changed


def parquet(rows, **changed) -> bytes:
    from protok.tokens.parquet import token_schema

    columns = {"name": "x", "chain": "A", "sequence": "A" * N, "tokens": [0] * N, "index": [*range(N)]}
    columns |= {"icode": [""] * N, "codebook": "toy@1", "size": 20, "alphabet": ""} | changed
    kinds = {field.name: field.type for field in token_schema()}
    return written({key: (rows, value, kinds[key]) for key, value in columns.items()})


def written(columns) -> bytes:
    """A Parquet file of columns of one value each, `(rows, value, type)`; a text is held once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for key, (rows, value, kind) in columns.items():
        if kind == pa.string():
            arrays[key] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [value])
        else:
            arrays[key] = pa.array([value] * rows, kind)
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out, store_schema=False)
    return out.getvalue()


# Token files


@case("fasta", "tokens")
def chain_id():
    return f">x_{LONG} codebook=toy@1 size=20 sequence={'A' * N}\n{','.join(['1'] * N)}\n".encode()


@case("fasta", "tokens")
def insertion_code():
    return f">x_A codebook=toy@1 size=20 index=1:{N}{LONG}\n{','.join(['1'] * N)}\n".encode()


@case("fasta", "tokens")
def runs_of_everything():
    runs = ",".join(["1:400000"] * 400_000)
    return f">x_A codebook=toy@1 size=20 index={runs}\n{','.join(['1'] * 400_000)}\n".encode()


@case("fasta", "tokens")
def long_records():
    return f">x_A codebook=toy@1 size=20\n{'1,' * 1_000_000}1\n".encode() * 2


@case("fasta.gz", "tokens")
def bomb():
    return packed(b">x_A codebook=toy@1 size=20\n" + b"," * 500_000 + b"\n", 600)


@case("fasta.gz", "tokens")
def empty_lines():
    return packed(b"\n" * 10**6, 20)


@case("csv.gz", "tokens")
def one_line():
    return packed(b"0" * 10**7, 100)


def csv(*rows: str) -> bytes:
    head = "name,chain,index,icode,residue,token,codebook,size,alphabet,length\n"
    return (head + "\n".join(rows) + "\n").encode()


@case("csv.gz", "tokens")
def one_chain():
    return gzip.compress(csv(*["x,A,1,,A,1,toy@1,20,,99999999"] * 4_000_000), 1)


@case("csv.gz", "tokens")
def one_row():
    return packed(csv() + b'"\n","' * 10**6, 100)


@case("csv", "tokens")
def long_fields():
    return csv(*[f"x,{LONG[:130_000]},{i},{LONG[:130_000]},A,1,toy@1,20,,40" for i in range(40)])


@case("csv", "tokens")
def long_chain_id():
    name = LONG[:10_000]
    return csv(*[f"x,{name},{i},,A,1,toy@1,20,,400" for i in range(400)])


@case("npz", "tokens")
def zeros():
    n = 5 * 10**7
    return npz(**token_arrays(n, index=np.zeros(n, np.int8), icode=np.zeros(1, "U1")))


@case("npz", "tokens")
def wide_text():
    return npz(**token_arrays(icode=np.full(N, "x" * 30_000)))


@case("npz", "tokens")
def wide_chain():
    return npz(**token_arrays(chain=np.array([LONG])))


@case("npz", "tokens")
def claims():
    return archive({f"{key}.npy": claimed((10**9,), 10**4) for key in token_arrays()})


@case("npz", "tokens")
def nothing_a_billion_times():
    return archive({f"{key}.npy": claimed((10**9, 0), 0) for key in token_arrays()})


@case("npz", "tokens")
def another_method():
    return archive({f"{key}.npy": claimed((10**8,), 4 * 10**8) for key in ("ids",)}, zipfile.ZIP_BZIP2)


@case("npz", "tokens")
def surplus():
    return npz(**token_arrays(), other=np.zeros(2 * 10**8, np.int8))


@case("parquet", "tokens")
def one_text():
    return parquet(2000, name=LONG)


@case("parquet", "tokens")
def one_chain_id():
    return parquet(100, chain=LONG)


@case("parquet", "tokens")
def one_insertion_code():
    return parquet(2, icode=[LONG[:60_000]] * N)


@case("parquet", "tokens")
def one_number():
    return parquet(40, tokens=np.zeros(10**6, np.int32), index=np.zeros(10**6, np.int32))


# Structures


def long_cif(**fields) -> bytes:
    rows = cif_rows("GLY ALA SER " * (N // 3))
    for row in rows[:1] if "once" in fields else rows:
        row.update({key: value for key, value in fields.items() if key != "once"})
    return cif_text(rows).encode()


@case("cif", "read")
def cif_chain_id():
    return long_cif(auth_asym_id=LONG, once=True)


@case("cif", "read")
def cif_insertion_code():
    return long_cif(pdbx_PDB_ins_code=LONG, once=True)


@case("cif", "read")
def cif_residue_name():
    return long_cif(label_comp_id=f"'{LONG} x'", once=True)


@case("cif", "read")
def cif_coordinate():
    return long_cif(Cartn_x="1" * 20_000_000, once=True)


@case("cif", "read")
def cif_altloc():
    return long_cif(label_alt_id=LONG, once=True)


@case("cif", "read")
def cif_wide_as_can_be():
    return long_cif(auth_asym_id="x" * 64, label_asym_id="y" * 64)


@case("cif", "read")
def cif_one_line():
    return long_cif().replace(b"\nATOM", b" ATOM")


@case("cif.gz", "read")
def cif_bomb():
    return packed(b"loop_\n_atom_site.id\n" + b"1 2\n" * 10**6, 300)


@case("pdb.gz", "read")
def pdb_empty_lines():
    return packed(b"\n" * 10**6, 60)


@case("pdb", "read")
def pdb_long_line():
    return ("\n".join(chain("GLY ALA SER " * 99)) + LONG * 9 + "\nEND\n").encode()


def bcif(rows: int, texts: dict, padding: int = 0) -> bytes:
    """A BinaryCIF file whose columns are runs of one value, or texts and their places."""
    import msgpack

    def integers(values, kind=3):
        data = np.array(values, "<i4").tobytes()
        return {"data": data, "encoding": [{"kind": "ByteArray", "type": kind}]}

    def run(value):
        steps = [{"kind": "RunLength", "srcType": 3, "srcSize": rows}, {"kind": "ByteArray", "type": 3}]
        return {"data": np.array([value, rows], "<i4").tobytes(), "encoding": steps}

    def text(word, offsets=None):
        where = integers(offsets or [0, len(word)])
        step = {
            "kind": "StringArray",
            "dataEncoding": run(0)["encoding"],
            "stringData": word,
            "offsets": where["data"],
            "offsetEncoding": where["encoding"],
        }
        return {"data": run(0)["data"], "encoding": [step]}

    words = {"group_PDB": "ATOM", "label_atom_id": "CA", "label_comp_id": "ALA", "auth_asym_id": "A"}
    words = {tag: (word,) for tag, word in words.items()}
    columns = {
        tag: text(*word) if isinstance(word, tuple) else text(word) for tag, word in (words | texts).items()
    }
    columns |= {tag: run(1) for tag in ("auth_seq_id", "Cartn_x", "Cartn_y", "Cartn_z")}
    listed = [{"name": tag, "data": data, "mask": None} for tag, data in columns.items()]
    category = {"name": "_atom_site", "rowCount": rows, "columns": listed}
    blocks = [{"header": "X", "categories": [category]}]
    return msgpack.packb({"version": "0.3.0", "dataBlocks": blocks, "encoder": "x" * padding})


@case("bcif", "read")
def bcif_long_text():
    return bcif(N, {"auth_asym_id": (LONG,)})


@case("bcif", "read")
def bcif_texts_over_each_other():
    return bcif(N, {"auth_asym_id": (LONG, [0, len(LONG)] * 100_000)})


@case("bcif", "read")
def bcif_runs():
    wide = dict.fromkeys(("auth_asym_id", "label_asym_id", "label_comp_id", "auth_comp_id"), ("x" * 64,))
    return bcif(10**6, wide, 4 * 10**6)


def store(rows: int, name: str, sequence: str) -> bytes:
    import pyarrow as pa

    xyz = np.zeros(12 * len(sequence), np.int16)
    text = pa.string()
    columns = {
        "id": (rows, name, text),
        "seq": (rows, sequence, text),
        "xyz": (rows, xyz, pa.list_(pa.int16())),
    }
    return written(columns)


@case("parquet", "store")
def store_text():
    return store(4000, LONG, "AAA")


@case("parquet", "store")
def store_numbers():
    return store(5, "x", LONG)


# Archives


@case("zip", "members")
def members_of_one_datum():
    """As of D. Fifield, A better zip bomb, 2019: a directory of many names of one place."""
    data = archive({"a.pdb": b"ATOM  " * 500_000})
    at = data.index(b"PK\x01\x02")
    entry, end = data[at:-22], data[-22:]
    count = 60_000
    size = (count * len(entry)).to_bytes(4, "little")
    entries = b"".join(entry for _ in range(count))
    return data[:at] + entries + end[:8] + count.to_bytes(2, "little") * 2 + size + end[16:]


@case("zip", "members")
def a_lying_size():
    data = archive({"a.pdb": bytes(SIZE)})
    return data.replace(SIZE.to_bytes(4, "little"), (10**3).to_bytes(4, "little"))


for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):

    def other(method=packing):
        data = archive({"a.pdb": bytes(SIZE)}, method)
        return data.replace(SIZE.to_bytes(4, "little"), (10**3).to_bytes(4, "little"))

    CASES[f"a_lying_size_{packing}.zip"] = ("members", other)


@case("pdb", "read")
def packed_thrice():
    return gzip.compress(gzip.compress(packed(bytes(10**7), 100)))


@case("pdb", "read")
def bz2_bomb():
    return bz2.compress(bytes(SIZE))


@case("fcz", "read")
def foldcomp_with_a_long_title():
    head = b"FCMPY\x00\xd4\x02B\x01\x01\x00\x05A\x06\xb1\xe2\x01\x00\x00SPL\n\x05\x00\xff\x7f\x00"
    return head + bytes(1500)


# Images and matrices


def image_codes(**changed) -> bytes:
    columns = {
        "format": np.array("protok-image-codes-1"),
        "name": np.array(["x"]),
        "codebook": np.array(["toy@1"]),
        "size": np.array([20]),
        "factor": np.array([8]),
        "shape": np.array([[8, 8]]),
        "levels": np.array([0]),
        "ids": np.zeros(1, np.int32),
    }
    return npz(**(columns | changed))


@case("npz", "codes")
def codes_with_a_surplus():
    return image_codes(other=np.zeros(SIZE, np.int8))


@case("npz", "codes")
def codes_of_zeros():
    return image_codes(ids=np.zeros(10**8, np.int32))


@case("npz", "pictures")
def pictures_with_a_surplus():
    return npz(x=np.zeros((2, 8, 8, 3), np.uint8), other=np.zeros(SIZE, np.int8))


@case("npz", "pictures")
def pictures_of_zeros():
    return npz(x=np.zeros((1000, 500, 600, 1), np.uint8))


@case("npz", "pictures")
def pictures_over_each_other():
    ends = np.array([0, 4 * 10**6] * 10_000)
    return npz(False, train_bytes=np.zeros(4 * 10**6, np.uint8), train_off=ends)


@case("npz", "pictures")
def pictures_of_nothing():
    return archive({"x.npy": claimed((10**9, 0, 8, 3), 0, "|u1")})


@case("npz", "matrix")
def matrix_of_zeros():
    text = np.array("x")
    return npz(scores=np.zeros((20_000, 20_000), np.int8), gap=np.array([-9, -1]), codebook=text, origin=text)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    lines, sizes = [], {}
    for name, (reader, make) in CASES.items():
        path = folder / name
        path.write_bytes(make())
        sizes[name] = path.stat().st_size
        lines.append(json.dumps([str(path), reader]))
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {path.rsplit("/", 1)[1]: (outcome, peak) for path, outcome, peak in rows}, sizes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", CASES)
def test_memory_is_bounded(results, name):
    rows, sizes = results
    outcome, peak = rows[name]
    print(name, sizes[name], outcome, peak >> 20)
    assert outcome.startswith("refused") or outcome.endswith("read"), outcome
    assert peak <= (FLOOR << 20) + MULTIPLE * sizes[name], (peak >> 20, sizes[name], outcome)
