"""What an ONNX file stores: the number of parameters and the bytes of its tensors by element type."""

from __future__ import annotations

from collections import defaultdict

import onnx

from ..models.onnx_file import elements, stored_tensors, subgraphs, tensor_bytes, type_name
from .macs import all_nodes

FLOATS = frozenset(
    (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
)

# Operator -> positions at which it reads settings or statistics instead of parameters.
_SETTINGS = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
}
# Operator -> positions at which integers are parameters; elsewhere integers are shapes, axes and indices.
_INTEGER_PARAMETERS = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "QGemm": (3, 6),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
    "ConvInteger": (1,),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (1,),
}


def count_parameters(model: onnx.ModelProto) -> int:
    """Stored weights and biases, each counted once however often it is read; quantized ones count like float
    ones.

    Not counted: scales, zero points, running statistics of batch normalization, shapes and axes, limits of
    Clip and Pad, and constants without a dimension (the 1/6 of a hard swish).
    """
    return sum(elements(dims) for dims, _ in _parameters(model.graph, {}).values())


def parameter_names(model: onnx.ModelProto) -> set[str]:
    """Names of the stored values that `count_parameters` counts."""
    return set(_parameters(model.graph, {}))


def _parameters(
    graph: onnx.GraphProto, outer: dict[str, tuple[tuple[int, ...], int]]
) -> dict[str, tuple[tuple[int, ...], int]]:
    stored = dict(outer)
    for tensor in graph.initializer:
        stored[tensor.name] = (tuple(tensor.dims), tensor.data_type)
    for sparse in graph.sparse_initializer:
        stored[sparse.values.name] = (tuple(sparse.dims), sparse.values.data_type)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    stored[node.output[0]] = (tuple(attribute.t.dims), attribute.t.data_type)
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in stored and _is_parameter(node.op_type, at, *stored[name]):
                found[name] = stored[name]
        for inner in subgraphs(node):
            found |= _parameters(inner, stored)
    return found


def _is_parameter(op: str, at: int, dims: tuple[int, ...], elem_type: int) -> bool:
    if at in _SETTINGS.get(op, ()):
        return False
    if elem_type in FLOATS:
        return bool(dims)
    return at in _INTEGER_PARAMETERS.get(op, ())


def count_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of everything stored, scales and shapes included, by element type ("float32", "int8", ...)."""
    total: dict[str, int] = defaultdict(int)
    for tensor in stored_tensors(model):
        total[type_name(tensor.data_type)] += tensor_bytes(tensor)
    return dict(sorted(total.items()))


def count_ops(graph: onnx.GraphProto) -> dict[str, int]:
    """Operators by type; those outside the standard domain carry theirs ("com.microsoft.QLinearAdd")."""
    total: dict[str, int] = defaultdict(int)
    for node in all_nodes(graph):
        total[node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"] += 1
    return dict(sorted(total.items()))
