"""Token files, archives, matrices and model folders with damaged or hostile bytes.

Whatever they hold, reading gives what was asked for or a ProtokError; nothing is executed, nothing
is written beside, and no small file takes much memory. Found cases are tests of their own.
"""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import protok
from protok.analysis.database import Database
from protok.analysis.substitution import Matrix, of_codebook
from protok.common.settings import RecipeError
from protok.errors import CorruptFile, FormatError, ProtokError
from protok.tokens.files import load, save
from protok.tokens.keyframes import LINK, Keyframes
from protok.tokens.tokens import LARGEST, Tokens
from protok.tokens.vocabulary import Vocabulary
from tests.helpers.models import small

BOUNDED = settings(
    max_examples=70, deadline=5000, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PIECES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"\n",
            b",",
            b"-",
            b"-1",
            b">",
            b"=",
            b"%00",
            b"%2F",
            b"\0",
            b"\xff",
            b"999999999999",
            b"size=99999999",
            b"index=1:999999999",
            b"NaN",
            b"[]",
            b"{}",
            b"null",
            b"1e999",
            b"PK",
        ]
    ),
    st.binary(min_size=1, max_size=4),
)


def edits(data: bytes):
    edit = st.tuples(st.integers(0, len(data)), st.sampled_from([0, 1, 2, 8, 60]), PIECES)
    return st.lists(edit, min_size=1, max_size=5)


def edited(data: bytes, changes) -> bytes:
    mutant = bytearray(data)
    for at, length, piece in changes:
        mutant[at : at + length] = piece
    return bytes(mutant)


def tokens(n=30, alphabet=""):
    return Tokens(
        np.arange(n) % 20 - 1,
        20,
        "toy@1",
        "A" * n,
        np.full(n, "A"),
        np.arange(n),
        np.full(n, ""),
        "a/b c",
        alphabet,
    )


def framed(alphabet=""):
    """Tokens of two runs with keyframes."""
    chain = tokens(40, alphabet)
    ids = np.abs(chain.ids)
    frames = Keyframes.laid(ids, chain.chain, 4, 16, range(8), breaks=[20], links=[range(LINK)])
    return replace(chain, ids=ids, keyframes=frames)


@pytest.mark.parametrize("suffix", [".fasta", ".csv", ".npz", ".parquet", ".fasta.gz"])
@pytest.mark.parametrize("alphabet", ["", "ACDEFGHIKLMNPQRSTVWY"])
def test_token_files(suffix, alphabet, tmp_path):
    path = tmp_path / f"t{suffix}"
    save([framed(alphabet), tokens(), tokens(7, alphabet)], path)
    data = path.read_bytes()

    @BOUNDED
    @given(edits(data))
    def mutate(changes):
        path.write_bytes(edited(data, changes))
        try:
            loaded = load(path)
        except ProtokError as error:
            assert error.cause and str(path) in str(error)
            return
        for chain in loaded:
            assert len(chain.ids) == len(chain) and chain.ids.min(initial=0) >= -1
            assert chain.ids.max(initial=0) < chain.size <= LARGEST
            assert chain.keyframes is None or (chain.ids[chain.keyframes.place] >= 0).all()
        if loaded:
            try:
                Database(loaded)
            except ProtokError:
                pass

    mutate()


def test_matrices(tmp_path):
    path = tmp_path / "m.npz"
    of_codebook(np.eye(5), "toy@1").save(path)
    data = path.read_bytes()

    @BOUNDED
    @given(edits(data))
    def mutate(changes):
        path.write_bytes(edited(data, changes))
        try:
            assert Matrix.load(path).size >= 1
        except ProtokError as error:
            assert str(path) in str(error)

    mutate()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model, so that hundreds are loaded in seconds."""
    return small().save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_model_folders(name, model, tmp_path):
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = (model / name).read_bytes()
    # The weights themselves may be any numbers; what says where they lie may not.
    head = data[: 8 + int.from_bytes(data[:8], "little")] if name.endswith("tensors") else data

    @BOUNDED
    @given(edits(head))
    def mutate(changes):
        (tmp_path / name).write_bytes(edited(head, changes) + data[len(head) :])
        try:
            protok.ShapeTokenizer.from_pretrained(tmp_path)
        except ProtokError as error:
            assert str(tmp_path) in str(error)

    mutate()


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.text(max_size=3),
        st.sampled_from([10**4, 10**9, 10**30, -1, 0, 0.5, float("inf"), "provq", "fsq"]),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


def test_configurations_with_any_values(model, tmp_path):
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    good = json.loads((model / "config.json").read_text())
    sections = ("encoder", "quantizer", "steps", "refiner", "keyframes")
    keys = [(section, key) for section in sections for key in good["model"][section]]

    @BOUNDED
    @given(st.sampled_from([("",), ("model",), *keys]), VALUES)
    def mutate(place, value):
        config = json.loads(json.dumps(good))
        if len(place) == 2:
            config["model"][place[0]][place[1]] = value
        elif place[0]:
            config["model"] = value
        else:
            config = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            protok.ShapeTokenizer.from_pretrained(tmp_path)
        except ProtokError as error:
            assert str(tmp_path) in str(error)

    mutate()


def test_recipes(tmp_path):
    from protok.training.config import read_recipe

    path = tmp_path / "r.toml"
    data = b'[model]\nname = "x"\n[model.encoder]\nhidden = 8\n[optim]\nsteps = 10\nlr = 1e-3\n'

    @BOUNDED
    @given(edits(data))
    def mutate(changes):
        path.write_bytes(edited(data, changes))
        try:
            read_recipe(path)
        except RecipeError as error:
            assert str(path) in str(error)

    mutate()


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives(kind, examples, tmp_path):
    text = (examples / "7soo.A.pdb").read_bytes()[:4000]
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name in ("x.pdb", "y.pdb"):
                out.writestr(name, text)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as out:
            for name in ("x.pdb", "y.pdb"):
                member = tarfile.TarInfo(name)
                member.size = len(text)
                out.addfile(member, io.BytesIO(text))
    data = path.read_bytes()
    from protok.pipeline.batches import encode_files

    @settings(BOUNDED, max_examples=30)
    @given(edits(data))
    def mutate(changes):
        path.write_bytes(edited(data, changes))
        try:
            results = list(encode_files([path], "3di", max_bytes=1 << 20))
        except ProtokError as error:
            assert str(path) in str(error)
            return
        for result in results:
            assert result.tokens or result.errors
            assert str(path) in result.path

    before = {file.name for file in tmp_path.iterdir()}
    mutate()
    assert {file.name for file in tmp_path.iterdir()} == before, "members never become files"


# Found cases


@pytest.mark.parametrize("content", [b"\x80", b"a = " + b"[" * 5000])
def test_recipes_that_are_no_text_or_too_deep(content, tmp_path):
    from protok.training.config import read_recipe

    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_recipe(tmp_path / "r.toml")


class _Bomb:
    """Pickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path, model):
    trace = tmp_path / "trace"
    bomb = np.array([_Bomb(trace)], dtype=object)
    columns = dict.fromkeys("length size sequence chain ids index icode name codebook alphabet".split(), bomb)
    np.savez(tmp_path / "t.npz", **columns)
    with pytest.raises(CorruptFile, match="npz cannot be read"):
        load(tmp_path / "t.npz")
    np.savez(tmp_path / "m.npz", scores=bomb, gap=bomb, codebook=bomb, origin=bomb)
    with pytest.raises(CorruptFile):
        Matrix.load(tmp_path / "m.npz")
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(_Bomb(trace)))
    with pytest.raises(FormatError, match="not a protok model"):
        protok.load(tmp_path)
    assert not trace.exists()


def test_every_unpickling_in_the_source_is_of_our_own_processes():
    """`pickle` crosses process borders in three modules; torch.load takes weights alone."""
    import ast
    from pathlib import Path

    root = Path(protok.__file__).parent
    ours = {"decode.py", "batches.py", "ray.py"}
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            of = getattr(node.func.value, "id", "")
            options = {key.arg: getattr(key.value, "value", None) for key in node.keywords}
            where = f"{file.name}:{node.lineno}"
            if of == "pickle" and node.func.attr in ("load", "loads"):
                assert file.name in ours, where
            if of == "torch" and node.func.attr == "load":
                # The official release is pickled lists: read by an unpickler that knows no calls.
                assert options.get("weights_only") is True or "pickle_module" in options, where
            if of == "np" and node.func.attr == "load":
                assert not options.get("allow_pickle"), where
            assert (of, node.func.attr) not in {("os", "system"), ("yaml", "load")}, where


def test_a_codebook_of_billions_is_refused_before_there_is_memory_for_it(tmp_path):
    path = tmp_path / "t.fasta"
    path.write_text(">a_A codebook=protok-1@0123abcd size=9000000000\n1,2,3\n")
    with pytest.raises(CorruptFile, match="a codebook of 9000000000 codes"):
        load(path)
    path.write_text(">a_A codebook=protok-1@0123abcd size=16000000\n1,2,3\n")
    (chain,) = load(path)
    with pytest.raises(ProtokError, match="16000000 codes"):
        from protok.analysis.search import search

        search(chain, Database([chain]), Matrix(np.eye(512, dtype=int) * 9 - 1, (-9, -1), chain.codebook))
    assert len(Vocabulary.of(chain)) == 16_000_006


def test_two_sizes_of_one_codebook_are_refused():
    with pytest.raises(CorruptFile, match="20 and of 30 codes under one name"):
        Database([tokens(), replace(tokens(), size=30)])


def test_lines_of_gigabytes_are_refused(tmp_path, monkeypatch):
    from protok.common import arrays
    from protok.tokens import fasta

    monkeypatch.setattr(fasta, "LINE", 1000)
    head = b">a_A codebook=toy@1 size=20\n"
    for body in (b"1," * 5000 + b"1\n", b"1,1,1,\n" * 2000, b"\n"):
        with gzip.open(tmp_path / "t.fasta.gz", "wb") as handle:
            handle.write(head + body)
        if body == b"\n":
            assert len(load(tmp_path / "t.fasta.gz")[0]) == 0
            continue
        with pytest.raises(CorruptFile, match="more than 1000 characters"):
            load(tmp_path / "t.fasta.gz")
    save(tokens(), tmp_path / "t.npz")
    monkeypatch.setattr(arrays, "FLOOR", 100)
    monkeypatch.setattr(arrays, "RATIO", 0)
    with pytest.raises(CorruptFile, match="unpacks to"):
        load(tmp_path / "t.npz")


def test_a_configuration_that_asks_for_the_machine_is_refused(model, tmp_path):
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    good = json.loads((model / "config.json").read_text())
    for section, key in (
        ("encoder", "layers"),
        ("encoder", "hidden"),
        ("steps", "layers"),
        ("refiner", "width"),
        ("quantizer", "size"),
        ("quantizer", "dim"),
        ("keyframes", "sizes"),
    ):
        config = json.loads(json.dumps(good))
        config["model"][section][key] = [10**8] * 2 if key == "sizes" else 10**8
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(FormatError, match="do not fit config.json|larger than what the weights hold"):
            protok.load(tmp_path)
