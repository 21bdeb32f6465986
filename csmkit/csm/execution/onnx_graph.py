"""One of the two stacks, and one head, as ONNX graphs of few large operators.

A graph holds no weights: `Graph.values` has them by name, as arrays over the memory of the model's tensors. Products
are MatMulNBits nodes; attention with its rotation and its cache is a GroupQueryAttention node. Both are contrib
operators of ONNX Runtime:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from csmkit.csm.quantization import BlockWeight
from csmkit.csm.transformer import Block, Transformer, rotary_table
from csmkit.plugins import library

helper, TensorProto = library("onnx.helper", "int4"), library("onnx", "int4").TensorProto
CONTRIB = "com.microsoft"
OPSET, IR_VERSION = 21, 10  # of onnx 1.16, which ONNX Runtime reads since 1.18
INT8_PRODUCTS = 4  # MatMulNBits' accuracy level: a row is rounded to 8 bits and multiplied by integers


class Graph:
    """Collects the operators and constants of a graph.

    Attributes:
        values: the constants as arrays, by their names in the graph.
    """

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._nodes: list[object] = []
        self._constants: list[object] = []
        self._inputs: list[object] = []
        self._outputs: list[object] = []

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Declare an output, float32."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, name: str, value: Tensor) -> str:
        """Add a constant; the graph declares its shape, `values` holds its content."""
        array = value.detach().contiguous().numpy()
        self.values[name] = array
        declared = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        declared.data_location = TensorProto.EXTERNAL
        declared.external_data.add(key="location", value="given by the session")
        self._constants.append(declared)
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: object) -> str:
        """Add an operator; returns its first output."""
        outputs = [output] if isinstance(output, str) else list(output)
        domain = "" if operator in ("Mul", "Split", "SimplifiedLayerNormalization") else CONTRIB
        self._nodes.append(helper.make_node(operator, list(inputs), outputs, domain=domain, **attributes))
        return outputs[0]

    def product(self, x: str, name: str, weight: BlockWeight) -> str:
        """``x`` times a weight ``(n_inputs, n_outputs)``."""
        inputs = [x, self.constant(f"{name}.packed", weight.packed), self.constant(f"{name}.scale", weight.scale)]
        n_inputs, n_outputs = weight.shape
        sizes = {"K": n_inputs, "N": n_outputs, "bits": weight.bits, "block_size": weight.block}
        return self.node("MatMulNBits", inputs, f"{name}.y", accuracy_level=INT8_PRODUCTS, **sizes)

    def serialized(self) -> bytes:
        """Return the graph as bytes in the ONNX format, without the contents of its constants."""
        graph = helper.make_graph(self._nodes, "csm", self._inputs, self._outputs, initializer=self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def stack_graph(stack: Transformer, n_positions: int) -> Graph:
    """A stack of rounded weights over one stream.

    Inputs: ``x`` ``(1, n_new, dim)`` float32; ``last`` ``(1,)`` and ``total`` ``(1,)`` int32, the last position and the
    positions in use, the new ones included; ``keys.i`` and ``values.i`` of each layer ``(1, n_kv_heads, room,
    head_dim)`` float32. Outputs: ``y`` as ``x``, after the final norm; ``new_keys.i`` and ``new_values.i``, to be put
    in the same memory as the inputs.

    Args:
        stack: a transformer whose weights are `BlockWeight`.
        n_positions: largest number of positions of a stream.
    """
    config, graph = stack.config, Graph()
    x = graph.input("x", TensorProto.FLOAT, (1, "n_new", config.dim))
    graph.input("last", TensorProto.INT32, (1,))
    graph.input("total", TensorProto.INT32, (1,))
    half = config.head_dim // 2
    table = rotary_table(config, n_positions)[:, :, 0]  # both halves of a cosine are equal, those of a sine opposite
    graph.constant("cos", table[0, :, :half])
    graph.constant("sin", table[1, :, half:])
    graph.output("y", (1, "n_new", config.dim))
    added = ""
    for index, block in enumerate(stack.blocks):
        x, added = _add_block(graph, block, index, x, added)
    _add_norm(graph, x, added, "norm", stack.norm, config.norm_eps, "y", "")
    return graph


def _add_block(graph: Graph, block: Block, index: int, x: str, added: str) -> tuple[str, str]:
    """One layer; returns the stream before its last addition, and what is to be added to it."""
    config, name = block.config, f"layer.{index}"
    room = (1, config.n_kv_heads, "room", config.head_dim)
    cache = [graph.input(f"{part}.{index}", TensorProto.FLOAT, room) for part in ("keys", "values")]
    for part in ("new_keys", "new_values"):
        graph.output(f"{part}.{index}", room)
    normed, x = _add_norm(
        graph, x, added, f"{name}.attention_norm", block.attention_norm, config.norm_eps, f"{name}.a", f"{name}.x"
    )
    qkv = graph.product(normed, f"{name}.qkv", block.qkv)
    mixed = graph.node(
        "GroupQueryAttention",
        [qkv, "", "", *cache, "last", "total", "cos", "sin"],
        [f"{name}.mixed", f"new_keys.{index}", f"new_values.{index}"],
        num_heads=config.n_heads,
        kv_num_heads=config.n_kv_heads,
        do_rotary=1,
    )
    out = graph.product(mixed, f"{name}.out", block.out)
    normed, x = _add_norm(graph, x, out, f"{name}.mlp_norm", block.mlp_norm, config.norm_eps, f"{name}.b", f"{name}.x2")
    gate_up = graph.product(normed, f"{name}.gate_up", block.gate_up)
    gate, up = f"{name}.gate", f"{name}.up"
    graph.node("Split", [gate_up], [gate, up], axis=-1, num_outputs=2)
    silu = graph.node("QuickGelu", [gate], f"{name}.silu", alpha=1.0)
    return x, graph.product(graph.node("Mul", [silu, up], f"{name}.h"), f"{name}.down", block.down)


def _add_norm(
    graph: Graph, x: str, added: str, name: str, gain: Tensor, eps: float, normed: str, total: str
) -> tuple[str, str]:
    """``x + added`` normed, and that sum itself; nothing is added where ``added`` is empty."""
    weight = graph.constant(name, gain.float() / len(gain) ** 0.5)
    if not added:
        return graph.node("SimplifiedLayerNormalization", [x, weight], normed, axis=-1, epsilon=eps), x
    graph.node("SkipSimplifiedLayerNormalization", [x, added, weight], [normed, "", "", total], epsilon=eps)
    return normed, total


def head_graph(head: BlockWeight) -> Graph:
    """One head: ``x`` ``(rows, dim)`` float32 to ``y`` ``(rows, codebook_size)``."""
    graph = Graph()
    n_inputs, n_outputs = head.shape
    graph.input("x", TensorProto.FLOAT, ("rows", n_inputs))
    y = graph.product("x", "head", head)
    graph.output(y, ("rows", n_outputs))
    return graph
