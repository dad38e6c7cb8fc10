"""Why an operator of a prepared graph cannot run in int8 on a target, or should not."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import constant, rank, real
from .targets import Target

WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
ELEMENTWISE = ("Add", "Mul")
ONE_TO_ONE = ("GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu")
CLAMPS = ("Relu", "Clip", "HardSigmoid")
"""A clamp of the codes, where the operator before it does not absorb them."""
ON_CODES = ("Slice", "Pad", "SpaceToDepth", "DepthToSpace", "Gather")
"""Data movement written directly on the codes, because ONNX Runtime leaves it in float between Q and DQ."""
SAME_CODES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", *ON_CODES)

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

NO_KERNEL = {
    "LayerNormalization": "it divides by the spread of a row, which 8 bits hold too coarsely, and has no int8 kernel",
    "Softmax": "its small probabilities lie between 0 and the first of 256 steps",
    "Gelu": "it has no int8 kernel, and the matrix product before it hands on float sums anyway",
    "Erf": "it has no int8 kernel, and the matrix product before it hands on float sums anyway",
    "BatchNormalization": "it follows no convolution that could take it in, and is no per-channel scale over an image",
    "ConvTranspose": "runtimes have no int8 kernel for transposed convolutions",
    "Resize": "interpolation in 8 bits is rounded differently by every runtime",
}
"""By operator; the others have no int8 kernel and no story."""


def refusal(node: ir.Node, quantized: Collection[ir.Value], target: Target) -> str:
    """One clause, or an empty string for what can run in int8 when the values in `quantized` are."""
    op = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return f"{op} is no standard ONNX operator"
    if node.outputs[0].dtype is not None and node.outputs[0].dtype not in FLOATS:
        return "it computes shapes, indices or masks, no activations"
    if op in target.stays_float:
        return target.stays_float[op]
    if op in WITH_WEIGHTS:
        return _weights_refusal(node)
    softmax = op == "Softmax" and op in target.fixed_codes
    if op not in (*ELEMENTWISE, *ONE_TO_ONE, *CLAMPS, *SAME_CODES) and not softmax:
        return NO_KERNEL.get(op, f"there is no int8 kernel for {op}")
    if op in CLAMPS and not target.on_codes:
        return f"the operator before it cannot take it in, and {target.name} has no int8 kernel for {op} alone"
    return _data_refusal(node, quantized) or _bounds_refusal(node)


def data_inputs(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs that carry activations; the others are weights, shapes and bounds."""
    return node.inputs if node.op_type in (*ELEMENTWISE, "Concat") else node.inputs[:1]


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """What a Relu or Clip clamps to, infinite where it has no bound; None where a bound is computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    bounds = []
    for position, default in ((1, -np.inf), (2, np.inf)):
        given = node.inputs[position] if len(node.inputs) > position else None
        array = constant(given)
        if given is not None and array is None:
            return None
        bounds.append(default if array is None else float(array))
    return bounds[0], bounds[1]


def _weights_refusal(node: ir.Node) -> str:
    weight = constant(node.inputs[1])
    if weight is None and node.op_type == "MatMul":
        return "both of its sides are activations: rounding them both costs accuracy where there are no weights to save"
    if weight is None:
        return "its weights are computed at run time"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype}"
    if not np.isfinite(weight).all():
        return "its weights are not finite"
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None:
        return "its bias is computed at run time"
    if node.op_type == "Conv" and rank(node.inputs[0]) not in (None, 4):
        return "it is no two-dimensional convolution"
    if node.op_type == "Gemm" and (real(node, "alpha", 1.0) != 1.0 or real(node, "beta", 1.0) != 1.0):
        return "its alpha or beta is not 1"
    if node.op_type == "Gemm" and len(node.inputs) > 2 and rank(node.inputs[2]) != 1:
        return "its bias is no vector"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return "its weights are no matrix"
    return ""


def _data_refusal(node: ir.Node, quantized: Collection[ir.Value]) -> str:
    data = data_inputs(node)
    for value in data:
        if value is None or not (value in quantized or _is_float_constant(value) or _is_gate(value, node)):
            return f"its input {value.name if value else ''} is float"
    if not any(value in quantized for value in data):
        return "its inputs are constants"
    if node.op_type == "Concat" and any(value not in quantized for value in data):
        return "it joins a constant"
    if len([value for value in node.outputs if value.uses()]) > 1:
        return "its second output is used"
    return ""


def _bounds_refusal(node: ir.Node) -> str:
    if node.op_type == "Pad" and not _pads_with_zero(node):
        return "it pads with a value other than 0"
    if node.op_type == "Clip" and clip_bounds(node) is None:
        return "its bounds are computed at run time"
    if node.op_type == "HardSigmoid":
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        if min(real(node, "alpha", 0.2), real(node, "beta", 0.5)) <= 0:
            return "its slope or its value at 0 is not positive"
        if source is None or source.op_type not in (*WITH_WEIGHTS, *ELEMENTWISE, *ONE_TO_ONE):
            return "the codes that it reads are not free to reach down to where it leaves 0"
    return ""


def _is_gate(value: ir.Value, node: ir.Node) -> bool:
    """Whether `value` is one number per channel for a whole map, as in squeeze-and-excitation: cheap to convert."""
    result = node.outputs[0].shape
    if node.op_type not in ELEMENTWISE or value.shape is None or result is None or len(value.shape) != len(result):
        return False
    return len(result) == 4 and list(value.shape[2:]) == [1, 1] and list(result[2:]) != [1, 1]


def _is_float_constant(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32


def _pads_with_zero(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    value = constant(node.inputs[2])
    return value is not None and float(value) == 0.0
