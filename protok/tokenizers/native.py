"""The encoder with its features and messages in C++: about twice as fast on one core, the same codes.

``native.cpp`` lies beside this module and is compiled by the machine's own C++ compiler on first
use, which takes seconds; the library is kept for the next process (in the folder that the
variable ``PROTOK_CACHE`` names, else in the user's cache), in a file whose name holds a digest of
its bytes: what is not as it was written is made anew. A folder that others may write to is refused,
since whatever library lies there runs as the user. What torch multiplies fast stays with torch.
One thread computes, whatever torch is set to.

Latents differ from torch's in the last digits. Codes do not, so only codes are computed so:
embeddings and states are the same whether there is a compiler or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from protok.common.files import atomic
from protok.errors import ProtokError, Unsupported
from protok.model.encoder import Encoder, Message
from protok.model.features import EDGE, Batch, node_features

#: Ways to compute codes: ``auto`` is ``native`` where that works, else ``torch``.
COMPUTE = ("auto", "torch", "native")
SOURCE = Path(__file__).with_suffix(".cpp")
#: No -ffast-math: a library with it changes the arithmetic of the whole process.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
#: Columns must be a multiple of two of the longest vectors of the compiled loop.
COLUMNS = 32
#: Residues that go through matrix products together: their states stay in the cache.
ROWS = 256
REMEDY = "compute with torch"


def compiler() -> str:
    """Path of the C++ compiler: that of the variable ``CXX``, else one that is installed.

    Raises
    ------
    ProtokError
        If there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        path = shutil.which(name)
        if path:
            return path
    raise ProtokError("there is no C++ compiler", f"install g++ or clang, or {REMEDY}")


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled library, made if it is not there yet.

    Raises
    ------
    ProtokError
        If there is no compiler, it fails, its library does not load, or no folder keeps it.
    """
    tool, source = compiler(), SOURCE.read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, tool, _processor())).encode()).hexdigest()[:16]
    base = os.environ.get("PROTOK_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "protok")
    folder = Path(base)
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _mine(folder):
            raise ProtokError(
                "others may write to the folder of the compiled encoder, or it is another user's",
                f"chmod go-w it, let PROTOK_CACHE name a folder of your own, or {REMEDY}",
                file=str(folder),
            )
        for path in sorted(folder.glob(f"native-{key}-*.so")):
            # One that loads on another machine with this home need not load on this one, and another
            # process may just be making it anew.
            with contextlib.suppress(OSError):
                if path.is_file() and _mine(path) and path.name == _name(key, path.read_bytes()):
                    return ctypes.CDLL(str(path))
                path.unlink()
        content = _compiled(tool)
        path = folder / _name(key, content)
        with atomic(path, "wb") as handle:
            os.chmod(handle.name, 0o700)  # whatever others may do with new files
            handle.write(content)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        raise ProtokError(
            f"cannot keep or load the compiled encoder ({error})",
            f"let PROTOK_CACHE name a folder that can be written, or {REMEDY}",
            file=str(folder),
        ) from error


def _name(key: str, content: bytes) -> str:
    """Of a library with these bytes."""
    return f"native-{key}-{hashlib.sha256(content).hexdigest()}.so"


def _mine(path: Path) -> bool:
    """Whether this user, or the system's, alone decides what a path holds."""
    if sys.platform == "win32":  # folders of a user are closed to others
        return True
    held = path.stat()
    return held.st_uid in (0, os.getuid()) and not held.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _processor() -> str:
    """What the machine code depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{platform.system()} {platform.machine()} {flags}"


def _compiled(tool: str) -> bytes:
    """The library that a compiler makes."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "native.so")
        for extra in (("-march=native",), ()):  # not every compiler knows it
            command = [tool, *FLAGS, *extra, "-o", str(draft), str(SOURCE)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, encoding="utf-8", errors="replace"
                )
            except OSError as error:
                raise ProtokError(f"{tool} does not run ({error})", f"set CXX, or {REMEDY}") from error
            if done.returncode == 0:
                return draft.read_bytes()
        message = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise ProtokError(f"{tool} cannot compile the encoder ({message})", f"set CXX, or {REMEDY}")


class NativeEncoder:
    """Features and messages by the compiled library.

    Parameters
    ----------
    encoder
        The network, on the CPU in float32; its weights are read anew at every call.

    Raises
    ------
    ProtokError
        If the library cannot be made, or computes something else than torch does.
    Unsupported
        If the width of the network is no multiple of 32.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        hidden = encoder.inputs.out_features
        if hidden % COLUMNS:
            raise Unsupported(f"an encoder of width {hidden} cannot be computed natively", REMEDY)
        library()
        chain = _check_chain()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            apart = (self(chain) - encoder(chain)).abs().max()
        if not apart < TOLERANCE:
            raise ProtokError(
                f"the compiled encoder is off by {apart:.2g}", f"set CXX to another compiler, or {REMEDY}"
            )

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        node, edges = featurize(batch, self.encoder.neighbours, self.encoder.global_frame)
        h = self.encoder.inputs(node)
        for message in self.encoder.messages:
            h = _updated(h, edges, cast(Message, message))
        return self.encoder.outputs(h)


#: How far latents, which have unit variance, may be from torch's; they are off by 1e-5.
TOLERANCE = 1e-3


def _check_chain() -> Batch:
    """Residues along a spiral, for which a compiled encoder must give what torch gives."""
    turn = torch.arange(48, dtype=torch.float32, device="cpu")[:, None]
    phase = torch.tensor([0.0, 0.6, 1.1, 1.3], dtype=torch.float32, device="cpu") + 1.7 * turn
    radius = torch.tensor([1.5, 2.3, 1.7, 2.0], dtype=torch.float32, device="cpu") + 0.05 * turn
    coords = torch.stack([radius * phase.cos(), radius * phase.sin(), 0.85 * phase], -1)
    return Batch.from_coords(coords, [40, 8])


#: Features, separations and indices of edges, as `protok.model.features.Graph` has them but in int32
#: and with index -1 for no neighbour, where the others mean nothing.
Edges = tuple[Tensor, Tensor, Tensor]


def featurize(batch: Batch, k: int, global_frame: bool) -> tuple[Tensor, Edges]:
    """Node features and edges of a batch, as `protok.model.features.featurize` gives them."""
    n = len(batch.coords)
    # Whatever a program has made torch's default, the library takes these.
    floats, ints = ({"dtype": kind, "device": "cpu"} for kind in (torch.float32, torch.int32))
    node, edge = torch.zeros(n, node_features(global_frame), **floats), torch.empty(n, k, EDGE, **floats)
    separation, index = (torch.empty(n, k, **ints) for _ in range(2))
    sizes = torch.tensor(batch.sizes, dtype=torch.long, device="cpu")
    coords = batch.coords.float().contiguous()
    mask, chain = batch.mask.to(torch.uint8).contiguous(), batch.chain.long().contiguous()
    _call(
        "protok_features",
        n,
        coords,
        mask,
        chain,
        len(sizes),
        sizes,
        k,
        global_frame,
        node,
        edge,
        separation,
        index,
    )
    return node, (edge, separation, index)


def _updated(h: Tensor, edges: Edges, message: Message) -> Tensor:
    """States (n, h) after a round of messages, as `Message` updates them without gradients."""
    edge, separation, index = edges
    (n, hidden), k = h.shape, index.shape[1]
    here, there = message.here, message.there
    weight = torch.cat([here.weight, there.weight])
    bias = torch.cat([here.bias, torch.zeros_like(here.bias)])
    both = torch.cat([F.linear(message.norm(part), weight, bias) for part in h.split(ROWS)])
    table, columns = message.separation.weight.contiguous(), message.edge.weight.t().contiguous()
    summed = torch.empty_like(h)
    _call("protok_messages", n, k, hidden, both, table, columns, edge, separation, index, summed)
    parts = zip(h.split(ROWS), summed.split(ROWS), strict=True)
    return torch.cat([message.update(part, total, k) for part, total in parts])


def _call(function: str, *arguments: Tensor | int) -> None:
    """Call a function of the library, which takes pointers to tensors and numbers of 64 bits."""
    pointers = (
        ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else ctypes.c_int64(argument)
        for argument in arguments
    )
    library()[function](*pointers)
