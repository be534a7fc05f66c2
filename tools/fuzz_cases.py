"""What `tools/fuzz.py` damages: small sound files of each format, and how they are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

import protok
from protok.errors import ProtokError
from protok.tokens.files import load, save
from protok.tokens.keyframes import LINK, Keyframes
from protok.tokens.tokens import LARGEST, Tokens
from tools.fuzz_edits import edit, edit_arrays, edit_json, edit_messages, edit_tensors

ROOT = Path(__file__).resolve().parents[1]
#: Shares of the targets among the cases.
WEIGHTS = {
    "pdb": 22,
    "mmcif": 22,
    "bcif": 12,
    "foldcomp": 4,
    "fasta": 6,
    "csv": 6,
    "parquet": 6,
    "npz": 6,
    "codes": 4,
    "model": 6,
    "image": 3,
    "prior": 3,
}
LETTERS = set("ACDEFGHIKLMNPQRSTVWYXUOBZ")
Files = dict[str, bytes]
Seeds = dict[str, list[tuple[str, Files]]]
"""Of each target the sound inputs: a name, and the files of a folder or one file."""


@dataclass
class Case:
    """A mutated input, and the function that reads it."""

    target: str
    name: str
    files: Files
    use: Callable[[Path], None]

    def write(self, folder: Path) -> Path:
        """Write the input and return its path."""
        path = folder / self.name
        if set(self.files) == {""}:
            path.write_bytes(self.files[""])
            return path
        path.mkdir(exist_ok=True)
        for name, data in self.files.items():
            (path / name).write_bytes(data)
        return path

    def remove(self, path: Path) -> None:
        """Take the input away again."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def build(targets: Collection[str] = tuple(WEIGHTS)) -> Seeds:
    """Make the sound inputs of some targets."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = _structures() | _token_files(Path(folder)) | _models(Path(folder))
    return {target: seeds[target] for target in WEIGHTS if target in targets and target in seeds}


def _structures() -> Seeds:
    pdb = (ROOT / "data" / "7w89.A.pdb").read_bytes().splitlines(keepends=True)
    atoms = [line for line in pdb if line.startswith(b"ATOM")]
    some = [*atoms[:150], *(line[:21] + b"B" + line[22:] for line in atoms[150:240])]
    some += [b"HETATM  900  O   HOH A 901      10.000  10.000  10.000  1.00 10.00           O\n", b"END\n"]
    alternate = [line[:16] + alt + line[17:] for line in atoms[:60] for alt in (b"A", b"B")]
    models = [
        b"MODEL        1\n",
        *atoms[:60],
        b"ENDMDL\nMODEL        2\n",
        *atoms[:50],
        b"ENDMDL\n",
        b"END\n",
    ]
    pdbs = [b"".join(lines) for lines in (some, [*alternate, b"TER\n", b"END\n"], models)]
    cif = (ROOT / "data" / "7vmf.A.cif").read_bytes()
    rows = cif.splitlines(keepends=True)
    begin = next(i for i, line in enumerate(rows) if line.startswith((b"ATOM", b"HETATM")))
    cifs = [b"".join([*rows[: begin + 150], b"#\n"])]
    cifs.append(cifs[0].replace(b" ALA ", b" 'ALA' ", 3))
    cifs.append(
        b"".join([*rows[:begin], *rows[begin : begin + 150] * 30, b"#\n"])
    )  # a long value in many rows
    seeds = {
        "pdb": [("x.pdb", {"": data}) for data in pdbs] + [("x.pdb.gz", {"": gzip.compress(pdbs[0])})],
        "mmcif": [("x.cif", {"": data}) for data in cifs],
        "bcif": [("x.bcif", {"": _binary(pdbs[0], packed)}) for packed in (True, False)],
    }
    with contextlib.suppress(ImportError):
        import foldcomp

        seeds["foldcomp"] = [("x.fcz", {"": vars(foldcomp)["compress"]("x", b"".join(atoms).decode())})]
    return seeds


def _binary(pdb: bytes, packed: bool) -> bytes:
    from biotite.structure.io import pdb as text
    from biotite.structure.io import pdbx

    atoms = text.PDBFile.read(io.StringIO(pdb.decode())).get_structure(model=1, extra_fields=["b_factor"])
    file = pdbx.BinaryCIFFile()
    pdbx.set_structure(file, atoms, data_block="x")
    out = io.BytesIO()
    if packed:
        file = pdbx.compress(file)
        assert isinstance(file, pdbx.BinaryCIFFile)
    file.write(out)
    return out.getvalue()


def _token_files(folder: Path) -> Seeds:
    def tokens(n: int, alphabet: str) -> Tokens:
        places = np.arange(1, n + 1), np.full(n, "")
        return Tokens(
            np.arange(n) % 20 - 1, 20, "toy@1", "A" * n, np.full(n, "A"), *places, "a/b c", alphabet
        )

    seeds: Seeds = {}
    for suffix in (".fasta", ".fasta.gz", ".csv", ".csv.gz", ".parquet", ".npz"):
        for alphabet in ("", "ACDEFGHIKLMNPQRSTVWY"):
            path = folder / f"t{suffix}"
            long = tokens(2000 if alphabet else 7, alphabet)
            save([_framed(tokens(40, alphabet)), tokens(30, alphabet), long], path)
            seeds.setdefault(suffix[1:].removesuffix(".gz"), []).append((path.name, {"": path.read_bytes()}))
    return seeds


def _framed(tokens: Tokens) -> Tokens:
    """The same of two runs that no break of numbers shows, with keyframes."""
    half, ids = len(tokens) // 2, np.abs(tokens.ids)
    links, codes = [range(LINK)], range(2 * (half // 4 - 1))
    frames = Keyframes.laid(ids, tokens.chain, 4, 16, codes, breaks=[half], links=links)
    return replace(tokens, ids=ids, keyframes=frames)


def _models(folder: Path) -> Seeds:
    import torch

    from protok.image.config import CodebookConfig, ImageConfig
    from protok.image.network import ImageNetwork
    from protok.image.tokenizer import ImageTokenizer
    from protok.image.tokens import save_codes
    from protok.model.config import ConvolutionConfig, KeyframeConfig, ShapeEncoderConfig, ShapesConfig
    from protok.model.network import ShapeNetwork
    from protok.prior.config import PriorConfig
    from protok.prior.layout import Layout
    from protok.prior.model import Prior
    from protok.quantize.config import QuantizerConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = ConvolutionConfig(width=16, layers=1, kernel=1)
    network = ShapeNetwork(
        ShapesConfig(
            "tiny",
            encoder=ShapeEncoderConfig(hidden=16, layers=1, window=4),
            quantizer=QuantizerConfig(size=32, dim=8),
            steps=small,
            refiner=small,
            keyframes=KeyframeConfig(spacings=(4,), sizes=(16,)),
        )
    )
    image = ImageConfig("i", 4, 2, 8, 8, (1, 1), quantizer=CodebookConfig(size=16, dim=4, levels=2))
    pictures = ImageTokenizer(ImageNetwork(image).eval())
    layout = Layout("toy@1", 20, longest=20, lengths=(4, 9))
    made = {
        "model": protok.ShapeTokenizer(network.eval()).save_pretrained(folder / "model"),
        "image": pictures.save_pretrained(folder / "image"),
        "prior": Prior(PriorConfig("p", layers=1, width=16, heads=2), layout).save_pretrained(
            folder / "prior"
        ),
    }
    seeds = {
        target: [(target, {path.name: path.read_bytes() for path in sorted(place.iterdir())})]
        for target, place in made.items()
    }
    codes = save_codes([pictures.encode(np.zeros((8, 12, 3), np.uint8))], folder / "codes.npz")
    return seeds | {"codes": [(codes.name, {"": codes.read_bytes()})]}


def mutate(seeds: Seeds, seed: int, number: int) -> Case:
    """The case of a number: always the same for the same seed and targets."""
    rng = random.Random(f"{seed}:{number}")
    target = rng.choices([*seeds], [WEIGHTS[target] for target in seeds])[0]
    name, files = rng.choice(seeds[target])
    files = dict(files)
    part = rng.choice([*files])
    data = files[part]
    if part.endswith(".json") and rng.random() < 0.7:
        files[part] = edit_json(data, rng)
    elif part.endswith(".safetensors") and rng.random() < 0.7:
        files[part] = edit_tensors(data, rng)
    elif name.endswith(".bcif") and rng.random() < 0.7:
        files[part] = edit_messages(data, rng)
    elif name.endswith(".npz") and rng.random() < 0.7:
        files[part] = edit_arrays(data, rng)
    elif name.endswith(".gz") and rng.random() < 0.8:
        files[part] = gzip.compress(edit(gzip.decompress(data), rng), 1)
    else:
        files[part] = edit(data, rng)
    return Case(target, name, files, reader(target, rng))


def reader(target: str, rng: random.Random) -> Callable[[Path], None]:
    """What reads the input of a target, and checks what it gives."""
    if target in ("pdb", "mmcif", "bcif", "foldcomp"):
        keep, labels = rng.random() < 0.5, rng.random() < 0.3
        return partial(_use_structure, "keep" if keep else "error", "label" if labels else "author")
    return {"codes": _use_codes, "model": _use_model, "image": _use_image, "prior": _use_prior}.get(
        target, _use_tokens
    )


def _use_structure(
    truncated: Literal["error", "keep"], chain_ids: Literal["author", "label"], path: Path
) -> None:
    backbone = protok.read(path, truncated=truncated, chain_ids=chain_ids)
    assert len(backbone) and set(backbone.sequence) <= LETTERS, "letters"
    assert len(backbone.chain) == len(backbone.index) == len(backbone.icode) == len(backbone), "lengths"
    assert np.isfinite(backbone.coords).any(), "no coordinates"
    assert np.isfinite(backbone.coords[backbone.mask][:, :3]).all(), "mask"


def _use_tokens(path: Path) -> None:
    for chain in load(path):
        assert len(chain.ids) == len(chain.sequence) == len(chain.index), "lengths"
        assert -1 <= chain.ids.min(initial=-1) and chain.ids.max(initial=-1) < chain.size <= LARGEST, "ids"
        if chain.keyframes is not None:
            assert (chain.ids[chain.keyframes.place] >= 0).all(), "keyframes"


def _use_codes(path: Path) -> None:
    from protok.image.tokens import load_codes

    for image in load_codes(path):
        assert 0 <= image.ids.min(initial=0) and image.ids.max(initial=0) < image.size, "ids"


def _check_weights(network: Any) -> None:
    assert all(value.isfinite().all() for value in network.state_dict().values()), (
        "weights that are no numbers"
    )


def _use_model(path: Path) -> None:
    tokenizer = protok.ShapeTokenizer.from_pretrained(path)
    _check_weights(tokenizer.network)
    backbone = protok.read(ROOT / "data" / "7w89.A.pdb")[:16]
    tokens = tokenizer.encode(backbone)
    assert len(tokens) == 16 and tokens.ids.max() < tokens.size, "ids"
    built = tokenizer.decode(tokens)
    assert np.isfinite(built.coords[tokens.ids >= 0]).all(), "coordinates that are no numbers"


def _use_image(path: Path) -> None:
    from protok.image.tokenizer import ImageTokenizer

    tokenizer = ImageTokenizer.from_pretrained(path)
    _check_weights(tokenizer.network)
    tokens = tokenizer.encode(np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3))
    assert 0 <= tokens.ids.min() and tokens.ids.max() < tokens.size, "ids"
    assert tokenizer.decode(tokens).shape == (8, 12, 3), "shape"


def _use_prior(path: Path) -> None:
    from protok.prior.model import Prior
    from protok.prior.sampling import Request, sample

    prior = Prior.from_pretrained(path)
    _check_weights(prior.network)
    with contextlib.suppress(ProtokError):  # a layout of which this is no request
        for ids in sample(prior, [Request(length=5)]):
            assert (np.asarray(ids) < prior.layout.size).all(), "ids"
