"""Multiply-accumulates of each operator of an ONNX graph, and which of them read integers on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from ..models.onnx_file import subgraphs
from .shapes import TensorType

INT8_TYPES = frozenset(
    (
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.INT4,
        onnx.TensorProto.UINT4,
    )
)

# Operator -> positions of its two factors. The same names serve in every domain.
_CONVOLUTIONS = {"Conv": (0, 1), "FusedConv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_TRANSPOSED = {"ConvTranspose": (0, 1), "QLinearConvTranspose": (0, 3)}
_PRODUCTS = {
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (0, 1),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
}
FACTORS = {**_CONVOLUTIONS, **_TRANSPOSED, **_PRODUCTS}
_INTEGER = frozenset(
    (
        "ConvInteger",
        "QLinearConv",
        "QLinearConvTranspose",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QLinearMatMul",
        "QGemm",
    )
)
_UNCOUNTED = frozenset(("Einsum", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "QAttention", "MatMulNBits"))


@dataclass(frozen=True)
class NodeMacs:
    """One operator that multiplies and accumulates."""

    name: str
    op: str
    macs: int
    int8: bool
    """Both factors are 8-bit (or narrower) integers, or are dequantized from such by the operator before."""


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The operators in order, those inside If, Loop and Scan after the operator they belong to."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def count_macs(
    graph: onnx.GraphProto, types: Mapping[str, TensorType], taps: Mapping[str, int] | None = None
) -> tuple[list[NodeMacs], list[str]]:
    """MACs per operator at the batch size that `types` was made for, and notes on what could not be counted.

    Padding counts as work, as in the published figures; additions of a bias do not, nor do multiplications by zeros
    that a quantizer added for its kernels: `taps` counts such convolutions (layout_tricks.py).
    """
    producers = {name: node for node in all_nodes(graph) for name in node.output}
    counted: list[NodeMacs] = []
    notes: list[str] = []
    for node in all_nodes(graph):
        if node.op_type in _UNCOUNTED:
            notes.append(f'MACs of {node.op_type} "{node.name or node.output[0]}" are not counted')
        if node.op_type not in FACTORS:
            continue
        macs = _macs(node, types)
        if macs is None:
            name = node.name or node.output[0]
            notes.append(f'MACs of {node.op_type} "{name}" are not counted: its shapes are unknown')
            continue
        if taps is not None and node.output[0] in taps:
            macs = types[node.output[0]].elements * taps[node.output[0]]
        counted.append(NodeMacs(node.name or node.output[0], node.op_type, macs, _int8(node, producers, types)))
    if any(True for node in graph.node for _ in subgraphs(node)):
        notes.append("operators inside If, Loop and Scan are counted once")
    return counted, notes


def _macs(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> int | None:
    left, right = (types.get(node.input[at]) for at in FACTORS[node.op_type])
    if left is None or right is None:
        return None
    if node.op_type in _TRANSPOSED:
        # Weights [in, out/groups, *kernel]: each input element meets out/groups filters.
        return left.elements * (right.elements // max(right.shape[0], 1))
    out = types.get(node.output[0])
    if out is None:
        return None
    if node.op_type in _CONVOLUTIONS:
        return out.elements * (right.elements // max(right.shape[0], 1))
    return out.elements * _inner_size(node, left)


def _inner_size(node: onnx.NodeProto, left: TensorType) -> int:
    if not left.shape:
        return 1
    transposed = any(attribute.name in ("transA",) and attribute.i for attribute in node.attribute)
    return left.shape[-2] if transposed and len(left.shape) > 1 else left.shape[-1]


def _int8(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], types: Mapping[str, TensorType]) -> bool:
    if node.op_type in _INTEGER:
        return True
    return all(is_dequantized(node.input[at], producers, types) for at in FACTORS[node.op_type])


def is_dequantized(name: str, producers: Mapping[str, onnx.NodeProto], types: Mapping[str, TensorType]) -> bool:
    """Whether the tensor comes from a DequantizeLinear that reads integers of at most 8 bits."""
    source = producers.get(name)
    if source is None or source.op_type != "DequantizeLinear":
        return False
    integers = types.get(source.input[0])
    return integers is not None and integers.elem_type in INT8_TYPES
