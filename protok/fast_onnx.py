"""The messages of the encoder as an ONNX graph, and ONNX Runtime sessions of it.

The graph is written node by node: what the network does is a dozen operators, and an
exporter of torch would bring its versions with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protok.errors import ProtokError

if TYPE_CHECKING:
    from protok.model.encoder import Encoder
    from protok.model.features import Graph

REMEDY = "pip install 'protok[onnx]'"
#: Operator set with Gelu and LayerNormalization.
OPSET = 20


def export(encoder: Encoder, path: str | Path | None = None) -> bytes:
    """The ONNX model of an encoder's messages, from the features to the latents.

    Its inputs are those of `protok.model.features.Graph`: ``node`` (n, f), ``edge`` (n, k, e),
    ``separation`` and ``index`` (n, k), and ``valid`` (n, k) as float; the output ``z`` is (n, d).

    Parameters
    ----------
    encoder
        The network.
    path
        Where to write the model, if it is to be a file.

    Raises
    ------
    ProtokError
        If the `onnx` package is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ProtokError("ONNX needs the onnx package", REMEDY) from error
    draft = _Draft(onnx)
    k = encoder.neighbours
    h = draft.linear("node", encoder.inputs)
    flat = draft.node("Reshape", "index", draft.ints(-1))
    apart = draft.node("Reshape", "separation", draft.ints(-1))
    edge = draft.node("Reshape", "edge", draft.ints(-1, encoder.messages[0].edge.in_features))
    valid = draft.node("Unsqueeze", "valid", draft.ints(2))
    for message in encoder.messages:
        hidden = message.here.out_features
        x = draft.norm(h, message.norm)
        terms = draft.linear(edge, message.edge)
        table = draft.tensor(message.separation.weight)
        terms = draft.node("Add", terms, draft.node("Gather", table, apart))
        there = draft.linear(x, message.there)
        terms = draft.node("Add", terms, draft.node("Gather", there, flat))
        terms = draft.node("Reshape", terms, draft.ints(-1, k, hidden))
        here = draft.node("Unsqueeze", draft.linear(x, message.here), draft.ints(1))
        terms = draft.node("Gelu", draft.node("Add", terms, here))
        terms = draft.node("Mul", terms, valid)
        summed = draft.node("ReduceSum", terms, draft.ints(1), keepdims=0)
        summed = draft.linear(summed, message.out)
        h = draft.node("Add", h, draft.node("Div", summed, draft.constant(np.float32(k))))
        first, wide, _, narrow = message.feed
        x = draft.node("Gelu", draft.linear(draft.norm(h, first), wide))
        h = draft.node("Add", h, draft.linear(x, narrow))
    norm, last, final = encoder.outputs
    z = draft.norm(draft.linear(draft.norm(h, norm), last), final)
    model = draft.model(z, encoder)
    if path is not None:
        Path(path).write_bytes(model)
    return model


class _Draft:
    """A graph as it is written."""

    def __init__(self, onnx):
        self.onnx, self.nodes, self.weights = onnx, [], []

    def node(self, kind: str, *inputs: str, **settings) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **settings))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def tensor(self, weight) -> str:
        return self.constant(weight.detach().float().cpu().numpy())

    def linear(self, x: str, layer) -> str:
        found = self.node("MatMul", x, self.tensor(layer.weight.t().contiguous()))
        return found if layer.bias is None else self.node("Add", found, self.tensor(layer.bias))

    def norm(self, x: str, layer) -> str:
        size = layer.normalized_shape[0]
        plain = layer.weight is None
        weight = self.constant(np.ones(size, np.float32)) if plain else self.tensor(layer.weight)
        bias = self.constant(np.zeros(size, np.float32)) if plain else self.tensor(layer.bias)
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=layer.eps)

    def model(self, z: str, encoder) -> bytes:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        self.nodes.append(helper.make_node("Identity", [z], ["z"]))
        k, edge = encoder.neighbours, encoder.messages[0].edge.in_features
        inputs = [
            helper.make_tensor_value_info("node", kinds.FLOAT, ["n", encoder.inputs.in_features]),
            helper.make_tensor_value_info("edge", kinds.FLOAT, ["n", k, edge]),
            helper.make_tensor_value_info("separation", kinds.INT64, ["n", k]),
            helper.make_tensor_value_info("index", kinds.INT64, ["n", k]),
            helper.make_tensor_value_info("valid", kinds.FLOAT, ["n", k]),
        ]
        dim = encoder.outputs[1].out_features
        outputs = [helper.make_tensor_value_info("z", kinds.FLOAT, ["n", dim])]
        graph = helper.make_graph(self.nodes, "encoder", inputs, outputs, self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        self.onnx.checker.check_model(model)
        return model.SerializeToString()


def session(model: bytes, threads: int) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises
    ------
    ProtokError
        If `onnxruntime` is not installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProtokError("ONNX needs the onnxruntime package", REMEDY) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: Any, graph: Graph) -> np.ndarray:
    """Latents (n, d) of the features of a batch."""
    feed = {key: getattr(graph, key).numpy() for key in ("node", "edge", "separation", "index")}
    return session.run(None, {**feed, "valid": graph.valid.float().numpy()})[0]
