"""The encoder with its features and messages in C++: about twice as fast on one core.

``native.cpp`` lies beside this module and is compiled by the machine's own C++ compiler on first
use, which takes seconds; the library is kept for the next process (in the folder that the
variable ``PROTOK_CACHE`` names, else in the user's cache). What torch multiplies fast stays with
torch. One thread computes, whatever torch is set to.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from protok.common.files import atomic_path
from protok.errors import ProtokError, Unsupported
from protok.model.encoder import Encoder
from protok.model.features import EDGE, Batch, node_features

SOURCE = Path(__file__).with_suffix(".cpp")
#: No -ffast-math: a library with it changes the arithmetic of the whole process.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
#: Columns must be a multiple of two of the longest vectors of the compiled loop.
COLUMNS = 32
#: Residues that go through matrix products together: their states stay in the cache.
ROWS = {torch.float32: 256, torch.bfloat16: 1024}


def compiler() -> str:
    """Path of the C++ compiler: that of the variable ``CXX``, else one that is installed.

    Raises
    ------
    ProtokError
        If there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        found = shutil.which(name)
        if found:
            return found
    raise ProtokError("there is no C++ compiler", "install g++ or clang, or compute with torch or onnx")


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled library, made if it is not there yet.

    Raises
    ------
    ProtokError
        If there is no compiler, or it fails.
    """
    tool, source = compiler(), SOURCE.read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, tool, _processor())).encode()).hexdigest()[:16]
    name = f"native-{key}.so"
    folder = _cache()
    if folder is None:  # for this process alone
        with tempfile.TemporaryDirectory() as place:
            return ctypes.CDLL(str(_build(tool, Path(place, name))))
    path = folder / name
    return ctypes.CDLL(str(path if path.exists() else _build(tool, path)))


def _processor() -> str:
    """What the machine code depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{platform.system()} {platform.machine()} {flags}"


def _cache() -> Path | None:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("PROTOK_CACHE") or Path(base, "protok")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None


def _build(tool: str, path: Path) -> Path:
    """Compile; the file appears whole, as several processes may do this at once."""
    with atomic_path(path) as draft:
        for extra in (("-march=native",), ()):  # not every compiler knows it
            command = [tool, *FLAGS, *extra, "-o", str(draft), str(SOURCE)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            except OSError as error:
                raise ProtokError(f"{tool} does not run ({error})", "check it, or use onnx") from error
            if done.returncode == 0:
                return path
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise ProtokError(f"{tool} cannot compile the encoder ({reason})", "set CXX, or use onnx")


class NativeEncoder:
    """Features and messages by the compiled library.

    Parameters
    ----------
    encoder
        The network; its weights are copied.
    half
        Compute the matrix products of all layers but the first, which the codes depend on most,
        in bfloat16.

    Raises
    ------
    ProtokError
        If there is no compiler, or it fails.
    Unsupported
        If the width of the network is no multiple of 32.
    """

    def __init__(self, encoder: Encoder, half: bool = False):
        compiler()
        library()  # here, so that the worker processes of a job find it made
        self.encoder = copy.deepcopy(encoder).cpu().eval()
        hidden = self.encoder.inputs.out_features
        if hidden % COLUMNS:
            raise Unsupported(
                f"an encoder of width {hidden} cannot be computed natively", "use torch or onnx"
            )
        with torch.no_grad():
            self.layers = [
                _Layer(message, torch.bfloat16 if half and number else torch.float32)
                for number, message in enumerate(self.encoder.messages)
            ]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        device = batch.coords.device
        node, edges = featurize(batch.to("cpu"), self.encoder.neighbours, self.encoder.placed)
        h = self.encoder.inputs(node)
        for layer in self.layers:
            h = layer(h, edges)
        return self.encoder.outputs(h).to(device)


#: Features, separations and indices of edges, as `protok.model.features.Graph` has them but in int32
#: and with index -1 for no neighbour, where the others mean nothing.
Edges = tuple[Tensor, Tensor, Tensor]


def featurize(batch: Batch, k: int, placed: bool) -> tuple[Tensor, Edges]:
    """Node features and edges of a batch, as `protok.model.features.featurize` gives them."""
    n = len(batch.coords)
    node, edge = torch.zeros(n, node_features(placed)), torch.empty(n, k, EDGE)
    separation, index = (torch.empty(n, k, dtype=torch.int32) for _ in range(2))
    sizes = torch.tensor(batch.sizes, dtype=torch.long)
    coords = batch.coords.float().contiguous()
    mask, chain = batch.mask.to(torch.uint8).contiguous(), batch.chain.long().contiguous()
    library().protok_features(
        _int(n),
        _at(coords),
        _at(mask),
        _at(chain),
        _int(len(sizes)),
        _at(sizes),
        _int(k),
        _int(placed),
        _at(node),
        _at(edge),
        _at(separation),
        _at(index),
    )
    return node, (edge, separation, index)


class _Layer:
    """A round of messages, see `protok.model.encoder.Message`, with its weights as they are needed."""

    def __init__(self, message, dtype: torch.dtype):
        here, there = message.here, message.there
        nothing = torch.zeros_like(here.bias)
        self.dtype = dtype
        self.both = _copies(torch.cat([here.weight, there.weight]), torch.cat([here.bias, nothing]), dtype)
        self.edge = message.edge.weight.t().contiguous()
        self.table = message.separation.weight.contiguous()
        self.norm, (self.first, wide, _, narrow) = message.norm, message.feed
        self.out, self.wide, self.narrow = (
            _copies(part.weight, part.bias, dtype) for part in (message.out, wide, narrow)
        )

    def __call__(self, h: Tensor, edges: Edges) -> Tensor:
        edge, separation, index = edges
        (n, hidden), k = h.shape, index.shape[1]
        rows = ROWS[self.dtype]
        both = torch.cat([self._both(part) for part in h.split(rows)])
        summed = torch.empty_like(h)
        library().protok_messages(
            _int(n),
            _int(k),
            _int(hidden),
            _at(both),
            _at(self.table),
            _at(self.edge),
            _at(edge),
            _at(separation),
            _at(index),
            _at(summed),
        )
        parts = zip(h.split(rows), summed.split(rows), strict=True)
        return torch.cat([self._update(part, message, k) for part, message in parts])

    def _both(self, h: Tensor) -> Tensor:
        return F.linear(self.norm(h).to(self.dtype), *self.both).float()

    def _update(self, h: Tensor, message: Tensor, k: int) -> Tensor:
        h = h + F.linear(message.to(self.dtype), *self.out) / k
        wide = F.gelu(F.linear(self.first(h).to(self.dtype), *self.wide))
        return h + F.linear(wide, *self.narrow)


def _copies(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return weight.detach().to(dtype), bias.detach().to(dtype)


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(int(value))
