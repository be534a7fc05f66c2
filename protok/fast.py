"""Other ways to compute the encoder: the same weights, fewer seconds.

| name | what | codes |
|---|---|---|
| ``torch`` | the default | |
| ``onnx`` | messages on ONNX Runtime; needs no compiler | the same |
| ``compile`` | edges and messages compiled by torch; needs a C++ compiler | the same |
| ``native`` | features and messages in C++ (`protok.tokenizers.native`); needs a C++ compiler | the same |
| ``bf16`` | messages but the first in bfloat16, for processors with units for it | nearly all |
| ``fast`` | both of the last two; ``native`` alone where bfloat16 is slow | nearly all |

How many codes "nearly all" are is measured by ``benchmarks/speed.py``, and stands in its results.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from protok.common import trainer
from protok.errors import ProtokError, Unsupported
from protok.model.encoder import Encoder
from protok.model.features import Batch, Graph, edge_features, featurize
from protok.structure.geometry import frames
from protok.tokenizers.native import compiler

COMPUTE = ("torch", "onnx", "compile", "native", "bf16", "fast")


def accelerate(tokenizer: Any, compute: str) -> Any:
    """A tokenizer of the same weights whose encoder is computed another way.

    Parameters
    ----------
    tokenizer
        A `protok.StructureTokenizer`; it is not changed.
    compute
        One of `COMPUTE`; see the table at the head of the module.

    Raises
    ------
    ProtokError
        If there is no such way, or something that it needs is not installed.
    Unsupported
        If the tokenizer has no encoder network.
    """
    if compute not in COMPUTE:
        raise ProtokError(f"no way to compute called {compute!r}", f"one of {', '.join(COMPUTE)}")
    if compute == "torch":
        return tokenizer
    if compute == "fast" and not trainer.half_is_faster():
        compute = "native"
    if not hasattr(tokenizer, "network"):
        raise Unsupported(f"{tokenizer.codebook} has no encoder network", "leave --compute out")
    found = copy.copy(tokenizer)
    found.compute = compute
    found.encoder = _encoder(tokenizer.network.encoder, compute)
    return found


def _encoder(encoder: Encoder, compute: str) -> Any:
    if compute in ("native", "fast"):
        from protok.tokenizers.native import NativeEncoder

        return NativeEncoder(encoder, half=compute == "fast")
    return {"onnx": OnnxEncoder, "bf16": HalfEncoder, "compile": Compiled}[compute](encoder)


class HalfEncoder:
    """Messages in bfloat16, those of the first layer excepted, which codes depend on most;
    features, normalisation and the residual stream in float32."""

    def __init__(self, encoder: Encoder):
        self.encoder = copy.deepcopy(encoder)
        for message in self.encoder.messages[1:]:
            for part in (message.here, message.there, message.edge, message.separation, message.out):
                part.to(torch.bfloat16)
            for part in message.feed:
                if isinstance(part, nn.Linear):
                    part.to(torch.bfloat16)

    def __call__(self, batch: Batch) -> Tensor:
        return self.encoder(batch)


class Compiled:
    """Features of edges, messages and what follows, compiled; on first use in each process,
    which takes seconds (`benchmarks/speed.py`: its start-up)."""

    def __init__(self, encoder: Encoder):
        compiler()
        self.encoder = encoder
        self._run = None

    def __getstate__(self):
        return {"encoder": self.encoder, "_run": None}

    def __call__(self, batch: Batch) -> Tensor:
        if self._run is None:
            self._run = torch.compile(self._rest, dynamic=True)
        if not len(batch.coords):
            return self.encoder(batch)
        graph = featurize(batch, self.encoder.neighbours, self.encoder.placed, edges=False)
        ca = batch.coords[:, 1]
        turn = frames(*batch.coords[:, :3].unbind(1))
        try:
            return self._run(graph.node, ca, turn, graph.separation, graph.index, graph.valid)
        except Exception as error:
            if type(error).__module__.startswith("torch._"):  # no compiler, or not a working one
                said = str(error).strip().splitlines()[0]
                raise ProtokError(
                    f"torch cannot compile here ({said})", "install a C++ compiler, or use onnx"
                ) from error
            raise

    def _rest(self, node, ca, turn, separation, index, valid) -> Tensor:
        edge = edge_features(ca, turn, ca, turn, index, valid)
        return self.encoder.propagate(Graph(node, edge, separation, index, valid), whole=True)


class OnnxEncoder:
    """The messages on ONNX Runtime, in float32; a session is made on first use in each process."""

    def __init__(self, encoder: Encoder):
        from protok.fast_onnx import export

        self.neighbours, self.placed = encoder.neighbours, encoder.placed
        self.model = export(encoder)
        self._session = None

    def __getstate__(self):
        return {**self.__dict__, "_session": None}

    def __call__(self, batch: Batch) -> Tensor:
        from protok import fast_onnx

        if self._session is None:
            self._session = fast_onnx.session(self.model, torch.get_num_threads())
        device = batch.coords.device
        graph = featurize(batch.to("cpu"), self.neighbours, self.placed)
        return torch.from_numpy(fast_onnx.run(self._session, graph)).to(device)
