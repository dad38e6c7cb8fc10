"""What the operators of a runtime's optimised graph do, in words that float and int8 files share."""

from __future__ import annotations

import onnx

CONVERSION, LAYOUT, SILU, HARD_SWISH = "conversion", "layout", "SiLU", "hard-swish"

KINDS = {
    "convolution": ("Conv", "FusedConv", "NhwcFusedConv", "NhwcConv", "QLinearConv", "ConvInteger", "ConvTranspose"),
    "matrix product": (
        *("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm", "QLinearMatMul"),
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"),
    ),
    "sum": ("Add", "Sum", "QLinearAdd"),
    "product": ("Mul", "QLinearMul"),
    "sigmoid": ("Sigmoid", "HardSigmoid", "QLinearSigmoid"),
    SILU: ("QuickGelu", "Swish"),
    HARD_SWISH: ("HardSwish",),
    "pooling": (
        *("MaxPool", "NhwcMaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"),
        *("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearReduceMean"),
    ),
    "concatenation": ("Concat", "QLinearConcat"),
    "softmax": ("Softmax", "QLinearSoftmax"),
    CONVERSION: ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
    LAYOUT: ("ReorderInput", "ReorderOutput", "Transpose"),
}
"""Kind -> operators. An operator that is not listed is a kind of its own."""

_KIND_OF = {op: kind for kind, ops in KINDS.items() for op in ops}
_SIGMOIDS = {"Sigmoid": SILU, "QLinearSigmoid": SILU, "HardSigmoid": HARD_SWISH}
_PRODUCTS = {"Mul": (0, 1), "QLinearMul": (0, 3)}
"""Positions of the two factors among the inputs."""


def kinds_of(graph: onnx.GraphProto) -> dict[str, str]:
    """The kind of every node, by node name. x * sigmoid(x) is called SiLU however it is spelled out."""
    kinds = {node.name: _KIND_OF.get(node.op_type, node.op_type) for node in graph.node}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        factors = [_origin(node.input[position], producers) for position in _PRODUCTS.get(node.op_type, ())]
        for gate, other in (factors, factors[::-1]) if factors else ():
            sigmoid = producers.get(gate)
            if sigmoid is None or sigmoid.op_type not in _SIGMOIDS:
                continue
            if _origin(sigmoid.input[0], producers) == other:
                kinds[node.name] = kinds[sigmoid.name] = _SIGMOIDS[sigmoid.op_type]
    return kinds


def _origin(value: str, producers: dict[str, onnx.NodeProto]) -> str:
    """The value before any conversions between float and codes."""
    while (node := producers.get(value)) is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        value = node.input[0]
    return value
