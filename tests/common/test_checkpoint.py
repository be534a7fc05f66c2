"""Model folders whose weights are no numbers, whose sizes are not theirs, whose names are not paths."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import protok
from protok.cli import main
from protok.common.checkpoint import find_model, named_in
from protok.errors import CodebookMismatch, FormatError, ProtokError
from protok.image.config import CodebookConfig, ImageConfig
from protok.image.network import ImageNetwork
from protok.image.tokenizer import ImageTokenizer
from protok.image.tokens import ImageTokens, save_codes
from protok.model.network import ShapeNetwork
from protok.prior.config import PriorConfig
from protok.prior.layout import Layout
from protok.tokenizers.shapes import ShapeTokenizer
from tests.helpers.models import SMALL
from tests.helpers.paths import ROOT


def _protein():
    torch.manual_seed(0)
    return ShapeTokenizer(ShapeNetwork(SMALL).eval())


def _image():
    torch.manual_seed(0)
    codebook = CodebookConfig(kind="residual", size=8, dim=4, levels=2)
    return ImageTokenizer(ImageNetwork(ImageConfig("small", 8, 4, 8, 8, (1, 1), quantizer=codebook)).eval())


def _prior():
    pytest.importorskip("transformers")
    from protok.prior.model import Prior

    layout = Layout("toy@1", 8, condition="length", longest=32, labels=("16", "32"), lengths=(8,))
    return Prior(PriorConfig("small", layers=1, width=16, heads=2), layout)


MADE = {"protein": _protein, "image": _image, "prior": _prior}


@pytest.fixture(params=MADE)
def model(request, tmp_path):
    """A small model of each kind, and the folder that it is in."""
    made = MADE[request.param]()
    return made, made.save_pretrained(tmp_path / "m")


def edit(folder, section, **values):
    """Change the configuration of a model."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    table = config
    for key in section.split("."):
        table = table[key]
    table.update(values)
    path.write_text(json.dumps(config), "utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_numbers_are_refused(model, value):
    made, folder = model
    file = folder / "model.safetensors"
    state = load_file(file)
    type(made).from_pretrained(folder)
    keys = [key for key in state if state[key].is_floating_point()]
    for key in (keys[0], next((k for k in keys if "codebook" in k), keys[1]), keys[-1]):
        bad = state[key].clone()
        bad.view(-1)[-1] = value
        save_file({**state, key: bad}, file)
        with pytest.raises(FormatError, match=f"{key} is not finite") as error:
            type(made).from_pretrained(folder)
        assert error.value.file == str(folder)


def test_numbers_too_large_for_the_network_are_refused(model):
    """In float64 they are numbers, in the network's float32 they are not."""
    made, folder = model
    file = folder / "model.safetensors"
    state = load_file(file)
    key = next(key for key in state if state[key].ndim > 1)
    save_file({**state, key: torch.full(state[key].shape, 1e300, dtype=torch.float64)}, file)
    with pytest.raises(FormatError, match="is not finite"):
        type(made).from_pretrained(folder)
    save_file({**state, key: state[key].int()}, file)
    with pytest.raises(FormatError, match="weights do not fit"):
        type(made).from_pretrained(folder)


def test_a_model_that_has_diverged_is_not_saved(model):
    made, folder = model
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        next(made.network.parameters()).fill_(float("nan"))
    with pytest.raises(FormatError, match="not finite.*train again"):
        made.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(FormatError):
        made.save_pretrained(folder.parent / "new")
    assert not (folder.parent / "new").exists()


def test_decoders_that_are_no_numbers_write_no_structure(tmp_path, examples, capsys):
    folder = _protein().save_pretrained(tmp_path / "m")
    file, tokens = str(examples / "7w89.A.pdb"), tmp_path / "t.fasta"
    assert main.main(["encode", file, "-o", str(tokens), "--model", str(folder)]) == main.OK
    state = load_file(folder / "model.safetensors")
    key = next(key for key in state if key.startswith("refiner."))
    save_file({**state, key: state[key] * float("nan")}, folder / "model.safetensors")
    command = ["decode", str(tokens), "-o", str(tmp_path / "out"), "--model", str(folder)]
    assert main.main(command) == main.USAGE
    assert f"{key} is not finite" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.pdb"))


@pytest.mark.parametrize(
    ("kind", "section", "key", "values"),
    [
        ("protein", "model.encoder", "window", (0, -1, 10**4, 10**9)),
        ("protein", "model.encoder", "layers", (0, -1)),
        ("protein", "model.steps", "layers", (0, -1)),
        ("protein", "model.refiner", "kernel", (0, -1, 10**9)),
        ("protein", "model.keyframes", "sizes", ([0, 1], [-1, 16], [16], [10**9, 16])),
        ("protein", "model.keyframes", "spacings", ([0, 4], [4, 4], [])),
        ("protein", "model.quantizer", "size", (0, -1)),
        ("protein", "model.quantizer", "dim", (0, -1)),
        ("image", "model", "width", (0, -8)),
        ("image", "model", "blocks", (0, -1)),
        ("image", "model", "multiples", ([0, 1], [-1, -1])),
        ("image", "model.quantizer", "levels", (0, -1, 3)),
        ("prior", "model", "heads", (0, -2, 3, 5, 16)),
        ("prior", "model", "dropout", (-0.5, 1.5, float("nan"))),
        ("prior", "layout", "size", (0, -1, 7)),
        ("prior", "layout", "longest", (0, -1, 40, 10**12)),
        ("prior", "layout", "labels", ([1, 2], ["16"], [])),
        ("prior", "layout", "lengths", ([0], ["a"], [1.5])),
        ("prior", "layout", "grid", ([1], [2, 2, 1], ["a", 1, 1])),
        ("prior", "layout", "condition", ("sequence", "other", 1)),
        ("prior", "layout", "order", ("other", 1)),
    ],
)
def test_sizes_that_mean_nothing_are_refused_when_loaded(kind, section, key, values, tmp_path):
    made = MADE[kind]()
    folder = made.save_pretrained(tmp_path / "m")
    good = (folder / "config.json").read_bytes()
    for value in values:
        (folder / "config.json").write_bytes(good)
        edit(folder, section, **{key: value})
        with pytest.raises(FormatError) as error:
            type(made).from_pretrained(folder)
        assert error.value.file == str(folder), value


def test_provenance_that_is_no_table_is_refused(model):
    made, folder = model
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "provenance": "nobody"}), "utf-8")
    with pytest.raises(FormatError, match="provenance"):
        type(made).from_pretrained(folder)


#: Loads each folder, which must be refused, and prints how much memory that took, in MB.
SCRIPT = """
import resource, sys
from protok.errors import FormatError
from protok.image.tokenizer import ImageTokenizer
from protok.prior.model import Prior
from protok.tokenizers.shapes import ShapeTokenizer
kinds = {"protein": ShapeTokenizer, "image": ImageTokenizer, "prior": Prior}
good, *bad = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for folder in good.split(","):
    kinds[folder.rpartition("/")[2].split("-")[0]].from_pretrained(folder)
before = peak()
for folder in bad:
    try:
        kinds[folder.rpartition("/")[2].split("-")[0]].from_pretrained(folder)
    except FormatError as error:
        continue
    print("loaded", folder)
print(peak() - before)
"""

LARGE = [
    ("protein", "model.quantizer", {"size": 1 << 24, "dim": 300}),
    ("protein", "model.quantizer", {"dim": 50_000}),
    ("protein", "model.quantizer", {"kind": "fsq", "size": 1 << 24, "dim": 300}),
    ("protein", "model.encoder", {"layers": 5000}),
    ("protein", "model.encoder", {"layers": 10**9}),
    ("protein", "model.encoder", {"hidden": 1 << 16}),
    ("protein", "model.refiner", {"layers": 5000}),
    ("protein", "model.steps", {"width": 1 << 16}),
    ("protein", "model.keyframes", {"sizes": [1 << 28, 64]}),
    ("image", "model", {"blocks": 10**6}),
    ("image", "model", {"width": 10**5}),
    ("image", "model", {"multiples": [1, 10**5]}),
    ("image", "model.quantizer", {"size": 1 << 24, "dim": 300}),
    ("image", "model.quantizer", {"levels": 10**7}),
    ("prior", "model", {"layers": 10**6}),
    ("prior", "model", {"width": 1 << 20}),
    ("prior", "layout", {"size": 10**9}),
    ("prior", "layout", {"longest": 1 << 40}),
    ("prior", "model", {"architecture": "gpt2", "width": 1 << 18}),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is measured by resource")
def test_sizes_that_multiply_beyond_the_weights_take_no_memory(tmp_path):
    pytest.importorskip("transformers")
    good = [str(make().save_pretrained(tmp_path / kind)) for kind, make in MADE.items()]
    bad = []
    for number, (kind, section, values) in enumerate(LARGE):
        folder = MADE[kind]().save_pretrained(tmp_path / f"{kind}-{number}")
        edit(folder, section, **values)
        bad.append(str(folder))
    # Weights of many tensors do not pay for many layers.
    folder = tmp_path / "protein-many"
    _protein().save_pretrained(folder)
    many = {f"encoder.layers.{i}.x": torch.zeros(1) for i in range(5000)}
    save_file({**load_file(folder / "model.safetensors"), **many}, folder / "model.safetensors")
    edit(folder, "model.encoder", layers=5000)
    command = [sys.executable, "-c", SCRIPT, ",".join(good), *bad, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 300, f"{done.stdout} MB"


# Names


def test_shipped_names_win_and_a_folder_needs_a_separator(tmp_path, monkeypatch):
    expected = protok.load("protok-1").codebook
    for name in ("protok-1", "mine", "3di"):
        _protein().save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert protok.load("protok-1").codebook == expected
    own = protok.load("./protok-1").codebook
    assert own != expected and own == protok.load(tmp_path / "mine").codebook
    assert protok.load("mine/").codebook == own
    with pytest.raises(FormatError, match=r"no model 'mine'; give \./mine for the folder here, or one of"):
        protok.load("mine")
    assert protok.load("3di").alphabet
    monkeypatch.chdir(tmp_path / "mine")
    assert protok.load(".").codebook == own
    for name in ("../protok/weights/protok-1", "..", ""):
        with pytest.raises(FormatError, match="no model"):
            find_model(name)


HOSTILE = ["../m", "m", "./m", "/tmp/m", "hf:someone/model", "hf:someone/model@v1", "", ".", "protok-1\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_inside_a_file_is_no_path(name, tmp_path, monkeypatch, examples, capsys):
    monkeypatch.setattr("protok.common.hub.download", lambda *_: pytest.fail("it was downloaded"))
    (tmp_path / "here").mkdir()
    image, protein = _image(), _protein()
    for folder in (tmp_path / "m", tmp_path / "here" / "m"):
        image.save_pretrained(folder)
    monkeypatch.chdir(tmp_path / "here")
    identity = image.codebook.rpartition("@")[2]
    tokens = image.encode(np.zeros((16, 16, 3), np.uint8), name="a")
    save_codes([replace(tokens, codebook=f"{name}@{identity}")], "c.npz")
    assert main.main(["image", "decode", "c.npz", "-o", "out"]) == main.USAGE
    assert "no model of that name is known" in capsys.readouterr().err
    chain = protein.encode(protok.read(examples / "7w89.A.pdb"))
    protok.tokens.files.save([replace(chain, codebook=f"{name}@{identity}")], "t.npz")
    assert main.main(["decode", "t.npz", "-o", "out"]) == main.USAGE
    assert not (tmp_path / "here" / "out").exists()
    with pytest.raises(CodebookMismatch, match="no model of that name"):
        named_in(f"{name}@1")


@pytest.mark.parametrize("grid", [(), (2, 2, 1)])
def test_a_prior_names_no_path_either(grid, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    from protok.prior.model import Prior

    monkeypatch.setattr("protok.common.hub.download", lambda *_: pytest.fail("it was downloaded"))
    (_image if grid else _protein)().save_pretrained(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    for name in ("./m", "hf:someone/model"):
        layout = Layout(f"{name}@1", 8, grid, (16, 16, 8) if grid else (), longest=32, lengths=(8,))
        Prior(PriorConfig("p", layers=1, width=16, heads=2), layout).save_pretrained("p")
        assert main.main(["prior", "sample", "./p", "-n", "1", "-o", "out"]) == main.USAGE
        assert "no model of that name is known" in capsys.readouterr().err


# Image codes


@pytest.mark.parametrize("key", ["ids", "size", "factor", "shape", "levels"])
def test_image_codes_that_are_no_whole_numbers_are_refused(key, tmp_path):
    from protok.image.tokens import load_codes

    tokens = _image().encode(np.zeros((16, 16, 3), np.uint8), name="a")
    path = save_codes([tokens], tmp_path / "c.npz")
    with np.load(path) as held:
        columns = {k: held[k] for k in held.files}
    for value in (columns[key].astype(float), columns[key].astype(float) + 0.25, columns[key] > 0):
        np.savez(path, **{**columns, key: value})
        with pytest.raises(ProtokError, match="not whole numbers"):
            load_codes(path)
    with pytest.raises(ValueError, match="not whole numbers"):
        ImageTokens(tokens.ids + 0.5, 8, tokens.codebook, 16, 16, 8)
