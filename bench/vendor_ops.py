"""ONNX Runtime's own operators as the standard ones of the same output shape, so that shape inference sees
through them."""

from __future__ import annotations

import onnx

from ..models.onnx_file import subgraphs

# Operator of com.microsoft -> the standard one, and the positions of its inputs among the vendor's.
_STANDARD: dict[str, tuple[str, tuple[int, ...]]] = {
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "FusedMatMul": ("MatMul", (0, 1)),
    "Gelu": ("Relu", (0,)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearLeakyRelu": ("Relu", (0,)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearReduceMean": ("ReduceMean", (0,)),
    "QLinearSigmoid": ("Relu", (0,)),
    "QLinearSoftmax": ("Relu", (0,)),
    "QuickGelu": ("Relu", (0,)),
}
_KEPT_ATTRIBUTES = {
    "AveragePool": ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"),
    "Conv": ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
    "Gemm": ("transA", "transB"),
    "ReduceMean": ("axes", "keepdims"),
}
_FLOAT_RESULT = frozenset(("DynamicQuantizeMatMul", "MatMulIntegerToFloat"))


def standardized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """A copy of `model` for shape inference, and the names of tensors that are float though inference will
    not see it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    floats: set[str] = set()
    _standardize(copy.graph, floats)
    return copy, frozenset(floats)


def _standardize(graph: onnx.GraphProto, floats: set[str]) -> None:
    for node in graph.node:
        for inner in subgraphs(node):
            _standardize(inner, floats)
        if node.domain != "com.microsoft" or _unusual(node):
            continue
        if node.op_type in _FLOAT_RESULT or (node.op_type == "QGemm" and len(node.input) < 8):
            floats.add(node.output[0])
        if node.op_type == "QLinearConcat":
            # Scale and zero point of the result, then three inputs for each operand.
            _replace(node, "Concat", node.input[2::3], ("axis",))
        elif node.op_type in _STANDARD:
            op, positions = _STANDARD[node.op_type]
            _replace(node, op, [node.input[at] for at in positions], _KEPT_ATTRIBUTES.get(op, ()))


def _unusual(node: onnx.NodeProto) -> bool:
    """Variants whose output shape differs from the standard operator's."""
    return any(a.name in ("channels_last", "transA", "transB", "transBatchA") and a.i for a in node.attribute) and (
        node.op_type not in ("QGemm", "FusedGemm")
    )


def _replace(node: onnx.NodeProto, op: str, inputs: list[str], attributes: tuple[str, ...]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name in attributes]
    operands = list(inputs)
    del node.input[:]
    node.input.extend(operands)
    del node.attribute[:]
    node.attribute.extend(kept)
    node.op_type, node.domain = op, ""
