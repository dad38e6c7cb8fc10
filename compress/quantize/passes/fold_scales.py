"""Take a constant factor per output channel into the weights that made those channels.

    g * (x W + b)  =  x (W g) + g b         also through a Transpose, and through the Add that holds the bias

ConvNeXt's layer scale and hand-written normalisations cost an operator on a whole map otherwise, with a rounding of
its own in int8. Equal up to the rounding of float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, drop_node, integer, only_consumer, rank, real


def fold_scales(model: ir.Model) -> int:
    """Rewrite every Mul by such a constant, in place; returns how many."""
    changed = 0
    for node in [node for node in model.graph if node.op_type == "Mul"]:
        for value, other in (node.inputs, node.inputs[::-1]):
            factor = constant(other)
            if value is None or factor is None or factor.dtype != np.float32 or only_consumer(value) is not node:
                continue
            if factor.size > 1 and factor.ndim > (rank(value) or 0):
                continue
            if _scale(model, value, factor, str(node.outputs[0].name)):
                drop_node(node, value)
                changed += 1
                break
    return changed


def _scale(model: ir.Model, value: ir.Value, factor: np.ndarray, product: str) -> bool:
    """Let the nodes that compute `value` compute factor * value; changes nothing where it returns False.

    New constants are named after the `product` that goes.
    """
    node, dimensions = value.producer(), rank(value)
    if node is None or dimensions is None or len(value.uses()) != 1 or value.is_graph_output():
        return False
    if node.op_type == "Transpose" and node.inputs[0] is not None:
        order = node.attributes.get_ints("perm", tuple(range(dimensions))[::-1])
        return _scale(model, node.inputs[0], _full(factor, dimensions).transpose(np.argsort(order)), product)
    if node.op_type == "Add":
        for position in (0, 1):
            addend, other = constant(node.inputs[position]), node.inputs[1 - position]
            if addend is not None and other is not None and rank(other) == dimensions:
                if not _scale(model, other, factor, product):
                    return False
                scaled = (addend.astype(np.float64) * factor).astype(np.float32)
                node.replace_input_with(position, add_initializer(model.graph, f"{product}_addend", scaled))
                return True
        return False
    return _scale_weights(model, node, factor, product)


def _scale_weights(model: ir.Model, node: ir.Node, factor: np.ndarray, product: str) -> bool:
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(given)
    if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None or weight.dtype != np.float32:
        return False
    if (given is not None and bias is None) or (node.op_type == "MatMul" and weight.ndim != 2):
        return False
    if node.op_type == "Gemm" and (real(node, "alpha", 1.0) != 1.0 or real(node, "beta", 1.0) != 1.0):
        return False
    axis = 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and integer(node, "transB", 0)) else 1
    dimensions = rank(node.outputs[0]) or 0
    channel = 1 if node.op_type == "Conv" else dimensions - 1
    full = _full(factor, dimensions)
    if any(size != 1 for position, size in enumerate(full.shape) if position != channel):
        return False
    per_channel = np.broadcast_to(full.ravel(), weight.shape[axis]).astype(np.float64)
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = (weight * per_channel.reshape(shape)).astype(np.float32)
    node.replace_input_with(1, add_initializer(model.graph, f"{product}_weight", scaled))
    if bias is not None:
        shifted = (bias * per_channel).astype(np.float32)
        node.replace_input_with(2, add_initializer(model.graph, f"{product}_bias", shifted))
    return True


def _full(factor: np.ndarray, dimensions: int) -> np.ndarray:
    """`factor` with as many dimensions as the value that it is broadcast to."""
    sizes = factor.shape if factor.size > 1 else ()
    return factor.reshape((1,) * (dimensions - len(sizes)) + sizes)
